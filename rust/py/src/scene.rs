//! `boresight.scene` across the border.

use boresight::lsq::Loss;
use boresight::scene::freedom::{Affine, Freedom};
use boresight::scene::register::{self, Picture, RegisterOptions};
use boresight::{Error, Result};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;
use crate::monitor::run;

/// The loss of this name, as scipy names them.
pub(crate) fn loss_of(name: &str) -> Result<Loss> {
    Ok(match name {
        "linear" => Loss::Squares,
        "huber" => Loss::Huber,
        "cauchy" => Loss::Cauchy,
        "geman_mcclure" => Loss::GemanMcClure,
        other => {
            return Err(Error::argument(
                "loss",
                format!("{other:?} is unknown"),
                "give 'linear', 'huber', 'cauchy' or 'geman_mcclure'",
            ));
        }
    })
}

/// Rows of a C-contiguous array.
pub(crate) fn flat(array: &PyReadonlyArray2<'_, f64>) -> Vec<f64> {
    array.as_array().iter().copied().collect()
}

/// A square matrix as an array.
pub(crate) fn matrix(
    py: Python<'_>,
    n: usize,
    element: impl Fn(usize, usize) -> f64,
) -> PyResult<Bound<'_, PyArray2<f64>>> {
    PyArray1::from_iter(py, (0..n * n).map(|k| element(k / n, k % n))).reshape([n, n])
}

fn picture(pixels: &PyReadonlyArray2<'_, f64>, variance: Option<&PyReadonlyArray2<'_, f64>>) -> Picture {
    let (height, width) = pixels.as_array().dim();
    Picture { pixels: flat(pixels), size: [width, height], variance: variance.map(flat) }
}

/// Aligns two images by their pixels; `start` has the rows (a, b, x) and (c, d, y).
#[pyfunction]
#[pyo3(signature = (image, reference, image_variance, reference_variance, start, *, freedom, loss, match_psf, search, max_iterations, progress))]
pub(crate) fn scene_register<'py>(
    py: Python<'py>,
    image: PyReadonlyArray2<'py, f64>,
    reference: PyReadonlyArray2<'py, f64>,
    image_variance: Option<PyReadonlyArray2<'py, f64>>,
    reference_variance: Option<PyReadonlyArray2<'py, f64>>,
    start: [[f64; 3]; 2],
    freedom: &str,
    loss: &str,
    match_psf: bool,
    search: bool,
    max_iterations: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let [[a, b, x], [c, d, y]] = start;
    let options = RegisterOptions {
        freedom: Freedom::from_name(freedom).map_err(to_python)?,
        loss: loss_of(loss).map_err(to_python)?,
        match_psf,
        search,
        max_iterations,
        start: Affine { matrix: [[a, b], [c, d]], shift: [x, y] },
    };
    let image = picture(&image, image_variance.as_ref());
    let reference = picture(&reference, reference_variance.as_ref());
    let found = run(py, progress, |monitor| register::register(&image, &reference, &options, monitor))?;
    let result = PyDict::new(py);
    let Affine { matrix: [[a, b], [c, d]], shift: [x, y] } = found.transform;
    result.set_item("transform", [[a, b, x], [c, d, y]])?;
    let n = found.parameters.len();
    result.set_item("covariance", matrix(py, n, |i, j| found.covariance[(i, j)])?)?;
    result.set_item("parameters", found.parameters)?;
    result.set_item("gain", found.gain)?;
    result.set_item("gain_error", found.gain_error)?;
    result.set_item("offset", found.offset)?;
    result.set_item("blur", found.blur)?;
    result.set_item("chi2_dof", found.chi2_dof)?;
    result.set_item("pixels", found.pixels)?;
    result.set_item("iterations", found.iterations)?;
    result.set_item("converged", found.converged)?;
    result.set_item("agrees", found.agrees)?;
    Ok(result)
}
