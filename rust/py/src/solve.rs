//! Solving and its result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boresight::geometry::sphere::{SPEED_OF_LIGHT_KM_S, ra_dec};
use boresight::solve::{
    Expected, Hint, Outcome, Solution, SolveOptions, Status, best_rejected, solve as solve_frame,
    solve_many as solve_frames,
};
use boresight::{Attitude, Monitor};
use nalgebra::Vector3;
use numpy::{PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{NOWHERE, from_rows, map_rows, rows};
use crate::camera::PyCameraModel;
use crate::database::PyDatabase;
use crate::errors::to_python;
use crate::monitor;

/// How often a pending Ctrl-C is looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// Looks for signals from the calling thread itself: a solution takes less time than starting another thread.
struct SignalMonitor {
    started: Instant,
    next_ms: AtomicU64,
}

impl SignalMonitor {
    fn new() -> Self {
        Self { started: Instant::now(), next_ms: AtomicU64::new(SIGNAL_INTERVAL.as_millis() as u64) }
    }
}

impl Monitor for SignalMonitor {
    fn cancelled(&self) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        if now < self.next_ms.load(Ordering::Relaxed) {
            return false;
        }
        self.next_ms.store(now + SIGNAL_INTERVAL.as_millis() as u64, Ordering::Relaxed);
        Python::attach(|py| py.check_signals().is_err())
    }
}

/// A solved frame.
#[pyclass(name = "Solution", module = "boresight._core", frozen)]
pub(crate) struct PySolution {
    inner: Solution,
}

type SolutionParts =
    ([f64; 4], Vec<Vec<f64>>, f64, Vec<usize>, Vec<i64>, Vec<[f64; 3]>, Vec<f64>, Option<[f64; 3]>);

/// The covariance of all parameters from that of the first ones, such as the attitude alone.
fn leading(rows: &[Vec<f64>]) -> [[f64; 7]; 7] {
    let element = |i: usize, j: usize| rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0.0);
    std::array::from_fn(|i| std::array::from_fn(|j| element(i, j)))
}

#[pymethods]
impl PySolution {
    #[new]
    #[pyo3(signature = (camera, *parts))]
    fn new(camera: &PyCameraModel, parts: SolutionParts) -> PyResult<Self> {
        let (quaternion, covariance, probability, detections, ids, directions, residuals, velocity) = parts;
        Ok(Self {
            inner: Solution {
                attitude: Attitude::from_quaternion(quaternion).map_err(to_python)?,
                covariance: leading(&covariance),
                camera: camera.inner.clone(),
                probability,
                matched_detections: detections,
                matched_ids: ids,
                matched_directions: directions,
                residuals,
                velocity: velocity.map(Vector3::from),
            },
        })
    }

    /// The constructor's arguments but for the camera, for pickling.
    fn parts(&self) -> SolutionParts {
        let s = &self.inner;
        (
            s.attitude.quaternion(),
            s.covariance.map(|row| row.to_vec()).to_vec(),
            s.probability,
            s.matched_detections.clone(),
            s.matched_ids.clone(),
            s.matched_directions.clone(),
            s.residuals.clone(),
            s.velocity.map(Into::into),
        )
    }

    #[getter]
    fn quaternion(&self) -> [f64; 4] {
        self.inner.attitude.quaternion()
    }

    #[getter]
    fn rotation_matrix(&self) -> [[f64; 3]; 3] {
        self.inner.attitude.matrix()
    }

    #[getter]
    fn covariance(&self) -> [[f64; 7]; 7] {
        self.inner.covariance
    }

    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn probability(&self) -> f64 {
        self.inner.probability
    }

    /// (ra, dec, position angle of up) of the image centre, radians.
    #[getter]
    fn pointing(&self) -> (f64, f64, f64) {
        self.inner.pointing()
    }

    #[getter]
    fn num_matches(&self) -> usize {
        self.inner.matched_detections.len()
    }

    #[getter]
    fn matched_detections<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_iter(py, self.inner.matched_detections.iter().map(|&i| i as u64))
    }

    #[getter]
    fn matched_ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, &self.inner.matched_ids)
    }

    #[getter]
    fn matched_directions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.inner.matched_directions)
    }

    #[getter]
    fn residuals<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.inner.residuals)
    }

    /// Observer's velocity over the speed of light.
    #[getter]
    fn velocity(&self) -> Option<[f64; 3]> {
        self.inner.velocity.map(Into::into)
    }

    fn pixel_to_sky<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &pixels, |pixel| self.inner.pixel_to_sky(pixel).into())
    }

    /// Right ascension and declination that one pixel sees, degrees.
    fn pixel_to_world(&self, x: f64, y: f64) -> (f64, f64) {
        let (ra, dec) = ra_dec(&self.inner.pixel_to_sky([x, y]));
        (ra.to_degrees(), dec.to_degrees())
    }

    fn sky_to_pixel<'py>(
        &self,
        py: Python<'py>,
        directions: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "direction", &directions, |direction: [f64; 3]| {
            self.inner.sky_to_pixel(&direction.into()).unwrap_or(NOWHERE)
        })
    }
}

/// What came of solving one frame.
#[pyclass(name = "Outcome", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyOutcome {
    solution: Option<Py<PySolution>>,
    status: &'static str,
    patterns_checked: u64,
    candidates_checked: u64,
    best_log_ratio: f64,
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
            solution: outcome.solution.map(|inner| Py::new(py, PySolution { inner })).transpose()?,
            status,
            patterns_checked: outcome.patterns_checked,
            candidates_checked: outcome.candidates_checked,
            best_log_ratio: outcome.best_log_ratio,
            seconds: outcome.elapsed.as_secs_f64(),
        })
    }
}

/// Where the camera is expected to look: a quaternion (scalar first) or a unit vector.
#[derive(FromPyObject)]
enum ExpectedParts {
    Attitude([f64; 4]),
    Direction([f64; 3]),
}

/// What is expected, its uncertainty in radians, and whether it is strict.
type HintParts = (ExpectedParts, f64, bool);

/// How to solve, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OptionValues {
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
    velocity_km_s: Option<[f64; 3]>,
    hint: Option<HintParts>,
}

impl OptionValues {
    fn with_camera(self, camera: &PyCameraModel) -> PyResult<SolveOptions> {
        let hint = match self.hint {
            Some((expected, uncertainty, strict)) => {
                let expected = match expected {
                    ExpectedParts::Attitude(quaternion) => {
                        Expected::Attitude(Attitude::from_quaternion(quaternion).map_err(to_python)?)
                    }
                    ExpectedParts::Direction(direction) => Expected::Direction(Vector3::from(direction)),
                };
                Some(Hint { expected, uncertainty, strict })
            }
            None => None,
        };
        Ok(SolveOptions {
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
            velocity: self.velocity_km_s.map(|v| Vector3::from(v) / SPEED_OF_LIGHT_KM_S),
            hint,
            ..SolveOptions::new(camera.inner.clone())
        })
    }
}

/// Turns matched places among the brightest first into rows of the list that was given.
fn restore_order(solution: Option<&mut Solution>, order: &[usize]) {
    for detection in solution.into_iter().flat_map(|solution| &mut solution.matched_detections) {
        *detection = order[*detection];
    }
}

/// Positions by falling brightness, and the row of each. Stars of the same brightness stay in order, those of unknown
/// (NaN) brightness come last.
fn brightest_first(stars: &[[f64; 3]]) -> (Vec<[f64; 2]>, Vec<usize>) {
    let brightness = |i: usize| if stars[i][2].is_nan() { f64::NEG_INFINITY } else { stars[i][2] };
    let mut order: Vec<usize> = (0..stars.len()).collect();
    order.sort_by(|&i, &j| brightness(j).total_cmp(&brightness(i)));
    (order.iter().map(|&i| [stars[i][0], stars[i][1]]).collect(), order)
}

/// Solves one frame. The rows of `stars` are x, y and brightness, in any order.
#[pyfunction]
pub(crate) fn solve(
    py: Python<'_>,
    database: &PyDatabase,
    stars: PyReadonlyArray2<'_, f64>,
    camera: &PyCameraModel,
    options: OptionValues,
) -> PyResult<PyOutcome> {
    let (pixels, order) = brightest_first(rows("centroids", &stars)?);
    let options = options.with_camera(camera)?;
    let mut outcome = py
        .detach(|| solve_frame(&database.0, &pixels, &options, &SignalMonitor::new()))
        .map_err(to_python)?;
    restore_order(outcome.solution.as_mut(), &order);
    PyOutcome::new(py, outcome)
}

/// Solves many frames in parallel.
#[pyfunction]
#[pyo3(signature = (database, frames, camera, options, progress))]
pub(crate) fn solve_many(
    py: Python<'_>,
    database: &PyDatabase,
    frames: Vec<PyReadonlyArray2<'_, f64>>,
    camera: &PyCameraModel,
    options: OptionValues,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<PyOutcome>> {
    let (mut pixels, mut orders) = (Vec::with_capacity(frames.len()), Vec::with_capacity(frames.len()));
    for stars in &frames {
        let (sorted, order) = brightest_first(rows("centroids", stars)?);
        pixels.push(sorted);
        orders.push(order);
    }
    let options = options.with_camera(camera)?;
    let outcomes =
        monitor::run(py, progress, |monitor| solve_frames(&database.0, &pixels, &options, monitor))?;
    outcomes
        .into_iter()
        .zip(&orders)
        .map(|(mut outcome, order)| {
            restore_order(outcome.solution.as_mut(), order);
            PyOutcome::new(py, outcome)
        })
        .collect()
}

/// The best candidate that was rejected: logarithm of its likelihood ratio, probability, and solution.
type RejectedParts = (f64, f64, Option<PySolution>);

/// Solves one frame and, if that fails, tells the best candidate that was rejected.
#[pyfunction]
pub(crate) fn solve_or_explain(
    py: Python<'_>,
    database: &PyDatabase,
    stars: PyReadonlyArray2<'_, f64>,
    camera: &PyCameraModel,
    options: OptionValues,
) -> PyResult<(PyOutcome, Option<RejectedParts>)> {
    let (pixels, order) = brightest_first(rows("centroids", &stars)?);
    let options = options.with_camera(camera)?;
    let (mut outcome, mut rejected) = py
        .detach(|| {
            let monitor = SignalMonitor::new();
            let outcome = solve_frame(&database.0, &pixels, &options, &monitor)?;
            let rejected = if outcome.solution.is_none() {
                best_rejected(&database.0, &pixels, &options, &outcome, &monitor)?
            } else {
                None
            };
            Ok((outcome, rejected))
        })
        .map_err(to_python)?;
    restore_order(outcome.solution.as_mut(), &order);
    restore_order(rejected.as_mut().and_then(|rejected| rejected.solution.as_mut()), &order);
    let rejected = rejected.map(|rejected| {
        (rejected.log_ratio, rejected.probability, rejected.solution.map(|inner| PySolution { inner }))
    });
    Ok((PyOutcome::new(py, outcome)?, rejected))
}

/// Quaternion (scalar first) of a rotation matrix given by rows.
#[pyfunction]
pub(crate) fn quaternion_of_matrix(rows: [[f64; 3]; 3]) -> PyResult<[f64; 4]> {
    Ok(Attitude::from_matrix(rows).map_err(to_python)?.quaternion())
}
