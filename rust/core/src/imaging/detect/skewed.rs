//! Noise that may be skewed: photons that are counted, or what a converter cuts off below.
//!
//! It is taken for a gamma distribution, in the approximation of Wilson & Hilferty (1931, PNAS 17, 684): a normal number
//! `z` stands for `2/γ ((1 + γ z/6 - γ²/36)³ - 1)` standard deviations, with the skewness `γ`.

/// Normal numbers of the quantiles that tell the deviation and the skewness.
const NEAR: f32 = -1.0;
const FAR: f32 = -2.0;
/// Their fractions of a normal distribution.
const NEAR_FRACTION: f32 = 0.158_655;
const FAR_FRACTION: f32 = 0.022_750;
/// More skewed than this, the lower quantiles tell nothing.
const MAX_SKEWNESS: f32 = 1.5;
/// Halvings of the range of the skewness.
const ROUNDS: usize = 12;

/// Standard deviation and skewness of noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Skewed {
    pub deviation: f32,
    pub skewness: f32,
}

impl Skewed {
    /// From the lower half of samples, of at most this skewness. What is above the median, with the stars, is at least as
    /// wide as the skewness makes it.
    pub(super) fn below(samples: &mut [f32], most: f32) -> Self {
        let quantiles = quantiles(samples).filter(|[_, near, median, _]| median > near);
        let Some([far, near, median, above]) = quantiles else {
            return Self { deviation: 0.0, skewness: 0.0 };
        };
        let (outer, upper) = ((median - far) / (median - near), (above - median) / (median - near));
        // The more skewed, the nearer are the lower quantiles to each other, and the further the upper one.
        let [mut low, mut high] = [0.0, MAX_SKEWNESS.min(most)];
        for _ in 0..ROUNDS {
            let middle = 0.5 * (low + high);
            let spread = |z: f32| (standard(0.0, middle) - standard(z, middle)).abs();
            let less = spread(FAR) > outer * spread(NEAR) && spread(-NEAR) < upper * spread(NEAR);
            if less { low = middle } else { high = middle }
        }
        let deviation = |value: f32, z: f32| (median - value) / (standard(0.0, low) - standard(z, low));
        let mut found = Self { deviation: deviation(near, NEAR), skewness: low };
        if most > 0.0 {
            // Of two plateaus with nothing between them the nearer quantile alone says too much.
            found.deviation = found.deviation.min(deviation(far, FAR));
        }
        found
    }

    /// The value that noise exceeds as rarely as a normal number exceeds `sigmas`.
    pub(super) fn exceeded(self, sigmas: f32) -> f32 {
        (self.deviation * standard(sigmas, self.skewness)).min(f32::MAX)
    }
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

/// The lower quantiles, the median, and the nearer of the upper ones.
fn quantiles(samples: &mut [f32]) -> Option<[f32; 4]> {
    let n = samples.len();
    let fractions = [FAR_FRACTION, NEAR_FRACTION, 0.5, 1.0 - NEAR_FRACTION];
    // From above, each among those below the one before.
    let mut rest = samples;
    let mut found = [0.0; 4];
    for (quantile, fraction) in found.iter_mut().zip(fractions).rev() {
        let place = ((fraction * n as f32) as usize).min(rest.len().checked_sub(1)?);
        let (low, &mut value, _) = rest.select_nth_unstable_by(place, f32::total_cmp);
        *quantile = value;
        rest = low;
    }
    Some(found)
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
            let found = Skewed::below(&mut samples, f32::INFINITY);
            assert!((found.deviation / 2.0 - 1.0).abs() < 0.05, "{found:?} {skewness}");
            assert!((found.skewness - skewness).abs() < 0.12, "{found:?} {skewness}");
            assert!(found.exceeded(5.0) > Skewed::below(&mut samples, 0.0).exceeded(5.0));
        }
    }
}
