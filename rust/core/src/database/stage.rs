//! Reports the progress of one part of the generation of a database.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;
use crate::monitor::{Monitor, checkpoint};

/// A part of the work, done in steps by many threads.
pub(super) struct Stage<'a> {
    monitor: &'a dyn Monitor,
    from: f64,
    to: f64,
    steps: usize,
    done: AtomicUsize,
}

impl<'a> Stage<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor, from: f64, to: f64, steps: usize) -> Self {
        Self { monitor, from, to, steps, done: AtomicUsize::new(0) }
    }

    /// Reports that a step is done; returns an error if the work is to stop.
    pub(super) fn step(&self) -> Result<()> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.monitor.progress(self.from + (self.to - self.from) * done as f64 / self.steps as f64);
        checkpoint(self.monitor)
    }
}
