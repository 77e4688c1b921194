//! Gaussian-weighted moments: position, flux and shape of one star's image, without a model of it.

use crate::background::Background;
use crate::image::{Image, Pixel};

/// The window ends at this many of its sigmas.
const WINDOW_CUT: f64 = 4.0;
/// Smallest and largest half width of a stamp.
const HALF_RANGE: [usize; 2] = [3, 24];
/// Rounds of the position; each divides what is left by about ten.
const POSITION_ROUNDS: usize = 12;
/// A round that moves the position by less than this (pixels) is the last.
const POSITION_TOLERANCE: f64 = 1e-4;
/// A position that moves further than this (pixels) has gone to a neighbour: it is put back.
const MAX_DRIFT: f64 = 2.0;
/// Rounds of the width of an adaptive window.
const WIDTH_ROUNDS: usize = 8;
/// Second moments of a single pixel: nothing is narrower.
const PIXEL_VARIANCE: f64 = 1.0 / 12.0;

/// Second moments xx, xy, yy.
pub type Moments = [f64; 3];

/// Ratio of the axes of the ellipse of the moments.
pub fn elongation(moments: Moments) -> f64 {
    let [large, small] = eigenvalues(moments);
    (large / small.max(f64::MIN_POSITIVE)).sqrt()
}

/// The larger and the smaller eigenvalue.
pub(crate) fn eigenvalues([xx, xy, yy]: Moments) -> [f64; 2] {
    let (mean, spread) = (0.5 * (xx + yy), (0.5 * (xx - yy)).hypot(xy));
    [mean + spread, mean - spread]
}

/// Pixels around a star: frame less background, and where they may be used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamp {
    /// The stamp has 2 `half` + 1 pixels a side.
    pub half: usize,
    /// Column and row of the first pixel; negative where the stamp sticks out of the frame.
    pub origin: [isize; 2],
    /// Pixel less background, row by row; 0 where it is bad or outside.
    pub data: Vec<f32>,
    /// Whether the pixel is inside the frame and good.
    pub good: Vec<bool>,
    /// Whether a part lies outside the frame.
    pub cut: bool,
    /// Background at the centre.
    pub level: f32,
    /// Noise at the centre.
    pub noise: f32,
}

impl Stamp {
    /// Half width of the stamp that a window of this sigma needs.
    pub(crate) fn half_for(sigma: f64) -> usize {
        ((WINDOW_CUT * sigma).ceil() as usize).clamp(HALF_RANGE[0], HALF_RANGE[1])
    }

    /// Pixels a side.
    pub(crate) fn side(&self) -> usize {
        2 * self.half + 1
    }

    /// Reads the pixels around column `x`, row `y`.
    pub(crate) fn read<T: Pixel>(
        &mut self,
        image: &Image<'_, T>,
        background: &Background,
        [x, y]: [usize; 2],
        half: usize,
    ) {
        let side = 2 * half + 1;
        self.half = half;
        self.origin = [x as isize - half as isize, y as isize - half as isize];
        self.data.clear();
        self.data.resize(side * side, 0.0);
        self.good.clear();
        self.good.resize(side * side, false);
        let columns = self.origin[0].max(0)..(self.origin[0] + side as isize).min(image.width() as isize);
        let rows = self.origin[1].max(0)..(self.origin[1] + side as isize).min(image.height() as isize);
        self.cut = columns.len() < side || rows.len() < side;
        self.level = background.level.at(x as f32, y as f32);
        self.noise = background.noise.at(x as f32, y as f32);
        let slope = [
            background.level.at(x as f32 + 1.0, y as f32) - self.level,
            background.level.at(x as f32, y as f32 + 1.0) - self.level,
        ];
        for row in rows {
            let start = (row - self.origin[1]) as usize * side + (columns.start - self.origin[0]) as usize;
            let span = start..start + columns.len();
            let data = &mut self.data[span.clone()];
            image.read(row as usize, columns.start as usize, data);
            let level = self.level + slope[1] * (row - y as isize) as f32;
            for ((value, good), column) in data.iter_mut().zip(&mut self.good[span]).zip(columns.clone()) {
                *good = value.is_finite();
                *value = if *good { *value - level - slope[0] * (column - x as isize) as f32 } else { 0.0 };
            }
        }
    }

    /// Value and goodness of the pixel at column `x`, row `y` of the frame.
    pub(crate) fn pixel(&self, [x, y]: [isize; 2]) -> Option<f32> {
        let (i, j) = (x - self.origin[0], y - self.origin[1]);
        let side = self.side() as isize;
        if !(0..side).contains(&i) || !(0..side).contains(&j) {
            return None;
        }
        let k = (j * side + i) as usize;
        self.good[k].then(|| self.data[k])
    }
}

/// What a Gaussian window sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Windowed {
    /// Column and row.
    pub position: [f64; 2],
    /// Covariance of the position.
    pub covariance: Moments,
    /// Flux of a Gaussian star of the measured moments, and its error.
    pub flux: f64,
    pub flux_error: f64,
    /// Second moments of the star's image, with the window taken out again.
    pub moments: Moments,
}

struct Sums {
    weight_flux: f64,
    first: [f64; 2],
    second: Moments,
    flux_variance: f64,
    first_variance: Moments,
}

/// Weighted sums about `centre`; the noise variance of a pixel is `noise²` and, with a gain, its own photons'.
fn sums(stamp: &Stamp, centre: [f64; 2], sigma: f64, gain: Option<f64>) -> Sums {
    let side = stamp.side();
    let axis = |k: usize| -> Vec<f64> {
        let offset = centre[k] - stamp.origin[k] as f64;
        (0..side).map(|i| (-0.5 * ((i as f64 - offset) / sigma).powi(2)).exp()).collect()
    };
    let (wx, wy) = (axis(0), axis(1));
    let noise = f64::from(stamp.noise * stamp.noise);
    let photon = gain.map_or(0.0, |g| 1.0 / g);
    let mut s = Sums {
        weight_flux: 0.0,
        first: [0.0; 2],
        second: [0.0; 3],
        flux_variance: 0.0,
        first_variance: [0.0; 3],
    };
    for (j, wy) in wy.iter().enumerate() {
        let dy = j as f64 + stamp.origin[1] as f64 - centre[1];
        let span = j * side..(j + 1) * side;
        for (i, ((&value, &good), wx)) in
            stamp.data[span.clone()].iter().zip(&stamp.good[span]).zip(&wx).enumerate()
        {
            let dx = i as f64 + stamp.origin[0] as f64 - centre[0];
            let value = f64::from(value);
            let w = wx * wy;
            let wv = w * value;
            s.weight_flux += wv;
            s.first[0] += wv * dx;
            s.first[1] += wv * dy;
            s.second[0] += wv * dx * dx;
            s.second[1] += wv * dx * dy;
            s.second[2] += wv * dy * dy;
            let variance = if good { w * w * (noise + photon * value.max(0.0)) } else { 0.0 };
            s.flux_variance += variance;
            s.first_variance[0] += variance * dx * dx;
            s.first_variance[1] += variance * dx * dy;
            s.first_variance[2] += variance * dy * dy;
        }
    }
    s
}

/// Position in a Gaussian window that moves with the star (the XWIN of `SExtractor`), and its flux and shape.
///
/// `None` where there is no light in the window.
pub(crate) fn windowed(stamp: &Stamp, start: [f64; 2], sigma: f64, gain: Option<f64>) -> Option<Windowed> {
    let mut centre = start;
    for _ in 0..POSITION_ROUNDS {
        let s = sums(stamp, centre, sigma, gain);
        if s.weight_flux <= 0.0 {
            break;
        }
        // Twice: a window as wide as the star halves its first moment.
        let step = s.first.map(|m| (2.0 * m / s.weight_flux).clamp(-0.5, 0.5));
        centre = [centre[0] + step[0], centre[1] + step[1]];
        if step[0].hypot(step[1]) < POSITION_TOLERANCE {
            break;
        }
    }
    let drift = (centre[0] - start[0]).hypot(centre[1] - start[1]);
    if drift.is_nan() || drift > MAX_DRIFT {
        centre = start;
    }
    let s = sums(stamp, centre, sigma, gain);
    if s.weight_flux <= 0.0 {
        return None;
    }
    let moments = unwindow(s.second.map(|m| m / s.weight_flux), sigma, stamp.half as f64);
    // A Gaussian star through a Gaussian window: Σ w v = flux |W|^½ / |W + C|^½.
    let window = sigma * sigma;
    let [xx, xy, yy] = moments;
    let scale = (((window + xx) * (window + yy) - xy * xy).max(0.0)).sqrt() / window;
    let position_scale = 4.0 / (s.weight_flux * s.weight_flux);
    Some(Windowed {
        position: centre,
        covariance: s.first_variance.map(|v| v * position_scale),
        flux: s.weight_flux * scale,
        flux_error: s.flux_variance.sqrt() * scale,
        moments,
    })
}

/// Moments `C` of a Gaussian star seen as `M` through a Gaussian window `W`: C⁻¹ = M⁻¹ - W⁻¹, kept within reason.
pub(crate) fn unwindow([xx, xy, yy]: Moments, sigma: f64, half: f64) -> Moments {
    let angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let window = sigma * sigma;
    let [large, small] = eigenvalues([xx, xy, yy]).map(|m| {
        let inverse = 1.0 / m.max(PIXEL_VARIANCE / 2.0) - 1.0 / window;
        let limit = (0.5 * half).powi(2);
        if inverse > 1.0 / limit { (1.0 / inverse).max(PIXEL_VARIANCE) } else { limit }
    });
    let (sin, cos) = angle.sin_cos();
    [
        large * cos * cos + small * sin * sin,
        (large - small) * sin * cos,
        large * sin * sin + small * cos * cos,
    ]
}

/// Standard deviation (geometric mean of the axes) of a star's image by a window that adapts to it.
pub(crate) fn adaptive_sigma(stamp: &Stamp, start: [f64; 2], first_guess: f64) -> Option<f64> {
    let (mut centre, mut sigma) = (start, first_guess);
    for _ in 0..WIDTH_ROUNDS {
        let s = sums(stamp, centre, sigma, None);
        if s.weight_flux <= 0.0 {
            return None;
        }
        let step = s.first.map(|m| (2.0 * m / s.weight_flux).clamp(-0.5, 0.5));
        centre = [centre[0] + step[0], centre[1] + step[1]];
        let [xx, xy, yy] = unwindow(s.second.map(|m| m / s.weight_flux), sigma, stamp.half as f64);
        sigma = (xx * yy - xy * xy).max(PIXEL_VARIANCE * PIXEL_VARIANCE).powf(0.25);
    }
    let drift = (centre[0] - start[0]).hypot(centre[1] - start[1]);
    (sigma.is_finite() && drift < MAX_DRIFT).then_some(sigma)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian_stamp(centre: [f64; 2], [xx, xy, yy]: Moments, flux: f64) -> Stamp {
        let half = 12;
        let determinant = xx * yy - xy * xy;
        let mut stamp = Stamp { half, noise: 1.0, ..Stamp::default() };
        for j in 0..stamp.side() {
            for i in 0..stamp.side() {
                let (x, y) = (i as f64 - centre[0], j as f64 - centre[1]);
                let r = (yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant;
                stamp
                    .data
                    .push((flux * (-0.5 * r).exp() / (std::f64::consts::TAU * determinant.sqrt())) as f32);
                stamp.good.push(true);
            }
        }
        stamp
    }

    #[test]
    fn recovers_a_gaussian_star() {
        let stamp = gaussian_stamp([12.3, 11.8], [2.5, 0.6, 1.4], 1e4);
        let seen = windowed(&stamp, [12.0, 12.0], 1.5, None).unwrap();
        assert!((seen.position[0] - 12.3).abs() < 1e-3 && (seen.position[1] - 11.8).abs() < 1e-3, "{seen:?}");
        assert!((seen.flux / 1e4 - 1.0).abs() < 1e-3);
        for (a, b) in seen.moments.iter().zip([2.5, 0.6, 1.4]) {
            assert!((a - b).abs() < 0.01, "{:?}", seen.moments);
        }
        let sigma = adaptive_sigma(&stamp, [12.0, 12.0], 1.2).unwrap();
        assert!((sigma - (2.5_f64 * 1.4 - 0.36).powf(0.25)).abs() < 0.01);
    }

    #[test]
    fn no_light_is_none() {
        assert!(
            windowed(&gaussian_stamp([12.0, 12.0], [2.0, 0.0, 2.0], -10.0), [12.0, 12.0], 1.5, None)
                .is_none()
        );
    }

    #[test]
    fn elongation_is_the_axis_ratio() {
        assert!((elongation([9.0, 0.0, 1.0]) - 3.0).abs() < 1e-12);
        assert!((elongation([5.0, 4.0, 5.0]) - 3.0).abs() < 1e-12);
    }
}
