//! Defects: pixels that do not belong to stars and are excluded on reading.

use std::ops::Range;

/// The defects of a frame, by rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Defects {
    /// Start of each row in `columns`: the defects of row y are `columns[starts[y]..starts[y + 1]]`,
    /// ascending.
    starts: Vec<u32>,
    columns: Vec<u32>,
    /// Height of each defect above the background, in sigmas.
    heights: Vec<f32>,
}

impl Defects {
    /// No defects, for a frame of this number of rows.
    pub(crate) fn none(rows: usize) -> Self {
        Self { starts: vec![0; rows + 1], columns: Vec::new(), heights: Vec::new() }
    }

    /// Adds a defect, which must come after all others in reading order.
    pub(crate) fn push(&mut self, [x, y]: [usize; 2], height: f32) {
        self.starts.resize(y + 1, self.columns.len() as u32);
        self.columns.push(x as u32);
        self.heights.push(height);
    }

    /// Adds the defects of `other` in some rows, which must come after all others.
    pub(crate) fn extend(&mut self, other: &Self, rows: Range<usize>) {
        for y in rows {
            for k in other.starts[y] as usize..other.starts[y + 1] as usize {
                self.push([other.columns[k] as usize, y], other.heights[k]);
            }
        }
    }

    /// Adds all defects of `other`, which must be in later rows.
    pub(crate) fn join(&mut self, other: &Self) {
        self.extend(other, 0..other.starts.len().saturating_sub(1));
    }

    /// Ends the list for the first `rows` rows: later additions must be in later rows.
    pub(crate) fn close(&mut self, rows: usize) {
        self.starts.resize(rows + 1, self.columns.len() as u32);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Columns of the defects in row `y`, ascending.
    pub(crate) fn in_row(&self, y: usize) -> &[u32] {
        if self.is_empty() {
            &[]
        } else {
            &self.columns[self.starts[y] as usize..self.starts[y + 1] as usize]
        }
    }

    /// Number of defects that are at least `height` sigmas high.
    pub(crate) fn higher_than(&self, height: f32) -> usize {
        self.heights.iter().filter(|&&h| h >= height).count()
    }

    /// Sets the defects among the pixels from column `x0` on of row `y` to NaN.
    pub(crate) fn blank(&self, y: usize, x0: usize, out: &mut [f32]) {
        let row = self.in_row(y);
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
