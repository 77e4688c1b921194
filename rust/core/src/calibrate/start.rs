//! Finds the optics and attitudes from which a fit starts.

use super::frame::Frame;
use super::optics::Optics;
use super::{CalibrationResult, Model, Options};
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, PolynomialDistortion, RadialDistortion};
use crate::geometry::rig::Rig;
use crate::geometry::sphere::Direction;
use crate::lsq::robust::median;
use crate::matches::MatchedStars;

/// Optics and the frames' attitudes from which a fit starts.
pub(super) struct Start {
    pub(super) optics: Optics,
    pub(super) attitudes: Vec<Option<Attitude>>,
    /// Whether the start is nearly right, so that the whole model is fitted at once.
    pub(super) warm: bool,
}

impl Start {
    /// Starts from a calibration with the same model, or a lower order of it.
    pub(super) fn calibrated(calibration: &CalibrationResult, model: Model) -> Result<Self> {
        let optics = Optics { camera: raised(&calibration.camera, model)?, rig: calibration.rig.clone() };
        let attitudes = calibration.frames.iter().map(|frame| Some(frame.attitude)).collect();
        Ok(Self { optics, attitudes, warm: true })
    }
}

/// A camera without distortion, and for each frame the attitude that fits it best, if there is one.
///
/// Without a given focal length, the camera has the median of those with which the frames were solved.
pub(super) fn pinhole(
    solved: &[&MatchedStars],
    frames: &[Frame],
    rig: Rig,
    image_size: [u32; 2],
    options: &Options,
) -> Result<Start> {
    let first = &solved[0].camera;
    let mut focal_lengths: Vec<f64> = solved.iter().map(|f| f.camera.focal_length_px()).collect();
    let focal_length = options.focal_length_px.unwrap_or_else(|| median(&mut focal_lengths));
    let camera = CameraModel::new(focal_length, image_size)?
        .with_parity_flip(first.parity_flip())
        .with_projection(options.projection.unwrap_or(first.projection()));
    let attitude = |frame: &Frame| {
        let seen: Vec<Direction> = frame.points(&rig).map(|p| camera.pixel_to_direction(p)).collect();
        // Pixels just outside the image circle of the projection have no direction before the distortion is
        // known.
        let pairs = seen.iter().zip(&frame.sky).filter(|(camera, _)| camera.z.is_finite());
        Attitude::from_pairs(pairs.map(|(camera, sky)| (camera, sky, 1.0)))
    };
    let attitudes = frames.iter().map(attitude).collect();
    Ok(Start { optics: Optics { camera: undistorted(&camera, options.model)?, rig }, attitudes, warm: false })
}

/// A camera of the model without distortion, with its optical centre at the image centre.
pub(super) fn undistorted(camera: &CameraModel, model: Model) -> Result<CameraModel> {
    let scale = f64::from(camera.image_size()[0]) / 2.0;
    let distortion = match model {
        Model::Pinhole => Distortion::None,
        Model::Polynomial { order } => Distortion::Polynomial(PolynomialDistortion::zero(order, scale)?),
        Model::Radial => Distortion::Radial(RadialDistortion::new([0.0; 4], [0.0; 2], scale)?),
    };
    Ok(camera.clone().with_optical_center([0.0; 2]).with_distortion(distortion))
}

/// A camera extended from the same model, or a lower order of it, to all parameters of the model.
pub(super) fn raised(camera: &CameraModel, model: Model) -> Result<CameraModel> {
    let distortion = match (model, camera.distortion()) {
        (Model::Polynomial { order }, Distortion::Polynomial(lower)) if lower.order() <= order => {
            Distortion::Polynomial(lower.raised(order)?)
        }
        (Model::Pinhole, Distortion::None) | (Model::Radial, Distortion::Radial(_)) => {
            camera.distortion().clone()
        }
        _ => {
            return Err(Error::argument(
                "start",
                format!("a {} distortion cannot start a fit of this model", camera.distortion().name()),
                "start from the same model, of the same or a lower order",
            ));
        }
    };
    Ok(camera.clone().with_distortion(distortion))
}

/// A camera reduced to the model: without its terms of higher order, or without distortion if its form
/// differs.
pub(super) fn lowered(camera: &CameraModel, model: Model) -> Result<CameraModel> {
    let distortion = match (model, camera.distortion()) {
        (Model::Polynomial { order }, Distortion::Polynomial(higher)) if order <= higher.order() => {
            Distortion::Polynomial(higher.lowered(order)?)
        }
        _ => return undistorted(camera, model),
    };
    Ok(camera.clone().with_distortion(distortion))
}
