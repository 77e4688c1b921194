//! Python bindings of plate solving and its result.

use std::time::Duration;

use boresight::Attitude;
use boresight::geometry::sphere::ra_dec;
use boresight::solve::{
    Expected, FittedLens, Hint, LensModel, Outcome, Rejected, Solution, SolveOptions, Status,
    best_rejected as best_rejected_of, solve as solve_frame, solve_many as solve_frames,
};
use nalgebra::Vector3;
use numpy::{PyArray2, PyReadonlyArray2, PyReadonlyArray3, PyUntypedArray};
use pyo3::prelude::*;

use crate::arrays::{from_matrix, from_rows, rows};
use crate::calibrate::form_of;
use crate::camera::PyCameraModel;
use crate::database::PyDatabase;
use crate::errors::to_python;
use crate::matches::PyMatchedStars;
use crate::monitor::{self, SignalMonitor};
use crate::place::PyApparentPlace;

/// Names of parameters, and their covariance.
type NamedCovariance<'py> = (Vec<String>, Bound<'py, PyArray2<f64>>);

/// A solved frame.
#[pyclass(name = "Solution", module = "boresight._core", frozen)]
pub(crate) struct PySolution {
    matches: Py<PyMatchedStars>,
    covariance: [[f64; 7]; 7],
    probability: f64,
    lens: Option<FittedLens>,
}

impl PySolution {
    fn from_core(py: Python<'_>, solution: Solution) -> PyResult<Self> {
        let Solution { matches, covariance, probability, lens } = solution;
        Ok(Self { matches: Py::new(py, PyMatchedStars { inner: matches })?, covariance, probability, lens })
    }
}

#[pymethods]
impl PySolution {
    /// Creates a solution. The covariance may be that of the first parameters only, such as the attitude.
    #[new]
    fn new(matches: Py<PyMatchedStars>, covariance: PyReadonlyArray2<'_, f64>, probability: f64) -> Self {
        let given = covariance.as_array();
        let element = |i: usize, j: usize| given.get([i, j]).copied().unwrap_or(0.0);
        let covariance = std::array::from_fn(|i| std::array::from_fn(|j| element(i, j)));
        Self { matches, covariance, probability, lens: None }
    }

    #[getter]
    fn matches(&self, py: Python<'_>) -> Py<PyMatchedStars> {
        self.matches.clone_ref(py)
    }

    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.covariance)
    }

    #[getter]
    fn probability(&self) -> f64 {
        self.probability
    }

    /// Names of the intrinsics of a fitted lens, and the covariance of the intrinsics followed by the
    /// attitude.
    #[getter]
    fn lens<'py>(&self, py: Python<'py>) -> PyResult<Option<NamedCovariance<'py>>> {
        let Some(lens) = &self.lens else { return Ok(None) };
        Ok(Some((lens.parameter_names.clone(), from_matrix(py, &lens.covariance)?)))
    }

    /// Direction of the image centre, and the roll angle there.
    #[getter]
    fn pointing(&self) -> PyPointing {
        let (ra, dec, roll) = self.matches.get().inner.pointing();
        PyPointing { ra, dec, roll }
    }

    /// Right ascension and declination of one pixel, degrees.
    fn pixel_to_world(&self, x: f64, y: f64) -> (f64, f64) {
        let (ra, dec) = ra_dec(&self.matches.get().inner.pixel_to_sky([x, y]));
        (ra.to_degrees(), dec.to_degrees())
    }
}

/// Right ascension and declination of a direction, and the position angle of the image's upward direction
/// there, radians.
#[pyclass(name = "Pointing", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyPointing {
    ra: f64,
    dec: f64,
    roll: f64,
}

/// Outcome of solving one frame.
#[pyclass(name = "Outcome", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyOutcome {
    solution: Option<Py<PySolution>>,
    status: &'static str,
    patterns_checked: u64,
    candidates_checked: u64,
    best_log_ratio: f64,
    best_probability: f64,
    seconds: f64,
}

impl PyOutcome {
    fn new(py: Python<'_>, outcome: Outcome) -> PyResult<Self> {
        let status = match outcome.status {
            Status::Solved => "solved",
            Status::NoMatch => "no match",
            Status::TooFew => "too few stars",
            Status::Timeout => "timeout",
            Status::WorkBound => "work bound",
            _ => "unsolved",
        };
        Ok(Self {
            solution: outcome
                .solution
                .map(|solution| Py::new(py, PySolution::from_core(py, solution)?))
                .transpose()?,
            status,
            patterns_checked: outcome.patterns_checked,
            candidates_checked: outcome.candidates_checked,
            best_log_ratio: outcome.best_log_ratio,
            best_probability: outcome.best_probability,
            seconds: outcome.elapsed.as_secs_f64(),
        })
    }
}

/// Expected pointing of the camera, as a mapping: a quaternion (scalar first) or a unit vector, the
/// uncertainty in radians, and whether to search nowhere else.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct HintValues {
    attitude: Option<[f64; 4]>,
    direction: Option<[f64; 3]>,
    uncertainty: f64,
    strict: bool,
}

impl HintValues {
    fn hint(self) -> PyResult<Option<Hint>> {
        let expected = match (self.attitude, self.direction) {
            (Some(quaternion), _) => {
                Expected::Attitude(Attitude::from_quaternion(quaternion).map_err(to_python)?)
            }
            (None, Some(direction)) => Expected::Direction(Vector3::from(direction)),
            (None, None) => return Ok(None),
        };
        Ok(Some(Hint { expected, uncertainty: self.uncertainty, strict: self.strict }))
    }
}

/// Options for solving a frame, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OptionValues<'py> {
    camera: Bound<'py, PyCameraModel>,
    parity_known: bool,
    fov_estimate: Option<f64>,
    fov_max_error: Option<f64>,
    match_radius: f64,
    match_threshold: f64,
    match_max_error: Option<f64>,
    pattern_checking_stars: usize,
    refine_iterations: usize,
    max_patterns_checked: u64,
    timeout_ms: Option<u64>,
    place: Option<Bound<'py, PyApparentPlace>>,
    hint: Option<HintValues>,
    lens: Option<String>,
    lens_order: Option<usize>,
    epoch: Option<f64>,
}

impl OptionValues<'_> {
    fn options(self) -> PyResult<SolveOptions> {
        Ok(SolveOptions {
            camera: self.camera.get().inner.clone(),
            parity_known: self.parity_known,
            fov_estimate: self.fov_estimate,
            fov_max_error: self.fov_max_error,
            match_radius: self.match_radius,
            match_threshold: self.match_threshold,
            match_max_error: self.match_max_error,
            pattern_checking_stars: self.pattern_checking_stars,
            refine_iterations: self.refine_iterations,
            max_patterns_checked: self.max_patterns_checked,
            timeout: self.timeout_ms.map(Duration::from_millis),
            place: self.place.map(|place| place.get().inner).unwrap_or_default(),
            hint: self.hint.map(HintValues::hint).transpose()?.flatten(),
            epoch: self.epoch,
            lens: match self.lens.as_deref() {
                None => LensModel::Coarse,
                Some("none") => LensModel::Given,
                Some(form) => LensModel::Fitted(form_of("lens", form)?, self.lens_order),
            },
        })
    }
}

/// The detections of one frame from Python: rows of x, y and brightness in any order and, if known, the 2 × 2
/// covariance matrix of each position.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Detections<'py> {
    stars: PyReadonlyArray2<'py, f64>,
    covariance: Option<PyReadonlyArray3<'py, f64>>,
}

/// Positions sorted by decreasing brightness, and the row of each. Stars of the same brightness stay in
/// order; stars of unknown (NaN) brightness come last; rows without a position (NaN) are excluded.
struct Ranked {
    pixels: Vec<[f64; 2]>,
    order: Vec<usize>,
}

impl Ranked {
    fn new(stars: &[[f64; 3]]) -> Self {
        let brightness = |i: usize| if stars[i][2].is_nan() { f64::NEG_INFINITY } else { stars[i][2] };
        let mut order: Vec<usize> =
            (0..stars.len()).filter(|&i| !stars[i][0].is_nan() && !stars[i][1].is_nan()).collect();
        order.sort_by(|&i, &j| brightness(j).total_cmp(&brightness(i)));
        Self { pixels: order.iter().map(|&i| [stars[i][0], stars[i][1]]).collect(), order }
    }

    /// Converts matched detections from indices in this order to rows of the given list, and adds their
    /// measured brightness and covariances.
    fn restore(&self, solution: &mut Solution, given: &Detections<'_>) -> PyResult<()> {
        let matches = &mut solution.matches;
        for detection in &mut matches.detections {
            *detection = self.order[*detection];
        }
        let stars = rows("centroids", &given.stars)?;
        for (brightness, &i) in matches.brightness.iter_mut().zip(&matches.detections) {
            let [_, _, light] = stars[i];
            *brightness = light;
        }
        if let Some(covariance) = &given.covariance {
            let c = covariance.as_array();
            let row = |&i: &usize| [c[[i, 0, 0]], c[[i, 0, 1]], c[[i, 1, 1]]];
            matches.covariance = Some(matches.detections.iter().map(row).collect());
        }
        Ok(())
    }
}

/// Whether centroids need no further check: they are a plain array of x, y and brightness that [`rows`]
/// accepts, with at least one row; every brightness is finite and not negative; and every position is less
/// than `reach` sides of the camera's image from its centre.
#[pyfunction]
pub(crate) fn are_plain(centroids: &Bound<'_, PyAny>, camera: &PyCameraModel, reach: f64) -> bool {
    if !centroids.is_exact_instance_of::<PyUntypedArray>() {
        return false;
    }
    let Ok(stars) = centroids.extract::<PyReadonlyArray2<'_, f64>>() else { return false };
    let Ok(stars) = rows::<f64, 3>("centroids", &stars) else { return false };
    let [right, bottom] = camera.inner.image_size().map(|side| reach * f64::from(side));
    let is_in = |x: f64, y: f64, light: f64| {
        x.abs() < right && y.abs() < bottom && (0.0..f64::INFINITY).contains(&light)
    };
    !stars.is_empty() && stars.iter().all(|&[x, y, light]| is_in(x, y, light))
}

/// Solves one frame.
#[pyfunction]
pub(crate) fn solve(
    py: Python<'_>,
    database: &PyDatabase,
    detections: Detections<'_>,
    options: OptionValues<'_>,
) -> PyResult<PyOutcome> {
    let ranked = Ranked::new(rows("centroids", &detections.stars)?);
    let options = options.options()?;
    let mut outcome = py
        .detach(|| {
            let monitor = SignalMonitor::new();
            database.read(|database| solve_frame(database, &ranked.pixels, &options, &monitor))
        })?
        .map_err(to_python)?;
    if let Some(solution) = &mut outcome.solution {
        ranked.restore(solution, &detections)?;
    }
    PyOutcome::new(py, outcome)
}

/// Solves many frames in parallel, each with its own options.
#[pyfunction]
pub(crate) fn solve_many(
    py: Python<'_>,
    database: &PyDatabase,
    frames: Vec<Detections<'_>>,
    options: Vec<OptionValues<'_>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<PyOutcome>> {
    let rank = |frame: &Detections<'_>| Ok(Ranked::new(rows("centroids", &frame.stars)?));
    let ranked = frames.iter().map(rank).collect::<PyResult<Vec<_>>>()?;
    let pixels: Vec<&[[f64; 2]]> = ranked.iter().map(|frame| frame.pixels.as_slice()).collect();
    let options = options.into_iter().map(OptionValues::options).collect::<PyResult<Vec<_>>>()?;
    let outcomes = database.read(|database| {
        monitor::run(py, progress, |monitor| solve_frames(database, &pixels, &options, monitor))
    })??;
    outcomes
        .into_iter()
        .zip(ranked.iter().zip(&frames))
        .map(|(mut outcome, (ranked, frame))| {
            if let Some(solution) = &mut outcome.solution {
                ranked.restore(solution, frame)?;
            }
            PyOutcome::new(py, outcome)
        })
        .collect()
}

/// The best rejected candidate.
#[pyclass(name = "Rejected", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyRejected {
    /// Natural logarithm of its likelihood ratio.
    log_ratio: f64,
    probability: f64,
    solution: Option<Py<PySolution>>,
}

/// Returns the best rejected candidate of a frame that was not solved. Returns `None` if the frame was
/// solved, or if the repeated search takes longer than the options allow.
#[pyfunction]
pub(crate) fn best_rejected(
    py: Python<'_>,
    database: &PyDatabase,
    detections: Detections<'_>,
    options: OptionValues<'_>,
    outcome: &PyOutcome,
) -> PyResult<Option<PyRejected>> {
    if outcome.solution.is_some() {
        return Ok(None);
    }
    let ranked = Ranked::new(rows("centroids", &detections.stars)?);
    let options = options.options()?;
    let outcome = Outcome {
        solution: None,
        status: Status::NoMatch,
        patterns_checked: outcome.patterns_checked,
        candidates_checked: outcome.candidates_checked,
        best_log_ratio: outcome.best_log_ratio,
        best_probability: outcome.best_probability,
        elapsed: Duration::from_secs_f64(outcome.seconds),
    };
    let look_up =
        |database: &_| best_rejected_of(database, &ranked.pixels, &options, &outcome, &SignalMonitor::new());
    let rejected = py.detach(|| database.read(look_up))?.map_err(to_python)?;
    let Some(Rejected { log_ratio, probability, solution }) = rejected else {
        return Ok(None);
    };
    let solution = solution.map(|mut solution| {
        ranked.restore(&mut solution, &detections)?;
        Py::new(py, PySolution::from_core(py, solution)?)
    });
    Ok(Some(PyRejected { log_ratio, probability, solution: solution.transpose()? }))
}

/// Quaternion (scalar first) of a rotation matrix given by rows.
#[pyfunction]
pub(crate) fn quaternion_of_matrix(rows: [[f64; 3]; 3]) -> PyResult<[f64; 4]> {
    Ok(Attitude::from_matrix(rows).map_err(to_python)?.quaternion())
}
