//! What is given to a calibration: checked, and made ready to be fitted.

use nalgebra::Vector3;

use super::frame::Frame;
use super::{FrameMatches, Model, Options};
use crate::error::{Error, Result};
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::MAX_ORDER;
use crate::geometry::sphere::{Direction, aberrate};

/// Checks everything but the stars.
pub(super) fn check(frames: &[FrameMatches<'_>], options: &Options) -> Result<()> {
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
    check_one_camera(frames, first.camera)
}

/// Checks that a number is above zero, and is a number.
pub(super) fn check_positive(name: &'static str, value: f64, repair: &str) -> Result<()> {
    if value > 0.0 && !value.is_nan() {
        return Ok(());
    }
    Err(Error::argument(name, format!("{value} is not positive"), repair))
}

/// Checks that the frames are of the size and parity of a camera.
pub(super) fn check_one_camera(frames: &[FrameMatches<'_>], camera: &CameraModel) -> Result<()> {
    for frame in frames {
        if frame.camera.image_size() != camera.image_size() {
            return Err(Error::argument(
                "results",
                "their frames differ in size",
                "calibrate frames of one camera and one size together",
            ));
        }
        if frame.camera.mirrored() != camera.mirrored() {
            return Err(Error::argument(
                "results",
                "some frames are mirrored and some are not",
                "calibrate frames of one camera together, and leave wrong solutions out",
            ));
        }
    }
    Ok(())
}

/// Checks the stars of a frame, aberrates them, and inverts the covariances.
pub(super) fn prepare(frame: &FrameMatches<'_>) -> Result<Frame> {
    let stars = frame.pixels.len();
    if frame.sky.len() != stars || frame.covariance.is_some_and(|c| c.len() != stars) {
        return Err(Error::argument(
            "centroids",
            format!("{stars} positions, but {} stars", frame.sky.len()),
            "give one catalogue star and at most one covariance for each position",
        ));
    }
    if frame.pixels.iter().flatten().any(|c| !c.is_finite()) {
        return Err(Error::argument("centroids", "a position is not finite", "leave such centroids out"));
    }
    if frame.velocity.is_some_and(|beta| beta.norm() >= 1.0 || beta.norm().is_nan()) {
        let problem = "the observer is not slower than light";
        return Err(Error::argument("velocities", problem, "give finite barycentric velocities in km/s"));
    }
    let sky: Vec<Direction> = frame.sky.iter().map(|v| apparent(v, frame.velocity)).collect();
    if sky.iter().flatten().any(|c| !c.is_finite()) {
        return Err(Error::argument("results", "a star has no direction", "give unit vectors"));
    }
    let whitening = frame.covariance.map(|c| c.iter().map(whiten).collect::<Result<_>>()).transpose()?;
    Ok(Frame { pixels: frame.pixels.to_vec(), sky, whitening })
}

/// Where an observer of this velocity sees a star.
pub(super) fn apparent(star: &[f64; 3], velocity: Option<Vector3<f64>>) -> Direction {
    let direction = Direction::from(*star).normalize();
    velocity.map_or(direction, |beta| aberrate(&direction, &beta))
}

/// Inverse of the lower Cholesky factor of a covariance (xx, xy, yy).
fn whiten(&[xx, xy, yy]: &[f64; 3]) -> Result<[f64; 3]> {
    let l00 = xx.sqrt();
    let l10 = xy / l00;
    let l11 = (yy - l10 * l10).sqrt();
    if !(l00 > 0.0 && l11 > 0.0 && l00.is_finite() && l11.is_finite()) {
        return Err(Error::argument(
            "centroids",
            format!("the covariance ({xx}, {xy}, {yy}) of a position is not positive definite"),
            "give variances above zero, or no covariance at all",
        ));
    }
    Ok([1.0 / l00, -l10 / (l00 * l11), 1.0 / l11])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covariance_is_whitened() {
        // A covariance C = M Mᵀ makes noise M n; whitening gives unit variance back.
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
