//! Fits the transform between pairs of points, and its covariance.
//!
//! A consensus of the pairs gives the initial transform. Robust least squares refines it, with each pair
//! weighted by its uncertainty.

use nalgebra::{DMatrix, DVector};

use super::consensus::{log_chance, search, solve, squared_distance};
use super::transform::{Kind, MOST, Point, Transform};
use crate::error::{Error, Result};
use crate::lsq::robust::{Loss, planar_scale};
use crate::lsq::small::whitener;
use crate::lsq::{NormalEquations, Problem, Robust, RobustFit, RobustOptions, Weighed, Weighting};

/// Pairs with residuals above this many standard deviations are excluded: one in 500 correct pairs.
const CLIP: f64 = 3.5;
/// Residuals below this fraction of the extent of the points are rounding errors.
const ROUNDING: f64 = 1e-13;
/// Step for the numerical derivatives of the matrix, in parameters of points scaled to unit size.
const STEP: f64 = 1e-5;

/// Options of the fit to pairs of points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions<'a> {
    /// The family of transforms.
    pub kind: Kind,
    /// Pairs with residuals above this many pixels count as wrong.
    pub tolerance: f64,
    /// Covariance of each pair's difference, xx, xy and yy, square pixels. With `None`, all pairs have the
    /// same covariance, which is measured.
    pub covariance: Option<&'a [[f64; 3]]>,
    /// Area in which a point would lie if its pair were a chance pair, square pixels.
    pub area: f64,
}

/// A transform from moved to reference points, and its quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Transform from moved to reference points.
    pub transform: Transform,
    /// Whether each pair agrees with the transform.
    pub inliers: Vec<bool>,
    /// Root mean square length of the inliers' residuals, pixels.
    pub rms: f64,
    /// Scale of the residuals: pixels per axis, or in units of the given uncertainties. NaN without redundant
    /// pairs.
    pub noise: f64,
    /// Covariance of the first eight elements of the matrix by rows; the ninth element is 1. NaN without
    /// redundant pairs.
    pub covariance: [[f64; MOST]; MOST],
    /// Logarithm, base 10, of the expected number of transforms with which random pairs would agree as well.
    pub log_chance: f64,
}

/// Fits the transform with which most pairs agree.
///
/// Returns [`Error::Undetermined`] if there are too few pairs or they do not determine a transform.
pub fn fit(moved: &[[f64; 2]], reference: &[[f64; 2]], options: &FitOptions<'_>) -> Result<Fit> {
    let kind = options.kind;
    check(moved, reference, options)?;
    let undetermined = || {
        let least = kind.parameters() / 2;
        Error::Undetermined(format!(
            "{} pairs of points do not determine a transform ({}): at least {least} well-separated pairs are needed",
            moved.len(),
            kind.name()
        ))
    };
    // Points are centred and scaled to unit size, so that the equations are well conditioned.
    let scaled = Scaled::new(moved, reference).ok_or_else(undetermined)?;
    let (from, to) = (scaled.of(moved), scaled.of(reference));
    let tolerance = options.tolerance / scaled.size;
    let start = search(kind, &from, &to, tolerance).ok_or_else(undetermined)?;
    let start = polished(kind, &from, &to, tolerance, start);
    let pairs = Pairs {
        kind,
        tolerance,
        whiten: whiteners(options.covariance, moved.len(), scaled.size),
        weights: vec![],
        moved: from,
        reference: to,
    };
    let mut fit = RobustFit::new(
        pairs,
        start,
        RobustOptions { loss: Loss::Cauchy, smallest_scale: ROUNDING, ..RobustOptions::default() },
    );
    fit.settle()?;
    fit.clip()?;
    scaled.result(&fit.problem, &fit.state, moved, reference, options).ok_or_else(undetermined)
}

fn check(moved: &[Point], reference: &[Point], options: &FitOptions<'_>) -> Result<()> {
    let argument = |name, problem: &str, repair: &str| Err(Error::argument(name, problem, repair));
    if moved.len() != reference.len() {
        return argument("ref_points", "their number differs from that of the moved points", "give pairs");
    }
    if options.covariance.is_some_and(|c| c.len() != moved.len()) {
        return argument(
            "covariance",
            "their number differs from that of the pairs",
            "give one for each pair",
        );
    }
    if !moved.iter().chain(reference).flatten().all(|v| v.is_finite()) {
        return argument("points", "they are not finite", "leave out pairs without a position");
    }
    for (name, value, repair) in
        [("tolerance", options.tolerance, "give pixels"), ("area", options.area, "give square pixels")]
    {
        if value.is_nan() || value <= 0.0 {
            return argument(name, "it must be above zero", repair);
        }
    }
    Ok(())
}

/// Least-squares fit to the pairs that agree with an initial transform.
fn polished(kind: Kind, moved: &[Point], reference: &[Point], tolerance: f64, start: Vec<f64>) -> Vec<f64> {
    let transform = kind.transform(&start);
    let near = |&i: &usize| squared_distance(&transform, moved[i], reference[i]) < tolerance * tolerance;
    let rows: Vec<usize> = (0..moved.len()).filter(near).collect();
    solve(kind, moved, reference, &rows).unwrap_or(start)
}

/// The coordinates in which pairs are fitted.
struct Scaled {
    middle: Point,
    size: f64,
}

impl Scaled {
    fn new(moved: &[Point], reference: &[Point]) -> Option<Self> {
        let count = moved.len() as f64;
        let sum = moved.iter().fold([0.0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        let middle = sum.map(|s| s / count);
        let far = |points: &[Point]| {
            points.iter().map(|p| (p[0] - middle[0]).hypot(p[1] - middle[1])).fold(0.0, f64::max)
        };
        let size = far(moved).max(far(reference)).max(1.0);
        (count > 0.0).then_some(Self { middle, size })
    }

    fn of(&self, points: &[Point]) -> Vec<Point> {
        points.iter().map(|p| [0, 1].map(|k| (p[k] - self.middle[k]) / self.size)).collect()
    }

    /// Converts a transform of these coordinates to one of pixels.
    fn in_pixels(&self, transform: &Transform) -> Transform {
        let ([x, y], s) = (self.middle, self.size);
        let there = Transform([[1.0 / s, 0.0, -x / s], [0.0, 1.0 / s, -y / s], [0.0, 0.0, 1.0]]);
        let back = Transform([[s, 0.0, x], [0.0, s, y], [0.0, 0.0, 1.0]]);
        there.then(transform).then(&back)
    }

    fn result(
        &self,
        pairs: &Pairs,
        state: &[f64],
        moved: &[Point],
        reference: &[Point],
        options: &FitOptions<'_>,
    ) -> Option<Fit> {
        let inliers: Vec<bool> = pairs.weights.iter().map(|&w| w > 0.0).collect();
        let count = inliers.iter().filter(|&&i| i).count();
        let transform = self.in_pixels(&pairs.kind.transform(state));
        let squares: Vec<f64> = (0..moved.len())
            .filter(|&i| inliers[i])
            .map(|i| squared_distance(&transform, moved[i], reference[i]))
            .collect();
        let normal = pairs.linearize(state);
        let inverse = normal.covariance();
        if !inverse.frozen.is_empty() || count * 2 < pairs.kind.parameters() {
            return None;
        }
        let freedom = (2 * count - pairs.kind.parameters()) as f64;
        let variance = if freedom > 0.0 { 2.0 * normal.cost() / freedom } else { f64::NAN };
        let farthest = squares.iter().copied().fold(0.0, f64::max).sqrt();
        Some(Fit {
            transform,
            rms: (squares.iter().sum::<f64>() / count as f64).sqrt(),
            // Whitened residuals are in units of the uncertainties; other residuals are in units of the
            // scaled points.
            noise: variance.sqrt() * if options.covariance.is_some() { 1.0 } else { self.size },
            covariance: self.covariance(pairs.kind, state, &(inverse.matrix * variance)),
            log_chance: log_chance(pairs.kind, moved.len(), count, farthest, options.area),
            inliers,
        })
    }

    /// Covariance of the elements of the matrix in pixels.
    fn covariance(&self, kind: Kind, state: &[f64], cov: &DMatrix<f64>) -> [[f64; MOST]; MOST] {
        let elements = |state: &[f64]| {
            let Transform(m) = self.in_pixels(&kind.transform(state));
            [m[0][0], m[0][1], m[0][2], m[1][0], m[1][1], m[1][2], m[2][0], m[2][1]]
        };
        let derivatives = DMatrix::from_fn(MOST, state.len(), |i, k| {
            let moved = |step: f64| {
                let mut moved = state.to_vec();
                moved[k] += step;
                elements(&moved)[i]
            };
            (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
        });
        let cov = &derivatives * cov * derivatives.transpose();
        std::array::from_fn(|i| std::array::from_fn(|j| cov[(i, j)]))
    }
}

/// For each pair, the matrix that scales its residual to unit variance.
fn whiteners(covariance: Option<&[[f64; 3]]>, count: usize, size: f64) -> Vec<[[f64; 2]; 2]> {
    let Some(covariance) = covariance else { return vec![[[1.0, 0.0], [0.0, 1.0]]; count] };
    let scaled = |[a, b, c]: [f64; 3]| [[size * a, 0.0], [size * b, size * c]];
    covariance.iter().map(|c| whitener(c).map_or([[0.0; 2]; 2], scaled)).collect()
}

/// Pairs, and their weights.
struct Pairs {
    kind: Kind,
    tolerance: f64,
    moved: Vec<Point>,
    reference: Vec<Point>,
    whiten: Vec<[[f64; 2]; 2]>,
    weights: Vec<f64>,
}

impl Pairs {
    fn linearize(&self, state: &[f64]) -> NormalEquations {
        let count = self.kind.parameters();
        let transform = self.kind.transform(state);
        let mut equations = NormalEquations::new(count);
        for i in (0..self.moved.len()).filter(|&i| self.weights[i] > 0.0) {
            let (image, depth) = transform.image_and_depth(self.moved[i]);
            if depth <= 0.0 {
                equations.add_cost(f64::INFINITY);
                continue;
            }
            let derivatives = self.kind.derivatives(self.moved[i], image, depth);
            let miss = [0, 1].map(|k| image[k] - self.reference[i][k]);
            for row in self.whiten[i] {
                let mixed: [f64; MOST] =
                    std::array::from_fn(|k| row[0] * derivatives[0][k] + row[1] * derivatives[1][k]);
                equations.add(&mixed[..count], row[0] * miss[0] + row[1] * miss[1], self.weights[i]);
            }
        }
        equations
    }
}

struct Weighted<'a>(&'a Pairs);

impl Problem for Weighted<'_> {
    type State = Vec<f64>;
    type System = NormalEquations;

    fn cost(&self, state: &Vec<f64>) -> f64 {
        self.0.linearize(state).cost()
    }

    fn linearize(&self, state: &Vec<f64>) -> NormalEquations {
        self.0.linearize(state)
    }

    fn step(&self, state: &Vec<f64>, _: &NormalEquations, delta: &DVector<f64>) -> Option<Vec<f64>> {
        Some(state.iter().zip(delta.iter()).map(|(a, b)| a + b).collect())
    }
}

impl Robust for Pairs {
    type State = Vec<f64>;
    type Scales = f64;
    type Problem<'a> = Weighted<'a>;
    type Error = Error;

    fn problem(&self) -> Weighted<'_> {
        Weighted(self)
    }

    fn weigh(&mut self, state: &Vec<f64>, scales: Option<f64>, weighting: Weighting) -> Weighed<f64> {
        let transform = self.kind.transform(state);
        let lengths: Vec<f64> = (0..self.moved.len())
            .map(|i| {
                if squared_distance(&transform, self.moved[i], self.reference[i]) >= self.tolerance.powi(2) {
                    return f64::INFINITY;
                }
                let (image, _) = transform.image_and_depth(self.moved[i]);
                let miss = [0, 1].map(|k| image[k] - self.reference[i][k]);
                let [u, v] = self.whiten[i].map(|row| row[0] * miss[0] + row[1] * miss[1]);
                if self.whiten[i] == [[0.0; 2]; 2] { f64::INFINITY } else { u.hypot(v) }
            })
            .collect();
        let mut near: Vec<f64> = lengths.iter().copied().filter(|l| l.is_finite()).collect();
        let scale = scales.unwrap_or_else(|| planar_scale(&mut near).max(ROUNDING));
        let weight = |&length: &f64| match weighting {
            _ if !length.is_finite() => 0.0,
            Weighting::Loss(loss) => loss.weight(length / scale),
            Weighting::Clip => f64::from(u8::from(length <= CLIP * scale)),
        };
        let weights: Vec<f64> = lengths.iter().map(weight).collect();
        let change = if self.weights == weights { 0.0 } else { f64::INFINITY };
        self.weights = weights;
        Weighed { scales: scale, overall: scale, change }
    }

    fn check(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
