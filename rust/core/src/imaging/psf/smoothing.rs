//! Low-pass filter for point-spread functions that are measured in one frame.
//!
//! A function with ripples of one pixel's period, and positions whose errors have that period, fit the stars
//! of one frame as well as the true function and the true positions (Anderson & King 2000, PASP 112, 1360).
//! Stars whose images are wider than a pixel have no such ripples. The filter removes them from the
//! difference between a function and the one it started with.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use std::f64::consts::{FRAC_PI_2, PI};

use super::Psf;
use crate::simd::{self, symmetric, vectorized};

/// Largest amplitude that the filter may take from any frequency of a Gaussian of the stars' width, whose
/// largest amplitude is 1. Larger values suppress more of the ripples, and bias the shape of narrow images.
const MAX_LOSS: f64 = 1e-3;
/// Lowest order of the filter, used for wide images.
const MIN_ORDER: i32 = 3;
/// Highest order of the filter, used even if its loss exceeds [`MAX_LOSS`].
const MAX_ORDER: i32 = 12;
/// Frequencies per cycle per pixel at which the loss is evaluated.
const FREQUENCIES: u32 = 50;
/// Number of columns of one parity that the filter of the highest order reads on each side of a column.
const REACH: usize = MAX_ORDER as usize / 2;

/// A filter along both axes with the response `1 - sin²ᵖ(πf/2)` at f cycles per pixel, where p is its order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Smoothing {
    /// Half of the symmetric kernel, from its centre outwards.
    kernel: Vec<f32>,
}

impl Smoothing {
    /// The strongest filter that keeps images of this standard deviation (pixels).
    pub(crate) fn of_width(sigma: f64) -> Self {
        let loss = |order: i32| {
            let at = |k: u32| {
                let f = f64::from(k) / f64::from(FREQUENCIES);
                (FRAC_PI_2 * f).sin().powi(2 * order) * (-2.0 * (PI * sigma * f).powi(2)).exp()
            };
            (1..=FREQUENCIES).map(at).fold(0.0, f64::max)
        };
        Self::of_order((MIN_ORDER..MAX_ORDER).find(|&order| loss(order) <= MAX_LOSS).unwrap_or(MAX_ORDER))
    }

    /// The filter of this order. The kernel of `sin²ᵖ` has binomial coefficients over 4ᵖ, with alternating
    /// signs.
    fn of_order(order: i32) -> Self {
        let middle: f64 = (1..=order).map(|k| 1.0 - 0.5 / f64::from(k)).product();
        let mut binomial = middle;
        let side = (1..=order).map(|i| {
            binomial *= -f64::from(order - i + 1) / f64::from(order + i);
            -binomial as f32
        });
        Self { kernel: std::iter::once((1.0 - middle) as f32).chain(side).collect() }
    }

    /// Filters the departure of a function from `start`.
    pub(crate) fn apply(&self, psf: &mut Psf, start: &Psf) {
        vectorized(Smooth { kernel: &self.kernel, psf, start });
    }
}

struct Smooth<'a> {
    kernel: &'a [f32],
    psf: &'a mut Psf,
    start: &'a Psf,
}

impl simd::Work for Smooth<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let grid = self.psf.grid();
        let (length, plane) = (grid.row(), grid.plane);
        let (now, start) = (&mut self.psf.coefficients, &self.start.coefficients);
        let departure: Vec<f32> = now.iter().zip(start).map(|(now, start)| now - start).collect();
        // A row filtered along y: its even columns, and its odd columns, each with zeros on both sides.
        let padded = plane + 2 * REACH;
        let mut filtered = vec![0.0; 2 * padded];
        let mut taps = vec![[0; 2]; self.kernel.len()];
        let [first, last] = grid.bounds();
        for y in first..=last {
            for (parity, columns) in filtered.chunks_exact_mut(padded).enumerate() {
                for (i, taps) in taps.iter_mut().enumerate() {
                    // The departure is zero in the rim, so a row of the rim can replace the rows beyond the grid.
                    let rows = [y.saturating_sub(i), (y + i).min(grid.side - 1)];
                    *taps = rows.map(|row| row * length + parity * plane);
                }
                symmetric(self.kernel, &taps, &departure, &mut columns[REACH..REACH + plane]);
            }
            for (column, places) in grid.columns(y) {
                for (i, taps) in taps.iter_mut().enumerate() {
                    // Column c is at c / 2 among those of its parity.
                    let columns = [column + 2 * REACH - i, column + 2 * REACH + i];
                    *taps = columns.map(|column| column % 2 * padded + column / 2);
                }
                let out = &mut now[places.clone()];
                symmetric(self.kernel, &taps, &filtered, out);
                for (out, start) in out.iter_mut().zip(&start[places]) {
                    *out += start;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grid;
    use super::*;

    #[test]
    fn waves_are_filtered_by_their_frequency() {
        let start = Psf::gaussian(9, 1.0);
        let (grid, centre) = (start.grid(), Grid::centre(9));
        for order in [MIN_ORDER, 6, MAX_ORDER] {
            let response = |f: f64| 1.0 - (FRAC_PI_2 * f).sin().powi(2 * order);
            for [fx, fy] in [[0.0, 0.0], [0.25, 0.0], [0.0, 0.5], [0.75, 0.25], [1.0, 0.0]] {
                let wave = |k: usize, l: usize| {
                    let phase = |f: f64, n: usize| PI * f * (n as f64 - centre as f64);
                    (phase(fx, l) + phase(fy, k) + 0.4).cos() as f32
                };
                let mut psf = start.clone();
                for (k, l) in (0..grid.side).flat_map(|k| (0..grid.side).map(move |l| (k, l))) {
                    psf.coefficients[grid.index(k, l)] += wave(k, l);
                }
                Smoothing::of_order(order).apply(&mut psf, &start);
                for (k, l) in [(centre, centre), (centre, centre + 1), (centre - 1, centre)] {
                    let left = psf.coefficients[grid.index(k, l)] - start.coefficients[grid.index(k, l)];
                    let expected = (response(fx) * response(fy)) as f32 * wave(k, l);
                    assert!((left - expected).abs() < 1e-5, "{order} {fx} {fy}: {left} {expected}");
                }
            }
        }
    }

    #[test]
    fn narrow_images_keep_more_detail_than_wide_ones() {
        let taps = |sigma: f64| Smoothing::of_width(sigma).kernel.len() as i32 - 1;
        assert_eq!([taps(0.4), taps(3.0)], [MAX_ORDER, MIN_ORDER]);
        assert!((MIN_ORDER..MAX_ORDER).contains(&taps(0.8)));
    }
}
