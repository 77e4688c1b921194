//! Checks the input of a calibration, and prepares it for the fit.

use super::frame::Frame;
use super::{Model, Options};
use crate::error::{Error, Result};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::MAX_ORDER;
use crate::geometry::sphere::Direction;
use crate::lsq::small::whitener;
use crate::matches::MatchedStars;

/// Checks everything but the stars and the image sizes.
pub(super) fn check(frames: &[&MatchedStars], options: &Options) -> Result<()> {
    let Some(first) = frames.first() else {
        return Err(Error::Undetermined("no solved frame; give at least one".into()));
    };
    if let Model::Polynomial { order } = options.model
        && !(2..=MAX_ORDER).contains(&order)
    {
        let repair = format!("give 2 to {MAX_ORDER}, or the pinhole model");
        return Err(Error::argument("order", format!("{order} is out of range"), repair));
    }
    check_positive("sigma_clip", options.sigma_clip, "give a number of standard deviations, such as 3")?;
    if let Some(noise) = options.noise {
        check_positive("noise", noise, "give the standard deviation of the residuals, such as 0.02")?;
    }
    if options.projection.is_none()
        && frames.iter().any(|f| f.camera.projection() != first.camera.projection())
    {
        return Err(Error::argument(
            "results",
            "their cameras differ in projection",
            "calibrate frames solved with one projection, or give a camera model with the one wanted",
        ));
    }
    check_one_parity(frames, &first.camera)
}

/// Checks that a number is above zero and not NaN.
pub(super) fn check_positive(name: &'static str, value: f64, repair: &str) -> Result<()> {
    if value > 0.0 && !value.is_nan() {
        return Ok(());
    }
    Err(Error::argument(name, format!("{value} is not positive"), repair))
}

/// Checks that the frames have the image size and parity of a camera.
pub(super) fn check_one_camera(frames: &[&MatchedStars], camera: &CameraModel) -> Result<()> {
    if frames.iter().any(|frame| frame.camera.image_size() != camera.image_size()) {
        return Err(Error::argument(
            "results",
            "their frames differ in size",
            "calibrate frames of one camera and one size together",
        ));
    }
    check_one_parity(frames, camera)
}

/// Checks that all frames are mirrored, or none is.
fn check_one_parity(frames: &[&MatchedStars], camera: &CameraModel) -> Result<()> {
    if frames.iter().any(|frame| frame.camera.parity_flip() != camera.parity_flip()) {
        return Err(Error::argument(
            "results",
            "some frames are mirrored and some are not",
            "calibrate frames of one camera together, and leave wrong solutions out",
        ));
    }
    Ok(())
}

/// Prepares all frames, each with the apparent place given for it, or its own.
pub(super) fn prepare_all(frames: &[&MatchedStars], places: Option<&[ApparentPlace]>) -> Result<Vec<Frame>> {
    if let Some(places) = places.filter(|places| places.len() != frames.len()) {
        return Err(Error::argument(
            "places",
            format!("{} places for {} frames", places.len(), frames.len()),
            "give one for each frame",
        ));
    }
    let place = |i: usize| places.map_or(frames[i].place, |places| places[i]);
    frames.iter().enumerate().map(|(i, frame)| prepare(frame, &place(i))).collect()
}

/// Checks the stars of a frame, computes their apparent directions, and inverts the covariances.
pub(super) fn prepare(frame: &MatchedStars, place: &ApparentPlace) -> Result<Frame> {
    frame.check()?;
    place.check("velocities")?;
    let sky = frame.directions.iter().map(|v| apparent(v, place)).collect();
    let covariance = frame.covariance.as_ref();
    let whitening = covariance.map(|c| c.iter().map(whiten).collect::<Result<_>>()).transpose()?;
    Ok(Frame::new(frame.pixels.clone(), sky, whitening))
}

/// Apparent direction of a star.
pub(super) fn apparent(star: &[f64; 3], place: &ApparentPlace) -> Direction {
    place.apparent(&Direction::from(*star).normalize())
}

fn whiten(covariance: &[f64; 3]) -> Result<[f64; 3]> {
    whitener(covariance).ok_or_else(|| {
        let [xx, xy, yy] = covariance;
        Error::argument(
            "centroids",
            format!("the covariance ({xx}, {xy}, {yy}) of a position is not positive definite"),
            "give variances above zero, or no covariance at all",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covariance_is_whitened() {
        // Noise with the covariance C = M Mᵀ is M n, where n has unit variance; whitening restores unit
        // variance.
        let w = whiten(&[4.0, 1.0, 2.0]).unwrap();
        let product = [
            w[0] * w[0] * 4.0,
            w[0] * (w[1] * 4.0 + w[2] * 1.0),
            w[1] * (w[1] * 4.0 + w[2] * 1.0) + w[2] * (w[1] * 1.0 + w[2] * 2.0),
        ];
        assert!(
            (product[0] - 1.0).abs() < 1e-14 && product[1].abs() < 1e-14 && (product[2] - 1.0).abs() < 1e-14
        );
        for bad in [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, f64::NAN, 1.0], [f64::INFINITY, 0.0, 1.0]] {
            assert!(whiten(&bad).is_err());
        }
    }
}
