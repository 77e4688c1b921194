//! Fits the lens of one frame in a few milliseconds, from matches that are nearly right.
//!
//! A calibration fits every model in stages from a pinhole, and repeats this for each order. Here the matches
//! are those of a solution, and the start is right to a fraction of a pixel. About this start, the equations
//! of the largest polynomial are set up once, for each of five parts (folds) of the stars. A polynomial is
//! linear in its coefficients. Therefore the equations of all lower orders are parts of these equations, with
//! the missing coefficients at zero. The same equations also give the residuals that each order predicts for
//! a held-out fold. [`choose`](super::choice) selects the model by these residuals, as in a calibration.

use nalgebra::{DMatrix, DVector, Vector3};

use super::Model;
use super::choice::{Fitted, LOWEST_ORDER, MIN_REDUNDANCY, choose};
use super::fit::{Counting, part_equations, sensitivity};
use super::frame::{Frame, derivatives};
use super::parameters::Parameters;
use super::start;
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Jacobian, MAX_ORDER, Point};
use crate::geometry::residual::{ATTITUDE, Residual};
use crate::geometry::rig::Placement;
use crate::geometry::sphere::Direction;
use crate::lsq::robust::planar_scale;
use crate::lsq::small::{inverse, multiply};
use crate::lsq::{Loss, NormalEquations};

/// Number of parts (folds) of the stars that are held out in turn.
const FOLDS: usize = 5;
/// Maximum steps of a fit, reweighting included. A start at a pinhole needs most of them.
const STEPS: usize = 6;
/// Order of the polynomial that approximates a lens of another form.
const APPROXIMATION_ORDER: usize = 5;
/// Orders of the polynomials whose equations are set up to choose a model. The next order is set up only when
/// a model has more parameters than the present equations: few lenses need the highest order, whose equations
/// are the largest.
const CHOICES: [usize; 3] = [APPROXIMATION_ORDER, 7, MAX_ORDER];
/// Maximum number of stars used to fit a lens of one form to a lens of another form. This fit has no noise,
/// so few stars are enough.
const APPROXIMATION_STARS: usize = 64;
/// Maximum steps of the last stage of a radial fit, which is not linear.
const RADIAL_STEPS: usize = 12;
/// A fit ends when a step lowers the sum of squares by less than this fraction. The remaining error is then a
/// hundredth of a standard error.
const CONVERGED: f64 = 1e-7;
/// The same limit for a fit that only serves to compare models ([`CHOOSING`]), and for one that only predicts
/// where to search for other stars ([`LEADING`]). The remaining error is far below the noise of a star.
const CHOOSING: f64 = 1e-3;
const LEADING: f64 = 0.02;
/// Loss that lowers the weight of residuals beyond a few standard deviations.
const LOSS: Loss = Loss::GemanMcClure;
/// Smallest standard deviation by which residuals are weighted, px. A fit with smaller residuals has
/// converged.
const MIN_SIGMA_PX: f64 = 1e-7;
/// The same limit where a lens of one form is fitted to a lens of another form.
const ALIKE_PX: f64 = 0.01;
/// Largest standard deviation of a determined lens: this multiple of that of the matches ([`LOOSEST`]) or
/// this many pixels ([`LOOSEST_PX`]), whichever is larger.
const LOOSEST: f64 = 5.0;
const LOOSEST_PX: f64 = 0.5;
/// Points per side of the grid on which the standard deviation is tested.
const GRID: u32 = 5;
/// Fraction of the frame in which a lens must be determined.
const MIN_DETERMINED: f64 = 0.9;

/// A camera and its attitude.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) camera: CameraModel,
    pub(crate) attitude: Attitude,
}

/// The camera that was fitted to one frame.
#[derive(Debug, Clone)]
pub(crate) struct SingleFit {
    pub(crate) model: Model,
    pub(crate) view: View,
    /// Robust standard deviation of the residuals, px per axis.
    pub(crate) sigma: f64,
    /// Names of the intrinsics.
    pub(crate) parameter_names: Vec<String>,
    /// Covariance of the intrinsics followed by a small rotation about the camera's axes.
    pub(crate) covariance: DMatrix<f64>,
}

/// The matches of one frame, and the probability of each.
pub(crate) struct SingleFrame {
    frame: Frame,
    counts: Vec<f64>,
    loss: Loss,
    /// See [`MIN_SIGMA_PX`].
    min_sigma: f64,
}

impl SingleFrame {
    /// Matches at `pixels`, with the apparent directions of their stars and the probability of each match.
    pub(crate) fn new(pixels: Vec<Point>, sky: Vec<Direction>, counts: Vec<f64>) -> Self {
        Self { frame: Frame::new(pixels, sky, None), counts, loss: LOSS, min_sigma: MIN_SIGMA_PX }
    }

    /// Number of matches.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are enough matches for a model.
    pub(crate) fn bears(&self, model: Model) -> bool {
        2.0 * self.len() as f64 >= MIN_REDUNDANCY * (Parameters::of(model).len() + ATTITUDE) as f64
    }

    /// The highest polynomial order, up to a limit, for which there are enough matches.
    pub(crate) fn highest_order(&self, limit: usize) -> Option<usize> {
        (LOWEST_ORDER..=limit).rev().find(|&order| self.bears(Model::Polynomial { order }))
    }

    /// Fits a model, from a camera that is nearly right, well enough to predict where other stars are.
    pub(crate) fn fit_nearly(&self, model: Model, start: &View) -> Option<View> {
        self.fit(model, start, LEADING)
    }

    /// Fits a model until a step lowers the cost by less than the fraction `converged`.
    fn fit(&self, model: Model, start: &View, converged: f64) -> Option<View> {
        let mut view = self.start(model, start)?;
        // A polynomial is linear. A radial lens is fitted in stages, coarse terms first, unless the start has
        // them.
        let mut stages = vec![Parameters::of(model)];
        if model == Model::Radial && *start.camera.distortion() == Distortion::None {
            stages = Parameters::stages(model);
        }
        let last = stages.len() - 1;
        for (stage, parameters) in stages.iter().enumerate() {
            let steps = if model == Model::Radial && stage == last { RADIAL_STEPS } else { STEPS };
            for _ in 0..steps {
                let (next, gained) = Linear::new(self, parameters, view, 1).stepped()?;
                view = next;
                if gained < converged {
                    break;
                }
            }
        }
        Some(view)
    }

    /// A camera of the model's form to start from: the given one, or one that sees the same directions.
    fn start(&self, model: Model, start: &View) -> Option<View> {
        let View { camera, attitude } = start;
        if let Ok(raised) = start::raised(camera, model)
            && (model == Model::Radial || camera.optical_center() == [0.0; 2])
        {
            return Some(View { camera: raised, attitude: *attitude });
        }
        if *camera.distortion() != Distortion::None {
            return self.approximated(model, start);
        }
        let camera = start::undistorted(camera, model).ok()?;
        let seen = self.frame.pixels.iter().map(|&pixel| camera.pixel_to_direction(pixel));
        let pairs: Vec<_> = seen.zip(&self.frame.sky).filter(|(seen, _)| seen.z.is_finite()).collect();
        let attitude = Attitude::from_pairs(pairs.iter().map(|(seen, sky)| (seen, *sky, 1.0)))?;
        Some(View { camera, attitude })
    }

    /// A lens of the model's form that sees the same directions as another lens where the stars are.
    fn approximated(&self, model: Model, View { camera, attitude }: &View) -> Option<View> {
        let some = self.frame.pixels.iter().copied().step_by(self.len().div_ceil(APPROXIMATION_STARS).max(1));
        let pairs = some.map(|pixel| (pixel, camera.pixel_to_direction(pixel)));
        let pairs = pairs.filter(|(_, seen)| seen.z.is_finite());
        let (pixels, sky): (Vec<Point>, Vec<Direction>) =
            pairs.map(|(pixel, seen)| (pixel, attitude.to_sky(&seen))).unzip();
        let counts = vec![1.0; pixels.len()];
        let same = Self { loss: Loss::Squares, min_sigma: ALIKE_PX, ..Self::new(pixels, sky, counts) };
        let camera = camera.clone().with_distortion(Distortion::None);
        same.fit(model, &View { camera, attitude: *attitude }, LEADING)
    }

    /// A polynomial lens that is nearly right, about which the equations are linearised.
    fn polynomial(&self, model: Model, start: &View) -> Option<View> {
        let raised = matches!(start.camera.distortion(), Distortion::Polynomial(_));
        if raised && start::raised(&start.camera, model).is_ok() {
            return self.start(model, start);
        }
        self.fit(model, start, CHOOSING)
    }

    /// The model that predicts held-out stars best, and a camera from which its fit takes few steps.
    pub(crate) fn choose(&self, groups: &[Vec<Model>], start: &View) -> Result<(Model, View)> {
        let few = || Error::Undetermined("too few matched stars to fit a lens to this frame".into());
        let highest = groups.iter().flatten().filter_map(Model::order).max().unwrap_or(LOWEST_ORDER);
        let highest = self.highest_order(highest).ok_or_else(few)?;
        let choices = CHOICES.map(|order| Model::Polynomial { order: order.min(highest) });
        let choices = choices.map(|model| (model, Parameters::of(model)));
        let (approximation, parameters) = &choices[0];
        let mut polynomials =
            Choice::new(self, parameters, self.polynomial(*approximation, start).ok_or_else(few)?);
        let mut radial = None;
        let model = choose(groups, |model, _| match model {
            _ if !self.bears(model) => Err(few()),
            Model::Radial => {
                let view = self.fit(model, start, CHOOSING).ok_or_else(few)?;
                let parameters = Parameters::of(model);
                radial = Some(view.clone());
                Ok(Choice::new(self, &parameters, view).candidate(parameters.len()))
            }
            Model::Pinhole | Model::Polynomial { .. } => {
                let kept = Parameters::of(model).len();
                if kept > polynomials.linear.parameters.len() {
                    let larger = choices.iter().find(|(_, parameters)| parameters.len() >= kept);
                    let (order, parameters) = larger.ok_or_else(few)?;
                    let view = self.start(*order, &polynomials.linear.view).ok_or_else(few)?;
                    polynomials = Choice::new(self, parameters, view);
                }
                Ok(polynomials.candidate(kept))
            }
        })?;
        let near = if model == Model::Radial { radial } else { polynomials.view(model) };
        Ok((model, near.unwrap_or_else(|| start.clone())))
    }

    /// Fits a model and its covariance; `None` if the lens is not determined nearly everywhere in the frame.
    pub(crate) fn finish(&self, model: Model, start: &View) -> Option<SingleFit> {
        let view = self.fit(model, start, CONVERGED)?;
        let parameters = Parameters::of(model);
        let linear = Linear::new(self, &parameters, view, 1);
        let equations = &linear.folds[0];
        let counts: f64 = self.counts.iter().sum();
        let freedom = (2.0 * counts - equations.parameters() as f64).max(1.0);
        let variance = 2.0 * equations.cost() / freedom;
        let covariance = equations.inverse().0 * variance;
        let sigma = linear.sigma;
        let Linear { view, .. } = linear;
        let fit = SingleFit { model, view, sigma, parameter_names: parameters.names(), covariance };
        fit.is_determined(&parameters).then_some(fit)
    }
}

impl SingleFit {
    /// Whether the lens is determined, and not folded over, in nearly all of the frame.
    fn is_determined(&self, parameters: &Parameters) -> bool {
        let camera = &self.view.camera;
        let size = camera.image_size().map(f64::from);
        let at = |i: u32, k: usize| (f64::from(i) / f64::from(GRID - 1) - 0.5) * size[k];
        let loosest = (LOOSEST * self.sigma).max(LOOSEST_PX).powi(2);
        let determined = |i: u32| {
            let pixel = [at(i % GRID, 0), at(i / GRID, 1)];
            sensitivity(parameters, camera, pixel)
                .map(|rows| (&rows * &self.covariance * rows.transpose()).trace() / 2.0)
                .is_some_and(|variance| variance <= loosest)
        };
        let known = (0..GRID * GRID).filter(|&i| determined(i)).count();
        known as f64 >= MIN_DETERMINED * f64::from(GRID * GRID)
    }
}

/// The normal equations of a model, linearised about a view.
struct Linear<'a> {
    single: &'a SingleFrame,
    parameters: &'a Parameters,
    view: View,
    /// Residual of each star, and the matrix that maps it from the ideal plane to the detector.
    residuals: Vec<(Option<Residual>, Jacobian)>,
    /// Normal equations of the stars of each fold, for the intrinsics and the attitude.
    folds: Vec<NormalEquations>,
    sigma: f64,
}

impl<'a> Linear<'a> {
    fn new(single: &'a SingleFrame, parameters: &'a Parameters, view: View, folds: usize) -> Self {
        let View { camera, attitude } = &view;
        let placement = Placement::default();
        let residual = |(&pixel, sky): (&Point, &Direction)| {
            let residual = Residual::new(camera, &placement, attitude, pixel, sky);
            let to_detector = residual.map_or([[0.0; 2]; 2], |residual| inverse(&residual.jacobian));
            (residual, to_detector)
        };
        let residuals: Vec<_> = single.frame.pixels.iter().zip(&single.frame.sky).map(residual).collect();
        let length = |(residual, metric): &(Option<Residual>, Jacobian)| {
            residual.map_or(f64::INFINITY, |residual| norm(multiply(metric, residual.miss)))
        };
        let lengths: Vec<f64> = residuals.iter().map(length).collect();
        let counted = lengths.iter().zip(&single.counts).filter(|(_, count)| **count >= 0.5);
        let sigma = planar_scale(&mut counted.map(|(length, _)| *length).collect::<Vec<_>>());
        let scale = sigma.max(single.min_sigma);
        let weight = |star: usize| {
            let loss = single.loss.weight(lengths[star] / scale);
            if lengths[star].is_finite() { single.counts[star] * loss } else { 0.0 }
        };
        let of_fold = |fold: usize| {
            let stars = (fold..lengths.len()).step_by(folds);
            let counting = stars.map(|star| -> Counting<'_> {
                let (residual, metric) = &residuals[star];
                (weight(star), metric, *residual)
            });
            part_equations(parameters, 0, camera, counting.filter(|(weight, ..)| *weight > 0.0))
        };
        let folds = (0..folds).map(of_fold).collect();
        Self { single, parameters, view, residuals, folds, sigma }
    }

    /// The view after one step, and the fraction by which the step lowers the cost. The fraction is 0 where
    /// the residuals are below `min_sigma`.
    fn stepped(&self) -> Option<(View, f64)> {
        let equations = &self.folds[0];
        let delta = equations.solve(0.0);
        let is_close = self.sigma < self.single.min_sigma;
        let gained = if is_close { 0.0 } else { equations.decrease(&delta) / equations.cost() };
        Some((self.moved(&delta)?, gained))
    }

    /// The view with the parameters and the attitude moved by `delta`.
    fn moved(&self, delta: &DVector<f64>) -> Option<View> {
        let all = self.parameters.len();
        let camera = self.parameters.stepped(&self.view.camera, &delta.rows(0, all).into_owned())?;
        let turn = Vector3::new(delta[all], delta[all + 1], delta[all + 2]);
        Some(View { camera, attitude: self.view.attitude.rotated(&turn) })
    }

    /// Derivatives of the residuals of a fold's stars, along x and y, by all parameters and the attitude.
    fn derivatives(&self, fold: usize) -> DMatrix<f64> {
        let columns = self.parameters.len() + ATTITUDE;
        let stars: Vec<usize> = (fold..self.residuals.len()).step_by(self.folds.len()).collect();
        let mut all = DMatrix::zeros(2 * stars.len(), columns);
        let mut own = vec![[0.0; 2]; columns];
        for (k, &star) in stars.iter().enumerate() {
            if let Some(residual) = &self.residuals[star].0 {
                derivatives(residual, self.parameters, &self.view.camera, &mut own);
                for (column, [x, y]) in own.iter().enumerate() {
                    all[(2 * k, column)] = *x;
                    all[(2 * k + 1, column)] = *y;
                }
            }
        }
        all
    }
}

/// The equations of the largest model, to choose one of the models that are part of it.
struct Choice<'a> {
    linear: Linear<'a>,
    /// For each fold, the equations of all stars outside it.
    without: Vec<NormalEquations>,
    /// For each fold, the derivatives of its stars' residuals along x and y by all parameters and the
    /// attitude.
    derivatives: Vec<DMatrix<f64>>,
}

impl<'a> Choice<'a> {
    fn new(single: &'a SingleFrame, parameters: &'a Parameters, view: View) -> Self {
        let linear = Linear::new(single, parameters, view, FOLDS);
        let without = (0..FOLDS).map(|fold| {
            let mut others = NormalEquations::new(parameters.len() + ATTITUDE);
            for (_, part) in linear.folds.iter().enumerate().filter(|(other, _)| *other != fold) {
                others.merge(part);
            }
            others
        });
        let without = without.collect();
        let derivatives = (0..FOLDS).map(|fold| linear.derivatives(fold)).collect();
        Self { linear, without, derivatives }
    }

    /// The model of the first `kept` parameters, with the others at zero, and its residuals for each held-out
    /// fold.
    fn candidate(&self, kept: usize) -> Candidate {
        let Linear { single, residuals, .. } = &self.linear;
        let mut held_out = vec![f64::NAN; residuals.len()];
        for (fold, (others, derivatives)) in self.without.iter().zip(&self.derivatives).enumerate() {
            let delta = self.step(others, kept);
            let mut moved = DVector::zeros(derivatives.nrows());
            for (column, &step) in derivatives.column_iter().zip(&delta).filter(|(_, step)| **step != 0.0) {
                moved.axpy(step, &column, 1.0);
            }
            for (star, [x, y]) in (fold..residuals.len()).step_by(FOLDS).zip(moved.as_slice().as_chunks().0) {
                let (Some(residual), metric) = &residuals[star] else { continue };
                held_out[star] = norm(multiply(metric, [residual.miss[0] + x, residual.miss[1] + y]));
            }
        }
        Candidate { held_out, parameters: kept, stars: single.len() }
    }

    /// The step by the equations of some stars that sets all parameters but the first `kept` to zero.
    fn step(&self, equations: &NormalEquations, kept: usize) -> DVector<f64> {
        let Linear { parameters, view, .. } = &self.linear;
        let all = parameters.len();
        let mut delta = DVector::zeros(all + ATTITUDE);
        for (k, value) in parameters.values(&view.camera).into_iter().enumerate().skip(kept) {
            delta[k] = -value;
        }
        let places: Vec<usize> = (0..kept).chain(all..all + ATTITUDE).collect();
        let steps = restricted(equations, &places, &delta).solve(0.0);
        for (&place, step) in places.iter().zip(&steps) {
            delta[place] = *step;
        }
        delta
    }

    /// The approximate result of a model that is part of the largest one.
    fn view(&self, model: Model) -> Option<View> {
        let mut all = self.without[0].clone();
        all.merge(&self.linear.folds[0]);
        let View { camera, attitude } = self.linear.moved(&self.step(&all, Parameters::of(model).len()))?;
        Some(View { camera: start::lowered(&camera, model).ok()?, attitude })
    }
}

/// The equations of the parameters at `places`, when the other parameters move by their elements of `delta`.
fn restricted(equations: &NormalEquations, places: &[usize], delta: &DVector<f64>) -> NormalEquations {
    let others: Vec<usize> =
        (0..delta.len()).filter(|k| places.binary_search(k).is_err() && delta[*k] != 0.0).collect();
    let gradient = places.iter().map(|&i| {
        let moved: f64 = others.iter().map(|&j| equations.element(i, j) * delta[j]).sum();
        equations.gradient()[i] + moved
    });
    let element = |i: usize, j: usize| equations.element(places[i], places[j]);
    NormalEquations::from_elements(element, gradient.collect(), equations.cost(), equations.count())
}

/// A model of one frame, with the residuals of held-out stars.
struct Candidate {
    held_out: Vec<f64>,
    parameters: usize,
    stars: usize,
}

impl Fitted for Candidate {
    fn held_out(&self) -> Vec<f64> {
        self.held_out.clone()
    }

    fn num_stars(&self) -> usize {
        self.stars
    }

    fn num_frames(&self) -> usize {
        1
    }

    fn num_parameters(&self) -> usize {
        self.parameters
    }
}

fn norm([x, y]: Point) -> f64 {
    (x * x + y * y).sqrt()
}

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
