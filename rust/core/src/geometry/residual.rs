//! The residual of a star, calculated in the ideal plane, where the model is explicit.
//!
//! ```text
//! miss = undistort(p - c) - f · project(R v)
//! ```
//!
//! The derivative of the residual by the pixel is the Jacobian of the distortion, which converts it to the
//! detector.

use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Jacobian, Point};
use crate::geometry::rig::Placement;
use crate::geometry::sphere::Direction;
use crate::lsq::small::{determinant, multiply};

/// Parameters of one attitude: a small rotation about the camera's axes.
pub(crate) const ATTITUDE: usize = 3;
/// Parameters of one placement: its shift along x and y, and its rotation.
pub(crate) const PLACEMENT: usize = 3;

/// A star's residual in the ideal plane, and the quantities that give its derivatives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Residual {
    pub(crate) miss: Point,
    /// Pixel from the optical centre.
    pub(crate) point: Point,
    /// Derivatives of the ideal point by the pixel.
    pub(crate) jacobian: Jacobian,
    /// The star's image in focal lengths, with the parity applied.
    pub(crate) projected: Point,
    /// Derivatives of `projected` by small rotations.
    rotations: [Point; ATTITUDE],
    /// Vector from the centre of the detector to the pixel, in the focal plane.
    lever: Point,
}

impl Residual {
    /// The residual of a star in direction `sky` that is detected at `pixel` of a detector with this
    /// placement.
    ///
    /// `None` if the projection has no image of the star or the distortion is folded over at its pixel.
    #[inline]
    pub(crate) fn new(
        camera: &CameraModel,
        placement: &Placement,
        attitude: &Attitude,
        pixel: Point,
        sky: &Direction,
    ) -> Option<Self> {
        let (point, rotations) = camera.projection().point_and_rotations(&attitude.to_camera(sky))?;
        let (f, parity) = (camera.focal_length_px(), camera.parity());
        let flipped = |[x, y]: Point| [parity * x, y];
        let projected = flipped(point);
        let (center, shift) = (camera.optical_center(), placement.shift());
        let lever = placement.turn(pixel);
        let point = [lever[0] + shift[0] - center[0], lever[1] + shift[1] - center[1]];
        let (ideal, jacobian) = camera.distortion().undistort_with_jacobian(point);
        let det = determinant(&jacobian);
        let miss = [ideal[0] - f * projected[0], ideal[1] - f * projected[1]];
        let rotations = rotations.map(flipped);
        (det > 0.0 && det.is_finite()).then_some(Self { miss, point, jacobian, projected, rotations, lever })
    }

    /// Derivatives of the miss by the attitude.
    pub(crate) fn by_attitude(&self, focal_length: f64) -> [Point; ATTITUDE] {
        self.rotations.map(|rotation| rotation.map(|c| -focal_length * c))
    }

    /// Derivatives of the miss by the placement of the detector.
    pub(crate) fn by_placement(&self) -> [Point; PLACEMENT] {
        let [[a, b], [c, d]] = self.jacobian;
        let [x, y] = self.lever;
        [[a, c], [b, d], multiply(&self.jacobian, [-y, x])]
    }
}
