//! Fit of a scene in stages.

use nalgebra::DVector;

use super::clusters;
use super::extent::{Extent, LARGEST_HALF, Lights};
use super::freedom::Freedom;
use super::galaxy::PARAMETERS_OF_GALAXY;
use super::layout::{Layout, State};
use super::problem::{Fit, Latest};
use super::profile::{Accuracy, PARAMETERS};
use super::region::Window;
use super::stage::Stage;
use super::summary::summary;
pub use super::summary::{Fitted, Status, Step};
use super::{MOTION, Scene, search};
use crate::error::{Error, Result};
use crate::lsq::arrow::Arrow;
use crate::lsq::{self, Loss, Problem, minimize_watched};
use crate::monitor::{Monitor, checkpoint};

/// Radii of the PSF that are tried at the start, relative to the given one. Wider radii are tried while the
/// fit improves.
const WIDER: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Narrower radii of the PSF, relative to the given one, that are tried while the fit improves.
const NARROWER: [f64; 4] = [0.5, 0.25, 0.125, 0.0625];
/// Smallest half side of windows and light at the start, in pixels.
const START_HALF: f64 = 12.0;
/// Resolution of the last stage. It ends when a step is expected to lower half of chi² by less than the
/// square of this value for every source and for the shared parameters.
const RESOLUTION: f64 = 1e-2;
/// Resolution of the stages before the last.
const ROUGH_RESOLUTION: f64 = 0.3;
/// Damping after a step without improvement. Sources are always damped, by at least a tenth of this value.
const FIRST_DAMPING: f64 = 1e-2;
/// Maximum number of rounds in which the few sources that do not converge with all others are fitted
/// separately.
const ROUNDS: usize = 3;
/// Decrease of half of the total chi² below which these rounds end.
const SETTLED: f64 = 2e-3;

/// Options of [`fit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Loss of the residuals in units of their noise.
    pub loss: Loss,
    /// Maximum number of steps of a stage.
    pub max_iterations: usize,
    /// Whether sources are fitted first, then the images with a free WCS, then everything. Otherwise
    /// everything is fitted at once from the starting values.
    pub staged: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { loss: Loss::Squares, max_iterations: 100, staged: true }
    }
}

/// Fits all images of a scene.
///
/// # Errors
/// [`Error::Undetermined`] if no good pixel is left to fit, [`Error::Interrupted`].
pub fn fit(scene: &Scene<'_>, options: &FitOptions, monitor: &dyn Monitor) -> Result<Fitted> {
    let layout = Layout::new(scene);
    let mut run = Run {
        scene,
        layout: &layout,
        options,
        monitor,
        history: Vec::new(),
        held: held(scene, &layout),
        lights: Lights::new(scene, &layout),
    };
    let reference = run.hold_reference();
    run.hold_chromatic();
    let mut state = DVector::from_vec(layout.start(scene));
    run.begin(&mut state)?;
    let free = run.free_images();
    if options.staged && free.iter().any(|f| *f) {
        run.sources_first(&free, &mut state)?;
    }
    run.finish(state, reference)
}

/// Indices of held parameters: those of PSFs and shapes that are not free, and known positions and motions.
fn held(scene: &Scene<'_>, layout: &Layout) -> Vec<usize> {
    let psf = |(psf, &at): (&super::Psf, &usize)| -> Vec<usize> {
        (0..PARAMETERS).filter(|&k| !psf.free[k]).map(|k| at + k).collect()
    };
    let mut held: Vec<usize> = scene.psfs.iter().zip(&layout.psfs).flat_map(psf).collect();
    for (source, &at) in scene.sources.iter().zip(&layout.sources) {
        if source.prior.is_some_and(|sigma| sigma.contains(&0.0)) {
            held.extend([at, at + 1]);
        }
    }
    for (source, at) in scene.sources.iter().zip(&layout.motions) {
        if let (Some(sigma), Some(at)) = (source.motion, *at) {
            held.extend((0..MOTION).filter(|&k| sigma[k] == 0.0).map(|k| at + k));
        }
    }
    for (source, at) in scene.sources.iter().zip(&layout.shapes) {
        if let (Some(shape), Some(at)) = (source.shape, *at) {
            held.extend((0..PARAMETERS_OF_GALAXY).filter(|&k| !shape.free[k]).map(|k| at + k));
        }
    }
    held
}

struct Run<'a> {
    scene: &'a Scene<'a>,
    layout: &'a Layout,
    options: &'a FitOptions,
    monitor: &'a dyn Monitor,
    history: Vec<Step>,
    held: Vec<usize>,
    lights: Lights<'a>,
}

impl Run<'_> {
    fn free_images(&self) -> Vec<bool> {
        let free = |(image, &at): (&super::SceneImage<'_>, &usize)| {
            image.freedom != Freedom::Fixed && !self.held.contains(&at)
        };
        self.scene.images.iter().zip(&self.layout.wcs).map(free).collect()
    }

    fn wcs_of(&self, image: usize) -> std::ops::Range<usize> {
        let at = self.layout.wcs[image];
        at..at + self.scene.images[image].freedom.parameters()
    }

    /// Holds the first image if all images are free and no position is known: the images then determine only
    /// their relative positions.
    fn hold_reference(&mut self) -> Option<usize> {
        let known = self.scene.sources.iter().any(|source| source.prior.is_some());
        let all_free = self.scene.images.iter().all(|image| image.freedom != Freedom::Fixed);
        if known || !all_free {
            return None;
        }
        self.held.extend(self.wcs_of(0));
        Some(0)
    }

    /// Holds the first image's shift by colour if all images have such a shift and no position is known.
    fn hold_chromatic(&mut self) {
        let known = self.scene.sources.iter().any(|source| source.prior.is_some());
        if !known && self.layout.chromatic.iter().all(Option::is_some) {
            self.held.extend(self.layout.chromatic[0].into_iter().flat_map(|at| [at, at + 1]));
        }
    }

    fn stage(&self, state: &State, takes_part: &[bool]) -> Stage<'_> {
        let extent = |image: usize, source: usize| self.lights.extent(state.as_slice(), image, source);
        let mut stage = Stage::new(self.scene, self.layout, state.as_slice(), &extent, takes_part);
        stage.hold(self.held.iter().copied());
        stage
    }

    /// Fits fluxes, skies and the width of the PSF with all positions held, then finds the positions of free
    /// images.
    fn begin(&mut self, state: &mut State) -> Result<()> {
        let all = vec![true; self.scene.images.len()];
        let widest = self.scene.psfs.iter().map(|psf| 3.0 * psf.profile.fwhm()).fold(START_HALF, f64::max);
        let start = state.clone();
        let extent = |image: usize, source: usize| {
            let half = widest.max(self.lights.radius(start.as_slice(), image, source)).min(LARGEST_HALF);
            Extent { window: half, light: half, accuracy: Accuracy::COARSEST }
        };
        let mut stage = Stage::new(self.scene, self.layout, state.as_slice(), &extent, &all);
        if stage.fields.iter().all(|field| field.stamps.is_empty()) {
            return Err(Error::Undetermined(
                "sources: none has a good pixel in any image; check positions, WCS, windows and masks".into(),
            ));
        }
        (0..self.layout.sources.len()).for_each(|source| stage.hold(self.layout.place_and_shape(source)));
        stage.hold(self.layout.psfs[0]..self.layout.skies[0]);
        stage.hold(self.layout.chromatic.iter().flatten().flat_map(|&at| [at, at + 1]));
        let fit = Fit::new(&stage, self.options.loss);
        let mut best: Vec<(f64, State)> = Vec::new();
        let mut better = true;
        let any_free = self.scene.psfs.iter().any(|psf| psf.free[0]);
        for factor in WIDER.into_iter().chain(NARROWER) {
            checkpoint(self.monitor)?;
            let first = [WIDER[0], NARROWER[0]].contains(&factor);
            if !(better || first) || (!any_free && factor != 1.0) {
                continue;
            }
            let mut tried = state.clone();
            for (psf, &at) in self.scene.psfs.iter().zip(&self.layout.psfs).filter(|(psf, _)| psf.free[0]) {
                tried[at] = psf.profile.parameters[0] + factor.ln();
            }
            let arrow = fit.arrow(&tried);
            let step = lsq::System::solve(&arrow, 0.0);
            tried += &step;
            // Fluxes are linear, so the decrease of the cost is known.
            let costs = match self.options.loss {
                Loss::Squares => self.promised_costs(&arrow, &step),
                _ => fit.arrow(&tried).costs,
            };
            let costs = self.psf_costs(&costs);
            if best.is_empty() {
                best = costs.iter().map(|cost| (*cost, tried.clone())).collect();
            }
            better = factor == 1.0;
            for (best, cost) in best.iter_mut().zip(costs) {
                if cost < best.0 {
                    *best = (cost, tried.clone());
                    better = true;
                }
            }
        }
        for (psf, (_, found)) in best.iter().enumerate() {
            self.take(psf, found, state);
        }
        self.find_free(state);
        Ok(())
    }

    /// Expected cost of each image after a step of its fluxes and sky, which it shares with no other image.
    fn promised_costs(&self, arrow: &Arrow, step: &State) -> Vec<f64> {
        let slope = |at: usize| arrow.gradient[at] * step[at];
        let promised = |(image, cost): (usize, &f64)| {
            let sky =
                self.layout.skies[image]..self.layout.skies[image] + self.scene.images[image].sky.terms();
            let fluxes = self.layout.fluxes[image].iter().flatten().copied();
            cost + 0.5 * fluxes.chain(sky).map(slope).sum::<f64>()
        };
        arrow.costs.iter().enumerate().map(promised).collect()
    }

    /// Cost for each PSF: the sum over the images that have this PSF.
    fn psf_costs(&self, of_images: &[f64]) -> Vec<f64> {
        let mut costs = vec![0.0; self.scene.psfs.len()];
        for (image, cost) in self.scene.images.iter().zip(of_images) {
            costs[image.psf] += cost;
        }
        costs
    }

    /// Copies a PSF, and the fluxes and skies of the images with this PSF, from another state.
    fn take(&self, psf: usize, from: &State, to: &mut State) {
        let at = self.layout.psfs[psf];
        to.rows_mut(at, PARAMETERS).copy_from(&from.rows(at, PARAMETERS));
        for (image, of) in self.scene.images.iter().enumerate().filter(|(_, of)| of.psf == psf) {
            for at in self.layout.fluxes[image].iter().flatten() {
                to[*at] = from[*at];
            }
            let at = self.layout.skies[image];
            to.rows_mut(at, of.sky.terms()).copy_from(&from.rows(at, of.sky.terms()));
        }
    }

    /// Moves free images to the positions of the light.
    fn find_free(&self, state: &mut State) {
        let brightness: Vec<f64> = (0..self.scene.sources.len())
            .map(|source| {
                let fluxes = self.layout.fluxes.iter().filter_map(|fluxes| fluxes[source]);
                fluxes.map(|at| state[at]).fold(0.0, f64::max)
            })
            .collect();
        for (image, free) in self.free_images().into_iter().enumerate() {
            if free {
                let psf = self.scene.images[image].psf;
                let width = self.layout.profile(self.scene, psf, state.as_slice()).fwhm();
                search::place(self.scene, self.layout, image, &brightness, width, state.as_mut_slice());
            }
        }
    }

    /// Fits the sources on the fixed images, then the free images with these sources held.
    fn sources_first(&mut self, free: &[bool], state: &mut State) -> Result<()> {
        let fixed: Vec<bool> = free.iter().map(|f| !f).collect();
        let mut history = Vec::new();
        if fixed.iter().any(|f| *f) {
            let stage = self.stage(state, &fixed);
            if stage.pixels() > 0 {
                let ended = self.minimize(0, &stage, state, ROUGH_RESOLUTION)?;
                history.extend(ended.history);
                *state = ended.state;
            }
        }
        let mut stage = self.stage(state, free);
        (0..self.layout.sources.len()).for_each(|source| stage.hold(self.layout.place_and_shape(source)));
        if stage.pixels() > 0 {
            let ended = self.minimize(1, &stage, state, ROUGH_RESOLUTION)?;
            history.extend(ended.history);
            *state = ended.state;
        }
        self.history.extend(history);
        Ok(())
    }

    /// Minimizes a stage: everything together, in turn with the few sources that do not converge.
    fn minimize(&self, number: usize, stage: &Stage<'_>, state: &State, resolution: f64) -> Result<StageFit> {
        let free = stage.held.iter().filter(|held| !**held).count();
        let dof = (stage.pixels() as f64 - free as f64).max(1.0);
        let mut ended = StageFit::at(number, dof, state);
        let mut fit = Fit::new(stage, self.options.loss);
        let together = lsq::Options {
            max_iterations: self.options.max_iterations,
            resolution,
            first_damping: FIRST_DAMPING,
            shorten: true,
            ..Default::default()
        };
        let until_few = lsq::Options { separate_fraction: clusters::MAX_UNCONVERGED, ..together };
        // Whether all other sources have converged while the separately fitted sources are held.
        let mut at_rest = false;
        for round in 1.. {
            self.steps(&fit, &until_few, &mut ended)?;
            if ended.tried >= together.max_iterations || !ended.cost.is_finite() {
                break;
            }
            let Some(unconverged) = clusters::not_converged(&fit, &ended.state, &together) else {
                if !ended.converged {
                    self.steps(&fit, &together, &mut ended)?;
                }
                break;
            };
            if resolution > RESOLUTION {
                break;
            }
            let before = ended.state.clone();
            let extent = |image: usize, source: usize| self.lights.extent(before.as_slice(), image, source);
            let settled = clusters::settle(&fit, &before, unconverged, &extent, &together);
            let gain = ended.cost - settled.cost;
            if gain > 0.0 {
                (ended.state, ended.cost) = (settled.state, settled.cost);
            }
            if (at_rest || ended.converged) && gain <= SETTLED {
                ended.converged = true;
                break;
            }
            fit.hold(&settled.sources);
            let last = round == ROUNDS;
            let steps = if last { together.max_iterations } else { 1 };
            self.steps(&fit, &lsq::Options { max_iterations: steps, ..together }, &mut ended)?;
            fit.hold(&[]);
            if last {
                break;
            }
            at_rest = ended.converged;
        }
        ended.latest = fit.into_latest();
        Ok(ended)
    }

    /// Takes steps of all free parameters, up to the number of steps that is left.
    fn steps(&self, fit: &Fit<'_>, options: &lsq::Options, ended: &mut StageFit) -> Result<()> {
        let most = self.options.max_iterations;
        let max_iterations = options.max_iterations.min(most.saturating_sub(ended.tried));
        if max_iterations == 0 {
            return Ok(());
        }
        let (start, tried) = (ended.state.clone(), ended.tried);
        let outcome = minimize_watched(fit, start, &lsq::Options { max_iterations, ..*options }, |now| {
            let iteration = tried + now.steps;
            let part = iteration as f64 / most.max(1) as f64;
            self.monitor.progress((ended.stage as f64 + part.min(1.0)) / 3.0);
            ended.history.push(Step {
                stage: ended.stage,
                iteration,
                chi2_dof: 2.0 * now.cost / ended.dof,
                damping: now.damping,
            });
            checkpoint(self.monitor)
        })?;
        ended.tried += outcome.iterations;
        (ended.state, ended.cost, ended.converged) = (outcome.state, outcome.cost, outcome.converged);
        Ok(())
    }

    fn finish(mut self, state: State, reference: Option<usize>) -> Result<Fitted> {
        let all = vec![true; self.scene.images.len()];
        let mut state = state;
        if self.options.staged {
            // A rough fit first, so that windows and light are based on fitted parameters.
            let stage = self.stage(&state, &all);
            let rough = self.minimize(2, &stage, &state, ROUGH_RESOLUTION)?;
            self.history.extend(rough.history);
            state = rough.state;
        }
        let stage = self.stage(&state, &all);
        let ended = self.minimize(2, &stage, &state, RESOLUTION)?;
        let mut history = self.history.clone();
        history.extend(ended.history);
        let arrow = Fit::after(&stage, self.options.loss, ended.latest).linearize(&ended.state);
        let status = match (ended.cost.is_finite(), ended.converged) {
            (false, _) => Status::Failed,
            (true, true) => Status::Converged,
            (true, false) => Status::Stalled,
        };
        Ok(summary(&stage, &arrow, (ended.state, status), history, reference))
    }
}

/// State of the minimization of a stage.
struct StageFit {
    stage: usize,
    /// Degrees of freedom.
    dof: f64,
    state: State,
    cost: f64,
    converged: bool,
    /// Number of steps tried.
    tried: usize,
    history: Vec<Step>,
    /// Normal equations at the state, if they are known.
    latest: Latest,
}

impl StageFit {
    fn at(stage: usize, dof: f64, state: &State) -> Self {
        let (state, history, latest) = (state.clone(), Vec::new(), Latest::new());
        Self { stage, dof, state, cost: 0.0, converged: false, tried: 0, history, latest }
    }
}

/// Model of an image at a fitted state: sky and light of its sources, over the whole image.
pub fn model(scene: &Scene<'_>, fitted: &Fitted, image: usize) -> Vec<f64> {
    let of = &scene.images[image];
    let [width, height] = of.size;
    let state = DVector::from_vec(fitted.state.clone());
    let everywhere = vec![1.0; width * height];
    let whole = super::SceneImage {
        variance: &everywhere,
        data: &everywhere,
        windows: super::Windows::One(Window { x0: 0, x1: width, y0: 0, y1: height }),
        ..of.clone()
    };
    let mut images = scene.images.clone();
    images[image] = whole;
    let whole = Scene { images, psfs: scene.psfs.clone(), sources: scene.sources.clone() };
    let lights = Lights::new(scene, &fitted.layout);
    let extent = |k: usize, source: usize| lights.whole(&fitted.state, k, source);
    let takes_part: Vec<bool> = (0..scene.images.len()).map(|k| k == image).collect();
    let stage = Stage::new(&whole, &fitted.layout, &fitted.state, &extent, &takes_part);
    stage.fields[image].model(&Fit::new(&stage, Loss::Squares), image, &state)
}
