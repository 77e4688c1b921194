//! The noise of pixels with stars on them.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

use nalgebra::{Matrix3, Vector3};
use rayon::prelude::*;

use super::source::Fit;
use crate::imaging::stamp::part_of;
use crate::lsq::robust::median;
use crate::simd::Lanes;

/// Relative error of the point-spread function that is counted at most in the weights of pixels.
const MAX_WEIGHT_ERROR: f32 = 0.03;
/// Rounds in which the noise is measured with the weights that itself gives.
const ROUNDS: usize = 4;
/// A residual of more standard deviations is a neighbour or a cosmic ray.
const OUTLIER: f32 = 5.0;
/// Samples added up by one task.
const TASK_SAMPLES: usize = 2048;

/// Variance of a pixel: `σ² + faint + photon · light + model · light²`, of the light of all stars on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Variance of the light of stars that are too faint to be told from the star.
    pub faint: f32,
    /// Units of the image per electron.
    pub photon: f32,
    /// Square of the relative error of the point-spread function.
    pub model: f32,
}

/// The [`Noise`] of several pixels at a time.
pub(super) struct PixelNoise {
    constant: Lanes,
    photon: Lanes,
    model: Lanes,
}

impl PixelNoise {
    /// Over a background of this variance.
    #[inline(always)]
    pub(super) fn new(noise: Noise, background: f32) -> Self {
        let splat = Lanes::splat;
        Self {
            constant: splat(background + noise.faint),
            photon: splat(noise.photon),
            model: splat(noise.model),
        }
    }

    /// Variance of pixels with this light; what is negative counts as none.
    #[inline(always)]
    pub(super) fn variance(&self, light: Lanes) -> Lanes {
        let light = light.max(Lanes::splat(0.0));
        self.constant + light * (self.photon + self.model * light)
    }
}

/// A pixel of a star.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Light of the star.
    pub light: f32,
    /// Square of the residual.
    pub square: f32,
    /// Variance of the background.
    pub background: f32,
    /// Whether the star is one of the fainter ones.
    pub of_faint_star: bool,
}

/// Powers of the light in normal equations of three terms, and sums of weights with these, and with the excess times the terms:
/// of the brighter stars, and of the fainter ones.
const POWERS: usize = 5;
type Sums = [[f64; POWERS + 3]; 2];

impl Noise {
    /// The noise that pixels of stars have, by least squares of their squared residuals; no part of it is negative. The photon
    /// noise of `start` stays if it is `known`.
    ///
    /// The fainter stars tell of the light of those too faint to see, for the error of the shape is a fraction of theirs.
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

    /// Normal equations of `faint`, `photon` beyond what is kept, and `model`, each sample weighted with its expected scatter:
    /// of the brighter stars, and of the fainter ones.
    fn normal_equations(self, samples: &[Sample], kept_photon: f32) -> [(Matrix3<f64>, Vector3<f64>); 2] {
        let parts: Vec<Sums> = samples.par_chunks(TASK_SAMPLES).map(|s| self.sums(s, kept_photon)).collect();
        [0, 1].map(|part| {
            let total = |k: usize| parts.iter().map(|sums| sums[part][k]).sum::<f64>();
            (Matrix3::from_fn(|i, j| total(i + j)), Vector3::from_fn(|i, _| total(POWERS + i)))
        })
    }

    /// Sums of the weights of samples, times powers of their light, and of these times their excess.
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
            // The terms are powers of the light, and their products are.
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

    #[inline]
    pub(crate) fn variance(self, background: f32, light: f32) -> f32 {
        let light = light.max(0.0);
        background + self.faint + self.photon * light + self.model * light * light
    }

    /// The variance to weight pixels with, which grows with the light no more than is sure.
    ///
    /// Where the point-spread function is not known well, its error, and stars that its light hides, pass for photon noise.
    /// Counted in full they would leave a bright star to its faint wings, and to neighbouring stars.
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

/// Stars of this signal to noise tell how wrong the point-spread function is in their part of the frame, if there are so many
/// on average; parts along an axis at most.
const TELLING_SNR: f32 = 30.0;
const STARS_A_PART: usize = 10;
const MAX_PARTS: usize = 8;
/// The brightest of a part, asked besides all: one in so many, but so many at least.
const BRIGHTEST_SHARE: usize = 3;
const FEWEST_STARS: usize = 5;
/// The function is taken to be no more wrong than this fraction of the light.
const WORST_ERROR: f32 = 0.3;

/// The noise all over a frame: the error of the point-spread function differs from place to place.
#[derive(Debug, Clone)]
pub(crate) struct NoiseField {
    /// Width and height of the frame.
    size: [usize; 2],
    /// Parts along each axis, row by row.
    along: usize,
    parts: Vec<Noise>,
}

impl NoiseField {
    /// Some noise, with the error of the point-spread function that the stars of each part show beyond that of all: the median,
    /// for a star with another beside it does not tell. The brightest of them may have one more often; of fainter ones, stars
    /// too faint to see are a larger part: the less counts.
    pub(crate) fn local(noise: Noise, size: [usize; 2], fits: &[Fit]) -> Self {
        let telling: Vec<&Fit> = fits.iter().filter(|fit| fit.snr() > TELLING_SNR).collect();
        let along = ((telling.len() as f64 / STARS_A_PART as f64).sqrt() as usize).clamp(1, MAX_PARTS);
        let mut stars = vec![Vec::new(); along * along];
        for fit in telling {
            stars[part_of(fit.source.pixel, size, along)].push(fit);
        }
        let parts = stars.into_iter().map(|mut stars| {
            stars.sort_by(|a, b| b.snr().total_cmp(&a.snr()));
            let brightest = (stars.len() / BRIGHTEST_SHARE).max(FEWEST_STARS);
            let more = match stars.get(..brightest) {
                Some(brightest) => median_excess(brightest).min(median_excess(&stars)).max(0.0),
                None => 0.0,
            };
            Noise { model: (noise.model + more).min(WORST_ERROR * WORST_ERROR), ..noise }
        });
        Self { size, along, parts: parts.collect() }
    }

    /// The noise at a pixel.
    pub(crate) fn at(&self, pixel: [isize; 2]) -> Noise {
        self.parts[part_of(pixel, self.size, self.along)]
    }
}

/// Median excess of the squared residuals over their expectation, as a fraction of the squared light.
fn median_excess(stars: &[&Fit]) -> f32 {
    let excess = |fit: &&Fit| f64::from((fit.chi2 - fit.pixels) / fit.snr().powi(2));
    median(&mut stars.iter().map(excess).collect::<Vec<f64>>()) as f32
}

/// The solution of normal equations for the unknowns that are `free`, without those that would be negative; the others are 0.
fn positive_parts(left: &Matrix3<f64>, right: &Vector3<f64>, mut free: [bool; 3]) -> Option<[f64; 3]> {
    // In units in which the diagonal is 1.
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

    /// Squared residuals of just the size that is to be expected, of stars of several fluxes.
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
        // Twice as wide as it is taken to be: there is light where there should be little.
        let mut pixels = samples(Noise { faint: 0.0, photon: 0.0, model: 1e-4 });
        for sample in pixels.iter_mut().filter(|sample| !sample.of_faint_star && sample.light < 10.0) {
            sample.square += 8.0;
        }
        let start = Noise { faint: 0.0, photon: 0.0, model: 1e-4 };
        assert!(Noise::measured(&pixels, start, true).faint < 0.1);
    }
}
