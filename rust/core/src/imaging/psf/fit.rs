//! Fits position and flux of stars by weighted least squares with the point-spread function, together with
//! their neighbours.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::cutouts::Stamps;
use super::field::PsfField;
use super::noise::{Noise, PixelNoise};
use super::normal::{JointNormal, MAX_TOUCHING, Normal};
use super::source::{Fit, Source};
use super::{MAX_OFFSET, Rendering};
use crate::error::Result;
use crate::imaging::stamp::{BAD, Crop, Layout};
use crate::monitor::{Monitor, checkpoint};
use crate::simd::{self, LANES, Lanes, vectorized};

/// Longest step of a position in one round, in pixels. The linear model is not valid over much longer steps.
const MAX_STEP: f32 = 0.4;
/// Largest number of rounds. Isolated stars need three, close pairs more.
const MAX_ROUNDS: usize = 8;
/// In this many first rounds, all neighbours of a moving star are fitted again; later only those that it
/// touches.
const FIRST_ROUNDS: usize = 2;
/// A star is settled after a step shorter than this fraction of its position error, and than
/// [`SETTLED_PIXELS`]. Every star gets one more step at the end, and the error that then remains is of second
/// order.
const SETTLED_SIGMAS: f32 = 0.3;
/// Longest step, in pixels, after which a star may be settled.
const SETTLED_PIXELS: f32 = 0.05;
/// Neighbours within this many sigmas of a star's image touch the star. The first [`MAX_TOUCHING`] of them
/// are fitted together with the star, because the fluxes are correlated; other neighbours are held fixed
/// during a round.
const TOUCHING_SIGMAS: f32 = 2.5;
/// Number of stars per task.
const TASK_STARS: usize = 8;

/// Number of pixels that may still be processed. It bounds the time spent on a frame, whatever the frame
/// shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort(pub usize);

impl Effort {
    /// Subtracts `pixels` if enough are left; otherwise subtracts all that is left and returns false.
    pub(crate) fn spend(&mut self, pixels: usize) -> bool {
        let enough = self.0 >= pixels;
        self.0 -= if enough { pixels } else { self.0 };
        enough
    }
}

/// Scratch space of a task.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub own: Rendering,
    other: Rendering,
    /// Light of the neighbours on the stamp.
    pub light: Vec<f32>,
    /// Number of touching neighbours that are fitted together with the star.
    touching: usize,
    /// Derivatives of the stamp with respect to x, y and flux of each of these neighbours.
    gradients: Vec<f32>,
    scratch: Vec<f32>,
}

impl Stamps {
    /// Fits all stars together. In each round, each star is fitted to its pixels minus the light of its
    /// neighbours, as these were in the previous round.
    ///
    /// Settled stars are not fitted again unless a neighbour moves; after the first rounds, a touching
    /// neighbour. The fit ends when no `effort` is left.
    pub(crate) fn fit(
        &self,
        psf: &PsfField,
        noise: Noise,
        mut fits: Vec<Fit>,
        effort: &mut Effort,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Fit>> {
        let mut sources: Vec<Source> = fits.iter().map(|fit| fit.source).collect();
        for round in 0..MAX_ROUNDS {
            checkpoint(monitor)?;
            if fits.iter().all(|fit| fit.settled) {
                break;
            }
            let disturbed = |i: usize| {
                let mut others = self.neighbours(i).iter().map(|&j| j as usize);
                others.any(|j| {
                    !fits[j].settled && (round < FIRST_ROUNDS || self.touch(&sources[i], &sources[j]))
                })
            };
            let moving: Vec<usize> = (0..fits.len()).filter(|&i| !fits[i].settled || disturbed(i)).collect();
            if !effort.spend(moving.iter().map(|&i| self.cost(i)).sum()) {
                break;
            }
            let steps: Vec<Fit> = moving
                .par_iter()
                .with_min_len(TASK_STARS)
                .map_init(Work::default, |work, &i| self.step(psf, noise, &sources, i, work))
                .collect();
            for (&i, step) in moving.iter().zip(steps) {
                sources[i] = step.source;
                fits[i] = step;
            }
        }
        // Stars that still oscillate after all rounds would do so after more.
        for fit in &mut fits {
            fit.settled = true;
        }
        Ok(fits)
    }

    /// Approximate number of pixels that a step of star `i` processes: its own pixels, several times, and
    /// those of its neighbours.
    pub(crate) fn cost(&self, i: usize) -> usize {
        self.layout().len() * (2 + self.neighbours(i).len())
    }

    /// Makes one Gauss-Newton step of star `i`. Its model and its neighbours' light are left in `work`.
    pub(crate) fn step(
        &self,
        psf: &PsfField,
        noise: Noise,
        sources: &[Source],
        i: usize,
        work: &mut Work,
    ) -> Fit {
        vectorized(Step { stamps: self, psf, noise, sources, i, work })
    }

    #[inline(always)]
    fn step_inline(
        &self,
        psf: &PsfField,
        noise: Noise,
        sources: &[Source],
        i: usize,
        work: &mut Work,
    ) -> Fit {
        let source = sources[i];
        psf.at(source.pixel).render(source.offset, self.crop(i), &mut work.own);
        self.shine(psf, sources, i, work);
        let normal = if work.touching > 0 {
            self.joint_normal(i, source.flux, noise, work)
        } else {
            self.normal(i, source.flux, noise, work)
        };
        let Some(inverse) = normal.inverse() else {
            let fit = Fit::guess(Source { flux: 0.0, ..source });
            return Fit { pixels: normal.pixels, settled: true, ..fit };
        };
        let [xx, xy, xf, yy, yf, ff] = inverse;
        let [bx, by, bf] = normal.right;
        let step = [xx * bx + xy * by + xf * bf, xy * bx + yy * by + yf * bf];
        let length = step[0].hypot(step[1]);
        let shorten = if length > MAX_STEP { MAX_STEP / length } else { 1.0 };
        let x = (source.offset[0] + shorten * step[0]).clamp(-MAX_OFFSET, MAX_OFFSET);
        let y = (source.offset[1] + shorten * step[1]).clamp(-MAX_OFFSET, MAX_OFFSET);
        let sigma = (0.5 * (xx + yy)).sqrt();
        // After a shortened step, the flux is fitted at the old position.
        let flux =
            source.flux + if shorten < 1.0 { bf / normal.left[5] } else { xf * bx + yf * by + ff * bf };
        Fit {
            source: Source { offset: [x, y], flux, ..source },
            covariance: [f64::from(xx), f64::from(xy), f64::from(yy)],
            flux_error: ff.sqrt(),
            chi2: normal.chi2,
            pixels: normal.pixels,
            inverse,
            // A star without significant light has no position that could settle.
            settled: length < (SETTLED_SIGMAS * sigma).min(SETTLED_PIXELS) || flux * flux < ff,
        }
    }

    /// Sums the neighbours' light on the stamp of star `i`, and computes the derivatives for touching
    /// neighbours.
    #[inline(always)]
    fn shine(&self, psf: &PsfField, sources: &[Source], i: usize, work: &mut Work) {
        let Work { other, light, touching, gradients, .. } = work;
        let whole = Crop::whole(self.layout().half);
        light.clear();
        light.resize(self.layout().len(), 0.0);
        *touching = 0;
        for &j in self.neighbours(i) {
            let neighbour = sources[j as usize];
            if neighbour.flux <= 0.0 {
                continue;
            }
            let psf = psf.at(neighbour.pixel);
            let apart = [neighbour.pixel[0] - sources[i].pixel[0], neighbour.pixel[1] - sources[i].pixel[1]];
            if self.touch(&sources[i], &neighbour) && *touching < MAX_TOUCHING {
                psf.render(neighbour.offset, whole, other);
                let first = 3 * *touching * self.layout().len();
                *touching += 1;
                gradients.resize(first + 3 * self.layout().len(), 0.0);
                let flux = neighbour.flux;
                let n = self.layout().len();
                let to = &mut gradients[first..];
                to.fill(0.0);
                self.add_shifted(&other.by_x, apart, flux, &mut to[..n]);
                self.add_shifted(&other.by_y, apart, flux, &mut to[n..2 * n]);
                self.add_shifted(&other.value, apart, 1.0, &mut to[2 * n..]);
            } else {
                psf.render_value_inline(neighbour.offset, whole, other);
            }
            self.add_shifted(&other.value, apart, neighbour.flux, light);
        }
    }

    /// Whether two stars are so near that they must be fitted together.
    fn touch(&self, a: &Source, b: &Source) -> bool {
        a.distance(b) < TOUCHING_SIGMAS * self.sigma()
    }

    /// Adds `scale` times a stamp to another stamp. `apart` is the offset of its middle from that of the
    /// other.
    #[inline(always)]
    fn add_shifted(&self, stamp: &[f32], apart: [isize; 2], scale: f32, to: &mut [f32]) {
        let Layout { side, stride, .. } = self.layout();
        let [dx, dy] = apart;
        let columns = dx.max(0)..(side as isize + dx).min(side as isize);
        for row in dy.max(0)..(side as isize + dy).min(side as isize) {
            let target = row as usize * stride;
            let from = (row - dy) as usize * stride;
            let to = &mut to[target + columns.start as usize..target + columns.end as usize];
            for (t, &p) in to.iter_mut().zip(&stamp[from + (columns.start - dx) as usize..]) {
                *t += scale * p;
            }
        }
    }

    /// The normal equations of star `i`, fitted together with its touching neighbours, whose unknowns are
    /// eliminated.
    #[inline(always)]
    fn joint_normal(&self, i: usize, flux: f32, noise: Noise, work: &mut Work) -> Normal {
        let pixel_noise = PixelNoise::new(noise.weighting(), self.variance(i));
        let n = self.layout().len();
        let Work { own, light, touching, gradients, scratch, .. } = work;
        scratch.clear();
        scratch.resize(6 * n, 0.0);
        let (weights, rest) = scratch.split_at_mut(n);
        let (residuals, rest) = rest.split_at_mut(n);
        let (weighted, own_gradients) = rest.split_at_mut(n);
        let (mut chi2, mut pixels) = (Lanes::splat(0.0), Lanes::splat(0.0));
        let lanes = Lanes::splat(flux);
        for at in self.crop(i).spans(self.layout()).flat_map(|span| span.step_by(LANES)) {
            let load = |values: &[f32]| Lanes::load(&values[at..at + LANES]);
            let value = load(&own.value);
            let model = load(light) + lanes * value;
            let difference = load(self.data(i)) - model;
            let good = difference.within(BAD / 2.0);
            let (weight, residual) =
                (Lanes::splat(1.0) / pixel_noise.variance(model) * good, difference * good);
            chi2 = chi2 + weight * residual * residual;
            pixels = pixels + good;
            weight.store(&mut weights[at..]);
            residual.store(&mut residuals[at..]);
            (lanes * load(&own.by_x)).store(&mut own_gradients[at..]);
            (lanes * load(&own.by_y)).store(&mut own_gradients[n + at..]);
            value.store(&mut own_gradients[2 * n + at..]);
        }
        let others = gradients.chunks_exact(n).take(3 * *touching);
        let columns = own_gradients.chunks_exact(n).chain(others);
        let (left, right) = JointNormal::new(columns, weights, residuals, weighted).eliminated();
        let [chi2, pixels] = simd::sums(&[chi2, pixels]);
        Normal { left, right, chi2, pixels }
    }

    #[inline(always)]
    fn normal(&self, i: usize, flux: f32, noise: Noise, work: &Work) -> Normal {
        let pixel_noise = PixelNoise::new(noise.weighting(), self.variance(i));
        let (flux, zero) = (Lanes::splat(flux), Lanes::splat(0.0));
        let [mut xx, mut xy, mut xf, mut yy, mut yf, mut ff, mut bx, mut by, mut bf, mut chi2, mut pixels] =
            [zero; 11];
        let (data, own) = (self.data(i), &work.own);
        let crop = self.crop(i);
        for row in crop.rows[0]..crop.rows[1] {
            let span = crop.span(self.layout(), row);
            for at in (span.start..span.end).step_by(LANES) {
                let span = at..at + LANES;
                let gf = Lanes::load(&own.value[span.clone()]);
                let model = Lanes::load(&work.light[span.clone()]) + flux * gf;
                let difference = Lanes::load(&data[span.clone()]) - model;
                let good = difference.within(BAD / 2.0);
                let (weight, residual) =
                    (Lanes::splat(1.0) / pixel_noise.variance(model) * good, difference * good);
                let (gx, gy) =
                    (flux * Lanes::load(&own.by_x[span.clone()]), flux * Lanes::load(&own.by_y[span]));
                let (wx, wy, wf) = (weight * gx, weight * gy, weight * gf);
                xx = xx + wx * gx;
                xy = xy + wx * gy;
                xf = xf + wx * gf;
                yy = yy + wy * gy;
                yf = yf + wy * gf;
                ff = ff + wf * gf;
                bx = bx + wx * residual;
                by = by + wy * residual;
                bf = bf + wf * residual;
                chi2 = chi2 + weight * residual * residual;
                pixels = pixels + good;
            }
        }
        let [left @ .., bx, by, bf, chi2, pixels] =
            simd::sums(&[xx, xy, xf, yy, yf, ff, bx, by, bf, chi2, pixels]);
        Normal { left, right: [bx, by, bf], chi2, pixels }
    }
}

/// Arguments of [`Stamps::step`].
struct Step<'a> {
    stamps: &'a Stamps,
    psf: &'a PsfField,
    noise: Noise,
    sources: &'a [Source],
    i: usize,
    work: &'a mut Work,
}

impl simd::Work for Step<'_> {
    type Output = Fit;

    #[inline(always)]
    fn call(self) -> Fit {
        self.stamps.step_inline(self.psf, self.noise, self.sources, self.i, self.work)
    }
}
