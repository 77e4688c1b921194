//! A monochrome image, the input of movement detection.

use super::transform::Point;
use crate::error::{Error, Result};
use crate::lsq::robust::normal_scale;

/// Binomial kernel of five points, close to a Gaussian with a standard deviation of one pixel.
const BINOMIAL: [f32; 5] = [0.0625, 0.25, 0.375, 0.25, 0.0625];

/// A monochrome image: finite pixels, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub(super) pixels: Vec<f32>,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Plane {
    /// Makes an image of (width, height). Pixels without a value take the mean of the other pixels.
    pub fn new(pixels: &[f32], [width, height]: [usize; 2]) -> Result<Self> {
        if pixels.is_empty() || pixels.len() != width * height {
            return Err(Error::argument(
                "image",
                "the number of pixels does not match width x height",
                "give a non-empty image",
            ));
        }
        let (sum, count) = pixels
            .iter()
            .filter(|v| v.is_finite())
            .fold((0.0, 0_usize), |(sum, count), &v| (sum + f64::from(v), count + 1));
        let mean = if count > 0 { (sum / count as f64) as f32 } else { 0.0 };
        // The mean is subtracted, so that no digits are lost to a background.
        let pixels = pixels.iter().map(|&v| if v.is_finite() { v - mean } else { 0.0 }).collect();
        Ok(Self { pixels, width, height })
    }

    /// Bins the image: means of blocks of `factor` × `factor` pixels. Incomplete blocks at the right and the
    /// bottom are excluded.
    pub(super) fn binned(&self, factor: usize) -> Self {
        let (width, height) = (self.width / factor, self.height / factor);
        let mut pixels = vec![0.0; width * height];
        for y in 0..height * factor {
            let row = &self.pixels[y * self.width..][..width * factor];
            let sums = &mut pixels[y / factor * width..][..width];
            for (sum, square) in sums.iter_mut().zip(row.chunks_exact(factor)) {
                *sum += square.iter().sum::<f32>();
            }
        }
        let area = (factor * factor) as f32;
        for v in &mut pixels {
            *v /= area;
        }
        Self { pixels, width, height }
    }

    /// Smoothed by a Gaussian of one pixel; edge pixels are repeated.
    pub(super) fn smoothed(&self) -> Self {
        let (w, h) = (self.width, self.height);
        let mut across = vec![0.0_f32; w * h];
        for (row, out) in self.pixels.chunks_exact(w).zip(across.chunks_exact_mut(w)) {
            for x in 0..w {
                let edge = x < 2 || x + 2 >= w;
                out[x] = if edge {
                    (0..5).map(|k| BINOMIAL[k] * row[(x + k).saturating_sub(2).min(w - 1)]).sum()
                } else {
                    (0..5).map(|k| BINOMIAL[k] * row[x + k - 2]).sum()
                };
            }
        }
        let mut pixels = vec![0.0_f32; w * h];
        for (y, out) in pixels.chunks_exact_mut(w).enumerate() {
            for (k, weight) in BINOMIAL.iter().enumerate() {
                let row = &across[(y + k).saturating_sub(2).min(h - 1) * w..][..w];
                for (o, v) in out.iter_mut().zip(row) {
                    *o += weight * v;
                }
            }
        }
        Self { pixels, ..*self }
    }

    /// Equalises contrast: subtracts the mean of the square around each pixel, and divides by the standard
    /// deviation there.
    ///
    /// `floor` is added to the standard deviation, so that contrast below it stays small.
    pub(super) fn equalised(&self, half: usize, floor: f64) -> Self {
        let (w, h) = (self.width, self.height);
        let stride = w + 1;
        let mut sums = vec![[0.0_f64; 2]; stride * (h + 1)];
        for y in 0..h {
            let mut row = [0.0; 2];
            for x in 0..w {
                let v = f64::from(self.pixels[y * w + x]);
                row = [row[0] + v, row[1] + v * v];
                let above = sums[y * stride + x + 1];
                sums[(y + 1) * stride + x + 1] = [above[0] + row[0], above[1] + row[1]];
            }
        }
        let even = |i: usize| {
            let (x, y) = (i % w, i / w);
            let (left, top) = (x.saturating_sub(half), y.saturating_sub(half));
            let (right, bottom) = ((x + half + 1).min(w), (y + half + 1).min(h));
            let count = ((right - left) * (bottom - top)) as f64;
            let [a, b, c, d] = [(top, left), (top, right), (bottom, left), (bottom, right)]
                .map(|(y, x)| sums[y * stride + x]);
            let [mean, square] = [0, 1].map(|k| (d[k] - b[k] - c[k] + a[k]) / count);
            let deviation = (square - mean * mean).max(0.0).sqrt();
            ((f64::from(self.pixels[i]) - mean) / (deviation + floor).max(f64::MIN_POSITIVE)) as f32
        };
        Self { pixels: (0..w * h).map(even).collect(), ..*self }
    }

    /// Standard deviation of the noise, from the median of second differences along rows.
    pub(super) fn noise(&self) -> f64 {
        let rows = self.pixels.chunks_exact(self.width).step_by(3);
        let second = |w: &[f32]| f64::from((w[0] - 2.0 * w[1] + w[2]).abs());
        let mut differences: Vec<f64> = rows.flat_map(|row| row.windows(3).step_by(2).map(second)).collect();
        if differences.is_empty() { 0.0 } else { normal_scale(&mut differences) / 6_f64.sqrt() }
    }

    /// Bilinear interpolation between pixels; `None` outside.
    #[inline]
    pub(super) fn sample(&self, [x, y]: Point) -> Option<f32> {
        if !(x >= 0.0 && y >= 0.0) {
            return None;
        }
        let (i, j) = (x as usize, y as usize);
        if i + 1 >= self.width || j + 1 >= self.height {
            return None;
        }
        let (fx, fy) = ((x - i as f64) as f32, (y - j as f64) as f32);
        let (top, bottom) =
            (&self.pixels[j * self.width + i..][..2], &self.pixels[(j + 1) * self.width + i..][..2]);
        let (a, b) = (top[0] + fx * (top[1] - top[0]), bottom[0] + fx * (bottom[1] - bottom[0]));
        Some(a + fy * (b - a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_binned_smoothed_and_sampled() {
        let pixels: Vec<f32> = (0..35).map(|i| (i % 7) as f32 + 10.0 * (i / 7) as f32).collect();
        let plane = Plane::new(&pixels, [7, 5]).unwrap();
        assert!((plane.sample([2.5, 1.25]).unwrap() - (2.5 + 12.5 - 23.0)).abs() < 1e-4);
        assert!(plane.sample([6.1, 1.0]).is_none() && plane.sample([f64::NAN, 1.0]).is_none());
        let binned = plane.binned(2);
        assert_eq!((binned.width, binned.height), (3, 2));
        assert!((binned.pixels[0] - (5.5 - 23.0)).abs() < 1e-4);
        let smoothed = plane.smoothed();
        assert!((smoothed.pixels[2 * 7 + 3] - plane.pixels[2 * 7 + 3]).abs() < 1e-4);
        assert!(Plane::new(&pixels, [7, 6]).is_err() && Plane::new(&[], [0, 0]).is_err());
        assert_eq!(Plane::new(&[f32::NAN, 1.0], [2, 1]).unwrap().pixels, [0.0, 0.0]);
    }
}
