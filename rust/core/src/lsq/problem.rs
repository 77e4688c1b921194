//! The interface of a problem that [`minimize`](super::minimize()) solves.

use nalgebra::DVector;

use super::NormalEquations;

/// A least-squares problem.
pub trait Problem {
    /// All fitted quantities; a step need not be an addition.
    type State: Clone;
    /// Normal equations about a state, and all other data that [`Problem::step`] needs.
    type System: System;

    /// Half the weighted sum of squares at a state; infinite outside the model's domain.
    fn cost(&self, state: &Self::State) -> f64;

    /// Normal equations about a state; they include its cost.
    fn linearize(&self, state: &Self::State) -> Self::System;

    /// The state moved by `delta`, in the order of the normal equations; `None` if the result is not valid.
    fn step(&self, state: &Self::State, system: &Self::System, delta: &DVector<f64>) -> Option<Self::State>;

    /// Receives the normal equations about the state at which the fit ends, in case they are needed again.
    fn keep(&self, _: &Self::State, _: Self::System) {}

    /// A state between the first one and another that was tried; `None` if the problem does not provide it.
    ///
    /// Each group of parameters moves as far as its slopes at both ends suggest.
    fn shortened(&self, _: &Self::State, _: &Self::System, _: &Self::State) -> Option<Self::State> {
        None
    }
}

/// A problem linearised about a state.
pub trait System {
    /// Cost of that state.
    fn cost(&self) -> f64;

    /// The step of the parameters that are solved for, with this damping.
    fn solve(&self, damping: f64) -> DVector<f64>;

    /// Decrease of the linearised cost by a step, including that by eliminated parameters.
    fn decrease(&self, delta: &DVector<f64>) -> f64;

    /// The largest part of [`decrease`](Self::decrease) that is due to one group of parameters, where there
    /// are groups.
    ///
    /// A step is tested for each group, because many groups at rest would hide one that is not.
    fn largest_decrease(&self, delta: &DVector<f64>) -> f64 {
        self.decrease(delta)
    }

    /// Whether a step gains more than a limit for at most this fraction of the groups of parameters, and
    /// these groups gain more by it than the shared parameters.
    fn moves_few_groups(&self, _: &DVector<f64>, _: f64, _: f64) -> bool {
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
