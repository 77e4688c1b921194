//! Normal equations of a scene: the sources' own parameters in blocks, and what all share.

use nalgebra::{DMatrix, DVector};

use crate::lsq::sparse::{BlockMatrix, Factor};
use crate::lsq::{Covariance, NormalEquations, System};

/// Part of a shared parameter's information that has to be left once the sources are known.
const SHARED_RANK: f64 = 1e-11;

/// Normal equations, the sources' blocks as rows and columns before the shared parameters.
#[derive(Debug, Clone)]
pub(super) struct Arrow {
    pub own: BlockMatrix,
    /// Place of each of the sources' parameters in the order of elimination.
    pub order: Vec<usize>,
    /// Sources' parameters in the order of elimination, by the shared ones.
    pub cross: Vec<f64>,
    pub shared: DMatrix<f64>,
    /// In the order of the state: sources' parameters, then the shared ones.
    pub gradient: Vec<f64>,
    pub cost: f64,
    /// Cost of each image.
    pub costs: Vec<f64>,
}

/// The sources' parameters eliminated.
pub(super) struct Eliminated {
    pub factor: Factor,
    /// The inverse of the sources' matrix times `cross`, and in the last column times their gradient.
    pub gain: Vec<f64>,
    pub equations: NormalEquations,
}

impl Arrow {
    pub(super) fn own_count(&self) -> usize {
        self.order.len()
    }

    pub(super) fn eliminated(&self, damping: f64) -> Eliminated {
        let (n, p) = (self.own_count(), self.shared.nrows());
        let factor = self.own.factor(damping);
        let mut gain = vec![0.0; n * (p + 1)];
        for (i, &at) in self.order.iter().enumerate() {
            gain[at * (p + 1)..at * (p + 1) + p].copy_from_slice(&self.cross[at * p..(at + 1) * p]);
            gain[at * (p + 1) + p] = self.gradient[i];
        }
        factor.solve(&mut gain, p + 1);
        let mut reduced = self.shared.clone();
        let mut gradient = self.gradient[n..].to_vec();
        for i in 0..p {
            reduced[(i, i)] *= 1.0 + damping;
        }
        for row in 0..n {
            let (cross, gain) = (&self.cross[row * p..(row + 1) * p], &gain[row * (p + 1)..]);
            for (i, c) in cross.iter().enumerate().filter(|(_, c)| **c != 0.0) {
                gradient[i] -= c * gain[p];
                for j in i..p {
                    reduced[(i, j)] -= c * gain[j];
                }
            }
        }
        // What is left by rounding alone is no information.
        let lost: Vec<bool> = (0..p).map(|i| reduced[(i, i)] <= SHARED_RANK * self.shared[(i, i)]).collect();
        let element =
            |i: usize, j: usize| if lost[i] || lost[j] { 0.0 } else { reduced[(i.min(j), i.max(j))] };
        let equations = NormalEquations::from_elements(element, gradient, self.cost, 0);
        Eliminated { factor, gain, equations }
    }
}

impl Eliminated {
    /// Covariance of the shared parameters.
    pub(super) fn covariance(&self) -> Covariance {
        self.equations.covariance()
    }
}

impl System for Arrow {
    fn cost(&self) -> f64 {
        self.cost
    }

    fn solve(&self, damping: f64) -> DVector<f64> {
        let (n, p) = (self.own_count(), self.shared.nrows());
        let Eliminated { gain, equations, .. } = self.eliminated(damping);
        let shared = equations.solve(0.0);
        let mut delta = DVector::zeros(n + p);
        for (i, &at) in self.order.iter().enumerate() {
            let gain = &gain[at * (p + 1)..(at + 1) * (p + 1)];
            let moved: f64 = gain.iter().zip(shared.iter()).map(|(g, s)| g * s).sum();
            delta[i] = -(gain[p] + moved);
        }
        delta.rows_mut(n, p).copy_from(&shared);
        delta
    }

    fn decrease(&self, delta: &DVector<f64>) -> f64 {
        let (n, p) = (self.own_count(), self.shared.nrows());
        let mut own = vec![0.0; n];
        for (i, &at) in self.order.iter().enumerate() {
            own[at] = delta[i];
        }
        let shared = delta.rows(n, p).into_owned();
        let product = self.own.multiply(&own);
        let mut quadratic: f64 = own.iter().zip(&product).map(|(a, b)| a * b).sum();
        quadratic += shared.dot(&(&self.shared * &shared));
        for (row, value) in own.iter().enumerate() {
            let cross = &self.cross[row * p..(row + 1) * p];
            quadratic += 2.0 * value * cross.iter().zip(shared.iter()).map(|(c, s)| c * s).sum::<f64>();
        }
        let slope: f64 = self.gradient.iter().zip(delta.iter()).map(|(g, d)| g * d).sum();
        -(slope + 0.5 * quadratic)
    }
}
