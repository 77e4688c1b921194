//! Python bindings of the registration of source lists, linear fits and footprints.

use boresight::align::{
    ClipStatistic, Clipping, Ending, Footprint, Geometry, LinearFit, RegisterOptions, Registration, Sources,
    Start, fit_linear as fit_in_core, footprint, join as join_in_core, register as register_in_core,
};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::align::column;
use crate::arrays::{from_rows, rows};
use crate::errors::{InputError, to_python};
use crate::monitor::run;
use crate::parallel;

/// Positions of sources and, if known, their weights and brightness, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SourceValues<'py> {
    points: PyReadonlyArray2<'py, f64>,
    weights: Option<PyReadonlyArray1<'py, f64>>,
    brightness: Option<PyReadonlyArray1<'py, f64>>,
}

impl SourceValues<'_> {
    fn sources(&self) -> PyResult<Sources<'_>> {
        Ok(Sources {
            points: rows("sources", &self.points)?,
            weights: self.weights.as_ref().map(|w| column("weight", w)).transpose()?,
            brightness: self.brightness.as_ref().map(|b| column("brightness", b)).transpose()?,
        })
    }
}

/// Options for the exclusion of outliers, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ClipValues {
    rounds: usize,
    sigma: f64,
    statistic: String,
    least_pairs: usize,
}

impl ClipValues {
    fn clipping(&self) -> PyResult<Clipping> {
        let statistic = match self.statistic.as_str() {
            "rmse" => ClipStatistic::Rmse,
            "mae" => ClipStatistic::Mae,
            "mad" => ClipStatistic::Mad,
            "std" => ClipStatistic::Std,
            other => return Err(unknown("clip_statistic", other)),
        };
        Ok(Clipping { rounds: self.rounds, sigma: self.sigma, statistic, least_pairs: self.least_pairs })
    }
}

/// Options for registering a list, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RegisterValues {
    start: String,
    search_radius: f64,
    offset: [f64; 2],
    separation: f64,
    tolerance: f64,
    geometry: String,
    clipping: ClipValues,
}

impl RegisterValues {
    fn options(&self) -> PyResult<RegisterOptions> {
        Ok(RegisterOptions {
            start: start_of(&self.start)?,
            search_radius: self.search_radius,
            offset: self.offset,
            separation: self.separation,
            tolerance: self.tolerance,
            geometry: geometry_of(&self.geometry)?,
            clipping: self.clipping.clipping()?,
        })
    }
}

pub(crate) fn unknown(name: &str, value: &str) -> PyErr {
    InputError::new_err(format!("{name}: {value:?} is unknown"))
}

pub(crate) fn geometry_of(name: &str) -> PyResult<Geometry> {
    match name {
        "shift" => Ok(Geometry::Shift),
        "rshift" => Ok(Geometry::Rshift),
        "rscale" => Ok(Geometry::Rscale),
        "general" => Ok(Geometry::General),
        other => Err(unknown("fitgeom", other)),
    }
}

fn start_of(name: &str) -> PyResult<Start> {
    match name {
        "given" => Ok(Start::Given),
        "histogram" => Ok(Start::Histogram),
        "pattern" => Ok(Start::Pattern),
        "given or pattern" => Ok(Start::GivenOrPattern),
        "histogram or pattern" => Ok(Start::HistogramOrPattern),
        other => Err(unknown("match", other)),
    }
}

/// A linear transformation (core `LinearFit`).
#[pyclass(frozen, name = "LinearFit", module = "boresight._core")]
pub(crate) struct PyLinearFit(LinearFit);

#[pymethods]
impl PyLinearFit {
    #[getter]
    fn matrix(&self) -> [[f64; 2]; 2] {
        self.0.matrix
    }

    #[getter]
    fn shift(&self) -> [f64; 2] {
        self.0.shift
    }

    #[getter]
    fn center(&self) -> [f64; 2] {
        self.0.center
    }

    /// Covariance of the shift and of the matrix elements by rows.
    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows: Vec<[f64; 6]> =
            self.0.covariance.row_iter().map(|row| std::array::from_fn(|k| row[k])).collect();
        from_rows(py, &rows)
    }

    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        PyArray1::from_slice(py, &self.0.kept)
    }

    #[getter]
    fn residuals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.0.residuals)
    }

    #[getter]
    fn clipped_rounds(&self) -> usize {
        self.0.clipped_rounds
    }

    #[getter]
    fn rmse(&self) -> f64 {
        self.0.rmse
    }

    #[getter]
    fn mae(&self) -> f64 {
        self.0.mae
    }

    #[getter]
    fn std(&self) -> f64 {
        self.0.std
    }

    #[getter]
    fn chi2_dof(&self) -> f64 {
        self.0.chi2_dof
    }
}

/// A registration (core `Registration`).
#[pyclass(frozen, name = "Registration", module = "boresight._core")]
pub(crate) struct PyRegistration(Registration);

#[pymethods]
impl PyRegistration {
    #[getter]
    fn ending(&self) -> &'static str {
        match self.0.ending {
            Ending::Fitted => "fitted",
            Ending::TooFew => "too few",
            Ending::OutsideRadius => "outside radius",
            Ending::Chance => "chance",
            Ending::Singular => "singular",
        }
    }

    #[getter]
    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let pairs: Vec<[i64; 2]> = self.0.pairs.iter().map(|pair| pair.map(|i| i as i64)).collect();
        from_rows(py, &pairs)
    }

    #[getter]
    fn fit(&self) -> Option<PyLinearFit> {
        self.0.fit.clone().map(PyLinearFit)
    }

    #[getter]
    fn log_odds(&self) -> f64 {
        self.0.log_odds
    }

    #[getter]
    fn offset(&self) -> [f64; 2] {
        self.0.offset
    }

    #[getter]
    fn log_false_alarm(&self) -> f64 {
        self.0.log_false_alarm
    }

    #[getter]
    fn by_patterns(&self) -> bool {
        self.0.by_patterns
    }

    #[getter]
    fn clear(&self) -> bool {
        self.0.clear
    }

    #[getter]
    fn possible(&self) -> usize {
        self.0.possible
    }

    /// Reference points without a pair within the rectangle of the sources.
    #[getter]
    fn missed<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.0.missed.iter().map(|&j| j as i64))
    }
}

/// Registers sources to a reference in a common plane.
#[pyfunction]
pub(crate) fn register(
    py: Python<'_>,
    image: SourceValues<'_>,
    reference: SourceValues<'_>,
    options: RegisterValues,
) -> PyResult<PyRegistration> {
    let options = options.options()?;
    let (image, reference) = (image.sources()?, reference.sources()?);
    run(py, None, |monitor| register_in_core(&image, &reference, &options, monitor)).map(PyRegistration)
}

/// Adds pairs with the reference points from `first` on, which took no part in a registration.
#[pyfunction]
pub(crate) fn join(
    py: Python<'_>,
    found: &PyRegistration,
    image: SourceValues<'_>,
    reference: SourceValues<'_>,
    first: usize,
    options: RegisterValues,
) -> PyResult<PyRegistration> {
    let options = options.options()?;
    let (image, reference) = (image.sources()?, reference.sources()?);
    let found = found.0.clone();
    Ok(PyRegistration(parallel::detach(py, || join_in_core(found, &image, &reference, first, &options))))
}

/// Fits a linear transformation to pairs of positions.
#[pyfunction]
pub(crate) fn fit_linear(
    py: Python<'_>,
    from_: PyReadonlyArray2<'_, f64>,
    to: PyReadonlyArray2<'_, f64>,
    weights: Option<PyReadonlyArray1<'_, f64>>,
    geometry: &str,
    clipping: ClipValues,
) -> PyResult<PyLinearFit> {
    let pairs: Vec<([f64; 2], [f64; 2])> =
        rows("pixels", &from_)?.iter().copied().zip(rows("sky", &to)?.iter().copied()).collect();
    let weights = weights.as_ref().map(|w| column("weights", w)).transpose()?;
    let (geometry, clipping) = (geometry_of(geometry)?, clipping.clipping()?);
    parallel::detach(py, || fit_in_core(&pairs, weights, geometry, &clipping))
        .map(PyLinearFit)
        .map_err(to_python)
}

/// A part of the sky (core `Footprint`).
#[pyclass(frozen, name = "Footprint", module = "boresight._core")]
pub(crate) struct PyFootprint(Footprint);

#[pymethods]
impl PyFootprint {
    /// Part of the sky within a polygon, whose corners are unit vectors.
    #[staticmethod]
    fn polygon(corners: PyReadonlyArray2<'_, f64>) -> PyResult<Self> {
        let corners: Vec<_> = rows::<f64, 3>("footprint", &corners)?.iter().map(|&c| c.into()).collect();
        Footprint::polygon(&corners).map(Self).map_err(to_python)
    }

    #[staticmethod]
    fn union(footprints: Vec<PyRef<'_, Self>>) -> Self {
        Self(Footprint::union(footprints.iter().map(|f| &f.0)))
    }

    #[getter]
    fn area(&self) -> f64 {
        self.0.area()
    }

    fn shared_area(&self, other: &Self) -> f64 {
        self.0.shared_area(&other.0)
    }
}

/// Areas shared by each two footprints, as a square matrix.
#[pyfunction]
pub(crate) fn overlap_matrix<'py>(
    py: Python<'py>,
    footprints: Vec<PyRef<'_, PyFootprint>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let all: Vec<Footprint> = footprints.iter().map(|f| f.0.clone()).collect();
    let matrix = parallel::detach(py, || footprint::overlap_matrix(&all));
    Ok(PyArray2::from_vec2(py, &matrix)?)
}
