//! Chooses the camera model that predicts held-out stars best.

use super::{CalibrationResult, Model, Options};
use crate::error::{Error, Result};
use crate::geometry::distortion::MAX_ORDER;
use crate::lsq::robust::{CAUCHY_TUNING, planar_scale};

/// Lowest polynomial order that is tried.
pub(super) const LOWEST_ORDER: usize = 2;
/// Number of orders in a row without improvement after which the search still continues. A lens that is
/// nearly symmetric about the image centre has odd terms only.
const MAX_ORDERS_WITHOUT_GAIN: usize = 1;
/// Number of standard errors by which a model with more parameters must be better.
const SIGNIFICANCE: f64 = 2.0;
/// Smallest number of star coordinates per parameter, attitudes included, of a model that can be chosen. With
/// fewer, the model follows single stars, and held-out stars no longer measure how well it predicts.
pub(super) const MIN_REDUNDANCY: f64 = 3.0;
/// Smallest scale of residuals in a comparison of two models, px. Smaller residuals are rounding errors.
const SMALLEST_SCALE: f64 = 1e-9;
/// Maximum steps of a fit that starts from a simpler model and only serves to compare the two. Further steps
/// change the residuals too little to matter.
const CHOOSING_STEPS: usize = 10;

/// Forms of the models to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Pinhole, radial or polynomial: the simplest that predicts as well as any.
    Auto,
    /// Focal length only.
    Pinhole,
    /// Radial and decentring terms about a free optical centre.
    Radial,
    /// A polynomial.
    Polynomial,
}

/// Models to choose from, the simplest first, in groups of one form.
///
/// The groups are tried in turn. `order` is the order of polynomials; without it, all orders are tried.
pub fn candidates(form: Form, order: Option<usize>) -> Result<Vec<Vec<Model>>> {
    if let Some(order) = order.filter(|order| !(LOWEST_ORDER..=MAX_ORDER).contains(order))
        && matches!(form, Form::Auto | Form::Polynomial)
    {
        let repair = format!("give a whole number from {LOWEST_ORDER} to {MAX_ORDER}, or 'auto'");
        return Err(Error::argument("order", format!("{order} is out of range"), repair));
    }
    let orders = order.map_or(LOWEST_ORDER..=MAX_ORDER, |order| order..=order);
    let polynomials: Vec<Model> = orders.map(|order| Model::Polynomial { order }).collect();
    Ok(match form {
        Form::Auto => vec![vec![Model::Pinhole], vec![Model::Radial], polynomials],
        Form::Pinhole => vec![vec![Model::Pinhole]],
        Form::Radial => vec![vec![Model::Radial]],
        Form::Polynomial => vec![polynomials],
    })
}

/// Fits the requested model, or the one that predicts held-out stars best.
///
/// `fit` fits a model with given options. It starts from the calibration of a simpler model if there is one,
/// else from a pinhole. The chosen model is fitted again from a pinhole, and that calibration is the result.
pub fn calibrate_best(
    groups: &[Vec<Model>],
    options: &Options,
    mut fit: impl FnMut(&Options, Option<&CalibrationResult>) -> Result<CalibrationResult>,
) -> Result<CalibrationResult> {
    if let [group] = groups
        && let [model] = group[..]
    {
        return fit(&Options { model, ..*options }, None);
    }
    let warm = CHOOSING_STEPS.min(options.max_iterations);
    let model = choose(groups, |model, start| {
        let max_iterations = if start.is_none() { options.max_iterations } else { warm };
        fit(&Options { model, max_iterations, held_out: true, ..*options }, start)
    })?;
    fit(&Options { model, held_out: true, ..*options }, None)
}

/// A fitted model, and how well it predicts.
pub(crate) trait Fitted {
    /// Length in pixels of the residual of every star when it is held out; NaN for stars that the fit does
    /// not use. All fits list the stars in the same order.
    fn held_out(&self) -> Vec<f64>;
    /// Number of stars that the fit used.
    fn num_stars(&self) -> usize;
    /// Number of frames that the fit used.
    fn num_frames(&self) -> usize;
    /// Number of fitted parameters, without those of the frames.
    fn num_parameters(&self) -> usize;

    /// Number of coordinates of the used stars per parameter, attitudes included.
    fn redundancy(&self) -> f64 {
        let parameters = self.num_parameters() + 3 * self.num_frames();
        2.0 * self.num_stars() as f64 / parameters as f64
    }
}

impl Fitted for CalibrationResult {
    fn held_out(&self) -> Vec<f64> {
        self.held_out.iter().flatten().flatten().copied().collect()
    }

    fn num_stars(&self) -> usize {
        self.num_inliers
    }

    fn num_frames(&self) -> usize {
        self.frames.iter().filter(|frame| frame.rejected.is_none()).count()
    }

    fn num_parameters(&self) -> usize {
        self.parameter_names.len()
    }
}

/// Finds the model that predicts held-out stars best, and significantly so.
///
/// `fit` fits a model. It starts from the preceding model of the group if there is one.
pub(crate) fn choose<F: Fitted>(
    groups: &[Vec<Model>],
    mut fit: impl FnMut(Model, Option<&F>) -> Result<F>,
) -> Result<Model> {
    let mut winner: Option<(Model, F)> = None;
    let mut problem = None;
    for group in groups {
        match best_of(group, &mut fit) {
            Ok(best) if winner.as_ref().is_none_or(|(_, winner)| improves(&best.1, winner)) => {
                winner = Some(best);
            }
            Ok(_) => {}
            Err(error @ Error::Undetermined(_)) => problem = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (winner, problem) {
        (Some((model, _)), _) => Ok(model),
        (None, Some(problem)) => Err(problem),
        (None, None) => Err(Error::argument("model", "no model to choose from", "give at least one")),
    }
}

/// The best model of one group.
fn best_of<F: Fitted>(
    group: &[Model],
    mut fit: impl FnMut(Model, Option<&F>) -> Result<F>,
) -> Result<(Model, F)> {
    let mut best: Option<(Model, F)> = None;
    // The last model that was tried, if it is not the best.
    let mut last: Option<F> = None;
    let mut without_gain = 0;
    for &model in group {
        let start = last.as_ref().or(best.as_ref().map(|(_, best)| best));
        let found = match fit(model, start) {
            Ok(found) => found,
            Err(Error::Undetermined(_)) if best.is_some() => break,
            Err(error) => return Err(error),
        };
        let better = match &best {
            None => true,
            Some(_) if found.redundancy() < MIN_REDUNDANCY => break,
            Some((_, best)) => improves(&found, best),
        };
        if better {
            (best, last, without_gain) = (Some((model, found)), None, 0);
        } else {
            without_gain += 1;
            last = Some(found);
        }
        if without_gain > MAX_ORDERS_WITHOUT_GAIN {
            break;
        }
    }
    best.ok_or_else(|| Error::argument("model", "no model to choose from", "give at least one"))
}

/// Whether a model predicts held-out stars significantly better than a simpler one.
///
/// Only stars that both models kept are compared, so that a model gains nothing by following a poor frame,
/// and loses nothing by rejecting it. If both predict these stars equally well, the model that keeps more
/// frames is better.
fn improves<F: Fitted>(found: &F, simpler: &F) -> bool {
    let (gain, uncertainty) = gain(&simpler.held_out(), &found.held_out());
    if gain < -SIGNIFICANCE * uncertainty {
        return false;
    }
    gain > SIGNIFICANCE * uncertainty || found.num_frames() > simpler.num_frames()
}

/// Decrease of the residual lengths from `old` to `new`, and its standard error.
///
/// The measure is the mean Cauchy loss on the scale of `old`, which a few blended stars do not dominate.
fn gain(old: &[f64], new: &[f64]) -> (f64, f64) {
    let both: Vec<(f64, f64)> =
        old.iter().zip(new).map(|(a, b)| (*a, *b)).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    if both.is_empty() {
        return (0.0, 0.0);
    }
    let mut lengths: Vec<f64> = both.iter().map(|(old, _)| *old).collect();
    let scale = CAUCHY_TUNING * planar_scale(&mut lengths).max(SMALLEST_SCALE);
    let loss = |length: f64| (length / scale).powi(2).ln_1p();
    let less: Vec<f64> = both.iter().map(|(old, new)| loss(*old) - loss(*new)).collect();
    let count = less.len() as f64;
    let mean = less.iter().sum::<f64>() / count;
    let variance = less.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fit whose held-out residuals have nearly the same length.
    struct Made {
        length: f64,
        parameters: usize,
        stars: usize,
    }

    impl Fitted for Made {
        fn held_out(&self) -> Vec<f64> {
            (0..self.stars).map(|k| self.length * (1.0 + 0.01 * (k % 7) as f64)).collect()
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

    /// The chosen model if each order predicts with the given error, and the number of orders tried.
    fn chosen(errors: &[f64], stars: usize) -> (Model, usize) {
        let mut tried = 0;
        let groups = candidates(Form::Polynomial, None).unwrap();
        let model = choose(&groups, |model, _| {
            tried += 1;
            let Model::Polynomial { order } = model else { panic!("{model:?}") };
            let length = *errors.get(order - 2).ok_or_else(|| Error::Undetermined("few".into()))?;
            Ok(Made { length, parameters: order * order, stars })
        });
        (model.unwrap(), tried)
    }

    #[test]
    fn one_order_in_vain_is_passed_over() {
        // Odd terms only: order 4 is no better than 3, but order 5 is. Then two orders bring no improvement.
        let (model, tried) = chosen(&[3.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01], 500);
        assert_eq!((model, tried), (Model::Polynomial { order: 5 }, 6));
    }

    #[test]
    fn what_stars_do_not_determine_is_not_chosen() {
        assert_eq!(chosen(&[3.0, 1.0, 0.5], 500).0, Model::Polynomial { order: 4 });
        // 20 stars have 40 coordinates: enough for 9 + 3 parameters, but not for 16 + 3.
        assert_eq!(chosen(&[3.0, 1.0, 0.5], 20).0, Model::Polynomial { order: 3 });
    }

    #[test]
    fn an_order_out_of_range_is_refused() {
        assert!(candidates(Form::Polynomial, Some(1)).is_err());
        assert!(candidates(Form::Auto, Some(10)).is_err());
        assert_eq!(candidates(Form::Radial, Some(99)).unwrap(), [[Model::Radial]]);
        assert_eq!(candidates(Form::Auto, Some(4)).unwrap()[2], [Model::Polynomial { order: 4 }]);
    }

    #[test]
    fn nothing_in_common_is_no_gain() {
        assert_eq!(gain(&[1.0, f64::NAN], &[f64::NAN, 1.0]), (0.0, 0.0));
    }
}
