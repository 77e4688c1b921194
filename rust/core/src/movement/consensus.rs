//! Consensus: finds the transform with which most pairs agree, and computes how likely such agreement is by
//! chance.
//!
//! Transforms of random minimal sets of pairs are scored by how closely the other pairs agree with them
//! (MSAC: Torr & Zisserman 2000). The probability of chance agreement is expressed as the number of false
//! alarms of Moisan & Stival (2004, IJCV 57, 201).

use super::transform::{Kind, Point, Transform};
use crate::lsq::NormalEquations;

/// Maximum number of minimal sets tried.
const MOST_SETS: usize = 4000;
/// The search ends when the probability that all sets tried contained a wrong pair falls to this value.
const MISS_PROBABILITY: f64 = 1e-4;
/// Seed of the random numbers. It is fixed, so that the same pairs give the same transform.
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// Smallest distance of agreement, pixels; closer agreement counts as this, because matches of images are not
/// more accurate.
const FINEST_AGREEMENT: f64 = 0.05;

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as usize) % bound
    }
}

/// Least-squares parameters of some pairs by the linear equations of a family; `None` if the pairs do not
/// determine them.
pub(super) fn solve(kind: Kind, moved: &[Point], reference: &[Point], rows: &[usize]) -> Option<Vec<f64>> {
    let count = kind.parameters();
    let mut equations = NormalEquations::new(count);
    let identity = kind.identity();
    for &i in rows {
        let derivatives = kind.derivatives(moved[i], reference[i], 1.0);
        let (image, depth) = kind.transform(&identity).image_and_depth(moved[i]);
        for axis in 0..2 {
            // Linearised about the identity, where the depth is 1 and the equations are exact.
            equations.add(&derivatives[axis][..count], depth * (image[axis] - reference[i][axis]), 1.0);
        }
    }
    if !equations.inverse().1.is_empty() {
        return None;
    }
    let step = equations.solve(0.0);
    Some(identity.iter().zip(step.iter()).map(|(a, b)| a + b).collect())
}

/// Parameters of the transform with which most pairs agree within `tolerance`; `None` if no set determines
/// one.
pub(super) fn search(kind: Kind, moved: &[Point], reference: &[Point], tolerance: f64) -> Option<Vec<f64>> {
    let (count, least) = (moved.len(), kind.parameters() / 2);
    if count < least {
        return None;
    }
    let mut random = Random(SEED);
    let mut best: Option<(f64, Vec<f64>)> = None;
    let mut needed = MOST_SETS as f64;
    let mut tried = 0;
    while (tried as f64) < needed && tried < MOST_SETS {
        tried += 1;
        let rows = draw(&mut random, count, least);
        let Some(parameters) = solve(kind, moved, reference, &rows) else { continue };
        let transform = kind.transform(&parameters);
        let lowest = best.as_ref().map_or(f64::INFINITY, |(lowest, _)| *lowest);
        let (mut cost, mut following) = (0.0, 0);
        for (&from, &to) in moved.iter().zip(reference) {
            let part = squared_distance(&transform, from, to) / (tolerance * tolerance);
            cost += part.min(1.0);
            following += usize::from(part < 1.0);
            if cost > lowest {
                break;
            }
        }
        if cost < lowest {
            best = Some((cost, parameters));
            let right = (following as f64 / count as f64).powi(least as i32);
            needed = MISS_PROBABILITY.ln() / (1.0 - right.min(1.0 - 1e-9)).ln();
        }
    }
    best.map(|(_, parameters)| parameters)
}

/// Row numbers of `least` different pairs, drawn at random.
fn draw(random: &mut Random, count: usize, least: usize) -> Vec<usize> {
    let mut rows = Vec::with_capacity(least);
    while rows.len() < least {
        let row = random.below(count);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// Square of the distance between the image of a point and its reference point; infinite beyond the horizon.
pub(super) fn squared_distance(transform: &Transform, from: Point, to: Point) -> f64 {
    transform.apply(from).map_or(f64::INFINITY, |image| {
        let (dx, dy) = (image[0] - to[0], image[1] - to[1]);
        dx * dx + dy * dy
    })
}

/// Logarithm, base 10, of the expected number of transforms with which this many random pairs agree this
/// closely.
///
/// `following` of `count` pairs agree within `distance`; by chance, a point may be anywhere in `area`.
pub(super) fn log_chance(kind: Kind, count: usize, following: usize, distance: f64, area: f64) -> f64 {
    let least = kind.parameters() / 2;
    if following <= least {
        return 0.0;
    }
    let distance = distance.max(FINEST_AGREEMENT);
    let one = (std::f64::consts::PI * distance * distance / area).min(1.0).log10();
    let sets =
        ((count - least).max(1) as f64).log10() + log_choose(count, following) + log_choose(following, least);
    (sets + (following - least) as f64 * one).min(0.0)
}

/// Logarithm, base 10, of the number of ways to choose `k` of `n`.
fn log_choose(n: usize, k: usize) -> f64 {
    (0..k.min(n - k)).map(|i| ((n - i) as f64 / (i + 1) as f64).log10()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_choose() {
        assert!((log_choose(10, 3) - 120_f64.log10()).abs() < 1e-12);
        assert_eq!(log_choose(7, 0), 0.0);
        assert!(log_chance(Kind::Similarity, 10, 2, 1.0, 1e6) == 0.0);
        assert!(log_chance(Kind::Similarity, 10, 8, 1.0, 1e6) < -20.0);
        // Three of three hundred pairs agree within 50 pixels by chance.
        assert!(log_chance(Kind::Similarity, 300, 3, 50.0, 1e6) == 0.0);
    }

    #[test]
    fn a_tenth_that_agrees_is_found() {
        let mut random = Random(7);
        let mut anywhere = || [random.below(1000) as f64, random.below(1000) as f64];
        let truth = Kind::Similarity.transform(&[0.9, 0.3, 20.0, -70.0]);
        let moved: Vec<Point> = (0..200).map(|_| anywhere()).collect();
        let reference: Vec<Point> = moved
            .iter()
            .enumerate()
            .map(|(i, &p)| if i < 20 { truth.apply(p).unwrap() } else { anywhere() })
            .collect();
        let found = search(Kind::Similarity, &moved, &reference, 2.0).unwrap();
        let transform = Kind::Similarity.transform(&found);
        assert!((0..20).all(|i| squared_distance(&transform, moved[i], reference[i]) < 1e-12));
    }

    #[test]
    fn sets_that_determine_nothing_give_nothing() {
        let line: Vec<Point> = (0..9).map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
        assert!(search(Kind::Affine, &line, &line, 1.0).is_none());
        assert!(search(Kind::Similarity, &[[1.0, 1.0]; 5], &[[1.0, 1.0]; 5], 1.0).is_none());
        assert!(search(Kind::Affine, &line[..2], &line[..2], 1.0).is_none());
    }
}
