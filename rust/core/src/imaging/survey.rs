//! Surveys a frame before extraction: the scale of its values, the lattice on which they lie, and a pattern
//! of period two.
//!
//! The survey reads a few thousand pixels. Its result ([`Reading`]) determines how pixel values are converted
//! on reading, so that later stages do not depend on the units of the image, and need not handle mosaics of
//! colours or columns read by two amplifiers.

use crate::imaging::image::{Image, Reading};

use lattice::Lattice;
use pattern::pattern;

mod lattice;
mod pattern;

/// Number of patches along each axis.
const PATCHES: usize = 18;
/// Side of a patch, in pixels.
const SIDE: usize = 3;
/// A frame has no noise if the spread of nearly all its pixel values exceeds that of their middle half by
/// this factor.
const NOISELESS_SPREAD: f64 = 1e3;
/// Noise that is assumed for a frame without noise, as a fraction of its range.
const NOISELESS_FRACTION: f64 = 3e-5;
/// If noise is mostly cut off, a pixel that is not cut off has at most this many neighbours that are not.
const MOST_NEIGHBOURS: usize = 3;
/// Least number of such pixels from which this can be decided.
const FEWEST_RISEN: usize = 5;
/// Pixels that are larger than all others by more than this many powers of two represent missing data.
const GAP: usize = 20;
/// Number of exponents in double precision.
const EXPONENTS: usize = 1 << 11;
const EXPONENT_BIAS: i32 = f64::MAX_EXP - 1;

/// Pixels of a square whose corner has an even row and column, row by row; NaN where they are bad.
type Patch = [f64; SIDE * SIDE];

/// Determines how to convert the pixel values of an image in unknown units.
pub(crate) fn survey(image: &Image<'_>) -> Reading {
    let (patches, columns) = patches(image);
    let mut values: Vec<f64> = patches.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let spread = spread(&values);
    // Integers scatter by at least one step.
    let noiseless = image.step().is_none() && is_noiseless(&values) && !is_scattered(&patches, &values);
    let range = if noiseless { range(image, &values) } else { None };
    let unit = range.map_or(spread, |range| Some(spread.unwrap_or(0.0).max(range * NOISELESS_FRACTION)));
    let scale = power_of_two(unit, image.max_exponent());
    let Lattice { step, plateau } = Lattice::new(image, &values, spread, middle_half(&values));
    let pattern = pattern(&patches, columns).map(|amplitudes| amplitudes.scaled(scale));
    let least_noise = range.map_or(0.0, |range| range * NOISELESS_FRACTION);
    let [step, plateau, least_noise] = [step, plateau, least_noise].map(|v| (v * scale) as f32);
    Reading { scale, pattern, step, plateau, least_noise }
}

/// Patches all over the frame, row by row, and their number per row.
fn patches(image: &Image<'_>) -> (Vec<Patch>, usize) {
    let corners = |size: usize| {
        let last = size.saturating_sub(SIDE);
        let count = PATCHES.min(last / SIDE + 1);
        (0..count).map(move |i| ((2 * i + 1) * last / (2 * count)) & !1)
    };
    let value = |x: usize, y: usize| {
        let inside = x < image.width() && y < image.height();
        if inside { image.raw(x, y) } else { f64::NAN }
    };
    let at = |(x, y): (usize, usize)| std::array::from_fn(|k| value(x + k % SIDE, y + k / SIDE));
    let columns: Vec<usize> = corners(image.width()).collect();
    let places = corners(image.height()).flat_map(|y| columns.iter().map(move |&x| (x, y)));
    (places.map(at).collect(), columns.len())
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

/// Distance between the innermost pair of symmetric quantiles of sorted values that differ; `None` if there
/// is none.
fn spread(values: &[f64]) -> Option<f64> {
    [0.25, 0.1, 0.02, 0.0].into_iter().filter_map(|q| between(values, q)).find(|&width| width > 0.0)
}

/// Whether sorted values show no noise, only the wings of stars on a constant background: their outer
/// quantiles spread far more than their quartiles.
fn is_noiseless(values: &[f64]) -> bool {
    let quantile = |q: f64| values[(q * (values.len() - 1) as f64) as usize];
    values.is_empty()
        || quantile(0.98) - quantile(0.02) >= NOISELESS_SPREAD * (quantile(0.75) - quantile(0.25))
}

/// Whether most pixels that differ from the median are isolated, like noise that is mostly cut off, and
/// unlike stars.
fn is_scattered(patches: &[Patch], values: &[f64]) -> bool {
    let Some(&median) = values.get(values.len() / 2) else { return false };
    let differs = |v: &f64| *v != median;
    let risen = || patches.iter().filter(|patch| differs(&patch[SIDE * SIDE / 2]));
    let alone = risen().filter(|patch| patch.iter().filter(|v| differs(v)).count() <= 1 + MOST_NEIGHBOURS);
    let (alone, risen) = (alone.count(), risen().count());
    risen >= FEWEST_RISEN && 2 * alone > risen
}

/// Largest distance of a pixel from the median of sorted values, rounded down to a power of two; pixels
/// beyond a gap of [`GAP`] powers of two are missing data and do not count.
fn range(image: &Image<'_>, values: &[f64]) -> Option<f64> {
    let median = *values.get(values.len() / 2)?;
    let mut seen = [false; EXPONENTS];
    let mut row = vec![0.0; image.width()];
    for y in 0..image.height() {
        image.line([0, y], [1, 0], &mut row);
        for v in row.iter().filter(|v| v.is_finite()) {
            seen[biased_exponent((v - median).abs())] = true;
        }
    }
    // Exponent 0, that of zeros and of subnormal numbers, does not count.
    let mut highest = None;
    for exponent in (1..EXPONENTS - 1).filter(|&e| seen[e]) {
        if highest.is_some_and(|highest| exponent - highest > GAP) {
            break;
        }
        highest = Some(exponent);
    }
    highest.map(|exponent| 2.0_f64.powi(exponent as i32 - EXPONENT_BIAS))
}

/// The biased exponent with which a positive number is stored.
fn biased_exponent(v: f64) -> usize {
    (v.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as usize & (EXPONENTS - 1)
}

/// The power of two that scales a spread to between one and two.
fn power_of_two(spread: Option<f64>, max_exponent: i32) -> f64 {
    let exponent = spread.map_or(0, |v| EXPONENT_BIAS - biased_exponent(v) as i32);
    2.0_f64.powi(exponent.clamp(-max_exponent, max_exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imaging::image::Pixel;

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
        // Flat blocks, one in nine of which is one step higher; and a slope whose noise is far below a step.
        let blocks: Vec<u8> =
            (0..240 * 240).map(|k| 20 + u8::from((k % 240 / 8 + 7 * (k / 240 / 8)) % 9 == 0)).collect();
        let slope: Vec<u8> = (0..240 * 240).map(|k| (20 + k % 240 / 60) as u8).collect();
        for pixels in [&blocks, &slope] {
            let reading = surveyed(pixels, 240);
            assert_eq!(f64::from(reading.plateau), reading.scale);
        }
        assert_eq!(surveyed(&vec![20_u8; 240 * 240], 240).plateau, 0.0);
        let noisy: Vec<u8> = noise(240 * 240).iter().map(|e| (20.0 + e).round() as u8).collect();
        assert_eq!(surveyed(&noisy, 240).plateau, 0.0);
    }
}
