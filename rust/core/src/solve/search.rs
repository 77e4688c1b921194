//! Blind ("lost in space") search: looks up patterns of bright detections in the database, brightest first.

use std::ops::{Range, RangeInclusive};

use super::candidate::ImagePattern;
use super::field::{Field, Sky, direction_of};
use super::parts::{self, parts};
use super::patches::{EDGE_ERROR_PX, Plan};
use super::verify::{Accepted, Verifier};
use super::{Budget, SolveOptions, Status};
use crate::database::{Database, Lookups};
use crate::error::Result;
use crate::geometry::projection::Projection;
use crate::geometry::sphere::Direction;
use crate::pattern::{Pattern, PatternShape, pattern_shape};

/// One round of the search: its tolerance and the number of its stars.
struct Widening {
    /// Factor on the database's tolerance.
    factor: f64,
    /// Tolerance added for distortion, as a factor of the square of the field's half-diagonal angle in
    /// radians: the distortion of lenses of one kind grows with this square.
    distortion: f64,
    /// Share of the pattern-checking stars that are used.
    stars: f64,
    /// Number of rejected candidates after which the round ends.
    candidates: u64,
}

/// Rounds of the search, with growing tolerances. Wide lenses without a camera model are solved in the later
/// rounds. The later rounds use fewer patterns, because each pattern finds more chance candidates.
const ROUNDS: [Widening; 3] = [
    Widening { factor: 1.0, distortion: 0.0, stars: 1.0, candidates: u64::MAX },
    Widening { factor: 2.0, distortion: 0.04, stars: 0.8, candidates: MAX_CANDIDATES },
    Widening { factor: 3.0, distortion: 0.12, stars: 0.5, candidates: MAX_CANDIDATES },
];
/// Number of detections of the whole field that are tried before its parts; the other detections follow after
/// the parts. With more, foreground would take too much time. This number is sufficient for nearly all fields
/// in which half of the detections are false.
const BEFORE_PARTS: usize = 18;
/// All ranks.
const ALL: Range<usize> = 0..usize::MAX;
/// Maximum number of candidates of a later round. In databases of many patterns, every pattern of the image
/// finds several chance candidates at such tolerances, so more candidates hardly help to find the right one.
const MAX_CANDIDATES: u64 = 200;
/// Largest tolerance of the later rounds. Beyond it, every pattern finds dozens of chance candidates.
const MAX_TOLERANCE: f64 = 0.02;
/// Patterns whose longest edge is shorter than this fraction of the image's reach carry little information
/// and are skipped.
const MIN_EDGE_FRACTION: f64 = 0.1;
/// Largest ratio of the focal lengths that one hypothesis covers, whatever the field.
const MAX_HYPOTHESIS_RATIO: f64 = 2.0;
/// Largest difference between the longest edges of catalogue and image, in units of the tolerance.
const LENGTH_SLACK: f64 = 2.0;

/// Factor by which the tolerance is widened to count the neighbours of a pattern: wide enough to find some,
/// narrow enough that their density is the same.
const DENSITY_WIDENING: f64 = 4.0;

/// Maximum number of patterns looked up together: enough to keep the memory busy, few enough to stay in the
/// cache.
const MAX_BATCH: usize = 64;

/// A batch that finds more patterns than this is followed by a small one, because the clock is not checked
/// during a look-up.
const MANY_FOUND: usize = 50_000;
/// Number of candidates verified between two checks of the clock; each takes some microseconds.
const LOOK_INTERVAL: usize = 64;

/// A range of focal lengths that is narrow enough to use one set of directions for all of them.
pub(super) struct Hypothesis {
    pub(super) focal_length: f64,
    /// Range of the ratio of catalogue chord to image chord that the focal lengths allow.
    pub(super) length_ratio: RangeInclusive<f64>,
    /// Camera directions of the detections in the plan's groups; `None` outside the projection's image.
    pub(super) directions: Vec<Option<Direction>>,
}

/// Splits the range of focal lengths so that within each part the shapes of patterns change by less than `tolerance`.
///
/// The angle θ between a point and the axis changes with f as θ (1 - θ²·2/3 · df/f), so the relative width of
/// a part may be 3 tolerance/θ². (With an equidistant fisheye, the lengths along and across the radius differ
/// by θ²/3 · df/f, which has a similar effect.) The part nearest to `estimate` comes first.
pub(super) fn hypotheses(
    field: &Field,
    plan: &Plan,
    range: [f64; 2],
    estimate: f64,
    tolerance: f64,
) -> Vec<Hypothesis> {
    let (projection, stars) = (field.camera.projection(), plan.end());
    let mut edges = vec![range[0]];
    while let Some(&low) = edges.last()
        && low < range[1]
    {
        let theta = field.angle(low).min(plan.max_angle);
        let width = 3.0 * (tolerance + plan.edge_error) / (theta * theta);
        let ratio = (1.0 + width).min(MAX_HYPOTHESIS_RATIO);
        edges.push(low * ratio);
    }
    // Stretch the parts evenly over the range, so that none extends beyond its end.
    let parts = edges.len() - 1;
    let step = (range[1] / range[0]).powf(1.0 / parts.max(1) as f64);
    let mut all: Vec<Hypothesis> = (0..parts.max(1))
        .map(|i| {
            let (low, high) = (range[0] * step.powi(i as i32), range[0] * step.powi(i as i32 + 1));
            let focal_length = (low * high).sqrt();
            let slack = 1.0 + LENGTH_SLACK * tolerance;
            Hypothesis {
                focal_length,
                length_ratio: focal_length / high / slack..=focal_length / low * slack,
                directions: field.ideal[..stars]
                    .iter()
                    .map(|&point| direction_of(projection, point, focal_length, 1.0))
                    .collect(),
            }
        })
        .collect();
    all.sort_by(|a, b| {
        let distance = |h: &Hypothesis| (h.focal_length / estimate).ln().abs();
        distance(a).total_cmp(&distance(b))
    });
    all
}

/// Result of a search.
type End<T> = std::result::Result<T, Status>;

/// Searches until a candidate is accepted or the budget is spent.
pub(super) fn search(
    field: &Field,
    sky: &Sky<'_>,
    options: &SolveOptions,
    verifier: &mut Verifier<'_>,
    budget: &mut Budget<'_>,
) -> Result<End<Accepted>> {
    let first =
        options.match_max_error.unwrap_or(0.0).max(sky.database.parameters().pattern_max_error.into());
    let range = options.focal_range(field, sky.database);
    let begun = (budget.patterns, budget.chances);
    let theta = field.angle(range[1]);
    let mut tried = f64::NEG_INFINITY;
    for (number, round) in ROUNDS.iter().enumerate() {
        let wider = first * round.factor + round.distortion * theta * theta;
        let tolerance = wider.min(MAX_TOLERANCE.max(first));
        if tolerance <= tried {
            break;
        }
        tried = tolerance;
        let stars = ((options.pattern_checking_stars as f64 * round.stars).ceil() as usize).max(4);
        let plan = Plan::new(field, sky.database.fov_range(), range[1], stars);
        let mut search = Search { sky, options, range, tolerance, most: round.candidates, begun, budget };
        // Only the first round searches parts: the database's own tolerance is the most likely one to
        // succeed.
        let in_parts = number == 0 && field.camera.projection() == Projection::Gnomonic;
        let ended = if in_parts {
            search.run_with_parts(field, &plan, verifier)?
        } else {
            search.run(field, &plan, ALL, verifier)?
        };
        match ended {
            Err(Status::NoMatch) => {}
            other => return Ok(other),
        }
    }
    Ok(Err(Status::NoMatch))
}

/// One round of a search.
struct Search<'s, 'b> {
    sky: &'s Sky<'s>,
    options: &'s SolveOptions,
    /// Shortest, expected and longest focal length, px.
    range: [f64; 3],
    tolerance: f64,
    /// Maximum number of candidates verified.
    most: u64,
    /// Number of patterns looked up, and of chance candidates expected, before the search began.
    begun: (u64, f64),
    budget: &'s mut Budget<'b>,
}

impl Search<'_, '_> {
    /// Tries the patterns of a plan whose faintest star has one of these ranks.
    fn run(
        &mut self,
        field: &Field,
        plan: &Plan,
        ranks: Range<usize>,
        verifier: &mut Verifier<'_>,
    ) -> Result<End<Accepted>> {
        let [shortest, expected, longest] = self.range;
        let hypotheses = hypotheses(field, plan, [shortest, longest], expected, self.tolerance);
        let min_edge = MIN_EDGE_FRACTION * plan.reach;
        let enough = self.budget.candidates.saturating_add(self.most);
        let mut round = Round { field, search: self, min_edge, enough, verifier };
        round.run(&plan.groups, ranks, &hypotheses)
    }

    /// Tries the patterns of the brightest detections, then those of each part of the field separately, then
    /// the remaining patterns.
    fn run_with_parts(
        &mut self,
        field: &Field,
        plan: &Plan,
        verifier: &mut Verifier<'_>,
    ) -> Result<End<Accepted>> {
        let first = self.run(field, plan, 0..BEFORE_PARTS, verifier)?;
        if !matches!(first, Err(Status::NoMatch)) {
            return Ok(first);
        }
        for part in parts(field, plan.end()) {
            let plan = Plan::brightest(&part, parts::STARS);
            let ended = self.run(&part, &plan, ALL, &mut verifier.of_part(&part))?;
            if !matches!(ended, Err(Status::NoMatch)) {
                return Ok(ended);
            }
        }
        self.run(field, plan, BEFORE_PARTS..ALL.end, verifier)
    }
}

/// One pattern of the image under one hypothesis.
struct Tried<'h> {
    used: [usize; 4],
    hypothesis: &'h Hypothesis,
    shape: PatternShape,
    /// Tolerance of the edge ratios.
    tolerance: f64,
    /// Allowed range of the longest edge, as a chord.
    lengths: RangeInclusive<f32>,
}

impl Tried<'_> {
    /// Number of database patterns expected by chance within the tolerance, from the density of patterns
    /// around it.
    fn expected(&self, database: &Database) -> f64 {
        let mut around = 0_u32;
        let tolerance = (DENSITY_WIDENING * self.tolerance) as f32;
        database.patterns_near(&self.shape, tolerance, self.lengths.clone(), |_| around += 1);
        f64::from(around) / DENSITY_WIDENING.powi(5)
    }
}

/// Patterns that are looked up together.
struct Batch<'h> {
    size: usize,
    lookups: Lookups,
    tried: Vec<Tried<'h>>,
    found: Vec<(usize, Pattern)>,
}

impl Batch<'_> {
    fn new() -> Self {
        Self { size: 1, lookups: Lookups::default(), tried: Vec::new(), found: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.tried.len() >= self.size
    }

    /// Empties the batch and doubles its size: most frames are solved by their first patterns, the others
    /// have thousands.
    fn restart(&mut self) {
        self.size = if self.found.len() > MANY_FOUND { 1 } else { (2 * self.size).min(MAX_BATCH) };
        self.lookups.clear();
        self.tried.clear();
    }
}

struct Round<'r, 's, 'a, 'b> {
    field: &'r Field,
    search: &'r mut Search<'s, 'b>,
    /// Patterns whose longest edge is shorter than this are not looked up, px.
    min_edge: f64,
    /// Total number of candidates at which the round ends.
    enough: u64,
    verifier: &'r mut Verifier<'a>,
}

impl Round<'_, '_, '_, '_> {
    /// Tries all patterns of each group whose faintest detection has one of these ranks, patterns of bright
    /// stars first.
    fn run(
        &mut self,
        groups: &[Vec<usize>],
        ranks: Range<usize>,
        hypotheses: &[Hypothesis],
    ) -> Result<End<Accepted>> {
        let mut batch = Batch::new();
        let most = groups.iter().map(Vec::len).max().unwrap_or(0);
        for d in ranks.start.max(3)..most.min(ranks.end) {
            for group in groups.iter().filter(|group| group.len() > d) {
                if let Some(end) = self.run_last(group, d, hypotheses, &mut batch)? {
                    return Ok(end);
                }
            }
        }
        Ok(self.try_all(&mut batch)?.unwrap_or(Err(Status::NoMatch)))
    }

    /// Tries the patterns of a group whose faintest star is number `d`; the last of them may remain in the
    /// batch.
    fn run_last<'h>(
        &mut self,
        group: &[usize],
        d: usize,
        hypotheses: &'h [Hypothesis],
        batch: &mut Batch<'h>,
    ) -> Result<Option<End<Accepted>>> {
        for c in 2..d {
            for b in 1..c {
                for a in 0..b {
                    let used = [a, b, c, d].map(|i| group[i]);
                    for hypothesis in hypotheses {
                        let stopped = self.search.budget.spend()?;
                        if stopped.is_none() {
                            self.add(used, hypothesis, batch);
                        }
                        if (stopped.is_some() || batch.is_full())
                            && let Some(end) = self.try_all(batch)?
                        {
                            return Ok(Some(end));
                        }
                        if let Some(status) = stopped {
                            return Ok(Some(Err(status)));
                        }
                        if self.search.budget.candidates >= self.enough {
                            return Ok(Some(Err(Status::NoMatch)));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Adds a pattern to the next batch, unless it carries too little information.
    fn add<'h>(&self, used: [usize; 4], hypothesis: &'h Hypothesis, batch: &mut Batch<'h>) {
        let [Some(a), Some(b), Some(c), Some(d)] = used.map(|i| hypothesis.directions[i].as_ref()) else {
            return;
        };
        let shape = pattern_shape([a, b, c, d]);
        let longest = f64::from(shape.longest);
        let longest_px = longest * hypothesis.focal_length;
        if longest_px < self.min_edge {
            return;
        }
        let tolerance = self.search.tolerance + EDGE_ERROR_PX / longest_px;
        let lengths = (longest * hypothesis.length_ratio.start()) as f32
            ..=(longest * hypothesis.length_ratio.end()) as f32;
        batch.lookups.push(&shape, tolerance as f32, lengths.clone());
        batch.tried.push(Tried { used, hypothesis, shape, tolerance, lengths });
    }

    /// Looks up the batch and verifies the patterns found, until a candidate is accepted or the time is up.
    /// The batch is empty afterwards.
    fn try_all(&mut self, batch: &mut Batch<'_>) -> Result<Option<End<Accepted>>> {
        self.search.sky.database.look_up(&mut batch.lookups, &mut batch.found);
        let mut end = None;
        for (place, (number, pattern)) in batch.found.iter().enumerate() {
            end = self.try_one(&batch.tried[*number], pattern).map(Ok);
            // With wide tolerances, one pattern finds tens of thousands of database patterns.
            if end.is_none() && place % LOOK_INTERVAL == LOOK_INTERVAL - 1 {
                end = self.search.budget.check()?.map(Err);
            }
            if end.is_some() {
                break;
            }
        }
        batch.restart();
        Ok(end)
    }

    fn try_one(&mut self, tried: &Tried<'_>, pattern: &Pattern) -> Option<Accepted> {
        let Tried { used, hypothesis, tolerance, .. } = tried;
        let [Some(a), Some(b), Some(c), Some(d)] = pattern.stars.map(|s| self.search.sky.direction(s)) else {
            return None;
        };
        let image = ImagePattern {
            ideal: used.map(|i| self.field.ideal[i]),
            focal_length: hypothesis.focal_length,
            projection: self.field.camera.projection(),
        };
        let pointing = image.point_at(&[a, b, c, d], self.search.options.parity(), 2.0 * tolerance)?;
        let slack = 1.0 + LENGTH_SLACK * tolerance;
        if pointing.focal_length < self.search.range[0] / slack
            || pointing.focal_length > self.search.range[2] * slack
        {
            return None;
        }
        self.search.budget.candidates += 1;
        self.search.budget.chances += 1.0;
        let log_ratio = self.verifier.log_ratio(&pointing, used, &pattern.stars);
        // All patterns tried share the allowed false alarms equally, so the number expected for this one is
        // used for all.
        let (patterns, chances) = self.search.begun;
        let patterns = (self.search.budget.patterns - patterns) as f64;
        let expected = || chances + patterns * tried.expected(self.search.sky.database);
        let probability =
            self.search.budget.accept(log_ratio, self.search.options.match_threshold, expected)?;
        Some(self.verifier.accepted(pointing, probability))
    }
}
