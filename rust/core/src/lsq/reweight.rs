//! The robust loop: a problem whose residuals are weighted by how large they are.
//!
//! In turn the residuals are weighted and a step is taken at these weights (iteratively reweighted least squares,
//! Holland & Welsch 1977). [`RobustFit::settle`] does so with a [`Loss`] until the scale of the residuals settles, which
//! takes the influence from outliers. [`RobustFit::clip`] then leaves out what is too far off, or takes it back in, until
//! neither the set of inliers nor their weights change. How large the scale is, over all data or a part of them, and what
//! is too far off, the problem tells.

use super::{Loss, Options, Problem, minimize};

/// How residuals are to be weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// By a loss, which leaves none out.
    Loss(Loss),
    /// For good: those that are too far off are left out.
    Clip,
}

/// Result of [`Robust::weigh`].
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed<S> {
    /// The scales by which the residuals were weighted.
    pub scales: S,
    /// One number for the scale of all of them.
    pub overall: f64,
    /// Largest change of any weight; infinite if others are left out than before, or there were no weights.
    pub change: f64,
}

/// A least-squares problem that weights its residuals.
pub trait Robust {
    /// Everything that is fitted.
    type State: Clone;
    /// Scales of the residuals.
    type Scales;
    /// The problem at fixed weights.
    type Problem<'a>: Problem<State = Self::State>
    where
        Self: 'a;
    /// Why a fit may end early.
    type Error;

    /// The problem at the weights that the residuals have.
    fn problem(&self) -> Self::Problem<'_>;

    /// The scales by which to clip, if they need not be measured.
    fn known_scales(&self) -> Option<Self::Scales> {
        None
    }

    /// Gives every residual at a state a weight by its size over the scale: over the given one, or one measured there.
    fn weigh(
        &mut self,
        state: &Self::State,
        scales: Option<Self::Scales>,
        weighting: Weighting,
    ) -> Weighed<Self::Scales>;

    /// Told before the first step at new weights how many were taken so far; an error ends the fit.
    fn check(&mut self, iterations: usize) -> Result<(), Self::Error>;
}

/// When the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RobustOptions {
    /// The loss until the scale settles.
    pub loss: Loss,
    /// Reweightings at most until then.
    pub max_reweights: usize,
    /// Steps between two weightings. While the weights still change, more than one are wasted.
    pub steps_per_weighting: usize,
    /// The scale has settled when it changes by less than this fraction.
    pub scale_tolerance: f64,
    /// A scale that is not above this is rounding, and has settled.
    pub smallest_scale: f64,
    /// Rounds of clipping at most; the sets of inliers settle in two or three, their weights in ten or twenty.
    pub max_clips: usize,
    /// Rounds in which the scales may change; later they stay, so that two sets cannot take turns for ever.
    pub scaling_rounds: usize,
    /// Weights that change by less than this between two rounds have settled.
    pub weight_tolerance: f64,
    /// Steps at most in all.
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

/// A robust fit on its way.
#[derive(Debug, Clone)]
pub struct RobustFit<P: Robust> {
    /// The problem, with the weights that its residuals have.
    pub problem: P,
    /// Where the fit is.
    pub state: P::State,
    /// Steps tried so far.
    pub iterations: usize,
    /// Whether steps and weights came to rest in [`Self::clip`].
    pub converged: bool,
    options: RobustOptions,
}

impl<P: Robust> RobustFit<P> {
    /// A fit that is to start from a state.
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

    /// Fits to what is not too far off, until neither the set of inliers nor their weights change.
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

    /// Takes some steps at the present weights; true if no more are needed.
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
    use crate::lsq::robust::median;

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
            let scale = scales.unwrap_or_else(|| median(&mut lengths.clone()) / 0.6745);
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
