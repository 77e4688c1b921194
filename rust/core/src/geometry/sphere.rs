//! Directions on the sky: unit vectors and angles.
//!
//! Inside the crate a direction is a unit vector in ICRS and an angle is in radians.

use nalgebra::Vector3;

/// A direction or a point on the unit sphere.
pub type Direction = Vector3<f64>;

/// Radians in one arcsecond.
pub const ARCSEC: f64 = std::f64::consts::PI / 648_000.0;

/// Unit vector of a right ascension and declination.
///
/// ```
/// let pole = boresight::geometry::sphere::direction(1.0, std::f64::consts::FRAC_PI_2);
/// assert!((pole.z - 1.0).abs() < 1e-15);
/// ```
pub fn direction(ra: f64, dec: f64) -> Direction {
    let (sin_ra, cos_ra) = ra.sin_cos();
    let (sin_dec, cos_dec) = dec.sin_cos();
    Direction::new(cos_dec * cos_ra, cos_dec * sin_ra, sin_dec)
}

/// Right ascension in [0, 2π) and declination of a vector of any length.
pub fn ra_dec(v: &Direction) -> (f64, f64) {
    let ra = v.y.atan2(v.x).rem_euclid(std::f64::consts::TAU);
    (ra, v.z.atan2(v.x.hypot(v.y)))
}

/// Angle between two directions, accurate at 0 and π as well.
pub fn separation(a: &Direction, b: &Direction) -> f64 {
    a.cross(b).norm().atan2(a.dot(b))
}

/// Length of the straight line between two points of the unit sphere that are `angle` apart.
pub fn chord(angle: f64) -> f64 {
    2.0 * (angle / 2.0).sin()
}

/// Unit vectors towards east and north at a direction (at a pole, north is that of RA 0).
pub fn east_north(v: &Direction) -> (Direction, Direction) {
    let (ra, dec) = ra_dec(v);
    let (sin_ra, cos_ra) = ra.sin_cos();
    let (sin_dec, cos_dec) = dec.sin_cos();
    (Direction::new(-sin_ra, cos_ra, 0.0), Direction::new(-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn angles_round_trip(ra in 0.0..6.2, dec in -1.57..1.57) {
            let (r, d) = ra_dec(&direction(ra, dec));
            prop_assert!((r - ra).abs() < 1e-12 / dec.cos() && (d - dec).abs() < 1e-12);
        }
    }

    #[test]
    fn separation_is_accurate_when_tiny() {
        let angle = 1e-9;
        assert!((separation(&direction(0.0, 0.0), &direction(angle, 0.0)) / angle - 1.0).abs() < 1e-6);
        assert!((chord(0.5) - (direction(0.0, 0.0) - direction(0.5, 0.0)).norm()).abs() < 1e-15);
    }
}
