//! The minimisation loop: Levenberg-Marquardt on the normal equations of a [`Problem`].

use super::{Problem, System};

/// Factor by which the damping grows after a bad step, and falls after a good one.
const DAMPING_FACTOR: f64 = 10.0;
/// Largest damping. If steps with this damping do not help, none will.
const LARGEST_DAMPING: f64 = 1e10;

/// A step is too long if the cost falls by less than this fraction of the predicted decrease.
const EXPECTED_GAIN: f64 = 0.5;

/// Options of [`minimize`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Maximum number of accepted steps; rejected steps are not counted.
    pub max_iterations: usize,
    /// The fit has converged when the predicted decrease of the cost is less than this fraction of the cost.
    pub tolerance: f64,
    /// The fit has also converged when the predicted decrease is less than the square of this value, for each
    /// group of parameters where there are groups. The value is the size of a residual that is only rounding
    /// error.
    pub resolution: f64,
    /// Damping after the first rejected step; steps are undamped (Gauss-Newton) until then.
    pub first_damping: f64,
    /// Whether steps that gain much less than predicted are shortened ([`Problem::shortened`]). Where
    /// residuals are curved, this avoids repeated overshooting; along a curved valley, it costs some steps.
    pub shorten: bool,
    /// The fit ends without convergence when an undamped step matters to at most this fraction of the groups
    /// of parameters. It is better to fit these groups separately than to take further steps of all
    /// parameters.
    pub separate_fraction: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_iterations: 50,
            tolerance: 1e-12,
            resolution: 1e-9,
            first_damping: 1e-6,
            shorten: false,
            separate_fraction: 0.0,
        }
    }
}

/// Result of [`minimize`], which stops at once if the start lies outside the domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<S> {
    /// Best state found.
    pub state: S,
    /// Cost of that state; infinite if no steps were allowed.
    pub cost: f64,
    /// Number of steps tried.
    pub iterations: usize,
    /// False when the steps ran out, when none helped although the gradient is not zero, or when
    /// [`Options::separate_fraction`] ended the fit.
    pub converged: bool,
}

/// One linearisation of [`minimize_watched`], as it is passed to `watch`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// Number of steps tried so far.
    pub steps: usize,
    /// Cost of the best state.
    pub cost: f64,
    /// Damping of the next step.
    pub damping: f64,
}

/// Minimises the cost of a problem by Levenberg-Marquardt steps.
///
/// The damping is added to the diagonal of the scaled equations (Marquardt 1963).
pub fn minimize<P: Problem>(problem: &P, start: P::State, options: &Options) -> Outcome<P::State> {
    match minimize_watched(problem, start, options, |_| Ok::<(), std::convert::Infallible>(())) {
        Ok(outcome) => outcome,
        Err(never) => match never {},
    }
}

/// Like [`minimize`], but calls `watch` after every linearisation; an error from it ends the fit.
pub fn minimize_watched<P: Problem, E>(
    problem: &P,
    start: P::State,
    options: &Options,
    mut watch: impl FnMut(&Iteration) -> Result<(), E>,
) -> Result<Outcome<P::State>, E> {
    let mut best = Outcome { state: start, cost: f64::INFINITY, iterations: 0, converged: false };
    let mut damping = 0.0;
    for _ in 0..options.max_iterations {
        let system = problem.linearize(&best.state);
        best.cost = system.cost();
        watch(&Iteration { steps: best.iterations, cost: best.cost, damping })?;
        if !best.cost.is_finite() {
            break;
        }
        loop {
            let delta = system.solve(damping);
            let promised = system.decrease(&delta);
            let limit = options.tolerance * best.cost + options.resolution * options.resolution;
            let negligible = |promised: f64| promised <= limit;
            let at_rest = negligible(promised) || negligible(system.largest_decrease(&delta));
            best.converged = damping < 1.0 && at_rest;
            let alone = !at_rest && damping == 0.0 && options.separate_fraction > 0.0;
            if alone && system.moves_few_groups(&delta, limit, options.separate_fraction) {
                problem.keep(&best.state, system);
                return Ok(best);
            }
            best.iterations += 1;
            let tried = problem.step(&best.state, &system, &delta).map(|state| (problem.cost(&state), state));
            let too_long = |(cost, _): &(f64, P::State)| best.cost - cost < EXPECTED_GAIN * promised;
            let shorter = tried
                .as_ref()
                .filter(|next| options.shorten && !best.converged && too_long(next))
                .and_then(|(_, state)| {
                    let state = problem.shortened(&best.state, &system, state)?;
                    Some((problem.cost(&state), state))
                });
            let next = match (tried, shorter) {
                (Some(tried), Some(shorter)) if shorter.0 < tried.0 => Some(shorter),
                (tried, _) => tried,
            };
            if let Some((cost, state)) = next.filter(|(cost, _)| *cost <= best.cost) {
                (best.cost, best.state) = (cost, state);
                damping = if damping > options.first_damping { damping / DAMPING_FACTOR } else { 0.0 };
                break;
            }
            damping = options.first_damping.max(damping * DAMPING_FACTOR);
            if best.converged || damping > LARGEST_DAMPING {
                problem.keep(&best.state, system);
                return Ok(best);
            }
        }
        if best.converged {
            break;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use nalgebra::DVector;

    use super::*;
    use crate::lsq::NormalEquations;

    /// Residuals 10 (y - x²) and 1 - x: Rosenbrock's valley.
    struct Rosenbrock;

    impl Problem for Rosenbrock {
        type State = [f64; 2];
        type System = NormalEquations;

        fn cost(&self, state: &[f64; 2]) -> f64 {
            self.linearize(state).cost()
        }

        fn linearize(&self, &[x, y]: &[f64; 2]) -> NormalEquations {
            let mut equations = NormalEquations::new(2);
            equations.add(&[-20.0 * x, 10.0], 10.0 * (y - x * x), 1.0);
            equations.add(&[-1.0, 0.0], 1.0 - x, 1.0);
            equations
        }

        fn step(&self, state: &[f64; 2], _: &NormalEquations, delta: &DVector<f64>) -> Option<[f64; 2]> {
            Some([state[0] + delta[0], state[1] + delta[1]])
        }
    }

    #[test]
    fn finds_the_end_of_the_valley() {
        let outcome = minimize(&Rosenbrock, [-1.2, 1.0], &Options::default());
        assert!(outcome.converged && outcome.iterations < 50);
        assert!((outcome.state[0] - 1.0).abs() < 1e-8 && (outcome.state[1] - 1.0).abs() < 1e-8);
    }

    /// exp(-a t) sampled without noise; a < 0 is outside its domain.
    struct Decay;

    impl Problem for Decay {
        type State = f64;
        type System = NormalEquations;

        fn cost(&self, &a: &f64) -> f64 {
            if a < 0.0 { f64::INFINITY } else { self.linearize(&a).cost() }
        }

        fn linearize(&self, &a: &f64) -> NormalEquations {
            let mut equations = NormalEquations::new(1);
            for t in 0..20 {
                let t = f64::from(t) / 4.0;
                equations.add(&[-t * (-a * t).exp()], (-a * t).exp() - (-1.5 * t).exp(), 1.0);
            }
            equations
        }

        fn step(&self, state: &f64, _: &NormalEquations, delta: &DVector<f64>) -> Option<f64> {
            Some(state + delta[0])
        }
    }

    #[test]
    fn stays_inside_the_domain() {
        // The undamped first step from 6 overshoots.
        let outcome = minimize(&Decay, 6.0, &Options::default());
        assert!(outcome.converged);
        assert!((outcome.state - 1.5).abs() < 1e-8);
    }

    #[test]
    fn steps_that_run_out_are_reported() {
        let outcome =
            minimize(&Rosenbrock, [-1.2, 1.0], &Options { max_iterations: 2, ..Options::default() });
        assert!(!outcome.converged && outcome.iterations >= 2);
    }

    /// Separate residuals 1 - x for four parameters, the first with a weight of 10⁴, and the number of calls
    /// of `keep`.
    struct Separate(std::cell::Cell<usize>);

    struct Diagonal(NormalEquations);

    impl System for Diagonal {
        fn cost(&self) -> f64 {
            self.0.cost()
        }

        fn solve(&self, damping: f64) -> DVector<f64> {
            self.0.solve(damping)
        }

        fn decrease(&self, delta: &DVector<f64>) -> f64 {
            self.0.decrease(delta)
        }

        fn moves_few_groups(&self, delta: &DVector<f64>, limit: f64, few: f64) -> bool {
            let gains = self.0.gradient().iter().zip(delta.iter()).map(|(g, d)| 0.5 * (g * d).abs());
            gains.filter(|gain| *gain > limit).count() as f64 <= few * delta.len() as f64
        }
    }

    impl Problem for Separate {
        type State = [f64; 4];
        type System = Diagonal;

        fn cost(&self, state: &[f64; 4]) -> f64 {
            self.linearize(state).cost()
        }

        fn linearize(&self, state: &[f64; 4]) -> Diagonal {
            let mut equations = NormalEquations::new(4);
            for (k, x) in state.iter().enumerate() {
                let mut row = [0.0; 4];
                row[k] = -1.0;
                equations.add(&row, 1.0 - x, if k == 0 { 1e4 } else { 1.0 });
            }
            Diagonal(equations)
        }

        fn keep(&self, _: &[f64; 4], _: Diagonal) {
            self.0.set(self.0.get() + 1);
        }

        fn step(&self, state: &[f64; 4], _: &Diagonal, delta: &DVector<f64>) -> Option<[f64; 4]> {
            Some(std::array::from_fn(|k| state[k] + delta[k]))
        }
    }

    #[test]
    fn it_leaves_what_matters_to_few() {
        let start = [0.97, 0.97, 0.97, 0.97];
        // The predicted decrease is 4.5 by the first parameter and 0.00045 by each of the others.
        for (resolution, separate_fraction, left) in [(0.1, 0.3, true), (0.1, 0.2, false), (0.01, 0.3, false)]
        {
            let problem = Separate(std::cell::Cell::new(0));
            let options = Options { resolution, separate_fraction, ..Options::default() };
            let outcome = minimize(&problem, start, &options);
            assert_eq!((!outcome.converged, outcome.state == start), (left, left));
            assert_eq!(problem.0.get(), usize::from(left));
        }
    }
}
