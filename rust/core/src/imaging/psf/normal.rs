//! Normal equations of the position and flux of a star, alone or together with touching neighbours.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use crate::lsq::small;
use crate::simd::ACCUMULATORS;

/// Largest number of neighbours that are fitted together with a star.
pub(super) const MAX_TOUCHING: usize = 2;
/// Relative damping of the neighbours' diagonal terms. It limits steps along directions that the pixels
/// hardly constrain.
const DAMPING: f64 = 0.01;
/// Unknowns of a star: x, y and flux.
const OWN: usize = 3;
const MAX_UNKNOWNS: usize = OWN * (1 + MAX_TOUCHING);

/// Normal equations of x, y, flux: the upper triangle and the right-hand side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normal {
    pub left: [f32; 6],
    pub right: [f32; 3],
    /// Sum of the squared residuals, each divided by its variance.
    pub chi2: f32,
    /// Number of pixels in that sum.
    pub pixels: f32,
}

impl Normal {
    /// Upper triangle of the inverse. `None` if the star has too few pixels or no light.
    #[inline]
    pub(super) fn inverse(&self) -> Option<[f32; 6]> {
        let [a, b, c, d, e, f] = self.left;
        let left = [f64::from(a), f64::from(b), f64::from(c), f64::from(d), f64::from(e), f64::from(f)];
        let [a, b, c, d, e, f] = small::inverse_of_symmetric(&left)?;
        let inverse = [a as f32, b as f32, c as f32, d as f32, e as f32, f as f32];
        inverse.iter().all(|v| v.is_finite()).then_some(inverse)
    }
}

/// Normal equations of x, y and flux of several stars on one stamp. The star of the stamp is the first.
#[derive(Debug)]
pub(super) struct JointNormal {
    unknowns: usize,
    /// One row per unknown: its coefficients, then the right-hand side in the last column.
    rows: [[f64; MAX_UNKNOWNS + 1]; MAX_UNKNOWNS],
}

impl JointNormal {
    /// Forms the equations from the columns of the design matrix, the weights and the residuals of the
    /// pixels. `weighted` is scratch space.
    #[inline(always)]
    pub(super) fn new<'a>(
        columns: impl Iterator<Item = &'a [f32]>,
        weight: &[f32],
        residual: &[f32],
        weighted: &mut [f32],
    ) -> Self {
        let mut known: [&[f32]; MAX_UNKNOWNS] = [&[]; MAX_UNKNOWNS];
        let mut rows = [[0.0; MAX_UNKNOWNS + 1]; MAX_UNKNOWNS];
        let mut unknowns = 0;
        for (a, column) in columns.enumerate().take(MAX_UNKNOWNS) {
            known[a] = column;
            unknowns = a + 1;
            for ((w, &weight), &value) in weighted.iter_mut().zip(weight).zip(column) {
                *w = weight * value;
            }
            for (b, other) in known[..=a].iter().enumerate() {
                let product = f64::from(dot(weighted, other));
                rows[a][b] = product;
                rows[b][a] = product;
            }
            rows[a][MAX_UNKNOWNS] = f64::from(dot(weighted, residual));
            if a >= OWN {
                rows[a][a] *= 1.0 + DAMPING;
            }
        }
        Self { unknowns, rows }
    }

    /// The equations of the first star after elimination of the other stars: upper triangle and right-hand
    /// side.
    pub(super) fn eliminated(mut self) -> ([f32; 6], [f32; 3]) {
        small::eliminate(&mut self.rows[..self.unknowns], OWN);
        let [x, y, f, ..] = self.rows;
        let left = [x[0], x[1], x[2], y[1], y[2], f[2]].map(|v| v as f32);
        (left, [x, y, f].map(|row| row[MAX_UNKNOWNS] as f32))
    }
}

/// The sum of the products of two stamps.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let [(whole, rest), (others, other_rest)] = [a, b].map(<[f32]>::as_chunks::<ACCUMULATORS>);
    let mut sums = [0.0; ACCUMULATORS];
    for (a, b) in whole.iter().zip(others) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(rest).zip(other_rest) {
        *sum += a * b;
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use nalgebra::{DMatrix, DVector};

    use super::*;

    #[test]
    fn elimination_gives_the_first_star_of_the_whole_solution() {
        let pixels = 64;
        let columns: Vec<Vec<f32>> = (0..6)
            .map(|k| (0..pixels).map(|p| ((p * (2 * k + 3) % 17) as f32 - 8.0) / (1.0 + k as f32)).collect())
            .collect();
        let weight: Vec<f32> = (0..pixels).map(|p| 1.0 + (p % 5) as f32).collect();
        let residual: Vec<f32> = (0..pixels).map(|p| (p % 7) as f32 - 3.0).collect();
        let mut scratch = vec![0.0; pixels];
        let (left, right) =
            JointNormal::new(columns.iter().map(Vec::as_slice), &weight, &residual, &mut scratch)
                .eliminated();
        let design = DMatrix::from_fn(pixels, 6, |p, k| f64::from(columns[k][p]));
        let weights = DMatrix::from_diagonal(&DVector::from_fn(pixels, |p, _| f64::from(weight[p])));
        let mut normal = design.transpose() * &weights * &design;
        for k in 3..6 {
            normal[(k, k)] *= 1.0 + DAMPING;
        }
        let b = design.transpose() * weights * DVector::from_fn(pixels, |p, _| f64::from(residual[p]));
        let solution = normal.lu().solve(&b).expect("it is not singular");
        let [xx, xy, xf, yy, yf, ff] = left.map(f64::from);
        let own = nalgebra::Matrix3::new(xx, xy, xf, xy, yy, yf, xf, yf, ff);
        let step = own.lu().solve(&nalgebra::Vector3::from(right.map(f64::from))).expect("nor is this");
        for k in 0..3 {
            assert!((step[k] - solution[k]).abs() < 1e-3 * solution.norm(), "{step} {solution}");
        }
    }
}
