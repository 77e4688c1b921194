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
//! What is kept so, and what the data cannot tell from the rest, is zero and named in [`CalibrationResult::frozen`].
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
mod fit;
mod frame;
mod given;
mod held_out;
mod moments;
mod parameters;
mod result;
mod scale;
mod start;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::projection::Projection;
use crate::lsq::robust::clipped_weight;
use crate::lsq::{self, Loss, Problem};
use crate::matches::MatchedStars;
use crate::monitor::{Monitor, checkpoint};
use fit::{JointFit, State, System, Weights};
use frame::{Frame, Misses};
use given::{check, prepare_all};
use parameters::Parameters;
use scale::{Cells, SMALLEST_SCALE, Scales};

pub use block::{CalibrationBlock, Reduction};
pub use result::{CalibrationResult, FrameFit, Rejection, model_covariance};
pub use scale::Spread;

/// A frame with fewer matched stars tells nothing that can be checked.
const MIN_STARS: usize = 4;
/// A frame that keeps less than this fraction of its matches does not fit.
const MIN_INLIER_FRACTION: f64 = 0.5;
/// Reweightings per stage at most, and the steps between two.
const MAX_REWEIGHTS: usize = 12;
const STEPS_PER_WEIGHTING: usize = 1;
/// What a free optical centre has to lower chi-square by; chance does so by 2 on average, and by this once in 10⁵.
const SIGNIFICANT_GAIN: f64 = 25.0;
/// A stage ends when the scale of the residuals changes by less than this fraction.
const SCALE_TOLERANCE: f64 = 0.02;
/// Rounds of clipping at most; the sets of inliers settle in two or three, their weights in ten or twenty.
const MAX_CLIPS: usize = 60;
/// Rounds in which the scales may change; later they stay, so that two sets cannot take turns for ever.
const SCALING_ROUNDS: usize = 6;
/// Weights that change by less than this between two rounds have settled.
const WEIGHT_TOLERANCE: f64 = 1e-5;
/// No match closer than this is left out, px: so far do unseen neighbours and catalogue errors move a star that is
/// the right one. Wrong matches rarely come so close.
const MAX_DISPLACEMENT_PX: f64 = 0.3;

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
    /// Start from the frames' attitudes and the first one's camera, with the whole model at once, rather than from a
    /// pinhole. They have to be nearly right.
    pub warm: bool,
    /// Also find the residuals of stars left out in turn ([`CalibrationResult::held_out`]).
    pub held_out: bool,
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
            warm: false,
            held_out: false,
        }
    }
}

/// Fits one camera to the matched stars of many frames.
///
/// `places` tells how the stars of each frame are displaced; without it, as they were when they were matched.
///
/// [`Error::Undetermined`] when too few stars are left for the model, or it folds over within the image.
pub fn calibrate(
    frames: &[&MatchedStars],
    places: Option<&[ApparentPlace]>,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<CalibrationResult> {
    check(frames, options)?;
    let prepared = prepare_all(frames, places)?;
    let (camera, attitudes) = if options.warm {
        start::solved(frames, options.model)?
    } else {
        start::pinhole(frames, &prepared, options)?
    };
    let stages =
        if options.warm { vec![Parameters::of(options.model)] } else { Parameters::stages(options.model) };
    let mut fitter = Fitter::new(&prepared, &camera, &attitudes, options, monitor);
    let mut system = fitter.run(&stages)?;
    if options.model == Model::Radial {
        let stages: Vec<_> = stages.iter().map(Parameters::without_center).collect();
        let mut centred = Fitter::new(&prepared, &camera, &attitudes, options, monitor);
        if let Ok(centred_system) = centred.run(&stages)
            && !fitter.improves_on(&system, &centred)
        {
            (fitter, system) = (centred, centred_system);
        }
    }
    result::summarize(frames, &fitter, &system)
}

/// The fit on its way: where it is, and what every match counts.
struct Fitter<'a> {
    frames: &'a [Frame],
    options: &'a Options,
    monitor: &'a dyn Monitor,
    parameters: Parameters,
    state: State,
    cells: Cells,
    weights: Vec<Weights>,
    rejections: Vec<Option<Rejection>>,
    iterations: usize,
    converged: bool,
}

impl<'a> Fitter<'a> {
    fn new(
        frames: &'a [Frame],
        start: &CameraModel,
        attitudes: &[Option<Attitude>],
        options: &'a Options,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let rejection = |(frame, attitude): (&Frame, &Option<Attitude>)| {
            let stars = frame.pixels.len();
            (stars < MIN_STARS || attitude.is_none()).then_some(Rejection::TooFewStars { stars })
        };
        let nowhere = Attitude::from_pointing(0.0, 0.0, 0.0);
        let state = State {
            camera: start.clone(),
            // Those without are rejected below and never looked at.
            attitudes: attitudes.iter().map(|a| a.unwrap_or(nowhere)).collect(),
        };
        Self {
            frames,
            options,
            monitor,
            parameters: Parameters::of(options.model),
            cells: Cells::new(frames, start.image_size()),
            state,
            weights: Vec::new(),
            rejections: frames.iter().zip(attitudes).map(rejection).collect(),
            iterations: 0,
            converged: false,
        }
    }

    /// The whole fit, through growing sets of parameters.
    fn run(&mut self, stages: &[Parameters]) -> Result<System> {
        for parameters in stages {
            self.parameters = parameters.clone();
            self.settle()?;
        }
        self.clip()
    }

    /// Whether this fit explains its stars significantly better than another with fewer free parameters does.
    fn improves_on(&self, system: &System, other: &Fitter<'_>) -> bool {
        let fit = JointFit { frames: self.frames, weights: &self.weights, parameters: &other.parameters };
        let refitted = lsq::minimize(&fit, other.state.clone(), &lsq::Options::default());
        let gain = 2.0 * (refitted.cost - system.shared.cost());
        gain > SIGNIFICANT_GAIN * self.variance(system, 0)
    }

    /// Variance by which the inverse normal matrix becomes the covariance: that of a whitened residual.
    fn variance(&self, system: &System, frozen: usize) -> f64 {
        let attitudes = 3 * system.frames.iter().flatten().count();
        let unknowns = self.parameters.len() - frozen + attitudes;
        let mut spread = Spread::default();
        for (i, weights) in self.weights.iter().enumerate() {
            spread.add(&self.frames[i].spread(&self.state.camera, &self.state.attitudes[i], weights));
        }
        spread.variance(unknowns, self.options.sigma_clip)
    }

    /// Fits the free parameters with robust weights until the scale of the residuals settles.
    fn settle(&mut self) -> Result<()> {
        let mut previous = f64::INFINITY;
        for _ in 0..MAX_REWEIGHTS {
            let scales = self.weigh(None, |z, _| Loss::GemanMcClure.weight(z));
            self.minimize(STEPS_PER_WEIGHTING)?;
            if (scales.overall / previous - 1.0).abs() < SCALE_TOLERANCE || scales.overall <= SMALLEST_SCALE {
                break;
            }
            previous = scales.overall;
        }
        Ok(())
    }

    /// Fits to the matches within the clipping limits, until neither their set nor their weights change.
    fn clip(&mut self) -> Result<System> {
        let sigma_clip = self.options.sigma_clip;
        let known = self.options.noise.map(|noise| self.cells.uniform(noise));
        let mut scales = known.clone();
        for round in 0..MAX_CLIPS {
            let before = std::mem::take(&mut self.weights);
            let limits = scales.filter(|_| known.is_some() || round >= SCALING_ROUNDS);
            scales = Some(self.weigh(limits, |z, distance| final_weight(z, distance, sigma_clip)));
            self.reject();
            let settled =
                !before.is_empty() && before.iter().zip(&self.weights).all(|(b, now)| b.resembles(now));
            // While the weights still change, more steps than one are wasted.
            let steps = if settled { self.options.max_iterations } else { STEPS_PER_WEIGHTING };
            let converged = self.minimize(steps)?;
            self.converged = settled && converged;
            if settled || self.iterations >= self.options.max_iterations {
                break;
            }
        }
        Ok(self.problem().linearize(&self.state))
    }

    fn problem(&self) -> JointFit<'_> {
        JointFit { frames: self.frames, weights: &self.weights, parameters: &self.parameters }
    }

    /// Takes some steps; true if no more are needed.
    fn minimize(&mut self, steps: usize) -> Result<bool> {
        checkpoint(self.monitor)?;
        let inliers: usize = self.weights.iter().map(Weights::inliers).sum();
        let active = self.rejections.iter().filter(|r| r.is_none()).count();
        let unknowns = self.parameters.len() + 3 * active;
        if 2 * inliers <= unknowns {
            return Err(Error::Undetermined(format!(
                "{inliers} stars in {active} frames do not determine {unknowns} parameters; \
                 give more frames or stars, or a lower order"
            )));
        }
        let left = self.options.max_iterations.saturating_sub(self.iterations);
        let options = lsq::Options { max_iterations: steps.min(left), ..lsq::Options::default() };
        let outcome = lsq::minimize(&self.problem(), self.state.clone(), &options);
        self.state = outcome.state;
        self.iterations += outcome.iterations;
        self.monitor.progress(self.iterations as f64 / self.options.max_iterations as f64);
        Ok(outcome.converged)
    }

    /// Gives every match a weight by its residual over the scale of its neighbourhood and by its distance in pixels;
    /// returns the scales.
    fn weigh(&mut self, scales: Option<Scales>, weight: impl Fn(f64, f64) -> f64) -> Scales {
        let (frames, state) = (self.frames, &self.state);
        let camera = &state.camera;
        let misses: Vec<Misses> = (0..frames.len())
            .into_par_iter()
            .map(|i| frames[i].misses(camera, &state.attitudes[i]))
            .collect();
        let scales = scales.unwrap_or_else(|| self.cells.scales(&misses, &self.rejections));
        let (cells, rejections) = (&self.cells, &self.rejections);
        let stars = |(i, misses): (usize, Misses)| {
            if rejections[i].is_some() {
                return Weights { stars: vec![0.0; misses.lengths.len()], metrics: misses.metrics };
            }
            let both = misses.lengths.iter().zip(&misses.distances).enumerate();
            let weight = |(star, (&length, &distance)): (usize, (&f64, &f64))| {
                let z = length / cells.at(&scales, i, star);
                if z.is_finite() { weight(z, distance) } else { 0.0 }
            };
            Weights { stars: both.map(weight).collect(), metrics: misses.metrics }
        };
        self.weights = misses.into_iter().enumerate().map(stars).collect();
        scales
    }

    /// Takes frames out that lost most of their matches.
    fn reject(&mut self) {
        for (weights, rejection) in self.weights.iter_mut().zip(&mut self.rejections) {
            if rejection.is_none() && is_poor(weights) {
                let (inliers, stars) = (weights.inliers(), weights.stars.len());
                *rejection = Some(Rejection::PoorFit { inliers, stars });
                weights.stars.fill(0.0);
            }
        }
    }
}

/// What a match counts in the end, by its residual over the scale and its distance in pixels.
fn final_weight(z: f64, distance: f64, sigma_clip: f64) -> f64 {
    let right = z <= sigma_clip || distance <= MAX_DISPLACEMENT_PX;
    if right { clipped_weight(z, sigma_clip) } else { 0.0 }
}

/// Whether a frame lost so many matches that it does not fit.
fn is_poor(weights: &Weights) -> bool {
    let inliers = weights.inliers();
    inliers < MIN_STARS || (inliers as f64) < MIN_INLIER_FRACTION * weights.stars.len() as f64
}
