//! Measures position, flux and shape of one star's image by Gaussian-weighted moments, without a model of the
//! image.

// Parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use crate::imaging::stamp::{BAD, Crop, Layout};
use crate::simd::{self, LANES, Lanes, vectorized};

/// Smallest sigma of a window, in pixels. A narrower window covers too few pixels, and its position is drawn
/// to their centres.
const MIN_WINDOW: f64 = 1.0;
/// Maximum number of iterations of the position. Each divides the remaining error by about ten.
const POSITION_ROUNDS: usize = 5;
/// Step of the position, in pixels, below which the iteration ends.
const POSITION_TOLERANCE: f32 = 1e-3;
/// Greatest distance of a position from its start, in pixels. Beyond it, the window has moved to a
/// neighbouring star, and the position is discarded.
const MAX_DRIFT: f32 = 1.5;
/// Number of iterations of the width of an adaptive window.
const WIDTH_ROUNDS: usize = 8;
/// Second moment of a single pixel along one axis, in square pixels: the lower limit for any image.
pub(crate) const PIXEL_VARIANCE: f64 = 1.0 / 12.0;
/// Greatest stride of a stamp, in pixels, that a window can be applied to.
const MAX_STRIDE: usize = 32;

/// Second moments xx, xy, yy, in square pixels.
pub type Moments = [f64; 3];

/// Ratio of the major to the minor axis of the ellipse with these moments.
pub fn elongation(moments: Moments) -> f64 {
    let [large, small] = eigenvalues(moments);
    (large / small.max(f64::MIN_POSITIVE)).sqrt()
}

/// Sigma of the window for stars of this sigma, in pixels.
pub(crate) fn window_sigma(star: f64) -> f64 {
    star.max(MIN_WINDOW)
}

/// Ratio of a star's distance from the window's centre to the distance of its windowed centroid, for a
/// Gaussian star and window of these sigmas.
pub(crate) fn window_reach(star: f64, window: f64) -> f64 {
    1.0 + (star / window).powi(2)
}

/// Light of a side neighbour and of a diagonal neighbour of the pixel on which a round Gaussian star is
/// centred, as fractions of that pixel's light. The light of each pixel is integrated by Simpson's rule.
pub(crate) fn gaussian_neighbours(sigma: f64) -> [f64; 2] {
    const STEPS: usize = 24;
    let integral = |low: f64| {
        let value = |k: usize| (-0.5 * ((low + k as f64 / STEPS as f64) / sigma).powi(2)).exp();
        let weight = |k: usize| if k.is_multiple_of(STEPS) { 1.0 } else { 2.0 + 2.0 * (k % 2) as f64 };
        (0..=STEPS).map(|k| weight(k) * value(k)).sum::<f64>()
    };
    let beside = integral(0.5) / integral(-0.5);
    [beside, beside * beside]
}

/// The larger and the smaller eigenvalue of the moments.
pub(crate) fn eigenvalues([xx, xy, yy]: Moments) -> [f64; 2] {
    let (mean, difference) = (0.5 * (xx + yy), 0.5 * (xx - yy));
    let spread = (difference * difference + xy * xy).sqrt();
    [mean + spread, mean - spread]
}

/// Measured properties of a star's image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    /// Column and row in the frame, or relative to the middle of a stamp until [`moved`](Self::moved) is
    /// called.
    pub position: [f64; 2],
    /// Covariance of the position, in square pixels.
    pub covariance: Moments,
    /// Light above the background, in units of the image, and its standard deviation.
    pub flux: f64,
    pub flux_error: f64,
    /// Second moments of the image.
    pub moments: Moments,
}

impl Seen {
    /// Converts a position relative to a stamp's middle pixel `centre` to column and row of the frame.
    pub(crate) fn moved(self, centre: [isize; 2]) -> Self {
        Self { position: [0, 1].map(|k| centre[k] as f64 + self.position[k]), ..self }
    }
}

/// Sums over a stamp of `weight · value · dx^p · dy^q`.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    total: f32,
    first: [f32; 2],
    second: [f32; 3],
}

impl Sums {
    fn second_moments(&self) -> Moments {
        self.second.map(|m| f64::from(m / self.total))
    }
}

/// The Gaussian `exp(-d²/2σ²)`, raised to a power, and the distance d, of the pixels along one axis of a
/// stamp.
#[derive(Debug, Clone, Copy)]
struct Window {
    weight: [f32; MAX_STRIDE],
    distance: [f32; MAX_STRIDE],
}

impl Window {
    const EMPTY: Self = Self { weight: [0.0; MAX_STRIDE], distance: [0.0; MAX_STRIDE] };

    /// Computes weights and distances for a window centred `offset` pixels from the middle of the stamp.
    /// Weights follow a recurrence outwards from the middle: each step multiplies the ratio w(d + 1) / w(d)
    /// by the constant exp(-power/σ²).
    fn fill(&mut self, Layout { half, side, .. }: Layout, offset: f32, sigma: f32, power: f32) {
        let steep = power / (sigma * sigma);
        let fall = (-steep).exp();
        for (k, d) in self.distance[..side].iter_mut().enumerate() {
            *d = k as f32 - half as f32 - offset;
        }
        let middle = (-0.5 * steep * offset * offset).exp();
        let mut recur = |steps: &mut dyn Iterator<Item = usize>, mut ratio: f32| {
            let mut weight = middle;
            for k in steps {
                self.weight[k] = weight;
                weight *= ratio;
                ratio *= fall;
            }
        };
        recur(&mut (half..side), (-steep * (0.5 - offset)).exp());
        recur(&mut (0..=half).rev(), (-steep * (0.5 + offset)).exp());
    }
}

/// Weighted sums of `value(pixel)` about the point at `offset` from the middle of a stamp, without bad
/// pixels.
fn sums(
    stamp: &[f32],
    layout: Layout,
    crop: Crop,
    offset: [f32; 2],
    sigma: f32,
    power: f32,
    value: impl Fn(Lanes) -> Lanes,
) -> Sums {
    let (mut x, mut y) = (Window::EMPTY, Window::EMPTY);
    x.fill(layout, offset[0], sigma, power);
    y.fill(layout, offset[1], sigma, power);
    let [total, first @ .., xx, xy, yy] = vectorized(WindowSums { stamp, layout, crop, x, y, value });
    Sums { total, first, second: [xx, xy, yy] }
}

/// Computes the sums of w, w·x, w·y, w·x², w·x·y and w·y² times the value of each pixel.
struct WindowSums<'a, F> {
    stamp: &'a [f32],
    layout: Layout,
    crop: Crop,
    x: Window,
    y: Window,
    value: F,
}

impl<F: Fn(Lanes) -> Lanes> simd::Work for WindowSums<'_, F> {
    type Output = [f32; 6];

    #[inline(always)]
    fn call(self) -> [f32; 6] {
        let Self { stamp, layout, crop, x, y, value } = self;
        let mut sums = [Lanes::splat(0.0); 6];
        for column in (crop.columns[0]..crop.columns[1]).step_by(LANES) {
            // Sums over the rows, separate for each column, with the weights along y.
            let [mut flat, mut first, mut second] = [Lanes::splat(0.0); 3];
            for j in crop.rows[0]..crop.rows[1] {
                let pixels = Lanes::load(&stamp[j * layout.stride + column..][..LANES]);
                let dy = Lanes::splat(y.distance[j]);
                let v = Lanes::splat(y.weight[j]) * pixels.within(BAD / 2.0) * value(pixels);
                let by_y = dy * v;
                flat = flat + v;
                first = first + by_y;
                second = second + dy * by_y;
            }
            let weight = Lanes::load(&x.weight[column..column + LANES]);
            let dx = Lanes::load(&x.distance[column..column + LANES]);
            let by_x = weight * dx;
            let [total, wx, wy, xx, xy, yy] = sums;
            sums = [
                total + weight * flat,
                wx + by_x * flat,
                wy + weight * first,
                xx + by_x * dx * flat,
                xy + by_x * first,
                yy + weight * second,
            ];
        }
        simd::sums(&sums)
    }
}

/// The part of a stamp in which a star is measured, and the noise of its pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// Frame less background around the star.
    pub stamp: &'a [f32],
    pub layout: Layout,
    /// The part of the stamp that is used.
    pub crop: Crop,
    /// Variance of a pixel without starlight.
    pub variance: f32,
    /// Increase of a pixel's variance per unit of starlight.
    pub photon: f32,
}

impl View<'_> {
    fn sums(&self, offset: [f32; 2], sigma: f32) -> Sums {
        sums(self.stamp, self.layout, self.crop, offset, sigma, 1.0, |v| v)
    }

    /// Measures position, flux and shape of a star in a Gaussian window that moves to it (XWIN of
    /// `SExtractor`).
    ///
    /// The window suits stars of sigma `star`, and begins at the offset `start` from the middle of the stamp.
    /// Returns `None` if there is no light in the window.
    pub(crate) fn windowed(&self, start: [f32; 2], star: f64) -> Option<Seen> {
        let window = window_sigma(star);
        let (sigma, reach) = (window as f32, window_reach(star, window) as f32);
        let mut offset = start;
        for _ in 0..POSITION_ROUNDS {
            let s = self.sums(offset, sigma);
            if s.total <= 0.0 {
                break;
            }
            let step = s.first.map(|m| (reach * m / s.total).clamp(-0.5, 0.5));
            offset = [offset[0] + step[0], offset[1] + step[1]];
            if step[0].hypot(step[1]) < POSITION_TOLERANCE {
                break;
            }
        }
        let drift = (offset[0] - start[0]).hypot(offset[1] - start[1]);
        if drift.is_nan() || drift > MAX_DRIFT {
            offset = start;
        }
        self.shape(offset, sigma, reach)
    }

    /// Flux and shape of a star at `offset`, and the errors of its flux and windowed position.
    fn shape(&self, offset: [f32; 2], sigma: f32, reach: f32) -> Option<Seen> {
        let s = self.sums(offset, sigma);
        if s.total <= 0.0 {
            return None;
        }
        let (zero, photon) = (Lanes::splat(0.0), Lanes::splat(self.photon));
        let noise = sums(self.stamp, self.layout, self.crop, offset, sigma, 2.0, |v| {
            Lanes::splat(self.variance) + photon * v.max(zero)
        });
        let moments = unwindow(s.second_moments(), f64::from(sigma), self.layout.half as f64);
        // For a Gaussian star C in a Gaussian window W: Σ w v = flux |W|^½ / |W + C|^½.
        let window = f64::from(sigma * sigma);
        let [xx, xy, yy] = moments;
        let scale = ((window + xx) * (window + yy) - xy * xy).max(0.0).sqrt() / window;
        let total = f64::from(s.total);
        Some(Seen {
            position: offset.map(f64::from),
            covariance: noise.second.map(|v| f64::from(v) * (f64::from(reach) / total).powi(2)),
            flux: total * scale,
            flux_error: f64::from(noise.total).sqrt() * scale,
            moments,
        })
    }

    /// Second moments of a star's image about `offset`; `None` if there is no light in the window.
    pub(crate) fn moments(&self, offset: [f32; 2], sigma: f32) -> Option<Moments> {
        let s = self.sums(offset, sigma);
        (s.total > 0.0).then(|| unwindow(s.second_moments(), f64::from(sigma), self.layout.half as f64))
    }

    /// Second moments of a star's image, by a window that adapts its position and width to the image.
    pub(crate) fn adaptive(&self, start: [f32; 2], first_guess: f32) -> Option<Moments> {
        let (mut offset, mut sigma) = (start, f64::from(first_guess));
        let mut moments = [0.0; 3];
        for _ in 0..WIDTH_ROUNDS {
            let s = self.sums(offset, sigma as f32);
            if s.total <= 0.0 {
                return None;
            }
            let step = s.first.map(|m| (2.0 * m / s.total).clamp(-0.5, 0.5));
            offset = [offset[0] + step[0], offset[1] + step[1]];
            moments = unwindow(s.second_moments(), sigma, self.layout.half as f64);
            sigma = mean_sigma(moments);
        }
        let drift = (offset[0] - start[0]).hypot(offset[1] - start[1]);
        (sigma.is_finite() && drift < MAX_DRIFT).then_some(moments)
    }
}

/// Standard deviation of an image, in pixels: the geometric mean of those along its two axes.
pub(crate) fn mean_sigma([xx, xy, yy]: Moments) -> f64 {
    (xx * yy - xy * xy).max(PIXEL_VARIANCE * PIXEL_VARIANCE).powf(0.25)
}

/// Moments `C` of a Gaussian star that has the moments `M` in a Gaussian window `W`: C⁻¹ = M⁻¹ - W⁻¹. The
/// eigenvalues of `C` are limited to the range from [`PIXEL_VARIANCE`] to `half`².
pub(crate) fn unwindow(moments: Moments, sigma: f64, half: f64) -> Moments {
    let window = sigma * sigma;
    let limit = half * half;
    let seen = eigenvalues(moments);
    let [large, small] = seen.map(|m| {
        let inverse = 1.0 / m.max(PIXEL_VARIANCE / 2.0) - 1.0 / window;
        if inverse > 1.0 / limit { (1.0 / inverse).max(PIXEL_VARIANCE) } else { limit }
    });
    // The directions of the axes stay; only their lengths change.
    let spread = seen[0] - seen[1];
    let stretch = if spread > 1e-9 * seen[0].abs() { (large - small) / spread } else { 0.0 };
    let [xx, xy, yy] = moments;
    let (mean, half_difference) = (0.5 * (large + small), 0.5 * stretch * (xx - yy));
    [mean + half_difference, stretch * xy, mean - half_difference]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian_stamp(half: usize, centre: [f64; 2], [xx, xy, yy]: Moments, flux: f64) -> Vec<f32> {
        let layout = Layout::new(half);
        let determinant = xx * yy - xy * xy;
        let mut stamp = vec![BAD; layout.len()];
        for j in 0..layout.side {
            for i in 0..layout.side {
                let (x, y) = (i as f64 - half as f64 - centre[0], j as f64 - half as f64 - centre[1]);
                let r = (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant;
                let peak = flux / (std::f64::consts::TAU * determinant.sqrt());
                stamp[j * layout.stride + i] = (peak * (-0.5 * r).exp()) as f32;
            }
        }
        stamp
    }

    fn view(stamp: &[f32], half: usize) -> View<'_> {
        View { stamp, layout: Layout::new(half), crop: Crop::whole(half), variance: 1.0, photon: 0.0 }
    }

    #[test]
    fn recovers_a_gaussian_star() {
        let stamp = gaussian_stamp(12, [0.3, -0.2], [2.5, 0.6, 1.4], 1e4);
        let seen = view(&stamp, 12).windowed([0.0, 0.0], 1.5).unwrap();
        assert!((seen.position[0] - 0.3).abs() < 2e-3 && (seen.position[1] + 0.2).abs() < 2e-3, "{seen:?}");
        assert!((seen.flux / 1e4 - 1.0).abs() < 1e-3);
        for (a, b) in seen.moments.iter().zip([2.5, 0.6, 1.4]) {
            assert!((a - b).abs() < 0.01, "{:?}", seen.moments);
        }
        let sigma = mean_sigma(view(&stamp, 12).adaptive([0.0, 0.0], 1.2).unwrap());
        assert!((sigma - (2.5_f64 * 1.4 - 0.36).powf(0.25)).abs() < 0.01);
    }

    #[test]
    fn no_light_is_none() {
        let stamp = gaussian_stamp(8, [0.0, 0.0], [2.0, 0.0, 2.0], -10.0);
        assert!(view(&stamp, 8).windowed([0.0, 0.0], 1.5).is_none());
    }

    #[test]
    fn windows_are_gaussian_however_narrow() {
        for (sigma, offset) in [(0.5, 0.4), (1.3, -0.5), (5.0, 0.9)] {
            let layout = Layout::new(12);
            let mut window = Window::EMPTY;
            window.fill(layout, offset, sigma, 1.0);
            for k in 0..layout.side {
                let d = k as f32 - 12.0 - offset;
                assert!((window.weight[k] - (-0.5 * d * d / (sigma * sigma)).exp()).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn elongation_is_the_axis_ratio() {
        assert!((elongation([9.0, 0.0, 1.0]) - 3.0).abs() < 1e-12);
        assert!((elongation([5.0, 4.0, 5.0]) - 3.0).abs() < 1e-12);
    }
}
