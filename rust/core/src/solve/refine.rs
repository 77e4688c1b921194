//! Final matching: pairs detections and catalogue stars one to one, and fits attitude, focal length and, if
//! the residuals require it, the lens to all matches.

use super::field::{Field, Pointing, ProjectedStar, Sky, stars_wanted};
use super::fit::{FIT_STEPS, Fit, Lens, Match, fit, gain};
use super::mixture::Mixture;
use super::verify::Accepted;
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;

/// Matches with residuals above this many standard deviations of the fit are dropped.
const CLIP_SIGMA: f64 = 5.0;
/// Matches closer than this are never dropped, px: catalogue errors and blends have this size.
const MIN_CLIP_PX: f64 = 0.3;
/// Largest expected number of stray detections within the match radius of a star. It limits how many of the
/// brightest detections are matched: a wide radius uses only bright stars, a narrow radius uses all.
const CROWDING_LIMIT: f64 = 0.3;
/// Minimum number of detections matched, whatever the radius.
const MIN_DETECTIONS: usize = 30;
/// Minimum number of matches, which determine attitude and focal length with some redundancy.
const MIN_MATCHES: usize = 3;
/// Minimum number of matches to which a lens is fitted.
const MIN_LENS_MATCHES: usize = 12;
/// Parameters of the lens are fitted when they lower the sum of squares by this many variances, which occurs
/// by chance once in 10⁶ frames.
const SIGNIFICANT: f64 = 25.0;
/// Minimum share of the matches that must remain with a lens.
const MIN_KEPT_MATCHES: f64 = 0.8;
/// Minimum share of the expected number of matches that must remain with a narrower radius. If more are lost,
/// the model does not fit the camera, and the remaining matches would be those of one part of the image.
const MIN_KEPT_WHEN_NARROWER: f64 = 0.9;
/// Number of rounds in which a lens is fitted to matches within the full radius. Each round includes stars
/// farther out.
const GROWING_ROUNDS: usize = 4;
/// Detections farther than this many match radii from a star are not compared with it again: the fit moves no
/// star that far.
const KEPT_RADII: f64 = 2.0;
/// Largest radial coefficient accepted: a larger one comes from wrong matches at the edges.
const MAX_K1: f64 = 0.15;
/// Largest distance of the optical centre from the image's centre accepted, in half image widths.
const MAX_CENTER: f64 = 0.25;

/// Initial spread of the distances of a candidate's matches, as a fraction of the match radius.
const WIDEST_SPREAD: f64 = 0.3;
/// When a lens is fitted, stars are searched up to this fraction beyond the image's reach.
const LENS_MARGIN: f64 = 0.1;

/// Outcome of [`Refiner::refine`].
pub(super) struct Refined {
    pub(super) fit: Fit,
    /// The probable matches.
    pub(super) matches: Vec<Match>,
}

/// Whether a lens lowers the residuals and keeps most matches. Chance matches that larger residuals admitted
/// may be lost.
fn improves(with: &Refined, without: &Refined) -> bool {
    with.fit.sigma < without.fit.sigma
        && with.matches.len() as f64 >= MIN_KEPT_MATCHES * without.matches.len() as f64
}

/// Matches and fits alternately until the matches stay the same.
pub(super) struct Refiner<'a> {
    pub(super) field: &'a Field,
    pub(super) sky: &'a Sky<'a>,
    /// Match radius, px; it shrinks with the residuals.
    pub(super) radius: f64,
    /// Maximum number of rounds of matching and fitting.
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

    /// Refines with a lens; `None` if the lens does not fit better.
    fn with_lens(&self, start: &Pointing, pinhole: &Refined) -> Option<Refined> {
        let mut stars = Vec::new();
        // Includes stars just outside the image, because a lens may move them into it.
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

    /// Whether the additional parameters among the first `NEXT` are significant.
    fn asks_for_more<const NEXT: usize>(&self, Refined { fit, matches }: &Refined) -> bool {
        matches.len() >= MIN_LENS_MATCHES && gain::<NEXT>(self.field, matches, fit) > SIGNIFICANT
    }

    /// Matches and fits alternately until the matches stay the same. The first `growing` rounds use the full
    /// radius; `stars` are at the positions expected with `start`.
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
        // Radius and spread with which the current matches were found.
        let mut looked = (radius, WIDEST_SPREAD * radius);
        let mut most = expected(&matches);
        let end = growing + rounds.max(1);
        for round in 0..end {
            if matches.len() < MIN_MATCHES {
                return None;
            }
            let (pointing, lens) = last.as_ref().map_or((start, lens), |fit| (&fit.pointing, fit.lens));
            // The first fit only improves the matching: one step towards it is sufficient.
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

/// Expected number of true matches among pairs.
fn expected(pairs: &[Match]) -> f64 {
    pairs.iter().map(|pair| pair.probability).sum()
}

/// Detections and the catalogue stars near them.
struct Matcher<'a> {
    field: &'a Field,
    /// Indices of all stars, ascending.
    numbers: Vec<u32>,
    /// Pairs of stars and detections near them; all pairs of one star are consecutive.
    pairs: Vec<Match>,
}

impl<'a> Matcher<'a> {
    /// Collects the pairs of `stars` and detections near them. They hold for all pointings and lenses that
    /// move no star by more than a few match radii from its position in `stars`.
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

    /// Pairs every star with its nearest detection within `radius` and computes the probability of each pair,
    /// starting from `sigma`. A detection keeps only its nearest star. The pairs are sorted by detection.
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
