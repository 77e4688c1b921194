//! The grid of cells into which patterns are sorted by shape.

use std::ops::Range;

use crate::pattern::{Pattern, PatternWindow};

/// A grid over three of the five ratios. Two ratios are divided coarsely, the third finely. Cells along the
/// third ratio are adjacent in memory, so a look-up of any tolerance reads a few short runs of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RatioGrid {
    /// Number of steps of each of the two coarse ratios.
    pub(super) coarse: u32,
    /// Number of steps of the fine ratio.
    pub(super) fine: u32,
}

/// Indices of the ratios of the grid: coarse, coarse and fine. Among all triples of ratios, these leave the
/// fewest patterns within a tolerance of a random shape.
const AXES: [usize; 3] = [2, 4, 0];

/// Number of cells per pattern. More cells make look-ups at small tolerances faster and the file larger: a
/// cell takes 4 bytes, a pattern 32.
const CELLS_PER_PATTERN: f64 = 1.25;

/// Maximum number of steps of the fine ratio: with more, some steps would be finer than the 16 bits of a
/// ratio.
const MOST_FINE_STEPS: f64 = 65536.0;

/// Number of steps of the first ratio by which patterns are sorted while they are made. It is a power of two,
/// like the coarse steps of any grid, and at least as large.
pub(super) const BUCKETS: usize = 128;

impl Pattern {
    /// The step of the pattern in the first ratio of the grid, out of [`BUCKETS`] steps.
    pub(super) fn bucket(&self) -> usize {
        step(self.ratios[AXES[0]], BUCKETS as u32)
    }
}

impl RatioGrid {
    /// The grid for a number of patterns. It has about as many cells as patterns, so that a look-up at the
    /// usual tolerance of 0.001 reads one run of a few patterns, and the offsets are small relative to the
    /// patterns.
    pub(super) fn for_patterns(patterns: usize) -> Self {
        let steps = (patterns as f64).cbrt().clamp(4.0, BUCKETS as f64) as u32;
        let coarse = 1 << steps.ilog2();
        let fine = patterns as f64 * CELLS_PER_PATTERN / f64::from(coarse * coarse);
        Self { coarse, fine: fine.clamp(4.0, MOST_FINE_STEPS) as u32 }
    }

    /// Whether the numbers of steps are in the range that is ever written.
    pub(super) fn is_sound(self) -> bool {
        (1..=BUCKETS as u32).contains(&self.coarse) && (1..=MOST_FINE_STEPS as u32).contains(&self.fine)
    }

    /// Number of cells.
    pub(super) fn num_cells(self) -> u64 {
        u64::from(self.coarse) * u64::from(self.coarse) * u64::from(self.fine)
    }

    /// The cell of a pattern.
    pub(super) fn cell(self, pattern: &Pattern) -> usize {
        let [a, b, c] = AXES.map(|axis| pattern.ratios[axis]);
        self.row(step(a, self.coarse), step(b, self.coarse)) + step(c, self.fine)
    }

    /// Calls `visit` with the runs of adjacent cells that together cover a window.
    pub(super) fn runs(self, window: &PatternWindow, mut visit: impl FnMut(Range<usize>)) {
        let [a, b, c] = AXES.map(|axis| window.ratio(axis));
        for row in step(a.0, self.coarse)..=step(a.1, self.coarse) {
            for column in step(b.0, self.coarse)..=step(b.1, self.coarse) {
                let first = self.row(row, column);
                visit(first + step(c.0, self.fine)..first + step(c.1, self.fine) + 1);
            }
        }
    }

    /// The first of the cells with this step of the first ratio.
    pub(super) fn first_cell(self, step: usize) -> usize {
        self.row(step, 0)
    }

    fn row(self, a: usize, b: usize) -> usize {
        (a * self.coarse as usize + b) * self.fine as usize
    }
}

fn step(ratio: u16, steps: u32) -> usize {
    ((u32::from(ratio) * steps) >> 16) as usize
}
