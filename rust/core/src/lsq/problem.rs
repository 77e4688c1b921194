//! The interface of a problem that [`minimize`](super::minimize()) solves.

use nalgebra::DVector;

use super::NormalEquations;

/// A least-squares problem.
pub trait Problem {
    /// Everything that is fitted; a step need not be an addition.
    type State: Clone;
    /// Normal equations about a state, and whatever [`Problem::step`] needs beside them.
    type System: System;

    /// Half the weighted sum of squares at a state; infinite outside the model's domain.
    fn cost(&self, state: &Self::State) -> f64;

    /// Normal equations about a state; their cost is that of the state.
    fn linearize(&self, state: &Self::State) -> Self::System;

    /// The state moved by `delta`, in the order of the normal equations; `None` if there is no such state.
    fn step(&self, state: &Self::State, system: &Self::System, delta: &DVector<f64>) -> Option<Self::State>;

    /// Takes back normal equations about a state at which the fit ends, if somebody may ask for them again.
    fn keep(&self, _: &Self::State, _: Self::System) {}

    /// A state between one and another that was tried, of which each group of parameters goes as far as its slope at both
    /// ends tells; `None` if the problem does not know.
    fn shortened(&self, _: &Self::State, _: &Self::System, _: &Self::State) -> Option<Self::State> {
        None
    }
}

/// A problem linearised about a state.
pub trait System {
    /// The cost there.
    fn cost(&self) -> f64;

    /// The step of the parameters that are solved for, with this damping.
    fn solve(&self, damping: f64) -> DVector<f64>;

    /// By how much the linearised cost falls with a step, that of parameters that were eliminated included.
    fn decrease(&self, delta: &DVector<f64>) -> f64;

    /// The largest part of [`decrease`](Self::decrease) that is due to one group of parameters, where there are groups:
    /// whether a step matters is asked of each of them, or many at rest would hide one that is not.
    fn largest_decrease(&self, delta: &DVector<f64>) -> f64 {
        self.decrease(delta)
    }

    /// Whether a step promises more than a limit to no more than this part of all groups of parameters, and these gain more
    /// by it than what they share.
    fn matters_to_few(&self, _: &DVector<f64>, _: f64, _: f64) -> bool {
        false
    }
}

impl System for NormalEquations {
    fn cost(&self) -> f64 {
        self.cost()
    }

    fn solve(&self, damping: f64) -> DVector<f64> {
        self.solve(damping)
    }

    fn decrease(&self, delta: &DVector<f64>) -> f64 {
        self.decrease(delta)
    }
}
