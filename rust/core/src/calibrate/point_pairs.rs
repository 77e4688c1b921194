//! Resection: fits a camera to pixels of points with known positions, for laboratory and terrestrial cameras.
//!
//! The direct linear transform gives a pinhole to start from; least squares over the residuals in pixels
//! refines it.

mod direct;

use nalgebra::{DVector, Vector3};

use super::frame::derivatives;
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Point, RadialDistortion};
use crate::geometry::residual::{ATTITUDE, Residual};
use crate::geometry::rig::Placement;
use crate::geometry::sphere::Direction;
use crate::lsq::small::{inverse, multiply};
use crate::lsq::{NormalEquations, Options, Problem, minimize};

/// Maximum number of steps. From a pinhole to a strongly distorted lens, the fit takes about twenty.
const MAX_ITERATIONS: usize = 200;
/// Number of parameters of the position.
const POSITION: usize = 3;

/// A camera with its attitude and position relative to points.
#[derive(Debug, Clone, PartialEq)]
pub struct Resection {
    /// The optics.
    pub camera: CameraModel,
    /// Rotation from the axes of the points to the camera's.
    pub attitude: Attitude,
    /// Position in units of the points; `None` if the points are directions.
    pub position: Option<Vector3<f64>>,
}

/// Intrinsics that may be fitted in addition to attitude and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freedom {
    /// Focal length.
    pub focal_length: bool,
    /// Optical centre.
    pub center: bool,
    /// First and second radial coefficient.
    pub radial: [bool; 2],
}

impl Freedom {
    fn names(self) -> Vec<String> {
        let Self { focal_length, center, radial } = self;
        let all = [
            (focal_length, "focal_length_px"),
            (center, "optical_center_x"),
            (center, "optical_center_y"),
            (radial[0], "k1"),
            (radial[1], "k2"),
        ];
        all.into_iter().filter(|(free, _)| *free).map(|(_, name)| name.into()).collect()
    }

    /// The optics, with a radial distortion added if its coefficients are free.
    fn lens(self, camera: CameraModel) -> Result<CameraModel> {
        match camera.distortion() {
            Distortion::None if self.radial.contains(&true) => {
                let radial = radial(camera.half_diagonal())?;
                Ok(camera.with_distortion(radial))
            }
            Distortion::Polynomial(_) if self.radial.contains(&true) => Err(Error::argument(
                "free",
                "a polynomial distortion has no radial coefficients",
                "leave out k1 and k2, or give a camera_model with a radial distortion or none",
            )),
            _ => Ok(camera),
        }
    }
}

/// A radial distortion with zero coefficients.
fn radial(scale: f64) -> Result<Distortion> {
    Ok(Distortion::Radial(RadialDistortion::new([0.0; 4], [0.0; 2], scale)?))
}

impl Resection {
    /// Estimates a camera by the direct linear transform: attitude, position and, without `camera`, focal
    /// length.
    ///
    /// If `far`, the points are directions.
    ///
    /// # Errors
    /// [`Error::Undetermined`] if the points are too few, or lie in a plane.
    pub fn direct(
        pixels: &[Point],
        points: &[[f64; 3]],
        far: bool,
        image_size: [u32; 2],
        camera: Option<CameraModel>,
    ) -> Result<Self> {
        let [x, y] = camera.as_ref().map_or([0.0; 2], CameraModel::optical_center);
        let centred: Vec<Point> = pixels.iter().map(|p| [p[0] - x, p[1] - y]).collect();
        let found = direct::transform(&centred, points, far)?;
        let camera = camera.map_or_else(|| CameraModel::new(found.focal_length, image_size), Ok)?;
        Ok(Self { camera, attitude: found.attitude, position: found.position })
    }

    /// Fits attitude, position and the free intrinsics, starting from this resection.
    ///
    /// # Errors
    /// [`Error::Undetermined`] if points are not seen by the camera, or do not determine it.
    pub fn fit(self, pixels: &[Point], points: &[[f64; 3]], free: Freedom) -> Result<Self> {
        let undetermined = |problem: &str| {
            Err(Error::Undetermined(format!("image_points: {problem}; give start=, more or other points")))
        };
        let parameters = Parameters::named(&radial(1.0)?, &free.names());
        let pairs = Pairs { pixels, points, parameters };
        let start = Self { camera: free.lens(self.camera)?, ..self };
        let options = Options { max_iterations: MAX_ITERATIONS, ..Options::default() };
        let outcome = minimize(&pairs, start, &options);
        if !outcome.cost.is_finite() {
            return undetermined("they give no valid camera");
        }
        if !pairs.linearize(&outcome.state).covariance().frozen.is_empty() {
            return undetermined("they do not determine all free parameters");
        }
        Ok(outcome.state)
    }

    /// Distance of a point from the camera, and its direction in the camera's axes.
    fn ray(&self, point: &[f64; 3]) -> (f64, Direction) {
        let offset = Vector3::from(*point) - self.position.unwrap_or_default();
        let distance = offset.norm();
        (distance, self.attitude.to_camera(&(offset / distance)))
    }

    /// Pixel that sees a direction in the camera's axes, even if the pixel is far outside the image.
    fn pixel(&self, direction: &Direction) -> Option<Point> {
        let [x, y] = self.camera.distortion().distort(self.camera.direction_to_ideal(direction)?)?;
        let [cx, cy] = self.camera.optical_center();
        Some([x + cx, y + cy])
    }
}

/// The pairs of pixels and points, and the free intrinsics. The parameters of attitude and position follow
/// these.
struct Pairs<'a> {
    pixels: &'a [Point],
    points: &'a [[f64; 3]],
    parameters: Parameters,
}

impl Pairs<'_> {
    /// Predicted pixel of a point, and its derivatives by all parameters.
    fn image(&self, state: &Resection, point: &[f64; 3], slopes: &mut [Point]) -> Option<Point> {
        let camera = &state.camera;
        let (distance, direction) = state.ray(point);
        let pixel = state.pixel(&direction)?;
        let sky = state.attitude.to_sky(&direction);
        let residual = Residual::new(camera, &Placement::default(), &state.attitude, pixel, &sky)?;
        let intrinsics = self.parameters.len();
        let (direct, position) = slopes.split_at_mut(intrinsics + ATTITUDE);
        derivatives(&residual, &self.parameters, camera, direct);
        let turned = &direct[intrinsics..];
        for (k, slope) in position.iter_mut().enumerate() {
            // A step of the camera turns the direction by the transverse part of the step over the distance.
            let step = state.attitude.to_camera(&Vector3::ith(k, 1.0));
            let turn = direction.cross(&step) / -distance;
            *slope = [0, 1].map(|axis| (0..ATTITUDE).map(|j| turned[j][axis] * turn[j]).sum());
        }
        // The pixel moves opposite to the derivative of the miss.
        let to_detector = inverse(&residual.jacobian);
        for slope in slopes.iter_mut() {
            *slope = multiply(&to_detector, [-slope[0], -slope[1]]);
        }
        Some(pixel)
    }
}

impl Problem for Pairs<'_> {
    type State = Resection;
    type System = NormalEquations;

    fn cost(&self, state: &Resection) -> f64 {
        let square = |(pixel, point): (&Point, &[f64; 3])| {
            let seen = state.pixel(&state.ray(point).1);
            seen.map_or(f64::INFINITY, |[x, y]| (x - pixel[0]).powi(2) + (y - pixel[1]).powi(2))
        };
        0.5 * self.pixels.iter().zip(self.points).map(square).sum::<f64>()
    }

    fn linearize(&self, state: &Resection) -> NormalEquations {
        let count = self.parameters.len() + ATTITUDE + if state.position.is_some() { POSITION } else { 0 };
        let mut equations = NormalEquations::new(count);
        let mut slopes = vec![[0.0; 2]; count];
        for (pixel, point) in self.pixels.iter().zip(self.points) {
            let Some(seen) = self.image(state, point, &mut slopes) else {
                equations.add_cost(f64::INFINITY);
                continue;
            };
            for axis in [0, 1] {
                let row: Vec<f64> = slopes.iter().map(|slope| slope[axis]).collect();
                equations.add(&row, seen[axis] - pixel[axis], 1.0);
            }
        }
        equations
    }

    fn step(&self, state: &Resection, _: &NormalEquations, delta: &DVector<f64>) -> Option<Resection> {
        let (turn, rest) = delta.as_slice()[self.parameters.len()..].split_at(ATTITUDE);
        Some(Resection {
            camera: self.parameters.stepped(&state.camera, delta)?,
            attitude: state.attitude.rotated(&Vector3::from_column_slice(turn)),
            position: state.position.map(|position| position + Vector3::from_column_slice(rest)),
        })
    }
}

#[cfg(test)]
#[path = "point_pairs_tests.rs"]
mod tests;
