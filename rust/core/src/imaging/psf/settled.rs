//! Quantities of a star that are computed once its fit is settled.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use super::cutouts::Stamps;
use super::fit::Work;
use super::noise::{Noise, PixelNoise};
use super::residuals::PositionNoise;
use super::source::{Fit, Source};
use crate::imaging::stamp::{BAD, is_good};
use crate::simd::{self, LANES, Lanes, vectorized};

/// The background is not fitted if its uncertainty is less than this fraction of a pixel's noise.
const KNOWN_BACKGROUND: f32 = 0.05;

impl Stamps {
    /// The fit with the errors that follow from the noise of positions, instead of from the noise in its
    /// weights. The weights follow from the noise `assumed`. `work` holds the star's model and its neighbours'
    /// light.
    pub(crate) fn with_errors(
        &self,
        fit: Fit,
        assumed: Noise,
        noise: PositionNoise,
        i: usize,
        work: &Work,
    ) -> Fit {
        if !fit.flux_error.is_finite() {
            return fit;
        }
        let PositionNoise { pixel, light, .. } = noise;
        let variance = self.variance(i);
        let of_light = Noise { photon: light * pixel.photon, model: light * pixel.model, ..pixel };
        let weighting = PixelNoise::new(assumed.weighting(), variance);
        let position = PixelNoise::new(of_light, noise.of_background() * variance);
        let flux = PixelNoise::new(Noise { faint: assumed.faint, ..of_light }, variance);
        let [dxx, dxy, dyy, dff] =
            vectorized(Errors { stamps: self, fit: &fit, weighting, position, flux, i, work });
        let [xx, xy, yy] = fit.covariance;
        Fit {
            covariance: [xx + f64::from(dxx), xy + f64::from(dxy), yy + f64::from(dyy)],
            flux_error: (fit.flux_error * fit.flux_error + dff).sqrt(),
            ..fit
        }
    }

    /// Fits flux and background under the star together. Returns the new fit and the correction of the
    /// background.
    ///
    /// `uncertainty` is the standard deviation of the background that was subtracted. The position is kept,
    /// because a constant background hardly affects it. `work` holds the star's model and its neighbours'
    /// light.
    pub(crate) fn with_background(
        &self,
        fit: Fit,
        noise: Noise,
        i: usize,
        work: &Work,
        uncertainty: f32,
    ) -> (Fit, f32) {
        if uncertainty * uncertainty < KNOWN_BACKGROUND * KNOWN_BACKGROUND * self.variance(i) {
            return (fit, 0.0);
        }
        let noise = noise.weighting();
        let flux = fit.source.flux;
        let (mut ff, mut fb, mut bb) = (0.0, 0.0, 1.0 / (uncertainty * uncertainty));
        let (mut rf, mut rb) = (0.0, 0.0);
        for at in self.crop(i).spans(self.layout()).flatten().filter(|&at| is_good(self.data(i)[at])) {
            let p = work.own.value[at];
            let model = work.light[at] + flux * p;
            let weight = 1.0 / noise.variance(self.variance(i), model);
            let residual = weight * (self.data(i)[at] - model);
            ff += weight * p * p;
            fb += weight * p;
            bb += weight;
            rf += p * residual;
            rb += residual;
        }
        let determinant = ff * bb - fb * fb;
        if !(determinant > 0.0 && fit.flux_error.is_finite()) {
            return (fit, 0.0);
        }
        let more = (rf * bb - rb * fb) / determinant;
        let variance = fit.flux_error * fit.flux_error + bb / determinant - 1.0 / ff;
        let source = Source { flux: flux + more, ..fit.source };
        (Fit { source, flux_error: variance.sqrt(), ..fit }, (rb * ff - rf * fb) / determinant)
    }
}

/// Arguments for the difference of a star's covariance (xx, xy, yy, flux) from that of its fit, whose pixels
/// have the noise `weighting`.
struct Errors<'a> {
    stamps: &'a Stamps,
    fit: &'a Fit,
    weighting: PixelNoise,
    position: PixelNoise,
    flux: PixelNoise,
    i: usize,
    work: &'a Work,
}

impl simd::Work for Errors<'_> {
    type Output = [f32; 4];

    #[inline(always)]
    fn call(self) -> [f32; 4] {
        let Self { stamps, fit, weighting, position, flux: of_flux, i, work } = self;
        let zero = Lanes::splat(0.0);
        let flux = Lanes::splat(fit.source.flux);
        let inverse = fit.inverse().map(|row| row.map(Lanes::splat));
        let mut sums = [zero; 4];
        for span in stamps.crop(i).spans(stamps.layout()) {
            for at in span.step_by(LANES) {
                let load = |pixels: &[f32]| Lanes::load(&pixels[at..at + LANES]);
                let value = load(&work.own.value);
                let light = load(&work.light) + flux * value;
                let assumed = weighting.variance(light);
                let good = load(stamps.data(i)).within(BAD / 2.0);
                let gradient = [flux * load(&work.own.by_x), flux * load(&work.own.by_y), value];
                // Derivatives of x, y and flux with respect to the value of a pixel.
                let weight = good / assumed;
                let [x, y, f] = inverse.map(|[a, b, c]| {
                    let [p, q, r] = gradient;
                    weight * (a * p + b * q + c * r)
                });
                let (more, of_flux) = (position.variance(light) - assumed, of_flux.variance(light) - assumed);
                let [xx, xy, yy, ff] = sums;
                sums = [xx + more * x * x, xy + more * x * y, yy + more * y * y, ff + of_flux * f * f];
            }
        }
        simd::sums(&sums)
    }
}
