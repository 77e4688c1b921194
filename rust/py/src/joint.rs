//! Python bindings of the joint fit of all exposures.

use boresight::align::closure::closures;
use boresight::align::device::{Device, Place, Product, Term};
use boresight::align::objects::{Epoch, Motion, Motions};
use boresight::align::{Detection, JointProblem};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::align::column;
use crate::arrays::{from_rows, rows};
use crate::errors::InputError;
use crate::monitor::run;
use crate::register::{geometry_of, unknown};

/// Detections in the format of the core, reused by fits with different weights: they are many, and new memory
/// takes long.
#[pyclass(name = "JointDetections", module = "boresight._core")]
pub(crate) struct PyJointDetections(Vec<Detection>);

#[pymethods]
impl PyJointDetections {
    #[new]
    fn new(
        exposure: PyReadonlyArray1<'_, u32>,
        at: PyReadonlyArray2<'_, f64>,
        expected: PyReadonlyArray2<'_, f64>,
        jacobian: PyReadonlyArray2<'_, f64>,
    ) -> PyResult<Self> {
        let exposures = column("exposure", &exposure)?;
        let (at, expected) = (rows("at", &at)?, rows("expected", &expected)?);
        let jacobians: &[[f64; 4]] = rows("jacobian", &jacobian)?;
        let places = exposures.iter().zip(at).zip(expected).zip(jacobians);
        let detection = |(((&exposure, &at), &expected), j): (((_, _), _), &[f64; 4])| Detection {
            exposure,
            at,
            expected,
            jacobian: [[j[0], j[1]], [j[2], j[3]]],
            weight: 0.0,
        };
        Ok(Self(places.map(detection).collect()))
    }
}

/// Detections and objects, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct JointValues<'py> {
    detections: PyRefMut<'py, PyJointDetections>,
    weight: PyReadonlyArray1<'py, f64>,
    starts: PyReadonlyArray1<'py, u64>,
    priors: PyReadonlyArray1<'py, f64>,
    frozen: Vec<bool>,
    places: PyReadonlyArray2<'py, f64>,
    geometry: String,
    lever: f64,
    device: DeviceValues<'py>,
    motion: String,
    years: PyReadonlyArray1<'py, f64>,
    parallax_factors: PyReadonlyArray2<'py, f64>,
    colors: PyReadonlyArray1<'py, f64>,
    covariances: bool,
}

impl JointValues<'_> {
    fn motion(&self) -> PyResult<Motion> {
        match self.motion.as_str() {
            "still" => Ok(Motion::Still),
            "proper" => Ok(Motion::Proper),
            "parallax" => Ok(Motion::Parallax),
            other => Err(unknown("motion", other)),
        }
    }

    fn epochs(&self) -> PyResult<Vec<Epoch>> {
        let factors: &[[f64; 2]] = rows("parallax_factors", &self.parallax_factors)?;
        let years = self.years.as_array();
        Ok(years.iter().zip(factors).map(|(&years, &parallax)| Epoch { years, parallax }).collect())
    }
}

/// Product of powers: degrees in x and y, and factor.
type Values = (usize, usize, f64);

/// Terms of the device, places on it, own terms of exposures, and which exposures have own terms, as a
/// mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct DeviceValues<'py> {
    terms: Vec<TermValues>,
    detector: PyReadonlyArray1<'py, u32>,
    at: PyReadonlyArray2<'py, f64>,
    gradient: PyReadonlyArray2<'py, f64>,
    own: Vec<TermValues>,
    has_own_terms: Vec<bool>,
    own_prior: f64,
}

/// Term: the detector, and the degrees and factor for each axis.
type TermValues = (u32, [Values; 2]);

fn terms_of(values: &[TermValues]) -> Vec<Term> {
    let product = |&(i, j, factor): &Values| Product { degrees: [i, j], factor };
    let term = |(detector, axes): &TermValues| Term {
        detector: *detector,
        x: product(&axes[0]),
        y: product(&axes[1]),
    };
    values.iter().map(term).collect()
}

impl DeviceValues<'_> {
    fn places(&self) -> PyResult<Vec<Place>> {
        let at: &[[f64; 2]] = rows("at", &self.at)?;
        let gradients: &[[f64; 4]] = rows("gradient", &self.gradient)?;
        let place = |((&detector, &at), g): ((&u32, &[f64; 2]), &[f64; 4])| Place {
            detector,
            at,
            gradient: [[g[0], g[1]], [g[2], g[3]]],
        };
        Ok(self.detector.as_array().iter().zip(at).zip(gradients).map(place).collect())
    }
}

/// Solves for the maps of all exposures, their shared parameters, and the positions of all objects. Returns
/// by name the matrices and shifts, the parameters of the device and of the objects, the covariances of shift
/// and matrix, the residuals, and the exposures and terms that are not determined.
#[pyfunction]
pub(crate) fn solve_joint<'py>(
    py: Python<'py>,
    mut values: JointValues<'py>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let weights = column("weights", &values.weight)?;
    if weights.len() != values.detections.0.len() {
        return Err(InputError::new_err("weights: not one for each detection; give as many"));
    }
    values.detections.0.iter_mut().zip(weights).for_each(|(d, &weight)| d.weight = weight);
    let detections = &values.detections.0[..];
    let starts: Vec<usize> = values.starts.as_array().iter().map(|&s| s as usize).collect();
    let geometry = geometry_of(&values.geometry)?;
    let (priors, frozen, lever) = (column("priors", &values.priors)?, &values.frozen, values.lever);
    let places = rows("places", &values.places)?;
    let (terms, on_device) = (terms_of(&values.device.terms), values.device.places()?);
    let (own, has_own_terms) = (terms_of(&values.device.own), &values.device.has_own_terms);
    let own_prior = values.device.own_prior;
    let (motion, epochs) = (values.motion()?, values.epochs()?);
    let motions = Motions { motion, epochs: &epochs };
    let colors = column("colors", &values.colors)?;
    let with_covariances = values.covariances;
    let found = run(py, progress, |monitor| {
        let device = Device { terms: &terms, places: &on_device, own: &own, has_own_terms, own_prior };
        let starts = &starts;
        JointProblem {
            detections,
            starts,
            priors,
            frozen,
            places,
            geometry,
            lever,
            device,
            motions,
            colors,
            with_covariances,
        }
        .solve(monitor)
    })?;
    let matrices: Vec<f64> = found.maps.iter().flat_map(|(m, _)| m.concat()).collect();
    let shifts: Vec<[f64; 2]> = found.maps.iter().map(|map| map.1).collect();
    let result = PyDict::new(py);
    result.set_item("matrices", PyArray1::from_vec(py, matrices).reshape([shifts.len(), 2, 2])?)?;
    result.set_item("shifts", from_rows(py, &shifts)?)?;
    result.set_item("device", found.device)?;
    result.set_item("chromatic", from_rows(py, &found.chromatic)?)?;
    for (name, values) in [("objects", found.objects), ("variances", found.variances)] {
        let shape = [values.len() / motion.parameters(), motion.parameters()];
        result.set_item(name, PyArray1::from_vec(py, values).reshape(shape)?)?;
    }
    let covariances: Vec<f64> = found.covariances.iter().flat_map(|m| m.iter().copied()).collect();
    let side = 6 + own.len();
    let covariances = PyArray1::from_vec(py, covariances).reshape([found.covariances.len(), side, side])?;
    let own_terms = PyArray1::from_vec(py, found.own.concat()).reshape([found.own.len(), own.len()])?;
    result.set_item("own_terms", own_terms)?;
    result.set_item("covariances", covariances)?;
    let residuals =
        PyArray1::from_vec(py, found.residuals.into_flattened()).reshape([detections.len(), 2])?;
    result.set_item("residuals", residuals)?;
    result.set_item("share", PyArray1::from_vec(py, found.freedom))?;
    result.set_item("undetermined", found.undetermined)?;
    result.set_item("undetermined_terms", found.undetermined_terms)?;
    Ok(result)
}

/// Remaining differences between each two images: the numbers of the images, the number of their objects, the
/// mean difference and its error.
#[pyfunction]
pub(crate) fn closure_of<'py>(
    py: Python<'py>,
    images: usize,
    exposures: PyReadonlyArray1<'py, u32>,
    starts: PyReadonlyArray1<'py, u64>,
    residuals: PyReadonlyArray2<'py, f64>,
    kept: PyReadonlyArray1<'py, bool>,
) -> PyResult<Bound<'py, PyTuple>> {
    let starts: Vec<usize> = starts.as_array().iter().map(|&s| s as usize).collect();
    let (exposures, kept) = (column("exposures", &exposures)?, column("kept", &kept)?);
    let residuals = rows("residuals", &residuals)?;
    let found = run(py, None, |_| closures(images, exposures, &starts, residuals, kept))?;
    let pairs: Vec<[u64; 2]> = found.iter().map(|c| c.images.map(|e| e as u64)).collect();
    let means: Vec<[f64; 2]> = found.iter().map(|c| c.mean).collect();
    let counts: Vec<i64> = found.iter().map(|c| c.objects as i64).collect();
    let errors: Vec<f64> = found.iter().map(|c| c.error).collect();
    let (pairs, means) = (from_rows(py, &pairs)?, from_rows(py, &means)?);
    (pairs, PyArray1::from_vec(py, counts), means, PyArray1::from_vec(py, errors)).into_pyobject(py)
}
