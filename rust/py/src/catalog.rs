//! Star catalogues across the border, in radians.

use boresight::Catalog;
use boresight::geometry::sphere::direction;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::errors::to_python;

/// Columns: identifiers, right ascension, declination, proper motions, parallax, magnitude.
type Columns<'py> = (Bound<'py, PyArray1<i64>>, [Bound<'py, PyArray1<f64>>; 5], Bound<'py, PyArray1<f32>>);

/// A star catalogue (core `Catalog`).
#[pyclass(frozen, name = "Catalog", module = "boresight._core")]
pub(crate) struct PyCatalog(pub(crate) Catalog);

#[pymethods]
impl PyCatalog {
    #[new]
    fn new(
        ids: PyReadonlyArray1<'_, i64>,
        angles: [PyReadonlyArray1<'_, f64>; 5],
        magnitude: PyReadonlyArray1<'_, f32>,
        epoch: f64,
    ) -> PyResult<Self> {
        let [ra, dec, pm_ra, pm_dec, parallax] = angles.map(|column| column.as_array().to_vec());
        let (ids, magnitude) = (ids.as_array().to_vec(), magnitude.as_array().to_vec());
        let catalog = Catalog { ids, ra, dec, pm_ra, pm_dec, parallax, magnitude, epoch };
        catalog.check().map_err(to_python)?;
        Ok(Self(catalog))
    }

    #[staticmethod]
    fn hipparcos(py: Python<'_>) -> Self {
        Self(py.detach(Catalog::hipparcos))
    }

    #[getter]
    fn epoch(&self) -> f64 {
        self.0.epoch
    }

    fn columns<'py>(&self, py: Python<'py>) -> Columns<'py> {
        let c = &self.0;
        let angles =
            [&c.ra, &c.dec, &c.pm_ra, &c.pm_dec, &c.parallax].map(|column| PyArray1::from_slice(py, column));
        (PyArray1::from_slice(py, &c.ids), angles, PyArray1::from_slice(py, &c.magnitude))
    }

    fn at_epoch(&self, py: Python<'_>, year: f64) -> Self {
        Self(py.detach(|| self.0.at_epoch(year)))
    }

    fn cone<'py>(&self, py: Python<'py>, ra: f64, dec: f64, radius: f64) -> Bound<'py, PyArray1<i64>> {
        let rows = py.detach(|| self.0.cone(&direction(ra, dec), radius));
        PyArray1::from_iter(py, rows.into_iter().map(|row| row as i64))
    }

    fn with_motions_of(&self, py: Python<'_>, others: &Self, radius: f64, magnitudes: f32) -> Self {
        Self(py.detach(|| self.0.with_motions_of(&others.0, radius, magnitudes)))
    }

    /// Rows of the nearest of the others, -1 where there is none.
    fn cross_match<'py>(&self, py: Python<'py>, others: &Self, radius: f64) -> Bound<'py, PyArray1<i64>> {
        let rows = py.detach(|| self.0.cross_match(&others.0, radius));
        PyArray1::from_iter(py, rows.into_iter().map(|row| row.map_or(-1, |row| row as i64)))
    }
}
