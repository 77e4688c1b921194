//! Models and measures the noise of pixels that contain light of stars.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use nalgebra::{Matrix3, Vector3};
use rayon::prelude::*;

use super::source::Fit;
use crate::imaging::stamp::part_of;
use crate::lsq::robust::median;
use crate::simd::Lanes;

/// Largest relative error of the point-spread function (PSF) that is used in the weights of pixels.
const MAX_WEIGHT_ERROR: f32 = 0.03;
/// Number of rounds. In each, the noise is measured with weights from the noise of the previous round.
const ROUNDS: usize = 4;
/// Larger residuals, in standard deviations, are excluded as neighbours or cosmic rays.
const OUTLIER: f32 = 5.0;
/// Number of samples per task.
const TASK_SAMPLES: usize = 2048;

/// Noise model: the variance of a pixel is `σ² + faint + photon · light + model · light²`, where σ² is the
/// variance of the background, and the light is that of all stars on the pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Variance caused by undetected faint stars.
    pub faint: f32,
    /// Photon noise, in units of the image per electron.
    pub photon: f32,
    /// Square of the relative error of the PSF.
    pub model: f32,
}

/// The [`Noise`] of several pixels at a time.
pub(super) struct PixelNoise {
    constant: Lanes,
    photon: Lanes,
    model: Lanes,
}

impl PixelNoise {
    /// The noise model of pixels with this variance of the background.
    #[inline(always)]
    pub(super) fn new(noise: Noise, background: f32) -> Self {
        let splat = Lanes::splat;
        Self {
            constant: splat(background + noise.faint),
            photon: splat(noise.photon),
            model: splat(noise.model),
        }
    }

    /// Variance of pixels with this light. Negative light counts as zero.
    #[inline(always)]
    pub(super) fn variance(&self, light: Lanes) -> Lanes {
        let light = light.max(Lanes::splat(0.0));
        self.constant + light * (self.photon + self.model * light)
    }
}

/// A pixel of a star, used to measure the noise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Light of the star in the pixel.
    pub light: f32,
    /// Squared residual.
    pub square: f32,
    /// Variance of the background.
    pub background: f32,
    /// Whether the star is fainter than the median of the stars.
    pub of_faint_star: bool,
}

/// Number of powers of the light in normal equations of three terms.
const POWERS: usize = 5;
/// Sums of the weights times powers of the light, then times the excess and the three terms. The first row is
/// for the brighter stars, the second for the fainter ones.
type Sums = [[f64; POWERS + 3]; 2];

impl Noise {
    /// Measures the noise by a least-squares fit to the squared residuals of pixels of stars. No part of the
    /// noise is negative. If the photon noise is `known`, that of `start` is kept.
    ///
    /// The variance of undetected stars is measured from the fainter stars alone, where the error of the PSF,
    /// which is proportional to a star's light, is small.
    pub(super) fn measured(samples: &[Sample], start: Self, known: bool) -> Self {
        let mut noise = start;
        for _ in 0..ROUNDS {
            let kept = if known { start.photon } else { 0.0 };
            let [bright_stars, faint_stars] = noise.normal_equations(samples, kept);
            let told = positive_parts(&faint_stars.0, &faint_stars.1, [true, !known, true]);
            let faint = told.map_or(0.0, |[faint, ..]| faint);
            let left = bright_stars.0 + faint_stars.0;
            let rest = bright_stars.1 + faint_stars.1 - left.column(0) * faint;
            let Some([_, photon, model]) = positive_parts(&left, &rest, [false, !known, true]) else {
                return noise;
            };
            noise = Self { faint: faint as f32, photon: kept + photon as f32, model: model as f32 };
        }
        noise
    }

    /// Normal equations of `faint`, `photon` less `kept_photon`, and `model`, for the brighter stars and for
    /// the fainter ones. Each sample has the inverse square of its expected variance as its weight.
    fn normal_equations(self, samples: &[Sample], kept_photon: f32) -> [(Matrix3<f64>, Vector3<f64>); 2] {
        let parts: Vec<Sums> = samples.par_chunks(TASK_SAMPLES).map(|s| self.sums(s, kept_photon)).collect();
        [0, 1].map(|part| {
            let total = |k: usize| parts.iter().map(|sums| sums[part][k]).sum::<f64>();
            (Matrix3::from_fn(|i, j| total(i + j)), Vector3::from_fn(|i, _| total(POWERS + i)))
        })
    }

    /// The sums over some samples from which the normal equations are formed.
    fn sums(self, samples: &[Sample], kept_photon: f32) -> Sums {
        let mut sums = Sums::default();
        for &Sample { light, square, background, of_faint_star } in samples {
            let expected = self.variance(background, light);
            if square > OUTLIER * OUTLIER * expected {
                continue;
            }
            let [expected, excess, light] =
                [expected, square - background - kept_photon * light, light].map(f64::from);
            let weight = (expected * expected).recip();
            let square = light * light;
            // The terms are powers of the light, and so are their products.
            let powers = [1.0, light, square, square * light, square * square];
            let part = usize::from(of_faint_star);
            let (left, right) = sums[part].split_at_mut(POWERS);
            for (sum, power) in left.iter_mut().zip(powers) {
                *sum += weight * power;
            }
            for (sum, power) in right.iter_mut().zip(powers) {
                *sum += weight * excess * power;
            }
        }
        sums
    }

    /// The noise with the excess error of the PSF that all stars of a frame show together.
    pub(crate) fn of_frame(self, fits: &[Fit]) -> Self {
        self.with_excess(telling(fits))
    }

    /// The noise with the excess error of the PSF that some stars show.
    fn with_excess(self, mut stars: Vec<&Fit>) -> Self {
        stars.sort_by(|a, b| b.snr().total_cmp(&a.snr()));
        let brightest = (stars.len() / BRIGHTEST_SHARE).max(FEWEST_STARS);
        let more = match stars.get(..brightest) {
            Some(brightest) => median_excess(brightest).min(median_excess(&stars)).max(0.0),
            None => 0.0,
        };
        Self { model: (self.model + more).min(WORST_ERROR * WORST_ERROR), ..self }
    }

    pub(super) fn is_finite(self) -> bool {
        [self.faint, self.photon, self.model].iter().all(|part| part.is_finite())
    }

    /// Variance of a pixel with this variance of the background and this light of stars.
    #[inline]
    pub(crate) fn variance(self, background: f32, light: f32) -> f32 {
        let light = light.max(0.0);
        background + self.faint + self.photon * light + self.model * light * light
    }

    /// The noise for the weights of pixels. The error of the PSF in it is limited to [`MAX_WEIGHT_ERROR`],
    /// and the photon noise is reduced in proportion.
    ///
    /// If the PSF is poorly known, its error and hidden stars are partly measured as photon noise. With the
    /// full noise, the bright pixels of a star would have so little weight that its faint wings and
    /// neighbouring stars determined its fit.
    #[inline]
    pub(super) fn weighting(self) -> Self {
        let known = MAX_WEIGHT_ERROR * MAX_WEIGHT_ERROR;
        if self.model <= known {
            self
        } else {
            Self { photon: self.photon * known / self.model, model: known, ..self }
        }
    }
}

/// Least signal-to-noise ratio of stars that measure the local error of the PSF.
const TELLING_SNR: f32 = 30.0;
/// Mean number of such stars in a part of the frame, from which the number of parts follows.
const STARS_A_PART: usize = 10;
/// Largest number of parts along an axis.
const MAX_PARTS: usize = 8;
/// One in this many of the stars of a part belongs to its brightest stars.
const BRIGHTEST_SHARE: usize = 3;
/// Least number of brightest stars. A part with fewer stars has the error of the whole frame.
const FEWEST_STARS: usize = 5;
/// Upper limit of the relative error of the PSF.
const WORST_ERROR: f32 = 0.3;

/// The noise as a function of the position in a frame. The error of the PSF differs between parts of the
/// frame.
#[derive(Debug, Clone)]
pub(crate) struct NoiseField {
    /// Width and height of the frame.
    size: [usize; 2],
    /// Number of parts along each axis.
    along: usize,
    /// Noise of the parts, row by row.
    parts: Vec<Noise>,
}

impl NoiseField {
    /// The given noise, with the excess error of the PSF that the stars of each part of the frame show.
    ///
    /// The excess is a median over stars, because blended stars are outliers. The brightest stars may be
    /// blended more often, and undetected stars disturb the fainter ones more; so the excess is the smaller
    /// of the medians of the brightest stars and of all.
    pub(crate) fn local(noise: Noise, size: [usize; 2], fits: &[Fit]) -> Self {
        let telling = telling(fits);
        let along = ((telling.len() as f64 / STARS_A_PART as f64).sqrt() as usize).clamp(1, MAX_PARTS);
        let mut stars = vec![Vec::new(); along * along];
        for fit in telling {
            stars[part_of(fit.source.pixel, size, along)].push(fit);
        }
        let parts = stars.into_iter().map(|stars| noise.with_excess(stars));
        Self { size, along, parts: parts.collect() }
    }

    /// The noise at a pixel.
    pub(crate) fn at(&self, pixel: [isize; 2]) -> Noise {
        self.parts[part_of(pixel, self.size, self.along)]
    }
}

/// The stars that measure the error of the PSF.
fn telling(fits: &[Fit]) -> Vec<&Fit> {
    fits.iter().filter(|fit| fit.snr() > TELLING_SNR).collect()
}

/// Median over stars of the excess of chi-square over its expectation, divided by the squared signal-to-noise
/// ratio.
fn median_excess(stars: &[&Fit]) -> f32 {
    let excess = |fit: &&Fit| f64::from((fit.chi2 - fit.pixels) / fit.snr().powi(2));
    median(&mut stars.iter().map(excess).collect::<Vec<f64>>()) as f32
}

/// Solves normal equations for the unknowns that are `free`. Unknowns that would be negative, and those that
/// are not free, are 0.
fn positive_parts(left: &Matrix3<f64>, right: &Vector3<f64>, mut free: [bool; 3]) -> Option<[f64; 3]> {
    // The unknowns are scaled so that the diagonal is 1.
    let scale = left.diagonal().map(f64::sqrt);
    loop {
        let element = |i: usize, j: usize| {
            let unit = f64::from(u8::from(i == j));
            if free[i] && free[j] { left[(i, j)] / (scale[i] * scale[j]) } else { unit }
        };
        let wanted = Vector3::from_fn(|i, _| if free[i] { right[i] / scale[i] } else { 0.0 });
        let parts = Matrix3::from_fn(element).cholesky()?.solve(&wanted);
        let (least, _) = parts.argmin();
        if parts[least] >= 0.0 {
            return Some(std::array::from_fn(|i| if free[i] { parts[i] / scale[i] } else { 0.0 }));
        }
        free[least] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of stars with several fluxes, with squared residuals exactly equal to their expectation.
    fn samples(noise: Noise) -> Vec<Sample> {
        let sample = |k: i32| {
            let light = 2.0 * 1.005_f32.powi(k % 1500);
            Sample { light, square: noise.variance(4.0, light), background: 4.0, of_faint_star: k > 1500 }
        };
        (0..3000).map(sample).collect()
    }

    #[test]
    fn each_part_of_the_noise_is_measured() {
        for faint in [0.0, 3.0, 50.0] {
            for photon in [0.0, 0.5] {
                for model in [1e-6, 1e-4, 1e-3] {
                    let truth = Noise { faint, photon, model };
                    let start = Noise { faint: 0.0, photon: 0.0, model: 1e-4 };
                    let found = Noise::measured(&samples(truth), start, false);
                    assert!((found.faint - faint).abs() < 0.05 * (faint + 4.0), "{found:?} {truth:?}");
                    assert!((found.photon - photon).abs() < 0.05, "{found:?} {truth:?}");
                    assert!((found.model / model - 1.0).abs() < 0.1, "{found:?} {truth:?}");
                    let known = Noise::measured(&samples(truth), Noise { photon, ..start }, true);
                    assert!((known.photon - photon).abs() < 1e-6, "{known:?} {truth:?}");
                }
            }
        }
    }

    #[test]
    fn stars_of_one_flux_tell_the_error_of_the_shape() {
        let truth = Noise { faint: 0.0, photon: 0.5, model: 1e-4 };
        let mut pixels = samples(truth);
        pixels.retain(|sample| !sample.of_faint_star);
        let found = Noise::measured(&pixels, Noise { photon: 0.0, model: 1e-2, ..truth }, false);
        assert!((found.model / truth.model - 1.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn the_outskirts_of_bright_stars_are_no_faint_stars() {
        // The PSF is twice as wide as assumed, so there is light where little is expected.
        let mut pixels = samples(Noise { faint: 0.0, photon: 0.0, model: 1e-4 });
        for sample in pixels.iter_mut().filter(|sample| !sample.of_faint_star && sample.light < 10.0) {
            sample.square += 8.0;
        }
        let start = Noise { faint: 0.0, photon: 0.0, model: 1e-4 };
        assert!(Noise::measured(&pixels, start, true).faint < 0.1);
    }
}
