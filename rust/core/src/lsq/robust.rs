//! Robust weights for iteratively reweighted least squares, and robust scales.

/// Median of the length of a two-dimensional normal vector with unit variance per axis, √(2 ln 2).
const RAYLEIGH_MEDIAN: f64 = 1.177_410_022_515_474_6;

/// Loss function ρ(z) of a residual divided by its scale; least squares uses it through its weight ρ'(z)/z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// ½z²: every residual counts fully.
    #[default]
    Squares,
    /// Linear beyond z = 1.345 (Huber 1964): 95 % efficient, outliers keep a bounded pull.
    Huber,
    /// ½ c² ln(1 + z²/c²), c = 2.385: outliers pull ever less.
    Cauchy,
    /// ½ z²/(1 + z²/c²), c = 3 (Geman & McClure 1987): outliers hardly pull at all.
    GemanMcClure,
}

impl Loss {
    /// Weight of a residual of `z` scales, 1 at 0.
    pub fn weight(self, z: f64) -> f64 {
        let z2 = z * z;
        match self {
            Self::Squares => 1.0,
            Self::Huber => (1.345 / z.abs()).min(1.0),
            Self::Cauchy => 1.0 / (1.0 + z2 / (2.385 * 2.385)),
            Self::GemanMcClure => (1.0 + z2 / 9.0).powi(-2),
        }
    }
}

/// Standard deviation per axis of two-dimensional residuals from the median of their lengths.
///
/// Half of them may be anything. NaN when there are none. Reorders its input.
pub fn planar_scale(lengths: &mut [f64]) -> f64 {
    median(lengths) / RAYLEIGH_MEDIAN
}

/// Median; the upper one of an even number, NaN of none. Reorders its input.
pub fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Variance per axis that is left of two-dimensional unit normal residuals after those longer than `cut` are gone.
pub fn planar_truncation(cut: f64) -> f64 {
    let half = 0.5 * cut * cut;
    if half > 300.0 { 1.0 } else { 1.0 - half / (half.exp() - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_from_one() {
        for loss in [Loss::Squares, Loss::Huber, Loss::Cauchy, Loss::GemanMcClure] {
            assert_eq!(loss.weight(0.0), 1.0);
            let weights: Vec<f64> = (0..100).map(|i| loss.weight(f64::from(i) * 0.3)).collect();
            assert!(weights.windows(2).all(|w| w[1] <= w[0]) && weights[99] > 0.0);
        }
        assert!((Loss::Huber.weight(13.45) - 0.1).abs() < 1e-15);
    }

    #[test]
    fn scale_and_truncation_of_a_normal_sample() {
        // Lengths at the quantiles of Rayleigh's distribution, 2 per axis.
        let n = 10_000;
        let mut lengths: Vec<f64> =
            (0..n).map(|i| 2.0 * (-2.0 * (1.0 - (f64::from(i) + 0.5) / f64::from(n)).ln()).sqrt()).collect();
        assert!((planar_scale(&mut lengths.clone()) - 2.0).abs() < 1e-3);
        lengths.retain(|&l| l < 4.0);
        let variance = lengths.iter().map(|l| l * l).sum::<f64>() / (2.0 * lengths.len() as f64);
        assert!((variance / 4.0 - planar_truncation(2.0)).abs() < 1e-3);
        assert!(planar_scale(&mut []).is_nan());
        assert_eq!(planar_truncation(f64::INFINITY), 1.0);
    }
}
