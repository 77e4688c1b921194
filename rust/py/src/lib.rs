//! The extension module `boresight._core`: it only converts arguments and results, releases the GIL and maps
//! errors.
//!
//! It is private. The public, typed and documented interface is the Python package `boresight`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands arguments over by value.
#![allow(clippy::too_many_arguments)] // The keywords of a Python function.

mod align;
mod arrays;
mod calibrate;
mod camera;
mod catalog;
mod database;
mod errors;
mod extract;
mod files;
mod joint;
mod mapped;
mod matches;
mod memory;
mod monitor;
mod movement;
mod parallel;
mod pictures;
mod place;
mod point_pairs;
mod register;
mod scene;
mod solve;

/// The extension module.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::align::{PyListMatch, PySkyCells, match_lists, project, within};
    #[pymodule_export]
    use crate::calibrate::{
        PyCalibrationBlock, PyCalibrationResult, PyFrameFit, PyReduction, PyRig, calibrate_camera,
        calibrate_rig, calibration_block, model_covariance,
    };
    #[pymodule_export]
    use crate::camera::PyCameraModel;
    #[pymodule_export]
    use crate::camera::PyDistortion;
    #[pymodule_export]
    use crate::catalog::PyCatalog;
    #[pymodule_export]
    use crate::database::{PyDatabase, PyDatabaseStars, PySizeEstimate};
    #[pymodule_export]
    use crate::extract::{Extraction, Extractor, mesh_pixels};
    #[pymodule_export]
    use crate::files::{remove_temporaries, write_atomically};
    #[pymodule_export]
    use crate::joint::{PyJointDetections, closure_of, solve_joint};
    #[pymodule_export]
    use crate::matches::PyMatchedStars;
    #[pymodule_export]
    use crate::memory::check_memory;
    #[pymodule_export]
    use crate::monitor::Stop;
    #[pymodule_export]
    use crate::movement::{
        PyRegistrar, changed_pixels, correlate_phase, fit_camera_change, fit_transform, held_out_change_px,
        warp_image,
    };
    #[pymodule_export]
    const MOST_THREADS: usize = crate::parallel::MOST_THREADS;
    #[pymodule_export]
    use crate::parallel::{num_threads, set_num_threads};
    #[pymodule_export]
    use crate::pictures::{read_png, unpack_bits, unpack_lzw};
    #[pymodule_export]
    use crate::place::{PyApparentPlace, moved};
    #[pymodule_export]
    use crate::point_pairs::fit_point_pairs;
    #[pymodule_export]
    use crate::register::{
        PyFootprint, PyLinearFit, PyRegistration, fit_linear, join, overlap_matrix, register,
    };
    #[pymodule_export]
    use crate::scene::{SceneFit, scene_fit, scene_measure_psf, scene_model, scene_register};
    #[pymodule_export]
    use crate::solve::{
        PyOutcome, PyPointing, PyRejected, PySolution, are_plain, best_rejected, quaternion_of_matrix, solve,
        solve_many,
    };
    /// Speed of light in km/s.
    #[pymodule_export]
    const SPEED_OF_LIGHT_KM_S: f64 = boresight::geometry::apparent::SPEED_OF_LIGHT_KM_S;
    /// Lowest altitude for which refraction is computed, radians: lower stars are refracted as if they were
    /// there.
    #[pymodule_export]
    const LOWEST_ALTITUDE: f64 = boresight::geometry::apparent::LOWEST_ALTITUDE;
    /// Number of rounds of the fixed-point iteration to the refracted place.
    #[pymodule_export]
    const REFRACTION_ROUNDS: usize = boresight::geometry::apparent::REFRACTION_ROUNDS;
    /// Residual, in units of the scale, to which Cauchy's loss gives half weight.
    #[pymodule_export]
    const CAUCHY_TUNING: f64 = boresight::lsq::robust::CAUCHY_TUNING;
    /// Median length of a two-dimensional normal deviate of unit variance per axis.
    #[pymodule_export]
    const RAYLEIGH_MEDIAN: f64 = boresight::lsq::robust::RAYLEIGH_MEDIAN;
    /// Revision of the database generation, which distinguishes databases made by different versions of the
    /// algorithm.
    #[pymodule_export]
    const DATABASE_REVISION: u32 = boresight::database::REVISION;
}
