//! Measures background and noise of a frame: robust statistics of blocks, interpolated bilinearly between
//! their centres.

use rayon::prelude::*;

use crate::imaging::image::{Image, Reading};
use crate::imaging::survey::survey;
use crate::simd::vectorized;

use block::{Block, BlockRow, centre, edges};
pub use mesh::Mesh;

mod block;
mod mesh;

/// Pixels sampled per block for an accurate mesh. The error of a block's level is 1/√n of the noise.
pub const FINE_SAMPLES: usize = 1024;
/// Pixels sampled per block for a fast mesh.
pub const COARSE_SAMPLES: usize = 256;
/// Least width, in pixels, of the blocks in which the noise is measured, so that a star can never fill one.
const NOISE_BLOCK_SIZE: usize = 64;
/// A block narrower than [`NOISE_BLOCK_SIZE`] whose deviation exceeds the noise by this factor is filled by a
/// star and is not background. (A star cannot fill a wider block: there a large deviation is due to a glow,
/// which the background must follow.)
const SWALLOWED_FACTOR: f32 = 3.0;
/// Variance of a plane within a block, in units of the block's variance, above which the block is steep. At
/// 0.5, the noise in other blocks is overestimated by 40 % at most, and few frames are measured again.
const STEEP: f32 = 0.5;
/// The same variance above which a block of a steep frame is measured again, without the plane.
const SLOPING: f32 = 0.02;
/// Least fraction of blocks that are steep and straight in a steep frame. Fewer are light of stars.
const STEEP_SHARE: f32 = 0.25;
/// Largest departure of a block's level from the mean of its neighbours, in units of their difference, of a
/// straight slope. The light of many stars varies more irregularly.
const STRAIGHT: f32 = 0.1;
/// Number of rounds in which such blocks are measured. In steep blocks, the mean is less precise.
const SLOPE_ROUNDS: usize = 3;
/// Ratio of quantisation step to noise above which the noise is not treated as normal.
const COARSE_STEP: f32 = 0.3;
/// Least noise anywhere, as a fraction of the frame's median noise (for the black borders of all-sky
/// cameras).
const QUIET_FRACTION: f32 = 0.25;

/// Background and noise (standard deviation of a pixel) of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// Background level, without stars.
    pub level: Mesh,
    /// Standard deviation of a pixel about the level; positive everywhere unless the frame is constant.
    pub noise: Mesh,
    /// Largest skewness that a pixel's noise may have: infinite if the noise is cut off near the lowest
    /// value, that of counted photons if the noise is hardly larger than the quantisation step, otherwise
    /// zero.
    pub(crate) skewness: f32,
}

impl Background {
    /// Measures a frame in blocks of about `block_size` pixels, sampling about [`FINE_SAMPLES`] pixels in
    /// each; `None` if no pixel is good.
    pub fn measure(image: &Image<'_>, block_size: usize) -> Option<Self> {
        Self::sample(image, block_size, FINE_SAMPLES)
    }

    /// Measures a frame in blocks of about `block_size` pixels, sampling about `samples` pixels in each;
    /// `None` if no pixel is good.
    pub fn sample(image: &Image<'_>, block_size: usize, samples: usize) -> Option<Self> {
        let size = [image.width(), image.height()];
        let [columns, rows] = size.map(|n| ((n as f64 / block_size as f64).round() as usize).max(1));
        let spacing = [size[0] as f32 / columns as f32, size[1] as f32 / rows as f32];
        let [step, plateau] = image.reading().map_or_else(
            || {
                let Reading { step, plateau, scale, .. } = survey(image);
                [step, plateau].map(|v| (f64::from(v) / scale) as f32)
            },
            |reading| [reading.step, reading.plateau],
        );
        let measured = |slopes: &[Option<[f32; 2]>]| -> Vec<Block> {
            (0..rows)
                .into_par_iter()
                .map_init(Vec::new, |lines, j| {
                    let (bounds, middle) = (edges(j, rows, size[1]), centre(j, spacing[1]));
                    let slopes = &slopes[j * columns..(j + 1) * columns];
                    vectorized(BlockRow { image, bounds, wanted: samples, step, slopes, middle, lines })
                })
                .flatten_iter()
                .collect()
        };
        let mut blocks = measured(&vec![Some([0.0; 2]); columns * rows]);
        let floor = blocks.iter().map(|block| block.lowest).fold(f32::INFINITY, f32::min);
        let is_cut_off = 2 * blocks.iter().filter(|block| block.is_cut_off(floor)).count() > blocks.len();
        // The few levels of noise that is cut off would be lost.
        if !is_cut_off && is_steep(&blocks, columns, spacing) {
            let mut known = vec![[0.0; 2]; blocks.len()];
            for _ in 0..SLOPE_ROUNDS {
                let steeper = steeper_slopes(&blocks, &known, columns, spacing, SLOPING);
                let changed: Vec<usize> = (0..blocks.len()).filter(|&k| steeper[k].is_some()).collect();
                for (k, block) in changed.into_iter().zip(measured(&steeper)) {
                    (blocks[k], known[k]) = (block, steeper[k].unwrap_or_default());
                }
            }
        }
        if !blocks.iter().any(|b| b.good) {
            let any = blocks.iter().find(|b| b.mean.is_finite())?;
            return Some(Self {
                level: Mesh::constant(any.mean, size),
                noise: Mesh::constant(any.deviation, size),
                skewness: f32::INFINITY,
            });
        }
        let mut noise = noise_mesh(&blocks, [columns, rows], size, spacing);
        if plateau > 0.0 {
            // Steps between flat areas are rare, and many blocks have none: the mean noise is the lower limit
            // everywhere.
            let mean = noise.mean() as f32;
            noise = noise.map(|v| v.max(mean));
        }
        let level = level_mesh(&blocks, [columns, rows], spacing, &noise);
        let poisson = step / noise.mean() as f32;
        let skewness = match poisson {
            _ if is_cut_off => f32::INFINITY,
            _ if poisson > COARSE_STEP => poisson,
            _ => 0.0,
        };
        Some(Self { level, noise, skewness })
    }
}

impl Background {
    /// The same background in other units: level and noise multiplied by `factor`.
    pub(crate) fn in_units(&self, factor: f64) -> Self {
        let [level, noise] =
            [&self.level, &self.noise].map(|mesh| mesh.map(|v| (factor * f64::from(v)) as f32));
        Self { level, noise, skewness: self.skewness }
    }
}

/// Slopes of the background along columns and rows, per pixel, in blocks whose deviation is largely due to
/// the difference from their `known` slopes. `None` in other blocks.
fn steeper_slopes(
    blocks: &[Block],
    known: &[[f32; 2]],
    columns: usize,
    spacing: [f32; 2],
    limit: f32,
) -> Vec<Option<[f32; 2]>> {
    let shape = [columns, blocks.len() / columns];
    let slope = |k: usize, axis: usize| {
        let (place, stride) = ([k % columns, k / columns][axis], [1, columns][axis]);
        let (before, after) = (place.min(1), usize::from(place + 1 < shape[axis]));
        let (from, to) = (&blocks[k - before * stride], &blocks[k + after * stride]);
        if before + after == 0 || !(from.good && to.good) {
            return known[k][axis];
        }
        (to.mean - from.mean) / ((before + after) as f32 * spacing[axis])
    };
    let steeper = |k: usize| {
        let slopes = [slope(k, 0), slope(k, 1)];
        let heights = [0, 1].map(|axis| (slopes[axis] - known[k][axis]) * spacing[axis]);
        let variance = (heights[0] * heights[0] + heights[1] * heights[1]) / 12.0;
        let steep = blocks[k].good && variance > limit * blocks[k].deviation * blocks[k].deviation;
        steep.then_some(slopes)
    };
    (0..blocks.len()).map(steeper).collect()
}

/// Whether a plane dominates the deviations of many blocks.
fn is_steep(blocks: &[Block], columns: usize, spacing: [f32; 2]) -> bool {
    let steep = steeper_slopes(blocks, &vec![[0.0; 2]; blocks.len()], columns, spacing, STEEP);
    let straight = |&k: &usize| steep[k].is_some() && is_straight(blocks, k, columns);
    (0..blocks.len()).filter(straight).count() as f32 > STEEP_SHARE * blocks.len() as f32
}

/// Whether the level of a block is near the mean of its neighbours, along the axis of the steeper slope.
fn is_straight(blocks: &[Block], k: usize, columns: usize) -> bool {
    let along = |place: usize, n: usize, stride: usize| {
        (place > 0 && place + 1 < n).then(|| {
            let [before, after] = [blocks[k - stride].mean, blocks[k + stride].mean];
            [after - before, blocks[k].mean - 0.5 * (before + after)].map(f32::abs)
        })
    };
    let axes = [along(k % columns, columns, 1), along(k / columns, blocks.len() / columns, columns)];
    let steepest = axes.into_iter().flatten().max_by(|a, b| a[0].total_cmp(&b[0]));
    steepest.is_some_and(|[difference, bend]| bend < STRAIGHT * difference)
}

/// Noise on blocks of at least [`NOISE_BLOCK_SIZE`]: the lower quartile of the deviations in each, smoothed.
fn noise_mesh(blocks: &[Block], [columns, rows]: [usize; 2], size: [usize; 2], spacing: [f32; 2]) -> Mesh {
    let group = (NOISE_BLOCK_SIZE as f32 / spacing[0].min(spacing[1])).round().max(1.0) as usize;
    let [n, m] = [columns.div_ceil(group), rows.div_ceil(group)];
    let mut coarse = vec![f32::NAN; n * m];
    let mut inside = Vec::new();
    for (k, value) in coarse.iter_mut().enumerate() {
        let (i0, j0) = ((k % n) * columns / n, (k / n) * rows / m);
        let (i1, j1) = ((k % n + 1) * columns / n, (k / n + 1) * rows / m);
        inside.clear();
        for j in j0..j1 {
            let row = &blocks[j * columns + i0..j * columns + i1];
            inside.extend(row.iter().filter(|b| b.good).map(|b| b.deviation));
        }
        if !inside.is_empty() {
            let quarter = inside.len() / 4;
            *value = *inside.select_nth_unstable_by(quarter, f32::total_cmp).1;
        }
    }
    let mut values = median_filter(&coarse, [n, m]);
    let mut sorted = values.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let floor = QUIET_FRACTION * sorted[sorted.len() / 2];
    for value in &mut values {
        *value = value.max(floor);
    }
    Mesh { values, columns: n, rows: m, spacing: [size[0] as f32 / n as f32, size[1] as f32 / m as f32] }
}

/// Level of the blocks. Blocks that a star fills take the level of their neighbours, and small blocks are
/// smoothed.
fn level_mesh(blocks: &[Block], [columns, rows]: [usize; 2], spacing: [f32; 2], noise: &Mesh) -> Mesh {
    let centre = |k: usize| (centre(k % columns, spacing[0]), centre(k / columns, spacing[1]));
    let small = spacing[0].min(spacing[1]) < NOISE_BLOCK_SIZE as f32;
    let raw: Vec<f32> = blocks
        .iter()
        .enumerate()
        .map(|(k, b)| {
            let (x, y) = centre(k);
            let swallowed = small && b.deviation > SWALLOWED_FACTOR * noise.at(x, y).max(f32::MIN_POSITIVE);
            if b.good && !swallowed { b.mean } else { f32::NAN }
        })
        .collect();
    let raw = if raw.iter().any(|v| v.is_finite()) { raw } else { blocks.iter().map(|b| b.mean).collect() };
    // Large blocks need no smoothing, which would flatten a glow.
    let values =
        if small || raw.iter().any(|v| v.is_nan()) { median_filter(&raw, [columns, rows]) } else { raw };
    Mesh { values, columns, rows, spacing }
}

/// Median over 3 x 3 blocks. Missing blocks are first filled with the median of their neighbours, from the
/// rim of each gap inwards.
fn median_filter(values: &[f32], shape: [usize; 2]) -> Vec<f32> {
    let mut filled = values.to_vec();
    let mut around = Vec::new();
    while filled.iter().any(|v| v.is_nan()) && filled.iter().any(|v| !v.is_nan()) {
        let before = filled.clone();
        for (k, value) in filled.iter_mut().enumerate().filter(|(_, v)| v.is_nan()) {
            *value = median_around(&before, shape, k, [1, 1], &mut around);
        }
    }
    // At the border the window is narrower, so that it stays symmetric: otherwise a gradient would bias the
    // median.
    let reach = |i: usize, n: usize| 1.min(i).min(n - 1 - i);
    (0..filled.len())
        .into_par_iter()
        .with_min_len(256)
        .map_init(Vec::new, |around, k| {
            let reach = [reach(k % shape[0], shape[0]), reach(k / shape[0], shape[1])];
            median_around(&filled, shape, k, reach, around)
        })
        .collect()
}

/// Median of the blocks that are not missing within `reach` of block `k`; NaN if there is none.
fn median_around(
    values: &[f32],
    [columns, rows]: [usize; 2],
    k: usize,
    reach: [usize; 2],
    around: &mut Vec<f32>,
) -> f32 {
    let (i, j) = (k % columns, k / columns);
    around.clear();
    for j in j.saturating_sub(reach[1])..=(j + reach[1]).min(rows - 1) {
        let span = j * columns + i.saturating_sub(reach[0])..=j * columns + (i + reach[0]).min(columns - 1);
        around.extend(values[span].iter().copied().filter(|v| !v.is_nan()));
    }
    median(around)
}

fn median(values: &mut [f32]) -> f32 {
    let n = values.len();
    if n == 0 {
        return f32::NAN;
    }
    let (low, &mut middle, _) = values.select_nth_unstable_by(n / 2, f32::total_cmp);
    if n % 2 == 1 {
        return middle;
    }
    let below = low.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    0.5 * (below + middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard normal numbers: sums of twelve uniform ones from a small generator.
    fn noise(n: usize) -> Vec<f32> {
        let mut state = 42_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn follows_a_gradient_and_its_noise() {
        let (w, h) = (300, 200);
        let pixels: Vec<f32> =
            noise(w * h).iter().enumerate().map(|(k, e)| 100.0 + 0.1 * (k % w) as f32 + 5.0 * e).collect();
        let background = Background::measure(&Image::from_slice(&pixels, w).unwrap(), 50).unwrap();
        for (x, y) in [(0, 0), (150, 100), (299, 199)] {
            let error = background.level.at(x as f32, y as f32) - 100.0 - 0.1 * x as f32;
            assert!(error.abs() < 1.5, "{error} at {x}, {y}");
            assert!((background.noise.at(x as f32, y as f32) / 5.0 - 1.0).abs() < 0.1);
        }
    }

    #[test]
    fn a_steep_gradient_is_no_noise() {
        let (w, h) = (320, 256);
        let steep = |k: usize| 100.0 + 7.0 * (k % w) as f32 - 3.0 * (k / w) as f32;
        let pixels: Vec<f32> = noise(w * h).iter().enumerate().map(|(k, e)| steep(k) + 5.0 * e).collect();
        let background = Background::measure(&Image::from_slice(&pixels, w).unwrap(), 64).unwrap();
        for (x, y) in [(31, 31), (150, 100), (287, 223)] {
            let error = background.level.at(x as f32, y as f32) - steep(y * w + x);
            assert!(error.abs() < 1.5, "{error} at {x}, {y}");
            let noise = background.noise.at(x as f32, y as f32);
            assert!((noise / 5.0 - 1.0).abs() < 0.1, "{noise} at {x}, {y}");
        }
    }

    #[test]
    fn noise_of_few_steps_is_in_the_units_of_the_image() {
        let steps: Vec<f32> = noise(300 * 200).iter().map(|e| (0.45 * e).round()).collect();
        let deviation = (steps.iter().map(|s| s * s).sum::<f32>() / steps.len() as f32).sqrt();
        for unit in [1e-3_f32, 1.0, 1000.0] {
            let pixels: Vec<f32> = steps.iter().map(|s| unit * (30.0 + s)).collect();
            let background = Background::measure(&Image::from_slice(&pixels, 300).unwrap(), 50).unwrap();
            let ratio = background.noise.mean() as f32 / (unit * deviation);
            assert!((ratio - 1.0).abs() < 0.08, "{ratio} {unit}");
        }
    }

    #[test]
    fn stars_and_bad_pixels_do_not_matter() {
        let (w, h) = (256, 256);
        let mut pixels: Vec<f32> = noise(w * h).iter().map(|e| 50.0 + 2.0 * e).collect();
        for k in (0..w * h).step_by(17) {
            pixels[k] += 500.0;
        }
        for k in (0..w * h).step_by(13) {
            pixels[k] = f32::NAN;
        }
        for y in 100..132 {
            pixels[y * w + 100..y * w + 132].fill(1e5);
        }
        let background = Background::measure(&Image::from_slice(&pixels, w).unwrap(), 16).unwrap();
        for (x, y) in [(10.0, 10.0), (116.0, 116.0), (250.0, 90.0)] {
            assert!((background.level.at(x, y) - 50.0).abs() < 1.0, "{}", background.level.at(x, y));
            assert!((background.noise.at(x, y) - 2.0).abs() < 0.5, "{}", background.noise.at(x, y));
        }
    }

    #[test]
    fn noise_cut_off_at_zero_is_not_underestimated() {
        let pixels: Vec<u8> = noise(128 * 128).iter().map(|e| (6.0 * e - 2.0).max(0.0) as u8).collect();
        let mean = pixels.iter().map(|&v| f32::from(v)).sum::<f32>() / pixels.len() as f32;
        let variance =
            pixels.iter().map(|&v| (f32::from(v) - mean).powi(2)).sum::<f32>() / pixels.len() as f32;
        let background = Background::measure(&Image::from_slice(&pixels, 128).unwrap(), 64).unwrap();
        assert!((background.noise.at(64.0, 64.0) / variance.sqrt() - 1.0).abs() < 0.15);
        assert!((background.level.at(64.0, 64.0) - mean).abs() < 0.2);
    }

    #[test]
    fn rows_agree_with_points() {
        let pixels = noise(130 * 70);
        let level = Background::measure(&Image::from_slice(&pixels, 130).unwrap(), 16).unwrap().level;
        let (mut knots, mut row) = (Vec::new(), vec![0.0; 130]);
        for y in [0, 7, 33, 69] {
            level.along_row(y, &mut knots, &mut row, |_, value| value);
            for (x, v) in row.iter().enumerate() {
                assert!((v - level.at(x as f32, y as f32)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_value_for_every_pixel_is_given_back() {
        let rows: Vec<Vec<f32>> = (0..6).map(|y| (0..8).map(|x| (10 * y + x) as f32).collect()).collect();
        let mesh = Mesh::per_pixel(&rows.iter().map(|row| &row[..]).collect::<Vec<_>>());
        let mut row = vec![0.0; 8];
        mesh.along_row(3, &mut Vec::new(), &mut row, |_, value| value);
        assert_eq!(row, rows[3]);
        assert_eq!(mesh.at(5.0, 2.0), 25.0);
        assert_eq!(mesh.binned(2).at(1.0, 1.0), (22.0 + 23.0 + 32.0 + 33.0) / 4.0);
    }

    #[test]
    fn a_frame_without_good_pixels_has_no_background() {
        assert!(Background::measure(&Image::from_slice(&[f32::NAN; 64], 8).unwrap(), 4).is_none());
    }
}
