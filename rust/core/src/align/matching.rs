//! Matching of two lists of stars without an initial transformation.

use super::growth::{Lists, Pair, PointList};
use super::patterns::{MAX_PATTERNS, PatternIndex, PlanePattern, patterns_of};
use super::similarity::Similarity;
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::monitor::{Monitor, checkpoint};

/// Shortest edge of a pattern, in pairing radii; shorter edges carry no information.
const SHORTEST_EDGE: f64 = 3.0;
/// Tolerance of a ratio, in pairing radii divided by the pattern's length.
const RATIO_TOLERANCE: f64 = 0.7;
/// Largest tolerance of a ratio.
const MAX_RATIO_TOLERANCE: f64 = 0.03;
/// Smallest number of brightest stars that are searched. Lists with brightness are searched at several
/// depths, from the shallowest on; each has half the stars of the next.
const SHALLOWEST: usize = 30;
/// Step through a list, as a share of its length. The golden section visits every part of the list early.
const STRIDE: f64 = 0.618_033_988_749_895;
/// Highest order of the polynomials that model distortion.
pub const MAX_ORDER: usize = 5;

/// Options for matching two lists.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchOptions {
    /// Largest distance between the stars of a pair after the transformation: a few times the error of the
    /// positions.
    pub radius: f64,
    /// Smallest and largest scale of the second list relative to the first.
    pub scales: [f64; 2],
    /// Whether the second list may be a mirror image of the first.
    pub mirrored: bool,
    /// Order of the polynomials used to pair the stars of distorted frames; 0 for a similarity.
    pub max_order: usize,
    /// Largest probability of a chance match.
    pub max_false_alarm: f64,
}

impl Default for MatchOptions {
    fn default() -> Self {
        Self { radius: 1.0, scales: [0.8, 1.25], mirrored: false, max_order: 0, max_false_alarm: 1e-9 }
    }
}

/// Match of the stars of two lists.
#[derive(Debug, Clone, PartialEq)]
pub struct ListMatch {
    /// Indices in the first and the second list, in the order of the first.
    pub pairs: Vec<[usize; 2]>,
    /// Transformation from the first list to the second, by least squares on all pairs.
    pub transform: Similarity,
    /// Lower bound of the natural logarithm of the odds against a chance match.
    pub log_odds: f64,
}

/// Matches the stars of two lists, whatever their shift and rotation; `None` if chance may explain the match.
///
/// With the brightness of the stars of both lists, lists of different depth match as well. The time is linear
/// in the length of the lists.
pub fn match_lists(
    first: &[Point],
    second: &[Point],
    brightness: Option<(&[f64], &[f64])>,
    options: &MatchOptions,
    monitor: &dyn Monitor,
) -> Result<Option<ListMatch>> {
    check(first, second, brightness, options)?;
    let swapped = first.len() > second.len();
    let [low, high] = options.scales;
    // The shorter list is indexed and held fixed. The longer list is transformed and searched until a match
    // is found.
    let (moving, fixed, scales) =
        if swapped { (first, second, [low, high]) } else { (second, first, [1.0 / high, 1.0 / low]) };
    let light = brightness.map(|(a, b)| if swapped { (a, b) } else { (b, a) });
    let lists = Lists {
        moving: PointList::new(moving.to_vec()),
        fixed: PointList::new(fixed.to_vec()),
        radius: options.radius,
        max_order: options.max_order,
        scales,
        mirrored: options.mirrored,
    };
    let found = search(&lists, light, options.max_false_alarm, monitor)?;
    Ok(found.and_then(|(pairs, log_odds)| as_match(&lists, &pairs, log_odds, swapped)))
}

fn as_match(lists: &Lists, pairs: &[Pair], log_odds: f64, swapped: bool) -> Option<ListMatch> {
    let mut pairs: Vec<[usize; 2]> =
        pairs.iter().map(|p| if swapped { [p.moving, p.fixed] } else { [p.fixed, p.moving] }).collect();
    pairs.sort_unstable();
    let (first, second) = if swapped { (&lists.moving, &lists.fixed) } else { (&lists.fixed, &lists.moving) };
    let points: Vec<(Point, Point)> =
        pairs.iter().map(|&[a, b]| (first.points[a], second.points[b])).collect();
    let transform = as_similarity(&points)?;
    Some(ListMatch { pairs, transform, log_odds })
}

/// The similarity that fits best, mirrored or not.
fn as_similarity(points: &[(Point, Point)]) -> Option<Similarity> {
    let misfit = |s: &Similarity| -> f64 {
        let square = |(p, q): &(Point, Point)| {
            let at = s.apply(*p);
            (at[0] - q[0]).powi(2) + (at[1] - q[1]).powi(2)
        };
        points.iter().map(square).sum()
    };
    let both = [false, true].into_iter().filter_map(|mirrored| Similarity::fit(points, mirrored));
    both.min_by(|a, b| misfit(a).total_cmp(&misfit(b)))
}

fn check(
    first: &[Point],
    second: &[Point],
    brightness: Option<(&[f64], &[f64])>,
    options: &MatchOptions,
) -> Result<()> {
    for (name, points) in [("a", first), ("b", second)] {
        if points.iter().flatten().any(|c| !c.is_finite()) {
            return Err(Error::argument(name, "a position is not finite", "leave such stars out"));
        }
    }
    if let Some((a, b)) = brightness
        && (a.len() != first.len() || b.len() != second.len())
    {
        return Err(Error::argument(
            "brightness",
            "not one for each position",
            "give one for each star of both lists",
        ));
    }
    if !(options.radius > 0.0 && options.radius.is_finite()) {
        let problem = format!("{} is not positive", options.radius);
        return Err(Error::argument("radius", problem, "give pixels, such as 1"));
    }
    let [low, high] = options.scales;
    if !(low > 0.0 && low <= high && high.is_finite()) {
        let problem = format!("({low}, {high}) is not a range");
        return Err(Error::argument(
            "scales",
            problem,
            "give the smallest and the largest, such as (0.8, 1.25)",
        ));
    }
    if options.max_order > MAX_ORDER {
        let problem = format!("{} is too high", options.max_order);
        return Err(Error::argument("max_order", problem, format!("give 0 to {MAX_ORDER}")));
    }
    if !(options.max_false_alarm > 0.0 && options.max_false_alarm < 1.0) {
        let problem = format!("{} is not a probability", options.max_false_alarm);
        return Err(Error::argument("max_false_alarm", problem, "give one between 0 and 1, such as 1e-9"));
    }
    Ok(())
}

/// The brightest stars of a list, from which patterns are made.
struct Depth {
    /// Indices of the stars in the whole list.
    stars: Vec<u32>,
    list: PointList,
}

/// The list at several depths, each with half the stars of the next, the shallowest first. Without
/// brightness, only the whole list.
fn depths(points: &[Point], brightness: Option<&[f64]>) -> Vec<Depth> {
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    let mut count = points.len();
    if let Some(light) = brightness {
        // Unknown brightness (NaN) sorts last.
        let key = |&i: &u32| if light[i as usize].is_nan() { f64::NEG_INFINITY } else { light[i as usize] };
        order.sort_by(|a, b| key(b).total_cmp(&key(a)));
        while count / 2 >= SHALLOWEST {
            count /= 2;
        }
    }
    let mut all = Vec::new();
    loop {
        let stars = order[..count].to_vec();
        let list = PointList::new(stars.iter().map(|&i| points[i as usize]).collect());
        all.push(Depth { stars, list });
        if count == points.len() {
            return all;
        }
        count = (2 * count + 1).min(points.len());
    }
}

impl Depth {
    /// Indices of the stars in an order that visits all parts of the list early.
    fn strided(&self) -> impl Iterator<Item = usize> {
        let n = self.stars.len();
        let mut step = ((n as f64 * STRIDE) as usize).max(1);
        while gcd(step, n) > 1 {
            step += 1;
        }
        (0..n).map(move |i| (i * step) % n)
    }

    /// Finds the patterns about one of the stars, with indices in the whole list.
    fn patterns(
        &self,
        star: usize,
        shortest: f64,
        neighbors: &mut Vec<(f64, u32)>,
        found: &mut Vec<PlanePattern>,
    ) {
        self.list.neighbors(star, neighbors);
        found.clear();
        patterns_of(star, neighbors, &self.list.points, shortest, |pattern| {
            found.push(PlanePattern { stars: pattern.stars.map(|i| self.stars[i as usize]), ..pattern });
        });
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn index_of(depths: &[Depth], shortest: f64, monitor: &dyn Monitor) -> Result<PatternIndex> {
    let (mut patterns, mut neighbors, mut about) = (Vec::new(), Vec::new(), Vec::new());
    for depth in depths {
        let limit = patterns.len() + MAX_PATTERNS / depths.len();
        for star in depth.strided() {
            if patterns.len() >= limit {
                break;
            }
            checkpoint(monitor)?;
            depth.patterns(star, shortest, &mut neighbors, &mut about);
            patterns.append(&mut about);
        }
    }
    Ok(PatternIndex::new(patterns))
}

/// Pairs and log odds of the first proposal that chance does not explain.
fn search(
    lists: &Lists,
    brightness: Option<(&[f64], &[f64])>,
    max_false_alarm: f64,
    monitor: &dyn Monitor,
) -> Result<Option<(Vec<Pair>, f64)>> {
    let shortest = SHORTEST_EDGE * lists.radius;
    let fixed = depths(&lists.fixed.points, brightness.map(|b| b.1));
    let index = index_of(&fixed, shortest, monitor)?;
    let sizes = lists.scales.map(|scale| scale as f32);
    let (mut neighbors, mut about, mut proposals) = (Vec::new(), Vec::new(), Vec::new());
    let mut tried = 0.0_f64;
    for depth in depths(&lists.moving.points, brightness.map(|b| b.0)) {
        for star in depth.strided() {
            checkpoint(monitor)?;
            depth.patterns(star, shortest, &mut neighbors, &mut about);
            for pattern in &about {
                let tolerance = RATIO_TOLERANCE * lists.radius / f64::from(pattern.shape.longest);
                let tolerance = tolerance.min(MAX_RATIO_TOLERANCE) as f32;
                proposals.clear();
                index.resembling(pattern, tolerance, sizes, |other| proposals.push(other.stars));
                for &stars in &proposals {
                    tried += 1.0;
                    let Some((pairs, log_ratio)) = lists.grow(pattern.stars, stars) else { continue };
                    let log_odds = log_ratio - tried.ln();
                    if log_odds > -max_false_alarm.ln() {
                        return Ok(Some((pairs, log_odds)));
                    }
                }
            }
        }
    }
    Ok(None)
}
