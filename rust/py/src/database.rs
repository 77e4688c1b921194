//! The pattern database across the border, and its file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boresight::Database;
use boresight::database::Parameters;
use boresight::geometry::sphere::{Direction, direction, ra_dec};
use memmap2::Mmap;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::catalog::PyCatalog;
use crate::errors::to_python;
use crate::monitor;

/// Columns of some stars of a database.
#[pyclass(name = "DatabaseStars", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyDatabaseStars {
    ids: Py<PyArray1<i64>>,
    ra: Py<PyArray1<f64>>,
    dec: Py<PyArray1<f64>>,
    magnitude: Py<PyArray1<f32>>,
}

/// How large a database would be.
#[pyclass(name = "SizeEstimate", module = "boresight._core", frozen, get_all)]
#[allow(clippy::struct_field_names)] // The names that Python has.
pub(crate) struct PySizeEstimate {
    num_stars: usize,
    num_patterns: usize,
    num_bytes: usize,
}

/// Parameters of generation, as a mapping.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ParameterValues {
    max_fov: f64,
    min_fov: Option<f64>,
    star_max_magnitude: Option<f32>,
    pattern_max_error: f32,
    lattice_field_oversampling: u32,
    patterns_per_lattice_field: u32,
    verification_stars_per_fov: u32,
    multiscale_step: f64,
    epoch: Option<f64>,
}

impl From<ParameterValues> for Parameters {
    fn from(values: ParameterValues) -> Self {
        Self {
            max_fov: values.max_fov,
            min_fov: values.min_fov,
            star_max_magnitude: values.star_max_magnitude,
            pattern_max_error: values.pattern_max_error,
            lattice_field_oversampling: values.lattice_field_oversampling,
            patterns_per_lattice_field: values.patterns_per_lattice_field,
            verification_stars_per_fov: values.verification_stars_per_fov,
            multiscale_step: values.multiscale_step,
            epoch: values.epoch,
        }
    }
}

/// A pattern database (core `Database`).
#[pyclass(frozen, name = "Database", module = "boresight._core")]
pub(crate) struct PyDatabase(pub(crate) Arc<Database>);

#[pymethods]
impl PyDatabase {
    #[staticmethod]
    #[pyo3(signature = (stars, parameters, progress))]
    fn generate(
        py: Python<'_>,
        stars: &PyCatalog,
        parameters: ParameterValues,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let parameters = parameters.into();
        let database =
            monitor::run(py, progress, |monitor| Database::generate(&stars.0, &parameters, monitor))?;
        Ok(Self(Arc::new(database)))
    }

    /// Stars, patterns and bytes of the database that these parameters would give.
    #[staticmethod]
    fn estimate_size(
        py: Python<'_>,
        stars: &PyCatalog,
        parameters: ParameterValues,
    ) -> PyResult<PySizeEstimate> {
        let parameters = parameters.into();
        let size = monitor::run(py, None, |monitor| Database::estimate_size(&stars.0, &parameters, monitor))?;
        Ok(PySizeEstimate { num_stars: size.stars, num_patterns: size.patterns, num_bytes: size.bytes })
    }

    /// Maps a file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let bytes = py.detach(|| map(&path)).map_err(|error| os_error(&error, &path))?;
        Self::from_shared(bytes)
    }

    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        Self::from_shared(Arc::new(data.to_vec()))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.as_bytes())
    }

    /// Writes a file whole or not at all.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| write_atomically(&path, self.0.as_bytes())).map_err(|error| os_error(&error, &path))
    }

    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.verify()).map_err(to_python)
    }

    #[getter]
    fn num_stars(&self) -> usize {
        self.0.num_stars()
    }

    #[getter]
    fn num_patterns(&self) -> usize {
        self.0.num_patterns()
    }

    #[getter]
    fn num_bytes(&self) -> usize {
        self.0.as_bytes().len()
    }

    #[getter]
    fn checksum(&self) -> u32 {
        self.0.checksum()
    }

    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parameters = self.0.parameters();
        let dict = PyDict::new(py);
        dict.set_item("max_fov", parameters.max_fov)?;
        dict.set_item("min_fov", parameters.min_fov)?;
        dict.set_item("star_max_magnitude", parameters.star_max_magnitude)?;
        dict.set_item("pattern_max_error", parameters.pattern_max_error)?;
        dict.set_item("lattice_field_oversampling", parameters.lattice_field_oversampling)?;
        dict.set_item("patterns_per_lattice_field", parameters.patterns_per_lattice_field)?;
        dict.set_item("verification_stars_per_fov", parameters.verification_stars_per_fov)?;
        dict.set_item("multiscale_step", parameters.multiscale_step)?;
        dict.set_item("epoch", parameters.epoch)?;
        Ok(dict)
    }

    /// Rows of identifiers, -1 where there is none.
    fn rows_of_ids<'py>(&self, py: Python<'py>, ids: PyReadonlyArray1<'_, i64>) -> Bound<'py, PyArray1<i64>> {
        let find = |id| self.0.star_of_id(id).map_or(-1, |star| star as i64);
        PyArray1::from_iter(py, ids.as_array().iter().map(|id| find(*id)))
    }

    /// Rows of the stars within a cone, brightest first.
    fn cone<'py>(&self, py: Python<'py>, ra: f64, dec: f64, radius: f64) -> Bound<'py, PyArray1<i64>> {
        let mut stars = Vec::new();
        self.0.cone(&direction(ra, dec), radius, &mut stars);
        PyArray1::from_iter(py, stars.into_iter().map(i64::from))
    }

    /// Columns of the stars of rows; those out of range are left out.
    fn stars(&self, py: Python<'_>, rows: PyReadonlyArray1<'_, i64>) -> PyDatabaseStars {
        let database = &self.0;
        let (mut ids, mut ra, mut dec, mut magnitude) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows.as_array() {
            let row = usize::try_from(*row).unwrap_or(usize::MAX);
            let star =
                (database.ids().get(row), database.directions().get(row), database.magnitudes().get(row));
            if let (Some(id), Some(v), Some(m)) = star {
                let angles = ra_dec(&Direction::from(*v));
                ids.push(*id);
                ra.push(angles.0);
                dec.push(angles.1);
                magnitude.push(*m);
            }
        }
        PyDatabaseStars {
            ids: PyArray1::from_vec(py, ids).unbind(),
            ra: PyArray1::from_vec(py, ra).unbind(),
            dec: PyArray1::from_vec(py, dec).unbind(),
            magnitude: PyArray1::from_vec(py, magnitude).unbind(),
        }
    }
}

impl PyDatabase {
    fn from_shared(bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> PyResult<Self> {
        Ok(Self(Arc::new(Database::from_bytes(bytes).map_err(to_python)?)))
    }
}

fn map(path: &Path) -> io::Result<Arc<dyn AsRef<[u8]> + Send + Sync>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.len() == 0 {
        return Ok(Arc::new(Vec::new()));
    }
    // SAFETY: Rust requires that the bytes of a map do not change. Database files are only ever replaced by
    // renaming, which leaves the mapped file as it is. Should a user overwrite one in place while it is open, they
    // get wrong stars, as from any damaged file: every index read from it is checked before use. (One cut short in
    // place ends the process with a bus error, as it does any program that maps files.)
    let map = unsafe { Mmap::map(&file)? };
    Ok(Arc::new(map))
}

/// Files written so far by this process, so that no two threads use the same temporary file.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes to a temporary file beside the target, brings it to the disk and renames it.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let serial = WRITES.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{serial}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let mut file = File::create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let outcome = written.and_then(|()| fs::rename(&temporary, path));
    if outcome.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// The `OSError` of the right class (`FileNotFoundError`, `IsADirectoryError`, ...) that names the file.
fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let code = match error.kind() {
        io::ErrorKind::IsADirectory => Some(21),
        io::ErrorKind::InvalidInput => Some(22),
        _ => None,
    };
    match error.raw_os_error().or(code) {
        Some(code) => {
            let text = error.to_string();
            PyOSError::new_err((code, text, path.display().to_string()))
        }
        None => PyOSError::new_err(format!("{error}: {}", path.display())),
    }
}
