//! The stars of one frame, and how far they are from where a camera and an attitude put them.

use super::parameters::Parameters;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Jacobian, Point};
use crate::geometry::sphere::Direction;
use crate::lsq::small::{determinant, inverse, multiply};

/// Parameters of one attitude: a small rotation about the camera's axes.
pub(super) const ATTITUDE: usize = 3;

/// The matched stars of one frame, ready to be fitted.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) pixels: Vec<Point>,
    /// Directions as this frame's observer sees them.
    pub(super) sky: Vec<Direction>,
    /// Lower triangle of the matrix that makes each star's residual one of unit variance.
    pub(super) whitening: Option<Vec<[f64; 3]>>,
}

/// A star's residual in the ideal plane, and what it depends on.
pub(super) struct Residual {
    pub(super) miss: Point,
    /// Pixel from the optical centre.
    pub(super) point: Point,
    /// Of the ideal point by the pixel.
    pub(super) jacobian: Jacobian,
    /// The star's image in focal lengths, the parity applied, and its derivatives by small rotations.
    pub(super) projected: Point,
    rotations: [Point; ATTITUDE],
}

impl Residual {
    /// `None` if the projection has no image of the star or the distortion is folded over at its pixel.
    pub(super) fn new(
        camera: &CameraModel,
        attitude: &Attitude,
        pixel: Point,
        sky: &Direction,
    ) -> Option<Self> {
        let (point, rotations) = camera.projection().point_and_rotations(&attitude.to_camera(sky))?;
        let (f, parity) = (camera.focal_length_px(), camera.parity());
        let flipped = |[x, y]: Point| [parity * x, y];
        let projected = flipped(point);
        let center = camera.optical_center();
        let point = [pixel[0] - center[0], pixel[1] - center[1]];
        let (ideal, jacobian) = camera.distortion().undistort_with_jacobian(point);
        let det = determinant(&jacobian);
        let miss = [ideal[0] - f * projected[0], ideal[1] - f * projected[1]];
        let rotations = rotations.map(flipped);
        (det > 0.0 && det.is_finite()).then_some(Self { miss, point, jacobian, projected, rotations })
    }

    /// Derivatives of the miss by the shared parameters followed by the attitude.
    pub(super) fn derivatives(&self, parameters: &Parameters, camera: &CameraModel, out: &mut [Point]) {
        let (shared, own) = out.split_at_mut(parameters.len());
        parameters.derivatives(camera, self.point, &self.jacobian, self.projected, shared);
        own.copy_from_slice(&self.by_attitude(camera.focal_length_px()));
    }

    /// Derivatives of the miss by the attitude.
    pub(super) fn by_attitude(&self, focal_length: f64) -> [Point; ATTITUDE] {
        self.rotations.map(|rotation| rotation.map(|c| -focal_length * c))
    }
}

/// How far the stars of one frame are from where the model puts them.
#[derive(Debug, Clone, Default)]
pub(super) struct Misses {
    /// The matrices that bring residuals from the ideal plane to the units of `lengths`; zero where the model has no
    /// answer.
    pub(super) metrics: Vec<Jacobian>,
    /// Lengths in units of their own standard deviation, or in pixels if none was given; infinite where the model has no
    /// answer.
    pub(super) lengths: Vec<f64>,
    /// Lengths in pixels; infinite where the model has no answer.
    pub(super) distances: Vec<f64>,
}

impl Frame {
    /// How far every star is from where camera and attitude put it.
    pub(super) fn misses(&self, camera: &CameraModel, attitude: &Attitude) -> Misses {
        let mut misses = Misses::default();
        for (star, (&pixel, sky)) in self.pixels.iter().zip(&self.sky).enumerate() {
            let found = Residual::new(camera, attitude, pixel, sky).map(|residual| {
                let inverse = inverse(&residual.jacobian);
                let metric = self.metric(star, &inverse);
                let lengths = [metric, inverse].map(|m| length(multiply(&m, residual.miss)));
                (metric, lengths)
            });
            let (metric, [length, distance]) = found.unwrap_or(([[0.0; 2]; 2], [f64::INFINITY; 2]));
            misses.metrics.push(metric);
            misses.lengths.push(length);
            misses.distances.push(distance);
        }
        misses
    }

    /// The matrix that brings a star's residual from the ideal plane to the detector (`inverse` alone) and there to
    /// units of its own standard deviation, if that was given.
    fn metric(&self, star: usize, inverse: &Jacobian) -> Jacobian {
        self.whitening.as_ref().map_or(*inverse, |whitening| {
            let [w00, w10, w11] = whitening[star];
            let [[a, b], [c, d]] = *inverse;
            [[w00 * a, w00 * b], [w10 * a + w11 * c, w10 * b + w11 * d]]
        })
    }

    /// Length of a star's residual in pixels; infinite where the model has no answer.
    pub(super) fn distance(&self, star: usize, camera: &CameraModel, attitude: &Attitude) -> f64 {
        let residual = Residual::new(camera, attitude, self.pixels[star], &self.sky[star]);
        residual.map_or(f64::INFINITY, |r| length(multiply(&inverse(&r.jacobian), r.miss)))
    }
}

fn length([x, y]: Point) -> f64 {
    (x * x + y * y).sqrt()
}
