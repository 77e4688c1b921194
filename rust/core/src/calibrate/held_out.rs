//! Measures how well a calibration predicts held-out stars and frames.
//!
//! The intrinsics are fitted again without each part (fold) of the data, with the weights that the matches
//! have in the fit to all data. The result is so close to that fit that one step from it is enough. The
//! equations of this step are sums over the folds that are kept, so one pass through the data serves all
//! folds.

use std::ops::Range;

use rayon::prelude::*;

use super::fit::{State, Weights, rotation};
use super::fitter::{Fitter, Matches};
use super::frame::Frame;
use super::optics::Optics;
use super::parameters::Parameters;
use crate::geometry::attitude::Attitude;
use crate::geometry::residual::ATTITUDE;
use crate::lsq::groups::{GroupEquations, in_chunks};
use crate::lsq::{NormalEquations, RobustFit};

/// Number of parts (folds) that are held out in turn. More folds approximate a fit to all data better, but
/// take longer.
const FOLDS: usize = 5;
/// Minimum number of frames to hold out whole frames. With fewer frames, only stars are held out.
const MIN_FRAMES: usize = 3;

/// Length in pixels of the residual of every star of every frame when it is held out; NaN for unused stars.
///
/// The intrinsics come from the other frames, or, with fewer than [`MIN_FRAMES`] frames, from the other
/// stars. The attitude comes from the frame's other stars.
pub(super) fn residuals(fitter: &Fitter<'_>) -> Vec<Vec<f64>> {
    let Matches { frames: all, rejections, .. } = &fitter.problem;
    let active = (0..all.len()).filter(|&i| rejections[i].is_none());
    let frames: Vec<Folded<'_>> =
        active.enumerate().map(|(k, i)| Folded::new(fitter, i, k % FOLDS)).collect();
    let whole = frames.len() >= MIN_FRAMES;
    let optics = optics(fitter, &frames, whole);
    let predict = |frame: &Folded<'_>| -> Vec<(usize, f64)> {
        if whole {
            return frame.predict(&optics[frame.fold], 0..FOLDS);
        }
        (0..FOLDS).flat_map(|fold| frame.predict(&optics[fold], fold..fold + 1)).collect()
    };
    let found: Vec<_> = frames.par_iter().map(predict).collect();
    let mut lengths: Vec<Vec<f64>> = all.iter().map(|f| vec![f64::NAN; f.pixels.len()]).collect();
    for (frame, found) in frames.iter().zip(found) {
        for (star, length) in found {
            lengths[frame.index][star] = length;
        }
    }
    lengths
}

/// The optics fitted without each of the folds.
fn optics(fitter: &Fitter<'_>, frames: &[Folded<'_>], whole: bool) -> Vec<Optics> {
    let parameters = &fitter.problem.parameters;
    let empty = || vec![NormalEquations::new(parameters.len()); FOLDS];
    let chunks = in_chunks(frames, |chunk| {
        let mut sums = empty();
        for frame in chunk {
            frame.add_to_others(&mut sums, whole);
        }
        sums
    });
    let mut total = empty();
    for (sum, part) in chunks.iter().flat_map(|sums| sums.iter().enumerate()) {
        total[sum].merge(part);
    }
    let optics = &fitter.state.shared;
    let stepped = |sum: &NormalEquations| parameters.stepped_optics(optics, &sum.solve(0.0));
    total.iter().map(|sum| stepped(sum).unwrap_or_else(|| optics.clone())).collect()
}

/// A frame and its fold, with the fold of each of its stars.
struct Folded<'a> {
    problem: &'a Matches<'a>,
    state: &'a State,
    index: usize,
    fold: usize,
    /// The fold of each star; [`FOLDS`] for stars with weight zero.
    folds: Vec<usize>,
}

impl<'a> Folded<'a> {
    fn new(fitter: &'a Fitter<'_>, index: usize, fold: usize) -> Self {
        let mut next = index;
        let fold_of = |&weight: &f64| {
            if weight == 0.0 {
                return FOLDS;
            }
            next += 1;
            (next - 1) % FOLDS
        };
        let RobustFit { problem, state, .. } = fitter;
        let folds = problem.weights[index].stars.iter().map(fold_of).collect();
        Self { problem, state, index, fold, folds }
    }

    fn frame(&self) -> &Frame {
        &self.problem.frames[self.index]
    }

    /// Normal equations of the stars of each fold, for some parameters followed by the attitude.
    fn equations(
        &self,
        parameters: &Parameters,
        optics: &Optics,
        attitude: &Attitude,
    ) -> Vec<GroupEquations> {
        let Weights { stars, metrics } = &self.problem.weights[self.index];
        let mut weights = Weights { stars: Vec::new(), metrics: metrics.clone() };
        let mut of_fold = |wanted: usize| {
            let kept = |(&weight, &fold): (&f64, &usize)| if fold == wanted { weight } else { 0.0 };
            weights.stars = stars.iter().zip(&self.folds).map(kept).collect();
            self.frame().linearize(parameters, optics, attitude, &weights)
        };
        (0..FOLDS).map(&mut of_fold).collect()
    }

    /// Adds this frame's equations for the intrinsics to the sum of each fold, without the stars held out
    /// there.
    fn add_to_others(&self, sums: &mut [NormalEquations], whole: bool) {
        let Self { problem, state, .. } = self;
        let folds = self.equations(&problem.parameters, &state.shared, &state.own[self.index]);
        for (out, sum) in sums.iter_mut().enumerate() {
            if whole && out == self.fold {
                continue;
            }
            // A frame whose other stars do not determine its attitude contributes nothing.
            let _ = merged(&folds, (!whole).then_some(out)).eliminate_into(sum, ATTITUDE);
        }
    }

    /// Residual lengths of the stars of the folds `left_out` with given optics. For each fold, the attitude
    /// is fitted to the stars outside it.
    fn predict(&self, optics: &Optics, left_out: Range<usize>) -> Vec<(usize, f64)> {
        let step = |folds: &[GroupEquations], out| rotation(&merged(folds, out).equations);
        let fitted = |attitude: &Attitude| self.equations(&Parameters::none(), optics, attitude);
        let start = &self.state.own[self.index];
        let Some(near) = step(&fitted(start), None).map(|rotation| start.rotated(&rotation)) else {
            return Vec::new();
        };
        let folds = fitted(&near);
        let mut found = Vec::new();
        for out in left_out {
            let Some(attitude) = step(&folds, Some(out)).map(|rotation| near.rotated(&rotation)) else {
                continue;
            };
            found.extend(self.frame().distances(optics, &attitude, |star| self.folds[star] == out));
        }
        found
    }
}

/// The sum over the folds, excluding one of them if `without` is given.
fn merged(folds: &[GroupEquations], without: Option<usize>) -> GroupEquations {
    let mut sum = NormalEquations::new(folds[0].equations.parameters());
    for (_, fold) in folds.iter().enumerate().filter(|(fold, _)| Some(*fold) != without) {
        sum.merge(&fold.equations);
    }
    GroupEquations { equations: sum, shared: folds[0].shared.clone() }
}
