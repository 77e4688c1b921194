//! How well a calibration foretells stars and frames that it was not fitted to.
//!
//! The intrinsics are fitted once more without each part of the data, with the weights that the matches have in the fit
//! to all of it, and from where that ended: a step or two suffice.

use rayon::prelude::*;

use super::Fitter;
use super::fit::{JointFit, State, Weights};
use crate::attitude::Attitude;
use crate::camera::CameraModel;
use crate::lsq;

/// Parts that are left out in turn: more come closer to what all data would do, and take longer.
const FOLDS: usize = 5;
/// From so many frames on, whole frames are left out; of fewer, stars only.
const MIN_FRAMES: usize = 3;
/// Steps of the fit without a part: it starts very near to where it ends.
const STEPS: usize = 2;
/// Steps of the attitude of a frame that was left out.
const ATTITUDE_STEPS: usize = 3;

/// Length in pixels of the residual of every star of every frame when it is left out; NaN for stars that do not count.
///
/// The intrinsics come from other frames, or, where there are fewer than [`MIN_FRAMES`], from other stars; the attitude
/// from the frame's other stars.
pub(super) fn residuals(fitter: &Fitter<'_>) -> Vec<Vec<f64>> {
    let parts = parts(fitter);
    let active: Vec<usize> = (0..parts.len()).filter(|&i| fitter.rejections[i].is_none()).collect();
    let whole = active.len() >= MIN_FRAMES;
    let mut lengths: Vec<Vec<f64>> = parts.iter().map(|part| vec![f64::NAN; part.len()]).collect();
    for fold in 0..FOLDS {
        let frames: Vec<usize> =
            active.iter().enumerate().filter(|(k, _)| !whole || k % FOLDS == fold).map(|(_, &i)| i).collect();
        if frames.is_empty() {
            continue;
        }
        let mut weights = fitter.weights.clone();
        for &i in &frames {
            weights[i] = without(&weights[i], |star| whole || parts[i][star] == fold);
        }
        let camera = refitted(fitter, &weights);
        let left_out = if whole { 0..FOLDS } else { fold..fold + 1 };
        let found: Vec<Vec<(usize, f64)>> = frames
            .par_iter()
            .map(|&i| {
                left_out.clone().flat_map(|part| predict(fitter, &camera, i, &parts[i], part)).collect()
            })
            .collect();
        for (&i, found) in frames.iter().zip(found) {
            for (star, length) in found {
                lengths[i][star] = length;
            }
        }
    }
    lengths
}

/// The part to which each star belongs; [`FOLDS`] for stars that do not count.
fn parts(fitter: &Fitter<'_>) -> Vec<Vec<usize>> {
    let frame = |(i, weights): (usize, &Weights)| {
        let mut next = i;
        let part = |&weight: &f64| {
            if weight == 0.0 {
                return FOLDS;
            }
            next += 1;
            (next - 1) % FOLDS
        };
        weights.stars.iter().map(part).collect()
    };
    fitter.weights.iter().enumerate().map(frame).collect()
}

/// The weights without some stars.
fn without(weights: &Weights, out: impl Fn(usize) -> bool) -> Weights {
    let kept = |(star, &weight): (usize, &f64)| if out(star) { 0.0 } else { weight };
    Weights { stars: weights.stars.iter().enumerate().map(kept).collect(), metrics: weights.metrics.clone() }
}

/// The camera that fits at these weights.
fn refitted(fitter: &Fitter<'_>, weights: &[Weights]) -> CameraModel {
    let fit = JointFit { frames: fitter.frames, weights, parameters: &fitter.parameters };
    let start: State = fitter.state.clone();
    lsq::minimize(&fit, start, &lsq::Options { max_iterations: STEPS, ..lsq::Options::default() })
        .state
        .camera
}

/// Residual lengths of the stars of one part of a frame, its attitude fitted to the others.
fn predict(
    fitter: &Fitter<'_>,
    camera: &CameraModel,
    i: usize,
    parts: &[usize],
    left_out: usize,
) -> Vec<(usize, f64)> {
    let frame = &fitter.frames[i];
    let kept = without(&fitter.weights[i], |star| parts[star] == left_out);
    let mut attitude: Attitude = fitter.state.attitudes[i];
    for _ in 0..ATTITUDE_STEPS {
        let Some(step) = frame.attitude_step(camera, &attitude, &kept) else {
            return Vec::new();
        };
        attitude = attitude.rotated(&step);
    }
    let distances = frame.distances(camera, &attitude).into_iter().enumerate();
    distances.filter(|(star, _)| parts[*star] == left_out).collect()
}
