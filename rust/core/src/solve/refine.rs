//! The final match: detections to catalogue stars one to one, and attitude and focal length fitted to all of them;
//! and the lens, where the residuals ask for it.

use super::field::{Field, Pointing, ProjectedStar, Sky};
use super::fit::{Fit, Lens, fit};
use crate::distortion::Point;
use crate::grid::PointGrid;
use crate::sphere::Direction;

/// Matches farther out than this many standard deviations of the fit are dropped.
const CLIP_SIGMA: f64 = 5.0;
/// No match closer than this is dropped, px: catalogue errors and blends are of that size.
const MIN_CLIP_PX: f64 = 0.3;
/// Expected number of stray detections within the match radius of a star: only so many of the brightest detections
/// are matched that it is not exceeded, so a wide radius takes bright stars and a narrow one takes all.
const CROWDING_LIMIT: f64 = 0.3;
/// Detections that are matched whatever the radius.
const MIN_DETECTIONS: usize = 30;
/// Catalogue stars tried per detection.
const STARS_PER_DETECTION: usize = 3;
/// Catalogue stars tried where there are few detections.
const MIN_STARS: usize = 100;
/// Fewest matches that determine attitude and focal length with something to spare.
const MIN_MATCHES: usize = 3;
/// Fewest matches to which a lens is fitted.
const MIN_LENS_MATCHES: usize = 12;
/// Parameters of the lens are fitted when they lower the sum of squares by so many variances: chance does it once in
/// 10⁶ frames.
const SIGNIFICANT: f64 = 25.0;
/// Share of the matches that a lens has to keep.
const MIN_KEPT_MATCHES: f64 = 0.8;
/// Rounds in which a lens is fitted to matches within the full radius: each takes in stars farther out.
const GROWING_ROUNDS: usize = 4;
/// Largest radial coefficient and optical centre (half image widths) believed: more is a wrong match at the edges.
const MAX_K1: f64 = 0.15;
/// See [`MAX_K1`].
const MAX_CENTER: f64 = 0.25;

/// By how much more than the image's reach stars are looked for when a lens is fitted.
const LENS_MARGIN: f64 = 0.1;

/// A detection and its catalogue star.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub(super) detection: usize,
    pub(super) star: u32,
    /// Apparent direction of the star.
    pub(super) direction: Direction,
}

/// Outcome of [`refine`].
pub(super) struct Refined {
    pub(super) fit: Fit,
    pub(super) matches: Vec<Match>,
}

/// Matches and fits in turn until the matches stay the same, at most `rounds` times.
///
/// `radius` is the match radius in px; it shrinks with the residuals. With `lens_is_free` radial distortion and optical
/// centre are fitted too if they are significant. `None` if too few stars match.
pub(super) fn refine(
    field: &Field,
    sky: &Sky<'_>,
    start: Pointing,
    radius: f64,
    rounds: usize,
    lens_is_free: bool,
) -> Option<Refined> {
    let refiner = Refiner { field, sky, radius, rounds };
    let pinhole = refiner.settle::<4, 5>(&start, Lens::default(), 0)?;
    if !lens_is_free || !asks_for_more(&pinhole) {
        return Some(pinhole);
    }
    let radial = refiner
        .settle::<5, 7>(&start, Lens::default(), GROWING_ROUNDS)
        .filter(|radial| radial.matches.len() >= pinhole.matches.len() && radial.fit.lens.k1.abs() < MAX_K1);
    let Some(radial) = radial else { return Some(pinhole) };
    if !asks_for_more(&radial) {
        return Some(radial);
    }
    let centered = refiner.settle::<7, 7>(&radial.fit.pointing, radial.fit.lens, 0).filter(|centered| {
        let Lens { k1, center } = centered.fit.lens;
        improves(centered, &radial) && k1.abs() < MAX_K1 && center[0].hypot(center[1]) < MAX_CENTER
    });
    Some(centered.unwrap_or(radial))
}

/// Whether a lens fits more closely, and loses no matches but chance ones that wider residuals let in.
fn improves(with: &Refined, without: &Refined) -> bool {
    with.fit.sigma < without.fit.sigma
        && with.matches.len() as f64 >= MIN_KEPT_MATCHES * without.matches.len() as f64
}

/// Whether the next parameters are significant.
fn asks_for_more(refined: &Refined) -> bool {
    refined.matches.len() >= MIN_LENS_MATCHES && refined.fit.gain > SIGNIFICANT
}

struct Refiner<'a> {
    field: &'a Field,
    sky: &'a Sky<'a>,
    radius: f64,
    rounds: usize,
}

impl Refiner<'_> {
    /// Matches and fits in turn, at first so many times within the full radius.
    fn settle<const N: usize, const NEXT: usize>(
        &self,
        start: &Pointing,
        lens: Lens,
        growing: usize,
    ) -> Option<Refined> {
        let Self { field, sky, radius, rounds } = *self;
        let matcher = Matcher::new(field, sky, start, N > 4);
        let mut matches = matcher.matches(start, &lens, radius);
        let mut last: Option<Fit> = None;
        for round in 0..growing + rounds.max(1) {
            if matches.len() < MIN_MATCHES {
                return None;
            }
            let (pointing, lens) = last.as_ref().map_or((start, lens), |fit| (&fit.pointing, fit.lens));
            let fit = fit::<N, NEXT>(field, &matches, pointing, lens)?;
            let clip = (CLIP_SIGMA * fit.sigma).clamp(MIN_CLIP_PX.min(radius), radius);
            let next = matcher.matches(&fit.pointing, &fit.lens, if round < growing { radius } else { clip });
            let settled = next.len() == matches.len()
                && next.iter().zip(&matches).all(|(a, b)| a.detection == b.detection && a.star == b.star);
            matches = next;
            last = Some(fit);
            if settled && round >= growing {
                break;
            }
        }
        (matches.len() >= MIN_MATCHES).then_some(Refined { fit: last?, matches })
    }
}

/// Detections and the catalogue stars that may be theirs.
struct Matcher<'a> {
    field: &'a Field,
    sky: &'a Sky<'a>,
    stars: Vec<ProjectedStar>,
}

impl<'a> Matcher<'a> {
    /// `beyond`: also stars just outside the image, which a lens may bring in.
    fn new(field: &'a Field, sky: &'a Sky<'a>, start: &Pointing, beyond: bool) -> Self {
        let limit = (STARS_PER_DETECTION * field.ideal.len()).max(MIN_STARS);
        let (mut scratch, mut stars) = (Vec::new(), Vec::new());
        let nearer = if beyond { 1.0 - LENS_MARGIN } else { 1.0 };
        let start = Pointing { focal_length: start.focal_length * nearer, ..*start };
        sky.in_view(field, &start, limit, &mut scratch, &mut stars);
        Self { field, sky, stars }
    }

    /// Every star with its nearest detection within `radius`; a detection keeps its nearest star. By detection.
    fn matches(&self, pointing: &Pointing, lens: &Lens, radius: f64) -> Vec<Match> {
        let crowd = CROWDING_LIMIT * self.field.area() / (std::f64::consts::PI * radius * radius);
        let faintest = (crowd as usize).max(MIN_DETECTIONS);
        let eligible: Vec<usize> =
            (0..self.field.ideal.len()).filter(|&i| self.field.order[i] < faintest).collect();
        let half_width = self.field.half_width();
        let points: Vec<Point> =
            eligible.iter().map(|&i| lens.ideal(self.field.ideal[i], half_width)).collect();
        let grid = PointGrid::new(&points, radius);
        let mut best: Vec<Option<(f64, Match)>> = vec![None; points.len()];
        for star in self.stars.iter().take((STARS_PER_DETECTION * points.len()).max(MIN_STARS)) {
            let Some(direction) = self.sky.direction(star.star) else { continue };
            let Some(at) = pointing.project(&direction) else { continue };
            if let Some((point, d2)) = grid.nearest(at, radius)
                && best[point].is_none_or(|(nearest, _)| d2 < nearest)
            {
                best[point] = Some((d2, Match { detection: eligible[point], star: star.star, direction }));
            }
        }
        best.into_iter().flatten().map(|(_, found)| found).collect()
    }
}
