//! Calibration: one camera model from the matched stars of many frames.
//!
//! One non-linear least-squares problem: the intrinsics, which all frames share, and an attitude for each frame.
//! A star's residual is taken where the model is explicit, in the ideal plane, and brought to the detector by the
//! inverse local derivative of the distortion, so that it is in pixels:
//!
//! ```text
//! r = J⁻¹ [ undistort(p - c) - f · project(R v) ],   J = ∂ undistort / ∂ p
//! ```
//!
//! The [projection](crate::geometry::projection) is that of the cameras the frames were solved with, or another that is asked
//! for; it is not fitted: between any two of them lie radial terms alone.
//!
//! The attitudes are eliminated frame by frame (Schur complement): the work grows with the number of frames and
//! the memory does not, and the sum of the frames' blocks is all that the fit needs.
//!
//! # Gauge
//!
//! Some changes of the intrinsics do what a change of the attitudes or of the focal length does. They are fixed so:
//!
//! * **Pinhole**: only the focal length is free; the optical centre stays at the image centre.
//! * **Polynomial**: the optical centre stays at the image centre. The terms A₀₀, B₀₀ (a shift, which is a rotation of
//!   every frame), A₁₀ (scale, the focal length) and A₀₁ (a turn, the roll) are zero. B₀₁ (aspect) and B₁₀ (skew)
//!   are free, as is everything of degree 2 and more. Where the optical axis lies is then not told by the model: shifts
//!   and tilts differ only in terms of degree 2, which are free.
//! * **Radial**: everything is free, the optical centre too; it may lie far off the detector. But if that explains the
//!   stars no better than an optical centre at the image centre does (where a lens has little distortion, or the
//!   decentring terms do the same), it is kept there: it could be anywhere.
//!
//! Parameters that are kept so, and those that the data do not determine, are zero and named in [`CalibrationResult::frozen`].
//!
//! # Wrong matches
//!
//! The fit starts from a pinhole and the attitudes that fit it best, and grows to the whole model in stages, with
//! matches weighted down by Geman and McClure's function of their residual over the median one of their part of the
//! detector. Last, matches within `sigma_clip` standard deviations, by that median, count fully. Farther off, but
//! within a fraction of a pixel, is where blended and variable stars lie that are rightly identified and badly
//! measured: they count with Cauchy's tail, so that they hold the model where nothing better does. All others are
//! left out, or taken back in, until that changes nothing. A frame of which most matches are left out does not fit,
//! and is rejected.

mod block;
mod choice;
mod fit;
mod fitter;
mod frame;
mod given;
mod held_out;
mod moments;
mod optics;
mod parameters;
pub mod point_pairs;
mod result;
mod rig;
mod scale;
mod single;
mod start;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::projection::Projection;
use crate::geometry::rig::Rig;
use crate::matches::MatchedStars;
use crate::monitor::Monitor;
use fitter::Fitter;
use frame::Frame;
use given::{check, check_one_camera, prepare_all};
use parameters::Parameters;
use start::Start;

pub use block::{CalibrationBlock, Reduction};
pub use choice::{Form, calibrate_best, candidates};
pub use result::{CalibrationResult, FrameFit, MAX_MISFIT, Rejection, model_covariance};
pub use rig::{Exposure, calibrate_rig};
pub use scale::Spread;
pub(crate) use single::{SingleFit, SingleFrame, View};

/// Form of the camera model to fit. See the [module](self) for what is free in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Focal length only.
    Pinhole,
    /// Polynomial distortion of this order.
    Polynomial {
        /// Highest total degree, 2 to [`crate::geometry::distortion::MAX_ORDER`].
        order: usize,
    },
    /// Radial and decentring terms about a free optical centre.
    Radial,
}

/// How to calibrate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Form of the model.
    pub model: Model,
    /// Matches farther off than this many standard deviations lose weight, or are left out.
    pub sigma_clip: f64,
    /// At most this many steps in all.
    pub max_iterations: usize,
    /// Focal length to start from; without it the median of the frames'.
    pub focal_length_px: Option<f64>,
    /// Projection of the model; without it that of the frames.
    pub projection: Option<Projection>,
    /// Standard deviation of the residuals per axis, if it is known; without it, it is found from their medians, which
    /// may differ over the detector. In pixels, or, if all frames have covariances, in units of these.
    pub noise: Option<f64>,
    /// Also find the residuals of stars left out in turn ([`CalibrationResult::held_out`]).
    pub held_out: bool,
}

impl Model {
    /// Order of a polynomial.
    pub(crate) fn order(&self) -> Option<usize> {
        match self {
            Self::Polynomial { order } => Some(*order),
            Self::Pinhole | Self::Radial => None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: Model::Polynomial { order: 4 },
            sigma_clip: 3.0,
            max_iterations: 200,
            focal_length_px: None,
            projection: None,
            noise: None,
            held_out: false,
        }
    }
}

/// Fits one camera to the matched stars of many frames.
///
/// `places` tells how the stars of each frame are displaced; without it, as they were when they were matched. `start` is a
/// calibration of the same frames from which to go on with the whole model at once, rather than from a pinhole.
///
/// [`Error::Undetermined`](crate::Error::Undetermined) when too few stars are left for the model, or it folds over
/// within the image.
pub fn calibrate(
    frames: &[&MatchedStars],
    places: Option<&[ApparentPlace]>,
    options: &Options,
    start: Option<&CalibrationResult>,
    monitor: &dyn Monitor,
) -> Result<CalibrationResult> {
    check(frames, options)?;
    let first = &frames[0].camera;
    check_one_camera(frames, first)?;
    let prepared = prepare_all(frames, places)?;
    let from = match start {
        Some(start) => Start::calibrated(start, options.model)?,
        None => start::pinhole(frames, &prepared, Rig::default(), first.image_size(), options)?,
    };
    let given: Vec<Given<'_>> = frames.iter().map(|&frame| vec![(0, frame)]).collect();
    fit(&given, &prepared, &from, options, monitor)
}

/// The matches that a frame was prepared from, each with the number of its detector.
type Given<'a> = Vec<(usize, &'a MatchedStars)>;

/// Fits optics to frames that are prepared.
fn fit(
    given: &[Given<'_>],
    frames: &[Frame],
    Start { optics, attitudes, warm }: &Start,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<CalibrationResult> {
    let model = options.model;
    let stages = if *warm { vec![Parameters::of(model)] } else { Parameters::stages(model) };
    let detectors = optics.rig.placements().len();
    let stages: Vec<_> = stages.into_iter().map(|stage| stage.with_detectors(detectors)).collect();
    let mut fitter = Fitter::start(frames, optics.clone(), attitudes, options, monitor);
    let mut system = fitter.run(&stages)?;
    if model == Model::Radial {
        let stages: Vec<_> = stages.iter().map(Parameters::without_center).collect();
        let mut centred = Fitter::start(frames, optics.clone(), attitudes, options, monitor);
        if let Ok(centred_system) = centred.run(&stages)
            && !fitter.improves_on(&system, &centred)
        {
            (fitter, system) = (centred, centred_system);
        }
    }
    result::summarize(given, &fitter, &system)
}
