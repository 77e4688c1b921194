//! Measures noise that may be skewed, such as that of counted photons, or noise that the converter cuts off
//! below.
//!
//! The noise is modelled by a gamma distribution, in the approximation of Wilson & Hilferty (1931, PNAS 17,
//! 684): a standard normal number `z` corresponds to `2/γ ((1 + γ z/6 - γ²/36)³ - 1)` standard deviations
//! from the mean, with the skewness `γ`.

use rayon::prelude::*;

/// Quantiles that give the deviation and the skewness, as standard normal numbers of either sign.
const NEAR: f32 = 1.0;
const FAR: f32 = 2.0;
/// Fractions of a normal distribution beyond [`NEAR`] and beyond [`FAR`].
const NEAR_FRACTION: f32 = 0.158_655;
const FAR_FRACTION: f32 = 0.022_750;
/// Largest skewness that the lower quantiles can measure.
const MAX_MEASURABLE_SKEWNESS: f32 = 1.5;
/// Largest skewness for which the approximation holds.
const MAX_SKEWNESS: f32 = 8.0;
/// Sign bit of a single-precision number.
const SIGN: u32 = 1 << 31;
/// Number of low bits that are ignored when values are sorted into classes.
const CLASS_BITS: u32 = 20;
/// Number of classes of values.
const CLASSES: usize = 1 << (u32::BITS - CLASS_BITS);
/// Number of bisections of the range of the skewness.
const ROUNDS: usize = 12;

/// Mean, standard deviation and skewness of noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Skewed {
    pub mean: f32,
    pub deviation: f32,
    pub skewness: f32,
}

impl Skewed {
    /// Measures noise from samples that may include stars, with a skewness of at most `most`. The mean is
    /// zero, the background level, unless the noise is so strongly cut off that only the upper quantiles can
    /// be used.
    pub(super) fn of(samples: &[Vec<f32>], most: f32) -> Self {
        let Some(quantiles) = Quantiles::of(samples) else {
            return Self { mean: 0.0, deviation: 0.0, skewness: 0.0 };
        };
        let below = quantiles.below(most);
        let measurable = below.deviation > 0.0 && below.skewness < MAX_MEASURABLE_SKEWNESS;
        if most < MAX_SKEWNESS || measurable { Self { mean: 0.0, ..below } } else { quantiles.above() }
    }

    /// The value that the noise exceeds as rarely as a standard normal number exceeds `sigmas`.
    pub(super) fn exceeded(self, sigmas: f32) -> f32 {
        (self.mean + self.deviation * standard(sigmas, self.skewness)).min(f32::MAX)
    }
}

/// Quantiles of samples at the normal numbers -[`FAR`], -[`NEAR`], 0, [`NEAR`] and [`FAR`].
struct Quantiles([f32; 5]);

impl Quantiles {
    /// Exact quantiles of samples that come in parts, which are processed in parallel; `None` without
    /// samples. The samples are counted in classes of values, and only the classes that contain a quantile
    /// are searched for its exact value.
    fn of(parts: &[Vec<f32>]) -> Option<Self> {
        let counts = parts.par_iter().map(|part| count(part)).reduce_with(|mut all, counts| {
            all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            all
        })?;
        let n = counts.iter().sum::<u32>() as usize;
        // The class of a quantile, and its index within the class.
        let class = |fraction: f32| {
            let mut place = ((fraction * n as f32) as usize).min(n.checked_sub(1)?);
            let class = counts.iter().position(|&count| {
                let inside = place < count as usize;
                place -= if inside { 0 } else { count as usize };
                inside
            })?;
            Some((class, place))
        };
        let fractions = [FAR_FRACTION, NEAR_FRACTION, 0.5, 1.0 - NEAR_FRACTION, 1.0 - FAR_FRACTION];
        let classes: Vec<(usize, usize)> = fractions.into_iter().map(class).collect::<Option<_>>()?;
        let mut wanted = [false; CLASSES];
        for &(class, _) in &classes {
            wanted[class] = true;
        }
        let inside =
            |part: &Vec<f32>| -> Vec<f32> { part.iter().copied().filter(|&v| wanted[class_of(v)]).collect() };
        let inside: Vec<f32> = parts.par_iter().map(inside).collect::<Vec<_>>().concat();
        let quantile = |&(class, place): &(usize, usize)| {
            let mut values: Vec<f32> = inside.iter().copied().filter(|&v| class_of(v) == class).collect();
            *values.select_nth_unstable_by(place, f32::total_cmp).1
        };
        classes.iter().map(quantile).collect::<Vec<_>>().try_into().ok().map(Self)
    }

    /// Noise from the lower half of the samples, which has no stars. The upper half, which includes stars, is
    /// at least as wide as that of the noise alone; this limits the skewness.
    fn below(&self, most: f32) -> Skewed {
        let Self([far, near, median, above, _]) = *self;
        if median <= near {
            return Skewed { mean: 0.0, deviation: 0.0, skewness: 0.0 };
        }
        let (outer, upper) = ((median - far) / (median - near), (above - median) / (median - near));
        // With larger skewness the lower quantiles are nearer to each other, and the upper one is farther
        // from the median.
        let skewness = largest(MAX_MEASURABLE_SKEWNESS.min(most), |skewness| {
            let spread = |z: f32| (standard(0.0, skewness) - standard(z, skewness)).abs();
            spread(-FAR) > outer * spread(-NEAR) && spread(NEAR) < upper * spread(-NEAR)
        });
        let at = |value: f32, z: f32| (median - value) / (standard(0.0, skewness) - standard(z, skewness));
        let mut deviation = at(near, -NEAR);
        if most > 0.0 {
            // If the values form two plateaus with none between, the nearer quantile alone overestimates the
            // deviation.
            deviation = deviation.min(at(far, -FAR));
        }
        Skewed { mean: median - deviation * standard(0.0, skewness), deviation, skewness }
    }

    /// Noise from the upper half of the samples, for noise that is so strongly cut off that the lower half
    /// gives no information.
    fn above(&self) -> Skewed {
        let Self([_, _, median, near, far]) = *self;
        if near <= median {
            return Skewed { mean: median, deviation: 0.0, skewness: 0.0 };
        }
        let outer = (far - median) / (near - median);
        let skewness = largest(MAX_SKEWNESS, |skewness| {
            let spread = |z: f32| standard(z, skewness) - standard(0.0, skewness);
            spread(FAR) < outer * spread(NEAR)
        });
        let deviation = (near - median) / (standard(NEAR, skewness) - standard(0.0, skewness));
        Skewed { mean: median - deviation * standard(0.0, skewness), deviation, skewness }
    }
}

/// Number of samples in each class of values; classes are in ascending order of the values.
fn count(samples: &[f32]) -> Vec<u32> {
    let mut counts = vec![0; CLASSES];
    for &v in samples {
        counts[class_of(v)] += 1;
    }
    counts
}

/// The class of a value: its sign, exponent and the first bits of its mantissa, in the order of the values.
fn class_of(v: f32) -> usize {
    let bits = v.to_bits();
    let ordered = if v.is_sign_negative() { !bits } else { bits | SIGN };
    (ordered >> CLASS_BITS) as usize
}

/// The largest skewness, up to `limit`, for which `holds` is true, by bisection.
fn largest(limit: f32, holds: impl Fn(f32) -> bool) -> f32 {
    let [mut low, mut high] = [0.0, limit];
    for _ in 0..ROUNDS {
        let middle = 0.5 * (low + high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// The number of standard deviations from the mean that corresponds to a standard normal number `z`.
fn standard(z: f32, skewness: f32) -> f32 {
    // The limit for zero skewness: there the formula is a difference of nearly equal numbers.
    if skewness < 1e-2 {
        return z;
    }
    let root = 1.0 + skewness * z / 6.0 - skewness * skewness / 36.0;
    2.0 / skewness * (root.max(0.0).powi(3) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_gamma_distribution() {
        // A gamma distribution of shape 4 (skewness 1), standardised to zero mean and unit deviation; values
        // from SciPy.
        for (z, expected) in [(0.0, -0.1640), (1.0, 0.9591), (-1.0, -0.9572), (-2.0, -1.4710), (3.0, 4.340)] {
            assert!((standard(z, 1.0) - expected).abs() < 0.06, "{} {expected}", standard(z, 1.0));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let value = |k: usize| ((k * 7919) % 1013) as f32 / 97.0 - 4.0;
        let parts: Vec<Vec<f32>> =
            (0..9).map(|part| (0..part * 37).map(|k| value(k + part)).collect()).collect();
        let mut sorted = parts.concat();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |fraction: f32| sorted[(fraction * sorted.len() as f32) as usize];
        let expected = [FAR_FRACTION, NEAR_FRACTION, 0.5, 1.0 - NEAR_FRACTION, 1.0 - FAR_FRACTION].map(at);
        assert_eq!(Quantiles::of(&parts).unwrap().0, expected);
        assert!(Quantiles::of(&[Vec::new()]).is_none());
    }

    #[test]
    fn the_lower_half_tells_both() {
        for skewness in [0.1, 0.5, 1.2] {
            let n = 100_001;
            // Values at evenly spaced normal numbers, repeated in proportion to the normal density.
            let mut samples: Vec<f32> = Vec::new();
            for k in -400..=400 {
                let z = k as f32 / 100.0;
                let count = (n as f32 / 250.0 * (-0.5 * z * z).exp()) as usize;
                samples.extend(std::iter::repeat_n(3.0 + 2.0 * standard(z, skewness), count));
            }
            let samples = [samples];
            let found = Skewed::of(&samples, f32::INFINITY);
            assert!((found.deviation / 2.0 - 1.0).abs() < 0.05, "{found:?} {skewness}");
            assert!((found.skewness - skewness).abs() < 0.12, "{found:?} {skewness}");
            assert!(found.exceeded(5.0) > Skewed::of(&samples, 0.0).exceeded(5.0));
        }
    }

    #[test]
    fn noise_that_is_cut_off_is_told_by_its_upper_half() {
        // Half of the samples are at the floor.
        let mut samples = vec![0.0; 50_000];
        samples.extend((1..50_000).map(|k| -2.0 * (1.0 - k as f32 / 50_000.0).ln()));
        let found = Skewed::of(&[samples], f32::INFINITY);
        // One in 3.5 million exceeds this.
        let exact = 2.0 * (0.5_f32 / 2.867e-7).ln();
        assert!(found.skewness > MAX_MEASURABLE_SKEWNESS);
        assert!((found.exceeded(5.0) / exact - 1.0).abs() < 0.25, "{found:?} {exact}");
        assert!(Skewed::of(&[], f32::INFINITY).exceeded(5.0) == 0.0);
    }
}
