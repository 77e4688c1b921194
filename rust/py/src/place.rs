//! Python bindings of apparent places.

use boresight::geometry::apparent::{self, ApparentPlace, Refraction, SPEED_OF_LIGHT_KM_S};
use boresight::geometry::sphere::Direction;
use nalgebra::Vector3;
use numpy::{PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{from_rows, map_rows};
use crate::errors::{InputError, to_python};

/// Zenith and constants of the refraction, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RefractionValues {
    zenith: [f64; 3],
    a: f64,
    b: f64,
}

/// Displacement of the stars of a frame by aberration and refraction (core `ApparentPlace`).
#[pyclass(name = "ApparentPlace", module = "boresight._core", frozen)]
#[derive(Default)]
pub(crate) struct PyApparentPlace {
    pub(crate) inner: ApparentPlace,
}

#[pymethods]
impl PyApparentPlace {
    #[new]
    fn new(velocity_km_s: Option<[f64; 3]>, refraction: Option<RefractionValues>) -> PyResult<Self> {
        let inner = ApparentPlace {
            velocity: velocity_km_s.map(|v| Vector3::from(v) / SPEED_OF_LIGHT_KM_S),
            refraction: refraction.map(|r| Refraction { zenith: Direction::from(r.zenith), a: r.a, b: r.b }),
        };
        inner.check("observer_velocity_km_s").map_err(to_python)?;
        Ok(Self { inner })
    }

    /// Converts ICRS directions to apparent directions.
    fn apparent<'py>(
        &self,
        py: Python<'py>,
        icrs: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "icrs", &icrs, |v: [f64; 3]| self.inner.apparent(&v.into()).into())
    }

    /// Converts apparent directions to ICRS directions.
    fn icrs<'py>(
        &self,
        py: Python<'py>,
        apparent: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "apparent", &apparent, |v: [f64; 3]| self.inner.icrs(&v.into()).into())
    }
}

/// Positions and proper motions of stars, radians, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Motions<'py> {
    ra: PyReadonlyArray1<'py, f64>,
    dec: PyReadonlyArray1<'py, f64>,
    pm_ra: PyReadonlyArray1<'py, f64>,
    pm_dec: PyReadonlyArray1<'py, f64>,
}

/// ICRS directions of stars after a number of years.
#[pyfunction]
pub(crate) fn moved<'py>(
    py: Python<'py>,
    stars: Motions<'py>,
    years: f64,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let [ra, dec, pm_ra, pm_dec] = [&stars.ra, &stars.dec, &stars.pm_ra, &stars.pm_dec].map(|c| c.as_array());
    if [dec.len(), pm_ra.len(), pm_dec.len()].iter().any(|&length| length != ra.len()) {
        return Err(InputError::new_err("stars: their columns differ in length; give one row for each"));
    }
    let rows: Vec<[f64; 3]> = (0..ra.len())
        .map(|i| apparent::moved(ra[i], dec[i], pm_ra[i], pm_dec[i], years).0.normalize().into())
        .collect();
    from_rows(py, &rows)
}
