//! The final match: detections to catalogue stars one to one, and attitude and focal length fitted to all of them;
//! and the lens, where the residuals ask for it.

use super::field::{Field, Pointing, Sky};
use super::fit::{Fit, Lens, fit, gain};
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
/// Stars farther than so many match radii from every detection are not looked at again: the fit moves none that far.
const KEPT_RADII: f64 = 3.0;
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
    let pinhole = refiner.settle::<4>(&start, Lens::default(), 0)?;
    if !lens_is_free || !refiner.asks_for_more::<5>(&pinhole) {
        return Some(pinhole);
    }
    let radial = refiner
        .settle::<5>(&start, Lens::default(), GROWING_ROUNDS)
        .filter(|radial| radial.matches.len() >= pinhole.matches.len() && radial.fit.lens.k1.abs() < MAX_K1);
    let Some(radial) = radial else { return Some(pinhole) };
    if !refiner.asks_for_more::<7>(&radial) {
        return Some(radial);
    }
    let centered = refiner.settle::<7>(&radial.fit.pointing, radial.fit.lens, 0).filter(|centered| {
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

struct Refiner<'a> {
    field: &'a Field,
    sky: &'a Sky<'a>,
    radius: f64,
    rounds: usize,
}

impl Refiner<'_> {
    /// Whether more parameters, the first `NEXT`, are significant.
    fn asks_for_more<const NEXT: usize>(&self, Refined { fit, matches }: &Refined) -> bool {
        matches.len() >= MIN_LENS_MATCHES && gain::<NEXT>(self.field, matches, fit) > SIGNIFICANT
    }

    /// Matches and fits in turn, at first so many times within the full radius.
    fn settle<const N: usize>(&self, start: &Pointing, lens: Lens, growing: usize) -> Option<Refined> {
        let Self { field, sky, radius, rounds } = *self;
        let near = if growing == 0 { KEPT_RADII * radius } else { f64::INFINITY };
        let mut matcher = Matcher::new(field, sky, start, lens, near);
        let mut matches = matcher.matches(start, &lens, radius);
        let mut last: Option<Fit> = None;
        for round in 0..growing + rounds.max(1) {
            if matches.len() < MIN_MATCHES {
                return None;
            }
            let (pointing, lens) = last.as_ref().map_or((start, lens), |fit| (&fit.pointing, fit.lens));
            let fit = fit::<N>(field, &matches, pointing, lens)?;
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
    /// Brightest first.
    stars: Vec<Candidate>,
    targets: Targets,
}

/// A catalogue star that may be that of a detection.
struct Candidate {
    /// How many stars in view are brighter.
    rank: usize,
    star: u32,
    direction: Direction,
}

/// The brightest so many detections, seen through a lens.
struct Targets {
    lens: Lens,
    detections: Vec<usize>,
    grid: PointGrid,
}

impl Targets {
    fn new(field: &Field, lens: Lens, count: usize, radius: f64) -> Self {
        let detections: Vec<usize> = (0..field.ideal.len()).filter(|&i| field.order[i] < count).collect();
        let points: Vec<Point> =
            detections.iter().map(|&i| lens.ideal(field.ideal[i], field.half_width())).collect();
        Self { lens, grid: PointGrid::new(&points, radius), detections }
    }
}

impl<'a> Matcher<'a> {
    /// For pointings so close to `start` that no star moves by more than about `near` px; if that is infinite, also for
    /// lenses that bring stars just outside the image into it.
    fn new(field: &'a Field, sky: &Sky<'_>, start: &Pointing, lens: Lens, near: f64) -> Self {
        let limit = (STARS_PER_DETECTION * field.ideal.len()).max(MIN_STARS);
        let anywhere = near.is_infinite();
        let reach = if anywhere { 1.0 - LENS_MARGIN } else { 1.0 };
        let mut in_view = Vec::new();
        let start = Pointing { focal_length: start.focal_length * reach, ..*start };
        sky.in_view(field, &start, limit, &mut in_view);
        in_view.sort_unstable_by_key(|(star, _)| *star);
        let targets = Targets::new(field, lens, field.ideal.len(), if anywhere { 0.0 } else { near });
        let stars = in_view
            .iter()
            .enumerate()
            .filter(|(_, (_, at))| anywhere || targets.grid.nearest(*at, near).is_some())
            .filter_map(|(rank, &(star, _))| Some(Candidate { rank, star, direction: sky.direction(star)? }))
            .collect();
        Self { field, stars, targets }
    }

    /// Every star with its nearest detection within `radius`; a detection keeps its nearest star. By detection.
    fn matches(&mut self, pointing: &Pointing, lens: &Lens, radius: f64) -> Vec<Match> {
        let crowd = CROWDING_LIMIT * self.field.area() / (std::f64::consts::PI * radius * radius);
        let count = (crowd as usize).max(MIN_DETECTIONS).min(self.field.ideal.len());
        if self.targets.lens != *lens || self.targets.detections.len() != count {
            self.targets = Targets::new(self.field, *lens, count, radius);
        }
        let Targets { detections, grid, .. } = &self.targets;
        let mut best: Vec<Option<(f64, Match)>> = vec![None; count];
        let brightest = (STARS_PER_DETECTION * count).max(MIN_STARS);
        for &Candidate { star, direction, .. } in self.stars.iter().take_while(|star| star.rank < brightest) {
            if let Some(at) = pointing.project(&direction)
                && let Some((point, d2)) = grid.nearest(at, radius)
                && best[point].is_none_or(|(nearest, _)| d2 < nearest)
            {
                best[point] = Some((d2, Match { detection: detections[point], star, direction }));
            }
        }
        best.into_iter().flatten().map(|(_, found)| found).collect()
    }
}
