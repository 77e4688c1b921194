//! Python bindings of star catalogues. Angles are in radians.

use boresight::Catalog;
use boresight::geometry::sphere::direction;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;
use crate::parallel;

/// Columns of a catalogue, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Columns<'py> {
    ids: PyReadonlyArray1<'py, i64>,
    ra: PyReadonlyArray1<'py, f64>,
    dec: PyReadonlyArray1<'py, f64>,
    pm_ra: PyReadonlyArray1<'py, f64>,
    pm_dec: PyReadonlyArray1<'py, f64>,
    parallax: PyReadonlyArray1<'py, f64>,
    magnitude: PyReadonlyArray1<'py, f32>,
}

/// A star catalogue (core `Catalog`).
#[pyclass(frozen, name = "Catalog", module = "boresight._core")]
pub(crate) struct PyCatalog(pub(crate) Catalog);

#[pymethods]
impl PyCatalog {
    #[new]
    fn new(columns: Columns<'_>, epoch: f64) -> PyResult<Self> {
        let catalog = Catalog {
            ids: columns.ids.as_array().to_vec(),
            ra: columns.ra.as_array().to_vec(),
            dec: columns.dec.as_array().to_vec(),
            pm_ra: columns.pm_ra.as_array().to_vec(),
            pm_dec: columns.pm_dec.as_array().to_vec(),
            parallax: columns.parallax.as_array().to_vec(),
            magnitude: columns.magnitude.as_array().to_vec(),
            epoch,
        };
        catalog.check().map_err(to_python)?;
        Ok(Self(catalog))
    }

    #[staticmethod]
    fn hipparcos(py: Python<'_>) -> Self {
        Self(parallel::detach(py, Catalog::hipparcos))
    }

    #[getter]
    fn epoch(&self) -> f64 {
        self.0.epoch
    }

    /// The columns by name, as the constructor takes them.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let c = &self.0;
        let dict = PyDict::new(py);
        dict.set_item("ids", PyArray1::from_slice(py, &c.ids))?;
        let angles = [
            ("ra", &c.ra),
            ("dec", &c.dec),
            ("pm_ra", &c.pm_ra),
            ("pm_dec", &c.pm_dec),
            ("parallax", &c.parallax),
        ];
        for (name, column) in angles {
            dict.set_item(name, PyArray1::from_slice(py, column))?;
        }
        dict.set_item("magnitude", PyArray1::from_slice(py, &c.magnitude))?;
        Ok(dict)
    }

    fn at_epoch(&self, py: Python<'_>, year: f64) -> Self {
        Self(parallel::detach(py, || self.0.at_epoch(year)))
    }

    fn cone<'py>(&self, py: Python<'py>, ra: f64, dec: f64, radius: f64) -> Bound<'py, PyArray1<i64>> {
        let rows = parallel::detach(py, || self.0.cone(&direction(ra, dec), radius));
        PyArray1::from_iter(py, rows.into_iter().map(|row| row as i64))
    }

    fn with_motions_of(&self, py: Python<'_>, others: &Self, radius: f64, magnitudes: f32) -> Self {
        Self(parallel::detach(py, || self.0.with_motions_of(&others.0, radius, magnitudes)))
    }

    /// For each star, the row of the nearest star of `others`, -1 where there is none within `radius`.
    fn cross_match<'py>(&self, py: Python<'py>, others: &Self, radius: f64) -> Bound<'py, PyArray1<i64>> {
        let rows = parallel::detach(py, || self.0.cross_match(&others.0, radius));
        PyArray1::from_iter(py, rows.into_iter().map(|row| row.map_or(-1, |row| row as i64)))
    }
}
