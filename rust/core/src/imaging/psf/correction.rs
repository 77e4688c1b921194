//! Corrections to a point-spread function, computed from the residuals of the stars.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use super::{Grid, Psf, Taps};
use crate::imaging::stamp::Layout;
use crate::simd::{self, LANES, Lanes, vectorized};

/// Noise variance of a measured departure, as a fraction of the inverse weight. In one step it is (151/315)²,
/// because the taps are correlated; further steps add to it. Larger values suppress real variation of the
/// shape, smaller ones admit noise.
const DEPARTURE_NOISE: f32 = 0.4;
/// Over-relaxation factor of the corrections. Values above 1 converge faster, and below 2 they are stable.
const RELAXATION: f32 = 1.7;
/// Number of partial sums, so that they are accumulated in parallel.
const SUMS: usize = 16;

/// Corrections to the coefficients, gathered from the residuals of many stars.
#[derive(Debug, Clone)]
pub(crate) struct Correction {
    grid: Grid,
    sum: Vec<f32>,
    weight: Vec<f32>,
    spread: SpreadRows,
}

/// The rows of a stamp, spread along x over the coefficients. The coefficients are stored in two sets: those
/// with the parity of the first tap of a pixel, and those of the other parity. A row of zeros precedes and
/// follows them.
#[derive(Debug, Clone)]
struct SpreadRows {
    /// A row of the stamp, with zeros on both sides.
    pixels: Vec<f32>,
    /// Padded number of coefficients of one parity in a row.
    len: usize,
    parities: [Vec<f32>; 2],
}

impl Correction {
    pub(crate) fn new(half: usize) -> Self {
        let grid = Grid::new(half);
        let side = grid.stamp.side;
        let zeros = || vec![0.0; grid.side * grid.row()];
        let len = (side + 1).next_multiple_of(LANES);
        let rows = || vec![0.0; (side + 2) * len];
        let spread = SpreadRows { pixels: vec![0.0; len + LANES], len, parities: [rows(), rows()] };
        Self { grid, sum: zeros(), weight: zeros(), spread }
    }

    /// Resets all sums to zero.
    pub(crate) fn clear(&mut self) {
        self.sum.fill(0.0);
        self.weight.fill(0.0);
    }

    /// Spreads weighted residuals (in fractions of the star's flux) and their weights over the coefficients
    /// under them.
    pub(crate) fn add(&mut self, offset: [f32; 2], residual: &[f32], weight: &[f32]) {
        vectorized(Spread { correction: self, offset, stamps: [residual, weight] });
    }

    /// Adds the sums of another task, multiplied by `part`.
    pub(crate) fn merge(&mut self, other: &Self, part: f32) {
        simd::add_scaled(&mut self.sum, part, &other.sum);
        simd::add_scaled(&mut self.weight, part, &other.weight);
    }

    /// Mean weight of a coefficient.
    pub(crate) fn mean_weight(&self) -> f32 {
        simd::sum(&self.weight) as f32 / (self.grid.side * self.grid.side) as f32
    }

    /// Two weighted sums over the coefficients: the squared departure of the corrected PSF from `start`, less
    /// the part that noise explains, and the squared unit of departures.
    pub(crate) fn departure(&self, psf: &Psf, start: &Psf) -> [f32; 2] {
        vectorized(Departure { correction: self, psf, start })
    }

    /// Applies the correction to `psf`. Two priors limit it: the previous value of each coefficient with the
    /// weight `prior`, and its value in `start` with the variance `freedom`, in squared units of departures.
    pub(crate) fn apply(&self, psf: &mut Psf, start: &Psf, freedom: f32, prior: f32) {
        vectorized(Apply { correction: self, psf, start, freedom, prior });
        psf.noise = 1.0 / (self.mean_weight() + prior).sqrt();
    }
}

/// Arguments of [`Correction::departure`].
struct Departure<'a> {
    correction: &'a Correction,
    psf: &'a Psf,
    start: &'a Psf,
}

impl simd::Work for Departure<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn call(self) -> [f32; 2] {
        let Correction { grid, sum, weight, .. } = self.correction;
        let (now, start, least) =
            (&self.psf.coefficients, &self.start.coefficients, self.start.least_departure());
        // As many partial sums as the widest vector registers hold.
        let mut sums = [[0.0; SUMS]; 2];
        for span in grid.inside() {
            let (sum, weight) = (&sum[span.clone()], &weight[span.clone()]);
            let (now, start) = (&now[span.clone()], &start[span]);
            for k in 0..weight.len() {
                let known = weight[k];
                let seen = known > 0.0;
                let departure = now[k] - start[k] + sum[k] / if seen { known } else { 1.0 };
                let unit = start[k].max(0.0) + least;
                let [wanted, measure] = &mut sums;
                wanted[k % SUMS] += if seen { known * departure * departure - DEPARTURE_NOISE } else { 0.0 };
                measure[k % SUMS] += if seen { known * unit * unit } else { 0.0 };
            }
        }
        sums.map(|parts| parts.iter().sum())
    }
}

/// Arguments of [`Correction::apply`].
struct Apply<'a> {
    correction: &'a Correction,
    psf: &'a mut Psf,
    start: &'a Psf,
    freedom: f32,
    prior: f32,
}

impl simd::Work for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { correction: Correction { grid, sum, weight, .. }, psf, start, freedom, prior } = self;
        let least = start.least_departure();
        for span in grid.inside() {
            let (sum, weight) = (&sum[span.clone()], &weight[span.clone()]);
            let start = &start.coefficients[span.clone()];
            let now = &mut psf.coefficients[span];
            for k in 0..weight.len() {
                let unit = start[k].max(0.0) + least;
                let variance = freedom * unit * unit;
                let back = start[k] - now[k];
                let step = RELAXATION * (variance * sum[k] + back) / (variance * (weight[k] + prior) + 1.0);
                now[k] += if weight[k] > 0.0 { step } else { 0.0 };
            }
        }
    }
}

/// Arguments of [`Correction::add`].
struct Spread<'a> {
    correction: &'a mut Correction,
    offset: [f32; 2],
    stamps: [&'a [f32]; 2],
}

impl simd::Work for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Correction { grid, sum, weight, spread } = self.correction;
        let half = grid.stamp.half;
        let (x, y) = (Taps::new(half, self.offset[0]), Taps::new(half, self.offset[1]));
        for (stamp, target) in self.stamps.into_iter().zip([sum, weight]) {
            spread.along(x, stamp, grid.stamp);
            spread.add_to(*grid, x.start, y, target);
        }
    }
}

impl SpreadRows {
    /// Spreads the rows of a stamp along x.
    #[inline(always)]
    fn along(&mut self, taps: Taps, stamp: &[f32], layout: Layout) {
        let Self { pixels, len, parities: [this, other] } = self;
        let [a, b, c, d] = taps.weights.map(Lanes::splat);
        let rows = this.chunks_exact_mut(*len).zip(other.chunks_exact_mut(*len)).skip(1);
        for (row, (this, other)) in stamp.chunks_exact(layout.stride).zip(rows).take(layout.side) {
            pixels[1..=layout.side].copy_from_slice(&row[..layout.side]);
            for k in (0..*len).step_by(LANES) {
                let (before, here) = (Lanes::load(&pixels[k..]), Lanes::load(&pixels[k + 1..]));
                (a * here + c * before).store(&mut this[k..]);
                (b * here + d * before).store(&mut other[k..]);
            }
        }
    }

    /// Spreads the rows along y and adds them to the coefficients. Each row of coefficients gets light from
    /// two rows of pixels.
    #[inline(always)]
    fn add_to(&self, grid: Grid, first: usize, y: Taps, target: &mut [f32]) {
        let len = self.len;
        for t in 0..2 * grid.stamp.side + 2 {
            let (early, late) = (Lanes::splat(y.weights[t % 2 + 2]), Lanes::splat(y.weights[t % 2]));
            for (column, rows) in [first, first + 1].into_iter().zip(&self.parities) {
                let (before, here) = (&rows[t / 2 * len..][..len], &rows[(t / 2 + 1) * len..][..len]);
                let target = &mut target[grid.index(y.start + t, column)..][..len];
                for k in (0..len).step_by(LANES) {
                    let sum = Lanes::load(&target[k..]) + early * Lanes::load(&before[k..]);
                    (sum + late * Lanes::load(&here[k..])).store(&mut target[k..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::psf::tests::rendered;

    #[test]
    fn corrections_lead_to_the_true_function() {
        let (half, truth) = (4, Psf::gaussian(4, 1.2));
        let start = Psf::gaussian(half, 0.9);
        let mut psf = start.clone();
        let (layout, weight) = (psf.layout(), 1e6);
        for _ in 0..20 {
            let mut correction = Correction::new(half);
            for k in 0..100 {
                let offset = [(k % 10) as f32 / 10.0 - 0.45, (k / 10) as f32 / 10.0 - 0.45];
                let (seen, model) = (rendered(&truth, offset), rendered(&psf, offset));
                let pixels = seen.value.iter().zip(&model.value);
                let residual: Vec<f32> = pixels.map(|(s, m)| weight * (s - m)).collect();
                correction.add(offset, &residual, &vec![weight; layout.len()]);
            }
            correction.apply(&mut psf, &start, 1.0, 0.0);
            psf.bound();
        }
        let (seen, model) = (rendered(&truth, [0.13, 0.37]), rendered(&psf, [0.13, 0.37]));
        let worst = seen.value.iter().zip(&model.value).map(|(s, m)| (s - m).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
        assert!(psf.centroid().iter().all(|c| c.abs() < 1e-3));
    }

    #[test]
    fn noise_is_no_departure_and_another_width_is_one() {
        let (half, start, stars) = (4, Psf::gaussian(4, 1.0), 40);
        let [noise, flux] = [1.0_f32, 60.0];
        // Evenly distributed, of unit variance.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            12.0_f32.sqrt() * ((state >> 40) as f32 / (1 << 24) as f32 - 0.5)
        };
        let mut freedom = |truth: &Psf| {
            let mut correction = Correction::new(half);
            for _ in 0..stars {
                let offset = [random(), random()].map(|r| 0.28 * r);
                let (seen, model) = (rendered(truth, offset), rendered(&start, offset));
                let weight = (flux / noise).powi(2);
                let residual: Vec<f32> = seen.value.iter().zip(&model.value).map(|(s, m)| s - m).collect();
                let residual: Vec<f32> =
                    residual.iter().map(|r| weight * (r + noise / flux * random())).collect();
                correction.add(offset, &residual, &vec![weight; residual.len()]);
            }
            let [wanted, measure] = correction.departure(&start, &start);
            wanted / measure
        };
        assert!(freedom(&start) < 1e-3);
        assert!(freedom(&Psf::gaussian(half, 1.3)) > 1e-2);
    }
}
