//! Python bindings of the pattern database and its file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boresight::Database;
use boresight::database::Parameters;
use boresight::geometry::sphere::{Direction, direction, ra_dec};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::catalog::PyCatalog;
use crate::errors::{FileFormatError, to_python};
use crate::files::{os_error, replace};
use crate::mapped::{MappedFile, State};
use crate::{monitor, parallel};

/// Columns of some stars of a database.
#[pyclass(name = "DatabaseStars", module = "boresight._core", frozen, get_all)]
pub(crate) struct PyDatabaseStars {
    ids: Py<PyArray1<i64>>,
    ra: Py<PyArray1<f64>>,
    dec: Py<PyArray1<f64>>,
    magnitude: Py<PyArray1<f32>>,
}

/// Estimated size of a database.
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

/// A pattern database (core `Database`), and the file it is read from.
#[pyclass(frozen, name = "Database", module = "boresight._core")]
pub(crate) struct PyDatabase {
    database: Database,
    file: Option<Arc<MappedFile>>,
}

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
        Ok(Self { database, file: None })
    }

    /// Numbers of stars, patterns and bytes of the database that these parameters would give.
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

    /// Opens a database file through a memory map.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let Some(file) = py.detach(|| map(&path)).map_err(|error| os_error(error, &path))? else {
            return Self::from_bytes(&[]);
        };
        let file = Arc::new(file);
        let database = Database::from_bytes(file.clone()).map_err(to_python)?;
        Ok(Self { database, file: Some(file) })
    }

    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let database = Database::from_bytes(Arc::new(data.to_vec())).map_err(to_python)?;
        Ok(Self { database, file: None })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.read(|database| PyBytes::new(py, database.as_bytes()))
    }

    /// Writes the database to a file, completely or not at all.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let bytes = self.read(Database::as_bytes)?;
        py.detach(|| replace(&path, |file| file.write_all(bytes))).map_err(|error| os_error(error, &path))?;
        self.check()
    }

    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        parallel::detach(py, || self.read(Database::verify))?.map_err(to_python)
    }

    #[getter]
    fn num_stars(&self) -> usize {
        self.database.num_stars()
    }

    #[getter]
    fn has_motions(&self) -> PyResult<bool> {
        self.read(|database| database.motions().is_some())
    }

    #[getter]
    fn num_patterns(&self) -> usize {
        self.database.num_patterns()
    }

    #[getter]
    fn num_bytes(&self) -> usize {
        self.database.as_bytes().len()
    }

    #[getter]
    fn checksum(&self) -> u32 {
        self.database.checksum()
    }

    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parameters = self.database.parameters();
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

    /// Rows of the stars with these identifiers, -1 where there is none.
    fn rows_of_ids<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.read(|database| {
            let find = |id| database.star_of_id(id).map_or(-1, |star| star as i64);
            PyArray1::from_iter(py, ids.as_array().iter().map(|id| find(*id)))
        })
    }

    /// Rows of the stars within a cone, brightest first.
    fn cone<'py>(
        &self,
        py: Python<'py>,
        ra: f64,
        dec: f64,
        radius: f64,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let mut stars = Vec::new();
        self.read(|database| database.cone(&direction(ra, dec), radius, &mut stars))?;
        Ok(PyArray1::from_iter(py, stars.into_iter().map(i64::from)))
    }

    /// Columns of the stars in these rows; rows out of range are excluded.
    fn stars(&self, py: Python<'_>, rows: PyReadonlyArray1<'_, i64>) -> PyResult<PyDatabaseStars> {
        self.check()?;
        let database = &self.database;
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
        self.check()?;
        Ok(PyDatabaseStars {
            ids: PyArray1::from_vec(py, ids).unbind(),
            ra: PyArray1::from_vec(py, ra).unbind(),
            dec: PyArray1::from_vec(py, dec).unbind(),
            magnitude: PyArray1::from_vec(py, magnitude).unbind(),
        })
    }
}

impl PyDatabase {
    /// Result of `work` on the database. Before and after the work, the file must be the one that was opened.
    pub(crate) fn read<'a, T>(&'a self, work: impl FnOnce(&'a Database) -> T) -> PyResult<T> {
        self.check()?;
        let outcome = work(&self.database);
        self.check()?;
        Ok(outcome)
    }

    fn check(&self) -> PyResult<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match file.state() {
            State::Intact => return Ok(()),
            State::Changed(modified) if self.database.verify().is_ok() => {
                file.accept(modified);
                return Ok(());
            }
            _ => {}
        }
        Err(FileFormatError::new_err(format!(
            "{}: cut short or overwritten while it was open; write it anew and load it again",
            file.path().display()
        )))
    }
}

/// Maps a file; `None` if it is empty.
fn map(path: &Path) -> io::Result<Option<MappedFile>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        // Opening a pipe would block.
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 { Ok(None) } else { MappedFile::new(file, path).map(Some) }
}
