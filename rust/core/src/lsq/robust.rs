//! Robust weights for iteratively reweighted least squares, and robust scales.

/// Median of the length of a two-dimensional normal vector with unit variance per axis, √(2 ln 2).
pub const RAYLEIGH_MEDIAN: f64 = 1.177_410_022_515_474_6;

/// Median of the absolute value of a normal variable with unit variance.
const NORMAL_MEDIAN: f64 = 0.674_489_750_196_081_7;

/// Residual, in units of the scale, above which [`Loss::Huber`] is linear: 95 % efficient for normal
/// residuals.
pub const HUBER_TUNING: f64 = 1.345;
/// Residual, in units of the scale, at which [`Loss::Cauchy`] halves the weight: 95 % efficient for normal
/// residuals.
pub const CAUCHY_TUNING: f64 = 2.385;
/// Residual, in units of the scale, at which [`Loss::GemanMcClure`] leaves a quarter of the weight.
pub const GEMAN_MCCLURE_TUNING: f64 = 3.0;

/// Loss function ρ(z) of a residual divided by its scale. Least squares uses its weight ρ'(z)/z.
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
/// Up to half of the residuals may be outliers. NaN when there are none. Reorders its input.
pub fn planar_scale(lengths: &mut [f64]) -> f64 {
    median(lengths) / RAYLEIGH_MEDIAN
}

/// Standard deviation of residuals from the median of their absolute values.
///
/// Up to half of the residuals may be outliers. NaN when there are none. Reorders its input.
pub fn normal_scale(absolute: &mut [f64]) -> f64 {
    median(absolute) / NORMAL_MEDIAN
}

/// Efficient estimate of the standard deviation per axis of two-dimensional residuals, from their lengths.
///
/// It takes one step of Huber's (1964) second proposal, starting from [`planar_scale`].
///
/// Lengths beyond `lost` scales are excluded, and the others are clipped at `cut` scales. Their mean square
/// is then divided by its value for normal residuals. The median alone uses only half of the information in
/// the residuals. NaN when there are none.
pub fn clipped_scale(lengths: &[f64], cut: f64, lost: f64) -> f64 {
    let first = planar_scale(&mut lengths.to_vec());
    let kept = lengths.iter().filter(|length| **length <= lost * first);
    let (count, sum) = kept.fold((0.0, 0.0), |(n, sum), l| (n + 1.0, sum + l.min(cut * first).powi(2)));
    (sum / count / (-2.0 * (-0.5 * cut * cut).exp_m1())).sqrt()
}

/// Median: the upper one of an even number of values, NaN of none. Reorders its input.
pub fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Steps of the quadrature in [`clipped_variance`], and its upper end, beyond which normal residuals are
/// negligible.
const QUADRATURE_STEPS: u32 = 2000;
const QUADRATURE_END: f64 = 10.0;

/// Weight of a residual of `z` scales: 1 up to `cut`. Beyond it, the weight falls with the square of z, as
/// Cauchy's does.
pub fn clipped_weight(z: f64, cut: f64) -> f64 {
    if z <= cut { 1.0 } else { (cut / z).powi(2) }
}

/// Mean square pull per axis over mean weight, for two-dimensional unit normal residuals weighted by
/// [`clipped_weight`].
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
        assert!((clipped_scale(&lengths, 3.0, 4.0) - 2.0).abs() < 2e-3);
        assert!(planar_scale(&mut []).is_nan() && clipped_scale(&[], 3.0, 4.0).is_nan());
        assert_eq!(clipped_scale(&[0.0; 3], 3.0, 4.0), 0.0);
    }

    #[test]
    fn the_clipped_scale_is_efficient_and_robust() {
        let mut state = 14_u64;
        let mut length = || {
            // Knuth's linear congruential generator; its upper bits are good.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            2.0 * (-2.0 * (1.0 - (state >> 11) as f64 / 2_f64.powi(53)).ln()).sqrt()
        };
        let rows: Vec<Vec<f64>> = (0..2000).map(|_| (0..150).map(|_| length()).collect()).collect();
        let scale = |row: &Vec<f64>| clipped_scale(row, 3.0, 4.0);
        let found: Vec<f64> = rows.iter().map(scale).collect();
        let mean = found.iter().sum::<f64>() / 2000.0;
        let variance = found.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / 2000.0;
        assert!((mean / 2.0 - 1.0).abs() < 0.005, "{mean}");
        // The best estimate has a variance of 1 / (4 n) of its square, a median twice as much.
        assert!((variance * 600.0 / 4.0 - 1.0).abs() < 0.15, "{variance}");
        let wild = |row: &Vec<f64>| {
            let mut row = row.clone();
            row.iter_mut().step_by(8).for_each(|l| *l *= 20.0);
            scale(&row)
        };
        let mean = rows.iter().map(wild).sum::<f64>() / 2000.0;
        assert!((mean / 2.0 - 1.0).abs() < 0.15, "{mean}");
    }
}
