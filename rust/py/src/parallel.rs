//! The threads that parallel work runs on: a pool of its own in every process.
//!
//! A process that was forked has none of the threads of the pool it inherited, and would wait for them for ever. The pool
//! is therefore made when it is first asked for, and once more in each process that was forked since. A thread that asks for
//! so many threads has a pool of that size, which others that ask for as many share.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Variables that limit the number of threads, the first that is set counts. The last is what programs that start many
/// processes (Dask, joblib) set for these.
const LIMITS: [&str; 3] = ["BORESIGHT_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"];

/// A pool and the process that it works in.
struct ProcessPool {
    process: u32,
    threads: ThreadPool,
}

/// Threads that can be asked for at most.
pub(crate) const MOST_THREADS: usize = 256;

/// Pools by their number of threads, the first of the number that the environment tells. They are never freed: one of a
/// kind is made in the life of a process, besides the one it inherited.
static POOLS: [AtomicPtr<ProcessPool>; MOST_THREADS + 1] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MOST_THREADS + 1];

thread_local! {
    /// Threads that this one has asked for; 0 for as many as the environment tells.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// The pool of this process. No lock is taken: one held in another thread when the process was forked stays locked.
pub(crate) fn pool() -> &'static ThreadPool {
    let process = std::process::id();
    let asked = ASKED.get();
    let pool = &POOLS[asked];
    loop {
        let found = pool.load(Ordering::Acquire);
        // SAFETY: what is stored came from `Box::into_raw` and is never freed.
        if let Some(known) = unsafe { found.as_ref() }
            && known.process == process
        {
            return &known.threads;
        }
        let made = Box::into_raw(Box::new(ProcessPool { process, threads: build(asked) }));
        if pool.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // Another thread was quicker.
            // SAFETY: nobody else has seen this pointer.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

fn build(asked: usize) -> ThreadPool {
    let told = || LIMITS.iter().find_map(|name| std::env::var(name).ok()?.trim().parse().ok());
    let limit = if asked > 0 { Some(asked) } else { told() };
    let build = |threads| {
        ThreadPoolBuilder::new().num_threads(threads).thread_name(|k| format!("boresight-{k}")).build()
    };
    // 0 is rayon's word for all processors. Where the system has not so many threads left, one does.
    build(limit.unwrap_or(0)).or_else(|_| build(1)).expect("the system gives no thread for parallel work")
}

/// Runs work that uses many threads, without the GIL.
pub(crate) fn detach<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| pool().install(work))
}

/// Threads that parallel work runs on.
#[pyfunction]
pub(crate) fn num_threads() -> usize {
    pool().current_num_threads()
}

/// Asks for so many threads, [`MOST_THREADS`] at most, for what the calling thread does from now on, 0 for as many as the
/// environment tells, and returns what it had asked for.
#[pyfunction]
pub(crate) fn ask_for_threads(count: usize) -> usize {
    ASKED.replace(count.min(MOST_THREADS))
}
