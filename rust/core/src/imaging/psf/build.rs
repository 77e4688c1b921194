//! Measures the point-spread function (PSF) of a frame and the noise of its pixels from the frame's bright
//! stars.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Psf;
use super::correction::Correction;
use super::cutouts::Stamps;
use super::field::{PsfField, PsfKind};
use super::fit::Work;
use super::noise::Noise;
use super::residuals::{Measurement, PositionNoise, Residuals, samples};
use super::smoothing::Smoothing;
use super::source::{Fit, Source};
use crate::error::Result;
use crate::imaging::stamp::{Crop, Layout, is_good};
use crate::monitor::{Monitor, checkpoint};

/// Largest number of stars that measure a uniform PSF.
const MAX_STARS: usize = 200;
/// These stars are taken evenly from this many of the brightest that qualify. They are not simply the
/// brightest: among stars of equal flux, the measured flux is largest where a neighbour is blended.
const CHOSEN_AMONG: usize = 400;
/// Largest number of stars used between four nodes of a varying PSF.
const MAX_STARS_BETWEEN_NODES: usize = 60;
/// Least number of stars that measure a PSF. Fewer measure only its width.
const MIN_STARS: usize = 5;
/// Least signal-to-noise ratio, in background noise, of the stars used where there are [`CHOSEN_AMONG`] of
/// them.
const GOOD_SNR: f32 = 20.0;
/// Least signal-to-noise ratio where there are fewer. Where saturation is not far above the noise, the
/// brighter stars below saturation are all centred between pixels and do not measure the PSF at the centre of
/// a pixel.
const MIN_SNR: f32 = 10.0;
/// A star is excluded if a neighbour has more than this fraction of its flux.
const NEIGHBOUR_FRACTION: f32 = 0.02;
/// A star is excluded if this fraction of its stamp, or more, is bad.
const MAX_BAD: f32 = 0.25;
/// Tolerance, in sigmas of a pixel's noise, of the test that a star's middle is not too sharp.
const SHARPNESS_SIGMAS: f32 = 2.0;
/// Largest RMS light at the rim of a star's stamp, as a fraction of its middle pixel. A peak above it is a
/// glow, or the edge of a cloud, a roof or a mountain. Where such peaks are the majority, they would give a
/// flat PSF.
const RIM_FRACTION: f32 = 0.2;
/// Rounds for a uniform PSF. Each round improves positions, fluxes and the shape.
const ROUNDS: usize = 7;
/// Rounds for a varying PSF.
const VARYING_ROUNDS: usize = 9;
/// Rounds that fit only the stars before a PSF is allowed to vary. Their residuals are the reference for the
/// gain.
const SETTLING_ROUNDS: usize = 2;
/// Rounds of a varying PSF before it may be rejected early.
const TRIAL_ROUNDS: usize = 2;
/// It is rejected early if it leaves this fraction of the reference residuals or more.
const TRIAL_GAIN: f32 = 0.97;
/// It is not rejected early if the mean squared reference residual, in units of the noise, is above this
/// value, because a fit that improves much in the end may first get worse.
const POOR_MISFIT: f32 = 30.0;
/// First round (from 0) after which stars that do not fit are excluded.
const FIRST_CHOOSY_ROUND: usize = 2;
/// Weight of the previous shape in a round, in units of one star's mean weight.
const PRIOR_STARS: f32 = 1.0;
/// Relative error of the PSF that is assumed while it is measured. It limits the weight of the brightest
/// stars.
const BUILDING_ERROR: f32 = 0.01;
/// Relative error that is added to the background noise in the weights of the stars for the shape. Smaller
/// values give the brightest stars more weight. All pixels of a star have the same weight, because weights
/// that vary as steeply as the light slow down the convergence.
const SHAPE_ERROR: f32 = 0.002;
/// Relative error of a Gaussian of the stars' width, used where too few stars measure the PSF.
const ASSUMED_ERROR: f32 = 0.03;
/// Stars are excluded if their mean squared residual exceeds the median by this factor: they are not single
/// stars.
const MISFIT_FACTOR: f32 = 4.0;
/// A PSF is not refined further if its mean squared residual, in units of the noise, is below this value.
const GOOD_MISFIT: f32 = 1.05;
/// A varying PSF must leave less than this fraction of the residuals of the uniform one. The limit is below 1
/// because more parameters reduce residuals by fitting noise, too.
const VARYING_GAIN: f32 = 0.8;
/// A PSF with more nodes must leave less than this fraction of the residuals of the one with [`FIRST_NODES`].
const FINER_GAIN: f32 = 0.95;
/// Mean number of stars between four nodes, from which the number of nodes follows.
const STARS_BETWEEN_NODES: usize = 30;
/// Nodes along an axis in the first varying PSF. Three nodes allow the middle to differ from the edges.
pub(crate) const FIRST_NODES: usize = 3;
/// Largest number of nodes along an axis.
pub(crate) const MAX_NODES: usize = 6;
/// Number of stars per task.
const TASK_STARS: usize = 16;

/// The point-spread function of a frame, and the noise of its pixels and of positions.
pub(crate) struct Built {
    pub psf: PsfField,
    pub noise: Noise,
    pub position_noise: PositionNoise,
    pub kind: PsfKind,
}

/// Measures PSF and noise of a frame of width and height `size`. The fit starts from `start`, a Gaussian of
/// the stars' width.
///
/// The variance by which the PSF may depart from the Gaussian, and a varying PSF from the uniform one, is
/// measured from all stars together. Without this limit, few or faint stars would give a PSF that fits their
/// noise, and positions that are wrong with it (Anderson & King 2000 describe how shape and positions are
/// coupled). If the result is not plausible for a star, the Gaussian is returned.
///
/// The PSF has at most `most_nodes` nodes along an axis. `gain`, if known, gives the photon noise.
pub(crate) fn build(
    stamps: &Stamps,
    start: &Psf,
    size: [usize; 2],
    sources: &[Source],
    most_nodes: usize,
    gain: Option<f64>,
    monitor: &dyn Monitor,
) -> Result<Built> {
    let candidates = qualified(stamps, start, sources);
    let smoothing = Smoothing::of_width(f64::from(stamps.sigma()));
    let mut stars = Stars { stamps, sources: sources.to_vec(), gain, smoothing };
    let everywhere = PsfField::uniform(start.clone(), size);
    let few = evenly(&candidates, MAX_STARS, CHOSEN_AMONG);
    let uniform =
        Builder::new(&mut stars, &few, everywhere.clone(), start.clone()).run(ROUNDS, None, monitor)?;
    let assumed = Noise { model: ASSUMED_ERROR * ASSUMED_ERROR, ..stars.noise() };
    let gaussian = Built {
        psf: everywhere,
        noise: assumed,
        position_noise: PositionNoise::white(assumed),
        kind: PsfKind::Gaussian,
    };
    let Some(mut best) = uniform else { return Ok(gaussian) };
    let typical = best.psf.node(0).clone();
    // Few nodes are tried first: if they do not reduce the residuals enough, more nodes are not tried.
    let along = (1.0 + (candidates.len() as f64 / STARS_BETWEEN_NODES as f64).sqrt()) as usize;
    let along = along.min(most_nodes);
    for (along, gain) in
        [(FIRST_NODES, VARYING_GAIN), (MAX_NODES, FINER_GAIN)].map(|(n, g)| (along.min(n), g))
    {
        if best.misfit < GOOD_MISFIT || along <= best.psf.along() {
            break;
        }
        let divided = best.psf.divided(along);
        let chosen = spread(&candidates, sources, &divided);
        let builder = Builder::new(&mut stars, &chosen, divided, typical.clone());
        let Some(better) = builder.run(VARYING_ROUNDS, Some(gain), monitor)? else { break };
        best = better;
    }
    let Some((noise, position_noise)) = best.noise(&stars) else { return Ok(gaussian) };
    let kind = if best.psf.along() > 1 { PsfKind::Varying } else { PsfKind::Uniform };
    Ok(Built { psf: best.psf, noise, position_noise, kind })
}

/// A measured PSF.
struct Shape {
    psf: PsfField,
    /// Indices of the stars that measure it.
    chosen: Vec<usize>,
    /// All stars as fitted with it.
    sources: Vec<Source>,
    /// Mean squared residual of the stars in units of their noise.
    misfit: f32,
}

impl Shape {
    /// Measures the noise of undetected stars, the photon noise and the error of the PSF from the growth of
    /// the squared residuals with the light, and the noise of positions. `None` if the result is not finite.
    fn noise(&self, stars: &Stars<'_>) -> Option<(Noise, PositionNoise)> {
        let Self { psf, chosen, sources, .. } = self;
        let (stamps, building) = (stars.stamps, stars.noise());
        let residuals: Vec<Vec<Residuals>> = chosen
            .par_chunks(TASK_STARS)
            .map_init(Work::default, |work, stars| {
                stars.iter().map(|&i| Residuals::of(stamps, psf, building, sources, i, work)).collect()
            })
            .collect();
        let residuals = residuals.into_iter().flatten().collect::<Vec<_>>();
        let samples = samples(&residuals, building);
        let known = stars.gain.is_some();
        let noise = Noise::measured(&samples, building, known);
        let measurement = Measurement { stamps, stars: &residuals, samples: &samples, building, known };
        let of_positions = PositionNoise::measured(&measurement)?;
        noise.is_finite().then_some((noise, of_positions))
    }
}

/// The stars of the frame; their positions and fluxes improve together with the PSF.
struct Stars<'a> {
    stamps: &'a Stamps,
    sources: Vec<Source>,
    gain: Option<f64>,
    /// Filter of the PSF, from their width.
    smoothing: Smoothing,
}

impl Stars<'_> {
    /// The noise of pixels that is assumed while the PSF is measured.
    fn noise(&self) -> Noise {
        let photon = self.gain.map_or(0.0, |g| (1.0 / g) as f32);
        Noise { faint: 0.0, photon, model: BUILDING_ERROR * BUILDING_ERROR }
    }
}

/// At most `most` stars, taken evenly from the first `among`.
fn evenly(stars: &[usize], most: usize, among: usize) -> Vec<usize> {
    let first = &stars[..stars.len().min(among)];
    first.iter().copied().step_by(first.len().div_ceil(most).max(1)).collect()
}

/// Indices of the stars that can measure the PSF, brightest first. They are bright, without bad pixels in the
/// core, without bright neighbours, and their light falls off to the rim.
fn qualified(stamps: &Stamps, psf: &Psf, sources: &[Source]) -> Vec<usize> {
    let sharpness = psf.sharpness();
    let bright = |i: usize, snr: f32| sources[i].flux * sharpness > snr * stamps.variance(i).sqrt();
    let alone = |i: usize| {
        let disturbing = NEIGHBOUR_FRACTION * sources[i].flux;
        stamps.neighbours(i).iter().all(|&j| sources[j as usize].flux < disturbing)
    };
    let qualifies =
        |&i: &usize| bright(i, MIN_SNR) && is_whole(stamps, i) && alone(i) && falls_off(stamps, i);
    let mut found: Vec<usize> = (0..sources.len()).filter(qualifies).collect();
    found.sort_by(|&a, &b| sources[b].flux.total_cmp(&sources[a].flux));
    let good = found.iter().filter(|&&i| bright(i, GOOD_SNR)).count();
    found.truncate(good.max(CHOSEN_AMONG));
    found
}

/// Whether the middle pixel and its neighbours are good (neither saturated nor hot), few other pixels are
/// bad, and the middle is not too sharp for a star.
fn is_whole(stamps: &Stamps, i: usize) -> bool {
    let Layout { half, side, stride } = stamps.layout();
    let light = stamps.data(i);
    let middle = half * stride + half;
    let core = [middle - stride, middle, middle + stride].map(|at| &light[at - 1..=at + 1]);
    if !core.iter().all(|row| row.iter().all(|&v| is_good(v))) {
        return false;
    }
    let bad = stamps.rows(i).flatten().filter(|&&v| !is_good(v)).count();
    let beside = (core.iter().flat_map(|row| row.iter()).sum::<f32>() - light[middle]) / 8.0;
    let noise = SHARPNESS_SIGMAS * stamps.variance(i).sqrt();
    (bad as f32) < MAX_BAD * (side * side) as f32 && beside + noise > stamps.least_beside() * light[middle]
}

/// Whether the light falls off to the rim of a stamp, as a star's does: the RMS at the rim, less noise, is
/// small.
fn falls_off(stamps: &Stamps, i: usize) -> bool {
    let Layout { half, side, stride } = stamps.layout();
    let light = stamps.data(i);
    let rim = (0..side).flat_map(|k| [k, (side - 1) * stride + k, k * stride, k * stride + side - 1]);
    let good = rim.map(|at| light[at]).filter(|&v| is_good(v));
    let (square, count) = good.fold((0.0, 0.0), |(sum, n), v| (sum + v * v, n + 1.0));
    let most = RIM_FRACTION * light[half * stride + half];
    square < (most * most + stamps.variance(i)) * count
}

/// Selects stars evenly over the nodes. `candidates` are sorted, brightest first; of the brightest between
/// four nodes, every other one is taken.
fn spread(candidates: &[usize], sources: &[Source], psf: &PsfField) -> Vec<usize> {
    let mut taken = HashMap::new();
    let mut chosen = candidates.to_vec();
    chosen.retain(|&i| {
        let [(node, _), ..] = psf.parts(psf.cell(sources[i].pixel));
        let count = taken.entry(node).or_insert(0);
        *count += 1;
        *count % 2 == 1 && *count < 2 * MAX_STARS_BETWEEN_NODES
    });
    chosen
}

/// The correction of the PSF at a node, with its mean weight and its [`departure`](Correction::departure).
struct OfNode {
    correction: Correction,
    weight: f32,
    departure: [f32; 2],
}

impl OfNode {
    /// Sums the corrections that tasks gathered for this node. `parts` gives the nodes around the stars of
    /// each task and their weights. `None` if no task contributes.
    fn gathered(
        node: usize,
        parts: &[[(usize, f32); 4]],
        gathered: &[Correction],
        (psf, start): (&PsfField, &Psf),
    ) -> Option<Self> {
        let mut found: Option<Correction> = None;
        for (parts, correction) in parts.iter().zip(gathered) {
            for &(_, part) in parts.iter().filter(|&&(at, part)| at == node && part > 0.0) {
                found.get_or_insert_with(|| Correction::new(psf.half())).merge(correction, part);
            }
        }
        let correction = found?;
        let (weight, departure) = (correction.mean_weight(), correction.departure(psf.node(node), start));
        Some(Self { correction, weight, departure })
    }
}

/// State of the measurement: the stars and the PSF that is measured from them.
struct Builder<'a, 'b> {
    stars: &'b mut Stars<'a>,
    /// Indices of the stars that are used.
    chosen: Vec<usize>,
    /// Mean squared residual of each star in its latest fit, in units of its noise.
    misfits: Vec<f32>,
    psf: PsfField,
    /// The function that is kept where the stars do not determine the PSF.
    start: Psf,
    noise: Noise,
    /// Corrections that the tasks of a round gather. They are stored to reuse their memory.
    corrections: Vec<Correction>,
}

impl<'a, 'b> Builder<'a, 'b> {
    fn new(stars: &'b mut Stars<'a>, chosen: &[usize], psf: PsfField, start: Psf) -> Self {
        let mut chosen = chosen.to_vec();
        // Groups stars by cell; within a cell the order (brightest first) is kept.
        chosen.sort_by_key(|&i| psf.cell(stars.sources[i].pixel));
        let noise = stars.noise();
        let misfits = vec![0.0; stars.sources.len()];
        Self { stars, chosen, misfits, psf, start, noise, corrections: Vec::new() }
    }

    /// Measures the PSF in `rounds` rounds. `None` if there are too few stars, if the PSF is not plausible
    /// for a star, or if it does not reduce the residuals below the fraction `gain` of those before.
    fn run(mut self, rounds: usize, gain: Option<f32>, monitor: &dyn Monitor) -> Result<Option<Shape>> {
        let before = if gain.is_some() { self.settle() } else { Vec::new() };
        let pays = |builder: &Self, gain| builder.mean(&builder.misfits) < gain * builder.mean(&before);
        for round in 0..rounds {
            checkpoint(monitor)?;
            let tried = round >= TRIAL_ROUNDS && gain.is_some() && self.mean(&before) < POOR_MISFIT;
            let in_vain = tried && !pays(&self, TRIAL_GAIN);
            if in_vain || self.chosen.len() < MIN_STARS {
                return Ok(None);
            }
            self.round(round >= FIRST_CHOOSY_ROUND);
        }
        let sound = self.psf.nodes().iter().all(|psf| psf.resembles(&self.start));
        let good = sound && gain.is_none_or(|gain| pays(&self, gain));
        let (misfit, sources) = (self.mean(&self.misfits), self.stars.sources.clone());
        Ok(good.then_some(Shape { psf: self.psf, chosen: self.chosen, sources, misfit }))
    }

    /// Mean of `values`, which has one value per star, over the stars that are used.
    fn mean(&self, values: &[f32]) -> f32 {
        self.chosen.iter().map(|&i| values[i]).sum::<f32>() / self.chosen.len() as f32
    }

    /// Fits every star and the shape by one step. If `choosy`, stars that do not fit are excluded afterwards.
    fn round(&mut self, choosy: bool) {
        let cell = |i: &usize| self.psf.cell(self.stars.sources[*i].pixel);
        let tasks: Vec<&[usize]> = self
            .chosen
            .chunk_by(|a, b| cell(a) == cell(b))
            .flat_map(|stars| stars.chunks(TASK_STARS))
            .collect();
        let mut gathered = std::mem::take(&mut self.corrections);
        gathered.resize_with(gathered.len().max(tasks.len()), || Correction::new(self.psf.half()));
        let fits: Vec<Vec<Fit>> = tasks
            .par_iter()
            .zip(&mut gathered)
            .map_init(Default::default, |scratch, (stars, correction)| {
                self.gather(stars, correction, scratch)
            })
            .collect();
        let parts: Vec<_> = tasks.iter().map(|stars| self.psf.parts(cell(&stars[0]))).collect();
        let corrections: Vec<Option<OfNode>> = (0..self.psf.nodes().len())
            .into_par_iter()
            .map(|node| OfNode::gathered(node, &parts, &gathered, (&self.psf, &self.start)))
            .collect();
        let known = || corrections.iter().flatten();
        let weight: f32 = known().map(|c| c.weight).sum();
        let prior = PRIOR_STARS * weight / self.chosen.len() as f32;
        let [wanted, measure] = [0, 1].map(|k| known().map(|c| c.departure[k]).sum::<f32>());
        let freedom = if wanted > 0.0 { (wanted / measure).min(1.0) } else { 0.0 };
        let (start, smoothing) = (&self.start, &self.stars.smoothing);
        self.psf.nodes_mut().par_iter_mut().zip(&corrections).for_each(|(psf, of_node)| {
            if let Some(OfNode { correction, .. }) = of_node {
                correction.apply(psf, start, freedom, prior);
                smoothing.apply(psf, start);
                psf.bound();
            }
        });
        self.psf.update();
        self.corrections = gathered;
        self.take(&fits.concat());
        if choosy {
            let mut sorted: Vec<f32> = self.chosen.iter().map(|&i| self.misfits[i]).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let limit = MISFIT_FACTOR * sorted[sorted.len() / 2];
            let misfits = &self.misfits;
            self.chosen.retain(|&i| misfits[i] <= limit);
        }
    }

    /// Fits every star by some steps with a fixed shape. Returns the misfits of the stars.
    fn settle(&mut self) -> Vec<f32> {
        for _ in 0..SETTLING_ROUNDS {
            let Self { stars: Stars { stamps, sources, .. }, psf, noise, .. } = self;
            let step = |work: &mut Work, &i: &usize| stamps.step(psf, *noise, sources, i, work);
            let stars = self.chosen.par_iter().with_min_len(TASK_STARS);
            let fits: Vec<Fit> = stars.map_init(Work::default, step).collect();
            self.take(&fits);
        }
        self.misfits.clone()
    }

    /// Stores the fits of the stars.
    fn take(&mut self, fits: &[Fit]) {
        for (&i, fit) in self.chosen.iter().zip(fits) {
            self.stars.sources[i] = fit.source;
            self.misfits[i] = fit.chi2 / fit.pixels;
        }
    }

    /// Fits each of the stars, all of one cell, by one step, and adds their residuals to the correction of
    /// the shape.
    fn gather(
        &self,
        stars: &[usize],
        correction: &mut Correction,
        (work, residual, weight): &mut (Work, Vec<f32>, Vec<f32>),
    ) -> Vec<Fit> {
        let Self { stars: Stars { stamps, sources, .. }, psf, noise, .. } = self;
        correction.clear();
        stars
            .iter()
            .map(|&i| {
                let fit = stamps.step(psf, *noise, sources, i, work);
                let Source { offset, flux, .. } = fit.source;
                if flux > 0.0 {
                    psf.at(fit.source.pixel).render_value(offset, Crop::whole(psf.half()), &mut work.own);
                    let highest = work.own.value.iter().copied().fold(0.0, f32::max);
                    let error = SHAPE_ERROR * flux * highest;
                    let w = flux * flux / (stamps.variance(i) + error * error);
                    let good = |d: f32| if is_good(d) { w } else { 0.0 };
                    weight.clear();
                    weight.extend(stamps.data(i).iter().map(|&d| good(d)));
                    residual.clear();
                    let models = work.own.value.iter().zip(&work.light);
                    residual.extend(stamps.data(i).iter().zip(models).map(|(&d, (&p, &light))| {
                        let r = good(d) / flux * (d - light - flux * p);
                        if is_good(d) { r } else { 0.0 }
                    }));
                    correction.add(offset, residual, weight);
                }
                fit
            })
            .collect()
    }
}
