//! Python bindings of the alignment of star lists.

use boresight::align::plane::{self, TangentPlane};
use boresight::align::{MatchOptions, match_lists as match_in_core};
use boresight::index::sky_cells::SkyCells;
use numpy::{Element, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{NOWHERE, from_rows, map_rows, rows};
use crate::errors::InputError;
use crate::monitor::run;
use crate::parallel;

/// Options for matching two lists, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct MatchValues {
    radius: f64,
    scales: [f64; 2],
    mirrored: bool,
    max_order: usize,
    max_false_alarm: f64,
}

/// Pairs of two lists of stars (core `ListMatch`).
#[pyclass(frozen, name = "ListMatch", module = "boresight._core")]
pub(crate) struct PyListMatch(boresight::align::ListMatch);

#[pymethods]
impl PyListMatch {
    /// Indices in the two lists, a row for each pair.
    #[getter]
    fn pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let pairs: Vec<[i64; 2]> = self.0.pairs.iter().map(|pair| pair.map(|i| i as i64)).collect();
        from_rows(py, &pairs)
    }

    #[getter]
    fn matrix(&self) -> [[f64; 2]; 2] {
        self.0.transform.matrix
    }

    #[getter]
    fn shift(&self) -> [f64; 2] {
        self.0.transform.shift
    }

    #[getter]
    fn log_odds(&self) -> f64 {
        self.0.log_odds
    }
}

/// The values of a contiguous column, without a copy.
pub(crate) fn column<'a, T: Element>(name: &str, values: &'a PyReadonlyArray1<'_, T>) -> PyResult<&'a [T]> {
    let problem = |_| InputError::new_err(format!("{name}: not contiguous; use numpy.ascontiguousarray"));
    values.as_slice().map_err(problem)
}

/// Matches the stars of two lists.
#[pyfunction]
pub(crate) fn match_lists(
    py: Python<'_>,
    a: PyReadonlyArray2<'_, f64>,
    b: PyReadonlyArray2<'_, f64>,
    brightness: Option<(PyReadonlyArray1<'_, f64>, PyReadonlyArray1<'_, f64>)>,
    options: MatchValues,
) -> PyResult<Option<PyListMatch>> {
    let options = MatchOptions {
        radius: options.radius,
        scales: options.scales,
        mirrored: options.mirrored,
        max_order: options.max_order,
        max_false_alarm: options.max_false_alarm,
    };
    let (first, second) = (rows("a", &a)?, rows("b", &b)?);
    let light = match &brightness {
        Some((of_a, of_b)) => Some((column("brightness", of_a)?, column("brightness", of_b)?)),
        None => None,
    };
    let found = run(py, None, |monitor| match_in_core(first, second, light, &options, monitor))?;
    Ok(found.map(PyListMatch))
}

/// Rows of the directions whose scalar product with `center` is at least `least`.
#[pyfunction]
pub(crate) fn within<'py>(
    py: Python<'py>,
    sky: PyReadonlyArray2<'py, f64>,
    center: [f64; 3],
    least: f64,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let sky = rows("sky", &sky)?;
    let found = parallel::detach(py, || plane::within(sky, &center, least));
    Ok(PyArray1::from_vec(py, found))
}

/// Directions in cells of the sky; directions can be added and removed (core `SkyCells`).
#[pyclass(name = "SkyCells", module = "boresight._core")]
pub(crate) struct PySkyCells(SkyCells);

#[pymethods]
impl PySkyCells {
    #[new]
    fn new(side: f64) -> Self {
        Self(SkyCells::new(side))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Adds directions by their numbers.
    fn add(&mut self, numbers: PyReadonlyArray1<'_, i64>, sky: PyReadonlyArray2<'_, f64>) -> PyResult<()> {
        let directions = rows("sky", &sky)?.iter();
        column("numbers", &numbers)?.iter().zip(directions).for_each(|(&n, v)| self.0.add(n as u32, v));
        Ok(())
    }

    /// Removes directions that were added with these numbers.
    fn remove(&mut self, numbers: PyReadonlyArray1<'_, i64>, sky: PyReadonlyArray2<'_, f64>) -> PyResult<()> {
        let directions = rows("sky", &sky)?.iter();
        column("numbers", &numbers)?.iter().zip(directions).for_each(|(&n, v)| self.0.remove(n as u32, v));
        Ok(())
    }

    /// Numbers of the directions within an angle of any of the given places, ascending.
    fn within<'py>(
        &self,
        py: Python<'py>,
        places: PyReadonlyArray2<'py, f64>,
        angle: f64,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let places = rows("places", &places)?;
        let found = parallel::detach(py, || self.0.within(places, angle));
        Ok(PyArray1::from_iter(py, found.into_iter().map(i64::from)))
    }
}

/// Positions of directions in a tangent plane, which is given by its axes and the matrix of its coordinates;
/// NaN for directions in the opposite hemisphere.
#[pyfunction]
pub(crate) fn project<'py>(
    py: Python<'py>,
    sky: PyReadonlyArray2<'py, f64>,
    axes: [[f64; 3]; 3],
    matrix: [[f64; 2]; 2],
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let plane = TangentPlane { axes, matrix };
    map_rows(py, "sky", &sky, |direction: [f64; 3]| plane.of_sky(&direction).unwrap_or(NOWHERE))
}
