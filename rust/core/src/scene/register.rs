//! Alignment of two images by the agreement of their pixels, without sources: for nebulae, galaxies and
//! crowded fields.
//!
//! `gain · reference(T(pixel)) + offset` is fitted to the image by Gauss-Newton (Lucas & Kanade 1981, IJCAI,
//! 674). The fit starts at coarse levels of a pyramid, where a search by correlation finds the approximate
//! transformation, and ends at the full scale. Both pictures are smoothed a little, because interpolation
//! between noisy pixels would prefer some shifts to others. The sharper picture is smoothed more until both
//! have the same width. The variance of the Gaussian between them is one more parameter of the fit.
//!
//! The covariance is that of independent noise in the pixels, propagated through the smoothing:
//! `A⁻¹ (Σ V(p) g(p) g(p)ᵀ) A⁻¹`, where `A = JᵀWJ` and g are the smoothed rows of `WJ`.

mod level;
pub(super) mod picture;
mod search;

use nalgebra::{DMatrix, DVector};

use self::level::{Level, Mapping, State};
use self::picture::{convolved, kernel, noise_factor};
use super::freedom::{Affine, Freedom};
use crate::error::{Error, Result};
use crate::lsq::{Loss, Options, minimize_watched};
use crate::monitor::{Monitor, checkpoint};

pub use self::picture::Picture;

/// Smallest side of a level in pixels: a level is halved while its shorter side has at least twice this
/// number.
const SMALLEST_SIDE: usize = 24;
/// Levels with fewer pixels than this are searched by correlation.
const SEARCHED_PIXELS: usize = 4096;
/// Variance per axis, in squared pixels of a level, of the Gaussian that both pictures are smoothed with.
const SMOOTHING: f64 = 1.0;
/// Widths are matched when the Gaussian between them has less than this variance, in squared pixels.
const MATCHED: f64 = 0.02;
/// Maximum number of rounds in which the widths are matched.
const MATCHING_ROUNDS: usize = 5;
/// Largest variance, in squared pixels, with which a picture is smoothed to match the other.
const LARGEST_SMOOTHING: f64 = 64.0;
/// Minimum number of pixels to be compared.
const LEAST_PIXELS: usize = 64;
/// Minimum ratio of the gain to its standard error for images that agree.
const LEAST_AGREEMENT: f64 = 5.0;

/// Options of [`register`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegisterOptions {
    /// Movements that are fitted.
    pub freedom: Freedom,
    /// Loss of the residuals in units of their scale.
    pub loss: Loss,
    /// Whether the widths of the pictures are matched.
    pub match_psf: bool,
    /// Whether a search by correlation precedes the fit.
    pub search: bool,
    /// Maximum number of steps at every level.
    pub max_iterations: usize,
    /// Initial transformation from pixels of the image to those of the reference.
    pub start: Affine,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        Self {
            freedom: Freedom::Rshift,
            loss: Loss::Huber,
            match_psf: true,
            search: true,
            max_iterations: 50,
            start: Affine::IDENTITY,
        }
    }
}

/// An image aligned to a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Transformation from pixels of the image to those of the reference; the first pixel of both is 0.
    pub transform: Affine,
    /// Parameters of the freedom, for a transformation about the centre of the reference that follows the
    /// start.
    pub parameters: Vec<f64>,
    /// Covariance of the parameters.
    pub covariance: DMatrix<f64>,
    /// Gain: the image is the gain times the reference plus the offset.
    pub gain: f64,
    /// Offset, see `gain`.
    pub offset: f64,
    /// Standard error of the gain.
    pub gain_error: f64,
    /// Variance per axis, in squared pixels, of the Gaussian that makes the reference as wide as the image;
    /// negative if the image is the sharper one.
    pub blur: f64,
    /// Robust variance of the residuals divided by the variance expected from the noise of both pictures; 1
    /// without given noise.
    pub chi2_dof: f64,
    /// Number of compared pixels.
    pub pixels: usize,
    /// Number of steps at the full scale.
    pub iterations: usize,
    /// Whether the last fit converged.
    pub converged: bool,
    /// Whether the images have anything in common.
    pub agrees: bool,
}

/// Aligns an image to a reference.
///
/// # Errors
/// [`Error::Argument`] for pictures that contradict their sizes or a freedom that needs a camera,
/// [`Error::Undetermined`] if hardly any pixels overlap, and [`Error::Interrupted`].
pub fn register(
    image: &Picture,
    reference: &Picture,
    options: &RegisterOptions,
    monitor: &dyn Monitor,
) -> Result<Registration> {
    check(image, "image")?;
    check(reference, "reference")?;
    if options.freedom == Freedom::Attitude {
        return Err(Error::argument("freedom", "'attitude' needs a camera", "give 'rshift'"));
    }
    let pyramid = pyramid(image, reference);
    let center = reference.size.map(|side| (side as f64 - 1.0) / 2.0);
    let mut mapping = Mapping { freedom: options.freedom, start: options.start, center };
    let mut state = start_state(options.freedom);
    for (k, [image, reference]) in pyramid.iter().enumerate().skip(1).rev() {
        checkpoint(monitor)?;
        monitor.progress(0.5 * (1.0 - k as f64 / pyramid.len() as f64));
        let factor = f64::from(1_u32 << k);
        let coarse = options.search && image.pixels.len() <= SEARCHED_PIXELS;
        if coarse && (k + 1 == pyramid.len()) {
            mapping.start = searched(image, reference, mapping.start, options.freedom, factor);
        }
        let mut level = Level::new([image, reference], [SMOOTHING; 2], mapping, &state, (factor, false));
        if level.compared() >= LEAST_PIXELS {
            state = fitted(&mut level, &state, options, 1e-6, monitor)?.0;
        }
    }
    let found = finest([image, reference], mapping, &state, options, monitor)?;
    // The reported transformation includes the result of the search.
    Ok(rebased(found, mapping, options))
}

fn check(picture: &Picture, name: &'static str) -> Result<()> {
    let pixels = picture.size[0] * picture.size[1];
    if picture.size.iter().any(|&side| side < 8) {
        let size = picture.size;
        return Err(Error::argument(name, format!("its size is {size:?}"), "give at least 8 x 8 pixels"));
    }
    if picture.pixels.len() != pixels || picture.variance.as_ref().is_some_and(|v| v.len() != pixels) {
        return Err(Error::argument(
            name,
            "the number of pixels or variances does not match the size",
            "give one number for each pixel",
        ));
    }
    Ok(())
}

fn start_state(freedom: Freedom) -> State {
    let mut state = Affine::start(freedom);
    state.extend([1.0, 0.0, 0.0]);
    DVector::from_vec(state)
}

/// Both pictures at the full scale, at half of it, and so on.
fn pyramid(image: &Picture, reference: &Picture) -> Vec<[Picture; 2]> {
    let mut levels = vec![[image.clone(), reference.clone()]];
    while let Some([image, reference]) = levels.last() {
        let shortest = image.size.iter().chain(&reference.size).min().copied().unwrap_or(0);
        if shortest < 2 * SMALLEST_SIDE {
            break;
        }
        let next = [image.halved(), reference.halved()];
        levels.push(next);
    }
    levels
}

/// Start found by correlation at a level, in pixels of the full scale.
fn searched(image: &Picture, reference: &Picture, start: Affine, freedom: Freedom, factor: f64) -> Affine {
    // Pixel p of the level is factor (p + 1/2) - 1/2 of the full scale.
    let half = 0.5 * (factor - 1.0);
    let moved = start.apply([half, half]);
    let small = Affine { shift: [0, 1].map(|i| (moved[i] - half) / factor), ..start };
    let found = search::search(image, reference, small, freedom);
    let matrix = Affine { shift: [0.0; 2], ..found }.apply([half, half]);
    Affine { shift: [0, 1].map(|i| factor * found.shift[i] + half - matrix[i]), ..found }
}

/// Fits a level by least squares first, then with the loss.
fn fitted(
    level: &mut Level,
    state: &State,
    options: &RegisterOptions,
    tolerance: f64,
    monitor: &dyn Monitor,
) -> Result<(State, usize, bool)> {
    let steps = |level: &Level| {
        let usual = Options { max_iterations: options.max_iterations, tolerance, ..Options::default() };
        Options { resolution: usual.resolution.max(level.resolution), ..usual }
    };
    level.set_loss(Loss::Squares, state);
    let first = minimize_watched(level, level.regressed(state), &steps(level), |_| checkpoint(monitor))?;
    level.set_loss(options.loss, &first.state);
    if options.loss == Loss::Squares {
        return Ok((first.state, first.iterations, first.converged));
    }
    let second = minimize_watched(level, first.state, &steps(level), |_| checkpoint(monitor))?;
    Ok((second.state, first.iterations + second.iterations, second.converged))
}

/// Result of the fit at the full scale.
struct Found {
    state: State,
    covariance: DMatrix<f64>,
    chi2_dof: f64,
    pixels: usize,
    iterations: usize,
    converged: bool,
    blur: f64,
}

fn finest(
    pictures: [&Picture; 2],
    mapping: Mapping,
    start: &State,
    options: &RegisterOptions,
    monitor: &dyn Monitor,
) -> Result<Found> {
    let n = options.freedom.parameters();
    let (mut state, mut smoothing, mut iterations) = (start.clone(), [SMOOTHING; 2], 0);
    let rounds = if options.match_psf { MATCHING_ROUNDS } else { 0 };
    for round in 0..rounds {
        checkpoint(monitor)?;
        monitor.progress(0.5 + 0.5 * round as f64 / MATCHING_ROUNDS as f64);
        let mut level = compared(pictures, smoothing, mapping, &state, true)?;
        let (next, steps, _) = fitted(&mut level, &state, options, 1e-6, monitor)?;
        let blur = next[n + 2];
        let side = usize::from(blur > 0.0);
        (state, iterations) = (next, iterations + steps);
        state[n + 2] = 0.0;
        smoothing[side] = (smoothing[side] + blur.abs()).min(LARGEST_SMOOTHING);
        if blur.abs() < MATCHED {
            break;
        }
    }
    // With equal widths the model's derivatives are exact, and the blur affects only the covariance.
    let mut level = compared(pictures, smoothing, mapping, &state, false)?;
    let (state, steps, converged) = fitted(&mut level, &state, options, 1e-10, monitor)?;
    level.set_loss(options.loss, &state);
    level.set_blurs(options.match_psf);
    let (covariance, chi2_dof) = covariance(&level, &state, smoothing, pictures);
    let (pixels, blur) = (level.compared(), smoothing[1] - smoothing[0]);
    Ok(Found { state, covariance, chi2_dof, pixels, iterations: iterations + steps, converged, blur })
}

/// The level of the full scale; an error if hardly any pixels are compared.
fn compared(
    pictures: [&Picture; 2],
    smoothing: [f64; 2],
    mapping: Mapping,
    state: &State,
    blurs: bool,
) -> Result<Level> {
    let level = Level::new(pictures, smoothing, mapping, state, (1.0, blurs));
    if level.compared() < LEAST_PIXELS {
        return Err(Error::Undetermined(
            "image and reference have hardly any pixel in common: their positions do not overlap, or they are masked"
                .into(),
        ));
    }
    Ok(level)
}

/// Covariance of the parameters, and chi² per degree of freedom.
fn covariance(
    level: &Level,
    state: &State,
    smoothing: [f64; 2],
    [image, reference]: [&Picture; 2],
) -> (DMatrix<f64>, f64) {
    let kernels = smoothing.map(kernel);
    let left: f64 = kernels.iter().map(|k| noise_factor(k)).sum::<f64>() / 2.0;
    let information = level.information(state);
    let known = image.variance.is_some() && reference.variance.is_some();
    // Variance of unsmoothed pixels, relative to the variances from which the weights were made.
    let excess = level.scale * level.scale / left;
    let noise = if known { 1.0 } else { excess };
    let n = state.len();
    let rows: Vec<[Vec<f64>; 2]> = (0..n)
        .map(|parameter| {
            let g = level.weighted_derivatives(state, parameter);
            [0, 1].map(|i| convolved(&g, image.size, &kernels[i]))
        })
        .collect();
    let product = |i: usize, a: usize, b: usize| -> f64 {
        let pairs = rows[a][i].iter().zip(&rows[b][i]).zip(&level.variances[i]);
        pairs.map(|((a, b), v)| a * b * v).sum()
    };
    let middle = DMatrix::from_fn(n, n, |a, b| noise * (product(0, a, b) + product(1, a, b)));
    let inverse = pseudo_inverse(&information);
    (&inverse * middle * &inverse, if known { excess } else { 1.0 })
}

/// The inverse, with rows and columns of zeros for parameters without information.
fn pseudo_inverse(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let n = matrix.nrows();
    let scale: Vec<f64> = (0..n).map(|i| matrix[(i, i)].max(0.0).sqrt()).collect();
    let unit = DMatrix::from_fn(n, n, |i, j| {
        let s = scale[i] * scale[j];
        if s > 0.0 { matrix[(i, j)] / s } else { f64::from(u8::from(i == j)) }
    });
    let inverse = unit.try_inverse().unwrap_or_else(|| DMatrix::zeros(n, n));
    DMatrix::from_fn(n, n, |i, j| {
        let s = scale[i] * scale[j];
        if s > 0.0 { inverse[(i, j)] / s } else { 0.0 }
    })
}

fn rebased(found: Found, mapping: Mapping, options: &RegisterOptions) -> Registration {
    let n = options.freedom.parameters();
    let state = found.state;
    let transform = mapping.total(state.as_slice());
    let gain_error = found.covariance[(n, n)].max(0.0).sqrt();
    let parameters = parameters_after(transform, &Mapping { start: options.start, ..mapping });
    Registration {
        transform,
        parameters,
        covariance: found.covariance.view((0, 0), (n, n)).into_owned(),
        gain: state[n],
        offset: state[n + 1],
        gain_error,
        blur: found.blur,
        chi2_dof: found.chi2_dof,
        pixels: found.pixels,
        iterations: found.iterations,
        converged: found.converged,
        agrees: state[n] > LEAST_AGREEMENT * gain_error && gain_error > 0.0,
    }
}

/// Parameters of the freedom that lead from the start to a transformation.
fn parameters_after(transform: Affine, mapping: &Mapping) -> Vec<f64> {
    let [[a, b], [c, d]] = mapping.start.matrix;
    let det = a * d - b * c;
    let inverse = [[d / det, -b / det], [-c / det, a / det]];
    let row =
        |[a, b]: [f64; 2]| [a * inverse[0][0] + b * inverse[1][0], a * inverse[0][1] + b * inverse[1][1]];
    let matrix = [row(transform.matrix[0]), row(transform.matrix[1])];
    // The shift moves the point that the start maps to the centre.
    let [x, y] = [0, 1].map(|i| mapping.center[i] - mapping.start.shift[i]);
    let at = [inverse[0][0] * x + inverse[0][1] * y, inverse[1][0] * x + inverse[1][1] * y];
    let moved = transform.apply(at);
    let shift = [moved[0] - mapping.center[0], moved[1] - mapping.center[1]];
    let [[a, b], [c, d]] = matrix;
    let mut parameters = shift.to_vec();
    match mapping.freedom {
        Freedom::Fixed | Freedom::Attitude => parameters.clear(),
        Freedom::Shift => {}
        Freedom::Rshift => parameters.push(c.atan2(a)),
        Freedom::Rscale => parameters.extend([c.atan2(a), a.hypot(c)]),
        Freedom::General => parameters.extend([a - 1.0, b, c, d - 1.0]),
    }
    parameters
}

#[cfg(test)]
mod tests;
