//! Python bindings of the movement of a camera between two images.

use boresight::geometry::sphere::Direction;
use boresight::imaging::warp::{Interpolation, Sample, Warp};
use boresight::movement::change::{MatchedStar, PARAMETERS, fit_change, held_out_px, predicted};
use boresight::movement::{Fit, FitOptions, Kind, Plane, Registrar, Transform, fit, phase_candidates};
use numpy::{Element, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{NOWHERE, from_rows, map_rows, rows};
use crate::camera::PyCameraModel;
use crate::errors::{InputError, to_python};
use crate::parallel;

/// Warps a C-contiguous image into another array of its type, and marks the valid pixels.
#[pyfunction]
pub(crate) fn warp_image<'py>(
    py: Python<'py>,
    image: &Bound<'py, PyAny>,
    to_source: [[f64; 3]; 3],
    linear: bool,
    fill_edges: bool,
    out: &Bound<'py, PyAny>,
    mut valid: PyReadwriteArray2<'py, bool>,
) -> PyResult<()> {
    let interpolation = if linear { Interpolation::Linear } else { Interpolation::Nearest };
    let warp = Warp { to_source, interpolation, fill_edges };
    let valid = valid.as_slice_mut().map_err(|_| not_contiguous("valid"))?;
    macro_rules! of_type {
        ($($kind:ty),*) => {
            $(if let Ok(array) = image.extract::<PyReadonlyArray2<'py, $kind>>() {
                return warp_into(py, &array, &warp, out.extract()?, valid);
            })*
        };
    }
    of_type!(u8, i8, u16, i16, u32, i32, f32, f64);
    Err(InputError::new_err("image: its type is not known to the core; give float64"))
}

fn warp_into<'py, T: Sample + Element>(
    py: Python<'py>,
    image: &PyReadonlyArray2<'py, T>,
    warp: &Warp,
    mut out: PyReadwriteArray2<'py, T>,
    valid: &mut [bool],
) -> PyResult<()> {
    let [size, source_size] =
        [out.as_array().dim(), image.as_array().dim()].map(|(rows, columns)| [columns, rows]);
    let source = image.as_slice().map_err(|_| not_contiguous("image"))?;
    let out = out.as_slice_mut().map_err(|_| not_contiguous("out"))?;
    parallel::detach(py, || warp.apply_into(source, source_size, size, out, valid)).map_err(to_python)
}

fn not_contiguous(name: &str) -> PyErr {
    InputError::new_err(format!("{name}: not C-contiguous; use numpy.ascontiguousarray"))
}

/// Fits the transform with which most pairs of points agree; returns its parts by name.
#[pyfunction]
pub(crate) fn fit_transform<'py>(
    py: Python<'py>,
    moved: PyReadonlyArray2<'py, f64>,
    reference: PyReadonlyArray2<'py, f64>,
    kind: &str,
    tolerance: f64,
    covariance: Option<PyReadonlyArray2<'py, f64>>,
    area: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let covariance = covariance.as_ref().map(|c| rows("covariance", c)).transpose()?;
    let options = FitOptions { kind: Kind::from_name(kind).map_err(to_python)?, tolerance, covariance, area };
    let (moved, reference) = (rows("moved_points", &moved)?, rows("ref_points", &reference)?);
    let found = parallel::detach(py, || fit(moved, reference, &options)).map_err(to_python)?;
    fit_parts(py, &found)
}

/// Transforms that may be the movement, with the heights of their peaks in standard deviations.
#[pyfunction]
pub(crate) fn correlate_phase(
    py: Python<'_>,
    reference: PyReadonlyArray2<'_, f32>,
    moved: PyReadonlyArray2<'_, f32>,
    turned: bool,
) -> PyResult<Vec<([[f64; 3]; 3], f64)>> {
    let (reference, moved) = (plane(&reference)?, plane(&moved)?);
    let found = parallel::detach(py, || phase_candidates(&reference, &moved, turned));
    Ok(found.into_iter().map(|c| (c.transform.0, c.significance)).collect())
}

/// Two images, prepared for the refinement of coarse transforms between them.
#[pyclass(name = "Registrar", module = "boresight._core", frozen)]
pub(crate) struct PyRegistrar {
    inner: Registrar,
}

#[pymethods]
impl PyRegistrar {
    #[new]
    fn new(reference: PyReadonlyArray2<'_, f32>, moved: PyReadonlyArray2<'_, f32>) -> PyResult<Self> {
        let (reference, moved) = (plane(&reference)?, plane(&moved)?);
        Ok(Self { inner: Registrar::new(reference, moved) })
    }

    /// Refines a coarse transform by patches of both images; returns its parts by name.
    fn register<'py>(
        &self,
        py: Python<'py>,
        start: [[f64; 3]; 3],
        kind: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let kind = Kind::from_name(kind).map_err(to_python)?;
        let found =
            parallel::detach(py, || self.inner.register(&Transform(start), kind)).map_err(to_python)?;
        let parts = fit_parts(py, &found.fit)?;
        parts.set_item("ref_points", from_rows(py, &found.reference)?)?;
        parts.set_item("moved_points", from_rows(py, &found.moved)?)?;
        parts.set_item("expected", found.expected)?;
        Ok(parts)
    }
}

fn plane(image: &PyReadonlyArray2<'_, f32>) -> PyResult<Plane> {
    let (height, width) = image.as_array().dim();
    let pixels = image.as_slice().map_err(|_| not_contiguous("image"))?;
    Plane::new(pixels, [width, height]).map_err(to_python)
}

fn fit_parts<'py>(py: Python<'py>, fit: &Fit) -> PyResult<Bound<'py, PyDict>> {
    let parts = PyDict::new(py);
    parts.set_item("matrix", from_rows(py, &fit.transform.0)?)?;
    parts.set_item("inliers", PyArray1::from_slice(py, &fit.inliers))?;
    parts.set_item("rms", fit.rms)?;
    parts.set_item("noise", fit.noise)?;
    parts.set_item("covariance", from_rows(py, &fit.covariance)?)?;
    parts.set_item("log_chance", fit.log_chance)?;
    Ok(parts)
}

/// Fits the change of a camera to the positions of its stars; returns its parts by name.
///
/// Each star is a row: its direction in the axes of the unmoved camera, its pixel, and the uncertainty of the
/// pixel or NaN.
#[pyfunction]
#[pyo3(name = "fit_change")]
pub(crate) fn fit_camera_change<'py>(
    py: Python<'py>,
    camera: &PyCameraModel,
    directions: PyReadonlyArray2<'py, f64>,
    positions: PyReadonlyArray2<'py, f64>,
    sigma: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyDict>> {
    let stars = stars(&directions, &positions, &sigma)?;
    let change = parallel::detach(py, || fit_change(&camera.inner, &stars)).map_err(to_python)?;
    let parts = PyDict::new(py);
    parts.set_item("values", PyArray1::from_slice(py, &change.values))?;
    parts.set_item("information", from_rows(py, &change.information)?)?;
    parts.set_item("used", PyArray1::from_slice(py, &change.used))?;
    parts.set_item("rms_px", change.rms_px)?;
    parts.set_item("freedom", change.freedom)?;
    Ok(parts)
}

/// Scatter per axis of held-out stars about the fit of a change to the other stars.
#[pyfunction]
pub(crate) fn held_out_change_px(
    py: Python<'_>,
    camera: &PyCameraModel,
    directions: PyReadonlyArray2<'_, f64>,
    positions: PyReadonlyArray2<'_, f64>,
    sigma: PyReadonlyArray1<'_, f64>,
) -> PyResult<f64> {
    let stars = stars(&directions, &positions, &sigma)?;
    parallel::detach(py, || held_out_px(&camera.inner, &stars)).map_err(to_python)
}

/// Pixels at which a changed camera sees directions given in the axes of the unmoved camera.
#[pyfunction]
pub(crate) fn changed_pixels<'py>(
    py: Python<'py>,
    camera: &PyCameraModel,
    directions: PyReadonlyArray2<'py, f64>,
    values: [f64; PARAMETERS],
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    map_rows(py, "directions", &directions, |direction: [f64; 3]| {
        predicted(&camera.inner, &direction.into(), &values).unwrap_or(NOWHERE)
    })
}

fn stars(
    directions: &PyReadonlyArray2<'_, f64>,
    positions: &PyReadonlyArray2<'_, f64>,
    sigma: &PyReadonlyArray1<'_, f64>,
) -> PyResult<Vec<MatchedStar>> {
    let (directions, pixels) = (rows::<f64, 3>("directions", directions)?, rows("positions", positions)?);
    let sigma = sigma.as_slice().map_err(|_| not_contiguous("sigma"))?;
    let seen =
        |((&direction, &pixel), &sigma)| MatchedStar { direction: Direction::from(direction), pixel, sigma };
    if directions.len() != pixels.len() || pixels.len() != sigma.len() {
        return Err(InputError::new_err(
            "positions, sigma: their numbers differ from that of the directions; give one for each star",
        ));
    }
    Ok(directions.iter().zip(pixels).zip(sigma).map(seen).collect())
}
