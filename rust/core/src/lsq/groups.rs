//! Problems whose data fall into groups with separate parameters: frames with attitudes, objects with
//! positions.
//!
//! Each group's own parameters are eliminated (Schur complement), so that only the shared parameters are
//! solved for. The work grows with the number of groups, but the memory hardly does. Groups are reduced in
//! parallel, always in the same chunks, and the sums of the chunks are added in order. Therefore results do
//! not depend on the number of threads.

use nalgebra::DVector;
use rayon::prelude::*;

use super::normal::Eliminated;
use super::{NormalEquations, Problem, System};

/// Maximum number of chunks in which items are reduced: enough to keep all cores busy.
const MAX_CHUNKS: usize = 64;

/// Reduces items in parallel, in chunks that depend only on the number of items; returns one result per
/// chunk, in order.
pub fn in_chunks<T: Sync, R: Send>(items: &[T], reduce: impl Fn(&[T]) -> R + Sync + Send) -> Vec<R> {
    items.par_chunks(items.len().div_ceil(MAX_CHUNKS).max(1)).map(reduce).collect()
}

/// A least-squares problem of groups. It is a [`Problem`] whose state is a [`Joint`] one.
pub trait Grouped: Sync {
    /// Parameters that all groups share.
    type Shared: Clone + Sync;
    /// Parameters of one group.
    type Own: Clone + Send + Sync;
    /// Number of each group's own parameters.
    const OWN: usize;

    /// Number of the shared parameters.
    fn parameters(&self) -> usize;

    /// Half the weighted sum of squares of a group; infinite outside the model's domain.
    fn group_cost(&self, group: usize, shared: &Self::Shared, own: &Self::Own) -> f64;

    /// Normal equations of a group.
    fn group_equations(&self, group: usize, shared: &Self::Shared, own: &Self::Own) -> GroupEquations;

    /// The shared parameters moved by a step; `None` if the result is not valid.
    fn step_shared(&self, shared: &Self::Shared, delta: &DVector<f64>) -> Option<Self::Shared>;

    /// Parameters of a group moved by a step.
    fn step_own(&self, own: &Self::Own, delta: &DVector<f64>) -> Self::Own;
}

/// Normal equations of the shared parameters that a group depends on, followed by its own.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupEquations {
    /// The equations.
    pub equations: NormalEquations,
    /// Indices of the shared parameters in the equations, in their order; `None` for all of them.
    pub shared: Option<Vec<usize>>,
}

impl GroupEquations {
    /// Eliminates the group's `own` parameters, and adds the remaining equations to the sum over all groups.
    ///
    /// `None` if these parameters are not determined: nothing is added.
    pub fn eliminate_into(&self, sum: &mut NormalEquations, own: usize) -> Option<Eliminated> {
        let (equations, eliminated) = self.equations.eliminate(own)?;
        Some(match &self.shared {
            None => {
                sum.merge(&equations);
                eliminated
            }
            Some(places) => {
                sum.merge_at(&equations, places);
                eliminated.among(places.clone())
            }
        })
    }
}

/// A state of a [`Grouped`] problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint<S, O> {
    /// Parameters that all groups share.
    pub shared: S,
    /// Parameters of each group.
    pub own: Vec<O>,
}

/// Normal equations of the shared parameters, and each group's own parameters as functions of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduced {
    /// The sum over all groups.
    pub shared: NormalEquations,
    /// Own parameters of each group; `None` for groups whose data do not determine them, which are ignored.
    pub groups: Vec<Option<Eliminated>>,
    decrease: f64,
}

impl Reduced {
    fn new(parameters: usize) -> Self {
        Self { shared: NormalEquations::new(parameters), groups: Vec::new(), decrease: 0.0 }
    }

    /// Adds the next group.
    fn push(&mut self, group: &GroupEquations, own: usize) {
        let eliminated = group.eliminate_into(&mut self.shared, own);
        self.decrease += eliminated.as_ref().map_or(0.0, Eliminated::decrease);
        self.groups.push(eliminated);
    }

    /// Appends all groups of another sum.
    fn append(&mut self, other: Self) {
        self.shared.merge(&other.shared);
        self.groups.extend(other.groups);
        self.decrease += other.decrease;
    }
}

impl System for Reduced {
    fn cost(&self) -> f64 {
        self.shared.cost()
    }

    fn solve(&self, damping: f64) -> DVector<f64> {
        self.shared.solve(damping)
    }

    fn decrease(&self, delta: &DVector<f64>) -> f64 {
        self.decrease + self.shared.decrease(delta)
    }
}

impl<P: Grouped> Problem for P {
    type State = Joint<P::Shared, P::Own>;
    type System = Reduced;

    fn cost(&self, state: &Self::State) -> f64 {
        let cost = |(group, own): (usize, &P::Own)| self.group_cost(group, &state.shared, own);
        let costs: Vec<f64> = state.own.par_iter().enumerate().map(cost).collect();
        costs.iter().sum()
    }

    fn linearize(&self, state: &Self::State) -> Reduced {
        let indices: Vec<usize> = (0..state.own.len()).collect();
        let chunks = in_chunks(&indices, |chunk| {
            let mut sum = Reduced::new(self.parameters());
            for &group in chunk {
                let equations = self.group_equations(group, &state.shared, &state.own[group]);
                sum.push(&equations, P::OWN);
            }
            sum
        });
        let mut total = Reduced::new(self.parameters());
        for chunk in chunks {
            total.append(chunk);
        }
        total
    }

    fn step(&self, state: &Self::State, system: &Reduced, delta: &DVector<f64>) -> Option<Self::State> {
        let shared = self.step_shared(&state.shared, delta)?;
        let moved = |(own, group): (&P::Own, &Option<Eliminated>)| match group {
            None => own.clone(),
            Some(group) => self.step_own(own, &group.step(delta)),
        };
        Some(Joint { shared, own: state.own.iter().zip(&system.groups).map(moved).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsq::{Options, minimize};

    /// Levels of images that measure objects of unknown value: y = level + value.
    struct Levels {
        /// For each object, the images that show it and the values they measure.
        objects: Vec<Vec<(usize, f64)>>,
        images: usize,
        sparse: bool,
    }

    impl Grouped for Levels {
        type Shared = Vec<f64>;
        type Own = f64;
        const OWN: usize = 1;

        fn parameters(&self) -> usize {
            // The first image's level is 0.
            self.images - 1
        }

        fn group_cost(&self, group: usize, shared: &Vec<f64>, own: &f64) -> f64 {
            self.group_equations(group, shared, own).equations.cost()
        }

        fn group_equations(&self, group: usize, levels: &Vec<f64>, own: &f64) -> GroupEquations {
            let seen: Vec<usize> = self.objects[group].iter().map(|(image, _)| *image).collect();
            let places: Vec<usize> =
                (0..self.images - 1).filter(|k| !self.sparse || seen.contains(&(k + 1))).collect();
            let mut equations = NormalEquations::new(places.len() + 1);
            for &(image, y) in &self.objects[group] {
                let level = if image == 0 { 0.0 } else { levels[image - 1] };
                let mut row: Vec<f64> = places.iter().map(|k| f64::from(u8::from(k + 1 == image))).collect();
                row.push(1.0);
                equations.add(&row, level + own - y, 1.0);
            }
            GroupEquations { equations, shared: self.sparse.then_some(places) }
        }

        fn step_shared(&self, levels: &Vec<f64>, delta: &DVector<f64>) -> Option<Vec<f64>> {
            Some(levels.iter().zip(delta).map(|(level, d)| level + d).collect())
        }

        fn step_own(&self, own: &f64, delta: &DVector<f64>) -> f64 {
            own + delta[0]
        }
    }

    fn levels(sparse: bool) -> Levels {
        let truth = [0.0, 0.5, -1.0, 2.0, 0.25];
        let object = |k: usize| {
            let images = [k % 5, (k + 1) % 5, (2 * k + 3) % 5];
            let noise = |image: usize| ((7 * k + 3 * image) % 11) as f64 * 0.01;
            images.map(|image| (image, truth[image] + k as f64 + noise(image))).to_vec()
        };
        Levels { objects: (0..200).map(object).collect(), images: 5, sparse }
    }

    #[test]
    fn groups_that_name_their_parameters_give_the_same() {
        let start = Joint { shared: vec![0.0; 4], own: vec![0.0; 200] };
        let [dense, sparse] = [false, true].map(|sparse| {
            let problem = levels(sparse);
            let outcome = minimize(&problem, start.clone(), &Options::default());
            assert!(outcome.converged && outcome.iterations <= 3, "{outcome:?}");
            let system = problem.linearize(&outcome.state);
            let kept = system.shared.covariance().matrix;
            let group = system.groups[7].as_ref().unwrap();
            let (own, cross) = (group.covariance(&kept), group.cross_covariance(&kept));
            (outcome.state, own[(0, 0)], cross)
        });
        for (a, b) in
            dense.0.shared.iter().chain(&dense.0.own).zip(sparse.0.shared.iter().chain(&sparse.0.own))
        {
            assert!((a - b).abs() < 1e-12);
        }
        assert!((dense.1 - sparse.1).abs() < 1e-14 && (dense.2 - sparse.2).abs().max() < 1e-14);
        assert!((dense.0.shared[2] - 2.0).abs() < 0.05);
    }

    #[test]
    fn the_decrease_counts_what_groups_gain() {
        let problem = levels(false);
        let start = Joint { shared: vec![0.0; 4], own: vec![0.0; 200] };
        let system = problem.linearize(&start);
        let delta = system.shared.solve(0.0);
        let next = problem.step(&start, &system, &delta).unwrap();
        let gained = problem.cost(&start) - problem.cost(&next);
        assert!((system.decrease(&delta) / gained - 1.0).abs() < 1e-12);
    }
}
