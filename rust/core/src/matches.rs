//! Matched stars of one frame: the result of [`solve`](crate::solve), the input of
//! [`calibrate`](crate::calibrate).

use crate::error::{Error, Result};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::geometry::sphere::{Direction, east_north, ra_dec, separation};

/// Detections of one frame matched with catalogue stars, and the camera, attitude and apparent place with
/// which they were matched. All columns have the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchedStars {
    /// Index of each detection in the list that was solved.
    pub detections: Vec<usize>,
    /// Catalogue identifier of the star of each detection.
    pub ids: Vec<i64>,
    /// Position of each detection, in pixels from the image centre.
    pub pixels: Vec<Point>,
    /// Covariance (xx, xy, yy) of each position in square pixels, if known.
    pub covariance: Option<Vec<[f64; 3]>>,
    /// Brightness of each detection; NaN where unknown.
    pub brightness: Vec<f64>,
    /// ICRS direction of each star at the epoch of the frame.
    pub directions: Vec<[f64; 3]>,
    /// Probability that each match is not due to chance.
    pub probability: Vec<f64>,
    /// The camera with which the stars were matched.
    pub camera: CameraModel,
    /// The attitude with which the stars were matched; it maps apparent directions.
    pub attitude: Attitude,
    /// Displacement of the stars in this frame by aberration and refraction.
    pub place: ApparentPlace,
}

impl MatchedStars {
    /// Makes matches from these columns; the other columns have default values.
    pub fn new(
        pixels: Vec<Point>,
        directions: Vec<[f64; 3]>,
        camera: CameraModel,
        attitude: Attitude,
    ) -> Self {
        let n = pixels.len();
        Self {
            detections: (0..n).collect(),
            ids: vec![0; n],
            pixels,
            covariance: None,
            brightness: vec![f64::NAN; n],
            directions,
            probability: vec![1.0; n],
            camera,
            attitude,
            place: ApparentPlace::default(),
        }
    }

    /// Number of matches.
    pub fn len(&self) -> usize {
        self.pixels.len()
    }

    /// Whether there are no matches.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Returns an error if columns differ in length or a value is not finite.
    pub fn check(&self) -> Result<()> {
        let n = self.len();
        let covariances = self.covariance.as_ref().map_or(n, Vec::len);
        let lengths = [
            self.detections.len(),
            self.ids.len(),
            covariances,
            self.brightness.len(),
            self.directions.len(),
            self.probability.len(),
        ];
        if lengths.iter().any(|&length| length != n) {
            return Err(Error::argument(
                "centroids",
                format!("{n} positions, but {} stars", self.directions.len()),
                "give one catalogue star and at most one covariance for each position",
            ));
        }
        if self.pixels.iter().flatten().any(|c| !c.is_finite()) {
            return Err(Error::argument("centroids", "a position is not finite", "leave such centroids out"));
        }
        if self.directions.iter().flatten().any(|c| !c.is_finite()) {
            return Err(Error::argument("results", "a star has no direction", "give unit vectors"));
        }
        self.place.check("velocities")
    }

    /// ICRS direction that a pixel sees.
    pub fn pixel_to_sky(&self, pixel: Point) -> Direction {
        self.place.icrs(&self.attitude.to_sky(&self.camera.pixel_to_direction(pixel)))
    }

    /// Pixel that sees an ICRS direction; `None` if no pixel does.
    pub fn sky_to_pixel(&self, sky: &Direction) -> Option<Point> {
        self.camera.direction_to_pixel(&self.attitude.to_camera(&self.place.apparent(sky)))
    }

    /// Right ascension and declination of the image centre, and position angle of the image's up (-y) there.
    pub fn pointing(&self) -> (f64, f64, f64) {
        let center = self.pixel_to_sky([0.0, 0.0]);
        let up = self.pixel_to_sky([0.0, -1.0]) - self.pixel_to_sky([0.0, 1.0]);
        let (east, north) = east_north(&center);
        let (ra, dec) = ra_dec(&center);
        (ra, dec, up.dot(&east).atan2(up.dot(&north)))
    }

    /// Angle between each detection and its star, radians.
    pub fn residuals(&self) -> Vec<f64> {
        let angle = |(&pixel, star): (&Point, &[f64; 3])| {
            let seen = self.camera.pixel_to_direction(pixel);
            separation(&seen, &self.attitude.to_camera(&self.place.apparent(&Direction::from(*star))))
        };
        self.pixels.iter().zip(&self.directions).map(angle).collect()
    }
}
