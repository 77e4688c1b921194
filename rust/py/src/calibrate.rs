//! Calibration of one camera from many frames.

use boresight::calibrate::{
    self, Block, Calibration, FrameFit, FrameMatches, Model, Options, Reduction, Spread,
};
use boresight::lsq::NormalEquations;
use boresight::{Attitude, Projection};
use nalgebra::{DMatrix, Vector3};
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

/// One frame's part in it: quaternion, attitude covariance, residuals, inliers, RMSE, reason of rejection, and
/// the covariance of its attitude with the intrinsics.
type Frame<'py> = (
    [f64; 4],
    [[f64; 3]; 3],
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<bool>>,
    f64,
    Option<String>,
    Bound<'py, PyArray2<f64>>,
);

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
                from_matrix(py, &fit.cross_covariance)?,
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
        from_matrix(py, &self.inner.covariance)
    }

    #[getter]
    fn condition_number(&self) -> f64 {
        self.inner.condition_number
    }

    /// Residual lengths in pixels of the stars of each frame, each left out in turn, if asked for.
    #[getter]
    fn held_out<'py>(&self, py: Python<'py>) -> Option<Vec<Bound<'py, PyArray1<f64>>>> {
        let frames = self.inner.held_out.as_ref()?;
        Some(frames.iter().map(|lengths| PyArray1::from_slice(py, lengths)).collect())
    }
}

/// What some frames tell about the intrinsics.
#[pyclass(name = "CalibrationBlock", module = "boresight._core", frozen)]
pub(crate) struct PyCalibrationBlock {
    inner: Block,
}

/// Parameter names, noise and `sigma_clip`; upper triangle and gradient of the equations and their cost; frames used
/// and rejected, stars used and left out, equations; sum of weights and of square pulls.
type BlockParts = (Vec<String>, [f64; 2], Vec<f64>, Vec<f64>, f64, [usize; 5], [f64; 2]);

/// Camera, covariance, frozen parameters, condition number, noise, and change.
type Step<'py> = (PyCameraModel, Bound<'py, PyArray2<f64>>, Vec<String>, f64, f64, f64);

#[pymethods]
impl PyCalibrationBlock {
    #[new]
    #[pyo3(signature = (camera, *parts))]
    fn new(camera: &PyCameraModel, parts: BlockParts) -> PyResult<Self> {
        let (parameter_names, [noise, sigma_clip], upper, gradient, cost, counts, [weight, square_pull]) =
            parts;
        let [frames, rejected, stars, outliers, count] = counts;
        let equations = NormalEquations::from_parts(&upper, gradient, cost, count)
            .filter(|equations| equations.parameters() == parameter_names.len())
            .ok_or_else(|| InputError::new_err("data: not a block; its parts contradict each other"))?;
        Ok(Self {
            inner: Block {
                camera: camera.inner.clone(),
                parameter_names,
                noise,
                sigma_clip,
                equations,
                spread: Spread { stars, weight, square_pull },
                frames,
                rejected,
                outliers,
            },
        })
    }

    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    /// The constructor's arguments but for the camera.
    fn parts(&self) -> BlockParts {
        let block = &self.inner;
        let spread = &block.spread;
        (
            block.parameter_names.clone(),
            [block.noise, block.sigma_clip],
            block.equations.upper_triangle(),
            block.equations.gradient().to_vec(),
            block.equations.cost(),
            [block.frames, block.rejected, spread.stars, block.outliers, block.equations.count()],
            [spread.weight, spread.square_pull],
        )
    }

    fn add(&self, other: &Self) -> PyResult<Self> {
        let mut inner = self.inner.clone();
        inner.add(&other.inner).map_err(to_python)?;
        Ok(Self { inner })
    }

    fn solve<'py>(&self, py: Python<'py>) -> PyResult<Step<'py>> {
        let Reduction { camera, covariance, frozen, condition_number, noise, change } =
            py.detach(|| self.inner.solve()).map_err(to_python)?;
        let covariance = from_matrix(py, &covariance)?;
        Ok((PyCameraModel { inner: camera }, covariance, frozen, condition_number, noise, change))
    }
}

/// What frames tell about the intrinsics, near a camera.
#[pyfunction]
#[pyo3(signature = (frames, camera, parameter_names, noise, sigma_clip))]
pub(crate) fn calibration_block(
    py: Python<'_>,
    frames: Vec<GivenFrame<'_>>,
    camera: &PyCameraModel,
    parameter_names: Option<Vec<String>>,
    noise: f64,
    sigma_clip: f64,
) -> PyResult<PyCalibrationBlock> {
    let matches = frames.iter().map(GivenFrame::matches).collect::<PyResult<Vec<_>>>()?;
    let names = parameter_names.as_deref();
    let work = || Block::new(&matches, &camera.inner, names, noise, sigma_clip);
    Ok(PyCalibrationBlock { inner: py.detach(work).map_err(to_python)? })
}

fn from_matrix<'py>(py: Python<'py>, matrix: &DMatrix<f64>) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let by_rows = matrix.transpose();
    PyArray1::from_slice(py, by_rows.as_slice()).reshape([matrix.nrows(), matrix.ncols()])
}

/// Covariance of where a calibrated model puts stars.
#[pyfunction]
pub(crate) fn model_covariance<'py>(
    py: Python<'py>,
    camera: &PyCameraModel,
    parameter_names: Vec<String>,
    joint: PyReadonlyArray2<'py, f64>,
    pixels: PyReadonlyArray2<'py, f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let pixels = rows("x, y", &pixels)?;
    let view = joint.as_array();
    let joint = DMatrix::from_fn(view.nrows(), view.ncols(), |i, j| view[[i, j]]);
    let work = || calibrate::model_covariance(&camera.inner, &parameter_names, &joint, pixels);
    from_rows(py, &py.detach(work).map_err(to_python)?)
}

/// Fits one camera to the matched stars of many frames.
#[pyfunction]
#[pyo3(signature = (
    frames, model, order, sigma_clip, max_iterations, focal_length_px, projection, noise, warm, held_out, progress
))]
pub(crate) fn calibrate_camera(
    py: Python<'_>,
    frames: Vec<GivenFrame<'_>>,
    model: &str,
    order: usize,
    sigma_clip: f64,
    max_iterations: usize,
    focal_length_px: Option<f64>,
    projection: Option<&str>,
    noise: Option<f64>,
    warm: bool,
    held_out: bool,
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
    let projection = projection.map(Projection::from_name).transpose().map_err(to_python)?;
    let options =
        Options { model, sigma_clip, max_iterations, focal_length_px, projection, noise, warm, held_out };
    let matches = frames.iter().map(GivenFrame::matches).collect::<PyResult<Vec<_>>>()?;
    let inner = monitor::run(py, progress, |m| calibrate::calibrate(&matches, &options, m))?;
    Ok(PyCalibration { inner })
}
