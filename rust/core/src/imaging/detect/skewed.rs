//! Noise that may be skewed: photons that are counted, or what a converter cuts off below.
//!
//! It is taken for a gamma distribution, in the approximation of Wilson & Hilferty (1931, PNAS 17, 684): a normal number
//! `z` stands for `2/γ ((1 + γ z/6 - γ²/36)³ - 1)` standard deviations, with the skewness `γ`.

use rayon::prelude::*;

/// Normal numbers, of either sign, of the quantiles that tell the deviation and the skewness.
const NEAR: f32 = 1.0;
const FAR: f32 = 2.0;
/// Fractions of a normal distribution beyond them.
const NEAR_FRACTION: f32 = 0.158_655;
const FAR_FRACTION: f32 = 0.022_750;
/// More skewed than this, the lower quantiles tell nothing; and the approximation does no longer hold.
const TELLING_SKEWNESS: f32 = 1.5;
const MAX_SKEWNESS: f32 = 8.0;
/// The sign of a number in single precision, the bits of one that classes do not tell apart, and classes of values.
const SIGN: u32 = 1 << 31;
const CLASS_BITS: u32 = 20;
const CLASSES: usize = 1 << (u32::BITS - CLASS_BITS);
/// Halvings of the range of the skewness.
const ROUNDS: usize = 12;

/// Mean, standard deviation and skewness of noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Skewed {
    pub mean: f32,
    pub deviation: f32,
    pub skewness: f32,
}

impl Skewed {
    /// From samples that may have stars among them, of at most this skewness. The background is the mean, unless most of the
    /// noise is cut off.
    pub(super) fn of(samples: &[Vec<f32>], most: f32) -> Self {
        let Some(quantiles) = Quantiles::of(samples) else {
            return Self { mean: 0.0, deviation: 0.0, skewness: 0.0 };
        };
        let below = quantiles.below(most);
        let telling = below.deviation > 0.0 && below.skewness < TELLING_SKEWNESS;
        if most < MAX_SKEWNESS || telling { Self { mean: 0.0, ..below } } else { quantiles.above() }
    }

    /// The value that noise exceeds as rarely as a normal number exceeds `sigmas`.
    pub(super) fn exceeded(self, sigmas: f32) -> f32 {
        (self.mean + self.deviation * standard(sigmas, self.skewness)).min(f32::MAX)
    }
}

/// Quantiles of samples at the normal numbers -[`FAR`], -[`NEAR`], 0, [`NEAR`] and [`FAR`].
struct Quantiles([f32; 5]);

impl Quantiles {
    /// Exact ones, of parts of the samples that are gone through side by side: counted in classes, of which only those with
    /// a quantile are sorted out.
    fn of(parts: &[Vec<f32>]) -> Option<Self> {
        let counts = parts.par_iter().map(|part| count(part)).reduce_with(|mut all, counts| {
            all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            all
        })?;
        let n = counts.iter().sum::<u32>() as usize;
        // The class of each quantile, and its place there.
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

    /// From the lower half, where no stars are. What is above the median, with the stars, is at least as wide as the skewness
    /// makes it.
    fn below(&self, most: f32) -> Skewed {
        let Self([far, near, median, above, _]) = *self;
        if median <= near {
            return Skewed { mean: 0.0, deviation: 0.0, skewness: 0.0 };
        }
        let (outer, upper) = ((median - far) / (median - near), (above - median) / (median - near));
        // The more skewed, the nearer are the lower quantiles to each other, and the further the upper one.
        let skewness = largest(TELLING_SKEWNESS.min(most), |skewness| {
            let spread = |z: f32| (standard(0.0, skewness) - standard(z, skewness)).abs();
            spread(-FAR) > outer * spread(-NEAR) && spread(NEAR) < upper * spread(-NEAR)
        });
        let at = |value: f32, z: f32| (median - value) / (standard(0.0, skewness) - standard(z, skewness));
        let mut deviation = at(near, -NEAR);
        if most > 0.0 {
            // Of two plateaus with nothing between them the nearer quantile alone says too much.
            deviation = deviation.min(at(far, -FAR));
        }
        Skewed { mean: median - deviation * standard(0.0, skewness), deviation, skewness }
    }

    /// From the upper half, of noise that is cut off so that the lower one tells nothing.
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

/// How many samples are in each class of values; later classes have larger ones.
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

/// The largest skewness, up to a limit, up to which something holds.
fn largest(limit: f32, holds: impl Fn(f32) -> bool) -> f32 {
    let [mut low, mut high] = [0.0, limit];
    for _ in 0..ROUNDS {
        let middle = 0.5 * (low + high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// The number of standard deviations from the mean that a normal number stands for.
fn standard(z: f32, skewness: f32) -> f32 {
    // The limit, where the formula is one of small differences.
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
        // Of shape 4 (skewness 1), less its mean and over its deviation, by SciPy.
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
            // Values at evenly spaced normal numbers, thinned by their density.
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
        assert!(found.skewness > TELLING_SKEWNESS);
        assert!((found.exceeded(5.0) / exact - 1.0).abs() < 0.25, "{found:?} {exact}");
        assert!(Skewed::of(&[], f32::INFINITY).exceeded(5.0) == 0.0);
    }
}
