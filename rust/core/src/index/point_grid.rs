//! Points of a plane binned for nearest-neighbour look-up.

use std::ops::Range;

use crate::geometry::distortion::Point;

/// Largest number of cells per axis, so that the table stays in the processor's cache.
const MAX_CELLS_PER_AXIS: usize = 256;
/// Squares per axis of a coarse map, which marks with one bit each whether a point is near.
const NEARNESS_SQUARES: usize = 64;
/// Factor on the radius in the coarse map, so that rounding never hides a point.
const NEARNESS_MARGIN: f64 = 1.0 + 1e-9;

/// Points in square cells; a look-up within a radius touches only the surrounding cells.
#[derive(Debug, Clone)]
pub struct PointGrid {
    points: Vec<Point>,
    /// Index of each entry of `points` in the list the grid was made from.
    index: Vec<u32>,
    /// Start of each cell's run in `points`, row by row, and the end of the last.
    starts: Vec<u32>,
    origin: Point,
    /// One over the width of a cell.
    cells_per_px: f64,
    columns: usize,
    rows: usize,
    /// A bit for each square that is within `radius` of a point, by rows. Most look-ups without result end
    /// here.
    nearness: [u64; NEARNESS_SQUARES],
    squares_per_px: f64,
    radius: f64,
    extent: f64,
}

impl PointGrid {
    /// Bins finite points; look-ups within `radius` or less are the fastest.
    pub fn new(points: &[Point], radius: f64) -> Self {
        let mut low = [f64::INFINITY; 2];
        let mut high = [f64::NEG_INFINITY; 2];
        for p in points {
            for k in 0..2 {
                low[k] = low[k].min(p[k]);
                high[k] = high[k].max(p[k]);
            }
        }
        if points.is_empty() {
            (low, high) = ([0.0; 2], [0.0; 2]);
        }
        let extent = (high[0] - low[0]).max(high[1] - low[1]);
        // About one point per cell, unless the radius requires larger cells.
        let crowded = extent / (points.len() as f64).sqrt();
        let cell = radius.max(crowded).max(extent / MAX_CELLS_PER_AXIS as f64).max(f64::MIN_POSITIVE);
        let cells_per_px = 1.0 / cell;
        let columns = ((high[0] - low[0]) * cells_per_px) as usize + 1;
        let rows = ((high[1] - low[1]) * cells_per_px) as usize + 1;
        let mut grid = Self {
            points: vec![[0.0; 2]; points.len()],
            index: vec![0; points.len()],
            starts: vec![0; columns * rows + 1],
            origin: low,
            cells_per_px,
            columns,
            rows,
            nearness: [0; NEARNESS_SQUARES],
            squares_per_px: NEARNESS_SQUARES as f64 / extent.max(f64::MIN_POSITIVE),
            radius,
            extent,
        };
        if radius > 0.0 {
            grid.note_nearness(points, NEARNESS_MARGIN * radius);
        }
        let cell_of = |p: &Point| grid.row(p[1]) * columns + grid.column(p[0]);
        let cells: Vec<usize> = points.iter().map(cell_of).collect();
        for &cell in &cells {
            grid.starts[cell + 1] += 1;
        }
        for i in 0..columns * rows {
            grid.starts[i + 1] += grid.starts[i];
        }
        let mut next = grid.starts.clone();
        for (i, (&cell, point)) in cells.iter().zip(points).enumerate() {
            let slot = next[cell] as usize;
            grid.points[slot] = *point;
            grid.index[slot] = i as u32;
            next[cell] += 1;
        }
        grid
    }

    /// Indices of the points in the cells that a square of half side `radius` around `at` touches. There are
    /// none if the coarse map shows that no point is within the radius.
    pub fn around(&self, at: Point, radius: f64) -> impl Iterator<Item = u32> {
        let runs = (!self.none_near(at, radius)).then(|| self.runs(at, radius));
        runs.into_iter().flatten().flat_map(|run| self.index[run].iter().copied())
    }

    /// Calls `visit` with the index and position of each point in [`Self::around`].
    #[inline]
    pub fn visit_around(&self, at: Point, radius: f64, mut visit: impl FnMut(usize, Point)) {
        if self.none_near(at, radius) {
            return;
        }
        for run in self.runs(at, radius) {
            for (&point, &index) in self.points[run.clone()].iter().zip(&self.index[run]) {
                visit(index as usize, point);
            }
        }
    }

    /// Indices of all points, cell by cell.
    pub fn by_cells(&self) -> &[u32] {
        &self.index
    }

    /// Ranges in `points` of the cells that a square of half side `radius` around `at` touches, by rows of
    /// cells.
    fn runs(&self, at: Point, radius: f64) -> impl Iterator<Item = Range<usize>> {
        let (left, right) = (self.column(at[0] - radius), self.column(at[0] + radius));
        (self.row(at[1] - radius)..=self.row(at[1] + radius)).map(move |row| {
            let start = |column: usize| self.starts[row * self.columns + column] as usize;
            start(left)..start(right + 1)
        })
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The longer side of the rectangle that holds the points.
    pub fn extent(&self) -> f64 {
        self.extent
    }

    fn note_nearness(&mut self, points: &[Point], reach: f64) {
        for p in points {
            let (left, right) = (self.square(0, p[0] - reach), self.square(0, p[0] + reach));
            let bits = (u64::MAX << left) & (u64::MAX >> (NEARNESS_SQUARES - 1 - right));
            for row in self.square(1, p[1] - reach)..=self.square(1, p[1] + reach) {
                self.nearness[row] |= bits;
            }
        }
    }

    /// Index of the nearest point closer than `radius`, and its squared distance; the lower index wins a tie.
    pub fn nearest(&self, at: Point, radius: f64) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        self.visit_near(at, radius, |index, d2| {
            if best.is_none_or(|(other, least)| d2 < least || (d2 == least && index < other)) {
                best = Some((index, d2));
            }
        });
        best
    }

    /// Calls `visit` with the index of every point closer than `radius`, and its squared distance.
    #[inline]
    pub fn visit_near(&self, at: Point, radius: f64, mut visit: impl FnMut(usize, f64)) {
        self.visit_around(at, radius, |index, point| {
            let (dx, dy) = (point[0] - at[0], point[1] - at[1]);
            let d2 = dx * dx + dy * dy;
            if d2 < radius * radius {
                visit(index, d2);
            }
        });
    }

    /// Whether more than one point is closer than `radius`.
    pub fn is_crowded(&self, at: Point, radius: f64) -> bool {
        let mut count = 0;
        self.visit_near(at, radius, |_, _| count += 1);
        count > 1
    }

    /// Whether the coarse map shows that no point is within a radius.
    fn none_near(&self, at: Point, radius: f64) -> bool {
        self.radius > 0.0
            && radius <= self.radius
            && self.nearness[self.square(1, at[1])] >> self.square(0, at[0]) & 1 == 0
    }

    fn square(&self, axis: usize, x: f64) -> usize {
        place((x - self.origin[axis]) * self.squares_per_px, NEARNESS_SQUARES)
    }

    fn column(&self, x: f64) -> usize {
        place((x - self.origin[0]) * self.cells_per_px, self.columns)
    }

    fn row(&self, y: f64) -> usize {
        place((y - self.origin[1]) * self.cells_per_px, self.rows)
    }
}

/// Index from 0 to `count - 1` of the unit interval that contains `x`, or of the nearest one. The conversion
/// goes through 32 bits, which is shorter code.
fn place(x: f64, count: usize) -> usize {
    (x as u32 as usize).min(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nearest_agrees_with_a_plain_search(
            points in prop::collection::vec([-100.0..100.0, -50.0..50.0], 0..60),
            at in [-150.0..150.0, -150.0..150.0],
            radius in 0.1..80.0,
            usual in prop_oneof![Just(0.0), Just(5.0), Just(80.0)],
        ) {
            let grid = PointGrid::new(&points, usual);
            let found = grid.nearest(at, radius);
            let near = |p: &&Point| (p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2) < radius * radius;
            prop_assert_eq!(grid.is_crowded(at, radius), points.iter().filter(near).count() > 1);
            let expected = points
                .iter()
                .map(|p| (p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2))
                .enumerate()
                .filter(|(_, d2)| *d2 < radius * radius)
                .min_by(|a, b| a.1.total_cmp(&b.1));
            prop_assert_eq!(found.map(|f| f.0), expected.map(|e| e.0));
        }
    }

    #[test]
    fn no_points_no_neighbour() {
        assert!(PointGrid::new(&[], 1.0).nearest([0.0, 0.0], 10.0).is_none());
    }
}
