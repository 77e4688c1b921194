//! Finds the best candidate of a frame that was not solved.

use super::{Acceptance, Outcome, Prepared, Solution, SolveOptions, Status, search_all};
use crate::database::Database;
use crate::error::Result;
use crate::geometry::distortion::Point;
use crate::monitor::Monitor;

/// The most likely of the rejected candidates.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Natural logarithm of its likelihood ratio.
    pub log_ratio: f64,
    /// Upper bound on the probability that chance gives such a match, at most 1.
    pub probability: f64,
    /// The solution that follows from this candidate; `None` when fewer than three stars match.
    pub solution: Option<Solution>,
}

/// Finds the best candidate of a frame that [`super::solve`] did not solve. The search is repeated up to this
/// candidate, so that solving itself need not store it. Returns `None` if there was no candidate or the
/// search takes longer than the options allow.
pub fn best_rejected(
    database: &Database,
    pixels: &[Point],
    options: &SolveOptions,
    outcome: &Outcome,
    monitor: &dyn Monitor,
) -> Result<Option<Rejected>> {
    if outcome.candidates_checked == 0 || outcome.status == Status::TooFew {
        return Ok(None);
    }
    let log_ratio = outcome.best_log_ratio;
    let work = SolveOptions { max_patterns_checked: outcome.patterns_checked, ..options.clone() };
    let prepared = Prepared::new(database, pixels, &work);
    let mut budget = work.budget(Acceptance::LogRatio(log_ratio), monitor);
    let Ok(accepted) = search_all(&prepared, &work, &mut budget)? else {
        return Ok(None);
    };
    let solution = prepared.finish(pixels, &work, &accepted);
    let probability = outcome.best_probability;
    let solution = solution.map(|solution| Solution { probability, ..solution });
    Ok(Some(Rejected { log_ratio, probability, solution }))
}
