//! Python bindings of the calibration of a camera or a rig from many frames.

use boresight::calibrate::{
    self, CalibrationBlock, CalibrationResult, Exposure, Form, FrameFit, Model, Options, Reduction, Spread,
};
use boresight::geometry::rig::{Placement, Rig};
use boresight::lsq::NormalEquations;
use boresight::{ApparentPlace, MatchedStars, Monitor, Projection};
use nalgebra::DMatrix;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{from_matrix, from_rows, rows};
use crate::camera::PyCameraModel;
use crate::errors::{InputError, to_python};
use crate::matches::PyMatchedStars;
use crate::place::PyApparentPlace;
use crate::{monitor, parallel};

/// Result of one frame in a calibration.
#[pyclass(name = "FrameFit", module = "boresight._core", frozen)]
pub(crate) struct PyFrameFit {
    inner: FrameFit,
}

#[pymethods]
impl PyFrameFit {
    #[getter]
    fn quaternion(&self) -> [f64; 4] {
        self.inner.attitude.quaternion()
    }

    #[getter]
    fn attitude_covariance(&self) -> [[f64; 3]; 3] {
        self.inner.attitude_covariance.into()
    }

    #[getter]
    fn residuals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.inner.residuals)
    }

    #[getter]
    fn inliers<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        PyArray1::from_slice(py, &self.inner.inliers)
    }

    #[getter]
    fn rmse_px(&self) -> Option<f64> {
        self.inner.rmse_px
    }

    /// Reason why the frame was rejected, if it was.
    #[getter]
    fn rejected(&self) -> Option<String> {
        self.inner.rejected.map(|reason| reason.to_string())
    }

    /// Covariance between the intrinsics and the attitude.
    #[getter]
    fn cross_covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_matrix(py, &self.inner.cross_covariance)
    }
}

/// Result of a calibration.
#[pyclass(name = "CalibrationResult", module = "boresight._core", frozen)]
pub(crate) struct PyCalibrationResult {
    inner: CalibrationResult,
}

#[pymethods]
impl PyCalibrationResult {
    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn frames(&self) -> Vec<PyFrameFit> {
        self.inner.frames.iter().map(|fit| PyFrameFit { inner: fit.clone() }).collect()
    }

    #[getter]
    fn rmse_before_px(&self) -> Option<f64> {
        self.inner.rmse_before_px
    }

    #[getter]
    fn rmse_after_px(&self) -> f64 {
        self.inner.rmse_after_px
    }

    #[getter]
    fn num_inliers(&self) -> usize {
        self.inner.num_inliers
    }

    #[getter]
    fn num_outliers(&self) -> usize {
        self.inner.num_outliers
    }

    #[getter]
    fn iterations(&self) -> usize {
        self.inner.iterations
    }

    #[getter]
    fn misfit(&self) -> Option<f64> {
        self.inner.misfit
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

    /// Number of intrinsics, which are the first parameters; placements of detectors follow.
    #[getter]
    fn num_intrinsics(&self) -> usize {
        self.inner.num_intrinsics()
    }

    #[getter]
    fn rig(&self) -> PyRig {
        PyRig { inner: self.inner.rig.clone() }
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

    /// Lengths of the residuals of held-out stars of each frame, in pixels, if requested. Every star is held
    /// out in turn.
    #[getter]
    fn held_out<'py>(&self, py: Python<'py>) -> Option<Vec<Bound<'py, PyArray1<f64>>>> {
        let frames = self.inner.held_out.as_ref()?;
        Some(frames.iter().map(|lengths| PyArray1::from_slice(py, lengths)).collect())
    }
}

/// Detectors behind one lens.
#[pyclass(name = "Rig", module = "boresight._core", frozen)]
pub(crate) struct PyRig {
    inner: Rig,
}

#[pymethods]
impl PyRig {
    /// Positions of the detectors' centres relative to that of the first one, pixels.
    #[getter]
    fn shifts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let shifts: Vec<_> = self.inner.placements().iter().map(Placement::shift).collect();
        from_rows(py, &shifts)
    }

    /// Rotations of the detectors from x towards y, radians.
    #[getter]
    fn rotations<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_iter(py, self.inner.placements().iter().map(Placement::rotation))
    }

    /// Origin of the camera's pixel coordinates.
    #[getter]
    fn center(&self) -> (f64, f64) {
        self.inner.center().into()
    }
}

/// A calibration block without its camera, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct BlockValues<'py> {
    parameter_names: Vec<String>,
    noise: f64,
    sigma_clip: f64,
    /// Normal equations: their upper triangle and gradient, cost and number.
    upper: PyReadonlyArray1<'py, f64>,
    gradient: PyReadonlyArray1<'py, f64>,
    cost: f64,
    num_equations: usize,
    num_frames: usize,
    num_rejected: usize,
    num_inliers: usize,
    num_outliers: usize,
    /// Sums of weights and of square pulls.
    weight: f64,
    square_pull: f64,
}

/// Information about the intrinsics from some frames.
#[pyclass(name = "CalibrationBlock", module = "boresight._core", frozen)]
pub(crate) struct PyCalibrationBlock {
    inner: CalibrationBlock,
}

#[pymethods]
impl PyCalibrationBlock {
    #[new]
    fn new(camera: &PyCameraModel, values: BlockValues<'_>) -> PyResult<Self> {
        let (upper, gradient) = (values.upper.as_array().to_vec(), values.gradient.as_array().to_vec());
        let equations = NormalEquations::from_parts(&upper, gradient, values.cost, values.num_equations)
            .filter(|equations| equations.parameters() == values.parameter_names.len())
            .ok_or_else(|| InputError::new_err("data: not a block; its parts contradict each other"))?;
        let spread =
            Spread { stars: values.num_inliers, weight: values.weight, square_pull: values.square_pull };
        Ok(Self {
            inner: CalibrationBlock {
                camera: camera.inner.clone(),
                parameter_names: values.parameter_names,
                noise: values.noise,
                sigma_clip: values.sigma_clip,
                equations,
                spread,
                frames: values.num_frames,
                rejected: values.num_rejected,
                outliers: values.num_outliers,
            },
        })
    }

    /// The mapping of values that the constructor takes.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let block = &self.inner;
        let dict = PyDict::new(py);
        dict.set_item("parameter_names", &block.parameter_names)?;
        dict.set_item("noise", block.noise)?;
        dict.set_item("sigma_clip", block.sigma_clip)?;
        dict.set_item("upper", PyArray1::from_vec(py, block.equations.upper_triangle()))?;
        dict.set_item("gradient", PyArray1::from_slice(py, block.equations.gradient()))?;
        dict.set_item("cost", block.equations.cost())?;
        dict.set_item("num_equations", block.equations.count())?;
        dict.set_item("num_frames", block.frames)?;
        dict.set_item("num_rejected", block.rejected)?;
        dict.set_item("num_inliers", block.spread.stars)?;
        dict.set_item("num_outliers", block.outliers)?;
        dict.set_item("weight", block.spread.weight)?;
        dict.set_item("square_pull", block.spread.square_pull)?;
        Ok(dict)
    }

    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn parameter_names(&self) -> Vec<String> {
        self.inner.parameter_names.clone()
    }

    #[getter]
    fn num_frames(&self) -> usize {
        self.inner.frames
    }

    #[getter]
    fn num_rejected(&self) -> usize {
        self.inner.rejected
    }

    #[getter]
    fn num_inliers(&self) -> usize {
        self.inner.spread.stars
    }

    #[getter]
    fn num_outliers(&self) -> usize {
        self.inner.outliers
    }

    fn add(&self, other: &Self) -> PyResult<Self> {
        let mut inner = self.inner.clone();
        inner.add(&other.inner).map_err(to_python)?;
        Ok(Self { inner })
    }

    fn solve(&self, py: Python<'_>) -> PyResult<PyReduction> {
        Ok(PyReduction { inner: parallel::detach(py, || self.inner.solve()).map_err(to_python)? })
    }
}

/// Solution of the equations of a block.
#[pyclass(name = "Reduction", module = "boresight._core", frozen)]
pub(crate) struct PyReduction {
    inner: Reduction,
}

#[pymethods]
impl PyReduction {
    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_matrix(py, &self.inner.covariance)
    }

    #[getter]
    fn frozen(&self) -> Vec<String> {
        self.inner.frozen.clone()
    }

    #[getter]
    fn condition_number(&self) -> f64 {
        self.inner.condition_number
    }

    #[getter]
    fn noise(&self) -> f64 {
        self.inner.noise
    }

    #[getter]
    fn change(&self) -> f64 {
        self.inner.change
    }
}

/// Frames from Python, with the apparent place of each frame, if given.
struct Frames<'py> {
    matches: Vec<PyRef<'py, PyMatchedStars>>,
    places: Option<Vec<ApparentPlace>>,
}

impl<'py> Frames<'py> {
    fn new(
        matches: Vec<PyRef<'py, PyMatchedStars>>,
        places: Option<Vec<PyRef<'py, PyApparentPlace>>>,
    ) -> Self {
        Self { matches, places: places.map(|places| places.iter().map(|place| place.inner).collect()) }
    }

    fn matches(&self) -> Vec<&MatchedStars> {
        self.matches.iter().map(|frame| &frame.inner).collect()
    }
}

/// Computes the information about the intrinsics from frames, near a camera.
#[pyfunction]
#[pyo3(signature = (frames, places, camera, parameter_names, noise, sigma_clip))]
pub(crate) fn calibration_block(
    py: Python<'_>,
    frames: Vec<PyRef<'_, PyMatchedStars>>,
    places: Option<Vec<PyRef<'_, PyApparentPlace>>>,
    camera: &PyCameraModel,
    parameter_names: Option<Vec<String>>,
    noise: f64,
    sigma_clip: f64,
) -> PyResult<PyCalibrationBlock> {
    let frames = Frames::new(frames, places);
    let (matches, places) = (frames.matches(), frames.places.as_deref());
    let names = parameter_names.as_deref();
    let work = || CalibrationBlock::new(&matches, places, &camera.inner, names, noise, sigma_clip);
    Ok(PyCalibrationBlock { inner: parallel::detach(py, work).map_err(to_python)? })
}

/// Covariance of the star positions that a calibrated model predicts.
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
    from_rows(py, &parallel::detach(py, work).map_err(to_python)?)
}

/// The form of a camera model by its name.
pub(crate) fn form_of(argument: &str, name: &str) -> PyResult<Form> {
    match name {
        "auto" => Ok(Form::Auto),
        "pinhole" => Ok(Form::Pinhole),
        "polynomial" => Ok(Form::Polynomial),
        "radial" => Ok(Form::Radial),
        other => {
            let repair = "give 'polynomial', 'radial', 'pinhole' or 'auto'";
            Err(InputError::new_err(format!("{argument}: {other:?} is unknown; {repair}")))
        }
    }
}

/// Options of a calibration, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct CalibrationOptions {
    model: String,
    order: Option<usize>,
    sigma_clip: f64,
    max_iterations: usize,
    focal_length_px: Option<f64>,
    projection: Option<String>,
    noise: Option<f64>,
    held_out: bool,
}

impl CalibrationOptions {
    /// The models to choose from, and the other options.
    fn split(&self) -> PyResult<(Vec<Vec<Model>>, Options)> {
        let form = form_of("model", &self.model)?;
        let projection = self.projection.as_deref().map(Projection::from_name);
        let options = Options {
            sigma_clip: self.sigma_clip,
            max_iterations: self.max_iterations,
            focal_length_px: self.focal_length_px,
            projection: projection.transpose().map_err(to_python)?,
            noise: self.noise,
            held_out: self.held_out,
            ..Options::default()
        };
        Ok((calibrate::candidates(form, self.order).map_err(to_python)?, options))
    }
}

/// Fits one camera to the matched stars of many frames.
#[pyfunction]
pub(crate) fn calibrate_camera(
    py: Python<'_>,
    frames: Vec<PyRef<'_, PyMatchedStars>>,
    places: Option<Vec<PyRef<'_, PyApparentPlace>>>,
    options: CalibrationOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<PyCalibrationResult> {
    let (models, options) = options.split()?;
    let frames = Frames::new(frames, places);
    let (matches, places) = (frames.matches(), frames.places.as_deref());
    let work = |m: &dyn Monitor| {
        let fit = |options: &Options, start: Option<&CalibrationResult>| {
            calibrate::calibrate(&matches, places, options, start, m)
        };
        calibrate::calibrate_best(&models, &options, fit)
    };
    let inner = monitor::run(py, progress, work)?;
    Ok(PyCalibrationResult { inner })
}

/// Fits one lens and the placements of the detectors behind it to the matched stars of many exposures.
#[pyfunction]
pub(crate) fn calibrate_rig(
    py: Python<'_>,
    exposures: Vec<Vec<Option<PyRef<'_, PyMatchedStars>>>>,
    places: Option<Vec<PyRef<'_, PyApparentPlace>>>,
    options: CalibrationOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<PyCalibrationResult> {
    let (models, options) = options.split()?;
    let places: Option<Vec<ApparentPlace>> = places.map(|p| p.iter().map(|place| place.inner).collect());
    let exposures: Vec<Exposure<'_>> =
        exposures.iter().map(|e| e.iter().map(|own| own.as_ref().map(|own| &own.inner)).collect()).collect();
    let work = |m: &dyn Monitor| {
        let fit = |options: &Options, start: Option<&CalibrationResult>| {
            calibrate::calibrate_rig(&exposures, places.as_deref(), options, start, m)
        };
        calibrate::calibrate_best(&models, &options, fit)
    };
    Ok(PyCalibrationResult { inner: monitor::run(py, progress, work)? })
}
