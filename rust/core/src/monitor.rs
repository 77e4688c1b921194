//! Progress and cancellation of long work.

use crate::error::{Error, Result};

/// Receives the progress of long work and can stop it; `()` is the monitor that does neither.
pub trait Monitor: Sync {
    /// Called repeatedly with the fraction of the work that is done, 0 to 1, from any thread.
    fn progress(&self, _fraction: f64) {}

    /// Whether to stop. The work stops with [`Error::Interrupted`] soon after this returns true.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Monitor for () {}

/// Returns [`Error::Interrupted`] if the monitor requests a stop.
pub(crate) fn checkpoint(monitor: &dyn Monitor) -> Result<()> {
    if monitor.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// A monitor for tests, which requests a stop after this number of calls of `cancelled`.
#[cfg(test)]
pub(crate) struct StopAfter(std::sync::atomic::AtomicUsize);

#[cfg(test)]
impl StopAfter {
    pub(crate) fn new(times: usize) -> Self {
        Self(times.into())
    }

    /// Number of further calls of `cancelled` before the stop.
    pub(crate) fn left(self) -> usize {
        self.0.into_inner()
    }
}

#[cfg(test)]
impl Monitor for StopAfter {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 0
    }
}
