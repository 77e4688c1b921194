//! Python bindings of `boresight.scene`.

use boresight::imaging::extract::{EffectivePsf, ExtractOptions, Extractor};
use boresight::imaging::image::Image;
use boresight::lsq::Loss;
use boresight::memory;
use boresight::scene::fit::{self, FitOptions, Fitted, Status};
use boresight::scene::freedom::{Affine, Freedom};
use boresight::scene::galaxy::{self, PARAMETERS_OF_GALAXY};
use boresight::scene::profile::{Kind, PARAMETERS, Profile};
use boresight::scene::register::{self, Picture, RegisterOptions};
use boresight::scene::sampled::Sampled;
use boresight::scene::{MOTION, Place, Psf, Scene, SceneImage, Sersic, Sky, Source, Window, Windows};
use boresight::{Error, Result};
use numpy::ndarray::ArrayView1;
use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{InputError, to_python};
use crate::monitor::run;
use crate::parallel;

/// Memory that a registration takes for each pixel of both images, bytes.
const REGISTER_BYTES_PER_PIXEL: usize = 110;

/// The loss with this name; the names are those of scipy.
pub(crate) fn loss_of(name: &str) -> Result<Loss> {
    Ok(match name {
        "linear" => Loss::Squares,
        "huber" => Loss::Huber,
        "cauchy" => Loss::Cauchy,
        "geman_mcclure" => Loss::GemanMcClure,
        other => {
            return Err(Error::argument(
                "loss",
                format!("{other:?} is unknown"),
                "give 'linear', 'huber', 'cauchy' or 'geman_mcclure'",
            ));
        }
    })
}

/// A copy of all elements of an array, row by row.
pub(crate) fn flat(array: &PyReadonlyArray2<'_, f64>) -> Vec<f64> {
    array.as_array().iter().copied().collect()
}

/// A square matrix as an array.
pub(crate) fn matrix(
    py: Python<'_>,
    n: usize,
    element: impl Fn(usize, usize) -> f64,
) -> PyResult<Bound<'_, PyArray2<f64>>> {
    PyArray1::from_iter(py, (0..n * n).map(|k| element(k / n, k % n))).reshape([n, n])
}

fn picture(pixels: &PyReadonlyArray2<'_, f64>, variance: Option<&PyReadonlyArray2<'_, f64>>) -> Picture {
    let (height, width) = pixels.as_array().dim();
    Picture { pixels: flat(pixels), size: [width, height], variance: variance.map(flat) }
}

/// Aligns two images by their pixels; `start` has the rows (a, b, x) and (c, d, y).
#[pyfunction]
#[pyo3(signature = (image, reference, image_variance, reference_variance, start, *, freedom, loss, match_psf, search, max_iterations, progress))]
pub(crate) fn scene_register<'py>(
    py: Python<'py>,
    image: PyReadonlyArray2<'py, f64>,
    reference: PyReadonlyArray2<'py, f64>,
    image_variance: Option<PyReadonlyArray2<'py, f64>>,
    reference_variance: Option<PyReadonlyArray2<'py, f64>>,
    start: [[f64; 3]; 2],
    freedom: &str,
    loss: &str,
    match_psf: bool,
    search: bool,
    max_iterations: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let [[a, b, x], [c, d, y]] = start;
    let options = RegisterOptions {
        freedom: Freedom::from_name(freedom).map_err(to_python)?,
        loss: loss_of(loss).map_err(to_python)?,
        match_psf,
        search,
        max_iterations,
        start: Affine { matrix: [[a, b], [c, d]], shift: [x, y] },
    };
    let image = picture(&image, image_variance.as_ref());
    let reference = picture(&reference, reference_variance.as_ref());
    let pixels = image.size[0] * image.size[1] + reference.size[0] * reference.size[1];
    memory::check("the registration", REGISTER_BYTES_PER_PIXEL * pixels).map_err(to_python)?;
    let found = run(py, progress, |monitor| register::register(&image, &reference, &options, monitor))?;
    let result = PyDict::new(py);
    let Affine { matrix: [[a, b], [c, d]], shift: [x, y] } = found.transform;
    result.set_item("transform", [[a, b, x], [c, d, y]])?;
    let n = found.parameters.len();
    result.set_item("covariance", matrix(py, n, |i, j| found.covariance[(i, j)])?)?;
    result.set_item("parameters", found.parameters)?;
    result.set_item("gain", found.gain)?;
    result.set_item("gain_error", found.gain_error)?;
    result.set_item("offset", found.offset)?;
    result.set_item("blur", found.blur)?;
    result.set_item("chi2_dof", found.chi2_dof)?;
    result.set_item("pixels", found.pixels)?;
    result.set_item("iterations", found.iterations)?;
    result.set_item("converged", found.converged)?;
    result.set_item("agrees", found.agrees)?;
    Ok(result)
}

/// An image of a scene from Python: a dict with all of these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ImageInput<'py> {
    data: PyReadonlyArray2<'py, f64>,
    variance: PyReadonlyArray2<'py, f64>,
    freedom: String,
    cd: [[f64; 2]; 2],
    /// Indices of the sources in the image; `places` has a row for each. The row is (`plane`, `by_source`,
    /// `focal`, `pixel`, `by_focal`) for a plane, else (`pixel`, `by_source`, `by_wcs`).
    seen: Vec<usize>,
    places: PyReadonlyArray2<'py, f64>,
    /// For every source, the displacement by one unit of each parameter of motion (pmra, pmdec, parallax), as
    /// pairs x, y.
    tracks: PyReadonlyArray2<'py, f64>,
    chromatic: Option<usize>,
    psf: usize,
    sky: String,
    side: Option<usize>,
    window: Option<[usize; 4]>,
    windows: Option<Vec<Option<[usize; 4]>>>,
}

/// A PSF with its initial parameters, and which of them are fitted.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct PsfInput<'py> {
    kind: String,
    parameters: [f64; PARAMETERS],
    free: [bool; PARAMETERS],
    sampled: Option<SampledInput<'py>>,
}

/// Grids of samples (grid, row, column), and the columns and rows of the image to which the grids belong.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SampledInput<'py> {
    samples: PyReadonlyArray3<'py, f64>,
    oversampling: [f64; 2],
    origin: [f64; 2],
    columns: Vec<f64>,
    rows: Vec<f64>,
}

impl PsfInput<'_> {
    fn psf(&self) -> Result<Psf> {
        if let Some(given) = &self.sampled {
            let (_, height, width) = given.samples.as_array().dim();
            let samples: Vec<f64> = given.samples.as_array().iter().copied().collect();
            let places = [given.columns.clone(), given.rows.clone()];
            return Sampled::new(&samples, [width, height], given.oversampling, given.origin, places)
                .map(Psf::sampled);
        }
        let kind = if self.kind == "moffat" { Kind::Moffat } else { Kind::Gaussian };
        Ok(Psf { profile: Profile { kind, parameters: self.parameters }, free: self.free, sampled: None })
    }
}

/// A source: its point in the common plane, the errors of its position, the errors of its motion if that is
/// fitted, its colour, and the shape of a galaxy (ρ, e1, e2, and Sérsic's exponent) with the parameters that
/// are fitted.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SourceInput {
    point: [f64; 2],
    prior: Option<[f64; 2]>,
    motion: Option<[f64; MOTION]>,
    color: f64,
    shape: Option<([f64; PARAMETERS_OF_GALAXY], [bool; PARAMETERS_OF_GALAXY])>,
}

impl SourceInput {
    fn source(&self) -> Source {
        let shape = self
            .shape
            .map(|([rho, e1, e2, n], free)| Sersic { parameters: [rho, e1, e2, galaxy::parameter(n)], free });
        let Self { point, prior, motion, color, .. } = *self;
        Source { point, prior, motion, color, shape }
    }
}

/// Length of a row of `places` for a plane.
const PLANE_ROW: usize = 14;
/// Length of a row of `places` without a plane.
const LOCAL_ROW: usize = 14;

fn place_of(row: &[f64], local: bool) -> Place {
    let pair = |at: usize| [row[at], row[at + 1]];
    let matrix = |at: usize| [pair(at), pair(at + 2)];
    if local {
        let by_wcs = [pair(6), pair(8), pair(10), pair(12)];
        return Place::Local { pixel: pair(0), by_source: matrix(2), by_wcs };
    }
    Place::Plane {
        plane: pair(0),
        by_source: matrix(2),
        focal: pair(6),
        pixel: pair(8),
        by_focal: matrix(10),
    }
}

fn window_of([x0, x1, y0, y1]: [usize; 4]) -> Window {
    Window { x0, x1, y0, y1 }
}

impl ImageInput<'_> {
    fn slices(&self) -> PyResult<[&[f64]; 2]> {
        let contiguous = |_| InputError::new_err("data: not C-contiguous; use numpy.ascontiguousarray");
        Ok([self.data.as_slice().map_err(contiguous)?, self.variance.as_slice().map_err(contiguous)?])
    }

    fn image<'a>(&self, [data, variance]: [&'a [f64]; 2], sources: usize) -> Result<SceneImage<'a>> {
        let freedom = Freedom::from_name(&self.freedom)?;
        let local = freedom == Freedom::Attitude;
        let (height, width) = self.data.as_array().dim();
        let rows = self.places.as_array();
        let mut places = vec![None; sources];
        let expected = if local { LOCAL_ROW } else { PLANE_ROW };
        if rows.ncols() != expected || rows.nrows() != self.seen.len() || variance.len() != data.len() {
            return Err(Error::argument(
                "images",
                "the shapes of places, variances and pixels do not match",
                "give one row for each visible source and one variance for each pixel",
            ));
        }
        for (row, &source) in rows.rows().into_iter().zip(&self.seen) {
            let row: Vec<f64> = row.iter().copied().collect();
            places[source] = Some(place_of(&row, local));
        }
        let tracks = self.tracks.as_array();
        let track = |row: ArrayView1<'_, f64>| std::array::from_fn(|k| [row[2 * k], row[2 * k + 1]]);
        if tracks.ncols() != 2 * MOTION || ![0, sources].contains(&tracks.nrows()) {
            return Err(Error::argument("images", "tracks have a wrong shape", "give rows of 6 numbers"));
        }
        let tracks = tracks.rows().into_iter().map(track).collect();
        let windows = match (self.side, self.window, &self.windows) {
            (Some(side), ..) => Windows::Side(side),
            (_, Some(window), _) => Windows::One(window_of(window)),
            (.., Some(windows)) => Windows::Each(windows.iter().map(|w| w.map(window_of)).collect()),
            _ => Windows::Chosen,
        };
        let sky = match self.sky.as_str() {
            "constant" => Sky::Constant,
            "plane" => Sky::Plane,
            _ => Sky::None,
        };
        let size = [width, height];
        let (cd, psf, chromatic) = (self.cd, self.psf, self.chromatic);
        Ok(SceneImage { data, variance, size, freedom, cd, places, tracks, chromatic, psf, sky, windows })
    }
}

/// A fitted scene.
#[pyclass(frozen, module = "boresight._core")]
pub(crate) struct SceneFit(Fitted);

/// A scene of images, PSFs, and sources.
fn scene_of<'a>(
    images: &[ImageInput<'_>],
    slices: &[[&'a [f64]; 2]],
    psfs: &[PsfInput<'_>],
    sources: &[SourceInput],
) -> Result<Scene<'a>> {
    let images: Result<Vec<_>> =
        images.iter().zip(slices).map(|(image, slices)| image.image(*slices, sources.len())).collect();
    let psfs: Result<Vec<Psf>> = psfs.iter().map(PsfInput::psf).collect();
    Ok(Scene { images: images?, psfs: psfs?, sources: sources.iter().map(SourceInput::source).collect() })
}

/// Fits a scene.
#[pyfunction]
#[pyo3(signature = (images, psfs, sources, *, loss, max_iterations, staged, progress))]
pub(crate) fn scene_fit(
    py: Python<'_>,
    images: Vec<ImageInput<'_>>,
    psfs: Vec<PsfInput<'_>>,
    sources: Vec<SourceInput>,
    loss: &str,
    max_iterations: usize,
    staged: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<SceneFit> {
    let slices = images.iter().map(ImageInput::slices).collect::<PyResult<Vec<_>>>()?;
    let scene = scene_of(&images, &slices, &psfs, &sources).map_err(to_python)?;
    let options = FitOptions { loss: loss_of(loss).map_err(to_python)?, max_iterations, staged };
    run(py, progress, |monitor| fit::fit(&scene, &options, monitor)).map(SceneFit)
}

/// Measures the effective point-spread function of a frame: samples (grid, row, column), samples per pixel,
/// and the columns and rows of the frame to which the grids belong; `None` if no star determines it.
#[pyfunction]
pub(crate) fn scene_measure_psf<'py>(
    py: Python<'py>,
    data: PyReadonlyArray2<'py, f64>,
    mask: PyReadonlyArray2<'py, bool>,
) -> PyResult<Option<MeasuredPsf<'py>>> {
    let (pixels, bad) = (crate::extract::rows("data", &data)?, crate::extract::rows("mask", &mask)?);
    let found = parallel::detach(py, || {
        let image = Image::new(pixels, Some(bad))?;
        Extractor::new(ExtractOptions::default())?.extract(&image, &())
    });
    let found = found.map_err(to_python)?;
    let Some(psf) = found.effective_psf.filter(|_| !found.stars.is_empty()) else { return Ok(None) };
    let [columns, rows] = psf.places();
    let samples = PyArray1::from_vec(py, psf.samples());
    let samples = samples.reshape([columns.len() * rows.len(), psf.side(), psf.side()])?;
    Ok(Some((samples, EffectivePsf::OVERSAMPLING, columns, rows)))
}

type MeasuredPsf<'py> = (Bound<'py, PyArray3<f64>>, usize, Vec<f64>, Vec<f64>);

/// The model of one image of a fitted scene: sky and sources.
#[pyfunction]
pub(crate) fn scene_model<'py>(
    py: Python<'py>,
    images: Vec<ImageInput<'py>>,
    psfs: Vec<PsfInput<'py>>,
    sources: Vec<SourceInput>,
    fitted: &SceneFit,
    image: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let slices = images.iter().map(ImageInput::slices).collect::<PyResult<Vec<_>>>()?;
    let scene = scene_of(&images, &slices, &psfs, &sources).map_err(to_python)?;
    let [width, height] = scene.images[image].size;
    let pixels = parallel::detach(py, || fit::model(&scene, &fitted.0, image));
    PyArray1::from_vec(py, pixels).reshape([height, width])
}

#[pymethods]
impl SceneFit {
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.0.state)
    }

    #[getter]
    fn status(&self) -> &'static str {
        match self.0.status {
            Status::Converged => "converged",
            Status::Stalled => "stalled",
            Status::Failed => "failed",
        }
    }

    /// Indices of the first parameters of sources, PSFs, WCS and skies.
    #[getter]
    fn layout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let layout = &self.0.layout;
        let dict = PyDict::new(py);
        dict.set_item("sources", layout.sources.clone())?;
        dict.set_item("sizes", layout.sizes.clone())?;
        dict.set_item("fluxes", layout.fluxes.clone())?;
        dict.set_item("shapes", layout.shapes.clone())?;
        dict.set_item("motions", layout.motions.clone())?;
        dict.set_item("chromatic", layout.chromatic.clone())?;
        dict.set_item("shared", layout.shared)?;
        dict.set_item("psfs", layout.psfs.clone())?;
        dict.set_item("wcs", layout.wcs.clone())?;
        dict.set_item("skies", layout.skies.clone())?;
        Ok(dict)
    }

    /// Sérsic's exponent of each galaxy, and its derivative with respect to its parameter.
    #[getter]
    fn exponents(&self) -> Vec<Option<(f64, f64)>> {
        let of = |at: &Option<usize>| {
            let nu = self.0.state[(*at)? + PARAMETERS_OF_GALAXY - 1];
            Some((galaxy::exponent(nu), galaxy::exponent_slope(nu)))
        };
        self.0.layout.shapes.iter().map(of).collect()
    }

    #[getter]
    fn frozen(&self) -> Vec<usize> {
        self.0.frozen.clone()
    }

    #[getter]
    fn chromatic_reference(&self) -> Option<usize> {
        self.0.chromatic_reference
    }

    #[getter]
    fn reference(&self) -> Option<usize> {
        self.0.reference
    }

    /// Stage, iteration, chi² per degree of freedom and damping of every step.
    #[getter]
    fn history(&self) -> Vec<(usize, usize, f64, f64)> {
        self.0.history.iter().map(|s| (s.stage, s.iteration, s.chi2_dof, s.damping)).collect()
    }

    #[getter]
    fn chi2(&self) -> f64 {
        self.0.chi2
    }

    #[getter]
    fn image_chi2(&self) -> Vec<f64> {
        self.0.image_chi2.clone()
    }

    #[getter]
    fn image_pixels(&self) -> Vec<usize> {
        self.0.image_pixels.clone()
    }

    #[getter]
    fn parameters(&self) -> usize {
        self.0.parameters
    }

    /// Covariance of all parameters; `None` if there are too many.
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray2<f64>>>> {
        let all = self.0.covariance.as_ref();
        all.map(|all| matrix(py, all.nrows(), |i, j| all[(i, j)])).transpose()
    }

    fn shared_covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let shared = &self.0.shared_covariance;
        matrix(py, shared.nrows(), |i, j| shared[(i, j)])
    }

    /// Covariance of one source's own parameters.
    fn own_covariance<'py>(&self, py: Python<'py>, source: usize) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let own = &self.0.own_covariances[source];
        matrix(py, own.nrows(), |i, j| own[(i, j)])
    }

    /// Windows in which the sources contribute to an image: x0, x1, y0, y1.
    fn windows(&self, image: usize) -> Vec<Option<[usize; 4]>> {
        self.0.windows[image].iter().map(|w| w.map(|w| [w.x0, w.x1, w.y0, w.y1])).collect()
    }
}
