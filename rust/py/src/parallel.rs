//! The threads for parallel work: a separate pool in every process.
//!
//! A forked process has none of the threads of the pool that it inherited, and would wait for them for ever.
//! The pool is therefore made at its first use, and again in each process forked after that. A thread that
//! requests a number of threads uses a pool of that size, shared with all threads that request the same
//! number.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Environment variables that limit the number of threads; the first one that is set counts. Programs that
/// start many processes (Dask, joblib) set the last one for these processes.
const LIMITS: [&str; 3] = ["BORESIGHT_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"];

/// A pool and the process to which its threads belong.
struct ProcessPool {
    process: u32,
    threads: ThreadPool,
}

/// Maximum number of threads that can be requested.
pub(crate) const MOST_THREADS: usize = 256;

/// Pools by their number of threads; the first one has the number given by the environment. Pools are never
/// freed: a process makes at most one of each size, in addition to an inherited one.
static POOLS: [AtomicPtr<ProcessPool>; MOST_THREADS + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MOST_THREADS + 1];

thread_local! {
    /// Number of threads that this thread has requested; 0 for the number given by the environment.
    static REQUESTED: Cell<usize> = const { Cell::new(0) };
}

/// The pool of this process. No lock is used: a lock held by another thread when the process was forked would
/// stay locked.
pub(crate) fn pool() -> &'static ThreadPool {
    let process = std::process::id();
    let requested = REQUESTED.get();
    let pool = &POOLS[requested];
    loop {
        let found = pool.load(Ordering::Acquire);
        // SAFETY: stored pointers come from `Box::into_raw` and are never freed.
        if let Some(known) = unsafe { found.as_ref() }
            && known.process == process
        {
            return &known.threads;
        }
        let made = Box::into_raw(Box::new(ProcessPool { process, threads: build(requested) }));
        if pool.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // Another thread was faster.
            // SAFETY: no other code has seen this pointer.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

fn build(requested: usize) -> ThreadPool {
    let from_environment = || LIMITS.iter().find_map(|name| std::env::var(name).ok()?.trim().parse().ok());
    let limit = if requested > 0 { Some(requested) } else { from_environment() };
    let build = |threads| {
        ThreadPoolBuilder::new().num_threads(threads).thread_name(|k| format!("boresight-{k}")).build()
    };
    // For rayon, 0 means all processors. If the system cannot start that many threads, one is used.
    build(limit.unwrap_or(0))
        .or_else(|_| build(1))
        .expect("the system cannot start a thread for parallel work")
}

/// Runs work that uses many threads, without the GIL.
pub(crate) fn detach<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| pool().install(work))
}

/// Number of threads for parallel work.
#[pyfunction]
pub(crate) fn num_threads() -> usize {
    pool().current_num_threads()
}

/// Sets the number of threads, at most [`MOST_THREADS`], for the later work of the calling thread; 0 is the
/// number given by the environment. Returns the previous number.
#[pyfunction]
pub(crate) fn set_num_threads(count: usize) -> usize {
    REQUESTED.replace(count.min(MOST_THREADS))
}
