//! The extension module `boresight._core`: converts, releases the GIL, maps errors, nothing else.
//!
//! It is private. The public, typed and documented interface is the Python package `boresight`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands arguments over by value.
#![allow(clippy::too_many_arguments)] // The keywords of a Python function.

mod arrays;
mod calibrate;
mod camera;
mod catalog;
mod database;
mod errors;
mod extract;
mod monitor;
mod solve;

/// The extension module.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::calibrate::PyCalibration;
    #[pymodule_export]
    use crate::calibrate::PyCalibrationBlock;
    #[pymodule_export]
    use crate::calibrate::calibrate_camera;
    #[pymodule_export]
    use crate::calibrate::calibration_block;
    #[pymodule_export]
    use crate::calibrate::model_covariance;
    #[pymodule_export]
    use crate::camera::PyCameraModel;
    #[pymodule_export]
    use crate::camera::PyDistortion;
    #[pymodule_export]
    use crate::catalog::PyCatalog;
    #[pymodule_export]
    use crate::database::{PyDatabase, PyDatabaseStars, PySizeEstimate};
    #[pymodule_export]
    use crate::extract::{Extraction, Extractor};
    #[pymodule_export]
    use crate::solve::{PyOutcome, PySolution, quaternion_of_matrix, solve, solve_many, solve_or_explain};
    /// Tells databases made by different versions of the algorithm apart.
    #[pymodule_export]
    const DATABASE_REVISION: u32 = boresight::database::REVISION;
}
