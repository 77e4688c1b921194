//! Measures the noise of positions from the residuals of the stars that measure the point-spread function
//! (PSF).
//!
//! The noise of the background is measured over the whole frame, where light of undetected stars adds to it,
//! and it is measured after the matched filter, where that light looks like noise that is correlated between
//! pixels. It is right for detection and for fluxes. Positions change only by light that differs between the
//! two sides of a star. So their noise is measured again in the residuals of stars: the noise of single
//! pixels, and the correlation of neighbouring pixels, which resampling, smoothing and demosaicing cause.

use rayon::prelude::*;

use super::cutouts::Stamps;
use super::field::PsfField;
use super::fit::Work;
use super::noise::{Noise, Sample};
use super::source::Source;
use crate::imaging::stamp::is_good;
use crate::lsq::robust::{median, normal_scale};
use crate::simd;

/// Pixels with a larger leverage in the fit of their star are not used to measure the noise.
const MAX_LEVERAGE: f32 = 0.9;
/// Largest number of stars that measure the correlation of the noise. More take longer and measure it more
/// precisely.
const MAX_STARS: usize = 100;
/// A pixel with less light than this, in sigmas of the background, shows the noise of the background.
const DARK: f32 = 1.0;
/// Larger residuals, in sigmas, are excluded or limited to this value.
const OUTLIER: f32 = 4.0;
/// Least number of pairs of pixels that measure a correlation. With fewer, it is assumed to be zero.
const FEWEST_PAIRS: usize = 200;
/// Distances of the pairs of pixels, in columns and rows, and the number of equal ones in other directions.
const LAGS: [([usize; 2], f64); 6] =
    [([1, 0], 2.0), ([0, 1], 2.0), ([1, 1], 4.0), ([2, 0], 2.0), ([0, 2], 2.0), ([2, 1], 8.0)];
/// Number of the first of these that are adjacent pixels.
const ADJACENT: usize = 2;
/// The noise in the light of stars is smoothed if the residuals of adjacent pixels with light are correlated
/// by more than this. The fit of a star removes much of such noise: a correlation of 0.6 leaves 0.4.
const SMOOTHED: f64 = 0.2;
/// Below this correlation of adjacent pixels with light, the errors of the PSF alternate between pixels, as
/// they do where colours were interpolated from a mosaic.
const ALTERNATING: f64 = -0.3;
/// Largest variance of dark pixels next to stars, in units of that of the background without its correlation,
/// in frames whose correlation is that of noise. More is light of undetected stars.
const MOST_NOISE: f64 = 1.35;
/// Least variance of dark pixels in the same units. Where most pixels are rounded to one value, their median
/// tells little.
const LEAST_NOISE: f32 = 0.5;
/// Largest part of the variance of dark pixels that whole stamps may have in common.
const MOST_CONSTANT: f64 = 0.9;
/// Range of the variance of positions, in units of that caused by white noise.
const FACTORS: [f64; 2] = [0.5, 10.0];

/// The noise from which the errors of positions follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PositionNoise {
    /// Noise of single pixels, beyond that of the background.
    pub pixel: Noise,
    /// Variance of single pixels of the background, in units of that of the stamps.
    pub share: f32,
    /// Variance of positions caused by the background, in units of that caused by white noise of the same
    /// single pixels.
    pub background: f32,
    /// The same for the light of stars: their photon noise and the error of the PSF.
    pub light: f32,
}

/// The residuals of stars, and the noise with which the stars were fitted.
pub(super) struct Measurement<'a> {
    pub stamps: &'a Stamps,
    pub stars: &'a [Residuals],
    pub samples: &'a [Sample],
    pub building: Noise,
    /// Whether the photon noise is known.
    pub known: bool,
}

impl PositionNoise {
    /// White noise of the same variance as that of the stamps.
    pub(crate) fn white(pixel: Noise) -> Self {
        Self { pixel, share: 1.0, background: 1.0, light: 1.0 }
    }

    /// Variance of positions caused by the background, in units of that caused by white noise of the same
    /// variance as that of the stamps.
    pub(crate) fn of_background(self) -> f32 {
        self.share * self.background
    }

    /// Measures the noise. `None` if it is not finite.
    pub(super) fn measured(of: &Measurement<'_>) -> Option<Self> {
        let step = of.stars.len().div_ceil(MAX_STARS).max(1);
        let some: Vec<&Residuals> = of.stars.iter().step_by(step).collect();
        let mut dark: Vec<f64> = some.iter().flat_map(|star| star.dark()).collect();
        let constant = constant(&some);
        let correlation = of.stamps.correlation();
        let share = if dark.len() < FEWEST_PAIRS {
            1.0
        } else {
            let measured = (1.0 - constant) * variance(&mut dark);
            (measured as f32).max(LEAST_NOISE / (correlation * correlation))
        };
        let with_share = |sample: &Sample| Sample { background: share * sample.background, ..*sample };
        let samples: Vec<Sample> = of.samples.iter().map(with_share).collect();
        let noise = Noise::measured(&samples, of.building, of.known);
        if !(share.is_finite() && noise.is_finite()) {
            return None;
        }
        let pairs: Vec<Correlation> = LAGS
            .par_iter()
            .map(|&(lag, _)| Correlation::measured(&some, lag, share, noise).without(constant))
            .collect();
        let confused = f64::from(share * correlation * correlation) > MOST_NOISE;
        let [background, light] = factors(&pairs, f64::from(of.stamps.sigma()), confused);
        Some(Self { pixel: noise, share, background, light })
    }
}

/// Part of the variance of dark pixels that whole stamps have in common, as errors of the background. It does
/// not move stars.
fn constant(stars: &[&Residuals]) -> f64 {
    let Some(half) = stars.first().map(|star| star.side / 2) else { return 0.0 };
    let far = [[half, 0], [0, half]].map(|lag| Correlation::of_dark(stars, lag));
    (0.5 * (far[0] + far[1])).clamp(0.0, MOST_CONSTANT)
}

/// Variances of positions that the background and the light of stars cause, in units of those caused by white
/// noise. In a `confused` frame, light of undetected stars dominates the noise.
fn factors(pairs: &[Correlation], sigma: f64, confused: bool) -> [f32; 2] {
    let adjacent =
        |of: fn(&Correlation) -> f64| pairs[..ADJACENT].iter().map(of).sum::<f64>() / ADJACENT as f64;
    // The weight of a pixel is the derivative of the light in units of the variance. If the variance is that
    // of the light itself, it falls off more slowly, like that of a star wider by the square root of two.
    let wide = sigma * std::f64::consts::SQRT_2;
    let lit = adjacent(|pair| pair.lit);
    let smoothed = lit.min(adjacent(|pair| pair.dark)) > SMOOTHED && !confused;
    let light = if lit < ALTERNATING {
        factor(pairs, wide, |pair| pair.lit)
    } else if smoothed {
        factor(pairs, wide, |pair| pair.dark)
    } else {
        1.0
    };
    [factor(pairs, sigma, |pair| pair.dark).max(1.0), light].map(|factor| factor as f32)
}

/// Variance of positions in units of that caused by white noise, for a Gaussian star of this width.
///
/// It is the sum of the correlations over all distances d, each weighted with the correlation of the star's
/// derivative with itself at this distance: (1 - q) exp(-q), where q = (d / 2 sigma)², in the mean over all
/// directions.
fn factor(pairs: &[Correlation], sigma: f64, of: fn(&Correlation) -> f64) -> f64 {
    let term = |(&([x, y], same), pair): (&([usize; 2], f64), &Correlation)| {
        let q = (x * x + y * y) as f64 / (4.0 * sigma * sigma);
        same * (1.0 - q) * (-q).exp() * of(pair)
    };
    let [least, most] = FACTORS;
    (1.0 + LAGS.iter().zip(pairs).map(term).sum::<f64>()).clamp(least, most)
}

/// Variance of values from the median of their absolute values. The values are replaced by these.
fn variance(values: &mut [f64]) -> f64 {
    for value in &mut *values {
        *value = value.abs();
    }
    normal_scale(values).powi(2)
}

/// Pixels with light of stars, from which the noise is measured.
pub(super) fn samples(stars: &[Residuals], building: Noise) -> Vec<Sample> {
    let mut fluxes: Vec<f64> = stars.iter().map(|star| f64::from(star.source.flux)).collect();
    let typical = median(&mut fluxes) as f32;
    stars.iter().flat_map(|star| star.samples(building, typical)).collect()
}

/// A pixel of a star's stamp.
#[derive(Debug, Clone, Copy)]
struct Pixel {
    /// Residual; NaN of a bad pixel and of one that is not fitted.
    residual: f32,
    /// Light of the star.
    own: f32,
    /// Light of all stars.
    light: f32,
    /// Derivatives with respect to x, y and flux.
    gradient: [f32; 3],
    /// Change of x, y and flux with the value of the pixel, times the variance of the pixel.
    response: [f32; 3],
}

impl Pixel {
    const BAD: Self =
        Self { residual: f32::NAN, own: 0.0, light: 0.0, gradient: [0.0; 3], response: [0.0; 3] };

    /// Covariance of this pixel with another that the fit of the star removed.
    fn removed(&self, other: &Self) -> f32 {
        self.response.iter().zip(other.gradient).map(|(r, g)| r * g).sum()
    }
}

/// The residuals of a star.
pub(super) struct Residuals {
    source: Source,
    /// Standard deviation of the background.
    sigma: f32,
    /// Number of pixels along a side.
    side: usize,
    /// The pixels, row by row.
    pixels: Vec<Pixel>,
}

impl Residuals {
    /// The residuals of star `i`, which was fitted with the noise `building`.
    pub(super) fn of(
        stamps: &Stamps,
        psf: &PsfField,
        building: Noise,
        sources: &[Source],
        i: usize,
        work: &mut Work,
    ) -> Self {
        let fit = stamps.step(psf, building, sources, i, work);
        let (source, inverse, side) = (sources[i], fit.inverse(), stamps.layout().side);
        let own = &work.own;
        let pixel = |at: usize| {
            let d = stamps.data(i)[at];
            if !(is_good(d) && stamps.crop(i).contains(stamps.layout(), at)) {
                return Pixel::BAD;
            }
            let flux = source.flux;
            let gradient = [flux * own.by_x[at], flux * own.by_y[at], own.value[at]];
            let response = inverse.map(|[a, b, c]| a * gradient[0] + b * gradient[1] + c * gradient[2]);
            let (other, own) = (work.light[at], flux * own.value[at]);
            Pixel { residual: d - other - own, own, light: other + own, gradient, response }
        };
        let rows = (0..side).map(|row| row * stamps.layout().stride);
        let pixels = rows.flat_map(|first| (first..first + side).map(pixel)).collect();
        let sigma = stamps.variance(i).sqrt();
        Self { source, sigma, side, pixels }
    }

    /// The pixels with light of the star. Their squared residuals are corrected for the part that the fit of
    /// the star removed (their leverage).
    fn samples(&self, building: Noise, typical: f32) -> impl Iterator<Item = Sample> + '_ {
        let background = self.sigma * self.sigma;
        let of_faint_star = self.source.flux < typical;
        self.pixels.iter().filter(move |p| p.residual.is_finite() && p.own * p.own >= background).filter_map(
            move |p| {
                let leverage = p.removed(p) / building.variance(background, p.light);
                let square = p.residual * p.residual / (1.0 - leverage);
                let sample = Sample { light: p.own, square, background, of_faint_star };
                (leverage < MAX_LEVERAGE).then_some(sample)
            },
        )
    }

    /// Residuals of the dark pixels, in sigmas of the background.
    fn dark(&self) -> impl Iterator<Item = f64> + '_ {
        let dark = self.pixels.iter().filter(|pixel| self.is_dark(pixel) && pixel.residual.is_finite());
        dark.map(|pixel| f64::from(self.normalised(pixel)))
    }

    fn is_dark(&self, pixel: &Pixel) -> bool {
        pixel.light.abs() < DARK * self.sigma
    }

    /// The residual of a pixel, in sigmas of the background.
    fn normalised(&self, pixel: &Pixel) -> f32 {
        pixel.residual / self.sigma
    }

    /// Expected variance of a pixel by the background, and by the light of stars.
    fn expected(&self, pixel: &Pixel, share: f32, noise: Noise) -> [f32; 2] {
        let light = Noise { faint: 0.0, ..noise }.variance(0.0, pixel.light);
        [share * self.sigma * self.sigma + noise.faint, light]
    }

    /// Standard deviation of a pixel in which the light of stars dominates the noise. `None` of other pixels
    /// and of outliers.
    fn lit(&self, pixel: &Pixel, share: f32, noise: Noise) -> Option<f32> {
        let [background, light] = self.expected(pixel, share, noise);
        let sigma = (background + light).sqrt();
        (light > background && pixel.residual.abs() < OUTLIER * sigma).then_some(sigma)
    }

    /// Good pixels that are `lag` columns and rows apart.
    fn pairs(&self, [dx, dy]: [usize; 2]) -> impl Iterator<Item = [&Pixel; 2]> {
        let side = self.side;
        (0..side - dy)
            .flat_map(move |y| (0..side - dx).map(move |x| y * side + x))
            .map(move |at| [&self.pixels[at], &self.pixels[at + dy * side + dx]])
            .filter(|pair| pair.iter().all(|pixel| pixel.residual.is_finite()))
    }
}

/// Correlation of the noise of pixels at some distance.
#[derive(Debug, Clone, Copy)]
struct Correlation {
    /// Between pixels without light of stars.
    dark: f64,
    /// Between pixels in which the light of stars dominates the noise.
    lit: f64,
}

impl Correlation {
    /// Measures it from all pairs of pixels that are `lag` apart.
    ///
    /// The products of residuals of pixels with light are corrected for what the fit of the star removed.
    fn measured(stars: &[&Residuals], lag: [usize; 2], share: f32, noise: Noise) -> Self {
        let mut products = Vec::new();
        for star in stars {
            for [a, b] in star.pairs(lag) {
                if let [Some(u), Some(v)] = [a, b].map(|pixel| star.lit(pixel, share, noise)) {
                    products.push((a.residual * b.residual + a.removed(b)) / (u * v));
                }
            }
        }
        let enough = products.len() >= FEWEST_PAIRS;
        let lit = if enough { simd::sum(&products) / products.len() as f64 } else { 0.0 };
        Self { dark: Self::of_dark(stars, lag), lit }
    }

    /// Correlation of dark pixels. It follows from medians, because these pixels may contain undetected stars.
    fn of_dark(stars: &[&Residuals], lag: [usize; 2]) -> f64 {
        let (mut sums, mut differences) = (Vec::new(), Vec::new());
        for star in stars {
            for [a, b] in star.pairs(lag).filter(|pair| pair.iter().all(|pixel| star.is_dark(pixel))) {
                let [a, b] = [a, b].map(|pixel| f64::from(star.normalised(pixel)));
                sums.push(a + b);
                differences.push(a - b);
            }
        }
        if sums.len() < FEWEST_PAIRS {
            return 0.0;
        }
        let [plus, minus] = [&mut sums, &mut differences].map(|values| variance(values));
        // Both are zero if most residuals are.
        if plus + minus > 0.0 { (plus - minus) / (plus + minus) } else { 0.0 }
    }

    /// The correlation without a part of the variance of dark pixels that is the same everywhere.
    fn without(self, constant: f64) -> Self {
        Self { dark: (self.dark - constant) / (1.0 - constant), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Correlations that depend on the distance alone.
    fn pairs(dark: impl Fn(f64) -> f64, lit: impl Fn(f64) -> f64) -> Vec<Correlation> {
        let square = |[x, y]: [usize; 2]| (x * x + y * y) as f64;
        LAGS.iter().map(|&(lag, _)| Correlation { dark: dark(square(lag)), lit: lit(square(lag)) }).collect()
    }

    #[test]
    fn white_noise_has_no_factor() {
        assert_eq!(factors(&pairs(|_| 0.0, |_| 0.0), 1.0, false), [1.0, 1.0]);
    }

    /// The sum over all distances is 4π s² for noise smoothed by a Gaussian of width s, in the limit of a wide
    /// star.
    #[test]
    fn smoothed_noise_moves_stars_by_its_sum() {
        let width = 0.5;
        let correlation = |square: f64| (-square / (4.0 * width * width)).exp();
        let smoothed = pairs(correlation, correlation);
        let expected = 4.0 * std::f64::consts::PI * width * width;
        let [background, light] = factors(&smoothed, 50.0, false);
        assert!((f64::from(background) / expected - 1.0).abs() < 0.02, "{background} {expected}");
        assert!((f64::from(light) / expected - 1.0).abs() < 0.02, "{light} {expected}");
        // Undetected stars correlate the background, not the photon noise of other stars.
        assert_eq!(factors(&smoothed, 50.0, true)[1], 1.0);
        assert_eq!(factors(&pairs(correlation, |_| 0.0), 50.0, false)[1], 1.0);
    }

    #[test]
    fn errors_that_alternate_between_pixels_hardly_move_stars() {
        let alternating = |square: f64| if square == 1.0 { -0.5 } else { 0.1 };
        let [background, light] = factors(&pairs(|_| 0.0, alternating), 1.2, false);
        assert_eq!(background, 1.0);
        assert!(light < 0.6, "{light}");
    }
}
