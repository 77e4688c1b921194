//! Profiles as mixtures of Gaussians: a convolution then is a sum of covariances.
//!
//! Moffat's `(1 + q)⁻ⁿ` and Sérsic's `exp(-b q^(1/2n))` (n > 1/2) are completely monotone functions of the
//! squared distance q. They are therefore integrals of `exp(-q t)` over t with positive weights (Bernstein):
//! a gamma density for Moffat's, the density of a positive stable distribution of index 1/(2n) for Sérsic's
//! (Zolotarev 1986, One-dimensional Stable Distributions, §2.2). The trapezoidal rule in ln t converges
//! exponentially, so few Gaussians approximate either profile to about 3e-4 of the light at any distance.
//! Hogg & Lang (2013, PASP 125, 719) fit such mixtures for two exponents; here the weights are computed, not
//! fitted.

use std::f64::consts::{PI, TAU};

/// Largest step of ln t for a Moffat profile. The step is smaller where the weights are narrow in ln t.
const MOFFAT_STEP: f64 = 0.6;
/// Largest step of ln t for a Sérsic profile.
const SERSIC_STEP: f64 = 0.55;
/// Fraction of the light in the centre of a Moffat profile below which a Gaussian is excluded.
const FAINTEST: f64 = 1e-9;
/// Fraction of the flux of a Sérsic profile below which a Gaussian is excluded.
const LEAST_PART: f64 = 1e-8;
/// Logarithms of the largest and smallest variance of a Sérsic profile's Gaussians, in squared effective radii.
const VARIANCES: [f64; 2] = [9.0, -22.0];
/// Step of the logistic nodes of the integral of the stable density.
const NODE_STEP: f64 = 0.25;
/// Largest argument of the logistic nodes.
const NODE_END: f64 = 20.0;
/// Relative step of derivatives by Sérsic's exponent.
const EXPONENT_STEP: f64 = 1e-4;

/// A Gaussian of a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Component {
    /// Variance along an axis, in squared radii of the profile.
    pub variance: f64,
    /// Fraction of the flux, and its derivative by the exponent.
    pub part: f64,
    pub by_exponent: f64,
}

/// Mixture for a Moffat profile of exponent n, the narrowest Gaussian first.
pub(super) fn moffat(n: f64) -> Vec<Component> {
    // The fractions follow the gamma density of exponent a over ln t.
    let a = n - 1.0;
    let step = MOFFAT_STEP * (3.0 / n).sqrt().min(1.0);
    let light = |tau: f64| n * tau - tau.exp();
    let highest = light(n.ln());
    let lit = |tau: f64| light(tau) - highest > FAINTEST.ln();
    let mut tau = n.ln();
    while lit(tau + step) {
        tau += step;
    }
    let (mut taus, mut parts) = (Vec::new(), Vec::new());
    while lit(tau) {
        taus.push(tau);
        parts.push((a * tau - tau.exp()).exp());
        tau -= step;
    }
    // The excluded Gaussians are too wide to be seen, but part of the flux: their sum is a geometric series.
    let ratio = (-a * step).exp();
    let rest = (a * tau).exp() / (1.0 - ratio);
    let total = parts.iter().sum::<f64>() + rest;
    let mean = parts.iter().zip(&taus).map(|(part, tau)| part * tau).sum::<f64>()
        + rest * (tau - step * ratio / (1.0 - ratio));
    let component = |(tau, part): (&f64, f64)| Component {
        variance: 0.5 * (-tau).exp(),
        part: part / total,
        by_exponent: part / total * (tau - mean / total),
    };
    taus.iter().zip(parts).map(component).collect()
}

/// Mixture for a Sérsic profile of exponent n above 1/2, the widest Gaussian first; half of the light is
/// within the radius.
pub(super) fn sersic(n: f64) -> Vec<Component> {
    let index = 0.5 / n;
    let step = SERSIC_STEP * ((1.0 - index) / index).min(1.0);
    let count = ((VARIANCES[0] - VARIANCES[1]) / step) as usize;
    let logs: Vec<f64> = (0..=count).map(|k| VARIANCES[0] - k as f64 * step).collect();
    let change = EXPONENT_STEP * n;
    let [parts, high, low] = [n, n + change, n - change].map(|n| sersic_parts(n, &logs));
    let component = |k: usize| Component {
        variance: logs[k].exp(),
        part: parts[k],
        by_exponent: (high[k] - low[k]) / (2.0 * change),
    };
    (0..logs.len()).filter(|&k| parts[k] > LEAST_PART).map(component).collect()
}

/// Fractions of the flux of Gaussians, given the logarithms of their variances.
fn sersic_parts(n: f64, logs: &[f64]) -> Vec<f64> {
    let index = 0.5 / n;
    let nodes = stable_nodes(index);
    let scale = 2.0 * n * half_light(n).ln();
    let part = |log: &f64| {
        // Argument s of the stable distribution: t = b^(2n) s and variance 1/(2t).
        let ln_s = -log - 2.0_f64.ln() - scale;
        let ln_z = -index / (1.0 - index) * ln_s;
        let density: f64 = nodes
            .iter()
            .map(|(ln_a, weight)| {
                let az = (ln_a + ln_z).min(700.0);
                weight * (az - az.exp() - ln_s).exp()
            })
            .sum();
        density
    };
    let parts: Vec<f64> = logs.iter().map(part).collect();
    let total: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / total).collect()
}

/// Logarithms of Zolotarev's function A(u) over (0, π), and weights.
fn stable_nodes(index: f64) -> Vec<(f64, f64)> {
    let count = (2.0 * NODE_END / NODE_STEP) as usize;
    let node = |k: usize| {
        let y = k as f64 * NODE_STEP - NODE_END;
        // Near π, the difference to π is exact.
        let (u, left) = (PI / (1.0 + (-y).exp()), PI / (1.0 + y.exp()));
        let sine = if u < left { u.sin() } else { left.sin() };
        let ln_a =
            ((1.0 - index) * u).sin().ln() + (index * (index * u).sin().ln() - sine.ln()) / (1.0 - index);
        (ln_a, u * left / PI)
    };
    (0..=count).map(node).collect()
}

/// Coefficient b of `exp(-b (r/re)^(1/n))`, with half the light within re (Ciotti & Bertin 1999, A&A 352,
/// 447).
pub(super) fn half_light(n: f64) -> f64 {
    2.0 * n - 1.0 / 3.0
        + 4.0 / (405.0 * n)
        + 46.0 / (25_515.0 * n.powi(2))
        + 131.0 / (1_148_175.0 * n.powi(3))
        - 2_194_697.0 / (30_690_717_750.0 * n.powi(4))
}

/// Density of a round mixture of flux 1 at a distance in radii.
pub(super) fn density(mixture: &[Component], r: f64) -> f64 {
    let one = |c: &Component| c.part * (-0.5 * r * r / c.variance).exp() / (TAU * c.variance);
    mixture.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moffat_is_its_mixture() {
        for n in [1.3, 2.0, 3.0, 4.765, 12.0] {
            let mixture = moffat(n);
            for k in 0..40 {
                let r = 0.25 * f64::from(k);
                let exact = (n - 1.0) / PI * (1.0 + r * r).powf(-n);
                let error = density(&mixture, r) - exact;
                assert!(error.abs() < 1e-4 * exact + 1e-8, "{n} {r} {error} {exact}");
            }
            let (high, low) = (moffat(n + 1e-5), moffat(n - 1e-5));
            for r in [0.0, 0.7, 3.0] {
                let changed = (density(&high, r) - density(&low, r)) / 2e-5;
                let by = mixture.iter().map(|c| Component { part: c.by_exponent, ..*c });
                let by = density(&by.collect::<Vec<_>>(), r);
                assert!((by - changed).abs() < 1e-3 * density(&mixture, r) + 1e-8, "{n} {r} {by} {changed}");
            }
        }
    }

    #[test]
    fn sersic_is_its_mixture() {
        // The flux over the squared radius: 2 π n b^(-2n) Γ(2n), with Γ of whole and half numbers.
        for (n, gamma) in [(0.75, 0.5 * PI.sqrt()), (1.0, 1.0), (1.5, 2.0), (2.0, 6.0), (4.0, 5040.0)] {
            let (b, mixture) = (half_light(n), sersic(n));
            let flux = TAU * n * b.powf(-2.0 * n) * gamma;
            for k in 1..60 {
                let r = 0.02 * f64::from(k).powf(1.4);
                let exact = (-b * r.powf(1.0 / n)).exp() / flux;
                let error = density(&mixture, r) - exact;
                assert!(error.abs() < 3e-4 * exact + 3e-6, "{n} {r} {error} {exact}");
            }
            assert!(mixture.len() < 90, "{n} {}", mixture.len());
            let (high, low) = (sersic(n * 1.01), sersic(n * 0.99));
            for r in [0.3, 1.0, 3.0] {
                let changed = (density(&high, r) - density(&low, r)) / (0.02 * n);
                let by = mixture.iter().map(|c| Component { part: c.by_exponent, ..*c });
                let by = density(&by.collect::<Vec<_>>(), r);
                assert!((by - changed).abs() < 2e-3 * density(&mixture, r) + 1e-4, "{n} {r} {by} {changed}");
            }
        }
    }
}
