//! Plate solving: determines the attitude and focal length of a frame from the positions of its stars alone.
//!
//! Patterns of four detections are looked up by shape in the [`Database`]. Each database pattern found gives
//! a candidate pointing. A likelihood ratio of the other detections decides whether the candidate is
//! accepted. An accepted candidate is refined on all matches. With a [`Hint`], candidates come from triangles
//! of stars near the expected pointing instead.
//!
//! The method belongs to the Tetra family of algorithms: Brown, Stubis & Cahoy 2017, "TETRA: Star
//! Identification with Hash Tables".

mod candidate;
mod field;
mod fit;
mod hint;
mod lens;
mod many;
mod mixture;
mod parts;
mod patches;
mod refine;
mod rejected;
mod search;
mod solution;
mod verify;

use std::time::{Duration, Instant};

use crate::database::Database;
use crate::error::{Error, Result, in_degrees};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Point};
use crate::geometry::projection::Projection;
use crate::monitor::{Monitor, checkpoint};
use field::{Field, Sky};
pub use hint::{Expected, Hint};
use lens::LensFitter;
pub use lens::{FittedLens, LensModel};
pub use many::solve_many;
use refine::Refiner;
pub use rejected::{Rejected, best_rejected};
pub use solution::Solution;
use verify::{Accepted, Verifier};

/// Minimum number of detections for a blind search.
const MIN_DETECTIONS: usize = 4;
/// Minimum number of detections for a search with a hint.
const MIN_DETECTIONS_HINTED: usize = 3;
/// Field-of-view error assumed when none is given, as a fraction of the estimate.
const DEFAULT_FOV_ERROR: f64 = 0.3;
/// Narrowest field of view searched, as a fraction of the estimate, whatever the error of the estimate.
const NARROWEST: f64 = 0.05;
/// Widest field of view searched, degrees: a plane image cannot reach 180.
const WIDEST: f64 = 170.0;
/// Fields of view that differ by less than this count as equal, radians: conversion from degrees rounds them.
const SAME_FOV: f64 = 1e-9;
/// Lower limit of the number of candidates expected by chance, however few patterns were tried, because this
/// number is only an estimate.
const FEWEST_CHANCES: f64 = 1e-3;
/// Number of patterns looked up between two checks of the clock and the monitor.
const CLOCK_INTERVAL: u64 = 16;

/// Largest tolerance that can be requested. With twice this tolerance, a pattern matches most patterns of a
/// database: each look-up takes seconds, and its results take gigabytes.
const LARGEST_MATCH_ERROR: f64 = 0.05;

/// Options of a solve; [`SolveOptions::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct SolveOptions {
    /// The camera as far as it is known: the image size, and the initial distortion and parity.
    pub camera: CameraModel,
    /// Whether the parity of `camera` is correct; if false, both parities are tried.
    pub parity_known: bool,
    /// Estimated horizontal field of view, radians. With `None`, the estimate is the field of view of
    /// `camera` for a fisheye; for other cameras the whole range of the database is searched.
    pub fov_estimate: Option<f64>,
    /// Largest error of `fov_estimate`, radians; `None` means 30 % of the estimate.
    pub fov_max_error: Option<f64>,
    /// Match radius between detections and catalogue stars, as a fraction of the image's width.
    pub match_radius: f64,
    /// Largest accepted probability that the solution is a chance match.
    pub match_threshold: f64,
    /// Largest difference of edge ratios between image and catalogue. The tolerance of the database is used
    /// if it is larger.
    pub match_max_error: Option<f64>,
    /// Number of brightest detections from which patterns are made.
    pub pattern_checking_stars: usize,
    /// Maximum number of rounds of matching and fitting.
    pub refine_iterations: usize,
    /// Maximum number of patterns looked up. This work bound has the same effect on every machine.
    pub max_patterns_checked: u64,
    /// Maximum wall time.
    pub timeout: Option<Duration>,
    /// Displacement of the stars in this frame by aberration and refraction.
    pub place: ApparentPlace,
    /// Expected pointing of the camera.
    pub hint: Option<Hint>,
    /// Lens parameters to fit after the frame is solved.
    pub lens: LensModel,
    /// Julian year of the frame. After the frame is solved, the stars whose motions are known to
    /// [`Database::motions`] are moved to this epoch.
    pub epoch: Option<f64>,
}

impl SolveOptions {
    /// Default options for a camera. The parity of the camera counts as unknown.
    pub fn new(camera: CameraModel) -> Self {
        Self {
            camera,
            parity_known: false,
            fov_estimate: None,
            fov_max_error: None,
            match_radius: 0.01,
            match_threshold: 1e-5,
            match_max_error: None,
            pattern_checking_stars: 24,
            refine_iterations: 10,
            max_patterns_checked: 10_000_000,
            timeout: Some(Duration::from_secs(5)),
            place: ApparentPlace::default(),
            hint: None,
            lens: LensModel::default(),
            epoch: None,
        }
    }

    fn validate(&self) -> Result<()> {
        if let Some(fov) = self.fov_estimate.filter(|&fov| self.focal_length(fov).is_none()) {
            let most = (2.0_f64 * self.camera.projection().max_angle()).to_degrees().round();
            return Err(Error::argument(
                "fov_estimate_deg",
                format!("{} is not a field of view", in_degrees(fov)),
                format!("give the horizontal field of view in degrees, above 0 and below {most}"),
            ));
        }
        let positive = |name, value: f64, repair: &str| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(Error::argument(name, format!("{value} is not positive"), repair))
            }
        };
        if let Some(error) = self.fov_max_error {
            positive(
                "fov_max_error_deg",
                in_degrees(error),
                "give the largest error of the field of view in degrees, or None",
            )?;
        }
        if let Some(error) = self.match_max_error {
            positive("match_max_error", error, "give a tolerance such as 0.002, or None")?;
            if error > LARGEST_MATCH_ERROR {
                let problem = format!("{error} is too large: most patterns would match");
                return Err(Error::argument(
                    "match_max_error",
                    problem,
                    "give a tolerance up to 0.05, or None",
                ));
            }
        }
        positive("match_radius", self.match_radius, "give a fraction of the field of view such as 0.01")?;
        positive("match_threshold", self.match_threshold, "give a false-alarm probability such as 1e-5")?;
        self.place.check("observer_velocity_km_s")?;
        self.lens.check()?;
        if let Some(hint) = &self.hint {
            let limit = std::f64::consts::FRAC_PI_4;
            if !(hint.uncertainty > 0.0 && hint.uncertainty <= limit) {
                return Err(Error::argument(
                    "hint_uncertainty_deg",
                    format!("{} is out of range", in_degrees(hint.uncertainty)),
                    "give degrees above 0 and up to 45",
                ));
            }
        }
        Ok(())
    }

    /// A new budget with the limits of these options and no work done yet.
    fn budget<'m>(&self, acceptance: Acceptance, monitor: &'m dyn Monitor) -> Budget<'m> {
        Budget {
            started: Instant::now(),
            timeout: self.timeout,
            max_patterns: self.max_patterns_checked,
            patterns: 0,
            candidates: 0,
            chances: 0.0,
            best_log_ratio: f64::NEG_INFINITY,
            best_probability: 1.0,
            acceptance,
            monitor,
        }
    }

    /// Whether a coarse lens may be fitted, because the camera has no known distortion or optical centre.
    fn lens_is_free(&self) -> bool {
        self.lens.is_free()
            && self.camera.projection() == Projection::Gnomonic
            && *self.camera.distortion() == Distortion::None
            && self.camera.optical_center() == [0.0; 2]
    }

    /// The parity, 1 or -1; `None` if it is unknown.
    fn parity(&self) -> Option<f64> {
        self.parity_known.then(|| self.camera.parity())
    }

    /// Focal length in px of a horizontal field of view; `None` if the projection has no such field of view.
    fn focal_length(&self, fov: f64) -> Option<f64> {
        // If the image is wider than the full circle of a fisheye, the field of view does not determine the
        // focal length.
        if self.camera.projection() != Projection::Gnomonic && (fov - self.camera.fov()).abs() < SAME_FOV {
            return Some(self.camera.focal_length_px());
        }
        let radius = self.camera.projection().radius(fov / 2.0).filter(|radius| *radius > 0.0)?;
        Some(f64::from(self.camera.image_size()[0]) / 2.0 / radius)
    }

    /// Shortest, expected and longest focal length in px.
    fn focal_range(&self, field: &Field, database: &Database) -> [f64; 3] {
        let focal = |fov: f64| f64::from(field.camera.image_size()[0]) / 2.0 / (fov / 2.0).tan();
        let widest = WIDEST.to_radians();
        let fisheye = self.camera.projection() != Projection::Gnomonic;
        // A fisheye's image is larger than the database's fields, so the database gives no estimate of its
        // field of view.
        if let Some(fov) = self.fov_estimate.or(fisheye.then(|| self.camera.fov())) {
            let error = self.fov_max_error.unwrap_or(DEFAULT_FOV_ERROR * fov);
            if fisheye {
                // The error scales the focal length in proportion, as at the optical centre: the edge may be
                // beyond the projection.
                let expected = self.focal_length(fov).unwrap_or(self.camera.focal_length_px());
                let share = error / fov;
                return [expected / (1.0 + share), expected, expected / (1.0 - share).max(NARROWEST)];
            }
            [focal((fov + error).min(widest)), focal(fov), focal((fov - error).max(fov * NARROWEST))]
        } else {
            let [narrow, wide] = database.fov_range();
            [focal(wide), focal((narrow * wide).sqrt()), focal(narrow)]
        }
    }
}

/// Status of a solve: solved, or the reason why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// A candidate was accepted.
    Solved,
    /// All patterns were looked up without success.
    NoMatch,
    /// There are too few detections for a search.
    TooFew,
    /// The time bound was reached.
    Timeout,
    /// The work bound was reached.
    WorkBound,
}

/// Outcome of solving one frame.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The solution, if there is one.
    pub solution: Option<Solution>,
    /// Whether the frame is solved, or the reason why not.
    pub status: Status,
    /// Number of patterns looked up.
    pub patterns_checked: u64,
    /// Number of candidates verified.
    pub candidates_checked: u64,
    /// Largest natural logarithm of the likelihood ratio among the candidates.
    pub best_log_ratio: f64,
    /// Upper bound on the probability that chance gives a match with this likelihood ratio.
    pub best_probability: f64,
    /// Wall time.
    pub elapsed: Duration,
}

/// Criterion by which candidates are accepted.
#[derive(Debug, Clone, Copy)]
enum Acceptance {
    /// Candidates whose false-alarm probability is at most the threshold are accepted.
    Probability,
    /// The first candidate with at least this logarithm of the likelihood ratio is accepted, whatever its
    /// false-alarm probability.
    LogRatio(f64),
}

/// Work done so far, and the limits at which the search stops.
struct Budget<'m> {
    started: Instant,
    timeout: Option<Duration>,
    max_patterns: u64,
    patterns: u64,
    candidates: u64,
    /// Number of candidates that chance may have given: the number counted or, with a hint, the number
    /// expected.
    chances: f64,
    best_log_ratio: f64,
    best_probability: f64,
    acceptance: Acceptance,
    monitor: &'m dyn Monitor,
}

impl Budget<'_> {
    /// Counts one pattern; returns the reason to stop, if there is one.
    fn spend(&mut self) -> Result<Option<Status>> {
        if self.patterns >= self.max_patterns {
            return Ok(Some(Status::WorkBound));
        }
        self.patterns += 1;
        if self.patterns.is_multiple_of(CLOCK_INTERVAL) { self.check() } else { Ok(None) }
    }

    /// Checks the monitor and the clock; returns the reason to stop, if there is one.
    fn check(&self) -> Result<Option<Status>> {
        checkpoint(self.monitor)?;
        let late = self.timeout.is_some_and(|limit| self.started.elapsed() > limit);
        Ok(late.then_some(Status::Timeout))
    }

    /// Returns the bound on the false-alarm probability of a candidate with this likelihood ratio if the
    /// candidate is accepted, else `None`. `expected` gives the number of candidates expected by chance so
    /// far; it is called only where the number counted would reject the candidate.
    fn accept(&mut self, log_ratio: f64, threshold: f64, expected: impl FnOnce() -> f64) -> Option<f64> {
        let probability = match self.acceptance {
            Acceptance::Probability => self.probability(log_ratio, threshold, expected),
            Acceptance::LogRatio(wanted) if log_ratio >= wanted => 0.0,
            Acceptance::LogRatio(_) => f64::INFINITY,
        };
        if log_ratio > self.best_log_ratio {
            (self.best_log_ratio, self.best_probability) = (log_ratio, probability);
        }
        (probability <= threshold).then_some(probability)
    }

    fn probability(&self, log_ratio: f64, threshold: f64, expected: impl FnOnce() -> f64) -> f64 {
        let by_chance = (-log_ratio).exp();
        let mut chances = self.chances;
        if chances * by_chance > threshold && FEWEST_CHANCES * by_chance <= threshold {
            chances = chances.min(expected().max(FEWEST_CHANCES));
        }
        (chances * by_chance).min(1.0)
    }
}

/// Solves one frame from its centroids in pixels from the image centre, brightest first.
///
/// A frame that cannot be solved gives an [`Outcome`] without a solution. Errors are returned for invalid
/// arguments and when the monitor cancels.
pub fn solve(
    database: &Database,
    pixels: &[Point],
    options: &SolveOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    options.validate()?;
    check_positions(pixels, String::new)?;
    let mut budget = options.budget(Acceptance::Probability, monitor);
    let attempt = attempt(database, pixels, options, &mut budget)?;
    let (solution, status) = match attempt {
        Ok(solution) => (Some(solution), Status::Solved),
        Err(status) => (None, status),
    };
    Ok(Outcome {
        solution,
        status,
        patterns_checked: budget.patterns,
        candidates_checked: budget.candidates,
        best_log_ratio: budget.best_log_ratio,
        best_probability: budget.best_probability,
        elapsed: budget.started.elapsed(),
    })
}

/// Returns an error if a position is not finite. `place` names the frame in the message.
fn check_positions(pixels: &[Point], place: impl Fn() -> String) -> Result<()> {
    match pixels.iter().position(|p| !(p[0].is_finite() && p[1].is_finite())) {
        None => Ok(()),
        Some(row) => Err(Error::argument(
            "centroids",
            format!("{}the position of centroid {row} is not finite", place()),
            "leave such centroids out",
        )),
    }
}

/// Input of a search.
struct Prepared<'a> {
    field: Field,
    sky: Sky<'a>,
    /// Match radius, px.
    radius: f64,
    /// Distance below which detections form a cluster, px.
    separation: f64,
}

impl<'a> Prepared<'a> {
    fn new(database: &'a Database, pixels: &[Point], options: &SolveOptions) -> Self {
        let width = f64::from(options.camera.image_size()[0]);
        let reach = match options.camera.projection() {
            Projection::Gnomonic => width,
            // The image is larger than the fields for which the database's patterns were made.
            _ => width.min(options.camera.focal_length_px() * database.fov_range()[1]),
        };
        let separation = database.parameters().pattern_star_separation(reach);
        Self {
            field: Field::new(options.camera.clone(), pixels, separation),
            sky: Sky { database, place: options.place, epoch: None },
            radius: options.match_radius * width,
            separation,
        }
    }

    /// Refines an accepted candidate to a solution; `None` if too few stars match.
    fn finish(&self, pixels: &[Point], options: &SolveOptions, accepted: &Accepted) -> Option<Solution> {
        let Self { field, sky, radius, separation } = self;
        let moved = Sky { database: sky.database, place: sky.place, epoch: options.epoch };
        let refiner = Refiner {
            field,
            sky: &moved,
            radius: *radius,
            rounds: options.refine_iterations,
            lens_is_free: options.lens_is_free(),
        };
        let refined = refiner.refine(accepted)?;
        let with_lens = match options.lens {
            LensModel::Fitted(..) => {
                LensFitter::new(pixels, &moved, options, *separation).fit(field, &refined)
            }
            LensModel::Coarse | LensModel::Given => None,
        };
        Some(match with_lens {
            Some(found) => Solution::with_lens(&found, &moved, pixels, accepted.probability),
            None => Solution::new(field, &moved, pixels, &refined, accepted.probability),
        })
    }
}

fn attempt(
    database: &Database,
    pixels: &[Point],
    options: &SolveOptions,
    budget: &mut Budget<'_>,
) -> Result<std::result::Result<Solution, Status>> {
    let enough = if options.hint.is_some() { MIN_DETECTIONS_HINTED } else { MIN_DETECTIONS };
    if pixels.len() < enough {
        return Ok(Err(Status::TooFew));
    }
    let prepared = Prepared::new(database, pixels, options);
    if prepared.field.distinct().len() < enough {
        return Ok(Err(Status::TooFew));
    }
    let accepted = search_all(&prepared, options, budget)?;
    Ok(accepted.and_then(|accepted| prepared.finish(pixels, options, &accepted).ok_or(Status::NoMatch)))
}

/// Searches near the hint, if there is one, and then the whole sky unless the hint is strict.
fn search_all(
    prepared: &Prepared<'_>,
    options: &SolveOptions,
    budget: &mut Budget<'_>,
) -> Result<std::result::Result<Accepted, Status>> {
    let Prepared { field, sky, radius, .. } = prepared;
    let mut verifier = Verifier::new(field, sky, *radius);
    let hinted = match &options.hint {
        Some(hint) => hint::search(field, sky, options, hint, &mut verifier, budget)?,
        None => Err(Status::NoMatch),
    };
    let strict = options.hint.is_some_and(|hint| hint.strict);
    match hinted {
        Err(Status::NoMatch) if !strict && field.distinct().len() >= MIN_DETECTIONS => {
            search::search(field, sky, options, &mut verifier, budget)
        }
        other => Ok(other),
    }
}
