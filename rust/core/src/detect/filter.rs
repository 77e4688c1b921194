//! The matched filter, in one pass over the frame.

use rayon::prelude::*;

use crate::background::{Background, Mesh, RowScratch};
use crate::image::{Image, Pixel};

/// The kernel ends at this many of its sigmas.
const KERNEL_CUT: f64 = 3.0;
/// Rows on which the noise after filtering is measured.
const NOISE_ROWS: usize = 8;
/// Distance from the median to the 16th percentile of a unit normal distribution.
const PERCENTILE_16: f32 = 0.994_458;
/// Correlated noise (JPEG, demosaicing) reaches this; what exceeds it are unresolved stars, which may be found.
const MAX_CORRELATION: f32 = 3.0;
/// Pixels, each way, that fast detection adds up first.
const BIN: usize = 2;
/// Pixels filtered together, as many as fit the registers.
pub(super) const BLOCK: usize = 16;

/// The matched filter: a separable Gaussian on the frame less its level, over its noise.
pub(super) struct Filter<'a, T> {
    image: &'a Image<'a, T>,
    level: &'a Mesh,
    weight: Mesh,
    /// Half of the symmetric kernel, from its centre outwards, of unit square sum.
    kernel: Vec<f32>,
    /// Pixels of the frame, each way, that make one of the filtered frame.
    pub(super) bin: usize,
    /// Sum of the two-dimensional kernel over the pixels of the frame; its response to white noise is one.
    pub(super) gain: f32,
}

impl<'a, T: Pixel> Filter<'a, T> {
    pub(super) fn new(
        image: &'a Image<'a, T>,
        background: &'a Background,
        sigma: Option<f64>,
        binned: bool,
    ) -> Self {
        let bin = if binned { BIN } else { 1 };
        let sigma = sigma.map(|sigma| sigma / bin as f64);
        let kernel: Vec<f64> = match sigma {
            Some(sigma) => (0..=(KERNEL_CUT * sigma).ceil() as usize)
                .map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp())
                .collect(),
            None => vec![1.0],
        };
        let norm = (2.0 * kernel.iter().map(|k| k * k).sum::<f64>() - 1.0).sqrt();
        let sum = (2.0 * kernel.iter().sum::<f64>() - 1.0) / norm;
        let weight = background.noise.map(|noise| if noise > 0.0 { 1.0 / noise } else { 0.0 });
        let kernel = kernel.iter().map(|k| (k / norm) as f32).collect();
        let gain = (sum * sum) as f32 * bin as f32;
        Self { image, level: &background.level, weight, kernel, bin, gain }
    }

    /// Number of columns and rows of the filtered frame.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.image.width() / self.bin, self.image.height() / self.bin]
    }

    /// Robust deviation of the filtered frame: one for white noise, more where the noise is correlated.
    pub(super) fn noise(&self) -> f32 {
        let [_, height] = self.size();
        let step = height.div_ceil(NOISE_ROWS);
        let mut samples: Vec<f32> = (step / 2..height)
            .step_by(step)
            .collect::<Vec<_>>()
            .into_par_iter()
            .flat_map_iter(|y| {
                let mut row = Vec::new();
                self.triples(y..y + 1, |_, [_, middle, _]| {
                    row.extend(middle.iter().copied().filter(|&s| s != 0.0));
                });
                row
            })
            .collect();
        if samples.is_empty() {
            return 1.0;
        }
        let n = samples.len();
        let (low, &mut median, _) = samples.select_nth_unstable_by(n / 2, f32::total_cmp);
        if low.is_empty() {
            return 1.0;
        }
        let percentile = *low.select_nth_unstable_by((0.16 * n as f32) as usize, f32::total_cmp).1;
        ((median - percentile) / PERCENTILE_16).clamp(1.0, MAX_CORRELATION)
    }

    /// Calls `visit(y, [row above, row, row below])` for filtered rows, each with one zero before and after it.
    pub(super) fn triples(&self, rows: std::ops::Range<usize>, mut visit: impl FnMut(usize, [&[f32]; 3])) {
        let reach = self.kernel.len() - 1;
        let [width, height] = self.size();
        let padded = width.next_multiple_of(BLOCK);
        let mut scratch = Scratch::new(self.image.width(), padded, reach);
        let mut across = vec![vec![0.0; padded]; 2 * reach + 1];
        let mut filtered = vec![vec![0.0_f32; padded + 2]; 3];
        let first = rows.start as isize - 1;
        for y in first - reach as isize..first + reach as isize {
            let slot = y.rem_euclid(across.len() as isize) as usize;
            self.filter_row(y, &mut scratch, &mut across[slot]);
        }
        for y in first..=rows.end as isize {
            let ahead = y + reach as isize;
            let slots = across.len() as isize;
            self.filter_row(ahead, &mut scratch, &mut across[ahead.rem_euclid(slots) as usize]);
            filtered.rotate_left(1);
            let out = &mut filtered[2][1..=padded];
            if y < 0 || y >= height as isize {
                out.fill(0.0);
            } else {
                let row = |offset: isize| &across[(y + offset).rem_euclid(slots) as usize][..];
                let pairs: Vec<_> = (0..=reach as isize).map(|i| (row(-i), row(i))).collect();
                symmetric(&self.kernel, &pairs, out);
                out[width..].fill(0.0);
            }
            if y > rows.start as isize {
                let [above, middle, below] = [0, 1, 2].map(|k: usize| &filtered[k][..width + 2]);
                visit((y - 1) as usize, [above, middle, below]);
            }
        }
    }

    /// One row in units of the noise, filtered along itself; zeros outside the frame and for bad pixels.
    fn filter_row(&self, y: isize, scratch: &mut Scratch, out: &mut [f32]) {
        let [width, height] = self.size();
        if y < 0 || y >= height as isize {
            out.fill(0.0);
            return;
        }
        let (y, reach) = (y as usize, self.kernel.len() - 1);
        if self.bin == 1 {
            let Scratch { row, level, weight, rows, .. } = scratch;
            self.read(y, &mut row[reach..reach + width], level, weight, rows);
        } else {
            let Scratch { row, lines: [first, second], level, weight, rows } = scratch;
            self.read(BIN * y, first, level, weight, rows);
            self.read(BIN * y + 1, second, level, weight, rows);
            let pairs = first.as_chunks::<BIN>().0.iter().zip(second.as_chunks::<BIN>().0);
            for (sum, ([a, b], [c, d])) in row[reach..reach + width].iter_mut().zip(pairs) {
                // Four pixels have twice the noise of one.
                *sum = 0.5 * ((a + b) + (c + d));
            }
        }
        let row = &scratch.row;
        let padded = out.len();
        let pairs: Vec<_> = (0..=reach)
            .map(|i| (&row[reach - i..reach - i + padded], &row[reach + i..reach + i + padded]))
            .collect();
        symmetric(&self.kernel, &pairs, out);
    }

    /// One row of the frame in units of the noise, 0 where it is bad.
    fn read(
        &self,
        y: usize,
        row: &mut [f32],
        level: &mut [f32],
        weight: &mut [f32],
        scratch: &mut RowScratch,
    ) {
        self.level.fill_row(y, scratch, level);
        self.weight.fill_row(y, scratch, weight);
        self.image.read(y, 0, row);
        for ((v, &level), &weight) in row.iter_mut().zip(&*level).zip(&*weight) {
            let sigmas = (*v - level) * weight;
            *v = if sigmas.abs() < f32::INFINITY { sigmas } else { 0.0 };
        }
    }
}

/// Buffers of a task.
struct Scratch {
    /// A row to be filtered, with room for the kernel on both sides.
    row: Vec<f32>,
    /// Two rows of the frame, where they are added up.
    lines: [Vec<f32>; BIN],
    level: Vec<f32>,
    weight: Vec<f32>,
    rows: RowScratch,
}

impl Scratch {
    fn new(width: usize, padded: usize, reach: usize) -> Self {
        let line = || vec![0.0; width];
        Self {
            row: vec![0.0; padded + 2 * reach],
            lines: [line(), line()],
            level: line(),
            weight: line(),
            rows: RowScratch::default(),
        }
    }
}

/// `out = kernel[0] * centre + Σ kernel[i] * (before[i] + after[i])`; all of the same length, a multiple of [`BLOCK`].
fn symmetric(kernel: &[f32], pairs: &[(&[f32], &[f32])], out: &mut [f32]) {
    for (c, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let span = c * BLOCK..(c + 1) * BLOCK;
        let mut sum = [0.0_f32; BLOCK];
        for (s, &v) in sum.iter_mut().zip(&pairs[0].0[span.clone()]) {
            *s = kernel[0] * v;
        }
        for (&k, (before, after)) in kernel.iter().zip(pairs).skip(1) {
            for ((s, &a), &b) in sum.iter_mut().zip(&before[span.clone()]).zip(&after[span.clone()]) {
                *s += k * (a + b);
            }
        }
        out.copy_from_slice(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filtered_white_noise_has_unit_deviation() {
        let mut state = 1_u64;
        let pixels: Vec<f32> = (0..400 * 400)
            .map(|_| {
                let mut sum = 0.0;
                for _ in 0..12 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    sum += (state >> 40) as f32 / (1_u64 << 24) as f32;
                }
                30.0 + 4.0 * (sum - 6.0)
            })
            .collect();
        let image = Image::from_slice(&pixels, 400).unwrap();
        let background = Background::measure(&image, 64).unwrap();
        for binned in [false, true] {
            let filter = Filter::new(&image, &background, Some(1.5), binned);
            let bin = filter.bin;
            let (mut n, mut squares) = (0.0, 0.0);
            filter.triples(20..380 / bin, |_, [_, row, _]| {
                for &s in &row[20..380 / bin] {
                    n += 1.0;
                    squares += f64::from(s * s);
                }
            });
            assert!((squares / n - 1.0_f64).abs() < 0.06 * f64::from(bin as u32), "{}", squares / n);
        }
    }
}
