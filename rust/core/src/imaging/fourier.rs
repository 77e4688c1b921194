//! Fourier transforms of images of one size, in single precision only: both precisions would take 150 kB of
//! the extension.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// The smallest side, from `side` up, whose transform is fast.
pub(crate) fn good_side(side: usize) -> usize {
    let smooth = |mut n: usize| {
        for p in [2, 3, 5] {
            while n.is_multiple_of(p) {
                n /= p;
            }
        }
        n == 1
    };
    (side..2 * side).find(|&n| smooth(n)).unwrap_or(side)
}

/// Transforms images of one size, in place and without normalisation: a forward and an inverse transform
/// together multiply each pixel by the number of pixels.
pub(crate) struct Fourier {
    size: [usize; 2],
    forward: [Arc<dyn Fft<f32>>; 2],
    inverse: [Arc<dyn Fft<f32>>; 2],
}

impl Fourier {
    /// Prepares the transforms of images with these numbers of columns and rows.
    pub(crate) fn new(size: [usize; 2]) -> Self {
        let mut planner = FftPlanner::new();
        let forward = size.map(|side| planner.plan_fft_forward(side));
        Self { size, forward, inverse: size.map(|side| planner.plan_fft_inverse(side)) }
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Transforms pixels, row by row, to frequencies, the lowest first.
    pub(crate) fn forward(&self, data: &mut Vec<Complex32>) {
        self.transform(data, &self.forward);
    }

    /// Transforms frequencies to pixels.
    pub(crate) fn inverse(&self, data: &mut Vec<Complex32>) {
        self.transform(data, &self.inverse);
    }

    fn transform(&self, data: &mut Vec<Complex32>, plans: &[Arc<dyn Fft<f32>>; 2]) {
        let [width, height] = self.size;
        plans[0].process(data);
        let mut turned = transposed(data, width, height);
        plans[1].process(&mut turned);
        *data = transposed(&turned, height, width);
    }
}

fn transposed(data: &[Complex32], width: usize, height: usize) -> Vec<Complex32> {
    let mut turned = vec![Complex32::default(); data.len()];
    for (y, row) in data.chunks_exact(width).enumerate() {
        for (x, &v) in row.iter().enumerate() {
            turned[x * height + y] = v;
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_one_frequency_and_comes_back() {
        let size = [12, 10];
        let fourier = Fourier::new(size);
        let phase =
            |i: usize| std::f32::consts::TAU * (3.0 * (i % 12) as f32 / 12.0 + (i / 12) as f32 / 10.0);
        let wave: Vec<_> = (0..120).map(|i| Complex32::from_polar(1.0, phase(i))).collect();
        let mut data = wave.clone();
        fourier.forward(&mut data);
        for (i, value) in data.iter().enumerate() {
            let expected = if i == 12 + 3 { 120.0 } else { 0.0 };
            assert!((value - expected).norm() < 1e-4);
        }
        fourier.inverse(&mut data);
        assert!(data.iter().zip(&wave).all(|(a, b)| (a / 120.0 - b).norm() < 1e-6));
    }

    #[test]
    fn good_sides_have_small_factors() {
        assert_eq!([1, 7, 120, 121, 257].map(good_side), [1, 8, 120, 125, 270]);
    }
}
