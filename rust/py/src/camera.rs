//! Python bindings of camera and distortion models.

use boresight::geometry::distortion::{PolynomialDistortion, RadialDistortion};
use boresight::{CameraModel, Distortion, Projection};
use numpy::{PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{NOWHERE, map_rows};
use crate::errors::{InputError, to_python};

/// One distortion model.
#[pyclass(name = "Distortion", module = "boresight._core", frozen)]
pub(crate) struct PyDistortion {
    inner: Distortion,
}

#[pymethods]
impl PyDistortion {
    #[staticmethod]
    fn polynomial(order: usize, scale: f64, a: Vec<f64>, b: Vec<f64>) -> PyResult<Self> {
        let model = PolynomialDistortion::new(order, scale, a, b).map_err(to_python)?;
        Ok(Self { inner: Distortion::Polynomial(model) })
    }

    #[staticmethod]
    fn radial(k: [f64; 4], p: [f64; 2], scale: f64) -> PyResult<Self> {
        let model = RadialDistortion::new(k, p, scale).map_err(to_python)?;
        Ok(Self { inner: Distortion::Radial(model) })
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    /// Unit of length of the coefficients, pixels.
    #[getter]
    fn scale(&self) -> f64 {
        match &self.inner {
            Distortion::Polynomial(m) => m.scale(),
            Distortion::Radial(m) => m.scale(),
            _ => 1.0,
        }
    }

    /// Order of a polynomial; 0 for other models.
    #[getter]
    fn order(&self) -> usize {
        if let Distortion::Polynomial(m) = &self.inner { m.order() } else { 0 }
    }

    /// Coefficients of a polynomial for x; empty for other models.
    #[getter]
    fn a(&self) -> Vec<f64> {
        if let Distortion::Polynomial(m) = &self.inner { m.a().to_vec() } else { Vec::new() }
    }

    /// Coefficients of a polynomial for y; empty for other models.
    #[getter]
    fn b(&self) -> Vec<f64> {
        if let Distortion::Polynomial(m) = &self.inner { m.b().to_vec() } else { Vec::new() }
    }

    /// Radial coefficients; zero for other models.
    #[getter]
    fn k(&self) -> [f64; 4] {
        if let Distortion::Radial(m) = &self.inner { m.k() } else { [0.0; 4] }
    }

    /// Decentring coefficients; zero for other models.
    #[getter]
    fn p(&self) -> [f64; 2] {
        if let Distortion::Radial(m) = &self.inner { m.p() } else { [0.0; 2] }
    }

    fn undistort<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &pixels, |pixel| self.inner.undistort(pixel))
    }

    fn distort<'py>(
        &self,
        py: Python<'py>,
        ideal: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &ideal, |point| self.inner.distort(point).unwrap_or(NOWHERE))
    }
}

/// One camera model.
#[pyclass(name = "CameraModel", module = "boresight._core", frozen)]
pub(crate) struct PyCameraModel {
    pub(crate) inner: CameraModel,
}

#[pymethods]
impl PyCameraModel {
    #[new]
    fn new(
        focal_length_px: f64,
        image_size: [u32; 2],
        optical_center: [f64; 2],
        parity_flip: bool,
        projection: &str,
        distortion: Option<&PyDistortion>,
    ) -> PyResult<Self> {
        if !optical_center.iter().all(|c| c.is_finite()) {
            return Err(InputError::new_err(
                "optical_center: not finite; give (x, y) in pixels from the image centre",
            ));
        }
        let camera = CameraModel::new(focal_length_px, image_size).map_err(to_python)?;
        let distortion = distortion.map_or(Distortion::None, |d| d.inner.clone());
        Ok(Self {
            inner: camera
                .with_optical_center(optical_center)
                .with_parity_flip(parity_flip)
                .with_projection(Projection::from_name(projection).map_err(to_python)?)
                .with_distortion(distortion),
        })
    }

    /// Focal length in pixels for a horizontal field of view (radians) and an image size.
    #[staticmethod]
    fn focal_length_of_fov(fov: f64, image_size: [u32; 2], projection: &str) -> PyResult<f64> {
        let projection = Projection::from_name(projection).map_err(to_python)?;
        let camera = CameraModel::projected_from_fov(projection, fov, image_size).map_err(to_python)?;
        Ok(camera.focal_length_px())
    }

    #[getter]
    fn focal_length_px(&self) -> f64 {
        self.inner.focal_length_px()
    }

    #[getter]
    fn image_size(&self) -> (u32, u32) {
        self.inner.image_size().into()
    }

    #[getter]
    fn optical_center(&self) -> (f64, f64) {
        self.inner.optical_center().into()
    }

    #[getter]
    fn parity_flip(&self) -> bool {
        self.inner.parity_flip()
    }

    #[getter]
    fn projection(&self) -> &'static str {
        self.inner.projection().name()
    }

    #[getter]
    fn distortion(&self) -> Option<PyDistortion> {
        match self.inner.distortion() {
            Distortion::None => None,
            model => Some(PyDistortion { inner: model.clone() }),
        }
    }

    #[getter]
    fn fov(&self) -> f64 {
        self.inner.fov()
    }

    #[getter]
    fn pixel_scale(&self) -> f64 {
        self.inner.pixel_scale()
    }

    fn pixel_to_direction<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &pixels, |pixel| self.inner.pixel_to_direction(pixel).into())
    }

    fn direction_to_pixel<'py>(
        &self,
        py: Python<'py>,
        directions: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "direction", &directions, |direction: [f64; 3]| {
            self.inner.direction_to_pixel(&direction.into()).unwrap_or(NOWHERE)
        })
    }

    fn pixel_to_ideal<'py>(
        &self,
        py: Python<'py>,
        pixels: PyReadonlyArray2<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        map_rows(py, "x, y", &pixels, |pixel| self.inner.pixel_to_ideal(pixel))
    }
}
