//! Looks up many shapes at once.
//!
//! The patterns near a shape can lie anywhere in a file of a hundred megabytes, and their offsets anywhere in
//! a table of ten megabytes. The time of a look-up is thus mainly that of two memory accesses, one after the
//! other. The processor handles a dozen accesses at once if they are requested in a row. This is done here
//! for the shapes of a batch.

use std::hint::black_box;
use std::ops::{Range, RangeInclusive};

use super::Database;
use crate::pattern::{Pattern, PatternShape, PatternWindow};

/// Number of patterns that one memory access delivers.
const PATTERNS_PER_CACHE_LINE: usize = 2;

/// Shapes to be looked up together.
#[derive(Debug, Default)]
pub struct Lookups {
    windows: Vec<PatternWindow>,
    runs: Vec<Run>,
}

/// A run of adjacent cells that a shape may be in; later the run of their patterns.
#[derive(Debug)]
struct Run {
    shape: usize,
    range: Range<usize>,
}

impl Lookups {
    /// Removes all shapes.
    pub fn clear(&mut self) {
        self.windows.clear();
    }

    /// Adds a shape, with the tolerance and the range of the longest distance of [`Database::patterns_near`].
    pub fn push(&mut self, shape: &PatternShape, tolerance: f32, longest: RangeInclusive<f32>) {
        self.windows.push(PatternWindow::new(shape, tolerance, longest));
    }
}

impl Database {
    /// Replaces `found` by the patterns that [`Database::patterns_near`] visits for each shape of a batch.
    /// Each pattern has the number of its shape in the batch; the numbers ascend.
    pub fn look_up(&self, lookups: &mut Lookups, found: &mut Vec<(usize, Pattern)>) {
        let Lookups { windows, runs } = lookups;
        runs.clear();
        for (shape, window) in windows.iter().enumerate() {
            self.ratios.runs(window, |range| runs.push(Run { shape, range }));
        }
        let (offsets, patterns) = (self.ratio_offsets(), self.patterns());
        for run in runs.iter_mut() {
            run.range = run_of_cells(offsets, &run.range);
        }
        for run in runs.iter() {
            let run = patterns.get(run.range.clone()).unwrap_or(&[]);
            for pattern in run.iter().step_by(PATTERNS_PER_CACHE_LINE) {
                black_box(pattern.longest);
            }
        }
        found.clear();
        for run in runs.iter() {
            let near = self.near(&windows[run.shape], patterns, &run.range);
            found.extend(near.map(|pattern| (run.shape, *pattern)));
        }
    }

    /// Visits every pattern whose five ratios each differ from the shape's by at most `tolerance` and whose
    /// longest distance (a chord) is in `longest`. All stars of a visited pattern exist.
    ///
    /// Ratios are kept to 16 bits: a pattern outside the tolerance by less than 2e-5 may be visited too.
    pub fn patterns_near(
        &self,
        shape: &PatternShape,
        tolerance: f32,
        longest: RangeInclusive<f32>,
        mut visit: impl FnMut(&Pattern),
    ) {
        let window = PatternWindow::new(shape, tolerance, longest);
        let (offsets, patterns) = (self.ratio_offsets(), self.patterns());
        self.ratios.runs(&window, |cells| {
            self.near(&window, patterns, &run_of_cells(offsets, &cells)).for_each(&mut visit);
        });
    }

    /// The patterns of a run that are in a window.
    fn near<'p>(
        &self,
        window: &PatternWindow,
        patterns: &'p [Pattern],
        run: &Range<usize>,
    ) -> impl Iterator<Item = &'p Pattern> {
        let run = patterns.get(run.clone()).unwrap_or(&[]);
        run.iter().filter(|pattern| window.contains(pattern) && self.holds(pattern))
    }
}

/// The run of patterns of adjacent cells; empty where the offsets are damaged.
fn run_of_cells(offsets: &[u32], cells: &Range<usize>) -> Range<usize> {
    match (offsets.get(cells.start), offsets.get(cells.end)) {
        (Some(&start), Some(&end)) => start as usize..end as usize,
        _ => 0..0,
    }
}
