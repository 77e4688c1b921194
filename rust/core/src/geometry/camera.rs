//! The camera model, which converts pixels to directions and back.
//!
//! ```text
//! pixel (x, y)  --  optical centre  -->  distortion  -->  ideal (u, v)  --  1/f, parity, projection  -->  direction
//! ```
//!
//! The [`Projection`] is that of a pinhole, with the direction (u/f, v/f, 1), or that of a fisheye. An
//! equidistant camera with radial distortion belongs to the Kannala-Brandt family in the fitted direction: θ
//! is an odd polynomial of the distance from the optical centre.
//!
//! Pixels are measured from the image's centre: `x = column - width/2`, `y = row - height/2`, with columns and
//! rows 0-based at pixel centres, +x to the right and +y down.

use crate::error::{Error, Result, in_degrees};
use crate::geometry::distortion::{Distortion, Point};
use crate::geometry::projection::Projection;
use crate::geometry::sphere::Direction;

/// Ideal points farther out than this many half-diagonals are not mapped through a distortion model, because
/// a polynomial is meaningless so far outside the frames to which it was fitted.
const EXTRAPOLATION_LIMIT: f64 = 1.5;

/// Focal length, optical centre, parity, projection and distortion of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraModel {
    focal_length_px: f64,
    image_size: [u32; 2],
    optical_center: Point,
    parity_flip: bool,
    projection: Projection,
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
            parity_flip: false,
            projection: Projection::Gnomonic,
            distortion: Distortion::None,
        })
    }

    /// A pinhole camera from its horizontal field of view (radians, edge to edge).
    pub fn from_fov(fov: f64, image_size: [u32; 2]) -> Result<Self> {
        Self::projected_from_fov(Projection::Gnomonic, fov, image_size)
    }

    /// A camera of any projection from its horizontal field of view (radians, edge to edge).
    pub fn projected_from_fov(projection: Projection, fov: f64, image_size: [u32; 2]) -> Result<Self> {
        let focal_length = projection
            .radius(fov / 2.0)
            .filter(|radius| *radius > 0.0)
            .map(|radius| f64::from(image_size[0]) / 2.0 / radius)
            .ok_or_else(|| {
                let most = (2.0_f64 * projection.max_angle()).to_degrees().round();
                let problem = format!("{} is not a field of view", in_degrees(fov));
                let limit = match projection {
                    Projection::Gnomonic | Projection::Stereographic => "below",
                    _ => "up to",
                };
                let repair =
                    format!("give the horizontal field of view in degrees, above 0 and {limit} {most}");
                Error::argument("fov_deg", problem, repair)
            })?;
        Ok(Self::new(focal_length, image_size)?.with_projection(projection))
    }

    /// The same camera with another focal length in pixels, which must be positive.
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
    pub fn with_parity_flip(mut self, parity_flip: bool) -> Self {
        self.parity_flip = parity_flip;
        self
    }

    /// The same camera with another projection.
    #[must_use]
    pub fn with_projection(mut self, projection: Projection) -> Self {
        self.projection = projection;
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
    pub fn parity_flip(&self) -> bool {
        self.parity_flip
    }

    /// Projection of the lens without its distortion.
    pub fn projection(&self) -> Projection {
        self.projection
    }

    /// Distortion model.
    pub fn distortion(&self) -> &Distortion {
        &self.distortion
    }

    /// Horizontal field of view without distortion, radians. If the image is wider than all that the
    /// projection can show, it is the angle of the whole projection.
    pub fn fov(&self) -> f64 {
        let edge = f64::from(self.image_size[0]) / 2.0 / self.focal_length_px;
        2.0 * self.projection.angle(edge).unwrap_or(self.projection.max_angle())
    }

    /// Angle of one pixel at the optical centre, radians.
    pub fn pixel_scale(&self) -> f64 {
        1.0 / self.focal_length_px
    }

    /// Distance from the image centre to a corner, pixels.
    pub fn half_diagonal(&self) -> f64 {
        f64::from(self.image_size[0]).hypot(f64::from(self.image_size[1])) / 2.0
    }

    /// Ideal point of a pixel: where the projection without distortion would image the same star, in pixels
    /// from the optical centre, before parity.
    pub fn pixel_to_ideal(&self, pixel: Point) -> Point {
        self.distortion.undistort([pixel[0] - self.optical_center[0], pixel[1] - self.optical_center[1]])
    }

    /// Unit vector in the camera frame that a pixel sees; NaN outside the projection's image.
    pub fn pixel_to_direction(&self, pixel: Point) -> Direction {
        let [u, v] = self.pixel_to_ideal(pixel);
        if self.projection == Projection::Gnomonic {
            return Direction::new(self.parity() * u, v, self.focal_length_px).normalize();
        }
        let point = [self.parity() * u / self.focal_length_px, v / self.focal_length_px];
        self.projection.direction(point).unwrap_or(Direction::repeat(f64::NAN))
    }

    /// Ideal point of a direction in the camera frame; `None` where the projection has no image, such as behind a
    /// pinhole.
    pub fn direction_to_ideal(&self, direction: &Direction) -> Option<Point> {
        let [x, y] = self.projection.point(direction)?;
        Some([self.parity() * self.focal_length_px * x, self.focal_length_px * y])
    }

    /// Pixel that sees a direction in the camera frame.
    ///
    /// `None` where the projection has no image (behind a pinhole), where the distortion folds over, or, with
    /// distortion, farther out than one and a half times the image's half-diagonal.
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
        if self.parity_flip { -1.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::distortion::RadialDistortion;
    use proptest::prelude::*;

    #[test]
    fn field_of_view_is_edge_to_edge() {
        let camera = CameraModel::from_fov(0.2, [1024, 512]).unwrap();
        assert!((camera.fov() - 0.2).abs() < 1e-15);
        let left = camera.pixel_to_direction([-512.0, 0.0]);
        let right = camera.pixel_to_direction([512.0, 0.0]);
        assert!((crate::geometry::sphere::separation(&left, &right) - 0.2).abs() < 1e-14);
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

    #[test]
    fn fields_of_view_are_those_of_the_projection() {
        for projection in Projection::ALL {
            let camera = CameraModel::projected_from_fov(projection, 2.5, [1000, 800]).unwrap();
            let edge = camera.pixel_to_direction([500.0, 0.0]);
            assert!((edge.z.acos() - 1.25).abs() < 1e-14 && (camera.fov() - 2.5).abs() < 1e-14);
            let most = 2.0 * projection.max_angle();
            assert!(CameraModel::projected_from_fov(projection, most + 0.01, [10, 10]).is_err());
        }
        // An image wider than the projection's circle shows all of it.
        let all = CameraModel::new(100.0, [1000, 800]).unwrap().with_projection(Projection::Orthographic);
        assert_eq!(all.fov(), std::f64::consts::PI);
        assert!(all.pixel_to_direction([101.0, 0.0]).iter().all(|c| c.is_nan()));
        let whole_sky = CameraModel::projected_from_fov(Projection::Equidistant, 6.27, [1000, 1000]).unwrap();
        assert!(whole_sky.pixel_to_direction([499.0, 0.0]).z < -0.99);
    }

    proptest! {
        #[test]
        fn fisheye_pixels_round_trip(x in -700.0..700.0, y in -700.0..700.0, parity_flip: bool, bent: bool) {
            let radial = RadialDistortion::new([-0.03, 0.004, 0.0, 0.0], [1e-4, 2e-4], 700.0).unwrap();
            let distortion = if bent { Distortion::Radial(radial) } else { Distortion::None };
            for projection in Projection::ALL {
                let camera = CameraModel::new(450.0, [1400, 1400])
                    .unwrap()
                    .with_projection(projection)
                    .with_optical_center([12.0, -7.0])
                    .with_parity_flip(parity_flip)
                    .with_distortion(distortion.clone());
                let seen = camera.pixel_to_direction([x, y]);
                let Some(back) = camera.direction_to_pixel(&seen) else {
                    prop_assert!(seen.x.is_nan(), "{projection:?}");
                    continue;
                };
                prop_assert!((back[0] - x).hypot(back[1] - y) < 1e-10, "{projection:?}");
            }
        }

        #[test]
        fn pixels_round_trip(x in -512.0..512.0, y in -384.0..384.0, parity_flip: bool, cx in -50.0..50.0) {
            let radial = RadialDistortion::new([-0.03, 0.004, 0.0, 0.0], [1e-4, 2e-4], 512.0).unwrap();
            let camera = CameraModel::from_fov(0.5, [1024, 768])
                .unwrap()
                .with_optical_center([cx, -7.0])
                .with_parity_flip(parity_flip)
                .with_distortion(Distortion::Radial(radial));
            let back = camera.direction_to_pixel(&camera.pixel_to_direction([x, y])).unwrap();
            prop_assert!((back[0] - x).hypot(back[1] - y) < 1e-9);
        }
    }
}
