//! Robust least-squares fit of a pointing, and optionally of the lens, to matched stars.
//!
//! Candidates are fitted in microseconds, thousands of times a frame. This is therefore a separate
//! Gauss-Newton loop on matrices of fixed size, without the heap that the loop of [`crate::lsq`] needs. It
//! takes a few steps from a start that is nearly right, so it needs no damping. The loss and the derivatives
//! of the projection are the shared ones.

use nalgebra::{SMatrix, SVector, Vector3};

use super::field::{Field, Pointing};
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Point, RadialDistortion};
use crate::geometry::sphere::Direction;
use crate::lsq::Loss;
use crate::lsq::robust::RAYLEIGH_MEDIAN;

/// Number of all parameters: a small rotation about the camera's axes, the relative change of the focal
/// length, the radial coefficient k₁, and the optical centre's x and y in half image widths. A fit uses the
/// first `N` of them.
pub(super) const PARAMETERS: usize = 7;
/// Covariance of all parameters, in their units.
pub(super) type Covariance = SMatrix<f64, PARAMETERS, PARAMETERS>;

/// Maximum number of Gauss-Newton steps per set of matches. The fit converges quadratically from a good
/// start.
pub(super) const FIT_STEPS: usize = 3;
/// A step that lowers the sum of squares by less than this many variances is the last: the remaining change
/// is a hundredth of a standard error.
const CONVERGED: f64 = 1e-4;
/// Robust loss: residuals beyond a few standard deviations lose weight.
const LOSS: Loss = Loss::Cauchy;
/// Smallest probability of pairs that count as matches: few of these pairs are chance ones, and few true
/// matches are lost.
const PROBABLE: f64 = 0.7;
/// Smallest standard deviation used for weights, px. It avoids a division by zero for perfect (simulated)
/// data.
const MIN_SIGMA_PX: f64 = 4e-7;

/// Radial distortion about a centre, in the direction pixel → ideal, for frames without a camera model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Lens {
    /// Brown's first radial coefficient, for lengths in half image widths.
    pub(super) k1: f64,
    /// Optical centre in half image widths.
    pub(super) center: Point,
}

impl Lens {
    /// Applies the lens to an ideal point that was computed without it, px.
    #[inline]
    pub(super) fn ideal(&self, [x, y]: Point, half_width: f64) -> Point {
        if *self == Self::default() {
            return [x, y];
        }
        let (x, y) = (x / half_width - self.center[0], y / half_width - self.center[1]);
        let bulge = half_width * (1.0 + self.k1 * (x * x + y * y));
        [x * bulge, y * bulge]
    }

    /// A pinhole camera with this lens; the camera is unchanged if there is no distortion.
    pub(super) fn camera(&self, pinhole: &CameraModel) -> CameraModel {
        let half_width = f64::from(pinhole.image_size()[0]) / 2.0;
        match RadialDistortion::new([self.k1, 0.0, 0.0, 0.0], [0.0; 2], half_width) {
            Ok(radial) if self.k1 != 0.0 => pinhole
                .clone()
                .with_optical_center(self.center.map(|x| x * half_width))
                .with_distortion(Distortion::Radial(radial)),
            _ => pinhole.clone(),
        }
    }
}

/// A detection and its catalogue star.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub(super) detection: usize,
    pub(super) star: u32,
    /// Apparent direction of the star.
    pub(super) direction: Direction,
    /// Number of brighter stars among the stars tried.
    pub(super) rank: usize,
    /// Square of the distance between the detection and the star's expected position, px².
    pub(super) distance2: f64,
    /// Probability that detection and star belong together.
    pub(super) probability: f64,
}

impl Match {
    /// Whether the pair counts as a match.
    pub(super) fn is_probable(&self) -> bool {
        self.probability >= PROBABLE
    }
}

/// A fitted pointing and lens.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub(super) pointing: Pointing,
    pub(super) lens: Lens,
    /// Robust standard deviation of the residuals, px per axis.
    pub(super) sigma: f64,
    /// Covariance of all parameters; zero for parameters that are not fitted.
    pub(super) covariance: Covariance,
}

impl Fit {
    /// The covariance with the focal length and the optical centre in px.
    pub(super) fn covariance_in_px(&self, half_width: f64) -> Covariance {
        let mut units = SVector::<f64, PARAMETERS>::repeat(1.0);
        units[3] = self.pointing.focal_length;
        units[5] = half_width;
        units[6] = half_width;
        self.covariance.component_mul(&(units * units.transpose()))
    }
}

/// Fits the first `N` parameters, starting from a pointing and a lens, in at most `steps` steps.
pub(super) fn fit<const N: usize>(
    field: &Field,
    matches: &[Match],
    start: &Pointing,
    lens: Lens,
    steps: usize,
) -> Option<Fit> {
    let mut problem = Problem::new(field, matches, *start, lens);
    let mut covariance = Covariance::zeros();
    for step in 1..=steps {
        let (normal, gradient, chi2) = problem.normal_equations::<N>();
        let cholesky = normal.cholesky()?;
        let change = cholesky.solve(&gradient);
        problem.step(&change)?;
        let variance = chi2 / problem.freedom(N);
        if gradient.dot(&change) < CONVERGED * variance || step == steps {
            covariance.fixed_view_mut::<N, N>(0, 0).copy_from(&(cholesky.inverse() * variance));
            break;
        }
    }
    let Problem { pointing, lens, sigma, .. } = problem;
    Some(Fit { pointing, lens, sigma, covariance })
}

/// Decrease of the weighted sum of squares, in units of the variance, if the first `NEXT` parameters were
/// fitted. It is computed from the first step of such a fit (a score test). If the additional parameters have
/// no effect, it is about their number.
pub(super) fn gain<const NEXT: usize>(field: &Field, matches: &[Match], fit: &Fit) -> f64 {
    let problem = Problem::new(field, matches, fit.pointing, fit.lens);
    let (normal, gradient, chi2) = problem.normal_equations::<NEXT>();
    let Some(cholesky) = normal.cholesky() else { return 0.0 };
    let gained = gradient.dot(&cholesky.solve(&gradient));
    let left = (chi2 - gained).max(chi2 * f64::EPSILON);
    if left > 0.0 { gained / left * problem.freedom(NEXT) } else { 0.0 }
}

/// Residuals of matches for a pointing and a lens.
struct Problem<'a> {
    field: &'a Field,
    matches: &'a [Match],
    pointing: Pointing,
    lens: Lens,
    /// For each match, the direction of its star in the camera frame, and the ideal minus the expected point,
    /// px.
    seen: Vec<(Direction, Point)>,
    /// Standard deviation of the residuals per axis, from their median length.
    sigma: f64,
    /// Scratch for the median: squares of the residuals and their weights.
    squares: Vec<(f64, f64)>,
}

impl<'a> Problem<'a> {
    fn new(field: &'a Field, matches: &'a [Match], pointing: Pointing, lens: Lens) -> Self {
        let (seen, squares) = (Vec::with_capacity(matches.len()), Vec::with_capacity(matches.len()));
        let mut problem = Self { field, matches, pointing, lens, seen, sigma: 0.0, squares };
        problem.update_residuals();
        problem
    }

    /// Updates the residuals and σ for the current pointing and lens.
    fn update_residuals(&mut self) {
        let Self { field, pointing, lens, .. } = self;
        let half_width = field.half_width();
        self.seen.clear();
        self.seen.extend(self.matches.iter().map(|found| {
            let ideal = lens.ideal(field.ideal[found.detection], half_width);
            let star = pointing.attitude.to_camera(&found.direction);
            let [u, v] = pointing.image(&star).unwrap_or(ideal);
            (star, [ideal[0] - u, ideal[1] - v])
        }));
        self.squares.clear();
        let squares = self.seen.iter().map(|(_, [du, dv])| du * du + dv * dv);
        self.squares.extend(squares.zip(self.matches).map(|(d2, found)| (d2, found.probability)));
        self.sigma = weighted_median(&mut self.squares).sqrt() / RAYLEIGH_MEDIAN;
    }

    fn freedom(&self, parameters: usize) -> f64 {
        let matches: f64 = self.matches.iter().map(|found| found.probability).sum();
        (2.0 * matches - parameters as f64).max(1.0)
    }

    /// `JᵀWJ`, `JᵀWr` and `Σwr²` for the first `N` parameters.
    fn normal_equations<const N: usize>(&self) -> (SMatrix<f64, N, N>, SVector<f64, N>, f64) {
        let (mut normal, mut gradient, mut chi2) = (SMatrix::zeros(), SVector::zeros(), 0.0);
        let f = self.pointing.focal_length;
        let width = self.field.half_width();
        let information = 1.0 / self.sigma.max(MIN_SIGMA_PX).powi(2);
        let [center_x, center_y] = self.lens.center;
        let k1 = self.lens.k1;
        for (found, &(star, [du, dv])) in self.matches.iter().zip(&self.seen) {
            let Some((seen, rotations)) = self.pointing.projection.point_and_rotations(&star) else {
                continue;
            };
            let [x, y] = self.field.ideal[found.detection];
            let (x, y) = (x / width - center_x, y / width - center_y);
            let (r2, cross) = (x * x + y * y, 2.0 * k1 * x * y);
            // The residual is the ideal minus the expected point: the lens moves the ideal point, the
            // pointing the expected point.
            let by_pointing = |axis: usize, unit: f64| {
                let [about_x, about_y, about_z] = rotations;
                [about_x[axis], about_y[axis], about_z[axis], seen[axis]].map(|slope| slope * unit)
            };
            let [a, b, c, d] = by_pointing(0, f * self.pointing.parity);
            let by_center = (1.0 + k1 * (r2 + 2.0 * x * x)) * width;
            let by_u = [a, b, c, d, -x * r2 * width, by_center, cross * width];
            let [a, b, c, d] = by_pointing(1, f);
            let by_center = (1.0 + k1 * (r2 + 2.0 * y * y)) * width;
            let by_v = [a, b, c, d, -y * r2 * width, cross * width, by_center];
            let [by_u, by_v] = [by_u, by_v].map(|all| SVector::<f64, N>::from_fn(|i, _| all[i]));
            let d2 = du * du + dv * dv;
            let weight = found.probability * LOSS.weight_of_square(d2 * information);
            let (weighted_u, weighted_v) = (by_u * weight, by_v * weight);
            normal += weighted_u * by_u.transpose() + weighted_v * by_v.transpose();
            gradient += weighted_u * du + weighted_v * dv;
            chi2 += weight * d2;
        }
        (normal, gradient, chi2)
    }

    fn step<const N: usize>(&mut self, step: &SVector<f64, N>) -> Option<()> {
        let change = |i: usize| if i < N { step[i] } else { 0.0 };
        self.pointing.attitude = self.pointing.attitude.rotated(&Vector3::from_fn(|i, _| change(i)));
        self.pointing.focal_length *= 1.0 + change(3);
        self.lens.k1 += change(4);
        self.lens.center[0] += change(5);
        self.lens.center[1] += change(6);
        self.update_residuals();
        (self.pointing.focal_length.is_finite() && self.pointing.focal_length > 0.0).then_some(())
    }
}

/// If the mean of the weights is at least this, all weights count as equal.
const EQUAL_WEIGHTS: f64 = 0.999;

/// Weighted median: the value at which half of the weight is reached; NaN without values. Reorders its input.
fn weighted_median(values: &mut [(f64, f64)]) -> f64 {
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    if half >= EQUAL_WEIGHTS * values.len() as f64 / 2.0 && !values.is_empty() {
        let middle = values.len() / 2;
        return values.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0)).1.0;
    }
    let (mut part, mut below) = (values, 0.0);
    // Quickselect: continue with the half in which the median lies.
    while part.len() > 1 {
        let middle = part.len() / 2;
        part.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0));
        let (low, high) = part.split_at_mut(middle);
        let weight: f64 = low.iter().map(|(_, weight)| weight).sum();
        if below + weight > half {
            part = low;
        } else {
            below += weight;
            part = high;
        }
    }
    part.first().map_or(f64::NAN, |(value, _)| *value)
}
