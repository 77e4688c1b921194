//! Symmetric positive definite systems of blocks, most of which are zero: sources that touch only their
//! neighbours.
//!
//! Blocks are ordered by nested dissection of their positions in a plane (George 1973, SIAM Journal on
//! Numerical Analysis 10, 345), and factorised as `D⁻¹ L Lᵀ D⁻¹` with the scaling D that gives a unit
//! diagonal. As in [`normal`](super::normal), a parameter is frozen if none of its information remains once
//! the preceding parameters are known: it does not move.

// The inlined functions are parts of loops that `vectorized` compiles for several kinds of machine.
#![allow(clippy::inline_always)]

use std::sync::Arc;

use rayon::prelude::*;

use super::normal::RANK_TOLERANCE;
use crate::simd::{Work, vectorized};

mod factor;

/// Sets of at most this many blocks are not dissected further.
const LEAF: usize = 8;

/// Number of parameters of blocks that are multiplied without loops.
const SMALL: usize = 3;

/// Number of multiplications of a panel with later ones above which they are distributed over threads.
const PARALLEL: usize = 1 << 20;

/// The blocks that are not zero, in the order of elimination.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Number of parameters of each block, by its place in the order of elimination.
    sizes: Vec<usize>,
    /// Place of each block in the order of elimination.
    place: Vec<usize>,
    /// First parameter of each block in the order of elimination.
    starts: Vec<usize>,
    /// For each place, the later places whose blocks in its column are not zero, ascending.
    rows: Vec<Vec<usize>>,
    /// For each place, the first row of each of those blocks in its panel, and the panel's number of rows.
    offsets: Vec<Vec<usize>>,
}

impl Pattern {
    /// The pattern of blocks of these sizes at these points, and of pairs of blocks that touch.
    pub fn new(sizes: &[usize], points: &[[f64; 2]], pairs: &[(usize, usize)]) -> Self {
        let n = sizes.len();
        let mut touching = vec![Vec::new(); n];
        for &(a, b) in pairs.iter().filter(|(a, b)| a != b) {
            touching[a].push(b);
            touching[b].push(a);
        }
        let mut order = Vec::with_capacity(n);
        dissect((0..n).collect(), points, &touching, &mut order);
        let mut place = vec![0; n];
        for (at, &block) in order.iter().enumerate() {
            place[block] = at;
        }
        let sizes: Vec<usize> = order.iter().map(|&block| sizes[block]).collect();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); n];
        for at in 0..n {
            rows[at].extend(touching[order[at]].iter().map(|&b| place[b]).filter(|&b| b > at));
            rows[at].sort_unstable();
            rows[at].dedup();
            // The rest of a column passes to the first block that the column touches: its parent in the
            // elimination tree.
            if let [parent, rest @ ..] = &rows[at][..] {
                let (parent, rest) = (*parent, rest.to_vec());
                rows[parent].extend(rest);
            }
        }
        let mut starts = Vec::with_capacity(n + 1);
        let mut total = 0;
        for size in &sizes {
            starts.push(total);
            total += size;
        }
        starts.push(total);
        let offsets = (0..n).map(|at| {
            let mut offset = sizes[at];
            let mut offsets = Vec::with_capacity(rows[at].len() + 1);
            for &row in &rows[at] {
                offsets.push(offset);
                offset += sizes[row];
            }
            offsets.push(offset);
            offsets
        });
        let offsets = offsets.collect();
        Self { sizes, place, starts, rows, offsets }
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.starts[self.sizes.len()]
    }

    /// Approximate number of multiplications of a factorisation.
    pub fn work(&self) -> f64 {
        (0..self.sizes.len())
            .map(|at| self.sizes[at] as f64 * (self.panel_rows(at) as f64).powi(2) / 2.0)
            .sum()
    }

    /// First parameter of a block in the order of elimination.
    pub fn start(&self, block: usize) -> usize {
        self.starts[self.place[block]]
    }

    fn panel_rows(&self, at: usize) -> usize {
        *self.offsets[at].last().unwrap_or(&0)
    }

    /// First row in panel `column` of the block of a later place; `None` if that block is zero.
    fn offset(&self, column: usize, row: usize) -> Option<usize> {
        if row == column {
            return Some(0);
        }
        self.rows[column].binary_search(&row).ok().map(|k| self.offsets[column][k])
    }
}

/// Appends blocks in an order in which two halves precede the blocks that separate them.
fn dissect(set: Vec<usize>, points: &[[f64; 2]], touching: &[Vec<usize>], order: &mut Vec<usize>) {
    if set.len() <= LEAF {
        order.extend(set);
        return;
    }
    let spread = |axis: usize| {
        let values = set.iter().map(|&k| points[k][axis]);
        values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min)
    };
    let axis = usize::from(spread(1) > spread(0));
    let mut sorted = set;
    sorted.sort_by(|&a, &b| points[a][axis].total_cmp(&points[b][axis]).then(a.cmp(&b)));
    let upper = sorted.split_off(sorted.len() / 2);
    let mut below = vec![false; touching.len()];
    for &k in &sorted {
        below[k] = true;
    }
    let (between, upper): (Vec<usize>, Vec<usize>) =
        upper.into_iter().partition(|&k| touching[k].iter().any(|&other| below[other]));
    dissect(sorted, points, touching, order);
    dissect(upper, points, touching, order);
    order.extend(between);
}

/// A symmetric matrix of blocks. Each place has a panel: its diagonal block and those below it, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMatrix {
    pattern: Arc<Pattern>,
    panels: Vec<Vec<f64>>,
}

/// A factorised [`BlockMatrix`].
#[derive(Debug, Clone)]
pub struct Factor {
    matrix: BlockMatrix,
    /// The scaling D in the order of elimination; 0 for frozen parameters.
    scale: Vec<f64>,
}

impl BlockMatrix {
    /// A matrix of zeros.
    pub fn new(pattern: Arc<Pattern>) -> Self {
        let panels = (0..pattern.sizes.len()).map(|at| vec![0.0; pattern.panel_rows(at) * pattern.sizes[at]]);
        Self { panels: panels.collect(), pattern }
    }

    /// The pattern.
    pub fn pattern(&self) -> &Arc<Pattern> {
        &self.pattern
    }

    /// Adds to one element: parameter `i` of block `a` and `j` of block `b`, which touches `a` or is the same
    /// block.
    ///
    /// Within one block, both `(i, j)` and `(j, i)` must be added.
    ///
    /// # Panics
    /// If the blocks do not touch.
    pub fn add(&mut self, (a, i): (usize, usize), (b, j): (usize, usize), value: f64) {
        let (a, b) = (self.pattern.place[a], self.pattern.place[b]);
        let ((row, i), (column, j)) = if a >= b { ((a, i), (b, j)) } else { ((b, j), (a, i)) };
        let offset = self.pattern.offset(column, row).expect("blocks that touch");
        self.panels[column][(offset + i) * self.pattern.sizes[column] + j] += value;
    }

    /// Adds a square of elements: `count` parameters of block `a` from `i` on, by those of block `b` from `j`
    /// on.
    ///
    /// Block `b` touches `a` or is the same block. Within one block, the elements both above and below the
    /// diagonal must be added.
    ///
    /// # Panics
    /// If the blocks do not touch.
    pub fn add_block(
        &mut self,
        (a, i): (usize, usize),
        (b, j): (usize, usize),
        count: usize,
        value: impl Fn(usize, usize) -> f64,
    ) {
        let p = &self.pattern;
        let (a, b) = (p.place[a], p.place[b]);
        let turned = a < b;
        let ((row, i), (column, j)) = if turned { ((b, j), (a, i)) } else { ((a, i), (b, j)) };
        let first = i + p.offset(column, row).expect("blocks that touch");
        let width = p.sizes[column];
        let rows = &mut self.panels[column][first * width..(first + count) * width];
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for (j, element) in row[j..j + count].iter_mut().enumerate() {
                *element += if turned { value(j, i) } else { value(i, j) };
            }
        }
    }

    /// One element: parameter `i` of block `a` and `j` of block `b`, which touches `a` or is the same block.
    ///
    /// # Panics
    /// If the blocks do not touch.
    pub fn element(&self, (a, i): (usize, usize), (b, j): (usize, usize)) -> f64 {
        let p = &self.pattern;
        let (a, b) = (p.place[a], p.place[b]);
        let ((row, i), (column, j)) = if a >= b { ((a, i), (b, j)) } else { ((b, j), (a, i)) };
        let offset = p.offset(column, row).expect("blocks that touch");
        self.panels[column][(offset + i) * p.sizes[column] + j]
    }

    /// The diagonal, in the order of elimination.
    pub fn diagonal(&self) -> Vec<f64> {
        let sizes = &self.pattern.sizes;
        let of = |at: usize| (0..sizes[at]).map(move |i| self.panels[at][i * sizes[at] + i]);
        (0..sizes.len()).flat_map(of).collect()
    }

    /// The matrix times a vector, in the order of elimination.
    pub fn multiply(&self, x: &[f64]) -> Vec<f64> {
        let (p, mut out) = (&self.pattern, vec![0.0; x.len()]);
        for at in 0..p.sizes.len() {
            let (size, start) = (p.sizes[at], p.starts[at]);
            for (offset, first) in p.blocks(at) {
                for i in 0..p.height(at, offset) {
                    let row = &self.panels[at][(offset + i) * size..(offset + i + 1) * size];
                    for (j, value) in row.iter().enumerate() {
                        out[first + i] += value * x[start + j];
                        if offset > 0 {
                            out[start + j] += value * x[first + i];
                        }
                    }
                }
            }
        }
        out
    }

    /// Factorises the matrix with `damping` times its diagonal added to it.
    ///
    /// Parameters that are `held`, in the order of elimination, are frozen; none are if the list is empty.
    pub fn factor(&self, damping: f64, held: &[bool]) -> Factor {
        let mut scale: Vec<f64> = self
            .diagonal()
            .iter()
            .map(|d| if *d > 0.0 && d.is_finite() { d.sqrt().recip() } else { 0.0 })
            .collect();
        scale.iter_mut().zip(held).filter(|(_, held)| **held).for_each(|(scale, _)| *scale = 0.0);
        let mut matrix = self.clone();
        matrix.rescale(&scale, damping);
        for at in 0..self.pattern.sizes.len() {
            matrix.eliminate(at, &mut scale);
        }
        Factor { matrix, scale }
    }

    fn rescale(&mut self, scale: &[f64], damping: f64) {
        let p = Arc::clone(&self.pattern);
        for at in 0..p.sizes.len() {
            let (size, start) = (p.sizes[at], p.starts[at]);
            for (offset, first) in p.blocks(at) {
                for i in 0..p.height(at, offset) {
                    for j in 0..size {
                        let value = &mut self.panels[at][(offset + i) * size + j];
                        *value *= scale[first + i] * scale[start + j];
                        if offset == 0 && i == j {
                            *value += damping;
                        }
                    }
                }
            }
        }
    }

    /// One step of the Cholesky factorisation: finishes a panel, and subtracts it from the later panels.
    fn eliminate(&mut self, at: usize, scale: &mut [f64]) {
        let p = Arc::clone(&self.pattern);
        let (size, start, rows) = (p.sizes[at], p.starts[at], p.panel_rows(at));
        let mut panel = std::mem::take(&mut self.panels[at]);
        for j in 0..size {
            let own = &panel[j * size..j * size + j];
            let pivot = panel[j * size + j] - dot(own, own);
            let frozen = scale[start + j] == 0.0 || pivot <= RANK_TOLERANCE || !pivot.is_finite();
            if frozen {
                scale[start + j] = 0.0;
                panel[j * size..j * size + j].fill(0.0);
            }
            let root = if frozen { 1.0 } else { pivot.sqrt() };
            for i in j..rows {
                let (row, above) = (i * size, j * size);
                let product = dot(&panel[row..row + j], &panel[above..above + j]);
                panel[row + j] = match (i == j, frozen) {
                    (true, _) => root,
                    (false, true) => 0.0,
                    (false, false) => (panel[row + j] - product) / root,
                };
            }
        }
        let of = |(k, &column): (usize, &usize)| (k, std::mem::take(&mut self.panels[column]));
        let mut targets: Vec<(usize, Vec<f64>)> = p.rows[at].iter().enumerate().map(of).collect();
        let update = |(k, target): &mut (usize, Vec<f64>)| {
            vectorized(Update { pattern: &p, at, panel: &panel, k: *k, target });
        };
        if rows * rows * size > PARALLEL {
            targets.par_iter_mut().for_each(update);
        } else {
            targets.iter_mut().for_each(update);
        }
        for (k, target) in targets {
            self.panels[p.rows[at][k]] = target;
        }
        self.panels[at] = panel;
    }
}

/// A finished panel, and a later one from which it is subtracted.
struct Update<'a> {
    pattern: &'a Pattern,
    at: usize,
    panel: &'a [f64],
    /// Index of the later panel among the places below the finished one.
    k: usize,
    target: &'a mut [f64],
}

impl Work for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { pattern: p, at, panel, k, target } = self;
        let (column, size, first) = (p.rows[at][k], p.sizes[at], p.offsets[at][k]);
        let (width, rows) = (p.sizes[column], &p.rows[at][k..]);
        // Most blocks are of stars in one image, which have three parameters.
        let small = (size == SMALL && width == SMALL).then(|| square(&panel[first * SMALL..]));
        for ((&row, to), from) in rows.iter().zip(p.offsets_among(column, rows)).zip(&p.offsets[at][k..]) {
            if let Some(b) = &small {
                let (from, to, len) = (from * SMALL, to * SMALL, p.sizes[row] * SMALL);
                take_out(&mut target[to..to + len], &panel[from..from + len], b);
                continue;
            }
            for i in 0..p.sizes[row] {
                let a = &panel[(from + i) * size..(from + i + 1) * size];
                for j in 0..width {
                    let b = &panel[(first + j) * size..(first + j + 1) * size];
                    target[(to + i) * width + j] -= dot(a, b);
                }
            }
        }
    }
}

impl Pattern {
    /// First rows in panel `column` of the blocks of `places`, which ascend from `column` and are all in the
    /// panel.
    #[inline(always)]
    fn offsets_among<'a>(&'a self, column: usize, places: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        let mut below = self.rows[column].iter().zip(&self.offsets[column]);
        places.iter().map(move |&place| {
            if place == column {
                return 0;
            }
            let found = below.find(|(row, _)| **row == place);
            *found.expect("fill is part of the pattern").1
        })
    }

    /// First row of each block of a panel, and the first parameter of that block.
    fn blocks(&self, at: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let below = self.rows[at].iter().zip(&self.offsets[at]);
        std::iter::once((0, self.starts[at])).chain(below.map(|(&row, &offset)| (offset, self.starts[row])))
    }

    /// Number of rows of the block that begins at row `offset` of a panel.
    fn height(&self, at: usize, offset: usize) -> usize {
        if offset == 0 {
            return self.sizes[at];
        }
        let k = self.offsets[at].binary_search(&offset).expect("a block's first row");
        self.offsets[at][k + 1] - offset
    }
}

/// A block of [`SMALL`] rows and columns.
type Square = [[f64; SMALL]; SMALL];

/// The first block of a panel.
#[inline(always)]
fn square(panel: &[f64]) -> Square {
    let mut block = [[0.0; SMALL]; SMALL];
    for i in 0..SMALL {
        for j in 0..SMALL {
            block[i][j] = panel[i * SMALL + j];
        }
    }
    block
}

/// Subtracts the products of `rows` with the rows of a block from `target`.
#[inline(always)]
fn take_out(target: &mut [f64], rows: &[f64], block: &Square) {
    for (target, row) in target.chunks_exact_mut(SMALL).zip(rows.chunks_exact(SMALL)) {
        for (value, other) in target.iter_mut().zip(block) {
            *value -= row[0] * other[0] + row[1] * other[1] + row[2] * other[2];
        }
    }
}

/// Sum of products, in four partial sums.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for k in 0..4 {
            sums[k] += a[k] * b[k];
        }
    }
    sums[0] + sums[1] + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests;
