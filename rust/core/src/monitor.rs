//! Progress and cancellation of long work.

use crate::error::{Error, Result};

/// Progress and cancellation of long work; `()` is the monitor that neither shows nor stops anything.
pub trait Monitor: Sync {
    /// Called now and then with the fraction done, 0 to 1, from any thread.
    fn progress(&self, _fraction: f64) {}

    /// Work stops with [`Error::Interrupted`] soon after this turns true.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Monitor for () {}

/// [`Error::Interrupted`] if the monitor wants to stop.
pub(crate) fn checkpoint(monitor: &dyn Monitor) -> Result<()> {
    if monitor.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// For tests: wants to stop after it was asked so many times.
#[cfg(test)]
pub(crate) struct StopAfter(std::sync::atomic::AtomicUsize);

#[cfg(test)]
impl StopAfter {
    pub(crate) fn new(times: usize) -> Self {
        Self(times.into())
    }

    /// How many times more it may be asked.
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
