//! The cells in which patterns are sorted by shape.

use std::ops::Range;

use crate::pattern::{Pattern, PatternWindow};

/// A grid over three of the five ratios. Two are cut coarsely; along the third, cut finely, cells are neighbours in
/// memory, so a look-up of any tolerance reads a few short runs of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RatioGrid {
    /// Steps of the two coarse ratios.
    pub(super) coarse: u32,
    /// Steps of the fine ratio.
    pub(super) fine: u32,
}

/// The ratios of the grid, coarse, coarse and fine. Of all triples these leave the fewest patterns within a
/// tolerance of a random shape.
const AXES: [usize; 3] = [2, 4, 0];

/// More make look-ups at small tolerances faster and the file larger, by 4 bytes a cell to 32 a pattern.
const CELLS_PER_PATTERN: f64 = 1.25;

/// Steps finer than a ratio is kept in would be empty.
const MOST_FINE_STEPS: f64 = 65536.0;

/// Steps of the first ratio by which patterns are sorted while they are made; at least those of any grid, a power of
/// two as they are.
pub(super) const BUCKETS: usize = 128;

impl Pattern {
    /// The step, of [`BUCKETS`], of the first ratio of the grid.
    pub(super) fn bucket(&self) -> usize {
        step(self.ratios[AXES[0]], BUCKETS as u32)
    }
}

impl RatioGrid {
    /// The grid for a number of patterns: about as many cells, so that a look-up at the usual tolerance of 0.001
    /// reads one run of a few patterns and the offsets stay small beside the patterns.
    pub(super) fn for_patterns(patterns: usize) -> Self {
        let steps = (patterns as f64).cbrt().clamp(4.0, BUCKETS as f64) as u32;
        let coarse = 1 << steps.ilog2();
        let fine = patterns as f64 * CELLS_PER_PATTERN / f64::from(coarse * coarse);
        Self { coarse, fine: fine.clamp(4.0, MOST_FINE_STEPS) as u32 }
    }

    /// Whether the steps are in the range that is ever written.
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

    /// Calls `visit` with the runs of cells that together cover a window.
    pub(super) fn runs(self, window: &PatternWindow, mut visit: impl FnMut(Range<usize>)) {
        let [a, b, c] = AXES.map(|axis| window.ratio(axis));
        for row in step(a.0, self.coarse)..=step(a.1, self.coarse) {
            for column in step(b.0, self.coarse)..=step(b.1, self.coarse) {
                let first = self.row(row, column);
                visit(first + step(c.0, self.fine)..first + step(c.1, self.fine) + 1);
            }
        }
    }

    /// The first cell of those that share the first ratio's step.
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
