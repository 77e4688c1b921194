//! Python bindings of `boresight.Extractor`.

use std::cell::RefCell;

use boresight::imaging::background::Mesh;
use boresight::imaging::extract::{
    ExtractOptions, Extraction as Core, Extractor as CoreExtractor, Method, PsfKind, Star,
};
use boresight::imaging::image::{Image, Pixel};
use boresight::memory;
use numpy::ndarray::Axis;
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{InputError, to_python};
use crate::monitor::Limit;
use crate::{monitor, parallel};

/// Maximum memory that an extraction of a small image takes in addition to the image, bytes.
const LEAST_BYTES: usize = 24 << 20;
/// Maximum memory that an extraction takes for each pixel of a crowded image, bytes.
const BYTES_PER_PIXEL: usize = 10;
/// Largest image, in pixels, after whose extraction a thread keeps the buffers.
const KEPT_PIXELS: usize = 1 << 24;

/// Options from Python: a dict with all of these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    sigma_threshold: f64,
    min_pixels: usize,
    max_pixels: usize,
    max_centroids: Option<usize>,
    max_measured: Option<usize>,
    local_bg_block_size: usize,
    max_elongation: Option<f64>,
    matched_filter_sigma: Option<f64>,
    max_sharpness: Option<f64>,
    saturation_level: Option<f64>,
    border_margin: usize,
    gain: Option<f64>,
    read_noise: Option<f64>,
    method: String,
    fast: bool,
    timeout_ms: Option<u64>,
}

impl Options {
    fn check(self) -> PyResult<ExtractOptions> {
        let o = self;
        let method = match o.method.as_str() {
            "psf" => Method::Psf,
            "window" => Method::Window,
            other => {
                return Err(InputError::new_err(format!(
                    "method: {other:?} is unknown; give 'psf' or 'window'"
                )));
            }
        };
        Ok(ExtractOptions {
            sigma_threshold: o.sigma_threshold,
            min_pixels: o.min_pixels,
            max_pixels: o.max_pixels,
            max_centroids: o.max_centroids,
            max_measured: o.max_measured,
            local_bg_block_size: o.local_bg_block_size,
            max_elongation: o.max_elongation,
            matched_filter_sigma: o.matched_filter_sigma,
            max_sharpness: o.max_sharpness,
            saturation_level: o.saturation_level,
            border_margin: o.border_margin,
            gain: o.gain,
            read_noise: o.read_noise,
            method,
            fast: o.fast,
        })
    }
}

/// Stars, background and counts of one frame.
#[pyclass(frozen, module = "boresight._core")]
pub(crate) struct Extraction {
    inner: Core,
    size: [usize; 2],
}

#[pymethods]
impl Extraction {
    /// The columns of the star table, by name.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stars = &self.inner.stars;
        let columns = PyDict::new(py);
        let float = |name: &str, f: &dyn Fn(&Star) -> f64| {
            columns.set_item(name, PyArray1::from_iter(py, stars.iter().map(f)))
        };
        float("x", &|s| s.position[0])?;
        float("y", &|s| s.position[1])?;
        float("brightness", &|s| s.flux)?;
        float("brightness_error", &|s| s.flux_error)?;
        float("peak", &|s| s.peak)?;
        float("background", &|s| s.background)?;
        float("sharpness", &|s| s.sharpness)?;
        columns.set_item("cov", matrices(py, stars, |s| s.cov)?)?;
        columns.set_item("position_cov", matrices(py, stars, |s| s.position_cov)?)?;
        columns.set_item("num_pixels", PyArray1::from_iter(py, stars.iter().map(|s| s.num_pixels as i64)))?;
        columns.set_item("flags", PyArray1::from_iter(py, stars.iter().map(|s| i64::from(s.flags))))?;
        Ok(columns)
    }

    /// Background at the centres of the blocks.
    fn level<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        mesh(py, &self.inner.background.level)
    }

    /// Noise at the centres of the blocks.
    fn noise<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        mesh(py, &self.inner.background.noise)
    }

    #[getter]
    fn threshold(&self) -> f64 {
        self.inner.threshold
    }

    #[getter]
    fn num_blobs_raw(&self) -> usize {
        self.inner.num_blobs_raw
    }

    #[getter]
    fn saturation_level(&self) -> Option<f64> {
        self.inner.saturation_level
    }

    /// Name of the kind of the fitted point-spread function.
    #[getter]
    fn psf(&self) -> Option<&'static str> {
        self.inner.psf.map(|kind| match kind {
            PsfKind::Varying => "varying",
            PsfKind::Uniform => "uniform",
            PsfKind::Gaussian => "gaussian",
        })
    }

    #[getter]
    fn image_shape(&self) -> (usize, usize) {
        (self.size[1], self.size[0])
    }

    /// Number of rejected candidates, by reason.
    #[getter]
    fn rejected<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rejected = self.inner.rejected;
        let counts = PyDict::new(py);
        counts.set_item("too_small", rejected.too_small)?;
        counts.set_item("too_large", rejected.too_large)?;
        counts.set_item("elongated", rejected.elongated)?;
        counts.set_item("extended", rejected.extended)?;
        counts.set_item("sharp", rejected.sharp)?;
        counts.set_item("border", rejected.border)?;
        counts.set_item("faint", rejected.faint)?;
        counts.set_item("surplus", rejected.surplus)?;
        counts.set_item("unmeasured", rejected.unmeasured)?;
        Ok(counts)
    }
}

/// (n, 2, 2) array of symmetric matrices.
fn matrices<'py>(
    py: Python<'py>,
    stars: &[Star],
    f: impl Fn(&Star) -> [f64; 3],
) -> PyResult<Bound<'py, numpy::PyArray3<f64>>> {
    let mut flat = Vec::with_capacity(4 * stars.len());
    for star in stars {
        let [xx, xy, yy] = f(star);
        flat.extend([xx, xy, xy, yy]);
    }
    PyArray1::from_vec(py, flat).reshape([stars.len(), 2, 2])
}

fn mesh<'py>(py: Python<'py>, mesh: &Mesh) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let [columns, rows] = mesh.shape();
    PyArray1::from_slice(py, mesh.values()).reshape([rows, columns])
}

/// Interpolates values at the centres of an image's blocks to every pixel; `image_shape` is (height, width).
#[pyfunction]
pub(crate) fn mesh_pixels<'py>(
    py: Python<'py>,
    values: PyReadonlyArray2<'_, f32>,
    image_shape: (usize, usize),
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (values, size) = (values.as_array(), [image_shape.1, image_shape.0]);
    let Some(mesh) = Mesh::over(values.iter().copied().collect(), values.ncols(), size) else {
        return Err(InputError::new_err("values: empty; give the values of at least one block"));
    };
    let pixels = parallel::detach(py, || mesh.pixels(size));
    PyArray1::from_vec(py, pixels).reshape([image_shape.0, image_shape.1])
}

/// Extracts the stars of successive frames.
#[pyclass(frozen, module = "boresight._core")]
pub(crate) struct Extractor {
    options: ExtractOptions,
    timeout_ms: Option<u64>,
}

thread_local! {
    /// The last extractor of this thread, whose buffers are used again. The system takes longer to give memory
    /// than fast extraction takes to fill it.
    static SPARE: RefCell<Option<CoreExtractor>> = const { RefCell::new(None) };
}

#[pymethods]
impl Extractor {
    #[new]
    fn new(options: Options) -> PyResult<Self> {
        let timeout_ms = options.timeout_ms;
        let checked = CoreExtractor::new(options.check()?).map_err(to_python)?;
        Ok(Self { options: checked.options().clone(), timeout_ms })
    }

    /// Extracts the stars of an image of a native type with contiguous rows. `mask` is true at bad pixels;
    /// `noise` is the standard deviation of every pixel.
    fn extract(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        mask: Option<PyReadonlyArray2<'_, bool>>,
        noise: Option<PyReadonlyArray2<'_, f32>>,
    ) -> PyResult<Extraction> {
        let (mask, noise) = (mask.as_ref(), noise.as_ref());
        if let Ok(image) = image.extract::<PyReadonlyArray2<'_, f32>>() {
            self.run(py, &view(&image, mask, noise)?)
        } else if let Ok(image) = image.extract::<PyReadonlyArray2<'_, u16>>() {
            self.run(py, &view(&image, mask, noise)?)
        } else if let Ok(image) = image.extract::<PyReadonlyArray2<'_, u8>>() {
            self.run(py, &view(&image, mask, noise)?)
        } else if let Ok(image) = image.extract::<PyReadonlyArray2<'_, i16>>() {
            self.run(py, &view(&image, mask, noise)?)
        } else if let Ok(image) = image.extract::<PyReadonlyArray2<'_, f64>>() {
            self.run(py, &view(&image, mask, noise)?)
        } else {
            Err(InputError::new_err(
                "image: its type is not supported here; give float32, float64, uint16, int16 or uint8",
            ))
        }
    }
}

impl Extractor {
    fn run(&self, py: Python<'_>, image: &Image<'_>) -> PyResult<Extraction> {
        let limit = self.timeout_ms.map(Limit::new);
        let pixels = image.width() * image.height();
        memory::check("extraction", LEAST_BYTES + BYTES_PER_PIXEL * pixels).map_err(to_python)?;
        let options = self.options.clone();
        let inner = py.detach(|| {
            let mut extractor = match SPARE.take() {
                Some(spare) => spare.with_options(options),
                None => CoreExtractor::new(options),
            }
            .map_err(to_python)?;
            let found = monitor::watch(limit, None, |monitor| extractor.extract(image, monitor));
            if pixels <= KEPT_PIXELS {
                SPARE.set(Some(extractor));
            }
            found
        })?;
        Ok(Extraction { inner, size: [image.width(), image.height()] })
    }
}

/// An image that refers to the arrays without a copy.
fn view<'a, T: Element + Pixel>(
    image: &'a PyReadonlyArray2<'_, T>,
    mask: Option<&'a PyReadonlyArray2<'_, bool>>,
    noise: Option<&'a PyReadonlyArray2<'_, f32>>,
) -> PyResult<Image<'a>> {
    let mask = mask.map(|mask| rows("mask", mask)).transpose()?;
    let image = Image::new(rows("image", image)?, mask).map_err(to_python)?;
    match noise {
        Some(noise) => image.with_noise(rows("noise", noise)?).map_err(to_python),
        None => Ok(image),
    }
}

/// The rows of an array, without a copy.
pub(crate) fn rows<'a, T: Element>(name: &str, array: &'a PyReadonlyArray2<'_, T>) -> PyResult<Vec<&'a [T]>> {
    let view = array.as_array();
    (0..view.nrows())
        .map(|y| {
            view.index_axis_move(Axis(0), y).to_slice().ok_or_else(|| {
                InputError::new_err(format!(
                    "{name}: its rows are not contiguous; use numpy.ascontiguousarray"
                ))
            })
        })
        .collect()
}
