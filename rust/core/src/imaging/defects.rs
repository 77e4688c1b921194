//! Defects: pixels that are no stars, and not read.

use std::ops::Range;

/// The defects of a frame, by rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Defects {
    /// Those of row y: `columns[starts[y]..starts[y + 1]]`, ascending.
    starts: Vec<u32>,
    columns: Vec<u32>,
    /// Height of each above the background in sigmas.
    heights: Vec<f32>,
}

impl Defects {
    /// None in a frame of so many rows.
    pub(crate) fn none(rows: usize) -> Self {
        Self { starts: vec![0; rows + 1], columns: Vec::new(), heights: Vec::new() }
    }

    /// One more, after all others: in this row or a later one, and in it in a later column.
    pub(crate) fn push(&mut self, [x, y]: [usize; 2], height: f32) {
        self.starts.resize(y + 1, self.columns.len() as u32);
        self.columns.push(x as u32);
        self.heights.push(height);
    }

    /// Those of another in some rows, after all others.
    pub(crate) fn extend(&mut self, other: &Self, rows: Range<usize>) {
        for y in rows {
            for k in other.starts[y] as usize..other.starts[y + 1] as usize {
                self.push([other.columns[k] as usize, y], other.heights[k]);
            }
        }
    }

    /// All of another, which are in later rows.
    pub(crate) fn join(&mut self, other: &Self) {
        self.extend(other, 0..other.starts.len().saturating_sub(1));
    }

    /// No more: the frame has so many rows.
    pub(crate) fn close(&mut self, rows: usize) {
        self.starts.resize(rows + 1, self.columns.len() as u32);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// How many are at least so many sigmas high.
    pub(crate) fn higher_than(&self, height: f32) -> usize {
        self.heights.iter().filter(|&&h| h >= height).count()
    }

    /// Marks those among the pixels from column `x0` on of row `y`.
    pub(crate) fn blank(&self, y: usize, x0: usize, out: &mut [f32]) {
        if self.is_empty() {
            return;
        }
        let row = &self.columns[self.starts[y] as usize..self.starts[y + 1] as usize];
        if row.is_empty() {
            return;
        }
        let first = row.partition_point(|&x| (x as usize) < x0);
        for &x in &row[first..] {
            match out.get_mut(x as usize - x0) {
                Some(v) => *v = f32::NAN,
                None => break,
            }
        }
    }
}
