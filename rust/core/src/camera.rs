//! The camera model: what every pixel sees.
//!
//! ```text
//! pixel (x, y)  --  optical centre  -->  distortion  -->  ideal (u, v)  --  1/f, parity  -->  direction (ξ, η, 1)
//! ```
//!
//! Pixels are measured from the image's centre: `x = column - width/2`, `y = row - height/2`, with columns and
//! rows 0-based at pixel centres, +x to the right and +y down.

use nalgebra::Vector3;

use crate::distortion::{Distortion, Point};
use crate::error::{Error, Result};
use crate::sphere::Direction;

/// Ideal points farther out than this many half-diagonals are not mapped through a distortion model:
/// a polynomial says nothing about the sky so far outside the frames it was fitted to.
const EXTRAPOLATION_LIMIT: f64 = 1.5;

/// Focal length, optical centre, parity and distortion of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraModel {
    focal_length_px: f64,
    image_size: [u32; 2],
    optical_center: Point,
    mirrored: bool,
    distortion: Distortion,
}

impl CameraModel {
    /// A camera from its focal length in pixels and its image size (width, height).
    pub fn new(focal_length_px: f64, image_size: [u32; 2]) -> Result<Self> {
        if !(focal_length_px.is_finite() && focal_length_px > 0.0) {
            return Err(Error::argument(
                "focal_length_px",
                format!("{focal_length_px} is not a positive number"),
                "give the focal length in pixels",
            ));
        }
        if image_size.contains(&0) {
            return Err(Error::argument(
                "image_shape",
                format!("the image is {} x {} pixels", image_size[0], image_size[1]),
                "give (height, width), both positive",
            ));
        }
        Ok(Self {
            focal_length_px,
            image_size,
            optical_center: [0.0; 2],
            mirrored: false,
            distortion: Distortion::None,
        })
    }

    /// A pinhole camera from its horizontal field of view (radians, edge to edge).
    pub fn from_fov(fov: f64, image_size: [u32; 2]) -> Result<Self> {
        if !(fov > 0.0 && fov < std::f64::consts::PI) {
            return Err(Error::argument(
                "fov_deg",
                format!("{} is not a field of view", fov.to_degrees()),
                "give the horizontal field of view in degrees, above 0 and below 180",
            ));
        }
        Self::new(f64::from(image_size[0]) / 2.0 / (fov / 2.0).tan(), image_size)
    }

    /// The same camera with another focal length in pixels (it has to be positive).
    #[must_use]
    pub fn with_focal_length(mut self, focal_length_px: f64) -> Self {
        self.focal_length_px = focal_length_px;
        self
    }

    /// The same camera with the optical centre at these pixels from the image centre.
    #[must_use]
    pub fn with_optical_center(mut self, optical_center: Point) -> Self {
        self.optical_center = optical_center;
        self
    }

    /// The same camera seeing the sky mirrored (x reversed) or not.
    #[must_use]
    pub fn with_mirrored(mut self, mirrored: bool) -> Self {
        self.mirrored = mirrored;
        self
    }

    /// The same camera with another distortion.
    #[must_use]
    pub fn with_distortion(mut self, distortion: Distortion) -> Self {
        self.distortion = distortion;
        self
    }

    /// Focal length in pixels.
    pub fn focal_length_px(&self) -> f64 {
        self.focal_length_px
    }

    /// Width and height in pixels.
    pub fn image_size(&self) -> [u32; 2] {
        self.image_size
    }

    /// Optical centre in pixels from the image centre.
    pub fn optical_center(&self) -> Point {
        self.optical_center
    }

    /// True when the image shows the sky mirrored.
    pub fn mirrored(&self) -> bool {
        self.mirrored
    }

    /// Distortion model.
    pub fn distortion(&self) -> &Distortion {
        &self.distortion
    }

    /// Horizontal field of view of the pinhole camera with this focal length, radians.
    pub fn fov(&self) -> f64 {
        2.0 * (f64::from(self.image_size[0]) / 2.0 / self.focal_length_px).atan()
    }

    /// Angle of one pixel at the optical centre, radians.
    pub fn pixel_scale(&self) -> f64 {
        1.0 / self.focal_length_px
    }

    /// Distance from the image centre to a corner, pixels.
    pub fn half_diagonal(&self) -> f64 {
        f64::from(self.image_size[0]).hypot(f64::from(self.image_size[1])) / 2.0
    }

    /// Ideal (pinhole) point of a pixel: pixels from the optical centre, before parity.
    pub fn pixel_to_ideal(&self, pixel: Point) -> Point {
        self.distortion.undistort([pixel[0] - self.optical_center[0], pixel[1] - self.optical_center[1]])
    }

    /// Unit vector in the camera frame that a pixel sees.
    pub fn pixel_to_direction(&self, pixel: Point) -> Direction {
        let [u, v] = self.pixel_to_ideal(pixel);
        Vector3::new(self.parity() * u, v, self.focal_length_px).normalize()
    }

    /// Ideal point of a direction in the camera frame; `None` behind the camera.
    pub fn direction_to_ideal(&self, direction: &Direction) -> Option<Point> {
        let scale = self.focal_length_px / direction.z;
        (direction.z > 0.0).then(|| [self.parity() * direction.x * scale, direction.y * scale])
    }

    /// Pixel that sees a direction in the camera frame.
    ///
    /// `None` behind the camera, where the distortion folds over, or, with distortion, farther out than
    /// one and a half times the image's half-diagonal.
    pub fn direction_to_pixel(&self, direction: &Direction) -> Option<Point> {
        let ideal = self.direction_to_ideal(direction)?;
        if self.distortion != Distortion::None {
            let from_centre = [ideal[0] + self.optical_center[0], ideal[1] + self.optical_center[1]];
            if from_centre[0].hypot(from_centre[1]) > EXTRAPOLATION_LIMIT * self.half_diagonal() {
                return None;
            }
        }
        let [x, y] = self.distortion.distort(ideal)?;
        Some([x + self.optical_center[0], y + self.optical_center[1]])
    }

    /// Whether a pixel lies on the detector.
    pub fn contains(&self, [x, y]: Point) -> bool {
        let [width, height] = self.image_size.map(f64::from);
        (x + width / 2.0 >= -0.5)
            && (x + width / 2.0 < width - 0.5)
            && (y + height / 2.0 >= -0.5)
            && (y + height / 2.0 < height - 0.5)
    }

    /// -1 when mirrored, else 1.
    pub(crate) fn parity(&self) -> f64 {
        if self.mirrored { -1.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distortion::RadialDistortion;
    use proptest::prelude::*;

    #[test]
    fn field_of_view_is_edge_to_edge() {
        let camera = CameraModel::from_fov(0.2, [1024, 512]).unwrap();
        assert!((camera.fov() - 0.2).abs() < 1e-15);
        let left = camera.pixel_to_direction([-512.0, 0.0]);
        let right = camera.pixel_to_direction([512.0, 0.0]);
        assert!((crate::sphere::separation(&left, &right) - 0.2).abs() < 1e-14);
    }

    #[test]
    fn the_last_column_is_inside_and_the_next_is_not() {
        let camera = CameraModel::new(1000.0, [100, 50]).unwrap();
        assert!(camera.contains([-50.0, -25.0]) && camera.contains([49.0, 24.0]));
        assert!(!camera.contains([50.0, 0.0]) && !camera.contains([0.0, 25.0]));
    }

    #[test]
    fn bad_input_is_refused() {
        for fov in [0.0, -1.0, std::f64::consts::PI, f64::NAN] {
            assert!(CameraModel::from_fov(fov, [10, 10]).is_err());
        }
        assert!(CameraModel::new(1.0, [0, 10]).is_err());
        assert!(CameraModel::new(f64::INFINITY, [10, 10]).is_err());
    }

    proptest! {
        #[test]
        fn pixels_round_trip(x in -512.0..512.0, y in -384.0..384.0, mirrored: bool, cx in -50.0..50.0) {
            let radial = RadialDistortion::new([-0.03, 0.004, 0.0, 0.0], [1e-4, 2e-4], 512.0).unwrap();
            let camera = CameraModel::from_fov(0.5, [1024, 768])
                .unwrap()
                .with_optical_center([cx, -7.0])
                .with_mirrored(mirrored)
                .with_distortion(Distortion::Radial(radial));
            let back = camera.direction_to_pixel(&camera.pixel_to_direction([x, y])).unwrap();
            prop_assert!((back[0] - x).hypot(back[1] - y) < 1e-9);
        }
    }
}
