//! Calibration of one camera from many frames.

use boresight::Attitude;
use boresight::calibrate::{self, Calibration, FrameFit, FrameMatches, Model, Options};
use nalgebra::Vector3;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{from_rows, rows};
use crate::camera::PyCameraModel;
use crate::errors::{InputError, to_python};
use crate::monitor;

/// One frame as Python hands it over.
#[derive(FromPyObject)]
pub(crate) struct GivenFrame<'py> {
    pixels: PyReadonlyArray2<'py, f64>,
    sky: PyReadonlyArray2<'py, f64>,
    covariance: Option<PyReadonlyArray2<'py, f64>>,
    camera: Bound<'py, PyCameraModel>,
    quaternion: [f64; 4],
    solved_velocity: Option<[f64; 3]>,
    velocity: Option<[f64; 3]>,
}

impl GivenFrame<'_> {
    fn matches(&self) -> PyResult<FrameMatches<'_>> {
        Ok(FrameMatches {
            pixels: rows("centroids", &self.pixels)?,
            sky: rows("results", &self.sky)?,
            covariance: self.covariance.as_ref().map(|c| rows("centroids", c)).transpose()?,
            camera: &self.camera.get().inner,
            attitude: Attitude::from_quaternion(self.quaternion).map_err(to_python)?,
            solved_velocity: self.solved_velocity.map(Vector3::from),
            velocity: self.velocity.map(Vector3::from),
        })
    }
}

/// A finished calibration.
#[pyclass(name = "Calibration", module = "boresight._core", frozen)]
pub(crate) struct PyCalibration {
    inner: Calibration,
}

/// One frame's part in it: quaternion, attitude covariance, residuals, inliers, RMSE, reason of rejection.
type Frame<'py> =
    ([f64; 4], [[f64; 3]; 3], Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<bool>>, f64, Option<String>);

#[pymethods]
impl PyCalibration {
    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn frames<'py>(&self, py: Python<'py>) -> PyResult<Vec<Frame<'py>>> {
        let frame = |fit: &FrameFit| {
            Ok((
                fit.attitude.quaternion(),
                fit.attitude_covariance.into(),
                from_rows(py, &fit.residuals)?,
                PyArray1::from_slice(py, &fit.inliers),
                fit.rmse_px,
                fit.rejected.map(|reason| reason.to_string()),
            ))
        };
        self.inner.frames.iter().map(frame).collect()
    }

    #[getter]
    fn rmse_px(&self) -> (f64, f64) {
        (self.inner.rmse_before_px, self.inner.rmse_after_px)
    }

    #[getter]
    fn counts(&self) -> (usize, usize) {
        (self.inner.n_inliers, self.inner.n_outliers)
    }

    #[getter]
    fn iterations(&self) -> usize {
        self.inner.iterations
    }

    #[getter]
    fn converged(&self) -> bool {
        self.inner.converged
    }

    #[getter]
    fn noise(&self) -> f64 {
        self.inner.noise
    }

    #[getter]
    fn parameter_names(&self) -> Vec<String> {
        self.inner.parameter_names.clone()
    }

    #[getter]
    fn frozen(&self) -> Vec<String> {
        self.inner.frozen.clone()
    }

    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        // Symmetric, so the order of rows and columns does not matter.
        let matrix = &self.inner.covariance;
        PyArray1::from_slice(py, matrix.as_slice()).reshape([matrix.nrows(), matrix.ncols()])
    }

    #[getter]
    fn condition_number(&self) -> f64 {
        self.inner.condition_number
    }
}

/// Fits one camera to the matched stars of many frames.
#[pyfunction]
#[pyo3(signature = (frames, model, order, sigma_clip, max_iterations, focal_length_px, progress))]
pub(crate) fn calibrate_camera(
    py: Python<'_>,
    frames: Vec<GivenFrame<'_>>,
    model: &str,
    order: usize,
    sigma_clip: f64,
    max_iterations: usize,
    focal_length_px: Option<f64>,
    progress: Option<Py<PyAny>>,
) -> PyResult<PyCalibration> {
    let model = match model {
        "pinhole" => Model::Pinhole,
        "polynomial" => Model::Polynomial { order },
        "radial" => Model::Radial,
        other => {
            let repair = "give 'polynomial', 'radial' or 'pinhole'";
            return Err(InputError::new_err(format!("model: {other:?} is unknown; {repair}")));
        }
    };
    let options = Options { model, sigma_clip, max_iterations, focal_length_px };
    let matches = frames.iter().map(GivenFrame::matches).collect::<PyResult<Vec<_>>>()?;
    let inner = monitor::run(py, progress, |m| calibrate::calibrate(&matches, &options, m))?;
    Ok(PyCalibration { inner })
}
