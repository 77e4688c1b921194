//! Memory that Python's side is about to take.

use boresight::memory;
use pyo3::prelude::*;

use crate::errors::to_python;

/// `MemoryError` where a task needs more bytes than there are.
#[pyfunction]
pub(crate) fn check_memory(task: &str, num_bytes: usize) -> PyResult<()> {
    memory::check(task, num_bytes).map_err(to_python)
}
