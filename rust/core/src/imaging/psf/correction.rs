//! Corrections to a point-spread function, from what it leaves of the stars.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

use super::{Grid, OVERSAMPLING, Psf, Taps};
use crate::simd::{self, vectorized};

/// Noise of a wanted departure, as a fraction of the inverse weight. One step alone has (151/315)², for its taps are
/// correlated; steps add to that. More of it keeps shapes that vary from doing so, less lets noise in.
const DEPARTURE_NOISE: f32 = 0.4;
/// Corrections are taken so much further than each alone would go: below 2 that is stable, and converges faster.
const RELAXATION: f32 = 1.7;

/// Corrections to the coefficients, gathered from the residuals of many stars.
#[derive(Debug, Clone)]
pub(crate) struct Correction {
    grid: Grid,
    sum: Vec<f32>,
    weight: Vec<f32>,
    rows: [Vec<f32>; 2],
}

impl Correction {
    pub(crate) fn new(half: usize) -> Self {
        let grid = Grid::new(half);
        let zeros = || vec![0.0; grid.side * grid.row()];
        let row = || vec![0.0; grid.row()];
        Self { grid, sum: zeros(), weight: zeros(), rows: [row(), row()] }
    }

    /// Forgets all residuals.
    pub(crate) fn clear(&mut self) {
        self.sum.fill(0.0);
        self.weight.fill(0.0);
    }

    /// Spreads weighted residuals (in fractions of the star's flux) and their weights over the coefficients under them.
    pub(crate) fn add(&mut self, offset: [f32; 2], residual: &[f32], weight: &[f32]) {
        vectorized(Spread { correction: self, offset, stamps: [residual, weight] });
    }

    /// Joins a part of what another task gathered.
    pub(crate) fn merge(&mut self, other: &Self, part: f32) {
        simd::add_scaled(&mut self.sum, part, &other.sum);
        simd::add_scaled(&mut self.weight, part, &other.weight);
    }

    /// Mean weight of a coefficient.
    pub(crate) fn mean_weight(&self) -> f32 {
        self.weight.iter().sum::<f32>() / (self.grid.side * self.grid.side) as f32
    }

    /// Indices of the coefficients that are corrected: at the rim, where few pixels reach, there is nothing but noise.
    fn inside(&self) -> impl Iterator<Item = usize> {
        let rim = Grid::centre(self.grid.stamp.half) - OVERSAMPLING * self.grid.stamp.half - 1;
        let inner = rim..self.grid.side - rim;
        let columns = inner.clone();
        let within = move |row| columns.clone().map(move |column| self.grid.index(row, column));
        inner.flat_map(within).filter(|&k| self.weight[k] > 0.0)
    }

    /// Sums over the coefficients: the squared departure from `start` that is wanted, less what noise explains, and the
    /// square of what departures are measured in.
    pub(crate) fn departure(&self, psf: &Psf, start: &Psf) -> [f32; 2] {
        let scale = start.departure_scale();
        self.inside().fold([0.0; 2], |[wanted, measure], k| {
            let departure = psf.coefficients[k] - start.coefficients[k] + self.sum[k] / self.weight[k];
            let known = self.weight[k];
            [wanted + known * departure.powi(2) - DEPARTURE_NOISE, measure + known * scale(k).powi(2)]
        })
    }

    /// Applies the correction; each coefficient stays as it was with the weight `prior`, and near that of `start` with the
    /// variance `freedom`, in what departures are measured in.
    pub(crate) fn apply(&self, psf: &mut Psf, start: &Psf, freedom: f32, prior: f32) {
        let scale = start.departure_scale();
        for k in self.inside() {
            let variance = freedom * scale(k).powi(2);
            let back = start.coefficients[k] - psf.coefficients[k];
            psf.coefficients[k] +=
                RELAXATION * (variance * self.sum[k] + back) / (variance * (self.weight[k] + prior) + 1.0);
        }
        psf.noise = 1.0 / (self.mean_weight() + prior).sqrt();
        psf.bound();
    }
}

/// The spreading of a star's residuals and weights over the coefficients.
struct Spread<'a> {
    correction: &'a mut Correction,
    offset: [f32; 2],
    stamps: [&'a [f32]; 2],
}

impl simd::Work for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Correction { grid, sum, weight, rows: [residuals, weights] } = self.correction;
        let half = grid.stamp.half;
        let (x, y) = (Taps::new(half, self.offset[0]), Taps::new(half, self.offset[1]));
        let [residual, known] = self.stamps;
        for j in 0..grid.stamp.side {
            let start = j * grid.stamp.stride;
            spread_row(*grid, x, &residual[start..start + grid.stamp.side], residuals);
            spread_row(*grid, x, &known[start..start + grid.stamp.side], weights);
            for (b, &w) in y.weights.iter().enumerate() {
                let first = (y.start + OVERSAMPLING * j + b) * grid.row();
                add_row(*grid, x, w, residuals, &mut sum[first..first + grid.row()]);
                add_row(*grid, x, w, weights, &mut weight[first..first + grid.row()]);
            }
        }
    }
}

/// Spreads the pixels of a row of a stamp over the coefficients along it.
#[inline(always)]
fn spread_row(grid: Grid, x: Taps, pixels: &[f32], row: &mut [f32]) {
    let reach = x.start / 2..x.start / 2 + pixels.len() + 3;
    row[reach.clone()].fill(0.0);
    row[grid.plane..][reach].fill(0.0);
    for (a, &w) in x.weights.iter().enumerate() {
        let first = grid.index(0, x.start + a);
        for (r, &v) in row[first..first + pixels.len()].iter_mut().zip(pixels) {
            *r += w * v;
        }
    }
}

/// Adds `w` times a row that pixels were spread over, where they were.
#[inline(always)]
fn add_row(grid: Grid, x: Taps, w: f32, row: &[f32], target: &mut [f32]) {
    let len = grid.stamp.side + 3;
    for first in [x.start / 2, grid.plane + x.start / 2] {
        for (t, &v) in target[first..first + len].iter_mut().zip(&row[first..first + len]) {
            *t += w * v;
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
