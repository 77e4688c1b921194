//! Python bindings of matched stars.

use boresight::{Attitude, MatchedStars};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{NOWHERE, from_rows, map_rows, rows};
use crate::camera::PyCameraModel;
use crate::errors::to_python;
use crate::place::PyApparentPlace;

/// Columns of matched stars, and the camera, attitude and apparent place of the frame, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct MatchValues<'py> {
    detections: PyReadonlyArray1<'py, u64>,
    ids: PyReadonlyArray1<'py, i64>,
    pixels: PyReadonlyArray2<'py, f64>,
    covariance: Option<PyReadonlyArray2<'py, f64>>,
    brightness: PyReadonlyArray1<'py, f64>,
    directions: PyReadonlyArray2<'py, f64>,
    probability: PyReadonlyArray1<'py, f64>,
    camera: Bound<'py, PyCameraModel>,
    quaternion: [f64; 4],
    place: Bound<'py, PyApparentPlace>,
}

/// Matched stars of one frame (core `MatchedStars`).
#[pyclass(name = "MatchedStars", module = "boresight._core", frozen)]
pub(crate) struct PyMatchedStars {
    pub(crate) inner: MatchedStars,
}

#[pymethods]
impl PyMatchedStars {
    #[new]
    fn new(values: MatchValues<'_>) -> PyResult<Self> {
        let covariance = values.covariance.as_ref().map(|c| rows("centroids", c)).transpose()?;
        let inner = MatchedStars {
            detections: values.detections.as_array().iter().map(|&i| i as usize).collect(),
            ids: values.ids.as_array().to_vec(),
            pixels: rows("centroids", &values.pixels)?.to_vec(),
            covariance: covariance.map(<[[f64; 3]]>::to_vec),
            brightness: values.brightness.as_array().to_vec(),
            directions: rows("results", &values.directions)?.to_vec(),
            probability: values.probability.as_array().to_vec(),
            camera: values.camera.get().inner.clone(),
            attitude: Attitude::from_quaternion(values.quaternion).map_err(to_python)?,
            place: values.place.get().inner,
        };
        inner.check().map_err(to_python)?;
        Ok(Self { inner })
    }

    #[getter]
    fn detections<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_iter(py, self.inner.detections.iter().map(|&i| i as u64))
    }

    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, &self.inner.ids)
    }

    #[getter]
    fn pixels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.inner.pixels)
    }

    /// Covariance of the positions, columns xx, xy and yy.
    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray2<f64>>>> {
        self.inner.covariance.as_ref().map(|c| from_rows(py, c)).transpose()
    }

    #[getter]
    fn brightness<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.inner.brightness)
    }

    #[getter]
    fn directions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        from_rows(py, &self.inner.directions)
    }

    #[getter]
    fn probability<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.inner.probability)
    }

    #[getter]
    fn camera(&self) -> PyCameraModel {
        PyCameraModel { inner: self.inner.camera.clone() }
    }

    #[getter]
    fn quaternion(&self) -> [f64; 4] {
        self.inner.attitude.quaternion()
    }

    #[getter]
    fn rotation_matrix(&self) -> [[f64; 3]; 3] {
        self.inner.attitude.matrix()
    }

    /// A copy of the matches with the attitude of a rotation matrix.
    fn turned(&self, rotation_matrix: [[f64; 3]; 3]) -> PyResult<Self> {
        let attitude = Attitude::from_matrix(rotation_matrix).map_err(to_python)?;
        Ok(Self { inner: MatchedStars { attitude, ..self.inner.clone() } })
    }

    /// A copy of the matches with other positions, covariances of these positions (columns xx, xy, yy) and
    /// brightness.
    fn measured(
        &self,
        pixels: PyReadonlyArray2<'_, f64>,
        covariance: Option<PyReadonlyArray2<'_, f64>>,
        brightness: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<Self> {
        let covariance = covariance.as_ref().map(|c| rows("centroids", c)).transpose()?;
        let inner = MatchedStars {
            pixels: rows("centroids", &pixels)?.to_vec(),
            covariance: covariance.map(<[[f64; 3]]>::to_vec),
            brightness: brightness.as_array().to_vec(),
            ..self.inner.clone()
        };
        inner.check().map_err(to_python)?;
        Ok(Self { inner })
    }

    /// Angle between each detection and its star, radians.
    #[getter]
    fn residuals<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_vec(py, self.inner.residuals())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn pixel_to_sky<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &pixels, |pixel| self.inner.pixel_to_sky(pixel).into())
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
