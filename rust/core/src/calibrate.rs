//! Calibrates a camera: fits one camera model to the matched stars of many frames.
//!
//! The fit is one non-linear least-squares problem. Its unknowns are the intrinsics, which all frames share,
//! and an attitude for each frame. The residual of a star is computed in the ideal plane, where the model is
//! explicit. The inverse of the distortion's local Jacobian then maps the residual to the detector, so that
//! it is in pixels:
//!
//! ```text
//! r = J⁻¹ [ undistort(p - c) - f · project(R v) ],   J = ∂ undistort / ∂ p
//! ```
//!
//! The [projection](crate::geometry::projection) is that of the cameras with which the frames were solved,
//! unless another one is requested. It is not fitted, because any two projections differ only by radial
//! terms.
//!
//! The attitudes are eliminated frame by frame (Schur complement). The work grows with the number of frames,
//! but the memory does not. The fit needs only the sum of the frames' blocks.
//!
//! # Gauge
//!
//! Some changes of the intrinsics have the same effect as a change of the attitudes or of the focal length.
//! These degrees of freedom are fixed as follows:
//!
//! * **Pinhole**: only the focal length is free; the optical centre stays at the image centre.
//! * **Polynomial**: the optical centre stays at the image centre. The terms A₀₀, B₀₀ (a shift, equivalent to
//!   a rotation of every frame), A₁₀ (scale, equivalent to the focal length) and A₀₁ (a turn, equivalent to
//!   the roll) are zero. B₀₁ (aspect) and B₁₀ (skew) are free, and so are all terms of degree 2 and more. The
//!   model therefore does not give the position of the optical axis: shifts and tilts differ only in terms of
//!   degree 2, which are free.
//! * **Radial**: all parameters are free, including the optical centre, which may lie far off the detector.
//!   But the optical centre is kept at the image centre if a free one does not explain the stars
//!   significantly better. This happens when the lens has little distortion, or when the decentring terms
//!   have the same effect: the position of the optical centre is then undetermined.
//!
//! A radial model's optical centre that is kept at the image centre, and parameters that the data do not
//! determine, stay zero. [`CalibrationResult::frozen`] lists their names.
//!
//! # Wrong matches
//!
//! The fit starts from a pinhole and the attitudes that fit it best, and adds parameters in stages up to the
//! whole model. During these stages, Geman and McClure's loss lowers the weight of a match by its residual,
//! relative to the median residual of its part of the detector. In the final fit, matches within `sigma_clip`
//! standard deviations (estimated from that median) have full weight. Correctly identified but badly measured
//! stars, such as blended and variable ones, lie farther off, but within a fraction of a pixel. Their weight
//! falls with Cauchy's tail, so that they constrain the model where there are no better stars. All other
//! matches are excluded. Excluding and including is repeated until nothing changes. A frame is rejected when
//! most of its matches are excluded.

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

/// Form of the camera model to fit. The [module](self) lists the free parameters of each form.
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

/// Options of a calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Form of the model.
    pub model: Model,
    /// Matches with a residual above this many standard deviations lose weight, or are excluded.
    pub sigma_clip: f64,
    /// Maximum number of steps in total.
    pub max_iterations: usize,
    /// Focal length to start from, in pixels; by default the median of the frames' focal lengths.
    pub focal_length_px: Option<f64>,
    /// Projection of the model; by default that of the frames.
    pub projection: Option<Projection>,
    /// Standard deviation of the residuals per axis, if it is known: in pixels, or, if all frames have
    /// covariances, in units of these. By default it is estimated from median residuals, and may differ over
    /// the detector.
    pub noise: Option<f64>,
    /// Whether to compute the residuals of held-out stars too ([`CalibrationResult::held_out`]).
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
/// `places` gives the displacement of the stars in each frame; by default it is that with which they were
/// matched. `start` is a calibration of the same frames. If it is given, the whole model is fitted from there
/// at once, rather than from a pinhole.
///
/// Returns [`Error::Undetermined`](crate::Error::Undetermined) when too few stars remain for the model, or
/// when the distortion folds over within the image.
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

/// The matched stars from which a frame was prepared, with the number of each detector.
type Given<'a> = Vec<(usize, &'a MatchedStars)>;

/// Fits the optics to prepared frames.
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
