//! Robust statistics of one block: mean and deviation of its background, some of whose pixels are raised by
//! stars.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]
// `&` and `|` on booleans make many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use crate::imaging::image::Image;
use crate::imaging::pixels::LIMIT;
use crate::simd::Work;

/// Number of pixels of a block whose quantiles give the starting values of the clipping.
const START_SAMPLES: usize = 32;
/// Pixels further than this many sigmas from the block's mean are not background. The limit is low, because
/// stars are everywhere.
const CLIP_SIGMAS: f32 = 2.0;
/// Standard deviation of a unit normal distribution cut at ±[`CLIP_SIGMAS`].
const CLIPPED_DEVIATION: f32 = 0.879_626;
/// If more than this fraction of a block's pixels has its very lowest value, its noise is cut off at the
/// floor of the converter. The remaining noise is so skewed that only far outliers differ from it.
const FLOORED_FRACTION: f32 = 0.1;
/// A pixel is near the floor if it is closer to the floor than this fraction of the distance from the floor
/// to the block's median or mean. Only a block whose lowest tenth is near the floor may be cut off.
const NEAR_FLOOR: f32 = 0.2;
/// Clipping limit of a block that is cut off at the floor, in sigmas.
const FLOORED_CLIP_SIGMAS: f32 = 4.0;
/// A block's noise is cut off, and thus skewed, if some of its pixels are near the lowest value of the frame
/// and that value is less than this many sigmas below the block's mean. This includes grey values made from
/// colours that are each cut off. The lowest value of a normal distribution is four sigmas below the mean.
const CUT_OFF_SIGMAS: f32 = 1.75;
/// If most pixels are at the floor, the others are noise if they are next to each other little more often
/// than by chance. This is the largest tolerated excess, as a fraction of the pixels that have no such
/// neighbour by chance.
const MAX_ADJACENT_EXCESS: f32 = 0.35;
/// Least number of pixels above the floor from which the noise can be measured.
const FEWEST_ABOVE: usize = 8;
/// Pixels above the floor by more than this multiple of the median height are stars. Of noise that falls off
/// exponentially, one pixel in 60 is so high.
const FAR_ABOVE: f32 = 6.0;
/// Clipping limit, in sigmas, of a block that scatters by less than a step: its few values are not normally
/// distributed.
const COARSE_CLIP_SIGMAS: f32 = 4.0;
/// Scatter of a block, in steps of its lattice of values, above which the lattice has no effect.
const FINE_LATTICE: f32 = 8.0;
/// Largest number of rounds of clipping.
const CLIP_ROUNDS: usize = 6;
/// Relative change of the deviation that ends the clipping.
const CLIP_TOLERANCE: f32 = 0.01;
/// Ratio of the standard deviation to the distance between median and quartile, for a normal distribution.
const QUARTILE_TO_SIGMA: f32 = 1.482_602;
/// Least fraction of good pixels in a block that is used.
const MIN_GOOD_FRACTION: f32 = 0.25;
/// Number of partial sums that are accumulated in parallel.
const SIDE_BY_SIDE: usize = 16;

/// Statistics of one block: mean and deviation of its background pixels, and whether enough of them are good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) mean: f32,
    pub(super) deviation: f32,
    pub(super) good: bool,
    /// The lowest of [`START_SAMPLES`] of its pixels.
    pub(super) lowest: f32,
}

impl Block {
    /// Whether the block's noise is cut off at `floor`, the lowest value of the frame.
    pub(super) fn is_cut_off(&self, floor: f32) -> bool {
        let height = self.mean - floor;
        height < CUT_OFF_SIGMAS * self.deviation && self.lowest - floor < NEAR_FLOOR * height
    }
}

pub(super) fn edges(i: usize, n: usize, size: usize) -> [usize; 2] {
    [i * size / n, (i + 1) * size / n]
}

/// Middle of block `i` along an axis on which the blocks have this spacing, as the mesh has it. The middle of
/// its whole pixels may differ by half a pixel.
pub(super) fn centre(i: usize, spacing: f32) -> f32 {
    (i as f32 + 0.5) * spacing - 0.5
}

/// One row of blocks: rows `bounds[0]` to `bounds[1]` of the image, of which one in several is sampled.
pub(super) struct BlockRow<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) bounds: [usize; 2],
    pub(super) wanted: usize,
    /// Quantisation step of the pixel values; zero if there is none.
    pub(super) step: f32,
    /// Slope of the background in each block, which is subtracted. Blocks without one are not measured.
    pub(super) slopes: &'a [Option<[f32; 2]>],
    /// Middle of the row of blocks, in rows of the image.
    pub(super) middle: f32,
    /// Buffer for the lines.
    pub(super) lines: &'a mut Vec<f32>,
}

impl Work for BlockRow<'_> {
    type Output = Vec<Block>;

    #[inline(always)]
    fn call(self) -> Vec<Block> {
        let Self { image, bounds: [y0, y1], wanted, step: lattice, slopes, middle, lines } = self;
        if slopes.iter().all(Option::is_none) {
            return Vec::new();
        }
        let (columns, width, height) = (slopes.len(), image.width(), y1 - y0);
        let step = (width.div_ceil(columns) * height).div_ceil(wanted).min(height.div_ceil(4).max(1));
        // If rows of even and odd number differ, an odd step samples both.
        let patterned = image.reading().is_some_and(|reading| reading.pattern.is_some());
        let step = if patterned && step.is_multiple_of(2) { step - 1 } else { step };
        let rows = (y0 + step / 2..y1).step_by(step);
        lines.resize(rows.len() * width, 0.0);
        for (y, line) in rows.clone().zip(lines.chunks_exact_mut(width)) {
            image.read(y, 0, line);
        }
        let (mut samples, mut few) = (Vec::with_capacity(2 * wanted), Vec::with_capacity(START_SAMPLES));
        let mut blocks = Vec::with_capacity(columns);
        let spacing = width as f32 / columns as f32;
        for (i, slope) in slopes.iter().enumerate() {
            let Some(slope) = *slope else { continue };
            let [x0, x1] = edges(i, columns, width);
            samples.clear();
            if slope != [0.0; 2] {
                level_out(lines, rows.clone(), [x0, x1], slope, [centre(i, spacing), middle]);
            }
            for line in lines.chunks_exact(width) {
                let part = &line[x0..x1];
                if part.iter().fold(true, |all, v| all & v.is_finite()) {
                    samples.extend_from_slice(part);
                } else {
                    samples.extend(part.iter().filter(|v| v.is_finite()));
                }
            }
            let looked_at = lines.len() / width * (x1 - x0);
            blocks.push(measure_block(&mut samples, looked_at, lattice, &mut few));
        }
        blocks
    }
}

/// Subtracts from columns `x0` to `x1` of some rows of the image a plane of this slope through `centre`. The
/// lines are as long as the rows of the image.
#[inline(never)]
fn level_out(
    lines: &mut [f32],
    rows: impl ExactSizeIterator<Item = usize>,
    [x0, x1]: [usize; 2],
    [along, up]: [f32; 2],
    centre: [f32; 2],
) {
    let width = lines.len() / rows.len();
    for (y, line) in rows.zip(lines.chunks_exact_mut(width)) {
        let offset = up * (y as f32 - centre[1]);
        for (x, v) in (x0..x1).zip(&mut line[x0..x1]) {
            *v -= offset + along * (x as f32 - centre[0]);
        }
    }
}

#[inline(always)]
fn measure_block(samples: &mut [f32], looked_at: usize, step: f32, few: &mut Vec<i32>) -> Block {
    if samples.is_empty() {
        return Block { mean: f32::NAN, deviation: f32::NAN, good: false, lowest: f32::NAN };
    }
    let good = samples.len() as f32 >= MIN_GOOD_FRACTION * looked_at as f32;
    let start = start(samples, few);
    let (mean, deviation) = start.measure(samples, step, few);
    Block { mean, deviation, good, lowest: start.lowest }
}

/// Mean and deviation of noise that is cut off so that most samples are at the floor. `None` if the other
/// samples are few, or are often adjacent, as those of stars are.
#[inline(never)]
fn mostly_at_floor(samples: &[f32], floor: f32, step: f32) -> Option<(f32, f32)> {
    let is_above = |v: f32| v > floor + 0.5 * step;
    let mut above: Vec<f32> = samples.iter().copied().filter(|&v| is_above(v)).collect();
    let pairs = samples.windows(2).filter(|pair| is_above(pair[0]) && is_above(pair[1])).count() as f32;
    let (count, all) = (above.len() as f32, samples.len() as f32);
    let alone = pairs < count * (count / all + MAX_ADJACENT_EXCESS * (1.0 - count / all));
    if above.len() < FEWEST_ABOVE || !alone {
        return None;
    }
    let middle = above.len() / 2;
    let (_, &mut median, _) = above.select_nth_unstable_by(middle, f32::total_cmp);
    let (count, sum, squares) = moments(samples, floor, FAR_ABOVE * (median - floor));
    let mean = sum / count;
    Some((floor + mean, (squares / count - mean * mean).max(step * step / 12.0).sqrt()))
}

/// Adds to each sample a number from a sequence that fills -½ to ½ step evenly, by the golden ratio.
#[inline(always)]
fn spread(samples: &mut [f32], step: f32) {
    const GOLDEN: u32 = 0x9e37_79b9;
    let mut phase = 0_u32;
    for v in samples {
        phase = phase.wrapping_add(GOLDEN);
        *v += step * ((phase >> 8) as f32 / (1 << 24) as f32 - 0.5);
    }
}

/// Starting values of the clipping.
#[derive(Debug, Clone, Copy)]
struct Start {
    median: f32,
    /// Standard deviation, from the lower quartile.
    scale: f32,
    /// Whether many samples are at the floor.
    floored: bool,
    lowest: f32,
}

/// Estimates the starting values from the lower quantiles of a few samples, because stars only raise samples.
#[inline(always)]
fn start(samples: &[f32], few: &mut Vec<i32>) -> Start {
    few.clear();
    let chosen = samples.iter().step_by(samples.len().div_ceil(START_SAMPLES));
    few.extend(chosen.map(|v| ordered(v.to_bits() as i32)));
    few.sort_unstable();
    let value = |q: f32| f32::from_bits(ordered(few[(q * (few.len() - 1) as f32) as usize]) as u32);
    let [lowest, tenth, quartile, median] = [0.0, 0.1, 0.25, 0.5].map(value);
    // The few samples decide whether all samples are counted.
    let near = tenth - lowest <= NEAR_FLOOR * (median - lowest);
    let at_floor = || samples.iter().filter(|&&v| v == lowest).count() as f32;
    let floored = near && at_floor() > FLOORED_FRACTION * samples.len() as f32;
    Start { median, scale: QUARTILE_TO_SIGMA * (median - quartile), floored, lowest }
}

/// Maps the bits of a floating-point number to an integer of the same order. The map is its own inverse.
#[inline(always)]
fn ordered(bits: i32) -> i32 {
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

impl Start {
    /// Mean and deviation of the background.
    #[inline(always)]
    fn measure(self, samples: &mut [f32], step: f32, few: &mut Vec<i32>) -> (f32, f32) {
        if self.median == self.lowest
            && let Some(found) = mostly_at_floor(samples, self.lowest, step)
        {
            return found;
        }
        if self.scale > FINE_LATTICE * step {
            return self.clip(samples, step);
        }
        // Once quantised values are spread over their steps, they can be clipped at any value.
        spread(samples, step);
        let (mean, deviation) = Self { floored: self.floored, ..start(samples, few) }.clip(samples, step);
        let rounding = step * step / 12.0;
        let variance = (deviation * deviation - rounding).max(rounding);
        (mean, variance.sqrt())
    }

    #[inline(always)]
    fn clip(self, samples: &[f32], step: f32) -> (f32, f32) {
        if self.floored {
            return clip(samples, self.median, LIMIT, FLOORED_CLIP_SIGMAS, 1.0);
        }
        let (sigmas, shrunk) =
            if self.scale < step { (COARSE_CLIP_SIGMAS, 1.0) } else { (CLIP_SIGMAS, CLIPPED_DEVIATION) };
        clip(samples, self.median, self.scale, sigmas, shrunk)
    }
}

/// Mean and deviation after rounds of clipping at `sigmas` deviations. Each round corrects for the factor
/// `shrunk` by which clipping reduces the deviation.
#[inline(always)]
fn clip(samples: &[f32], mut mean: f32, mut deviation: f32, sigmas: f32, shrunk: f32) -> (f32, f32) {
    for _ in 0..CLIP_ROUNDS {
        let (count, sum, squares) = moments(samples, mean, (sigmas * deviation).min(LIMIT));
        if count < 1.0 {
            break;
        }
        let offset = sum / count;
        let before = deviation;
        deviation = (squares / count - offset * offset).max(0.0).sqrt() / shrunk;
        mean += offset;
        if (deviation - before).abs() <= CLIP_TOLERANCE * deviation {
            break;
        }
    }
    (mean, deviation)
}

/// Count, sum and sum of squares of `v - centre` where it is within ±`cut`.
#[inline(always)]
fn moments(samples: &[f32], centre: f32, cut: f32) -> (f32, f32, f32) {
    let (chunks, rest) = samples.as_chunks::<SIDE_BY_SIDE>();
    let mut last = [f32::MAX; SIDE_BY_SIDE];
    last[..rest.len()].copy_from_slice(rest);
    let [mut count, mut sum, mut squares] = [0; 3].map(|_| [0.0; SIDE_BY_SIDE]);
    for chunk in chunks {
        add_moments(chunk, centre, cut, [&mut count, &mut sum, &mut squares]);
    }
    add_moments(&last, centre, cut, [&mut count, &mut sum, &mut squares]);
    (count.iter().sum(), sum.iter().sum(), squares.iter().sum())
}

/// Adds the moments of some samples to the sums. It is a separate function because in a single loop over all
/// samples and the last ones, the compiler would keep the sums in memory.
#[inline(always)]
fn add_moments(
    samples: &[f32; SIDE_BY_SIDE],
    centre: f32,
    cut: f32,
    [count, sum, squares]: [&mut [f32; SIDE_BY_SIDE]; 3],
) {
    for k in 0..SIDE_BY_SIDE {
        let offset = samples[k] - centre;
        let near = offset.abs() < cut;
        let kept = if near { offset } else { 0.0 };
        count[k] += if near { 1.0 } else { 0.0 };
        sum[k] += kept;
        squares[k] += kept * kept;
    }
}
