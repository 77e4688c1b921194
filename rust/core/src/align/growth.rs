//! Growth of a match from one pattern to all stars: the transformation of a few neighbours is extended over
//! the lists while it finds further stars.
//!
//! A pattern determines a transformation well only near itself. So the stars near the pattern are paired
//! first. The transformation is fitted to these pairs and extended farther, until it covers both lists. Where
//! a lens distorts, polynomials of the given order model the distortion; pairs are then found all over the
//! frame, although no similarity fits.
//!
//! # Evidence
//!
//! In a chance match, a star of one list falls anywhere within the other list, whose density there is λ. In a
//! true match, a star has a partner with probability 1 - q. It lies at a distance r from its partner with
//! density `g(r) = 1 / (π ln(1 + R²/a²) (a² + r²))`, r < R: all scales of the error from a to the pairing
//! radius R are equally likely. The likelihood ratio of a paired star is thus `q + (1 - q) g(r) / λ`, and
//! that of a star without a partner is q. L is the mean over the shares q of the product of all ratios. By
//! Markov's inequality, chance reaches L with a probability of at most 1/L, and one of N proposals reaches L
//! with at most N/L. The four stars of the pattern are not counted as evidence.

use std::f64::consts::PI;

use super::patterns::{NEIGHBORS, nearest_neighbors};
use super::similarity::Similarity;
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;
use crate::lsq::NormalEquations;

/// Initial reach of the transformation, in lengths of its pattern.
const FIRST_REACH: f64 = 2.0;
/// Factor by which the reach grows in each step.
const REACH_GROWTH: f64 = 1.7;
/// Number of stars within reach from which on a proposal must pair more stars than its pattern.
const ENOUGH_TO_JUDGE: usize = 10;
/// Minimum number of pairs beyond the four of the pattern that such a proposal must have.
const LEAST_GAIN: usize = 2;
/// Maximum number of rounds on the whole lists; they end when the number of pairs no longer changes.
const FINAL_ROUNDS: usize = 6;
/// Minimum number of pairs per coefficient of a polynomial. With fewer pairs, the polynomial has a lower
/// order.
const PAIRS_PER_TERM: usize = 3;
/// Smallest scale a of a pair's distance, in pairing radii R (see the module's text).
const CORE: f64 = 0.1;
/// Table entry of a star without a pair.
const NONE: u32 = u32::MAX;
/// Number of fixed stars per pair above which pairs count as few and are sorted.
const FEW: usize = 16;
/// Mean number of stars in each square in which the density is counted.
const CROWD: f64 = 6.0;
/// Smallest width of the area of points on a line, in units of their extent.
const THINNEST: f64 = 1e-6;
/// Width of the area of coincident points: small, but with a square that does not underflow.
const POINT: f64 = 1e-100;
/// Shares q of stars without a partner, all equally likely.
const STRAY_SHARES: [f64; 6] = [0.05, 0.2, 0.5, 0.8, 0.95, 0.99];

/// A list of points, with quantities that are used repeatedly.
#[derive(Debug)]
pub struct PointList {
    /// The points, finite.
    pub points: Vec<Point>,
    /// Grid of cells for look-ups of the points.
    pub grid: PointGrid,
    /// Density of the list at each point, at least the mean density.
    density: Vec<f64>,
    low: Point,
    high: Point,
    /// Typical distance to the farthest neighbour of a pattern.
    pub spacing: f64,
}

impl PointList {
    /// A list of finite points.
    pub fn new(points: Vec<Point>) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for p in &points {
            for k in 0..2 {
                low[k] = low[k].min(p[k]);
                high[k] = high[k].max(p[k]);
            }
        }
        let grid = PointGrid::new(&points, 0.0);
        // Points on a line, or a single point, get the area of a thin strip, so that they give no evidence.
        let width = |k: usize| (high[k] - low[k]).max(THINNEST * grid.extent()).max(POINT);
        let mean = points.len() as f64 / (width(0) * width(1));
        let spacing = (1.5 * NEIGHBORS as f64 / (PI * mean)).sqrt();
        let density = densities(&points, low, mean);
        Self { points, grid, density, low, high, spacing }
    }

    /// Finds the stars nearest to `star`, nearest first.
    pub fn neighbors(&self, star: usize, found: &mut Vec<(f64, u32)>) {
        nearest_neighbors(&self.grid, &self.points, star, self.spacing, found);
    }

    fn holds(&self, p: Point) -> bool {
        (0..2).all(|k| p[k] >= self.low[k] && p[k] <= self.high[k])
    }
}

/// Density at each point: the density of the square around it, which holds a few stars, or the mean if that
/// is larger.
fn densities(points: &[Point], low: Point, mean: f64) -> Vec<f64> {
    let side = (CROWD / mean).sqrt();
    let cells = (points.len() as f64).sqrt() as usize + 1;
    let cell = |p: &Point| -> usize {
        let [column, row] = [0, 1].map(|k| (((p[k] - low[k]) / side) as usize).min(cells - 1));
        row * cells + column
    };
    let mut counts = vec![0.0; cells * cells];
    for p in points {
        counts[cell(p)] += 1.0;
    }
    points.iter().map(|p| mean.max(counts[cell(p)] / (side * side))).collect()
}

/// A star of the moving list and the fixed star that it matches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index in the moving list.
    pub moving: usize,
    /// Index in the fixed list.
    pub fixed: usize,
    /// Squared distance of the two stars after the transformation.
    pub distance2: f64,
}

/// Pairs each moved star with the nearest fixed star within a radius. If several choose the same fixed star,
/// the nearest gets it.
pub fn pair_up(
    moved: impl Iterator<Item = (usize, Point)>,
    grid: &PointGrid,
    radius: f64,
    pairs: &mut Vec<Pair>,
) {
    pairs.clear();
    for (moving, at) in moved {
        if let Some((fixed, distance2)) = grid.nearest(at, radius) {
            pairs.push(Pair { moving, fixed, distance2 });
        }
    }
    if pairs.len() * FEW < grid.len() {
        let nearness = |a: &Pair, b: &Pair| a.distance2.total_cmp(&b.distance2).then(a.moving.cmp(&b.moving));
        pairs.sort_unstable_by(|a, b| a.fixed.cmp(&b.fixed).then(nearness(a, b)));
        pairs.dedup_by_key(|pair| pair.fixed);
        return;
    }
    // For many pairs, a table with an entry for each star is faster than sorting.
    let mut best = vec![NONE; grid.len()];
    let key = |pair: &Pair| (pair.distance2, pair.moving);
    for (i, pair) in pairs.iter().enumerate() {
        let place = &mut best[pair.fixed];
        if pairs.get(*place as usize).is_none_or(|old| key(pair) < key(old)) {
            *place = i as u32;
        }
    }
    *pairs = best.into_iter().filter_map(|i| pairs.get(i as usize).copied()).collect();
}

/// Transformation during growth: a similarity, or polynomials if there are enough pairs.
enum Warp {
    Similarity(Similarity),
    Polynomial { center: Point, scale: f64, order: usize, terms: [Vec<f64>; 2] },
}

/// Number of terms of a polynomial in two variables.
fn terms_of(order: usize) -> usize {
    (order + 1) * (order + 2) / 2
}

/// Computes the products of powers of x and y up to an order.
fn powers([x, y]: Point, order: usize, row: &mut Vec<f64>) {
    row.clear();
    row.push(1.0);
    let mut start = 0;
    for degree in 1..=order {
        for i in start..start + degree {
            row.push(row[i] * x);
        }
        row.push(row[start + degree - 1] * y);
        start += degree;
    }
}

impl Warp {
    fn fit(pairs: &[(Point, Point)], max_order: usize, mirrored: bool) -> Option<Self> {
        let similarity = Similarity::fit(pairs, mirrored)?;
        let order = (1..=max_order).rev().find(|&order| pairs.len() >= PAIRS_PER_TERM * terms_of(order));
        let Some(order) = order else { return Some(Self::Similarity(similarity)) };
        let n = pairs.len() as f64;
        let center = [0, 1].map(|k| pairs.iter().map(|(p, _)| p[k]).sum::<f64>() / n);
        let lengths = pairs.iter().map(|(p, _)| (p[0] - center[0]).hypot(p[1] - center[1]));
        let scale = 1.0 / lengths.fold(f64::MIN_POSITIVE, f64::max);
        let mut equations = [0, 1].map(|_| NormalEquations::new(terms_of(order)));
        let mut row = Vec::new();
        for (p, q) in pairs {
            powers([(p[0] - center[0]) * scale, (p[1] - center[1]) * scale], order, &mut row);
            let start = similarity.apply(*p);
            for k in 0..2 {
                equations[k].add(&row, start[k] - q[k], 1.0);
            }
        }
        // The polynomial is fitted relative to the similarity, so that an undetermined term leaves the
        // similarity unchanged.
        let mut terms = equations.map(|e| e.solve(0.0).as_slice().to_vec());
        for (k, terms) in terms.iter_mut().enumerate() {
            terms[0] += similarity.apply(center)[k];
            terms[1] += similarity.matrix[k][0] / scale;
            terms[2] += similarity.matrix[k][1] / scale;
        }
        Some(Self::Polynomial { center, scale, order, terms })
    }

    fn apply(&self, p: Point, row: &mut Vec<f64>) -> Point {
        match self {
            Self::Similarity(similarity) => similarity.apply(p),
            Self::Polynomial { center, scale, order, terms } => {
                powers([(p[0] - center[0]) * scale, (p[1] - center[1]) * scale], *order, row);
                [0, 1].map(|k| row.iter().zip(&terms[k]).map(|(power, term)| power * term).sum())
            }
        }
    }
}

/// Two lists, and options for pairing their stars.
#[derive(Debug)]
pub struct Lists {
    /// The list that is transformed.
    pub moving: PointList,
    /// The list that is held fixed.
    pub fixed: PointList,
    /// Largest distance between the stars of a pair after the transformation.
    pub radius: f64,
    /// Order of the polynomials that model distortion; 0 for similarities alone.
    pub max_order: usize,
    /// Smallest and largest scale that is accepted.
    pub scales: [f64; 2],
    /// Whether mirrored lists are accepted as well.
    pub mirrored: bool,
}

impl Lists {
    /// Grows the proposal that four stars match four others; `None` if no further stars match.
    ///
    /// Returns the pairs and their log likelihood ratio.
    pub fn grow(&self, moving: [u32; 4], fixed: [u32; 4]) -> Option<(Vec<Pair>, f64)> {
        let corners: Vec<(Point, Point)> = moving
            .iter()
            .zip(&fixed)
            .map(|(&m, &f)| (self.moving.points[m as usize], self.fixed.points[f as usize]))
            .collect();
        let similarity = self.proposal(&corners)?;
        let mirrored = similarity.mirrored();
        let center = [0, 1].map(|k| corners.iter().map(|(p, _)| p[k]).sum::<f64>() / 4.0);
        let length = |p: &Point| (p[0] - center[0]).hypot(p[1] - center[1]);
        let mut reach = FIRST_REACH * corners.iter().map(|(p, _)| length(p)).fold(0.0, f64::max);
        let mut warp = Warp::Similarity(similarity);
        let (mut pairs, mut inside) = (Vec::new(), Vec::new());
        while reach < 2.0 * self.moving.grid.extent() {
            inside.clear();
            inside.extend(self.moving.grid.around(center, reach).map(|i| i as usize));
            inside.retain(|&i| length(&self.moving.points[i]) <= reach);
            self.pair(&warp, &inside, &mut pairs);
            if pairs.len() < 4 + LEAST_GAIN && inside.len() >= ENOUGH_TO_JUDGE {
                return None;
            }
            warp = self.refit(&pairs, mirrored)?;
            reach *= REACH_GROWTH;
        }
        let all: Vec<usize> = (0..self.moving.points.len()).collect();
        let mut before = 0;
        for _ in 0..FINAL_ROUNDS {
            self.pair(&warp, &all, &mut pairs);
            warp = self.refit(&pairs, mirrored)?;
            if pairs.len() == before {
                break;
            }
            before = pairs.len();
        }
        self.pair(&warp, &all, &mut pairs);
        let mut row = Vec::new();
        let place = |p: Point| warp.apply(p, &mut row);
        let evidence = log_ratio_of(&self.moving.points, &self.fixed, &pairs, place, self.radius, &moving);
        Some((pairs, evidence))
    }

    /// The similarity of four corners; `None` if the corners do not agree or the scale is not accepted.
    fn proposal(&self, corners: &[(Point, Point)]) -> Option<Similarity> {
        let fit = |mirrored| {
            let similarity = Similarity::fit(corners, mirrored)?;
            let near = |(p, q): &(Point, Point)| {
                let at = similarity.apply(*p);
                (at[0] - q[0]).hypot(at[1] - q[1]) <= self.radius
            };
            let scale = similarity.scale();
            (corners.iter().all(near) && scale >= self.scales[0] && scale <= self.scales[1])
                .then_some(similarity)
        };
        fit(false).or_else(|| fit(true).filter(|_| self.mirrored))
    }

    fn pair(&self, warp: &Warp, stars: &[usize], pairs: &mut Vec<Pair>) {
        let mut row = Vec::new();
        let moved = stars.iter().map(|&i| (i, warp.apply(self.moving.points[i], &mut row)));
        pair_up(moved, &self.fixed.grid, self.radius, pairs);
    }

    /// Positions of the two stars of each pair.
    pub fn points_of(&self, pairs: &[Pair]) -> Vec<(Point, Point)> {
        pairs.iter().map(|p| (self.moving.points[p.moving], self.fixed.points[p.fixed])).collect()
    }

    fn refit(&self, pairs: &[Pair], mirrored: bool) -> Option<Warp> {
        Warp::fit(&self.points_of(pairs), self.max_order, mirrored)
    }
}

/// Natural logarithm of the likelihood ratio of pairs (see the module's text). `place` transforms a moving
/// point.
///
/// The points with indices in `used` are not counted as evidence.
pub fn log_ratio_of(
    moving: &[Point],
    fixed: &PointList,
    pairs: &[Pair],
    mut place: impl FnMut(Point) -> Point,
    radius: f64,
    used: &[u32],
) -> f64 {
    let core2 = (CORE * radius).powi(2);
    let norm = PI * (1.0 + 1.0 / (CORE * CORE)).ln();
    let mut partner = vec![0.0; moving.len()];
    for pair in pairs {
        partner[pair.moving] = 1.0 / (norm * (core2 + pair.distance2) * fixed.density[pair.fixed]);
    }
    let mut log_ratios = [0.0; STRAY_SHARES.len()];
    for (i, (&p, &star)) in moving.iter().zip(&partner).enumerate() {
        if used.contains(&(i as u32)) || (star == 0.0 && !fixed.holds(place(p))) {
            continue;
        }
        for (log_ratio, stray) in log_ratios.iter_mut().zip(STRAY_SHARES) {
            *log_ratio += (stray + (1.0 - stray) * star).ln();
        }
    }
    let most = log_ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_ratios.iter().map(|l| (l - most).exp()).sum();
    most + (sum / STRAY_SHARES.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_are_ordered_by_degree() {
        let mut row = Vec::new();
        powers([2.0, 3.0], 3, &mut row);
        assert_eq!(row, [1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 8.0, 12.0, 18.0, 27.0]);
        assert_eq!(row.len(), terms_of(3));
    }

    #[test]
    fn a_star_that_stays_has_one_partner() {
        let grid = PointGrid::new(&[[0.0, 0.0], [10.0, 0.0]], 1.0);
        let mut pairs = Vec::new();
        let moved = [[0.3, 0.0], [0.1, 0.0], [10.5, 0.0], [50.0, 0.0]];
        pair_up(moved.into_iter().enumerate(), &grid, 1.0, &mut pairs);
        let found: Vec<_> = pairs.iter().map(|p| (p.moving, p.fixed)).collect();
        assert_eq!(found, [(1, 0), (2, 1)]);
    }

    proptest! {
        #[test]
        fn a_warp_follows_a_polynomial(bend in -1e-4..1e-4_f64, turn in -3.0..3.0_f64) {
            let (s, c) = turn.sin_cos();
            let truth = |p: Point| {
                let x = p[0] + bend * p[0] * p[1];
                [c * x - s * p[1] + 7.0, s * x + c * p[1] - 9.0]
            };
            let points: Vec<Point> = (0..60).map(|i| [f64::from(i * 37 % 61), f64::from(i * 53 % 59)]).collect();
            let pairs: Vec<_> = points.iter().map(|&p| (p, truth(p))).collect();
            let warp = Warp::fit(&pairs, 2, false).unwrap();
            let mut row = Vec::new();
            for (p, q) in pairs {
                let at = warp.apply(p, &mut row);
                prop_assert!((at[0] - q[0]).hypot(at[1] - q[1]) < 1e-8);
            }
        }
    }
}
