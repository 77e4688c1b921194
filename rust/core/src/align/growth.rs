//! From one pattern to all stars: the transformation of a few neighbours grows over the lists while it finds stars.
//!
//! A pattern fixes a transformation well only near itself. So the stars about it are paired first; the transformation
//! is fitted to the pairs and reaches farther, until it covers everything. Where a lens distorts, polynomials of the
//! given order follow it; the pairs are then found all over the frame, though no similarity fits.
//!
//! # Evidence
//!
//! Under chance a star of one list falls anywhere among those of the other, where these have the density λ. If it is
//! one of them, with probability 1 - q, it lies at a distance r from it with density
//! `g(r) = 1 / (π ln(1 + R²/a²) (a² + r²))`, r < R: all scales of error from a to the pairing radius R alike. Its
//! ratio is thus `q + (1 - q) g(r) / λ`, and q without a partner. By Markov's inequality the mean L over the shares q of
//! the product of all ratios is reached by chance with a probability of at most 1/L, and by one of N proposals with at
//! most N/L. The four stars of the pattern are no evidence.

use std::f64::consts::PI;

use super::patterns::{NEIGHBORS, nearest_neighbors};
use super::similarity::Similarity;
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;
use crate::lsq::NormalEquations;

/// The transformation reaches so many lengths of its pattern at first, and grows by this factor.
const FIRST_REACH: f64 = 2.0;
const REACH_GROWTH: f64 = 1.7;
/// Stars within reach from which on a proposal has to pair more of them than its pattern.
const ENOUGH_TO_JUDGE: usize = 10;
/// Pairs beyond the four of the pattern that such a proposal has to have.
const LEAST_GAIN: usize = 2;
/// Rounds on the whole lists at most; they end when the pairs stay.
const FINAL_ROUNDS: usize = 6;
/// Pairs for every coefficient of a polynomial: fewer, and it has a lower order.
const PAIRS_PER_TERM: usize = 3;
/// Smallest scale of a pair's distance in pairing radii (see the module's text).
const CORE: f64 = 0.1;
/// Place of a star without a pair.
const NONE: u32 = u32::MAX;
/// Pairs are few when the list has more than this many stars for each.
const FEW: usize = 16;
/// Mean number of stars of the squares in which the density is counted.
const CROWD: f64 = 6.0;
/// Width of the area of points on a line, in units of their extent.
const THINNEST: f64 = 1e-6;
/// Width of the area of coincident points: small, and its square is a number yet.
const POINT: f64 = 1e-100;
/// Shares of stars without partner: each is as likely.
const STRAY_SHARES: [f64; 6] = [0.05, 0.2, 0.5, 0.8, 0.95, 0.99];

/// A list of points and what is asked of it again and again.
#[derive(Debug)]
pub struct PointList {
    /// The points, finite.
    pub points: Vec<Point>,
    /// The points in cells.
    pub grid: PointGrid,
    /// Density of the list at each point, that of the whole at least.
    density: Vec<f64>,
    low: Point,
    high: Point,
    /// Usual distance to the farthest neighbour of a pattern.
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
        // Of points on a line, and of one, the area is that of a thin strip: they are no evidence.
        let width = |k: usize| (high[k] - low[k]).max(THINNEST * grid.extent()).max(POINT);
        let mean = points.len() as f64 / (width(0) * width(1));
        let spacing = (1.5 * NEIGHBORS as f64 / (PI * mean)).sqrt();
        let density = densities(&points, low, mean);
        Self { points, grid, density, low, high, spacing }
    }

    /// The stars nearest to one, nearest first.
    pub fn neighbors(&self, star: usize, found: &mut Vec<(f64, u32)>) {
        nearest_neighbors(&self.grid, &self.points, star, self.spacing, found);
    }

    fn holds(&self, p: Point) -> bool {
        (0..2).all(|k| p[k] >= self.low[k] && p[k] <= self.high[k])
    }
}

/// Density at each point: that of its square of a few stars, or the mean if that is more.
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

/// A star of the list that moves and the star of the other that it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index in the list that moves.
    pub moving: usize,
    /// Index in the list that stays.
    pub fixed: usize,
    /// Their squared distance once moved.
    pub distance2: f64,
}

/// Pairs each moved star with the nearest star that stays within a radius; of several, the nearest has it.
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
    // For many pairs a place for each star is quicker than sorting.
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

/// The transformation while it grows: a similarity, or polynomials where there are pairs enough.
enum Warp {
    Similarity(Similarity),
    Polynomial { center: Point, scale: f64, order: usize, terms: [Vec<f64>; 2] },
}

/// Number of terms of a polynomial of two variables.
fn terms_of(order: usize) -> usize {
    (order + 1) * (order + 2) / 2
}

/// Products of powers up to an order.
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
        // About the similarity, so that a term which is not determined leaves that alone.
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

/// Two lists, and how their stars are paired.
#[derive(Debug)]
pub struct Lists {
    /// The list that moves.
    pub moving: PointList,
    /// The list that stays.
    pub fixed: PointList,
    /// Pairs are as near as this, once moved.
    pub radius: f64,
    /// Order of the polynomials that follow distortion; 0 for similarities alone.
    pub max_order: usize,
    /// Scales that are taken.
    pub scales: [f64; 2],
    /// Whether mirrored lists are taken as well.
    pub mirrored: bool,
}

impl Lists {
    /// Grows the proposal that four stars are four others; `None` if it finds no more stars.
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

    /// The similarity of four corners; `None` if they do not agree or its scale is not taken.
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

    /// The points of pairs.
    pub fn points_of(&self, pairs: &[Pair]) -> Vec<(Point, Point)> {
        pairs.iter().map(|p| (self.moving.points[p.moving], self.fixed.points[p.fixed])).collect()
    }

    fn refit(&self, pairs: &[Pair], mirrored: bool) -> Option<Warp> {
        Warp::fit(&self.points_of(pairs), self.max_order, mirrored)
    }
}

/// Natural logarithm of the likelihood ratio of pairs (see the module's text), `place` being where a point goes.
///
/// The points whose indices are `used` are no evidence.
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
