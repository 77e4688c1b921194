//! Robust weights for iteratively reweighted least squares, and robust scales.

/// Median of the length of a two-dimensional normal vector with unit variance per axis, √(2 ln 2).
pub const RAYLEIGH_MEDIAN: f64 = 1.177_410_022_515_474_6;

/// Residuals in scales from which on [`Loss::Huber`] is linear: 95 % efficient for normal residuals.
pub const HUBER_TUNING: f64 = 1.345;
/// Residuals in scales at which [`Loss::Cauchy`] halves the weight: 95 % efficient for normal residuals.
pub const CAUCHY_TUNING: f64 = 2.385;
/// Residuals in scales at which [`Loss::GemanMcClure`] leaves a quarter of the weight.
pub const GEMAN_MCCLURE_TUNING: f64 = 3.0;

/// Loss function ρ(z) of a residual divided by its scale; least squares uses it through its weight ρ'(z)/z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loss {
    /// ½z²: every residual counts fully.
    #[default]
    Squares,
    /// ½z² up to c = [`HUBER_TUNING`], linear beyond (Huber 1964): outliers keep a bounded pull.
    Huber,
    /// ½ c² ln(1 + z²/c²), c = [`CAUCHY_TUNING`]: outliers pull ever less.
    Cauchy,
    /// ½ z²/(1 + z²/c²), c = [`GEMAN_MCCLURE_TUNING`] (Geman & McClure 1987): outliers hardly pull at all.
    GemanMcClure,
}

impl Loss {
    /// Weight of a residual of `z` scales, 1 at 0.
    pub fn weight(self, z: f64) -> f64 {
        self.weight_of_square(z * z)
    }

    /// Weight of a residual by the square of its size in scales.
    #[inline]
    pub fn weight_of_square(self, z2: f64) -> f64 {
        match self {
            Self::Squares => 1.0,
            Self::Huber => (HUBER_TUNING / z2.sqrt()).min(1.0),
            Self::Cauchy => 1.0 / (1.0 + z2 * (1.0 / (CAUCHY_TUNING * CAUCHY_TUNING))),
            Self::GemanMcClure => (1.0 + z2 / (GEMAN_MCCLURE_TUNING * GEMAN_MCCLURE_TUNING)).powi(-2),
        }
    }

    /// The loss ρ itself, by the square of a residual in scales.
    #[inline]
    pub fn of_square(self, z2: f64) -> f64 {
        match self {
            Self::Squares => 0.5 * z2,
            Self::Huber if z2 <= HUBER_TUNING * HUBER_TUNING => 0.5 * z2,
            Self::Huber => HUBER_TUNING * (z2.sqrt() - 0.5 * HUBER_TUNING),
            Self::Cauchy => {
                let c2 = CAUCHY_TUNING * CAUCHY_TUNING;
                0.5 * c2 * (z2 / c2).ln_1p()
            }
            Self::GemanMcClure => 0.5 * z2 / (1.0 + z2 / (GEMAN_MCCLURE_TUNING * GEMAN_MCCLURE_TUNING)),
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

/// Steps of the quadrature in [`clipped_variance`], and how far out it goes: beyond, normal residuals are negligible.
const QUADRATURE_STEPS: u32 = 2000;
const QUADRATURE_END: f64 = 10.0;

/// Weight of a residual of `z` scales: 1 up to `cut`, beyond it falls as Cauchy's, with the square of z.
pub fn clipped_weight(z: f64, cut: f64) -> f64 {
    if z <= cut { 1.0 } else { (cut / z).powi(2) }
}

/// Mean square pull per axis over mean weight that [`clipped_weight`] leaves of two-dimensional unit normal residuals.
pub fn clipped_variance(cut: f64) -> f64 {
    let step = QUADRATURE_END / f64::from(QUADRATURE_STEPS);
    let (mut weights, mut pulls) = (0.0, 0.0);
    for i in 0..QUADRATURE_STEPS {
        let z = (f64::from(i) + 0.5) * step;
        let (density, weight) = (z * (-0.5 * z * z).exp(), clipped_weight(z, cut));
        weights += density * weight;
        pulls += density * (weight * z).powi(2);
    }
    pulls / (2.0 * weights)
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
    fn weights_are_derivatives_of_the_loss() {
        for loss in [Loss::Squares, Loss::Huber, Loss::Cauchy, Loss::GemanMcClure] {
            for z in [0.1, 1.0, 1.344, 1.346, 2.0, 7.0] {
                let slope =
                    (loss.of_square((z + 1e-6_f64).powi(2)) - loss.of_square((z - 1e-6_f64).powi(2))) / 2e-6;
                assert!((slope / z - loss.weight(z)).abs() < 1e-6, "{loss:?} {z}");
            }
        }
    }

    #[test]
    fn scale_and_truncation_of_a_normal_sample() {
        // Lengths at the quantiles of Rayleigh's distribution, 2 per axis.
        let n = 10_000;
        let lengths: Vec<f64> =
            (0..n).map(|i| 2.0 * (-2.0 * (1.0 - (f64::from(i) + 0.5) / f64::from(n)).ln()).sqrt()).collect();
        assert!((planar_scale(&mut lengths.clone()) - 2.0).abs() < 1e-3);
        let weights: Vec<f64> = lengths.iter().map(|l| clipped_weight(l / 2.0, 2.0)).collect();
        let pulls: f64 = lengths.iter().zip(&weights).map(|(l, w)| (l * w).powi(2)).sum();
        let variance = pulls / (2.0 * weights.iter().sum::<f64>());
        assert!((variance / 4.0 - clipped_variance(2.0)).abs() < 1e-3);
        assert!((clipped_variance(f64::INFINITY) - 1.0).abs() < 1e-5);
        assert!(planar_scale(&mut []).is_nan());
    }
}
