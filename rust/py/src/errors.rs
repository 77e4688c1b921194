//! Converts core errors to the exceptions of `boresight.errors`.

use boresight::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError};
use pyo3::import_exception;

import_exception!(boresight.errors, InputError);
import_exception!(boresight.errors, FileFormatError);
import_exception!(boresight.errors, TimeLimitError);
import_exception!(boresight.errors, UndeterminedError);

/// The Python exception of a core error.
pub(crate) fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Argument { .. } => InputError::new_err(message),
        Error::Format(_) => FileFormatError::new_err(message),
        Error::Memory(_) => PyMemoryError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => UndeterminedError::new_err(message),
    }
}
