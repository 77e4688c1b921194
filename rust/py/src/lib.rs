//! The extension module `boresight._core`: converts, releases the GIL, maps errors, nothing else.
//!
//! It is private. The public, typed and documented interface is the Python package `boresight`.

mod arrays;
mod catalog;
mod database;
mod errors;
mod monitor;

/// The extension module.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::catalog::PyCatalog;
    #[pymodule_export]
    use crate::database::PyDatabase;
    /// Tells databases made by different versions of the algorithm apart.
    #[pymodule_export]
    const DATABASE_REVISION: u32 = boresight::database::REVISION;
}
