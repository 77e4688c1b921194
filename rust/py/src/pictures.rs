//! Decompresses pictures that Pillow would reduce to 8 bits: PNG with 16-bit colour, and the packed samples
//! of TIFF.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use numpy::PyReadwriteArray1;
use png::DecodingError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use weezl::{BitOrder, LzwStatus};

/// Number of bytes unpacked at a time, so that memory grows with the actual data, not with the size that a
/// header claims.
const CHUNK: usize = 1 << 16;

/// A binary Python file. The decoder passes on exceptions that the file raises, such as a time-out.
struct PyFile(Py<PyAny>);

impl Read for PyFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let read = self.0.call_method1(py, "read", (out.len(),))?;
            let bytes = read.bind(py).cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
            let count = bytes.len().min(out.len());
            out[..count].copy_from_slice(&bytes[..count]);
            Ok(count)
        })
    }
}

impl Seek for PyFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (offset, whence) = match to {
            SeekFrom::Start(offset) => (i64::try_from(offset).map_err(io::Error::other)?, 0),
            SeekFrom::Current(offset) => (offset, 1),
            SeekFrom::End(offset) => (offset, 2),
        };
        Python::attach(|py| Ok(self.0.call_method1(py, "seek", (offset, whence))?.extract(py)?))
    }
}

/// Decodes a PNG picture into `out`: rows of samples; samples of 16 bits are big-endian.
#[pyfunction]
pub(crate) fn read_png(py: Python<'_>, file: Py<PyAny>, mut out: PyReadwriteArray1<'_, u8>) -> PyResult<()> {
    let out = out.as_slice_mut()?;
    py.detach(|| {
        let file = BufReader::with_capacity(CHUNK, PyFile(file));
        let limits = png::Limits { bytes: usize::MAX };
        let mut reader = png::Decoder::new_with_limits(file, limits).read_info().map_err(undecoded)?;
        if reader.output_buffer_size() != Some(out.len()) {
            return Err(invalid("its header contradicts itself"));
        }
        reader.next_frame(out).map_err(undecoded)?;
        Ok(())
    })
}

/// Unpacks at most `size` bytes of LZW data from TIFF; fewer if the data end or are damaged. Calls `each`
/// between pieces.
#[pyfunction]
pub(crate) fn unpack_lzw<'py>(
    py: Python<'py>,
    data: &[u8],
    size: usize,
    each: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut unpacked, mut rest) = (Vec::new(), data);
    while unpacked.len() < size {
        each.call0()?;
        let done = unpacked.len();
        let step = py.detach(|| {
            unpacked.resize(size.min(done + CHUNK), 0);
            decoder.decode_bytes(rest, &mut unpacked[done..])
        });
        unpacked.truncate(done + step.consumed_out);
        rest = &rest[step.consumed_in..];
        if !matches!(step.status, Ok(LzwStatus::Ok)) {
            break;
        }
    }
    Ok(PyBytes::new(py, &unpacked))
}

/// Unpacks at most `size` bytes of `PackBits` data; fewer if the data end.
#[pyfunction]
pub(crate) fn unpack_bits<'py>(py: Python<'py>, data: &[u8], size: usize) -> Bound<'py, PyBytes> {
    let mut unpacked = Vec::new();
    let mut rest = data;
    while let [head, tail @ ..] = rest
        && unpacked.len() < size
    {
        rest = tail;
        // A count from 0 gives the number of bytes that follow, a negative count gives the repetitions of one
        // byte.
        if let Ok(count) = usize::try_from(*head as i8) {
            let (literal, after) = rest.split_at((count + 1).min(rest.len()));
            unpacked.extend_from_slice(literal);
            rest = after;
        } else if *head != 128
            && let [value, after @ ..] = rest
        {
            unpacked.resize(unpacked.len() + 257 - usize::from(*head), *value);
            rest = after;
        }
    }
    unpacked.truncate(size);
    PyBytes::new(py, &unpacked)
}

/// The error that the file raised, or an error that describes the fault in its content.
fn undecoded(error: DecodingError) -> PyErr {
    match error {
        DecodingError::IoError(error) => error.into(),
        error => invalid(error),
    }
}

fn invalid(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}
