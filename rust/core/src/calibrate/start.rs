//! Where the fit starts from.

use super::frame::Frame;
use super::{Model, Options};
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, PolynomialDistortion, RadialDistortion};
use crate::geometry::sphere::Direction;
use crate::lsq::robust::median;
use crate::matches::MatchedStars;

/// A camera without distortion with the frames' median focal length, and for each frame the attitude that fits it
/// best, if any does.
pub(super) fn pinhole(
    frames: &[&MatchedStars],
    prepared: &[Frame],
    options: &Options,
) -> Result<(CameraModel, Vec<Option<Attitude>>)> {
    let mut focal_lengths: Vec<f64> = frames.iter().map(|f| f.camera.focal_length_px()).collect();
    let focal_length = options.focal_length_px.unwrap_or_else(|| median(&mut focal_lengths));
    let size = frames[0].camera.image_size();
    let camera = CameraModel::new(focal_length, size)?
        .with_parity_flip(frames[0].camera.parity_flip())
        .with_projection(options.projection.unwrap_or(frames[0].camera.projection()));
    let attitude = |frame: &Frame| {
        let seen: Vec<Direction> = frame.pixels.iter().map(|&p| camera.pixel_to_direction(p)).collect();
        // Pixels just outside the image of the projection see nothing before the distortion is known.
        let pairs = seen.iter().zip(&frame.sky).filter(|(camera, _)| camera.z.is_finite());
        Attitude::from_pairs(pairs.map(|(camera, sky)| (camera, sky, 1.0)))
    };
    let attitudes = prepared.iter().map(attitude).collect();
    let scale = f64::from(size[0]) / 2.0;
    let distortion = match options.model {
        Model::Pinhole => Distortion::None,
        Model::Polynomial { order } => Distortion::Polynomial(PolynomialDistortion::zero(order, scale)?),
        Model::Radial => Distortion::Radial(RadialDistortion::new([0.0; 4], [0.0; 2], scale)?),
    };
    Ok((camera.with_distortion(distortion), attitudes))
}

/// The first frame's camera with room for all parameters of the model, and the frames' attitudes.
pub(super) fn solved(frames: &[&MatchedStars], model: Model) -> Result<(CameraModel, Vec<Option<Attitude>>)> {
    let camera = frames[0].camera.clone();
    let distortion = match (model, camera.distortion()) {
        (Model::Polynomial { order }, Distortion::Polynomial(lower)) if lower.order() <= order => {
            Distortion::Polynomial(lower.raised(order)?)
        }
        (Model::Pinhole, Distortion::None) | (Model::Radial, Distortion::Radial(_)) => {
            camera.distortion().clone()
        }
        _ => {
            return Err(Error::argument(
                "warm",
                format!("a {} distortion is no start for this model", camera.distortion().name()),
                "start from the same model, of the same or a lower order",
            ));
        }
    };
    Ok((camera.with_distortion(distortion), frames.iter().map(|f| Some(f.attitude)).collect()))
}
