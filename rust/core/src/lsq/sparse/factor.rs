//! Solutions and the inverse of a factorised system of blocks.

// The inlined functions are parts of loops that `vectorized` compiles for several kinds of machine.
#![allow(clippy::inline_always)]

use std::sync::Arc;

use super::{BlockMatrix, Factor, Pattern};
use crate::simd::{Work, vectorized};

impl Factor {
    /// Which parameters are frozen, in the order of elimination.
    pub fn frozen(&self) -> Vec<bool> {
        self.scale.iter().map(|&s| s == 0.0).collect()
    }

    /// Solves for `columns` right-hand sides at once. Each row of `right` belongs to a parameter, in the
    /// order of elimination.
    pub fn solve(&self, right: &mut [f64], columns: usize) {
        let p = &self.matrix.pattern;
        let row = |i: usize| i * columns..(i + 1) * columns;
        for (i, scale) in self.scale.iter().enumerate() {
            right[row(i)].iter_mut().for_each(|v| *v *= scale);
        }
        for at in 0..p.sizes.len() {
            let (size, start, panel) = (p.sizes[at], p.starts[at], &self.matrix.panels[at]);
            for j in 0..size {
                let root = if self.scale[start + j] == 0.0 { 0.0 } else { panel[j * size + j].recip() };
                right[row(start + j)].iter_mut().for_each(|v| *v *= root);
                let known = right[row(start + j)].to_vec();
                for (offset, first) in p.blocks(at) {
                    for i in if offset == 0 { j + 1 } else { 0 }..p.height(at, offset) {
                        let factor = panel[(offset + i) * size + j];
                        for (v, k) in right[row(first + i)].iter_mut().zip(&known) {
                            *v -= factor * k;
                        }
                    }
                }
            }
        }
        for at in (0..p.sizes.len()).rev() {
            let (size, start, panel) = (p.sizes[at], p.starts[at], &self.matrix.panels[at]);
            for j in (0..size).rev() {
                let mut sum = right[row(start + j)].to_vec();
                for (offset, first) in p.blocks(at) {
                    for i in if offset == 0 { j + 1 } else { 0 }..p.height(at, offset) {
                        let factor = panel[(offset + i) * size + j];
                        for (s, v) in sum.iter_mut().zip(&right[row(first + i)]) {
                            *s -= factor * v;
                        }
                    }
                }
                let root = if self.scale[start + j] == 0.0 { 0.0 } else { panel[j * size + j].recip() };
                for (v, s) in right[row(start + j)].iter_mut().zip(sum) {
                    *v = s * root;
                }
            }
        }
        for (i, scale) in self.scale.iter().enumerate() {
            right[row(i)].iter_mut().for_each(|v| *v *= scale);
        }
    }

    /// The elements of the inverse that have a place in the factor; zero for frozen parameters.
    ///
    /// Only these elements are computed (Takahashi, Fagan & Chen 1973).
    pub fn inverse(&self) -> BlockMatrix {
        let mut inverse = BlockMatrix::new(Arc::clone(&self.matrix.pattern));
        for at in (0..inverse.panels.len()).rev() {
            let panel = self.inverse_panel(&inverse, at);
            inverse.panels[at] = panel;
        }
        inverse.rescale(&self.scale, 0.0);
        inverse
    }

    /// Diagonal blocks of the inverse, in the order in which the blocks were given, each row by row.
    pub fn inverse_blocks(&self) -> Vec<Vec<f64>> {
        let (p, inverse) = (&self.matrix.pattern, self.inverse());
        p.place.iter().map(|&at| inverse.panels[at][..p.sizes[at] * p.sizes[at]].to_vec()).collect()
    }

    fn inverse_panel(&self, inverse: &BlockMatrix, at: usize) -> Vec<f64> {
        let p = &self.matrix.pattern;
        let (size, rows) = (p.sizes[at], p.panel_rows(at));
        let below = rows - size;
        // G = L below the diagonal times the inverse of the diagonal block.
        let mut g = self.matrix.panels[at].clone();
        let l = &self.matrix.panels[at][..size * size];
        for row in g.chunks_exact_mut(size).skip(size) {
            for j in (0..size).rev() {
                let sum: f64 = (j + 1..size).map(|k| row[k] * l[k * size + j]).sum();
                row[j] = (row[j] - sum) / l[j * size + j];
            }
        }
        let g = &g[size * size..];
        let mut panel = vec![0.0; rows * size];
        vectorized(Below { pattern: p, inverse, at, g, panel: &mut panel });
        let own = inverse_of_lower(l, size);
        for i in 0..size {
            for j in 0..size {
                let first: f64 = (i.max(j)..size).map(|k| own[k * size + i] * own[k * size + j]).sum();
                let rest: f64 = (0..below).map(|k| g[k * size + i] * panel[(size + k) * size + j]).sum();
                panel[i * size + j] = first - rest;
            }
        }
        self.clear_frozen(&mut panel, at);
        panel
    }

    /// Sets the rows and columns of frozen parameters in a panel of the inverse to zero.
    fn clear_frozen(&self, panel: &mut [f64], at: usize) {
        let p = &self.matrix.pattern;
        let (size, start) = (p.sizes[at], p.starts[at]);
        for (offset, first) in p.blocks(at) {
            for i in 0..p.height(at, offset) {
                for j in 0..size {
                    if self.scale[first + i] == 0.0 || self.scale[start + j] == 0.0 {
                        panel[(offset + i) * size + j] = 0.0;
                    }
                }
            }
        }
    }
}

/// Computes the part below the diagonal block of a panel of the inverse, from the later panels.
struct Below<'a> {
    pattern: &'a Pattern,
    inverse: &'a BlockMatrix,
    at: usize,
    /// Rows of the factor below the diagonal block times the inverse of that block.
    g: &'a [f64],
    panel: &'a mut [f64],
}

impl Work for Below<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { pattern: p, inverse, at, g, panel } = self;
        let size = p.sizes[at];
        let row_of = |i: usize| i * size..(i + 1) * size;
        for (m, &column) in p.rows[at].iter().enumerate() {
            let (width, first) = (p.sizes[column], p.offsets[at][m]);
            let rows = &p.rows[at][m..];
            for (k, (&row, offset)) in (m..).zip(rows.iter().zip(p.offsets_among(column, rows))) {
                let (height, second) = (p.sizes[row], p.offsets[at][k]);
                let z = &inverse.panels[column][offset * width..(offset + height) * width];
                for i in 0..height {
                    let out = &mut panel[row_of(second + i)];
                    for j in 0..width {
                        subtract(z[i * width + j], &g[row_of(first - size + j)], out);
                    }
                }
                if row == column {
                    continue;
                }
                for j in 0..width {
                    let out = &mut panel[row_of(first + j)];
                    for i in 0..height {
                        subtract(z[i * width + j], &g[row_of(second - size + i)], out);
                    }
                }
            }
        }
    }
}

/// Subtracts a multiple of one row from another.
#[inline(always)]
fn subtract(factor: f64, row: &[f64], from: &mut [f64]) {
    for (v, r) in from.iter_mut().zip(row) {
        *v -= factor * r;
    }
}

fn inverse_of_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for j in 0..n {
        for i in j..n {
            let sum: f64 = (j..i).map(|k| l[i * n + k] * inverse[k * n + j]).sum();
            inverse[i * n + j] = (f64::from(u8::from(i == j)) - sum) / l[i * n + i];
        }
    }
    inverse
}
