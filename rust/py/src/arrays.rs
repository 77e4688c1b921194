//! Conversion of arrays between Python and Rust. The Python side prepares the arrays; here they are only
//! read.

use bytemuck::Pod;
use nalgebra::DMatrix;
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors::InputError;

/// Result for a pixel or direction without counterpart.
pub(crate) const NOWHERE: [f64; 2] = [f64::NAN; 2];

/// The rows of a C-contiguous (n, N) array, without a copy.
pub(crate) fn rows<'a, T: Element + Pod, const N: usize>(
    name: &str,
    array: &'a PyReadonlyArray2<'_, T>,
) -> PyResult<&'a [[T; N]]>
where
    [T; N]: Pod,
{
    let shape = array.as_array().dim();
    if shape.1 != N {
        return Err(InputError::new_err(format!(
            "{name}: its shape is {shape:?}; give an array of shape (n, {N})"
        )));
    }
    // `as_slice` also accepts Fortran-contiguous arrays.
    let flat = array.as_slice().ok().filter(|_| array.is_c_contiguous()).ok_or_else(|| {
        InputError::new_err(format!("{name}: not C-contiguous; use numpy.ascontiguousarray"))
    })?;
    Ok(bytemuck::cast_slice(flat))
}

/// A new (n, N) array of rows.
pub(crate) fn from_rows<'py, T: Element + Pod, const N: usize>(
    py: Python<'py>,
    rows: &[[T; N]],
) -> PyResult<Bound<'py, PyArray2<T>>>
where
    [T; N]: Pod,
{
    PyArray1::from_slice(py, bytemuck::cast_slice(rows)).reshape([rows.len(), N])
}

/// A new array with the elements of a matrix.
pub(crate) fn from_matrix<'py>(
    py: Python<'py>,
    matrix: &DMatrix<f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let by_rows = matrix.transpose();
    PyArray1::from_slice(py, by_rows.as_slice()).reshape([matrix.nrows(), matrix.ncols()])
}

/// Applies `f` to every row of a C-contiguous (n, N) array, without the GIL; returns a new (n, M) array.
pub(crate) fn map_rows<'py, const N: usize, const M: usize>(
    py: Python<'py>,
    name: &str,
    array: &PyReadonlyArray2<'py, f64>,
    f: impl Fn([f64; N]) -> [f64; M] + Sync,
) -> PyResult<Bound<'py, PyArray2<f64>>>
where
    [f64; N]: Pod,
    [f64; M]: Pod,
{
    let rows = rows(name, array)?;
    let mapped: Vec<[f64; M]> = py.detach(|| rows.iter().map(|&row| f(row)).collect());
    from_rows(py, &mapped)
}
