//! The least-squares problem of a stage: from a state to normal equations.
//!
//! Every source is drawn once per image, with its derivatives by its pixel and by the parameters of the PSF. Sums of
//! products of these over the pixels, of one source with itself and with each that overlaps it, are all that the pixels
//! tell; the chain rule turns them into derivatives by positions, fluxes and the WCS.

use std::sync::Mutex;

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::arrow::Arrow;
use super::layout::sky_terms;
use super::place::Seen;
use super::profile::{COLUMNS, PARAMETERS};
use super::region::{Segment, shared};
use super::stage::{Field, Stage, Stamp};
use crate::lsq::sparse::BlockMatrix;
use crate::lsq::{Loss, Problem};
use crate::simd::{Work, vectorized};

/// Sources that are drawn by one thread at least: fewer are not worth another.
const LEAST_SOURCES: usize = 16;
/// Sums that are kept at once.
const LANES: usize = 8;

/// The state: all parameters in the order of the layout.
pub(super) type State = DVector<f64>;

/// A stage with a loss.
pub(super) struct Fit<'a> {
    pub stage: &'a Stage<'a>,
    pub loss: Loss,
    latest: Mutex<Option<(State, Arrow)>>,
}

/// One source drawn on one image.
struct Drawn {
    source: usize,
    columns: [Vec<f64>; COLUMNS],
    /// Parameters that its light depends on, and derivatives by them in terms of the columns.
    chain: Vec<(Parameter, [f64; COLUMNS])>,
    flux: f64,
}

/// A parameter of a source's own, or a shared one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Parameter {
    Own(usize),
    Shared(usize),
}

/// Sums over the pixels of one source.
struct Sums {
    /// With weights and residuals.
    gradient: [f64; COLUMNS],
    /// With the terms of the sky.
    sky: [[f64; 3]; COLUMNS],
    /// With itself and with those after it that it meets.
    products: Vec<(usize, [[f64; COLUMNS]; COLUMNS])>,
}

impl<'a> Fit<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, loss: Loss) -> Self {
        Self { stage, loss, latest: Mutex::new(None) }
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
            order,
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

    /// What is known of positions beside the pixels.
    fn add_priors(&self, state: &[f64], arrow: &mut Arrow) {
        for (source, of) in self.stage.scene.sources.iter().enumerate() {
            let Some(sigma) = of.prior else { continue };
            for (axis, sigma) in sigma.iter().enumerate() {
                let at = self.stage.layout.sources[source] + axis;
                if self.stage.held[at] {
                    continue;
                }
                let weight = sigma.powi(-2);
                arrow.own.add((source, axis), (source, axis), weight);
                arrow.gradient[at] += weight * state[at];
                arrow.cost += 0.5 * weight * state[at] * state[at];
            }
        }
    }

    fn add_image(&self, image: usize, state: &[f64], arrow: &mut Arrow) -> f64 {
        let field = &self.stage.fields[image];
        let active = self.active(image);
        let drawn: Vec<Drawn> = field
            .stamps
            .par_iter()
            .with_min_len(LEAST_SOURCES)
            .map(|stamp| self.draw(image, stamp, state))
            .collect();
        let mut residual = self.sky(image, state);
        for (stamp, drawn) in field.stamps.iter().zip(&drawn) {
            add_light(&mut residual, &stamp.segments, &drawn.columns[0], drawn.flux);
        }
        let mut weights = field.region.weights.clone();
        let mut cost = 0.0;
        for ((r, w), data) in residual.iter_mut().zip(&mut weights).zip(&field.region.data) {
            *r -= data;
            let z2 = *r * *r * *w;
            cost += self.loss.of_square(z2);
            *w *= self.loss.weight_of_square(z2);
            *r *= *w;
        }
        let sums: Vec<Sums> = (0..drawn.len())
            .into_par_iter()
            .with_min_len(LEAST_SOURCES)
            .map(|k| self.sums(image, k, &drawn, (&residual, &weights), &active))
            .collect();
        self.add_sky(image, (&residual, &weights), arrow);
        for (k, sums) in sums.iter().enumerate() {
            self.add_source(image, k, &drawn, sums, arrow);
        }
        cost
    }

    /// Columns that any parameter needs.
    fn active(&self, image: usize) -> Vec<usize> {
        let free = self.stage.scene.psfs[self.stage.scene.images[image].psf].free;
        (0..COLUMNS).filter(|&k| k < 3 || free[k - 3]).collect()
    }

    fn draw(&self, image: usize, stamp: &Stamp, state: &[f64]) -> Drawn {
        let (scene, layout) = (self.stage.scene, self.stage.layout);
        let of = &scene.images[image];
        let source = stamp.source;
        let place = of.places[source].as_ref().expect("a stamp is of a source that is seen");
        let seen = place.seen(layout.position(source, state), &self.stage.wcs(image, state));
        let mut columns = std::array::from_fn(|_| Vec::new());
        let free = scene.psfs[of.psf].free;
        layout.profile(scene, of.psf, state).render(&stamp.runs(seen.pixel), free, &mut columns);
        let flux_at = layout.fluxes[image][source].expect("a source that is seen has a flux");
        let flux = state[flux_at];
        Drawn { source, columns, chain: self.chain(image, source, &seen, (flux_at, flux)), flux }
    }

    fn chain(
        &self,
        image: usize,
        source: usize,
        seen: &Seen,
        (flux_at, flux): (usize, f64),
    ) -> Vec<(Parameter, [f64; COLUMNS])> {
        let (scene, layout, of) = (self.stage.scene, self.stage.layout, &self.stage.scene.images[image]);
        let mut chain = Vec::new();
        let mut add = |at: usize, by: [f64; COLUMNS]| {
            if !self.stage.held[at] {
                let own = at < layout.shared;
                let parameter = if own {
                    Parameter::Own(at - layout.sources[source])
                } else {
                    Parameter::Shared(at - layout.shared)
                };
                chain.push((parameter, by));
            }
        };
        let by_pixel = |[x, y]: [f64; 2]| {
            let mut by = [0.0; COLUMNS];
            (by[1], by[2]) = (flux * x, flux * y);
            by
        };
        for axis in 0..2 {
            let by = [seen.by_source[0][axis], seen.by_source[1][axis]];
            add(layout.sources[source] + axis, by_pixel(by));
        }
        let mut by_flux = [0.0; COLUMNS];
        by_flux[0] = 1.0;
        add(flux_at, by_flux);
        for k in (0..PARAMETERS).filter(|&k| scene.psfs[of.psf].free[k]) {
            let mut by = [0.0; COLUMNS];
            by[3 + k] = flux;
            add(layout.psfs[of.psf] + k, by);
        }
        for (k, by) in seen.by_wcs[..of.freedom.parameters()].iter().enumerate() {
            add(layout.wcs[image] + k, by_pixel(*by));
        }
        chain
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

    fn sums(
        &self,
        image: usize,
        k: usize,
        drawn: &[Drawn],
        (residual, weights): (&[f64], &[f64]),
        active: &[usize],
    ) -> Sums {
        let field = &self.stage.fields[image];
        let (stamp, own) = (&field.stamps[k], &drawn[k]);
        let whole = stretches(&stamp.segments);
        let mut gradient = [0.0; COLUMNS];
        for &i in active {
            for &[at, a, _, len] in &whole {
                gradient[i] += dot(&own.columns[i][a..a + len], &residual[at..at + len]);
            }
        }
        let mut products = Vec::with_capacity(1 + field.neighbours[k].len());
        products.push((k, products_of(&whole, own, own, weights, active)));
        for &other in &field.neighbours[k] {
            let common = shared(&stamp.segments, &field.stamps[other].segments);
            if !common.is_empty() {
                products.push((other, products_of(&common, own, &drawn[other], weights, active)));
            }
        }
        let mut sky = [[0.0; 3]; COLUMNS];
        if self.stage.scene.images[image].sky.terms() > 0 {
            let size = self.stage.scene.images[image].size;
            let mut before = 0;
            for s in &stamp.segments {
                for j in 0..s.len {
                    let terms = sky_terms(size, [(s.x + j) as f64, s.y as f64]);
                    for &i in active {
                        let g = weights[s.at + j] * own.columns[i][before + j];
                        sky[i].iter_mut().zip(&terms).for_each(|(sum, t)| *sum += g * t);
                    }
                }
                before += s.len;
            }
        }
        Sums { gradient, sky, products }
    }

    fn add_sky(&self, image: usize, (residual, weights): (&[f64], &[f64]), arrow: &mut Arrow) {
        let (scene, layout, region) = (self.stage.scene, self.stage.layout, &self.stage.fields[image].region);
        let (terms, first) = (scene.images[image].sky.terms(), layout.skies[image]);
        if terms == 0 {
            return;
        }
        for s in region.segments() {
            for k in 0..s.len {
                let t = sky_terms(scene.images[image].size, [(s.x + k) as f64, s.y as f64]);
                for i in (0..terms).filter(|i| !self.stage.held[first + i]) {
                    arrow.gradient[first + i] += residual[s.at + k] * t[i];
                    for j in (0..terms).filter(|j| !self.stage.held[first + j]) {
                        let (row, column) = (first - layout.shared + i, first - layout.shared + j);
                        arrow.shared[(row, column)] += weights[s.at + k] * t[i] * t[j];
                    }
                }
            }
        }
    }

    fn add_source(&self, image: usize, k: usize, drawn: &[Drawn], sums: &Sums, arrow: &mut Arrow) {
        let layout = self.stage.layout;
        let (own, shared) = (&drawn[k], layout.total - layout.shared);
        let (terms, sky) = (self.stage.scene.images[image].sky.terms(), layout.skies[image]);
        for (parameter, by) in &own.chain {
            let along = |column: &[f64; COLUMNS]| -> f64 { by.iter().zip(column).map(|(b, c)| b * c).sum() };
            let at = match parameter {
                Parameter::Own(i) => layout.sources[own.source] + i,
                Parameter::Shared(i) => layout.shared + i,
            };
            arrow.gradient[at] += along(&sums.gradient);
            for t in (0..terms).filter(|t| !self.stage.held[sky + t]) {
                let value = along(&std::array::from_fn(|c| sums.sky[c][t]));
                let column = sky + t - layout.shared;
                match parameter {
                    Parameter::Own(_) => arrow.cross[arrow.order[at] * shared + column] += value,
                    Parameter::Shared(i) => {
                        arrow.shared[(*i, column)] += value;
                        arrow.shared[(column, *i)] += value;
                    }
                }
            }
        }
        for (other, products) in &sums.products {
            add_pair(arrow, (own, &drawn[*other]), products, &layout.sources, shared);
        }
    }
}

/// Products of two sources that are drawn, or of one with itself.
fn products_of(
    stretches: &[[usize; 4]],
    a: &Drawn,
    b: &Drawn,
    weights: &[f64],
    active: &[usize],
) -> [[f64; COLUMNS]; COLUMNS] {
    let mut sums = [[0.0; COLUMNS]; COLUMNS];
    let same = std::ptr::eq(a, b);
    vectorized(Products { stretches, a: &a.columns, b: &b.columns, weights, active, same, sums: &mut sums });
    sums
}

/// The chain rule for the products of two sources, or of one with itself.
fn add_pair(
    arrow: &mut Arrow,
    (a, b): (&Drawn, &Drawn),
    products: &[[f64; COLUMNS]; COLUMNS],
    sources: &[usize],
    shared: usize,
) {
    let same = std::ptr::eq(a, b);
    for (p, by_a) in &a.chain {
        let mut row = [0.0; COLUMNS];
        for (factor, products) in by_a.iter().zip(products).filter(|(factor, _)| **factor != 0.0) {
            row.iter_mut().zip(products).for_each(|(r, p)| *r += factor * p);
        }
        for (q, by_b) in &b.chain {
            let value: f64 = row.iter().zip(by_b).map(|(r, b)| r * b).sum();
            match (p, q) {
                (Parameter::Own(i), Parameter::Own(j)) => {
                    arrow.own.add((a.source, *i), (b.source, *j), value);
                }
                (Parameter::Own(i), Parameter::Shared(j)) => {
                    arrow.cross[arrow.order[sources[a.source] + i] * shared + j] += value;
                }
                (Parameter::Shared(i), Parameter::Own(j)) if !same => {
                    arrow.cross[arrow.order[sources[b.source] + j] * shared + i] += value;
                }
                (Parameter::Shared(_), Parameter::Own(_)) => {}
                (Parameter::Shared(i), Parameter::Shared(j)) => {
                    arrow.shared[(*i, *j)] += value;
                    if !same {
                        arrow.shared[(*j, *i)] += value;
                    }
                }
            }
        }
    }
}

/// All of a stamp as one stretch per segment.
fn stretches(segments: &[Segment]) -> Vec<[usize; 4]> {
    let mut before = 0;
    let one = |s: &Segment| {
        before += s.len;
        [s.at, before - s.len, before - s.len, s.len]
    };
    segments.iter().map(one).collect()
}

/// Adds the light of a source to the pixels of a region.
pub(super) fn add_light(pixels: &mut [f64], segments: &[Segment], light: &[f64], flux: f64) {
    for [at, from, _, len] in stretches(segments) {
        for (pixel, light) in pixels[at..at + len].iter_mut().zip(&light[from..from + len]) {
            *pixel += flux * light;
        }
    }
}

/// Weighted products of the columns of two sources over the pixels of both.
struct Products<'a> {
    stretches: &'a [[usize; 4]],
    a: &'a [Vec<f64>; COLUMNS],
    b: &'a [Vec<f64>; COLUMNS],
    weights: &'a [f64],
    active: &'a [usize],
    same: bool,
    sums: &'a mut [[f64; COLUMNS]; COLUMNS],
}

impl Work for Products<'_> {
    type Output = ();

    #[allow(clippy::inline_always)] // As its trait asks: it is compiled for the instructions of this machine.
    #[inline(always)]
    fn call(self) {
        let mut weighted = Vec::new();
        for (k, &i) in self.active.iter().enumerate() {
            weighted.clear();
            for &[at, a, _, len] in self.stretches {
                let pairs = self.a[i][a..a + len].iter().zip(&self.weights[at..at + len]);
                weighted.extend(pairs.map(|(g, w)| g * w));
            }
            for &j in if self.same { &self.active[k..] } else { self.active } {
                let mut sums = [0.0; LANES];
                let mut before = 0;
                for &[_, _, b, len] in self.stretches {
                    dot_into(&weighted[before..before + len], &self.b[j][b..b + len], &mut sums);
                    before += len;
                }
                let sum = sums.iter().sum();
                self.sums[i][j] = sum;
                if self.same {
                    self.sums[j][i] = sum;
                }
            }
        }
    }
}

/// Adds products to sums that take turns.
#[allow(clippy::inline_always)] // Part of a loop that is compiled for several kinds of machine.
#[inline(always)]
fn dot_into(a: &[f64], b: &[f64], sums: &mut [f64; LANES]) {
    let (whole, rest) = (a.chunks_exact(LANES), a.chunks_exact(LANES).remainder());
    for (a, b) in whole.zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let done = a.len() - rest.len();
    for (lane, (a, b)) in rest.iter().zip(&b[done..]).enumerate() {
        sums[lane] += a * b;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    dot_into(a, b, &mut sums);
    sums.iter().sum()
}

impl Problem for Fit<'_> {
    type State = State;
    type System = Arrow;

    fn cost(&self, state: &State) -> f64 {
        // A step that is taken is linearised next: nothing is drawn twice.
        let arrow = self.arrow(state);
        let cost = arrow.cost;
        *self.latest.lock().expect("nobody panics with it") = Some((state.clone(), arrow));
        cost
    }

    fn linearize(&self, state: &State) -> Arrow {
        let latest = self.latest.lock().expect("nobody panics with it").take();
        match latest {
            Some((of, arrow)) if of == *state => arrow,
            _ => self.arrow(state),
        }
    }

    fn step(&self, state: &State, _: &Arrow, delta: &DVector<f64>) -> Option<State> {
        let next = state + delta;
        self.stage.admits(next.as_slice()).then_some(next)
    }
}

impl Field {
    /// Model of an image on its region: sky and all light.
    pub(super) fn model(&self, fit: &Fit<'_>, image: usize, state: &State) -> Vec<f64> {
        let mut pixels = fit.sky(image, state.as_slice());
        for stamp in &self.stamps {
            let drawn = fit.draw(image, stamp, state.as_slice());
            add_light(&mut pixels, &stamp.segments, &drawn.columns[0], drawn.flux);
        }
        pixels
    }
}
