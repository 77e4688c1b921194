//! Computes the normal equations of a polynomial distortion from moments.
//!
//! A coefficient of x^p y^q moves a star by x^p y^q along one axis of the ideal plane. The element of the
//! normal matrix for two coefficients is therefore a sum over the stars of x^(p+r) y^(q+s) times an element
//! of the star's weight matrix. n coefficients make n² / 2 pairs, but only about 3 n different sums.

use super::parameters::{Column, Parameters};
use crate::geometry::distortion::{Jacobian, Point};
use crate::geometry::residual::{ATTITUDE, PLACEMENT, Residual};
use crate::lsq::NormalEquations;
use crate::simd::{Work, vectorized};

/// Number of columns that are not coefficients: the focal length, the attitude, and the residual itself.
pub(super) const UNPLACED: usize = 1 + ATTITUDE + 1;
/// The same number with the placement of the detector, whose columns precede the attitude.
pub(super) const PLACED: usize = UNPLACED + PLACEMENT;

/// Sums over stars, for the coefficients and [`UNPLACED`] or [`PLACED`] other columns.
pub(super) struct Moments<const N: usize> {
    degree: usize,
    focal_length: f64,
    scale: f64,
    /// x^p y^q of one star, by degree, up to twice that of the polynomial.
    monomials: Vec<f64>,
    /// Sums of the monomials times the elements xx, xy and yy of the weight matrix.
    squares: [Vec<f64>; 3],
    /// Sums of the monomials up to the polynomial's degree times the weighted x and y of the other columns.
    crosses: [[Vec<f64>; 2]; N],
    others: NormalEquations,
}

impl<const N: usize> Moments<N> {
    /// Empty sums, for a polynomial of this degree in pixels over `scale`.
    pub(super) fn new(degree: usize, focal_length: f64, scale: f64) -> Self {
        let sums = |degree| vec![0.0; index(0, degree) + 1];
        Self {
            degree,
            focal_length,
            scale,
            monomials: sums(2 * degree),
            squares: std::array::from_fn(|_| sums(2 * degree)),
            crosses: std::array::from_fn(|_| [sums(degree), sums(degree)]),
            others: NormalEquations::new(N - 1),
        }
    }

    /// Adds to the cost only.
    pub(super) fn add_cost(&mut self, cost: f64) {
        self.others.add_cost(cost);
    }

    /// Adds a star.
    pub(super) fn add(&mut self, residual: &Residual, metric: &Jacobian, weight: f64) {
        let mut columns = [residual.miss; N];
        columns[0] = residual.projected.map(|c| -c);
        if N == PLACED {
            columns[1..=PLACEMENT].copy_from_slice(&residual.by_placement());
        }
        columns[N - 1 - ATTITUDE..N - 1].copy_from_slice(&residual.by_attitude(self.focal_length));
        for axis in metric {
            let row = columns.map(|[x, y]| axis[0] * x + axis[1] * y);
            self.others.add(&row[..N - 1], row[N - 1], weight);
        }
        let [[a, b], [c, d]] = *metric;
        let square = [a * a + c * c, a * b + c * d, b * b + d * d].map(|w| weight * w);
        let [xx, xy, yy] = square;
        let crosses = columns.map(|[x, y]| [xx * x + xy * y, xy * x + yy * y]);
        let point = residual.point.map(|c| c / self.scale);
        vectorized(Sums { moments: self, point, square, crosses });
    }

    /// The normal equations for some intrinsics, the placement (if the columns include it) and the attitude.
    pub(super) fn equations(&self, parameters: &Parameters) -> NormalEquations {
        let columns: Vec<Column> = parameters.columns().chain((1..N - 1).map(Column::Other)).collect();
        let element = |i: usize, j: usize| match (columns[i], columns[j]) {
            (Column::Other(i), Column::Other(j)) => self.others.element(i, j),
            (Column::Power(axis, p, q), Column::Other(i)) | (Column::Other(i), Column::Power(axis, p, q)) => {
                self.crosses[i][axis][index(p, q)]
            }
            (Column::Power(a, p, q), Column::Power(b, r, s)) => self.squares[a + b][index(p + r, q + s)],
        };
        let gradient = columns.iter().map(|column| match *column {
            Column::Other(i) => self.others.gradient()[i],
            Column::Power(axis, p, q) => self.crosses[N - 1][axis][index(p, q)],
        });
        let (cost, count) = (self.others.cost(), self.others.count());
        NormalEquations::from_elements(element, gradient.collect(), cost, count)
    }
}

/// Index of x^p y^q among the monomials: 1, x, y, x², xy, y², …
fn index(p: usize, q: usize) -> usize {
    (p + q) * (p + q + 1) / 2 + q
}

/// Adds one star to the long sums.
struct Sums<'a, const N: usize> {
    moments: &'a mut Moments<N>,
    point: Point,
    square: [f64; 3],
    crosses: [Point; N],
}

impl<const N: usize> Work for Sums<'_, N> {
    type Output = ();

    // `Work` requires inlining, so that the code is compiled for the instructions of this machine.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn call(self) {
        let Moments { degree, monomials, squares, crosses, .. } = self.moments;
        let [x, y] = self.point;
        monomials[0] = 1.0;
        for degree in 1..=2 * *degree {
            let (lower, row) = monomials.split_at_mut(index(degree, 0));
            let lower = &lower[index(degree - 1, 0)..];
            for (monomial, lower) in row.iter_mut().zip(lower) {
                *monomial = x * lower;
            }
            row[degree] = y * lower[degree - 1];
        }
        for (sums, weight) in squares.iter_mut().zip(self.square) {
            add(sums, monomials, weight);
        }
        for (sums, weights) in crosses.iter_mut().zip(self.crosses) {
            for (sums, weight) in sums.iter_mut().zip(weights) {
                add(sums, monomials, weight);
            }
        }
    }
}

// Inlined into `Work`, which is compiled for the instructions of this machine.
#[allow(clippy::inline_always)]
#[inline(always)]
fn add(sums: &mut [f64], monomials: &[f64], weight: f64) {
    for (sum, monomial) in sums.iter_mut().zip(monomials) {
        *sum += weight * monomial;
    }
}
