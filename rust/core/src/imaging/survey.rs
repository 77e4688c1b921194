//! A first look at a frame: the scale of its numbers, the lattice they lie on, and a pattern of period two.
//!
//! A few thousand pixels tell it. What is found decides how the frame is read from then on ([`Reading`]), so that nothing
//! after it depends on the units of the image, or knows of mosaics of colours and of columns read by two amplifiers.

use crate::imaging::image::{Image, Pattern, Pixel, Reading};

/// Patches along each axis, and pixels along each side of a patch.
const PATCHES: usize = 22;
const SIDE: usize = 3;
/// The values of one pixel in so many at least recur, where they lie on a lattice that matters.
const LATTICE_RECURRENCE: usize = 3;
/// Fewer different values tell no lattice of numbers that are not integers.
const LATTICE_VALUES: usize = 4;
/// Gaps between values are multiples of the step within this fraction of it.
const LATTICE_TOLERANCE: f64 = 0.02;
/// Rounding of the values, as a fraction of the largest.
const ROUNDING: f64 = 4.0 * f32::EPSILON as f64;
/// A pattern is one if its amplitude is so many times its error ...
const PATTERN_SIGMAS: f64 = 6.0;
/// ... and this fraction of its scatter from patch to patch: a weaker one does no harm.
const PATTERN_FRACTION: f64 = 0.3;
/// Fewer patches do not tell a pattern.
const PATTERN_PATCHES: usize = 100;
/// Factors of a pattern are within this range of one.
const FACTOR_RANGE: [f64; 2] = [0.2, 5.0];
/// Rounds of a line through the patches, and how far they may be from it, in median absolute deviations.
const LINE_ROUNDS: usize = 6;
const LINE_CLIP: f64 = 7.0;
/// Median absolute deviation to standard deviation of a normal distribution.
const QUARTILE_TO_SIGMA: f64 = 1.482_602;
/// Standard error of a median over its population's median absolute deviation, times the root of the count.
const MEDIAN_ERROR: f64 = 1.858;

/// Windows along each axis, and pixels along each side of one, of which most are flat in a frame without noise ...
const WINDOWS: usize = 16;
const WINDOW: usize = 4;
/// ... and which are at several levels, if this fraction of them is not at that of most.
const OTHER_LEVELS: f64 = 0.02;

/// Frames of which the middle half of the values spreads over fewer steps are looked at for plateaus.
const FEW_STEPS: f64 = 8.0;
/// Side of the blocks of JPEG, and rows on which their edges are looked for.
const BLOCK: usize = 8;
const BLOCK_ROWS: usize = 128;
/// Fraction of the differences of neighbours that are at the edges of blocks, where there are any (else one in eight), that
/// of those that stand alone, and what is added to both for their number, over its root.
const EDGE_FRACTION: f64 = 0.2;
const LONE_EDGE_FRACTION: f64 = 0.25;
const EDGE_SIGMAS: f64 = 1.0;

/// A frame has no noise where the spread of nearly all its pixels exceeds that of half of them by this factor ...
const NOISELESS_SPREAD: f64 = 1e3;
/// ... and noise of this fraction of its range is assumed.
const NOISELESS_FRACTION: f64 = 3e-5;
/// Pixels that are more than so many powers of two larger than all others stand for missing data.
const GAP: usize = 20;
/// Exponents of double precision.
const EXPONENTS: usize = 1 << 11;
const EXPONENT_BIAS: i32 = f64::MAX_EXP - 1;

/// Second difference and smoothing of three pixels: a gradient has none of the former.
const DIFFERENCE: [f64; SIDE] = [0.25, -0.5, 0.25];
const SMOOTHING: [f64; SIDE] = [0.25, 0.5, 0.25];

/// Pixels of a square whose corner has an even row and column, row by row; NaN where they are bad.
type Patch = [f64; SIDE * SIDE];

/// How to read an image whose units nothing is known of.
pub(crate) fn survey<T: Pixel>(image: &Image<'_, T>) -> Reading {
    let patches = patches(image);
    let mut values: Vec<f64> = patches.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let spread = spread(&values);
    // Integers scatter by a step at least.
    let range = if T::STEP.is_none() && is_noiseless(&values) { range(image, &values) } else { None };
    let unit = range.map_or(spread, |range| Some(spread.unwrap_or(0.0).max(range * NOISELESS_FRACTION)));
    let scale = power_of_two(unit, T::MAX_EXPONENT);
    let step = step(&values, spread).or(T::STEP).unwrap_or(0.0);
    let pattern = pattern(&patches).map(|amplitudes| amplitudes.scaled(scale));
    // Where there are many steps of noise, neither rounding nor blocks are left to be seen.
    let coarse = step > 0.0 && middle_half(&values) < FEW_STEPS * step;
    let blocks = if coarse && is_in_blocks(image) { step } else { 0.0 };
    let plateau = if coarse { plateau(image).max(blocks) } else { 0.0 };
    let least_noise = range.map_or(0.0, |range| range * NOISELESS_FRACTION * scale) as f32;
    Reading { scale, pattern, step: (step * scale) as f32, plateau: (plateau * scale) as f32, least_noise }
}

/// Patches all over the frame.
fn patches<T: Pixel>(image: &Image<'_, T>) -> Vec<Patch> {
    let corners = |size: usize| {
        let last = size.saturating_sub(SIDE);
        let count = PATCHES.min(last / SIDE + 1);
        (0..count).map(move |i| ((2 * i + 1) * last / (2 * count)) & !1)
    };
    let value = |x: usize, y: usize| {
        let inside = x < image.width() && y < image.height();
        inside.then(|| image.raw(x, y)).flatten().unwrap_or(f64::NAN)
    };
    let at = |(x, y): (usize, usize)| std::array::from_fn(|k| value(x + k % SIDE, y + k / SIDE));
    let columns: Vec<usize> = corners(image.width()).collect();
    corners(image.height()).flat_map(|y| columns.iter().map(move |&x| (x, y))).map(at).collect()
}

/// Distance between the quantiles `q` and 1 - `q` of sorted values, if there are any.
fn between(values: &[f64], q: f64) -> Option<f64> {
    let quantile = |q: f64| Some(*values.get((q * values.len().checked_sub(1)? as f64) as usize)?);
    Some(quantile(1.0 - q)? - quantile(q)?)
}

/// Distance between the quartiles of sorted values.
fn middle_half(values: &[f64]) -> f64 {
    between(values, 0.25).unwrap_or(0.0)
}

/// Distance between two quantiles of sorted values: the innermost that differ.
fn spread(values: &[f64]) -> Option<f64> {
    [0.25, 0.1, 0.02, 0.0].into_iter().filter_map(|q| between(values, q)).find(|&width| width > 0.0)
}

/// Whether sorted values scatter so differently near their median and further off that it is no noise that they show, but
/// the wings of stars on a constant background.
fn is_noiseless(values: &[f64]) -> bool {
    let quantile = |q: f64| values[(q * (values.len() - 1) as f64) as usize];
    values.is_empty()
        || quantile(0.98) - quantile(0.02) >= NOISELESS_SPREAD * (quantile(0.75) - quantile(0.25))
}

/// How far pixels are from the median of sorted values, at most; those beyond a gap of many magnitudes are no data.
fn range<T: Pixel>(image: &Image<'_, T>, values: &[f64]) -> Option<f64> {
    let median = *values.get(values.len() / 2)?;
    let mut seen = [false; EXPONENTS];
    for y in 0..image.height() {
        for v in (0..image.width()).filter_map(|x| image.raw(x, y)) {
            seen[biased_exponent((v - median).abs())] = true;
        }
    }
    // Zeros, and what is next to nothing, are in the first.
    let mut highest = None;
    for exponent in (1..EXPONENTS - 1).filter(|&e| seen[e]) {
        if highest.is_some_and(|highest| exponent - highest > GAP) {
            break;
        }
        highest = Some(exponent);
    }
    highest.map(|exponent| 2.0_f64.powi(exponent as i32 - EXPONENT_BIAS))
}

/// The exponent of a positive number as it is stored.
fn biased_exponent(v: f64) -> usize {
    (v.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as usize & (EXPONENTS - 1)
}

/// The power of two that brings a spread to between one and two.
fn power_of_two(spread: Option<f64>, max_exponent: i32) -> f64 {
    let exponent = spread.map_or(0, |v| EXPONENT_BIAS - biased_exponent(v) as i32);
    2.0_f64.powi(exponent.clamp(-max_exponent, max_exponent))
}

/// The step of the lattice that sorted values lie on, if it is coarse enough for many of them to be the same.
fn step(values: &[f64], spread: Option<f64>) -> Option<f64> {
    // Larger ones are no data: they would not show such a spread.
    let limit = spread? / ROUNDING;
    let values: Vec<f64> = values.iter().copied().filter(|v| v.abs() < limit).collect();
    let largest = values.first()?.abs().max(values.last()?.abs());
    let rounding = ROUNDING * largest;
    let gaps = || values.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > rounding);
    let count = gaps().count();
    if count + 1 < LATTICE_VALUES || count * LATTICE_RECURRENCE > values.len() {
        return None;
    }
    let step = gaps().fold(f64::INFINITY, f64::min);
    let multiple = |gap: f64| {
        let off = (gap / step - (gap / step).round()).abs();
        off * step <= LATTICE_TOLERANCE * step + rounding
    };
    gaps().all(multiple).then_some(step)
}

/// Least difference of flat windows, if most are flat and not all of one level.
///
/// Noise far below a step, and blocks of JPEG that are a mean and nothing else, are rounded alike over many pixels.
fn plateau<T: Pixel>(image: &Image<'_, T>) -> f64 {
    let corner = |i: usize, size: usize| (2 * i + 1) * size.saturating_sub(WINDOW) / (2 * WINDOWS);
    let flat = |k: usize| {
        let [x, y] = [corner(k % WINDOWS, image.width()), corner(k / WINDOWS, image.height())];
        let rows = y..(y + WINDOW).min(image.height());
        let mut pixels =
            rows.flat_map(|y| (x..(x + WINDOW).min(image.width())).map(move |x| image.raw(x, y)));
        let first = pixels.next()??;
        pixels.all(|v| v == Some(first)).then_some(first)
    };
    let mut levels: Vec<f64> = (0..WINDOWS * WINDOWS).filter_map(flat).collect();
    if 2 * levels.len() < WINDOWS * WINDOWS {
        return 0.0;
    }
    levels.sort_unstable_by(f64::total_cmp);
    let most = levels.chunk_by(|a, b| a == b).map(<[f64]>::len).max().unwrap_or(0);
    if (levels.len() - most) as f64 <= OTHER_LEVELS * levels.len() as f64 {
        return 0.0;
    }
    levels.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0.0).fold(f64::INFINITY, f64::min)
}

/// Whether differences of neighbours are at the edges of blocks, as JPEG leaves them where it keeps little else: too many of
/// all of them, or of those that stand alone (stars have other differences beside them).
fn is_in_blocks<T: Pixel>(image: &Image<'_, T>) -> bool {
    let [mut all, mut alone] = [[0_usize; BLOCK]; 2];
    let rows = BLOCK_ROWS.min(image.height());
    for y in (0..rows).map(|k| (2 * k + 1) * image.height() / (2 * rows)) {
        let mut last = image.raw(0, y);
        // Whether there was a difference at the pixel before, and at the one before that.
        let mut before = [false; 2];
        for x in 1..image.width() {
            let v = image.raw(x, y);
            let differs = matches!((last, v), (Some(a), Some(b)) if a != b);
            all[x % BLOCK] += usize::from(differs);
            alone[(x - 1) % BLOCK] += usize::from(before == [true, false] && !differs);
            (last, before) = (v, [differs, before[0]]);
        }
    }
    let crowd = |differences: [usize; BLOCK], fraction: f64| {
        let total = differences.iter().sum::<usize>() as f64;
        let most = differences.into_iter().max().unwrap_or(0) as f64;
        total > 0.0 && most > (fraction + EDGE_SIGMAS / total.sqrt()) * total
    };
    crowd(all, EDGE_FRACTION) || crowd(alone, LONE_EDGE_FRACTION)
}

/// What the four places of a pattern have more than their mean, at a level of the frame, and how that grows with the level.
struct Amplitudes {
    level: f64,
    excess: [f64; 4],
    slope: [f64; 4],
}

/// A pattern that is the same all over the frame, or grows with its level.
fn pattern(patches: &[Patch]) -> Option<Amplitudes> {
    let good: Vec<&Patch> = patches.iter().filter(|patch| patch.iter().all(|v| v.is_finite())).collect();
    if good.len() < PATTERN_PATCHES {
        return None;
    }
    // By column, by row, and by both.
    let weights = [[DIFFERENCE, SMOOTHING], [SMOOTHING, DIFFERENCE], [DIFFERENCE, DIFFERENCE]];
    let is_pattern = weights.iter().any(|&w| {
        let (amplitude, scatter) = median_and_scatter(good.iter().map(|patch| weighted(patch, w)));
        let error = MEDIAN_ERROR * scatter / (good.len() as f64).sqrt();
        amplitude.abs() > (PATTERN_SIGMAS * error).max(PATTERN_FRACTION * scatter)
    });
    if !is_pattern {
        return None;
    }
    let levels: Vec<f64> = good.iter().map(|patch| weighted(patch, [SMOOTHING; 2])).collect();
    let (level, _) = median_and_scatter(levels.iter().copied());
    let lines = weights.map(|w| {
        let amplitudes = good.iter().map(|patch| weighted(patch, w));
        line(&levels.iter().map(|v| v - level).zip(amplitudes).collect::<Vec<_>>())
    });
    let places = |k: usize| {
        let [column, row, both] = lines.map(|line| line[k]);
        [column + row + both, -column + row - both, column - row - both, -column - row + both]
    };
    Some(Amplitudes { level, excess: places(0), slope: places(1) })
}

/// Height at zero and slope of the line through points of which a few are stars; a slope that may be chance is none.
fn line(points: &[(f64, f64)]) -> [f64; 2] {
    let (mut height, mut slope, mut error) = (0.0, 0.0, 0.0);
    for round in 0..LINE_ROUNDS {
        let (middle, scatter) = median_and_scatter(points.iter().map(|&(x, y)| y - height - slope * x));
        let near = |&&(x, y): &&(f64, f64)| (y - height - slope * x - middle).abs() <= LINE_CLIP * scatter;
        let kept: Vec<(f64, f64)> = points.iter().filter(near).copied().collect();
        let n = kept.len() as f64;
        let [mx, my] = [kept.iter().map(|p| p.0).sum::<f64>() / n, kept.iter().map(|p| p.1).sum::<f64>() / n];
        let spread: f64 = kept.iter().map(|p| (p.0 - mx).powi(2)).sum();
        if round == 0 || spread <= 0.0 {
            // The first is of a pattern that is the same everywhere.
            (height, slope) = (my, 0.0);
            continue;
        }
        slope = kept.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / spread;
        height = my - slope * mx;
        error = QUARTILE_TO_SIGMA * scatter / spread.sqrt();
    }
    if slope.abs() > PATTERN_SIGMAS * error {
        return [height, slope];
    }
    [median_and_scatter(points.iter().map(|p| p.1)).0, 0.0]
}

impl Amplitudes {
    /// The pattern whose removal leaves each place at the frame's level, in scaled units.
    fn scaled(&self, scale: f64) -> Pattern {
        let mut pattern = Pattern { offset: [[0.0; 2]; 2], factor: [[1.0; 2]; 2] };
        for k in 0..4 {
            let rise = (1.0 + self.slope[k]).clamp(FACTOR_RANGE[0], FACTOR_RANGE[1]);
            let offset = self.level + self.excess[k] - self.level * rise;
            pattern.offset[k / 2][k % 2] = (scale * offset) as f32;
            pattern.factor[k / 2][k % 2] = rise.recip() as f32;
        }
        pattern
    }
}

fn weighted(patch: &Patch, [columns, rows]: [[f64; SIDE]; 2]) -> f64 {
    patch.iter().enumerate().map(|(k, v)| rows[k / SIDE] * columns[k % SIDE] * v).sum()
}

/// Median and median absolute deviation.
fn median_and_scatter(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    let median = *values.select_nth_unstable_by(middle, f64::total_cmp).1;
    for v in &mut values {
        *v = (*v - median).abs();
    }
    (median, *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Standard normal numbers: sums of twelve uniform ones from a small generator.
    fn noise(n: usize) -> Vec<f64> {
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1_u64 << 24) as f64
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    fn surveyed<T: Pixel>(pixels: &[T], width: usize) -> Reading {
        survey(&Image::from_slice(pixels, width).unwrap())
    }

    proptest! {
        #[test]
        fn the_step_of_a_lattice_is_found(step in 1e-3_f64..1e3, offset in -50.0..50.0, sigma in 0.6..20.0) {
            let pixels: Vec<f32> =
                noise(200 * 150).iter().map(|&e| (step * (f64::round(sigma * e) + offset)) as f32).collect();
            let reading = surveyed(&pixels, 200);
            let found = f64::from(reading.step) / reading.scale;
            prop_assert!((found / step - 1.0).abs() < 1e-2, "{found} {step}");
        }

        #[test]
        fn powers_of_two_change_the_scale_alone(power in -300_i32..300, offset in -50.0..50.0) {
            let factor = 2.0_f64.powi(power);
            let pixels: Vec<f64> = noise(120 * 90).iter().map(|e| e + offset).collect();
            let scaled: Vec<f64> = pixels.iter().map(|v| factor * v).collect();
            let (before, after) = (surveyed(&pixels, 120), surveyed(&scaled, 120));
            prop_assert_eq!(before, Reading { scale: factor * after.scale, ..after });
        }

        #[test]
        fn a_pattern_is_taken_off(
            column in -30.0..30.0_f64, row in -30.0..30.0_f64, both in -30.0..30.0_f64, slope in 0.0..0.05_f64,
        ) {
            let (width, height) = (300, 220);
            let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
            let clean: Vec<f64> = noise(width * height)
                .iter()
                .enumerate()
                .map(|(k, e)| 100.0 + slope * (k % width) as f64 + 2.0 * e)
                .collect();
            let pixels: Vec<f64> = clean
                .iter()
                .enumerate()
                .map(|(k, v)| {
                    let (x, y) = (sign(k % width), sign(k / width));
                    v + 4.0 * (x + y + x * y) + column * x + row * y + both * x * y
                })
                .collect();
            let image = Image::from_slice(&pixels, width).unwrap();
            let reading = survey(&image);
            let image = image.with_reading(reading);
            let mut line = vec![0.0; width - 3];
            for y in [10, 101] {
                image.read(y, 3, &mut line);
                for (x, v) in (3..).zip(&line) {
                    let error = f64::from(*v) / reading.scale - clean[y * width + x];
                    prop_assert!(reading.pattern.is_none() || error.abs() < 0.8, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_gradient_is_no_pattern_and_noise_no_lattice() {
        let pixels: Vec<f64> =
            noise(300 * 200).iter().enumerate().map(|(k, e)| 3.0 * (k % 300 + k / 300) as f64 + e).collect();
        let reading = surveyed(&pixels, 300);
        assert!(reading.pattern.is_none() && reading.step == 0.0 && reading.least_noise == 0.0);
    }

    #[test]
    fn missing_data_do_not_set_the_scale() {
        let mut pixels = noise(200 * 200);
        for k in (0..pixels.len()).step_by(7) {
            pixels[k] = -1e30;
        }
        assert!((0.1..10.0).contains(&surveyed(&pixels, 200).scale));
    }

    #[test]
    fn wings_without_noise_are_seen() {
        let star = |k: usize| {
            let r2 = ((k % 200) as f64 - 80.3).powi(2) + ((k / 200) as f64 - 91.7).powi(2);
            3000.0 * (-0.5 * r2).exp()
        };
        let pixels: Vec<f64> = (0..200 * 200).map(star).collect();
        let reading = surveyed(&pixels, 200);
        let assumed = f64::from(reading.least_noise) / reading.scale;
        assert!((0.01..0.1).contains(&assumed), "{assumed}");
    }

    #[test]
    fn blocks_and_plateaus_are_seen() {
        // Flat blocks of which one in nine is a step higher, and noise far below a step on a slope.
        let blocks: Vec<u8> =
            (0..240 * 240).map(|k| 20 + u8::from((k % 240 / 8 + 7 * (k / 240 / 8)) % 9 == 0)).collect();
        let slope: Vec<u8> = (0..240 * 240).map(|k| (20 + k % 240 / 60) as u8).collect();
        for pixels in [&blocks, &slope] {
            let reading = surveyed(pixels, 240);
            assert_eq!(f64::from(reading.plateau), reading.scale);
        }
        assert_eq!(surveyed(&[20_u8; 240 * 240], 240).plateau, 0.0);
        let noisy: Vec<u8> = noise(240 * 240).iter().map(|e| (20.0 + e).round() as u8).collect();
        assert_eq!(surveyed(&noisy, 240).plateau, 0.0);
    }
}
