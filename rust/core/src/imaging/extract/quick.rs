//! Measures fast centroids of stars without bad pixels around them. Like the slower centroids, these are
//! centroids in a Gaussian window, but the windows are tabulated, the stamps small, and the errors computed
//! by formula.

// Parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use std::f64::consts::PI;

use crate::imaging::background::Background;
use crate::imaging::centroid::{Moments, PIXEL_VARIANCE, Seen, unwindow, window_reach, window_sigma};
use crate::imaging::image::Image;
use crate::imaging::stamp::Layout;
use crate::simd::{self, LANES, Lanes, vectorized};

/// Half width of a stamp, in sigmas of the window; half a pixel is added to it.
const STAMP_SIGMAS: f64 = 2.5;
/// Smallest and largest half width of a stamp, in pixels.
const HALF_RANGE: [usize; 2] = [3, 12];
/// Number of tabulated windows per pixel of shift. The distance that remains between window and star changes
/// the position by a tenth of itself, or less.
const PHASES: f32 = 32.0;
/// Greatest shift of a window from the middle of its stamp, in pixels.
const MAX_SHIFT: f32 = 1.25;
/// Maximum number of iterations.
const ROUNDS: usize = 4;
/// Step, in pixels, below which the iteration ends.
const TOLERANCE: f32 = 0.1;
/// Position error due to the sampling by pixels, in pixels, below which it is not corrected.
const NEGLIGIBLE_ERROR: f32 = 1e-3;

/// Tabulated windows for every shift along one axis.
pub(super) struct Quick {
    layout: Layout,
    /// Sigma of the stars and of the window, in pixels.
    star: f64,
    window: f64,
    /// Measured less true position, in pixels, of a star a quarter of a pixel from the middle of a pixel.
    sampling_error: f32,
    /// Values of w, w·d and w·d² for every shift, where w is the window and d the distance from its centre.
    /// Each of the three arrays is as long as a stamp's stride.
    windows: Vec<f32>,
}

/// A stamp about a star: frame less background. Bad pixels are NaN, and make the measurement fail.
pub(super) struct Stamp<'a> {
    pub(super) layout: Layout,
    pub(super) pixels: &'a [f32],
}

impl Quick {
    /// Tabulates the windows for stars of sigma `star`, in pixels.
    pub(super) fn new(star: f64) -> Self {
        let window = window_sigma(star);
        let half = ((STAMP_SIGMAS * window + 0.5).ceil() as usize).clamp(HALF_RANGE[0], HALF_RANGE[1]);
        let layout = Layout::new(half);
        let mut windows = Vec::new();
        for phase in 0..=2 * phase_of(0.0) {
            let shift = shift_of(phase);
            let distance = |k: usize| k as f32 - half as f32 - shift;
            for power in 0..3 {
                windows.extend((0..layout.stride).map(|k| {
                    let d = distance(k);
                    let weight = (-0.5 * f64::from(d * d) / (window * window)).exp() as f32;
                    if k < layout.side { weight * d.powi(power) } else { 0.0 }
                }));
            }
        }
        Self { layout, star, window, sampling_error: sampling_error(star, window), windows }
    }

    /// Length of the buffer for a stamp.
    pub(super) fn stamp_len(&self) -> usize {
        self.layout.len()
    }

    /// Reads the stamp about a pixel; `None` if the stamp extends beyond the frame.
    pub(super) fn cut<'s>(
        &self,
        image: &Image<'_>,
        background: &Background,
        [x, y]: [usize; 2],
        pixels: &'s mut [f32],
    ) -> Option<Stamp<'s>> {
        let Layout { half, side, stride } = self.layout;
        let (left, top) = (x.checked_sub(half)?, y.checked_sub(half)?);
        if left + stride > image.width() || top + side > image.height() {
            return None;
        }
        let level = Lanes::splat(background.level.at(x as f32, y as f32));
        image.read_block([left, top], stride, pixels, stride);
        for part in pixels.chunks_exact_mut(LANES) {
            (Lanes::load(part) - level).store(part);
        }
        Some(Stamp { layout: self.layout, pixels })
    }

    /// Measures the star near the offset `start` from the middle of the stamp. Returns `None` if there is no
    /// light or a bad pixel, or if the star is too far from the middle.
    pub(super) fn measure(
        &self,
        stamp: &Stamp<'_>,
        start: [f32; 2],
        variance: f32,
        photon: f32,
    ) -> Option<Seen> {
        let reach = window_reach(self.star, self.window) as f32;
        let mut position = start;
        for round in 1..=ROUNDS {
            if !(position[0].abs() < MAX_SHIFT && position[1].abs() < MAX_SHIFT) {
                return None;
            }
            let phases = position.map(phase_of);
            let centre = phases.map(shift_of);
            let [total, sums @ ..] = vectorized(WindowSums { quick: self, stamp, phases });
            if total.is_nan() || total <= 0.0 {
                return None;
            }
            let [mx, my, xx, xy, yy] = sums.map(|s| s / total);
            position = [centre[0] + reach * mx, centre[1] + reach * my];
            if reach * mx.abs().max(my.abs()) < TOLERANCE || round == ROUNDS {
                // The windowed light is centred between window and star, but is as wide as in a window on the
                // star.
                let seen = [xx - mx * mx, xy - mx * my, yy - my * my].map(f64::from);
                let off_centre = 0.5 * f64::from(reach * (mx * mx + my * my)) / (self.window * self.window);
                if self.sampling_error.abs() > NEGLIGIBLE_ERROR {
                    position = position.map(|p| p - self.sampling_error * (std::f32::consts::TAU * p).sin());
                }
                return Some(self.star(
                    position,
                    f64::from(total) * (1.0 + off_centre),
                    seen,
                    variance,
                    photon,
                ));
            }
        }
        None
    }

    /// Flux, shape and errors of a star from its windowed sums, by the formulas for Gaussians.
    ///
    /// For a star of sigma σ and flux F and a window of sigma ω, the sums Σw² and Σw²x² over the pixels are
    /// πω² and πω⁴/2. Weighted with the star's light, they are Fs²/σ² and Fs⁴/σ², with 1/s² = 2/ω² + 1/σ².
    fn star(&self, position: [f32; 2], total: f64, seen: Moments, variance: f32, photon: f32) -> Seen {
        let [star, window] = [self.star, self.window].map(|sigma| sigma * sigma);
        let narrow = star * window / (2.0 * star + window);
        let moments = unwindow(seen, self.window, self.layout.half as f64);
        let [xx, xy, yy] = moments;
        let scale = ((window + xx) * (window + yy) - xy * xy).max(0.0).sqrt() / window;
        let flux = total * scale;
        let (variance, photons) = (f64::from(variance), f64::from(photon) * flux * narrow / star);
        let first = variance * 0.5 * PI * window * window + photons * narrow;
        let spread = first * (window_reach(self.star, self.window) / total).powi(2);
        Seen {
            position: position.map(f64::from),
            covariance: [spread, 0.0, spread],
            flux,
            flux_error: (variance * PI * window + photons).sqrt() * scale,
            moments,
        }
    }

    /// Sums of w, w·x, w·y, w·x², w·x·y, w·y² times the pixels; x and y are relative to the window's centre.
    #[inline(always)]
    fn sums(&self, stamp: &Stamp<'_>, phases: [usize; 2]) -> [f32; 6] {
        let Layout { side, stride, .. } = self.layout;
        let window = |phase: usize, power: usize| &self.windows[(3 * phase + power) * stride..][..stride];
        let (x, y) = (phases[0], phases[1]);
        let (flat, first, second) = (window(y, 0), window(y, 1), window(y, 2));
        let zero = Lanes::splat(0.0);
        let (mut w, mut wx, mut wy, mut wxx, mut wxy, mut wyy) = (zero, zero, zero, zero, zero, zero);
        for c in (0..stride).step_by(LANES) {
            let (mut down, mut down1, mut down2) = (zero, zero, zero);
            for j in 0..side {
                let pixels = Lanes::load(&stamp.pixels[j * stride + c..][..LANES]);
                down = down + Lanes::splat(flat[j]) * pixels;
                down1 = down1 + Lanes::splat(first[j]) * pixels;
                down2 = down2 + Lanes::splat(second[j]) * pixels;
            }
            let load = |power: usize| Lanes::load(&window(x, power)[c..][..LANES]);
            let (flat, first, second) = (load(0), load(1), load(2));
            w = w + flat * down;
            wx = wx + first * down;
            wy = wy + flat * down1;
            wxx = wxx + second * down;
            wxy = wxy + first * down1;
            wyy = wyy + flat * down2;
        }
        simd::sums(&[w, wx, wy, wxx, wxy, wyy])
    }
}

/// Computes the sums in a window.
struct WindowSums<'a> {
    quick: &'a Quick,
    stamp: &'a Stamp<'a>,
    phases: [usize; 2],
}

impl simd::Work for WindowSums<'_> {
    type Output = [f32; 6];

    #[inline(always)]
    fn call(self) -> [f32; 6] {
        self.quick.sums(self.stamp, self.phases)
    }
}

/// Error along one axis, in pixels, of the centroid of a star a quarter of a pixel from the middle of a
/// pixel. It arises because narrow light in a narrow window is summed over few pixels instead of integrated.
/// The error varies with the sine of the position.
fn sampling_error(star: f64, window: f64) -> f32 {
    const ROUNDS: usize = 10;
    const STEPS: usize = 16;
    const REACH: i32 = 8;
    const PLACE: f64 = 0.25;
    // The star's width includes that of a pixel, over which `light` integrates; so it is subtracted here.
    let narrow = (star * star - PIXEL_VARIANCE).max(PIXEL_VARIANCE);
    let light = |pixel: f64| {
        (0..STEPS)
            .map(|k| pixel - 0.5 + (k as f64 + 0.5) / STEPS as f64 - PLACE)
            .map(|d| (-0.5 * d * d / narrow).exp())
            .sum::<f64>()
    };
    let mut centre = PLACE;
    for _ in 0..ROUNDS {
        let (mut total, mut first) = (0.0, 0.0);
        for pixel in (-REACH..=REACH).map(f64::from) {
            let d = pixel - centre;
            let seen = light(pixel) * (-0.5 * (d / window).powi(2)).exp();
            total += seen;
            first += seen * d;
        }
        centre += window_reach(star, window) * first / total;
    }
    (centre - PLACE) as f32
}

fn phase_of(shift: f32) -> usize {
    ((shift + MAX_SHIFT) * PHASES + 0.5) as usize
}

fn shift_of(phase: usize) -> f32 {
    phase as f32 / PHASES - MAX_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_a_gaussian_star_wherever_it_starts() {
        let flux = 5e3;
        let pixels: Vec<f32> = (0..40 * 40)
            .map(|k| {
                let (x, y) = (f64::from(k % 40) - 20.3, f64::from(k / 40) - 18.6);
                (flux / (2.0 * PI * 1.44) * (-0.5 * (x * x + y * y) / 1.44).exp()) as f32
            })
            .collect();
        let image = Image::from_slice(&pixels, 40).unwrap();
        let background = Background::measure(&image, 40).unwrap();
        let quick = Quick::new(1.2);
        let mut buffer = vec![0.0; quick.stamp_len()];
        for (at, start) in [([20, 19], [0.0, 0.0]), ([20, 19], [0.5, -0.5]), ([21, 18], [-0.3, 0.2])] {
            let stamp = quick.cut(&image, &background, at, &mut buffer).unwrap();
            let seen = quick.measure(&stamp, start, 1.0, 0.0).unwrap();
            let found = [at[0] as f64 + seen.position[0], at[1] as f64 + seen.position[1]];
            assert!((found[0] - 20.3).abs() < 0.01 && (found[1] - 18.6).abs() < 0.01, "{found:?}");
            assert!((seen.flux / flux - 1.0).abs() < 0.02, "{}", seen.flux);
            assert!((seen.moments[0] - 1.44).abs() < 0.06 && seen.moments[1].abs() < 0.03);
        }
    }

    #[test]
    fn the_places_of_the_pixels_do_not_show() {
        let quick = Quick::new(0.6);
        assert!(-quick.sampling_error > 0.01);
        let mut buffer = vec![0.0; quick.stamp_len()];
        for place in [-0.4, -0.25, 0.1, 0.25, 0.4] {
            // A star whose pixels are integrals of its light, by the midpoint rule.
            let light = |d: f64| {
                let part = |k: i32| d - 0.475 + 0.05 * f64::from(k);
                (0..20).map(|k| (-0.5 * part(k).powi(2) / (0.36 - PIXEL_VARIANCE)).exp()).sum::<f64>()
            };
            let pixels: Vec<f32> = (0..31 * 31)
                .map(|k| (light(f64::from(k % 31) - 15.0 - place) * light(f64::from(k / 31) - 15.0)) as f32)
                .collect();
            let image = Image::from_slice(&pixels, 31).unwrap();
            let background = Background::measure(&image, 31).unwrap();
            let stamp = quick.cut(&image, &background, [15, 15], &mut buffer).unwrap();
            let [x, y] = quick.measure(&stamp, [0.0, 0.0], 1.0, 0.0).unwrap().position;
            assert!((x - place).abs() < 0.005 && y.abs() < 0.005, "{x} {y} for {place}");
        }
    }

    #[test]
    fn bad_pixels_edges_and_darkness_are_left_to_others() {
        let quick = Quick::new(1.0);
        let mut buffer = vec![0.0; quick.stamp_len()];
        let mut pixels = vec![1.0_f32; 30 * 30];
        pixels[15 * 30 + 15] = f32::NAN;
        let image = Image::from_slice(&pixels, 30).unwrap();
        let background = Background::measure(&image, 30).unwrap();
        assert!(quick.cut(&image, &background, [2, 15], &mut buffer).is_none());
        assert!(quick.cut(&image, &background, [28, 15], &mut buffer).is_none());
        for at in [[15, 15], [8, 8]] {
            let stamp = quick.cut(&image, &background, at, &mut buffer).unwrap();
            assert!(quick.measure(&stamp, [0.0, 0.0], 1.0, 0.0).is_none());
        }
    }
}
