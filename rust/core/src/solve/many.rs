//! Many frames at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Outcome, SolveOptions, check_positions, solve};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::monitor::{Monitor, checkpoint};

/// Solves many frames, each on its own and with its own options, on all threads; the outcomes are in the order of the
/// frames.
///
/// Every outcome is that of [`solve`], whatever the number of threads, but for frames that run into their time bound.
pub fn solve_many(
    database: &Database,
    frames: &[&[Point]],
    options: &[SolveOptions],
    monitor: &dyn Monitor,
) -> Result<Vec<Outcome>> {
    if options.len() != frames.len() {
        return Err(Error::argument(
            "options",
            format!("{} of them for {} frames", options.len(), frames.len()),
            "give those of each frame",
        ));
    }
    options.iter().try_for_each(SolveOptions::validate)?;
    // Before the work, so that of several bad frames the first is named.
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

/// Passes on when to stop; the progress of one frame is none of many.
struct Quiet<'m>(&'m dyn Monitor);

impl Monitor for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
