//! Solves many frames in parallel.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Outcome, SolveOptions, check_positions, solve};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::monitor::{Monitor, checkpoint};

/// Solves many frames independently on all threads, each with its own options. The outcomes are in the order
/// of the frames.
///
/// Every outcome is that of [`solve`], whatever the number of threads, except for frames that reach their
/// time bound.
pub fn solve_many(
    database: &Database,
    frames: &[&[Point]],
    options: &[SolveOptions],
    monitor: &dyn Monitor,
) -> Result<Vec<Outcome>> {
    if options.len() != frames.len() {
        return Err(Error::argument(
            "options",
            format!("{} sets of options for {} frames", options.len(), frames.len()),
            "give one set of options for each frame",
        ));
    }
    options.iter().try_for_each(SolveOptions::validate)?;
    // All frames are checked before the work, so that the error names the first invalid one.
    for (number, pixels) in frames.iter().enumerate() {
        check_positions(pixels, || format!("in frame {number}, "))?;
    }
    let done = AtomicUsize::new(0);
    frames
        .par_iter()
        .zip(options)
        .map(|(pixels, options)| {
            checkpoint(monitor)?;
            let outcome = solve(database, pixels, options, &Quiet(monitor))?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            monitor.progress(done as f64 / frames.len() as f64);
            Ok(outcome)
        })
        .collect()
}

/// Forwards cancellation, but not the progress of single frames.
struct Quiet<'m>(&'m dyn Monitor);

impl Monitor for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
