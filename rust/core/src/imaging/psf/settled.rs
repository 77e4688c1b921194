//! Quantities of a star that are computed once its fit is settled.

use super::cutouts::Stamps;
use super::fit::Work;
use super::noise::Noise;
use super::source::{Fit, Source};
use crate::imaging::stamp::is_good;

/// A background that is known better than this fraction of the noise of a pixel is taken as it is.
const KNOWN_BACKGROUND: f32 = 0.05;

impl Stamps {
    /// The fit with what the error of the point-spread function adds to its covariance, beyond what its weights, those of the
    /// noise `assumed`, know; `work` holds the star's model and its neighbours' light.
    pub(crate) fn with_model_error(
        &self,
        fit: Fit,
        assumed: Noise,
        noise: Noise,
        i: usize,
        work: &Work,
    ) -> Fit {
        let weighting = assumed.weighting();
        let (flux, inverse) = (fit.source.flux, fit.inverse());
        if noise == weighting || !fit.flux_error.is_finite() {
            return fit;
        }
        let mut added = [[0.0_f32; 3]; 3];
        for at in self.crop(i).spans(self.layout()).flatten().filter(|&at| is_good(self.data(i)[at])) {
            let light = (work.light[at] + flux * work.own.value[at]).max(0.0);
            let weight = 1.0 / weighting.variance(self.variance(i), light);
            let gradient = [flux * work.own.by_x[at], flux * work.own.by_y[at], work.own.value[at]];
            // How far x, y and flux go with the error of this pixel.
            let response = inverse.map(|row| weight * (0..3).map(|k| row[k] * gradient[k]).sum::<f32>());
            let variance = noise.variance(self.variance(i), light) - 1.0 / weight;
            for (row, a) in added.iter_mut().zip(response) {
                for (sum, b) in row.iter_mut().zip(response) {
                    *sum += variance * a * b;
                }
            }
        }
        let [xx, xy, yy] = fit.covariance;
        let [dxx, dxy, dyy] = [added[0][0], added[0][1], added[1][1]].map(f64::from);
        Fit {
            covariance: [xx + dxx, xy + dxy, yy + dyy],
            flux_error: (fit.flux_error * fit.flux_error + added[2][2]).sqrt(),
            ..fit
        }
    }

    /// The fit with the background under the star free as well, and how much higher than thought it is.
    ///
    /// `uncertainty` is the standard deviation of what was thought. The position is hardly touched by what is the same on
    /// all sides of it, and stays. `work` holds the star's model and its neighbours' light.
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
