//! Patterns of a star and three of its neighbours in the plane, matched by their shape.

use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;
use crate::pattern::PatternShape;

/// Number of neighbours of a star from which its patterns take three each. More neighbours tolerate more
/// missing and spurious stars.
pub const NEIGHBORS: usize = 5;
/// Maximum number of patterns of a list. In longer lists, only stars at even intervals have patterns, with
/// all their neighbours.
pub const MAX_PATTERNS: usize = 200_000;
/// Combinations of three of the neighbours.
const THREES: [[usize; 3]; 10] = threes();
/// Factor by which the search radius for neighbours grows when too few are found.
const RADIUS_GROWTH: f64 = 1.6;

const fn threes() -> [[usize; 3]; 10] {
    let mut all = [[0; 3]; 10];
    let (mut n, mut i) = (0, 0);
    while i < NEIGHBORS {
        let mut j = i + 1;
        while j < NEIGHBORS {
            let mut k = j + 1;
            while k < NEIGHBORS {
                all[n] = [i, j, k];
                n += 1;
                k += 1;
            }
            j += 1;
        }
        i += 1;
    }
    all
}

/// Four stars in the plane and the shape that they form.
#[derive(Debug, Clone, Copy)]
pub struct PlanePattern {
    /// Ratios of the other distances to the longest one, and the longest distance.
    pub shape: PatternShape,
    /// Indices in the list; first the star nearest to the mean position of the four.
    pub stars: [u32; 4],
}

impl PlanePattern {
    /// The pattern of four stars of a list; `None` if two of them are closer than `shortest`.
    pub fn new(stars: [u32; 4], points: &[Point], shortest: f64) -> Option<Self> {
        let at = stars.map(|star| points[star as usize]);
        let squared = |i: usize, j: usize| {
            let (dx, dy) = (at[i][0] - at[j][0], at[i][1] - at[j][1]);
            (dx * dx + dy * dy) as f32
        };
        let edges =
            [squared(0, 1), squared(0, 2), squared(0, 3), squared(1, 2), squared(1, 3), squared(2, 3)];
        if edges.iter().any(|&edge| f64::from(edge) < shortest * shortest) {
            return None;
        }
        let mean = [0, 1].map(|k| at.iter().map(|p| p[k]).sum::<f64>() / 4.0);
        let distance = |i: &usize| (at[*i][0] - mean[0]).powi(2) + (at[*i][1] - mean[1]).powi(2);
        let mut order = [0, 1, 2, 3];
        order.sort_by(|i, j| distance(i).total_cmp(&distance(j)));
        Some(Self { shape: PatternShape::from_squared_edges(edges), stars: order.map(|i| stars[i]) })
    }

    /// Whether another pattern has the same ratios within `tolerance`, and a relative size within `sizes`.
    fn resembles(&self, other: &Self, tolerance: f32, sizes: [f32; 2]) -> bool {
        let size = other.shape.longest / self.shape.longest;
        let close = |i: usize| (self.shape.ratios[i] - other.shape.ratios[i]).abs() <= tolerance;
        size >= sizes[0] && size <= sizes[1] && (0..5).all(close)
    }
}

/// Finds the stars of a list nearest to `star`, nearest first, excluding `star` itself.
pub fn nearest_neighbors(
    grid: &PointGrid,
    points: &[Point],
    star: usize,
    radius: f64,
    found: &mut Vec<(f64, u32)>,
) {
    let at = points[star];
    let mut reach = radius;
    loop {
        found.clear();
        for other in grid.around(at, reach) {
            let p = points[other as usize];
            let d2 = (p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2);
            if other as usize != star && d2 <= reach * reach {
                found.push((d2, other));
            }
        }
        if found.len() >= NEIGHBORS || reach >= 2.0 * grid.extent() {
            break;
        }
        reach *= RADIUS_GROWTH;
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found.truncate(NEIGHBORS);
}

/// Calls `each` with the patterns of a star and three of its neighbours.
pub fn patterns_of(
    star: usize,
    neighbors: &[(f64, u32)],
    points: &[Point],
    shortest: f64,
    mut each: impl FnMut(PlanePattern),
) {
    for three in THREES.iter().filter(|three| three[2] < neighbors.len()) {
        let [i, j, k] = three.map(|n| neighbors[n].1);
        if let Some(pattern) = PlanePattern::new([star as u32, i, j, k], points, shortest) {
            each(pattern);
        }
    }
}

/// The patterns of a list, indexed by their shape.
#[derive(Debug)]
pub struct PatternIndex {
    patterns: Vec<PlanePattern>,
    /// Two ratios of each pattern, as a point in a plane.
    grid: PointGrid,
}

/// The two ratios by which patterns are looked up. The shortest and a middle one have the widest
/// distributions.
fn key(shape: &PatternShape) -> Point {
    [f64::from(shape.ratios[0]), f64::from(shape.ratios[2])]
}

impl PatternIndex {
    /// Indexes patterns for look-ups.
    pub fn new(patterns: Vec<PlanePattern>) -> Self {
        let keys: Vec<Point> = patterns.iter().map(|pattern| key(&pattern.shape)).collect();
        Self { grid: PointGrid::new(&keys, 0.0), patterns }
    }

    /// Calls `each` with the patterns that resemble `pattern`: ratios within `tolerance`, relative size
    /// within `sizes`.
    pub fn resembling(
        &self,
        pattern: &PlanePattern,
        tolerance: f32,
        sizes: [f32; 2],
        mut each: impl FnMut(&PlanePattern),
    ) {
        for i in self.grid.around(key(&pattern.shape), f64::from(tolerance)) {
            let other = &self.patterns[i as usize];
            if pattern.resembles(other, tolerance, sizes) {
                each(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn neighbors_are_those_of_a_plain_search(
            points in prop::collection::vec(prop::array::uniform2(-100.0..100.0_f64), 1..60), radius in 1.0..50.0,
        ) {
            let grid = PointGrid::new(&points, 0.0);
            let mut found = Vec::new();
            nearest_neighbors(&grid, &points, 0, radius, &mut found);
            let mut all: Vec<(f64, u32)> = (1..points.len())
                .map(|i| ((points[i][0] - points[0][0]).powi(2) + (points[i][1] - points[0][1]).powi(2), i as u32))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            all.truncate(NEIGHBORS);
            prop_assert_eq!(found, all);
        }

        #[test]
        fn a_moved_pattern_is_found(
            points in prop::collection::vec(prop::array::uniform2(0.0..1000.0_f64), 6..40),
            angle in -3.0..3.0_f64, scale in 0.85..1.2_f64,
        ) {
            let (s, c) = angle.sin_cos();
            let moved: Vec<Point> =
                points.iter().map(|p| [scale * (c * p[0] - s * p[1]), scale * (s * p[0] + c * p[1])]).collect();
            let stars = [0, 1, 2, 3];
            prop_assume!(PlanePattern::new(stars, &points, 1.0).is_some());
            let pattern = PlanePattern::new(stars, &points, 1.0).unwrap();
            let index = PatternIndex::new(vec![PlanePattern::new(stars, &moved, 0.0).unwrap()]);
            let mut count = 0;
            index.resembling(&pattern, 1e-4, [0.8, 1.25], |_| count += 1);
            prop_assert_eq!(count, 1);
        }
    }
}
