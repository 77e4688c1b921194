//! Fits cameras to the pixels of points with known positions.

use boresight::Attitude;
use boresight::calibrate::point_pairs::{Freedom, Resection};
use numpy::PyReadonlyArray2;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{from_rows, rows};
use crate::camera::PyCameraModel;
use crate::errors::to_python;
use crate::parallel;

/// Fits a camera to pixels of points; returns its parts by name.
///
/// `rotation` and `position` are initial values; without them, they are computed directly. Directions have no
/// `position`. `free` names the other parameters that are fitted.
#[pyfunction]
pub(crate) fn fit_point_pairs<'py>(
    py: Python<'py>,
    pixels: PyReadonlyArray2<'py, f64>,
    points: PyReadonlyArray2<'py, f64>,
    directions: bool,
    image_size: [u32; 2],
    camera: Option<&PyCameraModel>,
    rotation: Option<[[f64; 3]; 3]>,
    position: Option<[f64; 3]>,
    free: Vec<String>,
) -> PyResult<Bound<'py, PyDict>> {
    let (pixels, points) = (rows("image_points", &pixels)?, rows("object_points", &points)?);
    let has = |name: &str| free.iter().any(|free| free == name);
    let free =
        Freedom { focal_length: has("focal_length"), center: has("center"), radial: [has("k1"), has("k2")] };
    let camera = camera.map(|camera| camera.inner.clone());
    let found = parallel::detach(py, || {
        let start = match (camera, rotation) {
            (Some(camera), Some(rotation)) => {
                let attitude = Attitude::from_matrix(rotation)?;
                Resection { camera, attitude, position: position.map(Into::into) }
            }
            (camera, _) => Resection::direct(pixels, points, directions, image_size, camera)?,
        };
        start.fit(pixels, points, free)
    })
    .map_err(to_python)?;
    let parts = PyDict::new(py);
    parts.set_item("camera", PyCameraModel { inner: found.camera })?;
    parts.set_item("rotation", from_rows(py, &found.attitude.matrix())?)?;
    parts.set_item("position", found.position.map(<[f64; 3]>::from))?;
    Ok(parts)
}
