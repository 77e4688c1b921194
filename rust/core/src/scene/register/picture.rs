//! Pictures to be registered: they may have holes, and can be smoothed and halved.

use rayon::prelude::*;

/// An image with its noise; (0, 0) is the centre of the first pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Pixels, row after row; pixels that are not finite are unknown.
    pub pixels: Vec<f64>,
    /// Columns and rows.
    pub size: [usize; 2],
    /// Variance of every pixel, if it is known.
    pub variance: Option<Vec<f64>>,
}

/// Extent of a Gaussian kernel from its centre, in standard deviations.
const KERNEL_SIGMAS: f64 = 4.0;
/// Smallest fraction of the kernel on known pixels for a smoothed pixel to be known. A smaller fraction
/// displaces light.
const KNOWN_PART: f64 = 0.99;

impl Picture {
    /// Picture of half the size, with means of two by two pixels. Odd last rows and columns are dropped.
    pub(super) fn halved(&self) -> Self {
        let [width, height] = self.size.map(|side| side / 2);
        let four = |values: &[f64], x: usize, y: usize| {
            let row = 2 * y * self.size[0] + 2 * x;
            let below = row + self.size[0];
            values[row] + values[row + 1] + values[below] + values[below + 1]
        };
        let all = |values: &[f64], scale: f64| -> Vec<f64> {
            (0..width * height).map(|k| scale * four(values, k % width, k / width)).collect()
        };
        Self {
            pixels: all(&self.pixels, 0.25),
            size: [width, height],
            variance: self.variance.as_ref().map(|variance| all(variance, 1.0 / 16.0)),
        }
    }

    /// Pixels convolved with a Gaussian of this variance per axis, excluding unknown pixels.
    pub(in crate::scene) fn smoothed(&self, variance: f64) -> Vec<f64> {
        let kernel = kernel(variance);
        let known: Vec<f64> = self.pixels.iter().map(|v| f64::from(u8::from(v.is_finite()))).collect();
        let filled: Vec<f64> = self.pixels.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
        let (sums, parts) = (convolved(&filled, self.size, &kernel), convolved(&known, self.size, &kernel));
        let mean = |(sum, part): (&f64, &f64)| if *part >= KNOWN_PART { sum / part } else { f64::NAN };
        sums.iter().zip(&parts).map(mean).collect()
    }
}

/// Half of a Gaussian kernel of this variance, from its centre on; the sum of both halves is one.
pub(super) fn kernel(variance: f64) -> Vec<f64> {
    let half = (KERNEL_SIGMAS * variance.sqrt()).ceil() as usize;
    let half_kernel: Vec<f64> =
        (0..=half).map(|k| (-0.5 * (k * k) as f64 / variance.max(1e-9)).exp()).collect();
    let sum = 2.0 * half_kernel.iter().sum::<f64>() - 1.0;
    half_kernel.iter().map(|k| k / sum).collect()
}

/// Factor by which a kernel lowers the variance of independent noise.
pub(super) fn noise_factor(kernel: &[f64]) -> f64 {
    let along = 2.0 * kernel.iter().map(|k| k * k).sum::<f64>() - kernel[0] * kernel[0];
    along * along
}

/// Convolves values along both axes; values beyond the edges are zero.
pub(super) fn convolved(values: &[f64], [width, height]: [usize; 2], kernel: &[f64]) -> Vec<f64> {
    let mut across = vec![0.0; values.len()];
    across.par_chunks_mut(width).zip(values.par_chunks(width)).for_each(|(out, row)| {
        for (x, out) in out.iter_mut().enumerate() {
            let side = |k: usize| {
                let left = x.checked_sub(k).map_or(0.0, |x| row[x]);
                left + row.get(x + k).copied().unwrap_or(0.0)
            };
            let beside: f64 = kernel.iter().enumerate().skip(1).map(|(k, weight)| weight * side(k)).sum();
            *out = kernel[0] * row[x] + beside;
        }
    });
    let mut both = vec![0.0; values.len()];
    both.par_chunks_mut(width).enumerate().for_each(|(y, out)| {
        for (k, weight) in kernel.iter().enumerate() {
            let below = (k > 0).then_some(y + k).filter(|&row| row < height);
            for row in y.checked_sub(k).into_iter().chain(below) {
                for (out, a) in out.iter_mut().zip(&across[row * width..(row + 1) * width]) {
                    *out += weight * a;
                }
            }
        }
    });
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_the_mean_and_adds_its_variance() {
        let size = [41, 37];
        let mut pixels = vec![0.0; 41 * 37];
        pixels[18 * 41 + 20] = 5.0;
        let smooth = Picture { pixels, size, variance: None }.smoothed(2.5);
        let sum: f64 = smooth.iter().filter(|v| v.is_finite()).sum();
        let smooth: Vec<f64> = smooth.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
        let second: f64 = smooth.iter().enumerate().map(|(k, v)| v * ((k % 41) as f64 - 20.0).powi(2)).sum();
        assert!((sum - 5.0).abs() < 1e-12 && (second / sum - 2.5).abs() < 0.01, "{sum} {second}");
        let noise: f64 = smooth.iter().map(|v| v * v / 25.0).sum();
        assert!((noise / noise_factor(&kernel(2.5)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn holes_stay_small() {
        let mut picture = Picture { pixels: vec![3.0; 400], size: [20, 20], variance: Some(vec![4.0; 400]) };
        picture.pixels[210] = f64::NAN;
        let smooth = picture.smoothed(1.0);
        assert!(smooth.iter().all(|v| v.is_nan() || (v - 3.0).abs() < 1e-12));
        let half = picture.halved();
        assert_eq!(half.size, [10, 10]);
        assert_eq!(half.pixels.iter().filter(|v| v.is_nan()).count(), 1);
        assert!(smooth[0].is_nan() && smooth[65].is_finite() && smooth[210].is_nan());
        assert_eq!(half.variance.unwrap()[0], 1.0);
    }
}
