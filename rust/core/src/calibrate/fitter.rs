//! The robust joint fit: weights the matches, and fits growing sets of parameters.

use rayon::prelude::*;

use super::fit::{JointFit, State, Weights};
use super::frame::{Frame, FrameResiduals};
use super::optics::Optics;
use super::parameters::Parameters;
use super::scale::{Cells, SMALLEST_SCALE, Scales, Spread};
use super::{Options, Rejection};
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::lsq::groups::Reduced;
use crate::lsq::robust::clipped_weight;
use crate::lsq::{self, Problem, Robust, RobustFit, RobustOptions, System, Weighed, Weighting};
use crate::monitor::{Monitor, checkpoint};

/// Minimum number of matched stars of a frame. Fewer matches cannot be verified.
const MIN_STARS: usize = 4;
/// Minimum fraction of its matches that a frame must keep. A frame that keeps fewer is rejected.
const MIN_INLIER_FRACTION: f64 = 0.5;
/// Smallest decrease of chi-square by which a free optical centre is significant. Chance gives a decrease of
/// 2 on average, and of this value once in 10⁵.
const SIGNIFICANT_GAIN: f64 = 25.0;
/// Matches with a residual below this are never excluded, px. Unseen neighbours and catalogue errors move a
/// correctly identified star by up to this distance; wrong matches are rarely so close.
const MAX_DISPLACEMENT_PX: f64 = 0.3;

/// The matches of all frames, and their weights.
pub(super) struct Matches<'a> {
    pub(super) frames: &'a [Frame],
    pub(super) options: Options,
    monitor: &'a dyn Monitor,
    /// Parameters that are free at present.
    pub(super) parameters: Parameters,
    cells: Cells,
    pub(super) weights: Vec<Weights>,
    pub(super) rejections: Vec<Option<Rejection>>,
}

/// A joint fit in progress.
pub(super) type Fitter<'a> = RobustFit<Matches<'a>>;

impl<'a> Fitter<'a> {
    /// A fit that starts from some optics and the frames' attitudes.
    pub(super) fn start(
        frames: &'a [Frame],
        optics: Optics,
        attitudes: &[Option<Attitude>],
        options: &Options,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let rejection = |(frame, attitude): (&Frame, &Option<Attitude>)| {
            let stars = frame.pixels.len();
            (stars < MIN_STARS || attitude.is_none()).then_some(Rejection::TooFewStars { stars })
        };
        let problem = Matches {
            frames,
            options: *options,
            monitor,
            parameters: Parameters::none(),
            cells: Cells::new(frames, &optics.rig, optics.camera.image_size()),
            weights: Vec::new(),
            rejections: frames.iter().zip(attitudes).map(rejection).collect(),
        };
        let nowhere = Attitude::from_pointing(0.0, 0.0, 0.0);
        let state = State {
            shared: optics,
            // Frames without an attitude are rejected above, and their attitude is never used.
            own: attitudes.iter().map(|a| a.unwrap_or(nowhere)).collect(),
        };
        let max_iterations = options.max_iterations;
        let options =
            RobustOptions { smallest_scale: SMALLEST_SCALE, max_iterations, ..RobustOptions::default() };
        Self::new(problem, state, options)
    }

    /// Runs the whole fit, through growing sets of parameters; returns the equations at its end.
    pub(super) fn run(&mut self, stages: &[Parameters]) -> Result<Reduced> {
        for parameters in stages {
            self.problem.parameters = parameters.clone();
            self.settle()?;
        }
        self.clip()?;
        Ok(self.problem.problem().linearize(&self.state))
    }

    /// Expected scale of the residuals: the given noise, or 1 if all positions came with errors.
    pub(super) fn known_errors(&self) -> Option<f64> {
        let Matches { frames, options, .. } = &self.problem;
        options.noise.or(frames.iter().all(|frame| frame.whitening.is_some()).then_some(1.0))
    }

    /// Whether this fit explains its stars significantly better than another fit with fewer free parameters.
    pub(super) fn improves_on(&self, system: &Reduced, other: &Fitter<'_>) -> bool {
        let fit = JointFit { parameters: &other.problem.parameters, ..self.problem.problem() };
        let refitted = lsq::minimize(&fit, other.state.clone(), &lsq::Options::default());
        let gain = 2.0 * (refitted.cost - system.cost());
        gain > SIGNIFICANT_GAIN * self.variance(system, 0)
    }

    /// Variance that scales the inverse normal matrix to the covariance: that of a whitened residual.
    pub(super) fn variance(&self, system: &Reduced, frozen: usize) -> f64 {
        let attitudes = 3 * system.groups.iter().flatten().count();
        let Matches { frames, parameters, weights, options, .. } = &self.problem;
        let unknowns = parameters.len() - frozen + attitudes;
        let mut spread = Spread::default();
        for ((frame, attitude), weights) in frames.iter().zip(&self.state.own).zip(weights) {
            spread.add(&frame.spread(&self.state.shared, attitude, weights));
        }
        spread.variance(unknowns, options.sigma_clip)
    }
}

impl Robust for Matches<'_> {
    type State = State;
    type Scales = Scales;
    type Problem<'b>
        = JointFit<'b>
    where
        Self: 'b;
    type Error = Error;

    fn problem(&self) -> JointFit<'_> {
        JointFit { frames: self.frames, weights: &self.weights, parameters: &self.parameters }
    }

    fn known_scales(&self) -> Option<Scales> {
        self.options.noise.map(|noise| self.cells.uniform(noise))
    }

    /// Weights each match by its residual over the scale of its part of the detector. Clipping also uses the
    /// residual in pixels, and rejects frames that lose most of their matches.
    fn weigh(&mut self, state: &State, scales: Option<Scales>, weighting: Weighting) -> Weighed<Scales> {
        let (frames, optics) = (self.frames, &state.shared);
        let misses: Vec<FrameResiduals> = frames
            .par_iter()
            .zip(&state.own)
            .map(|(frame, attitude)| frame.misses(optics, attitude))
            .collect();
        if weighting == Weighting::Clip {
            self.cells.tighten();
        }
        let scales = scales.unwrap_or_else(|| self.cells.scales(&misses, &self.rejections));
        let before = std::mem::take(&mut self.weights);
        let stars = |(i, misses): (usize, FrameResiduals)| {
            let z = |star: usize| misses.lengths[star] / self.cells.at(&scales, i, star);
            let weight = |star: usize| match weighting {
                _ if self.rejections[i].is_some() || !z(star).is_finite() => 0.0,
                Weighting::Loss(loss) => loss.weight(z(star)),
                Weighting::Clip => final_weight(z(star), misses.distances[star], self.options.sigma_clip),
            };
            Weights { stars: (0..misses.lengths.len()).map(weight).collect(), metrics: misses.metrics }
        };
        self.weights = misses.into_iter().enumerate().map(stars).collect();
        if weighting == Weighting::Clip {
            self.reject();
        }
        let changes = before.iter().zip(&self.weights).map(|(before, now)| now.change(before));
        let change = if before.is_empty() { f64::INFINITY } else { changes.fold(0.0, f64::max) };
        Weighed { overall: scales.overall, scales, change }
    }

    fn check(&mut self, iterations: usize) -> Result<()> {
        checkpoint(self.monitor)?;
        self.monitor.progress(iterations as f64 / self.options.max_iterations as f64);
        let inliers: usize = self.weights.iter().map(Weights::inliers).sum();
        let active = self.rejections.iter().filter(|r| r.is_none()).count();
        let unknowns = self.parameters.len() + 3 * active;
        if 2 * inliers <= unknowns {
            return Err(Error::Undetermined(format!(
                "{inliers} stars in {active} frames do not determine {unknowns} parameters; \
                 give more frames or stars, or a lower order"
            )));
        }
        Ok(())
    }
}

impl Matches<'_> {
    /// Rejects frames that lost most of their matches.
    fn reject(&mut self) {
        for (weights, rejection) in self.weights.iter_mut().zip(&mut self.rejections) {
            let (inliers, stars) = (weights.inliers(), weights.stars.len());
            let poor = inliers < MIN_STARS || (inliers as f64) < MIN_INLIER_FRACTION * stars as f64;
            if rejection.is_none() && poor {
                *rejection = Some(Rejection::PoorFit { inliers, stars });
                weights.stars.fill(0.0);
            }
        }
    }
}

/// Weight of a match when clipping, by its residual over the scale and its residual in pixels.
fn final_weight(z: f64, distance: f64, sigma_clip: f64) -> f64 {
    let right = z <= sigma_clip || distance <= MAX_DISPLACEMENT_PX;
    if right { clipped_weight(z, sigma_clip) } else { 0.0 }
}
