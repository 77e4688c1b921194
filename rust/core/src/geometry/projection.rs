//! Projections: how a lens without distortion maps directions to the plane of the detector.
//!
//! A star at an angle θ from the optical axis is imaged at `r = f R(θ)` from the optical centre, at its
//! position angle:
//!
//! | projection    | R(θ)         | up to      | preserved          | known from                               |
//! |---------------|--------------|------------|--------------------|------------------------------------------|
//! | gnomonic      | tan θ        | below 90°  | straight lines     | ordinary lenses, FITS TAN                 |
//! | equidistant   | θ            | 180°       | angles to the axis | fisheyes, Kannala & Brandt 2006, FITS ARC |
//! | equisolid     | 2 sin(θ/2)   | 180°       | solid angles       | most fisheyes on sale, FITS ZEA           |
//! | stereographic | 2 tan(θ/2)   | below 180° | shapes             | a few fisheyes, FITS STG                  |
//! | orthographic  | sin θ        | 90°        | -                  | some old fisheyes, FITS SIN               |
//!
//! For the unit vector (x, y, z) of a direction, every projection has the form `(x, y) g(z)` with one
//! function g. They are calculated and differentiated in this form.

use std::f64::consts::{FRAC_PI_2, PI};

use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::geometry::sphere::Direction;

/// Sine of the angle to the axis below which θ / sin θ is calculated from its series.
const SMALL_ANGLE: f64 = 1e-3;

/// A projection: the distance from the optical centre as a function of the angle to the optical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Projection {
    /// `r = f tan θ`: a pinhole.
    #[default]
    Gnomonic,
    /// `r = f θ`.
    Equidistant,
    /// `r = 2 f sin(θ/2)`.
    Equisolid,
    /// `r = 2 f tan(θ/2)`.
    Stereographic,
    /// `r = f sin θ`.
    Orthographic,
}

impl Projection {
    /// All projections, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Gnomonic, Self::Equidistant, Self::Equisolid, Self::Stereographic, Self::Orthographic];

    /// The name in files and arguments: `gnomonic`, `equidistant`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Gnomonic => "gnomonic",
            Self::Equidistant => "equidistant",
            Self::Equisolid => "equisolid",
            Self::Stereographic => "stereographic",
            Self::Orthographic => "orthographic",
        }
    }

    /// The projection of a [`name`](Self::name).
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name).ok_or_else(|| {
            let repair = format!("give one of {}", Self::ALL.map(Self::name).join(", "));
            Error::argument("projection", format!("{name:?} is unknown"), repair)
        })
    }

    /// Largest angle to the axis, in radians, up to which there is an image. Gnomonic and stereographic
    /// images do not include this angle itself.
    pub fn max_angle(self) -> f64 {
        match self {
            Self::Gnomonic | Self::Orthographic => FRAC_PI_2,
            Self::Equidistant | Self::Equisolid | Self::Stereographic => PI,
        }
    }

    /// Distance from the optical centre over the focal length, for an angle to the axis; `None` if there is
    /// no image.
    pub fn radius(self, angle: f64) -> Option<f64> {
        let reaches_end = !matches!(self, Self::Gnomonic | Self::Stereographic);
        let inside = angle < self.max_angle() || (reaches_end && angle == self.max_angle());
        (angle >= 0.0 && inside).then(|| match self {
            Self::Gnomonic => angle.tan(),
            Self::Equidistant => angle,
            Self::Equisolid => 2.0 * (angle / 2.0).sin(),
            Self::Stereographic => 2.0 * (angle / 2.0).tan(),
            Self::Orthographic => angle.sin(),
        })
    }

    /// Angle to the axis for a distance from the optical centre over the focal length; `None` outside the image.
    pub fn angle(self, radius: f64) -> Option<f64> {
        let angle = match self {
            Self::Gnomonic => radius.atan(),
            Self::Equidistant => radius,
            Self::Equisolid => 2.0 * (radius / 2.0).asin(),
            Self::Stereographic => 2.0 * (radius / 2.0).atan(),
            Self::Orthographic => radius.asin(),
        };
        (radius >= 0.0 && angle <= self.max_angle()).then_some(angle)
    }

    /// Unit vector that a point of the image sees; `None` outside the image. The point is in focal lengths
    /// from the optical centre.
    pub fn direction(self, [x, y]: Point) -> Option<Direction> {
        let r2 = x * x + y * y;
        let (stretch, z) = match self {
            Self::Gnomonic => return Some(Direction::new(x, y, 1.0).normalize()),
            Self::Equidistant => {
                let angle = r2.sqrt();
                if angle > PI {
                    return None;
                }
                (if angle > 0.0 { angle.sin() / angle } else { 1.0 }, angle.cos())
            }
            Self::Equisolid => {
                let cos2_half = 1.0 - r2 / 4.0;
                (cos2_half.sqrt(), 2.0 * cos2_half - 1.0)
            }
            Self::Stereographic => {
                let t2 = r2 / 4.0;
                (1.0 / (1.0 + t2), (1.0 - t2) / (1.0 + t2))
            }
            Self::Orthographic => (1.0, (1.0 - r2).sqrt()),
        };
        let direction = Direction::new(x * stretch, y * stretch, z);
        direction.iter().all(|c| c.is_finite()).then_some(direction)
    }

    /// Image of a direction of any length, in focal lengths from the optical centre; `None` if there is no
    /// image.
    #[inline]
    pub fn point(self, direction: &Direction) -> Option<Point> {
        if self == Self::Gnomonic {
            let scale = 1.0 / direction.z;
            return (direction.z > 0.0).then_some([direction.x * scale, direction.y * scale]);
        }
        self.fisheye_point(direction)
    }

    fn fisheye_point(self, direction: &Direction) -> Option<Point> {
        let unit = direction.normalize();
        let [stretch, _] = self.stretch(&unit)?;
        Some([unit.x * stretch, unit.y * stretch])
    }

    /// Image of a unit vector, as from [`point`](Self::point), and its derivatives by small rotations of the
    /// direction about the camera's x, y and z axes.
    pub fn point_and_rotations(self, unit: &Direction) -> Option<(Point, [Point; 3])> {
        let [g, slope] = self.stretch(unit)?;
        let (x, y, z) = (unit.x, unit.y, unit.z);
        // A rotation by δ moves the direction by δ × (x, y, z), and (dx, dy, dz) the image by g (dx, dy) + (x, y) dg/dz dz.
        let (by_x, by_y) = (x * slope, y * slope);
        let about_x = [by_x * y, by_y * y - g * z];
        let about_y = [g * z - by_x * x, -by_y * x];
        Some(([g * x, g * y], [about_x, about_y, [-g * y, g * x]]))
    }

    /// `g` and `dg/dz` of a unit vector; `None` if there is no image.
    fn stretch(self, unit: &Direction) -> Option<[f64; 2]> {
        let rho2 = unit.x * unit.x + unit.y * unit.y;
        let z = unit.z;
        // 1 + z without cancellation.
        let one_plus_z = || if z < 0.0 { rho2 / (1.0 - z) } else { 1.0 + z };
        let both = match self {
            Self::Gnomonic | Self::Orthographic if z.is_nan() || z < 0.0 => return None,
            Self::Gnomonic => {
                let g = 1.0 / z;
                [g, -g * g]
            }
            Self::Orthographic => [1.0, 0.0],
            Self::Equisolid => {
                let one_plus_z = one_plus_z();
                let g = (2.0 / one_plus_z).sqrt();
                [g, -g / (2.0 * one_plus_z)]
            }
            Self::Stereographic => {
                let one_plus_z = one_plus_z();
                [2.0 / one_plus_z, -2.0 / (one_plus_z * one_plus_z)]
            }
            Self::Equidistant => {
                let sin = rho2.sqrt();
                if sin < SMALL_ANGLE && z > 0.0 {
                    [1.0 + rho2 / 6.0, -1.0 / 3.0 - 2.0 / 15.0 * rho2]
                } else {
                    let angle = sin.atan2(z);
                    [angle / sin, (angle * z - sin) / (sin * rho2)]
                }
            }
        };
        both.iter().all(|c| c.is_finite()).then_some(both)
    }

    /// Largest scale of the image, of all orientations, at a distance from the optical centre, relative to
    /// the scale at the optical centre. It is infinite where a point is imaged as a circle.
    pub fn magnification(self, radius: f64) -> f64 {
        let angle = self.angle(radius).unwrap_or(self.max_angle());
        match self {
            Self::Gnomonic => 1.0 + radius * radius,
            Self::Equidistant if angle == 0.0 => 1.0,
            Self::Equidistant => angle / angle.sin().max(0.0),
            Self::Equisolid => 1.0 / (angle / 2.0).cos(),
            Self::Stereographic => (angle / 2.0).cos().powi(-2),
            Self::Orthographic => 1.0,
        }
    }

    /// Solid angle per area of the image (in squared focal lengths) at a distance from the optical centre,
    /// relative to that at the optical centre; 0 outside the image.
    pub fn solid_angle_density(self, radius: f64) -> f64 {
        let Some(angle) = self.angle(radius) else { return 0.0 };
        match self {
            Self::Gnomonic => angle.cos().powi(3),
            Self::Equidistant => {
                if angle > 0.0 {
                    angle.sin() / angle
                } else {
                    1.0
                }
            }
            Self::Equisolid => 1.0,
            Self::Stereographic => (angle / 2.0).cos().powi(4),
            Self::Orthographic => 1.0 / angle.cos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::attitude::Attitude;
    use nalgebra::Vector3;
    use proptest::prelude::*;

    /// Direction at an angle from the axis and a position angle.
    fn at(angle: f64, around: f64) -> Direction {
        Direction::new(angle.sin() * around.cos(), angle.sin() * around.sin(), angle.cos())
    }

    #[test]
    fn points_are_where_the_formulas_put_them() {
        let formulas: [fn(f64) -> f64; 5] =
            [f64::tan, |t| t, |t| 2.0 * (t / 2.0).sin(), |t| 2.0 * (t / 2.0).tan(), f64::sin];
        for (projection, formula) in Projection::ALL.into_iter().zip(formulas) {
            for step in 0..100 {
                let angle = projection.max_angle() * f64::from(step) / 100.0;
                let [x, y] = projection.point(&(at(angle, 0.7) * 3.0)).unwrap();
                let (r, expected) = (x.hypot(y), formula(angle));
                assert!((r - expected).abs() < 1e-13 * (1.0 + expected), "{projection:?} {angle}");
                assert!((projection.radius(angle).unwrap() - expected).abs() < 1e-15 * (1.0 + expected));
                assert!(step == 0 || (y.atan2(x) - 0.7).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn outside_the_image_there_is_nothing() {
        for projection in Projection::ALL {
            let beyond = projection.max_angle() + 0.01;
            assert_eq!(projection.radius(beyond), None, "{projection:?}");
            assert_eq!(projection.angle(-0.1), None);
            assert_eq!(projection.point(&Direction::new(0.0, 0.0, -1.0)), None);
            let nowhere = projection.point(&Direction::new(f64::NAN, 0.0, 1.0));
            assert!(nowhere.is_none_or(|[x, _]| x.is_nan()));
        }
        for (projection, radius) in
            [(Projection::Equidistant, PI), (Projection::Equisolid, 2.0), (Projection::Orthographic, 1.0)]
        {
            assert!(projection.direction([radius - 1e-9, 0.0]).is_some());
            assert_eq!(projection.direction([radius + 1e-9, 0.0]), None, "{projection:?}");
            assert_eq!(projection.angle(radius + 1e-9), None);
        }
    }

    #[test]
    fn names_are_those_of_projections() {
        for projection in Projection::ALL {
            assert_eq!(Projection::from_name(projection.name()), Ok(projection));
        }
        assert!(Projection::from_name("fisheye").is_err());
    }

    proptest! {
        #[test]
        fn directions_round_trip(share in 0.0..0.999, around in -3.1..3.1) {
            for projection in Projection::ALL {
                let seen = at(share * projection.max_angle(), around);
                let point = projection.point(&seen).unwrap();
                let back = projection.direction(point).unwrap();
                prop_assert!((back.norm() - 1.0).abs() < 1e-14);
                let again = projection.point(&back).unwrap();
                let size = 1.0 + point[0].hypot(point[1]);
                prop_assert!((again[0] - point[0]).hypot(again[1] - point[1]) < 1e-13 * size, "{projection:?}");
            }
        }

        #[test]
        fn rotations_are_the_derivatives(share in 0.0..0.97, around in -3.1..3.1) {
            let h = 1e-6;
            for projection in Projection::ALL {
                let seen = at(share * projection.max_angle(), around);
                let (point, rotations) = projection.point_and_rotations(&seen).unwrap();
                let same = projection.point(&seen).unwrap();
                prop_assert!((same[0] - point[0]).hypot(same[1] - point[1]) < 1e-12 * (1.0 + point[0].hypot(point[1])));
                let upright = Attitude::from_quaternion([1.0, 0.0, 0.0, 0.0]).unwrap();
                for axis in 0..3 {
                    let turned = |sign: f64| {
                        let mut step: Vector3<f64> = Vector3::zeros();
                        step[axis] = sign * h;
                        projection.point(&upright.rotated(&step).to_camera(&seen)).unwrap()
                    };
                    let (plus, minus) = (turned(1.0), turned(-1.0));
                    for i in 0..2 {
                        let expected = (plus[i] - minus[i]) / (2.0 * h);
                        let error = (rotations[axis][i] - expected).abs();
                        prop_assert!(error < 1e-5 * (1.0 + expected.abs()), "{projection:?}: {error}");
                    }
                }
            }
        }

        #[test]
        fn solid_angles_are_kept(share in 0.05..0.95) {
            // The ring between two angles has the solid angle 2π (cos a - cos b).
            let h: f64 = 1e-5;
            for projection in Projection::ALL {
                let angle: f64 = share * projection.max_angle();
                let radius = |a: f64| projection.radius(a).unwrap();
                let area = PI * (radius(angle + h).powi(2) - radius(angle - h).powi(2));
                let solid = 2.0 * PI * ((angle - h).cos() - (angle + h).cos());
                let density = projection.solid_angle_density(radius(angle));
                prop_assert!((density * area / solid - 1.0).abs() < 1e-5, "{projection:?}");
            }
        }

        #[test]
        fn nothing_panics(x in prop::num::f64::ANY, y in prop::num::f64::ANY, z in prop::num::f64::ANY) {
            for projection in Projection::ALL {
                let _ = projection.direction([x, y]);
                let _ = projection.point(&Direction::new(x, y, z));
                let _ = projection.point_and_rotations(&Direction::new(x, y, z));
                let _ = (projection.radius(x), projection.angle(x), projection.solid_angle_density(x));
            }
        }
    }
}
