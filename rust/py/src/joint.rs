//! The joint fit of all exposures across the border.

use boresight::align::{Detection, JointProblem};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::align::column;
use crate::arrays::{from_rows, rows};
use crate::monitor::run;
use crate::register::geometry_of;

/// Detections and objects, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct JointValues<'py> {
    exposure: PyReadonlyArray1<'py, u32>,
    at: PyReadonlyArray2<'py, f64>,
    expected: PyReadonlyArray2<'py, f64>,
    jacobian: PyReadonlyArray2<'py, f64>,
    weight: PyReadonlyArray1<'py, f64>,
    starts: PyReadonlyArray1<'py, u64>,
    priors: PyReadonlyArray1<'py, f64>,
    frozen: Vec<bool>,
    geometry: String,
    lever: f64,
}

/// Solves for the maps of all exposures and the positions of all objects: matrices, shifts, displacements, residuals,
/// exposures that are not determined, and variances of the shifts.
#[pyfunction]
pub(crate) fn solve_joint<'py>(
    py: Python<'py>,
    values: JointValues<'py>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (at, expected) = (rows("detections", &values.at)?, rows("detections", &values.expected)?);
    let jacobians: &[[f64; 4]] = rows("detections", &values.jacobian)?;
    let weights = column("weights", &values.weight)?;
    let exposures = values.exposure.as_array();
    let detections: Vec<Detection> = (0..at.len())
        .map(|i| Detection {
            exposure: exposures[i],
            at: at[i],
            expected: expected[i],
            jacobian: [[jacobians[i][0], jacobians[i][1]], [jacobians[i][2], jacobians[i][3]]],
            weight: weights[i],
        })
        .collect();
    let starts: Vec<usize> = values.starts.as_array().iter().map(|&s| s as usize).collect();
    let geometry = geometry_of(&values.geometry)?;
    let (priors, frozen, lever) = (column("priors", &values.priors)?, &values.frozen, values.lever);
    let found = run(py, progress, |monitor| {
        let problem =
            JointProblem { detections: &detections, starts: &starts, priors, frozen, geometry, lever };
        problem.solve(monitor)
    })?;
    let matrices: Vec<[f64; 4]> =
        found.maps.iter().map(|(m, _)| [m[0][0], m[0][1], m[1][0], m[1][1]]).collect();
    let shifts: Vec<[f64; 2]> = found.maps.iter().map(|map| map.1).collect();
    let all = (
        from_rows(py, &matrices)?,
        from_rows(py, &shifts)?,
        from_rows(py, &found.displacements)?,
        from_rows(py, &found.residuals)?,
        found.undetermined,
        found.shift_variances,
    );
    Ok(all.into_pyobject(py)?.into_any())
}
