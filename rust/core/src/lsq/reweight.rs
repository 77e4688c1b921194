//! The robust loop: fits a problem whose residuals are weighted by their size.
//!
//! The loop alternates weighting the residuals and a step at these weights (iteratively reweighted least
//! squares, Holland & Welsch 1977). [`RobustFit::settle`] uses a [`Loss`] until the scale of the residuals
//! settles, which limits the influence of outliers. [`RobustFit::clip`] then excludes residuals that are too
//! large, or includes them again, until neither the set of inliers nor their weights change. The problem
//! defines the scale, over all data or a part of them, and which residuals are too large.

use super::{Loss, Options, Problem, minimize};

/// How residuals are weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// By a loss, which excludes none.
    Loss(Loss),
    /// By clipping: residuals that are too large are excluded.
    Clip,
}

/// Result of [`Robust::weigh`].
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed<S> {
    /// The scales by which the residuals were weighted.
    pub scales: S,
    /// One scale for all residuals.
    pub overall: f64,
    /// Largest change of any weight; infinite if the set of inliers changed, or if there were no weights.
    pub change: f64,
}

/// A least-squares problem that weights its residuals.
pub trait Robust {
    /// All fitted quantities.
    type State: Clone;
    /// Scales of the residuals.
    type Scales;
    /// The problem at fixed weights.
    type Problem<'a>: Problem<State = Self::State>
    where
        Self: 'a;
    /// Error that ends a fit early.
    type Error;

    /// The problem at the present weights of the residuals.
    fn problem(&self) -> Self::Problem<'_>;

    /// The scales for clipping, if they need not be measured.
    fn known_scales(&self) -> Option<Self::Scales> {
        None
    }

    /// Weights every residual at a state by its size over the scale: the given one, or one measured at that
    /// state.
    fn weigh(
        &mut self,
        state: &Self::State,
        scales: Option<Self::Scales>,
        weighting: Weighting,
    ) -> Weighed<Self::Scales>;

    /// Receives the number of steps taken so far, before the first step at new weights; an error ends the
    /// fit.
    fn check(&mut self, iterations: usize) -> Result<(), Self::Error>;
}

/// Options of the robust loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustOptions {
    /// The loss that is used until the scale settles.
    pub loss: Loss,
    /// Maximum number of weightings until then.
    pub max_reweights: usize,
    /// Number of steps between two weightings. While the weights still change, more than one step is wasted.
    pub steps_per_weighting: usize,
    /// The scale has settled when it changes by less than this fraction.
    pub scale_tolerance: f64,
    /// A scale up to this value is rounding error, and has settled.
    pub smallest_scale: f64,
    /// Maximum rounds of clipping. The sets of inliers settle in two or three rounds, their weights in ten or
    /// twenty.
    pub max_clips: usize,
    /// Rounds of clipping in which the scales may change. Later they stay fixed, so that two sets of inliers
    /// cannot alternate for ever.
    pub scaling_rounds: usize,
    /// The weights have settled when they change by less than this between two rounds.
    pub weight_tolerance: f64,
    /// Maximum number of steps in total.
    pub max_iterations: usize,
}

impl Default for RobustOptions {
    fn default() -> Self {
        Self {
            loss: Loss::GemanMcClure,
            max_reweights: 12,
            steps_per_weighting: 1,
            scale_tolerance: 0.02,
            smallest_scale: 0.0,
            max_clips: 60,
            scaling_rounds: 6,
            weight_tolerance: 1e-5,
            max_iterations: 200,
        }
    }
}

/// A robust fit in progress.
#[derive(Debug, Clone)]
pub struct RobustFit<P: Robust> {
    /// The problem, with the present weights of its residuals.
    pub problem: P,
    /// Present state of the fit.
    pub state: P::State,
    /// Number of steps tried so far.
    pub iterations: usize,
    /// Whether steps and weights settled in [`Self::clip`].
    pub converged: bool,
    options: RobustOptions,
}

impl<P: Robust> RobustFit<P> {
    /// A fit that starts from a state.
    pub fn new(problem: P, start: P::State, options: RobustOptions) -> Self {
        Self { problem, state: start, iterations: 0, converged: false, options }
    }

    /// Fits with a robust loss until the scale of the residuals settles.
    pub fn settle(&mut self) -> Result<(), P::Error> {
        let RobustOptions { loss, max_reweights, scale_tolerance, smallest_scale, .. } = self.options;
        let mut previous = f64::INFINITY;
        for _ in 0..max_reweights {
            let overall = self.problem.weigh(&self.state, None, Weighting::Loss(loss)).overall;
            self.minimize(self.options.steps_per_weighting)?;
            if (overall / previous - 1.0).abs() < scale_tolerance || overall <= smallest_scale {
                break;
            }
            previous = overall;
        }
        Ok(())
    }

    /// Refits the inliers until neither the set of inliers nor their weights change.
    pub fn clip(&mut self) -> Result<(), P::Error> {
        let RobustOptions { max_clips, scaling_rounds, weight_tolerance, max_iterations, .. } = self.options;
        let mut scales = self.problem.known_scales();
        let known = scales.is_some();
        for round in 0..max_clips {
            let kept = scales.filter(|_| known || round >= scaling_rounds);
            let weighed = self.problem.weigh(&self.state, kept, Weighting::Clip);
            scales = Some(weighed.scales);
            let settled = weighed.change < weight_tolerance;
            let steps = if settled { max_iterations } else { self.options.steps_per_weighting };
            let converged = self.minimize(steps)?;
            self.converged = settled && converged;
            if settled || self.iterations >= max_iterations {
                break;
            }
        }
        Ok(())
    }

    /// Takes up to `steps` steps at the present weights; true if no more are needed.
    fn minimize(&mut self, steps: usize) -> Result<bool, P::Error> {
        self.problem.check(self.iterations)?;
        let left = self.options.max_iterations.saturating_sub(self.iterations);
        let options = Options { max_iterations: steps.min(left), ..Options::default() };
        let outcome = minimize(&self.problem.problem(), self.state.clone(), &options);
        self.state = outcome.state;
        self.iterations += outcome.iterations;
        Ok(outcome.converged)
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DVector;

    use super::*;
    use crate::lsq::NormalEquations;
    use crate::lsq::robust::normal_scale;

    /// A straight line through points, some of which are wrong.
    struct Line {
        points: Vec<(f64, f64)>,
        weights: Vec<f64>,
        checks: usize,
    }

    struct Weighted<'a>(&'a Line);

    impl Problem for Weighted<'_> {
        type State = [f64; 2];
        type System = NormalEquations;

        fn cost(&self, state: &[f64; 2]) -> f64 {
            self.linearize(state).cost()
        }

        fn linearize(&self, &[slope, offset]: &[f64; 2]) -> NormalEquations {
            let mut equations = NormalEquations::new(2);
            for (&(x, y), &weight) in self.0.points.iter().zip(&self.0.weights) {
                equations.add(&[x, 1.0], slope * x + offset - y, weight);
            }
            equations
        }

        fn step(&self, state: &[f64; 2], _: &NormalEquations, delta: &DVector<f64>) -> Option<[f64; 2]> {
            Some([state[0] + delta[0], state[1] + delta[1]])
        }
    }

    impl Robust for Line {
        type State = [f64; 2];
        type Scales = f64;
        type Problem<'a> = Weighted<'a>;
        type Error = &'static str;

        fn problem(&self) -> Weighted<'_> {
            Weighted(self)
        }

        fn weigh(
            &mut self,
            &[slope, offset]: &[f64; 2],
            scales: Option<f64>,
            weighting: Weighting,
        ) -> Weighed<f64> {
            let lengths: Vec<f64> = self.points.iter().map(|(x, y)| (slope * x + offset - y).abs()).collect();
            let scale = scales.unwrap_or_else(|| normal_scale(&mut lengths.clone()));
            let weight = |length: &f64| match weighting {
                Weighting::Loss(loss) => loss.weight(length / scale),
                Weighting::Clip => f64::from(u8::from(*length < 3.0 * scale)),
            };
            let weights: Vec<f64> = lengths.iter().map(weight).collect();
            let differ = self.weights != weights;
            self.weights = weights;
            Weighed { scales: scale, overall: scale, change: if differ { f64::INFINITY } else { 0.0 } }
        }

        fn check(&mut self, _: usize) -> Result<(), &'static str> {
            self.checks += 1;
            if self.points.len() < 3 { Err("too few") } else { Ok(()) }
        }
    }

    fn line(points: usize) -> RobustFit<Line> {
        let point = |k: usize| {
            let x = k as f64;
            let noise = ((k * 37) % 19) as f64 / 19.0 - 0.5;
            (x, 2.0 * x + 1.0 + 0.1 * noise + if k.is_multiple_of(3) { 30.0 } else { 0.0 })
        };
        let problem = Line { points: (0..points).map(point).collect(), weights: vec![], checks: 0 };
        RobustFit::new(problem, [0.0, 0.0], RobustOptions::default())
    }

    #[test]
    fn a_third_of_outliers_is_left_out() {
        let mut fit = line(90);
        fit.settle().unwrap();
        fit.clip().unwrap();
        assert!(fit.converged && fit.problem.checks > 3);
        assert!((fit.state[0] - 2.0).abs() < 1e-3 && (fit.state[1] - 1.0).abs() < 0.02, "{:?}", fit.state);
        assert!(fit.problem.weights.iter().enumerate().all(|(k, w)| (*w > 0.0) != k.is_multiple_of(3)));
    }

    #[test]
    fn the_problem_may_end_it() {
        assert_eq!(line(2).settle(), Err("too few"));
    }

    #[test]
    fn steps_that_run_out_are_no_convergence() {
        let mut fit = line(90);
        fit.options.max_iterations = 2;
        fit.settle().unwrap();
        fit.clip().unwrap();
        assert!(!fit.converged && fit.iterations >= 2);
    }
}
