//! Checks that there is enough memory for the work of the Python package.

use boresight::memory;
use pyo3::prelude::*;

use crate::errors::to_python;

/// Raises `MemoryError` if a task needs more bytes than are available.
#[pyfunction]
pub(crate) fn check_memory(task: &str, num_bytes: usize) -> PyResult<()> {
    memory::check(task, num_bytes).map_err(to_python)
}
