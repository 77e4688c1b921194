//! Normal equations of blocks that mostly do not touch, such as sources or exposures, and of shared
//! parameters.

use nalgebra::{DMatrix, DVector};

use super::sparse::{BlockMatrix, Factor};
use super::{Covariance, NormalEquations, System};

/// Smallest fraction of a shared parameter's information that must remain once the blocks are known.
const SHARED_RANK: f64 = 1e-11;
/// Smallest damping of the blocks in [`System::solve`]. A well determined block hardly changes by it, but a
/// blend with nearly indistinguishable parts does not diverge. Such blends are fitted in clusters.
const LEAST_DAMPING: f64 = 1e-3;

/// Normal equations, with the rows and columns of the blocks before those of the shared parameters.
#[derive(Debug, Clone)]
pub(crate) struct Arrow {
    pub own: BlockMatrix,
    /// Which of the blocks' parameters are held fixed, in the order of elimination; empty if none is.
    pub held: Vec<bool>,
    /// Index of each of the blocks' parameters in the order of elimination.
    pub order: Vec<usize>,
    /// First parameter of each block, and last the first shared parameter, in the order of the state.
    pub firsts: Vec<usize>,
    /// Matrix elements of the blocks' parameters (rows, in the order of elimination) with the shared ones
    /// (columns).
    pub cross: Vec<f64>,
    pub shared: DMatrix<f64>,
    /// Gradient in the order of the state: blocks' parameters, then the shared ones.
    pub gradient: Vec<f64>,
    pub cost: f64,
    /// Cost of each part of the data, such as an image; may be empty.
    pub costs: Vec<f64>,
}

/// The equations with the blocks' parameters eliminated.
pub(crate) struct Eliminated {
    pub factor: Factor,
    /// The inverse of the blocks' matrix times `cross`, and, in the last column, times the blocks' gradient.
    pub gain: Vec<f64>,
    pub equations: NormalEquations,
}

impl Arrow {
    pub(crate) fn own_count(&self) -> usize {
        self.order.len()
    }

    /// The ranges of the parameters of every block, and last of the shared parameters.
    pub(crate) fn parts(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let ends = self.firsts[1..].iter().copied().chain([self.gradient.len()]);
        self.firsts.iter().zip(ends).map(|(&first, end)| first..end)
    }

    /// Holds a shared parameter fixed, because the data contain no information about it.
    pub(crate) fn hold_shared(&mut self, k: usize) {
        let (n, p) = (self.own_count(), self.shared.nrows());
        self.cross.iter_mut().skip(k).step_by(p).for_each(|cross| *cross = 0.0);
        self.shared.row_mut(k).fill(0.0);
        self.shared.column_mut(k).fill(0.0);
        self.gradient[n + k] = 0.0;
    }

    /// Slope of the cost along a step, for each of the [`parts`](Self::parts).
    pub(crate) fn slopes(&self, step: &DVector<f64>) -> Vec<f64> {
        let slope = |k: usize| self.gradient[k] * step[k];
        self.parts().map(|part| part.map(slope).sum()).collect()
    }

    /// The undamped step.
    pub(crate) fn whole_step(&self) -> DVector<f64> {
        self.step(&self.eliminated(0.0, 0.0))
    }

    /// The step of all parameters, from the equations with the blocks eliminated.
    pub(crate) fn step(&self, Eliminated { gain, equations, .. }: &Eliminated) -> DVector<f64> {
        let (n, p) = (self.own_count(), self.shared.nrows());
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

    /// Solution for another right-hand side in the order of the state, given the inverse of the shared
    /// equations.
    pub(crate) fn solve_with(
        &self,
        eliminated: &Eliminated,
        shared: &DMatrix<f64>,
        right: &[f64],
    ) -> Vec<f64> {
        let (n, p) = (self.own_count(), self.shared.nrows());
        let mut own = vec![0.0; n];
        let mut left = DVector::from_column_slice(&right[n..]);
        let gain = |at: usize| &eliminated.gain[at * (p + 1)..at * (p + 1) + p];
        for (&at, value) in self.order.iter().zip(right) {
            own[at] = *value;
            left.iter_mut().zip(gain(at)).for_each(|(left, gain)| *left -= gain * value);
        }
        eliminated.factor.solve(&mut own, 1);
        let shared = shared * left;
        let moved = |at: usize| gain(at).iter().zip(shared.iter()).map(|(g, s)| g * s).sum::<f64>();
        self.order.iter().map(|&at| own[at] - moved(at)).chain(shared.iter().copied()).collect()
    }

    /// Eliminates the blocks, with one damping for the shared parameters and one for those of the blocks.
    pub(crate) fn eliminated(&self, damping: f64, own_damping: f64) -> Eliminated {
        let (n, p) = (self.own_count(), self.shared.nrows());
        let factor = self.own.factor(own_damping, &self.held);
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
        // A remainder that is only rounding error is no information.
        let lost: Vec<bool> = (0..p).map(|i| reduced[(i, i)] <= SHARED_RANK * self.shared[(i, i)]).collect();
        let element =
            |i: usize, j: usize| if lost[i] || lost[j] { 0.0 } else { reduced[(i.min(j), i.max(j))] };
        let equations = NormalEquations::from_elements(element, gradient, self.cost, 0);
        Eliminated { factor, gain, equations }
    }
}

impl Eliminated {
    /// Covariance of the shared parameters.
    pub(crate) fn covariance(&self) -> Covariance {
        self.equations.covariance()
    }
}

impl System for Arrow {
    fn cost(&self) -> f64 {
        self.cost
    }

    fn solve(&self, damping: f64) -> DVector<f64> {
        self.step(&self.eliminated(damping, damping.max(LEAST_DAMPING)))
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

    fn largest_decrease(&self, delta: &DVector<f64>) -> f64 {
        0.5 * self.slopes(delta).into_iter().map(f64::abs).fold(0.0, f64::max)
    }

    fn moves_few_groups(&self, delta: &DVector<f64>, limit: f64, few: f64) -> bool {
        let mut slopes = self.slopes(delta);
        let shared = slopes.pop().map_or(0.0, f64::abs);
        let moving = slopes.iter().map(|slope| slope.abs()).filter(|slope| 0.5 * slope > limit);
        let (count, gain) = moving.fold((0_usize, 0.0), |(count, gain), slope| (count + 1, gain + slope));
        count as f64 <= few * slopes.len() as f64 && shared < gain
    }
}
