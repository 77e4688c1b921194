//! The point-spread function of a frame and the noise of its pixels, from its own bright stars.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Psf;
use super::correction::Correction;
use super::cutouts::Stamps;
use super::field::{PsfField, PsfKind};
use super::fit::Work;
use super::noise::{Noise, Sample};
use super::smoothing::Smoothing;
use super::source::{Fit, Source};
use crate::error::Result;
use crate::imaging::stamp::{Crop, Layout, is_good};
use crate::lsq::robust::median;
use crate::monitor::{Monitor, checkpoint};

/// So many stars are used, taken evenly from this many of the brightest that qualify: the very brightest of equal stars are
/// those with another beside them.
const MAX_STARS: usize = 200;
const CHOSEN_AMONG: usize = 400;
/// As many of the brightest between four nodes.
const MAX_STARS_BETWEEN_NODES: usize = 60;
/// Fewer do not tell more than the width.
const MIN_STARS: usize = 5;
/// A star whose flux over its error in background noise is less tells little; while there are fewer than [`CHOSEN_AMONG`],
/// those down to the lower limit help. Where noise leaves little room below saturation, the good ones alone stand between
/// pixels, and do not tell the shape in the middle of one.
const GOOD_SNR: f32 = 20.0;
const MIN_SNR: f32 = 10.0;
/// Neighbours of more than this fraction of the star's flux disturb it.
const NEIGHBOUR_FRACTION: f32 = 0.02;
/// Less than this fraction of a star's stamp may be bad.
const MAX_BAD: f32 = 0.25;
/// The middle of a star may be sharper than any star's by what so many sigmas of a pixel's noise explain.
const SHARPNESS_SIGMAS: f32 = 2.0;
/// A peak that is brighter than this fraction of its middle at the rim of its stamp, or darker, is the edge of a cloud, a roof
/// or a mountain, or a glow. Ruling a frame, such peaks make a function of their own that is flat.
const RIM_FRACTION: f32 = 0.2;
/// Rounds of position, flux and shape in turn, for a function that is the same everywhere and for one that varies; from
/// the given one on stars that do not fit are left out.
const ROUNDS: usize = 7;
const VARYING_ROUNDS: usize = 9;
/// Rounds in which stars settle before a function may vary, to be compared with it.
const SETTLING_ROUNDS: usize = 2;
/// A function that varies is given up as soon as it leaves no less than this fraction of the residuals, from so many rounds on.
const TRIAL_ROUNDS: usize = 2;
const TRIAL_GAIN: f32 = 0.97;
/// It is not given up where the residuals were more than this times the noise: before it fits far better it may fit worse.
const POOR_MISFIT: f32 = 30.0;
const FIRST_CHOOSY_ROUND: usize = 2;
/// The shape stays as it was with the weight of so many stars.
const PRIOR_STARS: f32 = 1.0;
/// Relative error of the point-spread function while it is being built: keeps the brightest stars from ruling.
const BUILDING_ERROR: f32 = 0.01;
/// Relative error, beside the noise of the background, with which the stars tell the shape: the smaller, the more the
/// brightest rule. All pixels of a star weigh alike: weights that vary as steeply as the light slow down its convergence.
const SHAPE_ERROR: f32 = 0.002;
/// Relative error of a Gaussian of the stars' width, where there are too few stars to measure more.
const ASSUMED_ERROR: f32 = 0.03;
/// Stars whose mean squared residual exceeds the median by this factor are no single stars.
const MISFIT_FACTOR: f32 = 4.0;
/// A function whose residuals are no more than this times the noise may stay as it is.
const GOOD_MISFIT: f32 = 1.05;
/// A function that varies has to leave less than this fraction of the residuals, and one of more nodes than this of what is
/// left: fitting noise leaves a little less too.
const VARYING_GAIN: f32 = 0.8;
const FINER_GAIN: f32 = 0.95;
/// Stars between four nodes, on average.
const STARS_BETWEEN_NODES: usize = 30;
/// Nodes along an axis at first: with three a function may differ between the middle and the edge.
pub(crate) const FIRST_NODES: usize = 3;
/// Nodes along an axis at most.
pub(crate) const MAX_NODES: usize = 6;
/// A pixel of which the fit of its star takes more than this fraction tells nothing of the noise.
const MAX_LEVERAGE: f32 = 0.9;
/// Stars gathered by one task.
const TASK_STARS: usize = 16;

/// The point-spread function of a frame, and the noise of its pixels.
pub(crate) struct Built {
    pub psf: PsfField,
    pub noise: Noise,
    pub kind: PsfKind,
}

/// Shape and noise, starting from a Gaussian of the stars' width, in a frame of this width and height.
///
/// The shape leaves the Gaussian, and from place to place the shape that is best for the frame, no further than the stars
/// together say that it does: few or faint ones would otherwise turn their noise into a shape that fits it, and positions
/// with it (Anderson & King 2000 on how the two go together). What does not look like the image of a star is given up for
/// the Gaussian.
///
/// It has `most_nodes` along an axis at most; `gain` is the photon noise if it is known.
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
    let mut stars = Stars { stamps, sources: sources.to_vec(), gain };
    let everywhere = PsfField::uniform(start.clone(), size);
    let few = evenly(&candidates, MAX_STARS, CHOSEN_AMONG);
    let uniform =
        Builder::new(&mut stars, &few, everywhere.clone(), start.clone()).run(ROUNDS, None, monitor)?;
    let assumed = Noise { model: ASSUMED_ERROR * ASSUMED_ERROR, ..stars.noise() };
    let gaussian = Built { psf: everywhere, noise: assumed, kind: PsfKind::Gaussian };
    let Some(mut best) = uniform else { return Ok(gaussian) };
    let typical = best.psf.node(0).clone();
    // With few nodes first: where they do not pay, more do not either.
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
    let Some(noise) = best.noise(&stars) else { return Ok(gaussian) };
    let kind = if best.psf.along() > 1 { PsfKind::Varying } else { PsfKind::Uniform };
    Ok(Built { psf: best.psf, noise, kind })
}

/// A function that was measured.
struct Shape {
    psf: PsfField,
    /// The stars that tell it, and all stars as they were then.
    chosen: Vec<usize>,
    sources: Vec<Source>,
    /// Mean squared residual of the stars in units of their noise.
    misfit: f32,
}

impl Shape {
    /// Light of faint stars, photon noise and error of the shape, from how the squared residuals grow with the light; `None`
    /// if they tell none.
    fn noise(&self, stars: &Stars<'_>) -> Option<Noise> {
        let Self { psf, chosen, sources, .. } = self;
        let (stamps, building) = (stars.stamps, stars.noise());
        let mut fluxes: Vec<f64> = chosen.iter().map(|&i| f64::from(sources[i].flux)).collect();
        let typical = median(&mut fluxes) as f32;
        let samples: Vec<Vec<Sample>> = chosen
            .par_chunks(TASK_STARS)
            .map_init(Work::default, |work, stars| {
                let of_star = |&i: &usize| {
                    let fit = stamps.step(psf, building, sources, i, work);
                    samples(stamps, building, i, &fit, sources[i], typical, work)
                };
                stars.iter().flat_map(of_star).collect()
            })
            .collect();
        let noise = Noise::measured(&samples.concat(), building, stars.gain.is_some());
        [noise.faint, noise.photon, noise.model].iter().all(|part| part.is_finite()).then_some(noise)
    }
}

/// Squared residuals of the pixels of star `i`, each corrected for what the fit of its star took away (its leverage).
fn samples(
    stamps: &Stamps,
    noise: Noise,
    i: usize,
    fit: &Fit,
    source: Source,
    typical: f32,
    work: &Work,
) -> Vec<Sample> {
    let (inverse, background) = (fit.inverse(), stamps.variance(i));
    let shapes = work.own.value.iter().zip(&work.own.by_x).zip(&work.own.by_y);
    let pixels = stamps.data(i).iter().zip(shapes).zip(&work.light);
    pixels
        .filter_map(|((&d, ((&p, &px), &py)), &other)| {
            let light = source.flux * p;
            if !is_good(d) || light * light < background {
                return None;
            }
            let g = [source.flux * px, source.flux * py, p];
            let along = inverse.map(|row| row[0] * g[0] + row[1] * g[1] + row[2] * g[2]);
            let leverage = (g[0] * along[0] + g[1] * along[1] + g[2] * along[2])
                / noise.variance(background, light + other);
            let r = d - other - light;
            let square = r * r / (1.0 - leverage);
            let of_faint_star = source.flux < typical;
            (leverage < MAX_LEVERAGE).then_some(Sample { light, square, background, of_faint_star })
        })
        .collect()
}

/// Stars from which the function is built; what is known of them grows with it.
struct Stars<'a> {
    stamps: &'a Stamps,
    sources: Vec<Source>,
    gain: Option<f64>,
}

impl Stars<'_> {
    /// The noise of their pixels while the function is built.
    fn noise(&self) -> Noise {
        let photon = self.gain.map_or(0.0, |g| (1.0 / g) as f32);
        Noise { faint: 0.0, photon, model: BUILDING_ERROR * BUILDING_ERROR }
    }
}

/// So many at most, evenly from the first so many.
fn evenly(stars: &[usize], most: usize, among: usize) -> Vec<usize> {
    let first = &stars[..stars.len().min(among)];
    first.iter().copied().step_by(first.len().div_ceil(most).max(1)).collect()
}

/// Indices of the stars that tell the shape: bright, whole, alone, and stars at all; the brightest first.
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

/// Whether no pixel next to the middle is bad, as saturated and hot ones are, and few are elsewhere; and the middle is no
/// sharper than a star's.
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

/// Whether a stamp has a star's light: little of it at the rim, in root mean square, beside the noise.
fn falls_off(stamps: &Stamps, i: usize) -> bool {
    let Layout { half, side, stride } = stamps.layout();
    let light = stamps.data(i);
    let rim = (0..side).flat_map(|k| [k, (side - 1) * stride + k, k * stride, k * stride + side - 1]);
    let good = rim.map(|at| light[at]).filter(|&v| is_good(v));
    let (square, count) = good.fold((0.0, 0.0), |(sum, n), v| (sum + v * v, n + 1.0));
    let most = RIM_FRACTION * light[half * stride + half];
    square < (most * most + stamps.variance(i)) * count
}

/// Of `candidates`, brightest first, every other one of those that are among the brightest between the nodes about them.
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

/// The correction of the function at a node, with its mean weight and its [`departure`](Correction::departure).
struct OfNode {
    correction: Correction,
    weight: f32,
    departure: [f32; 2],
}

impl OfNode {
    /// From those that tasks gathered, each of which is in `parts` at the nodes about it; `None` if there are none.
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

/// Stars and the function that is built from them.
struct Builder<'a, 'b> {
    stars: &'b mut Stars<'a>,
    /// Indices of the stars that are used.
    chosen: Vec<usize>,
    /// Mean squared residual of each star in units of its noise, when it was last fitted.
    misfits: Vec<f32>,
    psf: PsfField,
    /// The function where the stars do not determine another.
    start: Psf,
    smoothing: Smoothing,
    noise: Noise,
    /// Corrections that the tasks of a round gather; their memory is kept.
    corrections: Vec<Correction>,
}

impl<'a, 'b> Builder<'a, 'b> {
    fn new(stars: &'b mut Stars<'a>, chosen: &[usize], psf: PsfField, start: Psf) -> Self {
        let mut chosen = chosen.to_vec();
        // Stars of a cell after one another; within it the brightest first.
        chosen.sort_by_key(|&i| psf.cell(stars.sources[i].pixel));
        let noise = stars.noise();
        let misfits = vec![0.0; stars.sources.len()];
        let smoothing = Smoothing::of_width(f64::from(stars.stamps.sigma()));
        Self { stars, chosen, misfits, psf, start, smoothing, noise, corrections: Vec::new() }
    }

    /// The function after so many rounds; `None` if there are too few stars for them, it is that of no star, or it
    /// does not leave less of the residuals by the factor `gain`.
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

    /// Mean of a value of every star over those that are used.
    fn mean(&self, values: &[f32]) -> f32 {
        self.chosen.iter().map(|&i| values[i]).sum::<f32>() / self.chosen.len() as f32
    }

    /// A step of every star and one of the shape.
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
        let (start, smoothing) = (&self.start, &self.smoothing);
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

    /// Some steps of every star, the shape staying as it is; returns how badly each then fits.
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

    /// Keeps the steps of the stars.
    fn take(&mut self, fits: &[Fit]) {
        for (&i, fit) in self.chosen.iter().zip(fits) {
            self.stars.sources[i] = fit.source;
            self.misfits[i] = fit.chi2 / fit.pixels;
        }
    }

    /// One step of each star, all of one cell, and what its residuals say about the shape.
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
