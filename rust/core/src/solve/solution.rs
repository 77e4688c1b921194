//! Makes the solution of a frame from the fit to its matches.

use super::field::{Field, Pointing, Sky};
use super::fit::{Fit, Match};
use super::lens::{FittedLens, WithLens};
use super::refine::Refined;
use crate::calibrate::View;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::matches::MatchedStars;

/// A solved frame.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The matched stars in the order of their detections, with the fitted attitude and the camera. The
    /// camera has the fitted focal length, the parity, and a fitted lens if nothing was known of the lens and
    /// the residuals required one.
    pub matches: MatchedStars,
    /// Covariance of the fitted parameters: a small rotation about the camera's x, y and z axes (rad), focal
    /// length (px), radial coefficient k₁, optical centre's x and y (px). Rows and columns of parameters that
    /// were not fitted are zero.
    pub covariance: [[f64; 7]; 7],
    /// Upper bound on the probability that chance gives such a match.
    pub probability: f64,
    /// The fitted lens, if it has parameters that `covariance` does not include.
    pub lens: Option<FittedLens>,
}

impl Solution {
    /// The solution from a fit without a separate lens model, or with a radial term.
    pub(super) fn new(
        field: &Field,
        sky: &Sky<'_>,
        pixels: &[Point],
        refined: &Refined,
        probability: f64,
    ) -> Self {
        let Fit { pointing, lens, .. } = &refined.fit;
        let Pointing { attitude, focal_length, parity, .. } = *pointing;
        // Beyond the rim of a fisheye's image a detection has no direction.
        let has_direction = |m: &Match| {
            pointing.camera_direction(lens.ideal(field.ideal[m.detection], field.half_width())).is_some()
        };
        let mut matches = refined.matches.clone();
        matches.retain(has_direction);
        let camera =
            lens.camera(&field.camera).with_focal_length(focal_length).with_parity_flip(parity < 0.0);
        Self {
            matches: matched_stars(field, sky, pixels, matches, camera, attitude),
            covariance: refined.fit.covariance_in_px(field.half_width()).into(),
            probability,
            lens: None,
        }
    }

    /// The solution with the fitted lens.
    pub(super) fn with_lens(found: &WithLens, sky: &Sky<'_>, pixels: &[Point], probability: f64) -> Self {
        let WithLens { field, refined, fit } = found;
        let View { camera, attitude } = fit.view.clone();
        let intrinsics = fit.parameter_names.len();
        let mut covariance = [[0.0; 7]; 7];
        for (i, row) in covariance.iter_mut().take(3).enumerate() {
            for (j, element) in row.iter_mut().take(3).enumerate() {
                *element = fit.covariance[(intrinsics + i, intrinsics + j)];
            }
        }
        let lens =
            FittedLens { parameter_names: fit.parameter_names.clone(), covariance: fit.covariance.clone() };
        Self {
            matches: matched_stars(field, sky, pixels, refined.matches.clone(), camera, attitude),
            covariance,
            probability,
            lens: Some(lens),
        }
    }
}

/// Matches in the order of their detections, with the camera and the attitude that were fitted to them.
fn matched_stars(
    field: &Field,
    sky: &Sky<'_>,
    pixels: &[Point],
    mut matches: Vec<Match>,
    camera: CameraModel,
    attitude: Attitude,
) -> MatchedStars {
    let ids = sky.database.ids();
    let direction = |m: &Match| sky.catalogued(m.star).map_or([f64::NAN; 3], Into::into);
    matches.sort_by_key(|m| field.order[m.detection]);
    let detections: Vec<usize> = matches.iter().map(|m| field.order[m.detection]).collect();
    MatchedStars {
        ids: matches.iter().map(|m| ids[m.star as usize]).collect(),
        pixels: detections.iter().map(|&detection| pixels[detection]).collect(),
        covariance: None,
        brightness: vec![f64::NAN; matches.len()],
        directions: matches.iter().map(direction).collect(),
        probability: matches.iter().map(|m| m.probability).collect(),
        detections,
        camera,
        attitude,
        place: sky.place,
    }
}
