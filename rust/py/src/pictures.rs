//! Decompression of pictures that Pillow would cut to 8 bits: PNG of 16-bit colour, and what TIFF's
//! samples are packed with.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::PathBuf;

use numpy::PyReadwriteArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use weezl::{BitOrder, LzwStatus};

/// Bytes that are unpacked at a time, so that memory grows with what the data hold, not with what
/// a header claims.
const CHUNK: usize = 1 << 16;

/// Where a picture is: its bytes, or the path of its file.
#[derive(FromPyObject)]
pub(crate) enum Source {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

trait ReadSeek: BufRead + Seek {}
impl<R: BufRead + Seek> ReadSeek for R {}

/// Decode a PNG picture into `out`: rows of samples, those of 16 bits big-endian.
#[pyfunction]
pub(crate) fn read_png(py: Python<'_>, source: Source, mut out: PyReadwriteArray1<'_, u8>) -> PyResult<()> {
    let out = out.as_slice_mut()?;
    py.detach(|| {
        let file: Box<dyn ReadSeek + '_> = match &source {
            Source::Bytes(bytes) => Box::new(Cursor::new(&bytes[..])),
            Source::Path(path) => Box::new(BufReader::new(File::open(path)?)),
        };
        let limits = png::Limits { bytes: usize::MAX };
        let mut reader = png::Decoder::new_with_limits(file, limits).read_info().map_err(invalid)?;
        if reader.output_buffer_size() != Some(out.len()) {
            return Err(invalid("its header contradicts itself"));
        }
        reader.next_frame(out).map_err(invalid)?;
        Ok(())
    })
}

/// Unpack at most `size` bytes of TIFF's LZW; fewer if the data end or are damaged.
#[pyfunction]
pub(crate) fn unpack_lzw<'py>(py: Python<'py>, data: &[u8], size: usize) -> Bound<'py, PyBytes> {
    let unpacked = py.detach(|| {
        let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
        let (mut unpacked, mut rest) = (Vec::new(), data);
        while unpacked.len() < size {
            let done = unpacked.len();
            unpacked.resize(size.min(done + CHUNK), 0);
            let step = decoder.decode_bytes(rest, &mut unpacked[done..]);
            unpacked.truncate(done + step.consumed_out);
            rest = &rest[step.consumed_in..];
            if !matches!(step.status, Ok(LzwStatus::Ok)) {
                break;
            }
        }
        unpacked
    });
    PyBytes::new(py, &unpacked)
}

/// Unpack at most `size` bytes of `PackBits`; fewer if the data end.
#[pyfunction]
pub(crate) fn unpack_bits<'py>(py: Python<'py>, data: &[u8], size: usize) -> Bound<'py, PyBytes> {
    let mut unpacked = Vec::new();
    let mut rest = data;
    while let [head, tail @ ..] = rest
        && unpacked.len() < size
    {
        rest = tail;
        // A count from 0 is that of the bytes that follow, a negative one that of a repeated byte.
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

fn invalid(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}
