//! Measures the light in a Gaussian window of any shape.

// The loop over a window's rows is inlined into the loops over its pixels.
#![allow(clippy::inline_always)]

use crate::imaging::background::Background;
use crate::imaging::centroid::{Moments, PIXEL_VARIANCE};
use crate::imaging::image::Image;

/// Radius at which the window ends, in sigmas of the window.
const CUT: f64 = 2.6;
/// Longest step of the window's position, in sigmas of the window.
const MAX_STEP: f64 = 0.7;
/// Least determinant of the matrix of Newton's method, as a fraction of the squared light. Below it, the step
/// is that for a Gaussian image as wide as the window.
const MIN_DETERMINANT: f64 = 0.05;

/// A Gaussian window with the common shape of the images.
pub(super) struct Window<'a> {
    image: &'a Image<'a>,
    background: &'a Background,
    /// Inverse of the second moments.
    inverse: Moments,
    /// Half width and half height, in pixels.
    reach: [f64; 2],
}

/// Sums over pixels of the window's weight times the light times powers of the distance from the window's
/// centre.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    total: f64,
    first: [f64; 2],
    second: Moments,
    /// Variance of the total.
    total_variance: f64,
    /// Covariance of the first moments.
    first_covariance: Moments,
}

/// Length of a vector in sigmas of a shape.
pub(super) fn mahalanobis(d: [f64; 2], shape: Moments) -> f64 {
    quadratic(d, inverse(shape)).sqrt()
}

fn quadratic([x, y]: [f64; 2], [xx, xy, yy]: Moments) -> f64 {
    xx * x * x + 2.0 * xy * x * y + yy * y * y
}

fn inverse([xx, xy, yy]: Moments) -> Moments {
    let determinant = xx * yy - xy * xy;
    [yy / determinant, -xy / determinant, xx / determinant]
}

impl<'a> Window<'a> {
    pub(super) fn new(image: &'a Image<'a>, background: &'a Background, shape: Moments) -> Self {
        let reach = [shape[0], shape[2]].map(|m| CUT * m.sqrt());
        Self { image, background, inverse: inverse(shape), reach }
    }

    /// Calls `see` for each row of the frame within the window, with the distance of the row's first pixel
    /// from the window's centre, and the light of the row's pixels.
    #[inline(always)]
    fn rows(&self, [x, y]: [f64; 2], mut see: impl FnMut([f64; 2], &[f32])) {
        let span = |v: f64, reach: f64, n: usize| {
            let end = ((v + reach).floor() + 1.0).clamp(0.0, n as f64) as usize;
            ((v - reach).ceil().max(0.0) as usize).min(end)..end
        };
        let level = self.background.level.at(x as f32, y as f32);
        let [xx, xy, _] = self.inverse;
        let mut pixels = Vec::new();
        for row in span(y, self.reach[1], self.image.height()) {
            let dy = row as f64 - y;
            // Intersection of the ellipse with this row.
            let middle = x - xy / xx * dy;
            let rest = CUT * CUT - quadratic([middle - x, dy], self.inverse);
            if rest <= 0.0 {
                continue;
            }
            let columns = span(middle, (rest / xx).sqrt(), self.image.width());
            pixels.resize(columns.len(), 0.0);
            self.image.read(row, columns.start, &mut pixels);
            for v in &mut pixels {
                *v -= level;
            }
            see([columns.start as f64 - x, dy], &pixels);
        }
    }

    /// Calls `see` for each good pixel of the frame within the window, with the pixel's distance from the
    /// window's centre in x and y, and its light.
    fn each(&self, place: [f64; 2], mut see: impl FnMut(f64, f64, f64)) {
        self.rows(place, |[first, dy], pixels| {
            for (k, &v) in pixels.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                see(first + k as f64, dy, f64::from(v));
            }
        });
    }

    /// Weighted sums in the window centred at `place`; `photon` is the variance per unit of light.
    pub(super) fn sums(&self, place: [f64; 2], photon: f64) -> Sums {
        let noise = f64::from(self.background.noise.at(place[0] as f32, place[1] as f32)).powi(2);
        let [xx, xy, _] = self.inverse;
        // Along a row, each step multiplies the weight by a ratio, and the ratio by a constant.
        let fall = (-xx).exp();
        let mut sums = Sums::default();
        self.rows(place, |[first, dy], pixels| {
            let mut weight = (-0.5 * quadratic([first, dy], self.inverse)).exp();
            let mut ratio = (-xx * (first + 0.5) - xy * dy).exp();
            // Sums over the row of weight times light, and of squared weight times variance, each times
            // powers of dx.
            let (mut seen, mut scatter) = ([0.0; 3], [0.0; 3]);
            for (k, &v) in pixels.iter().enumerate() {
                let dx = first + k as f64;
                let light = if v.is_finite() { f64::from(v) } else { 0.0 };
                let variance = if v.is_finite() { noise + photon * light.max(0.0) } else { 0.0 };
                let (s, t) = (weight * light, weight * weight * variance);
                for (k, power) in [1.0, dx, dx * dx].into_iter().enumerate() {
                    seen[k] += s * power;
                    scatter[k] += t * power;
                }
                weight *= ratio;
                ratio *= fall;
            }
            sums.total += seen[0];
            sums.total_variance += scatter[0];
            sums.first[0] += seen[1];
            sums.first[1] += dy * seen[0];
            for (sum, [whole, along, square]) in
                [(&mut sums.second, seen), (&mut sums.first_covariance, scatter)]
            {
                sum[0] += square;
                sum[1] += dy * along;
                sum[2] += dy * dy * whole;
            }
        });
        sums
    }

    /// Height of the highest pixel above the background, and its sharpness, (height - mean of its neighbours)
    /// / height.
    pub(super) fn top(&self, place: [f64; 2]) -> [f64; 2] {
        let (mut height, mut at) = (f64::NEG_INFINITY, [0.0; 2]);
        self.each(place, |dx, dy, light| {
            if light > height {
                (height, at) = (light, [dx, dy]);
            }
        });
        let (mut sum, mut count) = (-height, -1.0);
        self.each(place, |dx, dy, light| {
            if (dx - at[0]).abs() < 1.5 && (dy - at[1]).abs() < 1.5 {
                sum += light;
                count += 1.0;
            }
        });
        [height, 1.0 - sum / f64::max(count, 1.0) / height.max(f64::MIN_POSITIVE)]
    }

    /// Mean light of the pixels within the radius `hole`, and of those between `hole` and `radius`.
    pub(super) fn means(&self, place: [f64; 2], hole: f64, radius: f64) -> [f64; 2] {
        let mut sums = [[0.0; 2]; 2];
        self.each(place, |dx, dy, light| {
            let r = dx.hypot(dy);
            if r <= radius {
                let part = &mut sums[usize::from(r > hole)];
                part[0] += light;
                part[1] += 1.0;
            }
        });
        sums.map(|[light, pixels]| light / pixels.max(1.0))
    }
}

impl Sums {
    /// Matrix of the decrease of the first moments per shift of the window's centre: the total times the
    /// identity, less the second moments times the inverse shape. Of uniform light, only that at its ends
    /// within the window contributes.
    fn response(&self, shape: Moments) -> [[f64; 2]; 2] {
        let [xx, xy, yy] = inverse(shape);
        let [mxx, mxy, myy] = self.second;
        [
            [self.total - mxx * xx - mxy * xy, -mxx * xy - mxy * yy],
            [-mxy * xx - myy * xy, self.total - mxy * xy - myy * yy],
        ]
    }

    /// Step that moves the window towards the middle of the light; `None` if there is no light.
    pub(super) fn step(&self, shape: Moments) -> Option<[f64; 2]> {
        if !(self.total > 0.0 && self.total.is_finite()) {
            return None;
        }
        let gaussian = self.first.map(|m| 2.0 * m / self.total);
        let step = self.solved(shape).unwrap_or(gaussian);
        let length = mahalanobis(step, shape);
        Some(step.map(|d| d * (MAX_STEP / length.max(MAX_STEP))))
    }

    fn solved(&self, shape: Moments) -> Option<[f64; 2]> {
        let [[a, b], [c, d]] = self.inverse_response(shape)?;
        let [x, y] = self.first;
        Some([a * x + b * y, c * x + d * y])
    }

    fn inverse_response(&self, shape: Moments) -> Option<[[f64; 2]; 2]> {
        let [[a, b], [c, d]] = self.response(shape);
        let determinant = a * d - b * c;
        let regular = a > 0.0 && d > 0.0 && determinant > MIN_DETERMINANT * self.total * self.total;
        regular.then(|| [[d, -b], [-c, a]].map(|row| row.map(|v| v / determinant)))
    }

    /// Covariance of the position of the image's middle, from the noise of the first moments.
    pub(super) fn covariance(&self, shape: Moments) -> Option<Moments> {
        let [[a, b], [c, d]] = self.inverse_response(shape)?;
        let [xx, xy, yy] = self.first_covariance;
        let row = |[p, q]: [f64; 2], [r, s]: [f64; 2]| p * (xx * r + xy * s) + q * (xy * r + yy * s);
        Some([row([a, b], [a, b]), row([a, b], [c, d]), row([c, d], [c, d])])
    }

    /// Flux, its standard deviation, and second moments of the image, which is assumed to be Gaussian like
    /// the window.
    pub(super) fn light(&self, shape: Moments) -> (f64, f64, Moments) {
        let seen = inverse(self.second.map(|m| m / self.total));
        let window = inverse(shape);
        let [xx, xy, yy] = [0, 1, 2].map(|k| seen[k] - window[k]);
        let determinant = xx * yy - xy * xy;
        // An image of more than twice the window's area gets the shape of the window.
        let moments =
            if xx > 0.0 && yy > 0.0 && determinant > 0.25 * (window[0] * window[2] - window[1] * window[1]) {
                inverse([xx, xy, yy])
            } else {
                shape
            };
        let moments = [moments[0].max(PIXEL_VARIANCE), moments[1], moments[2].max(PIXEL_VARIANCE)];
        let area = |[xx, xy, yy]: Moments| (xx * yy - xy * xy).max(0.0).sqrt();
        let scale = area([0, 1, 2].map(|k| shape[k] + moments[k])) / area(shape);
        (self.total * scale, self.total_variance.sqrt() * scale, moments)
    }
}
