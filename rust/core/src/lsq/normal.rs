//! Normal equations: accumulate, add, solve, invert.
//!
//! For residuals r with weights W and Jacobian J, they hold the matrix `JᵀWJ`, the gradient `JᵀWr` and the
//! cost ½ rᵀWr. Their size depends only on the number of parameters, not on the amount of data.
//!
//! They are factorised as `D⁻¹ P L Lᵀ Pᵀ D⁻¹`. The diagonal scaling D sets every parameter's own information
//! to 1, and the permutation P takes the best determined parameter next. The pivot of a parameter, 1 - R², is
//! the fraction of its information that remains once the preceding parameters are known. A parameter whose
//! pivot is below [`RANK_TOLERANCE`] is *frozen*: it does not move, and the others are solved as if it were
//! known.

use nalgebra::{DMatrix, DVector};

use super::sums::{self, Rows};
use crate::simd::{Work, vectorized};

/// Smallest fraction of a parameter's information that must remain when all others are known.
///
/// Rounding errors leave about 1e-15; a polynomial of order 9 on evenly spread points has 1e-5 and more.
pub const RANK_TOLERANCE: f64 = 1e-11;

/// `JᵀWJ`, `JᵀWr` and ½ rᵀWr of some residuals.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalEquations {
    /// Upper triangle by rows of the symmetric matrix; elements below the diagonal are not stored.
    matrix: Vec<f64>,
    gradient: Vec<f64>,
    cost: f64,
    count: usize,
}

/// Inverse of the normal matrix, and what could not be inverted.
#[derive(Debug, Clone, PartialEq)]
pub struct Covariance {
    /// Covariance for residuals of unit variance; rows and columns of frozen parameters are zero.
    pub matrix: DMatrix<f64>,
    /// Indices of the parameters that the data do not determine.
    pub frozen: Vec<usize>,
    /// Condition number of the Jacobian with its columns scaled to length 1, without frozen parameters.
    pub condition_number: f64,
}

impl NormalEquations {
    /// Equations without residuals, for this many parameters.
    pub fn new(parameters: usize) -> Self {
        Self {
            matrix: vec![0.0; parameters * parameters],
            gradient: vec![0.0; parameters],
            cost: 0.0,
            count: 0,
        }
    }

    /// Normal equations from the values of [`Self::upper_triangle`], [`Self::gradient`], [`Self::cost`] and
    /// [`Self::count`].
    ///
    /// `None` if the sizes contradict each other.
    pub fn from_parts(upper: &[f64], gradient: Vec<f64>, cost: f64, count: usize) -> Option<Self> {
        let n = gradient.len();
        // The rows above row i have n, n - 1, … elements.
        let element = |i: usize, j: usize| upper[i * n - i * (i + 1) / 2 + j];
        (upper.len() == n * (n + 1) / 2).then(|| Self::from_elements(element, gradient, cost, count))
    }

    /// Normal equations from a function of row and column for the upper triangle of `JᵀWJ`, and the other
    /// parts.
    pub fn from_elements(
        element: impl Fn(usize, usize) -> f64,
        gradient: Vec<f64>,
        cost: f64,
        count: usize,
    ) -> Self {
        let n = gradient.len();
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in i..n {
                matrix[i * n + j] = element(i, j);
            }
        }
        Self { matrix, gradient, cost, count }
    }

    /// Upper triangle of `JᵀWJ` by rows, n (n + 1) / 2 elements.
    pub fn upper_triangle(&self) -> Vec<f64> {
        let n = self.parameters();
        (0..n).flat_map(|i| self.matrix[i * n + i..(i + 1) * n].iter().copied()).collect()
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.gradient.len()
    }

    /// Half the weighted sum of squares.
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// Number of residuals with a weight above zero.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Gradient of the cost.
    pub fn gradient(&self) -> &[f64] {
        &self.gradient
    }

    /// One element of `JᵀWJ`.
    pub fn element(&self, i: usize, j: usize) -> f64 {
        self.matrix[i.min(j) * self.parameters() + i.max(j)]
    }

    /// Adds one residual with its derivatives by all parameters.
    pub fn add(&mut self, derivatives: &[f64], residual: f64, weight: f64) {
        self.add_all(derivatives, &[residual], &[weight]);
    }

    /// Adds several residuals: rows of derivatives by all parameters, each with its residual and its weight.
    ///
    /// This is faster than adding one by one, up to as many residuals as the innermost cache holds.
    pub fn add_all(&mut self, derivatives: &[f64], residuals: &[f64], weights: &[f64]) {
        for (&residual, &weight) in residuals.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
            self.cost += 0.5 * weight * residual * residual;
            self.count += 1;
        }
        if self.parameters() > 0 {
            let Self { matrix, gradient, .. } = self;
            sums::add(matrix, gradient, Rows { derivatives, residuals, weights });
        }
    }

    /// Adds to the cost only.
    pub fn add_cost(&mut self, cost: f64) {
        self.cost += cost;
    }

    /// Adds the residuals of another set for the same parameters.
    ///
    /// # Panics
    /// If the numbers of parameters differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.parameters(), other.parameters(), "blocks of different parameters");
        for (m, o) in self.matrix.iter_mut().zip(&other.matrix) {
            *m += o;
        }
        for (g, o) in self.gradient.iter_mut().zip(&other.gradient) {
            *g += o;
        }
        self.cost += other.cost;
        self.count += other.count;
    }

    /// Adds the residuals of another set, whose parameters have these places among those of `self`.
    ///
    /// # Panics
    /// If the numbers of places and parameters differ, or a place is not a parameter of these equations.
    pub fn merge_at(&mut self, other: &Self, places: &[usize]) {
        assert_eq!(places.len(), other.parameters(), "as many places as parameters");
        let n = self.parameters();
        for (i, &p) in places.iter().enumerate() {
            self.gradient[p] += other.gradient[i];
            for (j, &q) in places.iter().enumerate().skip(i) {
                self.matrix[p.min(q) * n + p.max(q)] += other.element(i, j);
            }
        }
        self.cost += other.cost;
        self.count += other.count;
    }

    /// Splits off the last `k` parameters and eliminates them (Schur complement).
    ///
    /// In the remaining problem, these parameters always have their best values.
    ///
    /// `None` if the data do not determine them.
    pub fn eliminate(&self, k: usize) -> Option<(Self, Eliminated)> {
        let n = self.parameters();
        let m = n.checked_sub(k)?;
        let tail = DMatrix::from_fn(k, k, |i, j| self.element(m + i, m + j));
        let inverse = tail.cholesky()?.inverse();
        let coupling = DMatrix::from_fn(m, k, |i, j| self.element(i, m + j));
        let gradient = DVector::from_column_slice(&self.gradient[m..]);
        let gain = &coupling * &inverse;
        let mut reduced = Self::new(m);
        for i in 0..m {
            reduced.gradient[i] = self.gradient[i] - gain.row(i).transpose().dot(&gradient);
            for j in i..m {
                reduced.matrix[i * m + j] = self.matrix[i * n + j] - gain.row(i).dot(&coupling.row(j));
            }
        }
        reduced.cost = self.cost;
        reduced.count = self.count;
        Some((reduced, Eliminated { inverse, gain, gradient, places: None }))
    }

    /// Minimises the linearised cost: `(JᵀWJ + damping · diagonal) delta = -JᵀWr`. Frozen parameters get 0.
    pub fn solve(&self, damping: f64) -> DVector<f64> {
        let factor = Factor::new(self, damping);
        let mut delta = DVector::zeros(self.parameters());
        let kept = factor.kept();
        let right = DVector::from_fn(kept.len(), |k, _| -self.gradient[kept[k]] * factor.scale[kept[k]]);
        for (k, value) in factor.solve(right).iter().enumerate() {
            delta[kept[k]] = value * factor.scale[kept[k]];
        }
        delta
    }

    /// Decrease of the linearised cost by a step.
    pub fn decrease(&self, delta: &DVector<f64>) -> f64 {
        let n = self.parameters();
        let mut decrease = 0.0;
        for i in 0..n {
            let row: f64 = (0..n).map(|j| self.element(i, j) * delta[j]).sum();
            decrease -= delta[i] * (self.gradient[i] + 0.5 * row);
        }
        decrease
    }

    /// Covariance of the parameters for residuals whose variance is the inverse of their weight.
    pub fn covariance(&self) -> Covariance {
        let factor = Factor::new(self, 0.0);
        let condition_number = self.condition_number(factor.kept(), &factor.scale);
        let (matrix, frozen) = self.inverse_of(&factor);
        Covariance { matrix, frozen, condition_number }
    }

    /// Like [`Self::covariance`], without the condition number: the matrix, and the parameters that the data
    /// do not determine.
    pub fn inverse(&self) -> (DMatrix<f64>, Vec<usize>) {
        self.inverse_of(&Factor::new(self, 0.0))
    }

    fn inverse_of(&self, factor: &Factor) -> (DMatrix<f64>, Vec<usize>) {
        let n = self.parameters();
        let kept = factor.kept();
        let mut matrix = DMatrix::zeros(n, n);
        for (c, &column) in kept.iter().enumerate() {
            let unit = DVector::from_fn(kept.len(), |k, _| if k == c { 1.0 } else { 0.0 });
            for (r, value) in factor.solve(unit).iter().enumerate() {
                matrix[(kept[r], column)] = value * factor.scale[kept[r]] * factor.scale[column];
            }
        }
        let matrix = (&matrix + matrix.transpose()) * 0.5;
        let mut frozen = factor.order[factor.rank..].to_vec();
        frozen.sort_unstable();
        (matrix, frozen)
    }

    /// Condition number of the Jacobian's columns `kept` when each is scaled to length 1.
    fn condition_number(&self, kept: &[usize], scale: &[f64]) -> f64 {
        let scaled = DMatrix::from_fn(kept.len(), kept.len(), |i, j| {
            self.element(kept[i], kept[j]) * scale[kept[i]] * scale[kept[j]]
        });
        if kept.is_empty() || scaled.iter().any(|e| !e.is_finite()) {
            return 1.0;
        }
        let values = scaled.symmetric_eigenvalues();
        (values.max() / values.min()).abs().sqrt()
    }
}

/// Parameters that [`NormalEquations::eliminate`] has removed; they follow once the others are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Eliminated {
    inverse: DMatrix<f64>,
    gain: DMatrix<f64>,
    gradient: DVector<f64>,
    /// Indices of the kept parameters among those that are solved for; `None` if they are all of them.
    places: Option<Vec<usize>>,
}

impl Eliminated {
    /// The same parameters, where the kept ones have these places among all that are solved for.
    #[must_use]
    pub fn among(self, places: Vec<usize>) -> Self {
        Self { places: Some(places), ..self }
    }

    /// Decrease of the linearised cost by the eliminated parameters when the kept ones stay fixed.
    pub fn decrease(&self) -> f64 {
        0.5 * self.gradient.dot(&(&self.inverse * &self.gradient))
    }

    /// Step of the eliminated parameters, given that of the parameters that are solved for.
    pub fn step(&self, kept: &DVector<f64>) -> DVector<f64> {
        let moved = match &self.places {
            None => self.gain.tr_mul(kept),
            Some(places) => self.gain.tr_mul(&kept.select_rows(places)),
        };
        -(&self.inverse * &self.gradient + moved)
    }

    /// Covariance of the eliminated parameters, given that of the parameters that are solved for.
    pub fn covariance(&self, kept: &DMatrix<f64>) -> DMatrix<f64> {
        let carried = match &self.places {
            None => kept * &self.gain,
            Some(places) => kept.select_rows(places).select_columns(places) * &self.gain,
        };
        &self.inverse + self.gain.tr_mul(&carried)
    }

    /// Covariance of the parameters that are solved for (rows) with the eliminated ones (columns).
    pub fn cross_covariance(&self, kept: &DMatrix<f64>) -> DMatrix<f64> {
        match &self.places {
            None => -(kept * &self.gain),
            Some(places) => -(kept.select_columns(places) * &self.gain),
        }
    }
}

/// Pivoted Cholesky factor of the scaled normal matrix.
struct Factor {
    scale: Vec<f64>,
    /// Parameters, the best determined first; those from `rank` on are frozen.
    order: Vec<usize>,
    rank: usize,
    /// Lower triangle, with rows and columns in that order.
    lower: DMatrix<f64>,
}

/// Subtracts the contributions of the preceding columns from a column of a Cholesky factor, below its
/// diagonal.
struct Reduction<'a> {
    /// The preceding columns, each from its first row on.
    known: &'a [f64],
    rank: usize,
    /// The column, from its diagonal down.
    column: &'a mut [f64],
}

impl Work for Reduction<'_> {
    type Output = ();

    // `Work` requires inlining, so that the code is compiled for the instructions of this machine.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn call(self) {
        let below = &mut self.column[1..];
        for other in self.known.chunks_exact(self.rank + 1 + below.len()) {
            let factor = other[self.rank];
            for (value, other) in below.iter_mut().zip(&other[self.rank + 1..]) {
                *value -= factor * other;
            }
        }
    }
}

impl Factor {
    fn new(equations: &NormalEquations, damping: f64) -> Self {
        let n = equations.parameters();
        let scale: Vec<f64> = (0..n)
            .map(|i| equations.element(i, i))
            .map(|d| if d > 0.0 && d.is_finite() { 1.0 / d.sqrt() } else { 0.0 })
            .collect();
        let mut order: Vec<usize> = (0..n).collect();
        let mut pivots: Vec<f64> = scale.iter().map(|&s| if s > 0.0 { 1.0 + damping } else { 0.0 }).collect();
        let mut lower = DMatrix::<f64>::zeros(n, n);
        let mut rank = 0;
        while rank < n {
            // Of equal largest pivots, the first is taken, so that the earlier parameter is kept.
            let best = (rank..n).fold(rank, |best, k| if pivots[k] > pivots[best] { k } else { best });
            if pivots[best] < RANK_TOLERANCE {
                break;
            }
            order[rank..=best].rotate_right(1);
            pivots[rank..=best].rotate_right(1);
            for k in (rank..best).rev() {
                lower.swap_rows(k, k + 1);
            }
            let pivot = pivots[rank].sqrt();
            let p = order[rank];
            let (known, rest) = lower.as_mut_slice().split_at_mut(rank * n);
            let column = &mut rest[rank..n];
            column[0] = pivot;
            for (value, &q) in column[1..].iter_mut().zip(&order[rank + 1..]) {
                *value = equations.element(p, q) * scale[p] * scale[q];
            }
            vectorized(Reduction { known, rank, column });
            for (value, left) in column[1..].iter_mut().zip(&mut pivots[rank + 1..]) {
                *value /= pivot;
                *left -= *value * *value;
            }
            rank += 1;
        }
        Self { scale, order, rank, lower }
    }

    fn kept(&self) -> &[usize] {
        &self.order[..self.rank]
    }

    /// Solution for the kept parameters, in their order.
    fn solve(&self, mut right: DVector<f64>) -> DVector<f64> {
        let lower = self.lower.view((0, 0), (self.rank, self.rank));
        // The pivots are above the tolerance, so neither substitution can fail.
        lower.solve_lower_triangular_mut(&mut right);
        lower.tr_solve_lower_triangular_mut(&mut right);
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Straight line with slope and offset through points, and a third parameter that repeats the offset.
    fn line(points: &[(f64, f64)], redundant: bool) -> NormalEquations {
        let mut equations = NormalEquations::new(if redundant { 3 } else { 2 });
        for &(x, y) in points {
            let row = [x, 1.0, 2.0];
            equations.add(&row[..equations.parameters()], -y, 1.0);
        }
        equations
    }

    #[test]
    fn a_line_is_fitted() {
        let delta = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], false).solve(0.0);
        assert!((delta[0] - 2.0).abs() < 1e-14 && (delta[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_repeated_parameter_is_frozen() {
        let equations = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], true);
        let covariance = equations.covariance();
        assert_eq!(covariance.frozen, [2]);
        assert_eq!(equations.solve(0.0)[2], 0.0);
        assert!((equations.solve(0.0)[1] - 1.0).abs() < 1e-14);
        // Without the redundant parameter: the textbook covariance of a line.
        assert!((covariance.matrix[(0, 0)] - 0.5).abs() < 1e-14);
        assert!((covariance.matrix[(1, 1)] - 5.0 / 6.0).abs() < 1e-14);
        assert!(covariance.condition_number.is_finite());
    }

    #[test]
    fn no_data_freezes_everything() {
        let covariance = NormalEquations::new(2).covariance();
        assert_eq!(covariance.frozen, [0, 1]);
        assert_eq!(covariance.condition_number, 1.0);
    }

    proptest! {
        #[test]
        fn elimination_changes_nothing(rows in prop::collection::vec(prop::array::uniform5(-1.0..1.0f64), 8..20)) {
            let mut all = NormalEquations::new(4);
            for row in &rows {
                all.add(&row[..4], row[4], 1.0);
            }
            let full = all.covariance();
            prop_assume!(full.frozen.is_empty() && full.condition_number < 1e3);
            let (reduced, eliminated) = all.eliminate(2).unwrap();
            let (delta, kept) = (all.solve(0.0), reduced.solve(0.0));
            let rest = eliminated.step(&kept);
            let cov = reduced.covariance().matrix;
            let (cross, tail) = (eliminated.cross_covariance(&cov), eliminated.covariance(&cov));
            for i in 0..2 {
                prop_assert!((delta[i] - kept[i]).abs() < 1e-8 && (delta[i + 2] - rest[i]).abs() < 1e-8);
                for j in 0..2 {
                    prop_assert!((full.matrix[(i, j)] - cov[(i, j)]).abs() < 1e-6);
                    prop_assert!((full.matrix[(i, j + 2)] - cross[(i, j)]).abs() < 1e-6);
                    prop_assert!((full.matrix[(i + 2, j + 2)] - tail[(i, j)]).abs() < 1e-6);
                }
            }
        }

        #[test]
        fn blocks_add_up(rows in prop::collection::vec(prop::array::uniform4(-1.0..1.0f64), 2..20), cut in 0_usize..20) {
            let cut = cut.min(rows.len());
            let mut parts = [NormalEquations::new(3), NormalEquations::new(3)];
            let mut whole = NormalEquations::new(3);
            for (i, row) in rows.iter().enumerate() {
                parts[usize::from(i >= cut)].add(&row[..3], row[3], 0.5);
                whole.add(&row[..3], row[3], 0.5);
            }
            let [mut sum, other] = parts;
            sum.merge(&other);
            prop_assert_eq!(sum.count(), whole.count());
            prop_assert!((sum.cost() - whole.cost()).abs() < 1e-12);
            for i in 0..3 {
                prop_assert!((sum.gradient()[i] - whole.gradient()[i]).abs() < 1e-12);
                for j in 0..3 {
                    prop_assert!((sum.element(i, j) - whole.element(i, j)).abs() < 1e-12);
                }
            }
        }
    }
}
