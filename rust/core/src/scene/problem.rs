//! The least-squares problem of a stage: from a state to normal equations.
//!
//! Every source is drawn once per image, with its derivatives by its pixel and by the parameters of the PSF.
//! A parameter that an image shares (PSF, WCS, sky) has one derivative per pixel, the sum over all sources,
//! so it needs no pairs of sources. For two sources only the products of their own light remain, and only if
//! they are near each other.

use std::collections::VecDeque;
use std::sync::Mutex;

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::convolved::Convolved;
use super::galaxy::Galaxy;
use super::layout::{State, sky_terms};
use super::products::{Dot, MOST_OWN, Products, Weighted, add_light};
use super::profile::{PARAMETERS, Renderer};
use super::region::shared;
use super::stage::{Field, Stage, Stamp};
use crate::lsq::arrow::Arrow;
use crate::lsq::small::multiply;
use crate::lsq::sparse::BlockMatrix;
use crate::lsq::{Loss, Problem};
use crate::simd::vectorized;

/// Minimum number of sources drawn by one thread: fewer are not worth another thread.
const LEAST_SOURCES: usize = 16;
/// Number of sources drawn before their derivatives by the PSF are added up and freed, to limit the memory.
const DRAWN_AT_ONCE: usize = 256;
/// Distance, in full widths of the PSF, below which steps are shortened together: they compensate each other.
const BLEND_WIDTHS: f64 = 1.0;
/// A source's step is shortened if the slope at its end is uphill and exceeds this fraction of that at its
/// start.
const LEAST_OVERSHOT: f64 = 0.2;
/// Number of normal equations that are kept: those of a step and of the same step shortened.
const MOST_LATEST: usize = 2;
/// Number of own columns of a star: its light and the derivatives by its pixel.
const OWN: usize = 3;

/// A stage with a loss.
pub(super) struct Fit<'a> {
    pub stage: &'a Stage<'a>,
    pub loss: Loss,
    latest: Mutex<Latest>,
    /// Parameters of sources that are held temporarily, in the order of elimination: see [`Arrow`].
    held: Vec<bool>,
}

/// The latest states with normal equations. An accepted step is linearised next, without drawing anything
/// twice.
pub(super) type Latest = VecDeque<(State, Arrow)>;

/// One source drawn on one image.
struct Drawn {
    source: usize,
    /// Columns of its light and of its changes by own parameters: [`OWN`] for a star, [`MOST_OWN`] for a
    /// galaxy.
    own: Vec<Vec<f64>>,
    /// Derivatives by the parameters of the PSF; empty if not wanted.
    by_psf: [Vec<f64>; PARAMETERS],
    /// Own parameters, and derivatives by them as combinations of the own columns.
    chain: Vec<(usize, [f64; MOST_OWN])>,
    /// Parameters of the WCS and of the shift by colour, with their derivatives as combinations of the own
    /// columns.
    by_image: Vec<(usize, [f64; MOST_OWN])>,
    flux: f64,
}

/// The derivative of an image by a shared parameter, on all pixels of its region.
struct Slope {
    /// Index among the shared parameters.
    at: usize,
    pixels: Vec<f64>,
}

/// Weighted sums over the pixels of one source: products of its own columns with others.
struct Sums {
    /// Products with the slopes of the image, and last with the residual.
    image: Vec<[f64; MOST_OWN]>,
    /// Products with itself and with the later sources that are near.
    sources: Vec<(usize, Vec<[f64; MOST_OWN]>)>,
}

impl<'a> Fit<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, loss: Loss) -> Self {
        Self::after(stage, loss, Latest::new())
    }

    /// A fit that already knows normal equations of the same stage.
    pub(super) fn after(stage: &'a Stage<'a>, loss: Loss, latest: Latest) -> Self {
        Self { stage, loss, latest: Mutex::new(latest), held: Vec::new() }
    }

    /// Holds only these sources, besides what the stage holds. Known normal equations remain valid.
    pub(super) fn hold(&mut self, sources: &[usize]) {
        let Stage { layout, pattern, .. } = self.stage;
        self.held = vec![false; if sources.is_empty() { 0 } else { layout.shared }];
        for &source in sources {
            self.held[pattern.start(source)..][..layout.sizes[source]].fill(true);
        }
    }

    /// The latest states and normal equations, after the fit has ended.
    pub(super) fn into_latest(self) -> Latest {
        self.latest.into_inner().expect("no thread panics while it holds the lock")
    }

    /// Normal equations at a state.
    pub(super) fn arrow(&self, state: &State) -> Arrow {
        let (stage, layout) = (self.stage, self.stage.layout);
        let own = BlockMatrix::new(stage.pattern.clone());
        let shared = layout.total - layout.shared;
        let mut order = Vec::with_capacity(layout.shared);
        for (source, &size) in layout.sizes.iter().enumerate() {
            order.extend((0..size).map(|i| stage.pattern.start(source) + i));
        }
        let mut arrow = Arrow {
            own,
            held: Vec::new(),
            order,
            firsts: layout.sources.iter().copied().chain([layout.shared]).collect(),
            cross: vec![0.0; layout.shared * shared],
            shared: DMatrix::zeros(shared, shared),
            gradient: vec![0.0; layout.total],
            cost: 0.0,
            costs: Vec::new(),
        };
        for image in 0..stage.fields.len() {
            let cost = self.add_image(image, state.as_slice(), &mut arrow);
            arrow.costs.push(cost);
            arrow.cost += cost;
        }
        self.add_priors(state.as_slice(), &mut arrow);
        arrow
    }

    /// Adds the priors of positions and motions.
    fn add_priors(&self, state: &[f64], arrow: &mut Arrow) {
        let layout = self.stage.layout;
        let mut add = |source: usize, at: usize, sigma: f64| {
            if !self.stage.held[at] && sigma.is_finite() {
                let (weight, own) = (sigma.powi(-2), at - layout.sources[source]);
                arrow.own.add((source, own), (source, own), weight);
                arrow.gradient[at] += weight * state[at];
                arrow.cost += 0.5 * weight * state[at] * state[at];
            }
        };
        for (source, of) in self.stage.scene.sources.iter().enumerate() {
            let position = of.prior.into_iter().flatten().zip(layout.sources[source]..);
            let motion = layout.motions[source].map_or(0, |at| at)..;
            let motion = of.motion.into_iter().flatten().zip(motion);
            position.chain(motion).for_each(|(sigma, at)| add(source, at, sigma));
        }
    }

    fn add_image(&self, image: usize, state: &[f64], arrow: &mut Arrow) -> f64 {
        let field = &self.stage.fields[image];
        let mut residual = self.sky(image, state);
        let mut slopes = self.slopes(image);
        let drawn = self.draw_all(image, state, &mut residual, &mut slopes);
        let mut weights = field.region.weights.clone();
        let mut cost = 0.0;
        for ((r, w), data) in residual.iter_mut().zip(&mut weights).zip(&field.region.data) {
            *r -= data;
            let z2 = *r * *r * *w;
            cost += self.loss.of_square(z2);
            *w *= self.loss.weight_of_square(z2);
        }
        let mut columns: Vec<&[f64]> = slopes.iter().map(|slope| &slope.pixels[..]).collect();
        columns.push(&residual);
        let sums: Vec<Sums> = (0..drawn.len())
            .into_par_iter()
            .with_min_len(LEAST_SOURCES)
            .map(|k| sums(field, k, &drawn, &columns, &weights))
            .collect();
        self.add_shared(&slopes, &residual, &weights, arrow);
        for (k, sums) in sums.iter().enumerate() {
            self.add_source(&drawn, k, sums, &slopes, arrow);
        }
        cost
    }

    /// Slopes of an image's free shared parameters: those of the sky, and zeros for all others.
    fn slopes(&self, image: usize) -> Vec<Slope> {
        let (scene, layout, region) = (self.stage.scene, self.stage.layout, &self.stage.fields[image].region);
        let of = &scene.images[image];
        let (psf, wcs, sky) = (layout.psfs[of.psf], layout.wcs[image], layout.skies[image]);
        let free = (0..PARAMETERS).filter(|&k| scene.psfs[of.psf].free[k]).map(|k| psf + k);
        let chromatic = layout.chromatic[image].map_or(0..0, |at| at..at + 2);
        let (wcs, sky) = (wcs..wcs + of.freedom.parameters(), sky..sky + of.sky.terms());
        let all = free.chain(wcs).chain(sky.clone()).chain(chromatic);
        let slope = |at: usize| {
            let mut pixels = vec![0.0; region.len()];
            if sky.contains(&at) {
                for s in region.segments() {
                    for (k, value) in pixels[s.at..s.at + s.len].iter_mut().enumerate() {
                        *value = sky_terms(of.size, [(s.x + k) as f64, s.y as f64])[at - sky.start];
                    }
                }
            }
            Slope { at: at - layout.shared, pixels }
        };
        all.filter(|&at| !self.stage.held[at]).map(slope).collect()
    }

    /// Draws all sources of an image, and adds them to the light and to the slopes.
    fn draw_all(&self, image: usize, state: &[f64], light: &mut [f64], slopes: &mut [Slope]) -> Vec<Drawn> {
        let (layout, of) = (self.stage.layout, &self.stage.scene.images[image]);
        let psf = layout.psfs[of.psf] - layout.shared;
        let renderer = self.renderer(image, state);
        let stamps = &self.stage.fields[image].stamps;
        let by_psf = slopes.iter().any(|slope| (psf..psf + PARAMETERS).contains(&slope.at));
        let mut all: Vec<Drawn> = Vec::with_capacity(stamps.len());
        for chunk in stamps.chunks(DRAWN_AT_ONCE) {
            let drawn = chunk
                .par_iter()
                .with_min_len(LEAST_SOURCES)
                .map(|stamp| self.draw(image, stamp, &renderer, state, by_psf));
            let mut drawn: Vec<Drawn> = drawn.collect();
            for (stamp, drawn) in chunk.iter().zip(&mut drawn) {
                let Drawn { own, by_psf, by_image, flux, .. } = drawn;
                add_light(light, &stamp.stretches, &own[0], *flux);
                for slope in &mut *slopes {
                    if let Some(k) = slope.at.checked_sub(psf).filter(|k| *k < PARAMETERS) {
                        add_light(&mut slope.pixels, &stamp.stretches, &by_psf[k], *flux);
                    } else if let Some((_, by)) = by_image.iter().find(|(at, _)| *at == slope.at) {
                        for (column, by) in own.iter().zip(by).filter(|(_, by)| **by != 0.0) {
                            add_light(&mut slope.pixels, &stamp.stretches, column, *by);
                        }
                    }
                }
                *by_psf = Default::default();
            }
            all.append(&mut drawn);
        }
        all
    }

    /// Model minus data on the region of an image.
    pub(super) fn residual(&self, image: usize, state: &[f64]) -> Vec<f64> {
        let mut residual = self.sky(image, state);
        self.draw_all(image, state, &mut residual, &mut []);
        for (r, data) in residual.iter_mut().zip(&self.stage.fields[image].region.data) {
            *r -= data;
        }
        residual
    }

    /// Light of one star on the segments of its stamp.
    pub(super) fn light(&self, image: usize, stamp: &Stamp, state: &[f64]) -> Vec<f64> {
        let Drawn { mut own, flux, .. } = self.draw(image, stamp, &self.renderer(image, state), state, false);
        let mut light = own.swap_remove(0);
        for value in &mut light {
            *value *= flux;
        }
        light
    }

    fn renderer(&self, image: usize, state: &[f64]) -> Renderer {
        self.stage.layout.profile(self.stage.scene, self.stage.scene.images[image].psf, state).renderer()
    }

    /// Draws a source, with its derivatives by the PSF if `by_psf` is set.
    fn draw(&self, image: usize, stamp: &Stamp, renderer: &Renderer, state: &[f64], by_psf: bool) -> Drawn {
        let (scene, layout) = (self.stage.scene, self.stage.layout);
        let of = &scene.images[image];
        let source = stamp.source;
        let seen = layout.seen(scene, image, source, state).expect("a stamp is of a source that is seen");
        let flux_at = layout.fluxes[image][source].expect("a source that is seen has a flux");
        let (flux, first) = (state[flux_at], layout.sources[source]);
        let column = |k: usize, by: f64| {
            let mut columns = [0.0; MOST_OWN];
            columns[k] = by;
            columns
        };
        let along = |by: [f64; 2]| {
            let mut columns = column(1, flux * by[0]);
            columns[2] = flux * by[1];
            columns
        };
        let mut chain = vec![(flux_at, column(0, 1.0))];
        // Displacements on the plane of the sources.
        let across = |by: [f64; 2]| along(multiply(&seen.by_source, by));
        chain.extend([(first, across([1.0, 0.0])), (first + 1, across([0.0, 1.0]))]);
        if let (Some(at), Some(track)) = (layout.motions[source], of.tracks.get(source)) {
            chain.extend(track.iter().enumerate().map(|(k, by)| (at + k, across(*by))));
        }
        let first_of_wcs = layout.wcs[image] - layout.shared;
        let by_wcs = seen.by_wcs[..of.freedom.parameters()].iter().enumerate();
        let mut by_image: Vec<_> = by_wcs.map(|(k, by)| (first_of_wcs + k, along(*by))).collect();
        let psf = layout.psfs[of.psf];
        let wanted =
            std::array::from_fn(|k| by_psf && scene.psfs[of.psf].free[k] && !self.stage.held[psf + k]);
        let runs = stamp.runs(seen.pixel);
        let mut own = if let Some(outline) = layout.outline(source, &seen, state) {
            let at = layout.shapes[source].expect("it has an outline");
            for (k, by) in outline.by_parameters().iter().enumerate() {
                chain.push((at + k, by.map(|by| flux * by)));
            }
            let turns = layout.turns(scene, image, source, state);
            for ((_, by), turn) in by_image.iter_mut().zip(turns) {
                by[OWN..OWN + 3].copy_from_slice(&outline.w_by(&turn).map(|w| flux * w));
            }
            if let Some(psf) = &scene.psfs[of.psf].sampled {
                Convolved::new(outline.w, outline.exponent, psf, seen.pixel).render(&runs)
            } else {
                let profile = layout.profile(scene, of.psf, state);
                Galaxy::new(outline.w, outline.exponent, &profile).render(&runs, &stamp.nodes, wanted)
            }
        } else {
            let mut columns = std::array::from_fn(|_| Vec::new());
            match &scene.psfs[of.psf].sampled {
                Some(sampled) => sampled.render(seen.pixel, &runs, &mut columns),
                None => renderer.render(&runs, &stamp.nodes, wanted, &mut columns),
            }
            columns.into()
        };
        if let Some(at) = layout.chromatic[image] {
            let color = scene.sources[source].color;
            let at = at - layout.shared;
            by_image.extend([(at, across([color, 0.0])), (at + 1, across([0.0, color]))]);
        }
        let by_psf = own.split_off(own.len() - PARAMETERS);
        let by_psf = by_psf.try_into().expect("as many as the PSF has parameters");
        let free = chain.into_iter().filter(|(at, _)| !self.stage.held[*at]);
        let chain = free.map(|(at, by)| (at - first, by)).collect();
        Drawn { source, own, by_psf, chain, by_image, flux }
    }

    /// The sky on all pixels of a region.
    fn sky(&self, image: usize, state: &[f64]) -> Vec<f64> {
        let (scene, layout, region) = (self.stage.scene, self.stage.layout, &self.stage.fields[image].region);
        let mut sky = vec![0.0; region.len()];
        if scene.images[image].sky.terms() > 0 {
            for s in region.segments() {
                for (k, value) in sky[s.at..s.at + s.len].iter_mut().enumerate() {
                    *value = layout.sky(scene, image, state, [(s.x + k) as f64, s.y as f64]);
                }
            }
        }
        sky
    }

    /// Adds the products of the slopes with each other and with the residual.
    fn add_shared(&self, slopes: &[Slope], residual: &[f64], weights: &[f64], arrow: &mut Arrow) {
        for (i, slope) in slopes.iter().enumerate() {
            let weighted: Vec<f64> = slope.pixels.iter().zip(weights).map(|(s, w)| s * w).collect();
            arrow.gradient[self.stage.layout.shared + slope.at] += vectorized(Dot(&weighted, residual));
            for (j, other) in slopes.iter().enumerate().skip(i) {
                let value = vectorized(Dot(&weighted, &other.pixels));
                arrow.shared[(slope.at, other.at)] += value;
                if j > i {
                    arrow.shared[(other.at, slope.at)] += value;
                }
            }
        }
    }

    /// Adds the products of a source by the chain rule.
    fn add_source(&self, drawn: &[Drawn], k: usize, sums: &Sums, slopes: &[Slope], arrow: &mut Arrow) {
        let layout = self.stage.layout;
        let (own, shared) = (&drawn[k], layout.total - layout.shared);
        let (with_residual, with_slopes) = sums.image.split_last().expect("the residual is the last");
        for (i, by) in &own.chain {
            let at = layout.sources[own.source] + i;
            arrow.gradient[at] += along(by, with_residual);
            for (slope, sums) in slopes.iter().zip(with_slopes) {
                arrow.cross[arrow.order[at] * shared + slope.at] += along(by, sums);
            }
        }
        for (other, products) in &sums.sources {
            let other = &drawn[*other];
            for (j, by_other) in &other.chain {
                let mut column = [0.0; MOST_OWN];
                for (products, by) in products.iter().zip(by_other) {
                    for (sum, product) in column.iter_mut().zip(&products[..own.own.len()]) {
                        *sum += product * by;
                    }
                }
                for (i, by) in &own.chain {
                    arrow.own.add((own.source, *i), (other.source, *j), along(by, &column));
                }
            }
        }
    }
}

fn along(by: &[f64; MOST_OWN], sums: &[f64; MOST_OWN]) -> f64 {
    // No iterator: a call that is not inlined costs more than the sum.
    let mut sum = 0.0;
    let mut k = 0;
    while k < MOST_OWN {
        sum += by[k] * sums[k];
        k += 1;
    }
    sum
}

/// All sums of one source.
fn sums(field: &Field, k: usize, drawn: &[Drawn], image: &[&[f64]], weights: &[f64]) -> Sums {
    let Stamp { segments, stretches: whole, .. } = &field.stamps[k];
    let own = &drawn[k].own;
    let weighted = vectorized(Weighted { columns: own, stretches: whole, weights });
    let with = |columns: &[&[f64]], stretches: &[[usize; 3]]| {
        Products { weighted: &weighted, columns, stretches }.sums()
    };
    let itself: Vec<[usize; 3]> = vec![[0, 0, own[0].len()]];
    let columns = |other: usize| drawn[other].own.iter().map(|c| &c[..]).collect::<Vec<_>>();
    let mut sources = Vec::with_capacity(1 + field.neighbours[k].len());
    sources.push((k, with(&columns(k), &itself)));
    for &other in &field.neighbours[k] {
        let common = shared(segments, &field.stamps[other].segments);
        if !common.is_empty() {
            let common: Vec<[usize; 3]> = common.iter().map(|&[_, a, b, len]| [b, a, len]).collect();
            sources.push((other, with(&columns(other), &common)));
        }
    }
    Sums { image: with(image, whole), sources }
}

impl Problem for Fit<'_> {
    type State = State;
    type System = Arrow;

    fn cost(&self, state: &State) -> f64 {
        let arrow = self.arrow(state);
        let cost = arrow.cost;
        self.keep(state, arrow);
        cost
    }

    fn linearize(&self, state: &State) -> Arrow {
        let mut latest = self.latest.lock().expect("no thread panics while it holds the lock");
        let known = latest.iter().position(|(of, _)| of == state).and_then(|at| latest.remove(at));
        drop(latest);
        let mut arrow = known.map_or_else(|| self.arrow(state), |(_, arrow)| arrow);
        let exponents = self.stage.without_wings(state);
        if !exponents.is_empty() {
            let step = arrow.whole_step();
            for at in exponents.into_iter().filter(|&at| step[at] > 0.0) {
                arrow.hold_shared(at - self.stage.layout.shared);
            }
        }
        Arrow { held: self.held.clone(), ..arrow }
    }

    fn keep(&self, state: &State, arrow: Arrow) {
        let mut latest = self.latest.lock().expect("no thread panics while it holds the lock");
        latest.truncate(MOST_LATEST - 1);
        latest.push_front((state.clone(), arrow));
    }

    fn step(&self, state: &State, _: &Arrow, delta: &DVector<f64>) -> Option<State> {
        let mut next = self.stage.moved(state, delta);
        self.stage.keep_near(state.as_slice(), next.as_mut_slice());
        // If all sources that move would leave their windows, a smaller step may keep them inside.
        (next != *state && self.stage.admits(next.as_slice())).then_some(next)
    }

    fn shortened(&self, state: &State, system: &Arrow, tried: &State) -> Option<State> {
        // The equations at the tried state are known, because its cost was just computed.
        let there = self.linearize(tried);
        let step = tried - state;
        let sources = self.stage.scene.sources.len();
        let mut blend = self.stage.groups(state.as_slice(), BLEND_WIDTHS, &|_| true);
        blend.push(sources);
        let mut slopes = vec![[0.0; 2]; sources + 1];
        for (k, (a, b)) in system.slopes(&step).into_iter().zip(there.slopes(&step)).enumerate() {
            slopes[blend[k]][0] += a;
            slopes[blend[k]][1] += b;
        }
        let mut next = tried.clone();
        for (k, range) in system.parts().enumerate() {
            let [a, b] = slopes[blend[k]];
            if b > LEAST_OVERSHOT * a.abs() {
                // Zero of the line through both slopes.
                let part = (a / (a - b)).clamp(0.0, 1.0);
                for k in range {
                    next[k] = state[k] + part * step[k];
                }
            }
        }
        self.keep(tried, there);
        (next != *tried && self.stage.admits(next.as_slice())).then_some(next)
    }
}

impl Field {
    /// Model of an image on its region: sky and all light.
    pub(super) fn model(&self, fit: &Fit<'_>, image: usize, state: &State) -> Vec<f64> {
        let mut pixels = fit.sky(image, state.as_slice());
        let renderer = fit.renderer(image, state.as_slice());
        for stamp in &self.stamps {
            let drawn = fit.draw(image, stamp, &renderer, state.as_slice(), false);
            add_light(&mut pixels, &stamp.stretches, &drawn.own[0], drawn.flux);
        }
        pixels
    }
}
