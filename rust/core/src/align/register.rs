//! Registration of a list of sources to a reference list in a common plane: finds the pairs and fits the
//! transformation.
//!
//! Matching starts from the histogram of differences, a given shift, or patterns. It pairs nearby sources,
//! fits a transformation, and pairs again until the pairs no longer change. A rotation that makes all first
//! pairs wrong except those near the centre therefore does no harm. The likelihood of the pairs decides
//! whether chance explains them (see [`growth`](super::growth)).

use super::growth::{Pair, PointList, log_ratio_of, pair_up};
use super::linear::{Clipping, Geometry, LinearFit, fit_linear};
use super::matching::{MatchOptions, match_lists};
use super::offset::find_offset;
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;
use crate::monitor::{Monitor, checkpoint};

/// Maximum number of rounds of pairing and fitting.
const MAX_ROUNDS: usize = 30;
/// Number of pairs below which only a shift is fitted while the pairs settle.
const FEW_PAIRS: usize = 6;
/// Share of the shorter list that must pair so that no other start is worth trying.
const CLEAR_SHARE: f64 = 0.3;
/// Largest false-alarm probability of a match that starts from a given shift or within a search radius.
const MAX_FALSE_ALARM_NEAR: f64 = 1e-5;
/// Largest false-alarm probability of a match by patterns, which has no start.
const MAX_FALSE_ALARM_FAR: f64 = 1e-9;

/// How matching starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The shift that is given.
    Given,
    /// The histogram of differences within the search radius.
    Histogram,
    /// Patterns alone.
    Pattern,
    /// The given shift, then patterns.
    GivenOrPattern,
    /// The histogram, then patterns.
    HistogramOrPattern,
}

impl Start {
    fn near(self) -> bool {
        self != Self::Pattern
    }

    fn patterns(self) -> bool {
        !matches!(self, Self::Given | Self::Histogram)
    }

    fn histogram(self) -> bool {
        matches!(self, Self::Histogram | Self::HistogramOrPattern)
    }
}

/// Positions in a plane, with optional weights and brightnesses.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The positions, finite.
    pub points: &'a [Point],
    /// Inverse variance per axis of each position.
    pub weights: Option<&'a [f64]>,
    /// Brightness of each source; NaN where unknown.
    pub brightness: Option<&'a [f64]>,
}

/// Options of a registration.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterOptions {
    /// How matching starts.
    pub start: Start,
    /// Half width of the histogram of differences.
    pub search_radius: f64,
    /// Expected shift.
    pub offset: Point,
    /// Sources closer to each other than this are merged: only the brightest of them stays.
    pub separation: f64,
    /// Largest distance between the two sources of a pair.
    pub tolerance: f64,
    /// Type of the transformation.
    pub geometry: Geometry,
    /// Clipping of the fit.
    pub clipping: Clipping,
}

/// How a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Chance does not explain the pairs, and a transformation is fitted to them.
    Fitted,
    /// Fewer pairs than required.
    TooFew,
    /// No shift within the search radius stands out.
    OutsideRadius,
    /// Chance explains the pairs.
    Chance,
    /// The pairs coincide or are on one line.
    Singular,
}

/// Result of a registration.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// How it ended.
    pub ending: Ending,
    /// Indices of the pairs in the two lists.
    pub pairs: Vec<[usize; 2]>,
    /// The fit to the pairs.
    pub fit: Option<LinearFit>,
    /// Lower bound of the natural logarithm of the odds against chance.
    pub log_odds: f64,
    /// Shift from which matching started.
    pub offset: Point,
    /// Natural logarithm of the probability that chance makes the histogram's peak; NaN without a histogram.
    pub log_false_alarm: f64,
    /// Whether the match was found by patterns.
    pub by_patterns: bool,
    /// Whether so many sources pair that no other start is worth trying.
    pub clear: bool,
    /// Largest possible number of pairs: the number of sources within the rectangle of the reference, or of
    /// reference points within the rectangle of the sources, whichever is smaller.
    pub possible: usize,
    /// Reference points within the rectangle of the transformed sources that have no pair.
    pub missed: Vec<usize>,
    /// Indices of the sources that remain after close sources are merged.
    kept_sources: Vec<usize>,
}

impl Registration {
    fn new() -> Self {
        Self {
            ending: Ending::TooFew,
            pairs: Vec::new(),
            fit: None,
            log_odds: f64::NEG_INFINITY,
            offset: [0.0; 2],
            log_false_alarm: f64::NAN,
            by_patterns: false,
            clear: false,
            possible: 0,
            missed: Vec::new(),
            kept_sources: Vec::new(),
        }
    }
}

/// Indices of the points that remain when only the brightest of points closer than `separation` is kept.
///
/// Without brightness, the point with the lowest y, then x, is kept, so that the order of the list does not
/// matter. The indices are ordered by grid cell: consecutive look-ups then find their neighbours in the
/// processor's cache.
pub fn distinct(sources: &Sources<'_>, separation: f64) -> Vec<usize> {
    let points = sources.points;
    let light =
        |i: usize| sources.brightness.map_or(0.0, |b| if b[i].is_nan() { f64::NEG_INFINITY } else { b[i] });
    let before = |i: usize, j: usize| {
        let order = light(j).total_cmp(&light(i)).then(points[i][1].total_cmp(&points[j][1]));
        order.then(points[i][0].total_cmp(&points[j][0])).then(i.cmp(&j))
    };
    let grid = PointGrid::new(points, 0.0);
    let all = || grid.by_cells().iter().map(|&i| i as usize);
    let mut crowded: Vec<usize> = all().filter(|&i| grid.is_crowded(points[i], separation)).collect();
    crowded.sort_by(|&i, &j| before(i, j));
    let mut kept = vec![true; points.len()];
    for &i in &crowded {
        if kept[i] {
            grid.visit_near(points[i], separation, |j, _| kept[j] &= j == i);
        }
    }
    all().filter(|&i| kept[i]).collect()
}

/// The two lists after close sources are merged.
struct Plane<'a> {
    of_image: Vec<usize>,
    of_reference: Vec<usize>,
    image: Vec<Point>,
    reference: PointList,
    options: &'a RegisterOptions,
}

/// Registers sources to a reference.
pub fn register(
    image: &Sources<'_>,
    reference: &Sources<'_>,
    options: &RegisterOptions,
    monitor: &dyn Monitor,
) -> Result<Registration> {
    let (of_image, of_reference) =
        (distinct(image, options.separation), distinct(reference, options.separation));
    let pick = |list: &[Point], of: &[usize]| of.iter().map(|&i| list[i]).collect::<Vec<Point>>();
    let plane = Plane {
        image: pick(image.points, &of_image),
        reference: PointList::new(pick(reference.points, &of_reference)),
        of_image,
        of_reference,
        options,
    };
    let mut best = Registration::new();
    if plane.image.is_empty() || plane.reference.points.is_empty() {
        return Ok(best);
    }
    if options.start.near() {
        best = plane.nearby(monitor)?;
        checkpoint(monitor)?;
    }
    let inside = plane.image.len().min(plane.reference.points.len()) as f64;
    best.clear = best.ending == Ending::Fitted && best.pairs.len() as f64 >= CLEAR_SHARE * inside;
    if options.start.patterns() && !best.clear {
        let light = |sources: &Sources<'_>, of: &[usize]| {
            sources.brightness.map(|b| of.iter().map(|&i| b[i]).collect::<Vec<f64>>())
        };
        let brightness = light(image, &plane.of_image).zip(light(reference, &plane.of_reference));
        if let Some(found) = plane.by_patterns(brightness.as_ref(), monitor)?
            && found.log_odds > best.log_odds
        {
            best = Registration { log_false_alarm: best.log_false_alarm, ..found };
        }
    }
    best.kept_sources = plane.of_image;
    Ok(finish(best, image, reference, options))
}

/// Fits the transformation to the pairs of a registration that chance does not explain.
fn finish(
    mut found: Registration,
    image: &Sources<'_>,
    reference: &Sources<'_>,
    options: &RegisterOptions,
) -> Registration {
    if found.ending != Ending::Fitted {
        return found;
    }
    if found.pairs.len() < options.clipping.least_pairs {
        found.ending = Ending::TooFew;
        return found;
    }
    let weight = |sources: &Sources<'_>, i: usize| sources.weights.map_or(f64::INFINITY, |w| w[i]);
    let weights: Vec<f64> =
        found.pairs.iter().map(|&[i, j]| combined(weight(image, i), weight(reference, j))).collect();
    let known = image.weights.is_some() || reference.weights.is_some();
    let pairs: Vec<(Point, Point)> =
        found.pairs.iter().map(|&[i, j]| (image.points[i], reference.points[j])).collect();
    match fit_linear(&pairs, known.then_some(&weights[..]), options.geometry, &options.clipping) {
        Ok(fit) => {
            let moved: Vec<Point> = image.points.iter().map(|&p| fit.apply(p)).collect();
            let inside = in_rectangle(reference.points, &moved);
            let possible = in_rectangle(&moved, reference.points).len().min(inside.len());
            // Noise moves some paired points out of the rectangles.
            found.possible = possible.max(found.pairs.len());
            let mut paired = vec![false; reference.points.len()];
            found.pairs.iter().for_each(|&[_, j]| paired[j] = true);
            found.missed = inside.into_iter().filter(|&j| !paired[j]).collect();
            found.fit = Some(fit);
        }
        Err(_) => found.ending = Ending::Singular,
    }
    found
}

/// Pairs unpaired sources with further reference points, and fits all pairs again.
///
/// The further points are those of `reference` from index `first` on, which took no part in the registration
/// `found`. Each pairs with a source that the fit of `found` maps near it.
pub fn join(
    found: Registration,
    image: &Sources<'_>,
    reference: &Sources<'_>,
    first: usize,
    options: &RegisterOptions,
) -> Registration {
    let Some(fit) = &found.fit else { return found };
    let mut free = vec![false; image.points.len()];
    found.kept_sources.iter().for_each(|&i| free[i] = true);
    found.pairs.iter().for_each(|&[i, _]| free[i] = false);
    let others = Sources {
        points: &reference.points[first..],
        weights: None,
        brightness: reference.brightness.map(|b| &b[first..]),
    };
    let of_others = distinct(&others, options.separation);
    let points: Vec<Point> = of_others.iter().map(|&j| others.points[j]).collect();
    let moved = (0..free.len()).filter(|&i| free[i]).map(|i| (i, fit.apply(image.points[i])));
    let mut more = Vec::new();
    pair_up(moved, &PointGrid::new(&points, options.tolerance), options.tolerance, &mut more);
    let mut pairs = found.pairs.clone();
    pairs.extend(more.iter().map(|pair| [pair.moving, first + of_others[pair.fixed]]));
    pairs.sort_unstable();
    finish(Registration { pairs, ..found }, image, reference, options)
}

/// Indices of the points within the bounding rectangle of `others`.
fn in_rectangle(points: &[Point], others: &[Point]) -> Vec<usize> {
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for p in others {
        for k in 0..2 {
            low[k] = low[k].min(p[k]);
            high[k] = high[k].max(p[k]);
        }
    }
    let inside = |p: &Point| (0..2).all(|k| p[k] >= low[k] && p[k] <= high[k]);
    (0..points.len()).filter(|&i| inside(&points[i])).collect()
}

/// Weight of the difference of two positions with weights `a` and `b`: variances add.
pub fn combined(a: f64, b: f64) -> f64 {
    if a <= 0.0 || b <= 0.0 { 0.0 } else { 1.0 / (1.0 / a + 1.0 / b) }
}

impl Plane<'_> {
    /// Registers from the given shift or the histogram.
    fn nearby(&self, monitor: &dyn Monitor) -> Result<Registration> {
        let mut found = Registration { offset: self.options.offset, ..Registration::new() };
        let mut trials = 1.0_f64;
        if self.options.start.histogram() {
            let radius = self.options.search_radius;
            let offset = find_offset(&self.image, &self.reference.grid, self.options.offset, radius);
            (found.offset, found.log_false_alarm) = (offset.shift, offset.log_false_alarm);
            trials = (2.0 * radius / self.options.tolerance + 1.0).powi(2);
        }
        let (pairs, log_ratio) =
            self.settle(&|p| [p[0] + found.offset[0], p[1] + found.offset[1]], monitor)?;
        found.log_odds = log_ratio - trials.ln();
        found.pairs = self.indices(&pairs);
        found.ending = if found.log_odds > -MAX_FALSE_ALARM_NEAR.ln() {
            Ending::Fitted
        } else if found.pairs.len() < self.options.clipping.least_pairs && !self.options.start.histogram() {
            Ending::TooFew
        } else if self.options.start.histogram() && found.log_false_alarm > MAX_FALSE_ALARM_NEAR.ln() {
            Ending::OutsideRadius
        } else {
            Ending::Chance
        };
        Ok(found)
    }

    /// Registers by patterns; `None` if they find no match.
    fn by_patterns(
        &self,
        brightness: Option<&(Vec<f64>, Vec<f64>)>,
        monitor: &dyn Monitor,
    ) -> Result<Option<Registration>> {
        let options = MatchOptions {
            radius: self.options.tolerance,
            max_false_alarm: MAX_FALSE_ALARM_FAR,
            ..MatchOptions::default()
        };
        let light = brightness.map(|(a, b)| (&a[..], &b[..]));
        let Some(found) = match_lists(&self.image, &self.reference.points, light, &options, monitor)? else {
            return Ok(None);
        };
        let (pairs, _) = self.settle(&|p| found.transform.apply(p), monitor)?;
        Ok(Some(Registration {
            ending: Ending::Fitted,
            pairs: self.indices(&pairs),
            log_odds: found.log_odds,
            offset: found.transform.shift,
            by_patterns: true,
            ..Registration::new()
        }))
    }

    /// Pairs and fits until the pairs no longer change. Returns the pairs and their log likelihood ratio.
    fn settle(&self, start: &dyn Fn(Point) -> Point, monitor: &dyn Monitor) -> Result<(Vec<Pair>, f64)> {
        let (mut pairs, mut before) = (Vec::new(), Vec::new());
        let mut fit: Option<LinearFit> = None;
        for round in 0..MAX_ROUNDS {
            checkpoint(monitor)?;
            let place = |p: Point| fit.as_ref().map_or_else(|| start(p), |fit| fit.apply(p));
            // The start is accurate to one bin of the histogram; later rounds are more accurate.
            let radius = if round == 0 { 1.5 } else { 1.0 } * self.options.tolerance;
            let moved = self.image.iter().enumerate().map(|(i, &p)| (i, place(p)));
            pair_up(moved, &self.reference.grid, radius, &mut pairs);
            let now: Vec<[usize; 2]> = pairs.iter().map(|pair| [pair.moving, pair.fixed]).collect();
            if now == before {
                break;
            }
            before = now;
            fit = self.refit(&pairs).or(fit);
        }
        let place = |p: Point| fit.as_ref().map_or_else(|| start(p), |fit| fit.apply(p));
        let log_ratio =
            log_ratio_of(&self.image, &self.reference, &pairs, &place, self.options.tolerance, &[]);
        Ok((pairs, log_ratio))
    }

    fn refit(&self, pairs: &[Pair]) -> Option<LinearFit> {
        let geometry = if pairs.len() < FEW_PAIRS { Geometry::Shift } else { self.options.geometry };
        let points: Vec<(Point, Point)> =
            pairs.iter().map(|p| (self.image[p.moving], self.reference.points[p.fixed])).collect();
        let clipping = Clipping { rounds: 0, ..self.options.clipping };
        fit_linear(&points, None, geometry, &clipping).ok()
    }

    /// Indices of the pairs in the original lists, in the order of the first list.
    fn indices(&self, pairs: &[Pair]) -> Vec<[usize; 2]> {
        let mut all: Vec<[usize; 2]> =
            pairs.iter().map(|p| [self.of_image[p.moving], self.of_reference[p.fixed]]).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::linear::ClipStatistic;
    use crate::align::testing::random;

    #[test]
    fn of_close_sources_the_brightest_stays() {
        let points = [[0.0, 0.0], [0.2, 0.0], [5.0, 5.0], [0.4, 0.0], [0.85, 0.0]];
        let light = [1.0, 3.0, f64::NAN, 2.0, 0.5];
        let sources = Sources { points: &points, weights: None, brightness: Some(&light) };
        // The fifth point is close only to the fourth, which is not kept.
        let kept = |sources: &Sources<'_>, separation: f64| {
            let mut kept = distinct(sources, separation);
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept(&sources, 0.5), [1, 2, 4]);
        let plain = Sources { brightness: None, ..sources };
        assert_eq!(kept(&plain, 0.5), [0, 2, 4]);
        assert_eq!(kept(&plain, 0.0), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn sources_join_points_that_took_no_part() {
        let stars: Vec<Point> = (0..40).map(|i| [random(2 * i) * 500.0, random(2 * i + 1) * 500.0]).collect();
        let image: Vec<Point> = stars.iter().map(|p| [p[0] - 3.0, p[1] + 2.0]).collect();
        let of = |points| Sources { points, weights: None, brightness: None };
        let options = RegisterOptions {
            start: Start::Histogram,
            search_radius: 10.0,
            offset: [0.0; 2],
            separation: 0.5,
            tolerance: 1.0,
            geometry: Geometry::Rscale,
            clipping: Clipping { rounds: 3, sigma: 3.0, statistic: ClipStatistic::Rmse, least_pairs: 2 },
        };
        // The reference first lacks the last ten stars. Then five of them are added, and a position without a
        // source.
        let found = register(&of(&image), &of(&stars[..30]), &options, &()).unwrap();
        assert_eq!(found.pairs, (0..30).map(|i| [i, i]).collect::<Vec<_>>());
        assert!(found.missed.is_empty());
        let nowhere = [stars[0][0] + 5.0, stars[0][1] + 5.0];
        let more: Vec<Point> =
            stars[..30].iter().copied().chain([nowhere]).chain(stars[30..35].to_vec()).collect();
        let joined = join(found, &of(&image), &of(&more), 30, &options);
        let wanted = (0..30).map(|i| [i, i]).chain((30..35).map(|i| [i, i + 1]));
        assert_eq!(joined.pairs, wanted.collect::<Vec<_>>());
        assert_eq!(joined.missed, [30]);
        assert_eq!(joined.fit.unwrap().kept.len(), 35);
    }

    #[test]
    fn weights_are_inverse_variances() {
        assert!((combined(4.0, 1.0) - 0.8).abs() < 1e-15);
        assert_eq!(combined(f64::INFINITY, 3.0), 3.0);
        assert_eq!(combined(0.0, 3.0), 0.0);
    }
}
