//! The final match: detections to catalogue stars one to one, and attitude and focal length fitted to all of them;
//! and the lens, where the residuals ask for it.

use super::field::{Field, Pointing, ProjectedStar, Sky, stars_wanted};
use super::fit::{FIT_STEPS, Fit, Lens, Match, fit, gain};
use super::mixture::Mixture;
use super::verify::Accepted;
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;

/// Matches farther out than this many standard deviations of the fit are dropped.
const CLIP_SIGMA: f64 = 5.0;
/// No match closer than this is dropped, px: catalogue errors and blends are of that size.
const MIN_CLIP_PX: f64 = 0.3;
/// Expected number of stray detections within the match radius of a star: only so many of the brightest detections
/// are matched that it is not exceeded, so a wide radius takes bright stars and a narrow one takes all.
const CROWDING_LIMIT: f64 = 0.3;
/// Detections that are matched whatever the radius.
const MIN_DETECTIONS: usize = 30;
/// Fewest matches that determine attitude and focal length with something to spare.
const MIN_MATCHES: usize = 3;
/// Fewest matches to which a lens is fitted.
const MIN_LENS_MATCHES: usize = 12;
/// Parameters of the lens are fitted when they lower the sum of squares by so many variances: chance does it once in
/// 10⁶ frames.
const SIGNIFICANT: f64 = 25.0;
/// Share of the matches that a lens has to keep.
const MIN_KEPT_MATCHES: f64 = 0.8;
/// Share of the matches to be expected that a narrower radius has to keep: where more are lost, the model is not that of
/// the camera, and the matches that are left would be those of one part of the image.
const MIN_KEPT_WHEN_NARROWER: f64 = 0.9;
/// Rounds in which a lens is fitted to matches within the full radius: each takes in stars farther out.
const GROWING_ROUNDS: usize = 4;
/// Detections farther than so many match radii from a star are not compared with it again: the fit moves none that far.
const KEPT_RADII: f64 = 2.0;
/// Largest radial coefficient and optical centre (half image widths) believed: more is a wrong match at the edges.
const MAX_K1: f64 = 0.15;
/// See [`MAX_K1`].
const MAX_CENTER: f64 = 0.25;

/// Spread of the distances that a candidate is taken to begin with, as a fraction of the match radius.
const WIDEST_SPREAD: f64 = 0.3;
/// By how much more than the image's reach stars are looked for when a lens is fitted.
const LENS_MARGIN: f64 = 0.1;

/// Outcome of [`Refiner::refine`].
pub(super) struct Refined {
    pub(super) fit: Fit,
    /// Those that are probable.
    pub(super) matches: Vec<Match>,
}

/// Whether a lens fits more closely, and loses no matches but chance ones that wider residuals let in.
fn improves(with: &Refined, without: &Refined) -> bool {
    with.fit.sigma < without.fit.sigma
        && with.matches.len() as f64 >= MIN_KEPT_MATCHES * without.matches.len() as f64
}

/// Matches and fits in turn until the matches stay the same.
pub(super) struct Refiner<'a> {
    pub(super) field: &'a Field,
    pub(super) sky: &'a Sky<'a>,
    /// Match radius, px; it shrinks with the residuals.
    pub(super) radius: f64,
    /// Most rounds of matching and fitting.
    pub(super) rounds: usize,
    /// Whether radial distortion and optical centre are fitted too, if they are significant.
    pub(super) lens_is_free: bool,
}

impl Refiner<'_> {
    /// Refines an accepted candidate; `None` if too few stars match.
    pub(super) fn refine(&self, accepted: &Accepted) -> Option<Refined> {
        let start = &accepted.pointing;
        let pinhole = self.settle::<4>(&accepted.stars, start, Lens::default(), 0)?;
        if !self.lens_is_free || !self.asks_for_more::<5>(&pinhole) {
            return Some(pinhole);
        }
        Some(self.with_lens(start, &pinhole).unwrap_or(pinhole))
    }

    /// With a lens, if that fits better.
    fn with_lens(&self, start: &Pointing, pinhole: &Refined) -> Option<Refined> {
        let mut stars = Vec::new();
        // Also those just outside the image, for a lens may bring them into it.
        let wide = Pointing { focal_length: start.focal_length * (1.0 - LENS_MARGIN), ..*start };
        self.sky.in_view(self.field, &wide, stars_wanted(self.field.ideal.len()), &mut stars);
        let seen = self.sky.projected(start, &stars);
        let radial = self
            .settle::<5>(&seen, start, Lens::default(), GROWING_ROUNDS)
            .filter(|radial| improves(radial, pinhole) && radial.fit.lens.k1.abs() < MAX_K1)?;
        if !self.asks_for_more::<7>(&radial) {
            return Some(radial);
        }
        let Fit { pointing, lens, .. } = &radial.fit;
        let seen = self.sky.projected(pointing, &stars);
        let centered = self.settle::<7>(&seen, pointing, *lens, 0).filter(|centered| {
            let Lens { k1, center } = centered.fit.lens;
            improves(centered, &radial) && k1.abs() < MAX_K1 && center[0].hypot(center[1]) < MAX_CENTER
        });
        Some(centered.unwrap_or(radial))
    }

    /// Whether more parameters, the first `NEXT`, are significant.
    fn asks_for_more<const NEXT: usize>(&self, Refined { fit, matches }: &Refined) -> bool {
        matches.len() >= MIN_LENS_MATCHES && gain::<NEXT>(self.field, matches, fit) > SIGNIFICANT
    }

    /// Matches and fits in turn until the matches stay the same, at first so many times within the full radius;
    /// `stars` are where `start` sees them.
    pub(super) fn settle<const N: usize>(
        &self,
        stars: &[ProjectedStar],
        start: &Pointing,
        lens: Lens,
        growing: usize,
    ) -> Option<Refined> {
        let Self { field, sky, radius, rounds, .. } = *self;
        let mut matcher = Matcher::new(field, sky, stars, &lens, radius);
        let mut matches = matcher.matches(start, &lens, radius, WIDEST_SPREAD * radius);
        let mut last: Option<Fit> = None;
        // What the matches were looked for with: radius and spread.
        let mut looked = (radius, WIDEST_SPREAD * radius);
        let mut most = expected(&matches);
        let end = growing + rounds.max(1);
        for round in 0..end {
            if matches.len() < MIN_MATCHES {
                return None;
            }
            let (pointing, lens) = last.as_ref().map_or((start, lens), |fit| (&fit.pointing, fit.lens));
            // The first fit decides what matches: a step towards it will do.
            let steps = if round == 0 && end > 1 { 1 } else { FIT_STEPS };
            let fit = fit::<N>(field, &matches, pointing, lens, steps)?;
            let mut within = (CLIP_SIGMA * fit.sigma).clamp(MIN_CLIP_PX.min(radius), radius);
            if round < growing {
                let moved = sky.projected(&fit.pointing, stars);
                matcher = Matcher::new(field, sky, &moved, &fit.lens, radius);
                within = radius;
            }
            let mut next = matcher.matches(&fit.pointing, &fit.lens, within, fit.sigma);
            most = most.max(expected(&next));
            if expected(&next) < MIN_KEPT_WHEN_NARROWER * most {
                next = matcher.matches(&fit.pointing, &fit.lens, looked.0, looked.1);
            } else {
                looked = (within, fit.sigma);
            }
            let settled = next.len() == matches.len()
                && next.iter().zip(&matches).all(|(a, b)| a.detection == b.detection && a.star == b.star);
            matches = next;
            last = Some(fit);
            if settled && round >= growing.max(1) {
                break;
            }
        }
        matches.retain(Match::is_probable);
        (matches.len() >= MIN_MATCHES).then_some(Refined { fit: last?, matches })
    }
}

/// Number of matches to be expected among pairs.
fn expected(pairs: &[Match]) -> f64 {
    pairs.iter().map(|pair| pair.probability).sum()
}

/// Detections and the catalogue stars that may be theirs.
struct Matcher<'a> {
    field: &'a Field,
    /// Numbers of all stars, ascending.
    numbers: Vec<u32>,
    /// Stars and the detections near them; those of one star follow each other.
    pairs: Vec<Match>,
}

impl<'a> Matcher<'a> {
    /// For pointings and lenses with which no star is seen more than a few match radii from where it is said to be.
    fn new(field: &'a Field, sky: &Sky<'_>, stars: &[ProjectedStar], lens: &Lens, radius: f64) -> Self {
        let near = KEPT_RADII * radius;
        let points: Vec<Point> = field.ideal.iter().map(|&p| lens.ideal(p, field.half_width())).collect();
        let grid = PointGrid::new(&points, near);
        let mut pairs = Vec::with_capacity(points.len());
        for (rank, &(star, at)) in stars.iter().enumerate() {
            let mut known = None;
            grid.visit_near(at, near, |detection, distance2| {
                let Some(direction) = *known.get_or_insert_with(|| sky.direction(star)) else { return };
                pairs.push(Match { detection, star, direction, rank, distance2, probability: 1.0 });
            });
        }
        Self { field, numbers: stars.iter().map(|(star, _)| *star).collect(), pairs }
    }

    /// Every star with its nearest detection within `radius`, and how probable that is a match, from `sigma` on; a
    /// detection keeps its nearest star. By detection.
    fn matches(&self, pointing: &Pointing, lens: &Lens, radius: f64, sigma: f64) -> Vec<Match> {
        let Self { field, numbers, pairs } = self;
        let crowd = CROWDING_LIMIT * field.area() / (std::f64::consts::PI * radius * radius);
        let count = (crowd as usize).max(MIN_DETECTIONS);
        let stars = stars_wanted(count).min(numbers.len());
        let mut best: Vec<Option<(f64, &Match)>> = vec![None; field.ideal.len()];
        for pairs in pairs.chunk_by(|a, b| a.star == b.star).take_while(|pairs| pairs[0].rank < stars) {
            let Some([u, v]) = pointing.project(&pairs[0].direction) else { continue };
            let measured = pairs.iter().filter(|pair| field.order[pair.detection] < count).map(|pair| {
                let [x, y] = lens.ideal(field.ideal[pair.detection], field.half_width());
                ((x - u).powi(2) + (y - v).powi(2), pair)
            });
            if let Some((distance2, pair)) = measured.min_by(|a, b| a.0.total_cmp(&b.0))
                && distance2 < radius * radius
                && best[pair.detection].is_none_or(|(nearest, _)| distance2 < nearest)
            {
                best[pair.detection] = Some((distance2, pair));
            }
        }
        let found = |(distance2, pair): (f64, &Match)| Match { distance2, ..*pair };
        let mut matches = Vec::with_capacity(best.len());
        matches.extend(best.into_iter().flatten().map(found));
        let mixture = Mixture { detections: count.min(field.ideal.len()), area: field.area(), radius, stars };
        mixture.weigh(&mut matches, sigma);
        matches
    }
}
