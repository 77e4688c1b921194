//! Sums over residuals for normal equations, which take nearly all the time of a fit.

use crate::simd::{Work, vectorized};

/// Rows of derivatives by all parameters, each with its residual and its weight.
pub(super) struct Rows<'a> {
    pub(super) derivatives: &'a [f64],
    pub(super) residuals: &'a [f64],
    pub(super) weights: &'a [f64],
}

/// Adds the rows to the upper triangle of the matrix and to the gradient.
pub(super) fn add(matrix: &mut [f64], gradient: &mut [f64], rows: Rows<'_>) {
    vectorized(Sums { matrix, gradient, rows });
}

struct Sums<'a> {
    matrix: &'a mut [f64],
    gradient: &'a mut [f64],
    rows: Rows<'a>,
}

/// Rows with fewer parameters than [`FEW`] are too short for vector instructions. Columns of [`BLOCK`]
/// residuals are not.
const FEW: usize = 16;
const BLOCK: usize = 64;

impl Work for Sums<'_> {
    type Output = ();

    // `Work` requires inlining, so that the code is compiled for the instructions of this machine.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn call(self) {
        if self.gradient.len() < FEW && self.rows.residuals.len() >= FEW {
            self.add_few();
        } else {
            self.add_any();
        }
    }
}

impl Sums<'_> {
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn add_any(self) {
        let Self { matrix, gradient, rows: Rows { derivatives, residuals, weights } } = self;
        let n = gradient.len();
        let rest = |k: usize, i: usize| &derivatives[k * n + i..(k + 1) * n];
        for i in 0..n {
            let sums = &mut matrix[i * n + i..(i + 1) * n];
            let mut k = 0;
            // Two rows at a time: each sum is then loaded and stored once for both.
            while k + 1 < residuals.len() {
                let (a, b) = (rest(k, i), rest(k + 1, i));
                let (wa, wb) = (weights[k] * a[0], weights[k + 1] * b[0]);
                gradient[i] += wa * residuals[k] + wb * residuals[k + 1];
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += wa * a + wb * b;
                }
                k += 2;
            }
            if k < residuals.len() {
                let a = rest(k, i);
                let wa = weights[k] * a[0];
                gradient[i] += wa * residuals[k];
                for (sum, a) in sums.iter_mut().zip(a) {
                    *sum += wa * a;
                }
            }
        }
    }

    /// The same sums for few parameters, with the rows copied to columns and the residuals in an extra last
    /// column.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn add_few(self) {
        let Self { matrix, gradient, rows: Rows { derivatives, residuals, weights } } = self;
        let n = gradient.len();
        let mut columns = [[0.0; BLOCK]; FEW];
        let blocks = derivatives.chunks(n * BLOCK).zip(residuals.chunks(BLOCK));
        for ((derivatives, residuals), weights) in blocks.zip(weights.chunks(BLOCK)) {
            for (k, (row, residual)) in derivatives.chunks_exact(n).zip(residuals).enumerate() {
                for (column, value) in columns.iter_mut().zip(row.iter().chain([residual])) {
                    column[k] = *value;
                }
            }
            let mut weighted = [0.0; BLOCK];
            for i in 0..n {
                // Elements beyond the last weight stay zero.
                for ((to, weight), value) in weighted.iter_mut().zip(weights).zip(&columns[i]) {
                    *to = weight * value;
                }
                for (element, column) in matrix[i * n + i..(i + 1) * n].iter_mut().zip(&columns[i..n]) {
                    *element += dot(&weighted, column);
                }
                gradient[i] += dot(&weighted, &columns[n]);
            }
        }
    }
}

/// Sum of products, in as many partial sums as the widest vector instructions have lanes, on any machine.
// Inlined into `Work`, which is compiled for the instructions of this machine.
#[allow(clippy::inline_always)]
#[inline(always)]
fn dot(a: &[f64; BLOCK], b: &[f64; BLOCK]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
