//! Fits linear transformations to pairs of positions, with weights, clipping and covariance.
//!
//! The model is `to = M (from - c) + s + c`. Here c is the mean of the positions `from`, so s is the shift at
//! their centre. M is the unit matrix, a rotation, a rotation times a scale, or any matrix. A rotation may
//! include a reflection if the pairs require it. With weights w (inverse variances of the differences per
//! axis), the fit minimises the sum of w ‖r‖².

use std::f64::consts::SQRT_2;

use nalgebra::{Matrix2, Matrix6, SMatrix, Vector2};

use crate::error::{Error, Result};
use crate::geometry::distortion::Point;
use crate::lsq::robust::RAYLEIGH_MEDIAN;

/// Type of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// The unit matrix: 2 parameters.
    Shift,
    /// A rotation: 3 parameters.
    Rshift,
    /// A rotation times a scale: 4 parameters.
    Rscale,
    /// Any matrix: 6 parameters.
    General,
}

impl Geometry {
    /// Number of parameters.
    pub fn parameters(self) -> usize {
        match self {
            Self::Shift => 2,
            Self::Rshift => 3,
            Self::Rscale => 4,
            Self::General => 6,
        }
    }

    /// Smallest number of pairs that determines the transformation.
    pub fn least_pairs(self) -> usize {
        self.parameters().div_ceil(2)
    }
}

/// Statistic of the residuals with which their lengths are compared for clipping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipStatistic {
    /// Root of the weighted mean square length.
    Rmse,
    /// Weighted mean length.
    Mae,
    /// Weighted median length, scaled to the root mean square length of normal residuals.
    Mad,
    /// Standard deviation of the residuals, both axes together.
    Std,
}

/// Options for clipping outliers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipping {
    /// Maximum number of rounds.
    pub rounds: usize,
    /// Threshold in units of the statistic: pairs with longer residuals are excluded.
    pub sigma: f64,
    /// Statistic of the residuals.
    pub statistic: ClipStatistic,
    /// Smallest number of pairs to keep.
    pub least_pairs: usize,
}

/// A fitted transformation.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearFit {
    /// The matrix, by rows.
    pub matrix: [[f64; 2]; 2],
    /// Shift at the centre.
    pub shift: Point,
    /// The centre.
    pub center: Point,
    /// Covariance of the shift and the matrix by rows, 6 × 6.
    pub covariance: Matrix6<f64>,
    /// Whether each pair is kept in the fit.
    pub kept: Vec<bool>,
    /// Number of clipping rounds that excluded pairs or restored excluded ones.
    pub clipped_rounds: usize,
    /// `to` minus the mapped `from`, for all pairs.
    pub residuals: Vec<Point>,
    /// Root of the weighted mean square length of the kept residuals.
    pub rmse: f64,
    /// Weighted mean length of the kept residuals.
    pub mae: f64,
    /// Weighted median length of the kept residuals, scaled to the root mean square length of normal
    /// residuals.
    pub mad: f64,
    /// Standard deviation of the kept residuals, both axes together.
    pub std: f64,
    /// Sum of w ‖r‖² divided by the degrees of freedom; NaN without degrees of freedom.
    pub chi2_dof: f64,
}

impl LinearFit {
    /// Maps a position.
    #[inline]
    pub fn apply(&self, p: Point) -> Point {
        let (x, y) = (p[0] - self.center[0], p[1] - self.center[1]);
        let m = &self.matrix;
        [0, 1].map(|k| m[k][0] * x + m[k][1] * y + self.shift[k] + self.center[k])
    }
}

/// Fits a transformation to pairs (from, to), with one weight for each pair or equal weights.
///
/// # Errors
/// [`Error::Undetermined`] if fewer pairs have a weight than the geometry needs, or if the pairs coincide or
/// lie on one line.
pub fn fit_linear(
    pairs: &[(Point, Point)],
    weights: Option<&[f64]>,
    geometry: Geometry,
    clipping: &Clipping,
) -> Result<LinearFit> {
    let weight = |i: usize| weights.map_or(1.0, |w| w[i]);
    let mut kept: Vec<bool> = (0..pairs.len()).map(|i| weight(i) > 0.0).collect();
    let usable = kept.clone();
    let center = mean(pairs, &kept, |_| 1.0, |pair| pair.0);
    let mut fit = solve(pairs, &kept, &weight, geometry, center)?;
    let mut rounds = 0;
    for _ in 0..clipping.rounds {
        let cut = clipping.sigma
            * match clipping.statistic {
                ClipStatistic::Rmse => fit.rmse,
                ClipStatistic::Mae => fit.mae,
                ClipStatistic::Mad => median_length(&fit, &kept, &weight),
                ClipStatistic::Std => fit.std,
            };
        // All pairs are tested in each round, so that pairs clipped by a poor fit return.
        let next: Vec<bool> =
            fit.residuals.iter().zip(&usable).map(|(r, &ok)| ok && length(r) < cut).collect();
        let count = next.iter().filter(|&&k| k).count();
        if next == kept || count < clipping.least_pairs.max(geometry.least_pairs()) {
            break;
        }
        let Ok(better) = solve(pairs, &next, &weight, geometry, center) else { break };
        kept = next;
        fit = better;
        rounds += 1;
    }
    let n = kept.iter().filter(|&&k| k).count();
    let freedom = (2 * n).saturating_sub(geometry.parameters());
    let chi2: f64 = (0..pairs.len())
        .filter(|&i| kept[i])
        .map(|i| weight(i) * (fit.residuals[i][0].powi(2) + fit.residuals[i][1].powi(2)))
        .sum();
    // The median is the only statistic that needs the residuals in order.
    fit.mad = median_length(&fit, &kept, &weight);
    fit.chi2_dof = if freedom > 0 { chi2 / freedom as f64 } else { f64::NAN };
    if weights.is_none() {
        // The errors are known from the residuals alone.
        fit.covariance *= fit.chi2_dof;
    }
    Ok(LinearFit { kept, clipped_rounds: rounds, ..fit })
}

fn mean(
    pairs: &[(Point, Point)],
    kept: &[bool],
    weight: impl Fn(usize) -> f64,
    of: fn(&(Point, Point)) -> Point,
) -> Point {
    let (mut sum, mut total) = ([0.0; 2], 0.0);
    for (i, pair) in pairs.iter().enumerate().filter(|(i, _)| kept[*i]) {
        let (p, w) = (of(pair), weight(i));
        sum = [sum[0] + w * p[0], sum[1] + w * p[1]];
        total += w;
    }
    sum.map(|s| s / total)
}

/// Weighted second moments about the means.
struct Moments {
    /// Moments of the positions `from` with themselves.
    from: Matrix2<f64>,
    /// Moments of the positions `to` (rows) with the positions `from` (columns).
    cross: Matrix2<f64>,
    total: f64,
}

fn solve(
    pairs: &[(Point, Point)],
    kept: &[bool],
    weight: &impl Fn(usize) -> f64,
    geometry: Geometry,
    center: Point,
) -> Result<LinearFit> {
    if kept.iter().filter(|&&k| k).count() < geometry.least_pairs() {
        let problem = format!("fewer than {} pairs have a weight", geometry.least_pairs());
        return Err(Error::Undetermined(problem));
    }
    let (from, to) = (mean(pairs, kept, weight, |p| p.0), mean(pairs, kept, weight, |p| p.1));
    let mut moments = Moments { from: Matrix2::zeros(), cross: Matrix2::zeros(), total: 0.0 };
    for (i, (p, q)) in pairs.iter().enumerate().filter(|(i, _)| kept[*i]) {
        let u = Vector2::new(p[0] - from[0], p[1] - from[1]);
        let x = Vector2::new(q[0] - to[0], q[1] - to[1]);
        let w = weight(i);
        moments.from += w * u * u.transpose();
        moments.cross += w * x * u.transpose();
        moments.total += w;
    }
    let (matrix, of_matrix) = matrix_of(&moments, geometry)
        .ok_or_else(|| Error::Undetermined("the pairs coincide or are on one line".into()))?;
    let arm = Vector2::new(center[0] - from[0], center[1] - from[1]);
    let at_center = matrix * arm;
    let shift = [0, 1].map(|k| to[k] - center[k] + at_center[k]);
    let mut fit = LinearFit {
        matrix: [[matrix[(0, 0)], matrix[(0, 1)]], [matrix[(1, 0)], matrix[(1, 1)]]],
        shift,
        center,
        covariance: covariance(&of_matrix, arm, moments.total),
        kept: Vec::new(),
        clipped_rounds: 0,
        residuals: Vec::new(),
        rmse: 0.0,
        mae: 0.0,
        mad: 0.0,
        std: 0.0,
        chi2_dof: f64::NAN,
    };
    let residual = |(p, q): &(Point, Point)| {
        let at = fit.apply(*p);
        [q[0] - at[0], q[1] - at[1]]
    };
    fit.residuals = pairs.iter().map(residual).collect();
    statistics(&mut fit, kept, weight, moments.total);
    Ok(fit)
}

/// The matrix, and its derivatives by its parameters, each times the standard deviation of the parameter (one
/// column per parameter; rows are m00 … m11).
fn matrix_of(m: &Moments, geometry: Geometry) -> Option<(Matrix2<f64>, SMatrix<f64, 4, 4>)> {
    let mut of_matrix = SMatrix::<f64, 4, 4>::zeros();
    if geometry == Geometry::Shift {
        return Some((Matrix2::identity(), of_matrix));
    }
    if geometry == Geometry::General {
        // Pairs on one line have no extent along the smaller axis.
        const FLAT: f64 = 1e-14;
        if m.from.determinant() <= FLAT * m.from.trace().powi(2) {
            return None;
        }
        let inverse = m.from.try_inverse()?;
        let root = inverse.cholesky()?.l();
        of_matrix.fixed_view_mut::<2, 2>(0, 0).copy_from(&root);
        of_matrix.fixed_view_mut::<2, 2>(2, 2).copy_from(&root);
        return Some((m.cross * inverse, of_matrix));
    }
    // Rotations are (a, -b; b, a), mirrored ones (a, b; b, -a).
    let flip = if m.cross.determinant() < 0.0 { -1.0 } else { 1.0 };
    let cosine = m.cross[(0, 0)] + flip * m.cross[(1, 1)];
    let sine = m.cross[(1, 0)] - flip * m.cross[(0, 1)];
    let (length, square) = (cosine.hypot(sine), m.from.trace());
    if !(square > 0.0 && length > 0.0) {
        return None;
    }
    let scale = if geometry == Geometry::Rshift { 1.0 } else { length / square };
    let (a, b) = (scale * cosine / length, scale * sine / length);
    let root = 1.0 / square.sqrt();
    if geometry == Geometry::Rshift {
        of_matrix.set_column(0, &(root * nalgebra::Vector4::new(-b, -flip * a, a, -flip * b)));
    } else {
        of_matrix.set_column(0, &(root * nalgebra::Vector4::new(1.0, 0.0, 0.0, flip)));
        of_matrix.set_column(1, &(root * nalgebra::Vector4::new(0.0, -flip, 1.0, 0.0)));
    }
    Some((Matrix2::new(a, -flip * b, b, flip * a), of_matrix))
}

/// Covariance of the shift at the centre and of the matrix, for weights that are inverse variances. `arm` is
/// the vector from the mean to the centre.
fn covariance(of_matrix: &SMatrix<f64, 4, 4>, arm: Vector2<f64>, total: f64) -> Matrix6<f64> {
    let matrix = of_matrix * of_matrix.transpose();
    // The shift at the centre is the shift of the means plus the matrix times the arm.
    let mut lever = SMatrix::<f64, 6, 4>::zeros();
    for k in 0..2 {
        lever[(k, 2 * k)] = arm.x;
        lever[(k, 2 * k + 1)] = arm.y;
    }
    lever.fixed_view_mut::<4, 4>(2, 0).fill_with_identity();
    let mut all = lever * matrix * lever.transpose();
    for k in 0..2 {
        all[(k, k)] += 1.0 / total;
    }
    all
}

fn statistics(fit: &mut LinearFit, kept: &[bool], weight: &impl Fn(usize) -> f64, total: f64) {
    let (mut squares, mut lengths, mut sum, mut weights2, mut count) = (0.0, 0.0, [0.0; 2], 0.0, 0);
    for (i, r) in fit.residuals.iter().enumerate().filter(|(i, _)| kept[*i]) {
        let w = weight(i) / total;
        squares += w * (r[0] * r[0] + r[1] * r[1]);
        lengths += w * length(r);
        sum = [sum[0] + w * r[0], sum[1] + w * r[1]];
        weights2 += w * w;
        count += 1;
    }
    fit.rmse = squares.sqrt();
    fit.mae = lengths;
    let spread = (squares - sum[0] * sum[0] - sum[1] * sum[1]).max(0.0);
    fit.std = if count > 1 { (spread / (1.0 - weights2)).sqrt() } else { 0.0 };
}

fn length(r: &Point) -> f64 {
    // Residuals are in pixels, so their squares cannot overflow; `hypot` would be slower.
    (r[0] * r[0] + r[1] * r[1]).sqrt()
}

/// Weighted median length of the kept residuals, scaled to the root mean square length of normal residuals.
fn median_length(fit: &LinearFit, kept: &[bool], weight: &impl Fn(usize) -> f64) -> f64 {
    let residuals = fit.residuals.iter().enumerate().filter(|(i, _)| kept[*i]);
    let mut lengths: Vec<(f64, f64)> = residuals.map(|(i, r)| (length(r), weight(i))).collect();
    let half = lengths.iter().map(|(_, w)| w).sum::<f64>() / 2.0;
    let (mut rest, mut below) = (&mut lengths[..], 0.0);
    while !rest.is_empty() {
        let (shorter, &mut (length, w), longer) =
            rest.select_nth_unstable_by(rest.len() / 2, |a, b| a.0.total_cmp(&b.0));
        let before = below + shorter.iter().map(|(_, w)| w).sum::<f64>();
        if before + w < half {
            (rest, below) = (longer, before + w);
        } else if before < half {
            return length * SQRT_2 / RAYLEIGH_MEDIAN;
        } else {
            rest = shorter;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::testing::random;
    use proptest::prelude::*;

    const NO_CLIPPING: Clipping =
        Clipping { rounds: 0, sigma: 3.0, statistic: ClipStatistic::Rmse, least_pairs: 1 };

    fn noise(i: usize) -> f64 {
        random(i as u64) - 0.5
    }

    proptest! {
        #[test]
        fn every_geometry_is_recovered(angle in -3.0..3.0_f64, scale in 0.5..2.0_f64, mirrored: bool, x in -1e4..1e4_f64) {
            let (s, c) = angle.sin_cos();
            let flip = if mirrored { -1.0 } else { 1.0 };
            for (geometry, scale) in [(Geometry::Rshift, 1.0), (Geometry::Rscale, scale), (Geometry::General, scale)] {
                let m = [[scale * c, -flip * scale * s], [scale * s, flip * scale * c]];
                let pairs: Vec<_> = (0..9).map(|i| {
                    let p = [1e3 * noise(i), 1e3 * noise(i + 100)];
                    (p, [m[0][0] * p[0] + m[0][1] * p[1] + x, m[1][0] * p[0] + m[1][1] * p[1] - x])
                }).collect();
                let fit = fit_linear(&pairs, None, geometry, &NO_CLIPPING).unwrap();
                for (found, true_value) in fit.matrix.iter().flatten().zip(m.iter().flatten()) {
                    prop_assert!((found - true_value).abs() < 1e-10);
                }
                prop_assert!(fit.rmse < 1e-9);
            }
        }
    }

    #[test]
    fn outliers_are_clipped_and_come_back() {
        let mut pairs: Vec<(Point, Point)> = (0..40)
            .map(|i| {
                let p = [100.0 * noise(i), 100.0 * noise(i + 50)];
                (p, [p[0] + 2.0 + 0.01 * noise(i + 200), p[1] - 1.0])
            })
            .collect();
        pairs[3].1[0] += 5.0;
        let clipping = Clipping { rounds: 5, ..NO_CLIPPING };
        let fit = fit_linear(&pairs, None, Geometry::Shift, &clipping).unwrap();
        assert!(!fit.kept[3] && fit.kept.iter().filter(|&&k| k).count() >= 38);
        assert!((fit.shift[0] - 2.0).abs() < 2e-3);
    }

    #[test]
    fn covariance_is_that_of_many_draws() {
        let from: Vec<Point> = (0..12).map(|i| [50.0 * noise(i) + 20.0, 80.0 * noise(i + 60)]).collect();
        let weights: Vec<f64> = (0..12).map(|i| 1.0 + f64::from(i % 3)).collect();
        for geometry in [Geometry::Shift, Geometry::Rshift, Geometry::Rscale, Geometry::General] {
            let draws = 4000;
            let mut values = Vec::new();
            let mut told = Matrix6::zeros();
            for draw in 0..draws {
                let normal = |k: usize| (0..12).map(|j| noise(10_000 * draw + 100 * k + j)).sum::<f64>();
                let pairs: Vec<_> = (0..12)
                    .map(|i| {
                        let sigma = weights[i].powf(-0.5);
                        let p = from[i];
                        (p, [0, 1].map(|k| p[k] + sigma * normal(2 * i + k)))
                    })
                    .collect();
                let fit = fit_linear(&pairs, Some(&weights), geometry, &NO_CLIPPING).unwrap();
                told = fit.covariance;
                values.push(fit.shift[0]);
            }
            let mean = values.iter().sum::<f64>() / f64::from(draws as u32);
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(draws as u32);
            assert!((variance / told[(0, 0)] - 1.0).abs() < 0.15, "{geometry:?} {variance} {}", told[(0, 0)]);
        }
    }

    #[test]
    fn too_little_is_said() {
        let pair = ([1.0, 1.0], [2.0, 2.0]);
        assert!(fit_linear(&[], None, Geometry::Shift, &NO_CLIPPING).is_err());
        assert!(fit_linear(&[pair, pair], None, Geometry::Rscale, &NO_CLIPPING).is_err());
        let line = [0.0, 1.0, 2.0, 3.0].map(|x| ([x, x], [x, x]));
        assert!(fit_linear(&line, None, Geometry::General, &NO_CLIPPING).is_err());
        assert!(fit_linear(&line, Some(&[0.0; 4]), Geometry::Shift, &NO_CLIPPING).is_err());
    }
}
