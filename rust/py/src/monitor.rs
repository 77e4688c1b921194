//! Runs long work without the GIL, reports its progress and stops it on Ctrl-C.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use boresight::{Error, Monitor, Result};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::errors::{TimeLimitError, to_python};
use crate::parallel;

/// Interval between checks for signals, and between progress reports while work runs on another thread.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Stops the work of threads that do not receive Ctrl-C, because only a program's first thread receives it.
#[pyclass(module = "boresight._core", frozen)]
pub(crate) struct Stop {
    flag: Arc<AtomicBool>,
}

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self { flag: Arc::default() }
    }

    /// Makes the later work of the calling thread end with `KeyboardInterrupt` when `set` is called.
    fn attach(&self) {
        STOP_FLAG.set(Some(self.flag.clone()));
    }

    /// Stops the work of all threads that called `attach`.
    fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    static STOP_FLAG: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// The flag that stops the work of the calling thread, if there is one.
struct StopFlag(Option<Arc<AtomicBool>>);

impl StopFlag {
    fn of_this_thread() -> Self {
        Self(STOP_FLAG.with_borrow(Clone::clone))
    }

    fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn check(&self) -> PyResult<()> {
        if self.is_set() { Err(PyKeyboardInterrupt::new_err(())) } else { Ok(()) }
    }
}

/// Maximum time that work may take.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    ms: u64,
    started: Instant,
}

impl Limit {
    /// A limit of `ms` milliseconds from now on.
    pub(crate) fn new(ms: u64) -> Self {
        Self { ms, started: Instant::now() }
    }

    fn left(self) -> Duration {
        Duration::from_millis(self.ms).saturating_sub(self.started.elapsed())
    }

    fn until_next_check(self) -> Duration {
        POLL_INTERVAL.min(self.left())
    }

    fn check(self) -> PyResult<()> {
        if !self.left().is_zero() {
            return Ok(());
        }
        let message = format!("timeout_ms: the work did not end within {} ms; give more time", self.ms);
        Err(TimeLimitError::new_err(message))
    }
}

/// Checks for signals in the calling thread itself, for work of a single thread that takes less time than
/// waking another thread.
pub(crate) struct SignalMonitor {
    started: Instant,
    next_ms: AtomicU64,
    stop: StopFlag,
}

impl SignalMonitor {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            next_ms: AtomicU64::new(POLL_INTERVAL.as_millis() as u64),
            stop: StopFlag::of_this_thread(),
        }
    }
}

impl Monitor for SignalMonitor {
    fn cancelled(&self) -> bool {
        if self.stop.is_set() {
            return true;
        }
        let now = self.started.elapsed().as_millis() as u64;
        if now < self.next_ms.load(Ordering::Relaxed) {
            return false;
        }
        self.next_ms.store(now + POLL_INTERVAL.as_millis() as u64, Ordering::Relaxed);
        Python::attach(|py| py.check_signals().is_err())
    }
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    fraction: AtomicU64,
}

impl Monitor for Shared {
    fn progress(&self, fraction: f64) {
        self.fraction.store(fraction.to_bits(), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Runs `work` without the GIL and without a time limit, as [`watch`] does.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&dyn Monitor) -> Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| watch(None, progress.as_ref(), work))
}

/// Runs `work` on the threads of the pool. Meanwhile this thread, which does not hold the GIL, calls
/// `progress(fraction)`. A pending signal (Ctrl-C), the end of the allowed time or an exception of `progress`
/// stops the work and is raised.
pub(crate) fn watch<T: Send>(
    limit: Option<Limit>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&dyn Monitor) -> Result<T> + Send,
) -> PyResult<T> {
    let shared = Shared::default();
    let mut raised = None;
    let stop = StopFlag::of_this_thread();
    let check = || limit.map_or(Ok(()), Limit::check).and_then(|()| stop.check());
    check()?;
    let outcome = parallel::pool().in_place_scope(|scope| {
        let (done, finished) = channel();
        let shared = &shared;
        scope.spawn(move |_| drop(done.send(work(shared))));
        loop {
            // After a stop was requested, only the end of the work is awaited.
            let wait = limit.filter(|_| raised.is_none()).map_or(POLL_INTERVAL, Limit::until_next_check);
            match finished.recv_timeout(wait) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Interrupted),
                Err(RecvTimeoutError::Timeout) if raised.is_none() => {
                    if let Err(error) = check().and_then(|()| poll(shared, progress)) {
                        raised = Some(error);
                        shared.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    });
    match raised {
        Some(error) => Err(error),
        None => outcome.map_err(to_python),
    }
}

fn poll(shared: &Shared, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        if let Some(callback) = progress {
            callback.call1(py, (f64::from_bits(shared.fraction.load(Ordering::Relaxed)),))?;
        }
        Ok(())
    })
}
