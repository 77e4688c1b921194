//! Fits the lens of a solved frame: extends the matches outwards and selects the model that they determine.
//!
//! The first solution has no lens, or only a radial term, so it matches stars where that is nearly right. A
//! polynomial of a low order is fitted to these matches. It predicts the positions of stars farther out,
//! which are searched within a smaller radius. This continues with higher orders, as in the passes of a
//! calibration. The model is then chosen by held-out stars ([`calibrate`](crate::calibrate)) and fitted until
//! the matches stay the same.

use nalgebra::DMatrix;

use super::SolveOptions;
use super::field::{Field, Pointing, Sky, stars_wanted};
use super::fit::{Lens, Match};
use super::refine::{Refined, Refiner};
use crate::calibrate::{Form, Model, SingleFit, SingleFrame, View, candidates};
use crate::error::Result;
use crate::geometry::distortion::{Distortion, Point};

/// Match radius (fraction of the image's width) and highest order of the passes in which the matches grow. If
/// the order rises before the matches are right, the polynomial follows wrong matches.
const PASSES: [(f64, usize); 3] = [(0.005, 3), (0.003, 4), (0.002, 5)];
/// The matches have stopped growing when their number changes by less than this fraction.
const GROWTH: f64 = 0.02;
/// Match radius of all further passes, which fit the chosen model, as a fraction of the image's width.
const FINAL_RADIUS: f64 = 0.002;
/// Maximum number of further passes; the matches usually stay the same from the second one on.
const FINAL_PASSES: usize = 4;
/// Maximum number of detections matched, brightest first: a lens needs some hundred stars and does not gain
/// from millions.
const MOST_DETECTIONS: usize = 3000;
/// Minimum share of the matches of the first solution that must remain with a lens.
const MIN_KEPT_MATCHES: f64 = 0.8;

/// Parameters of the lens to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LensModel {
    /// A radial coefficient and the optical centre, if nothing is known of the lens and the residuals require
    /// them.
    #[default]
    Coarse,
    /// No parameters: the lens is that of the camera.
    Given,
    /// The model of this form. A polynomial has this order or, with `None`, the order that predicts held-out
    /// stars best.
    Fitted(Form, Option<usize>),
}

impl LensModel {
    /// Whether a coarse lens may be fitted.
    pub(super) fn is_free(self) -> bool {
        self != Self::Given
    }

    /// Returns an error if the order does not exist.
    pub(super) fn check(self) -> Result<()> {
        self.models().map(|_| ())
    }

    /// The models to choose from; empty if none is fitted.
    fn models(self) -> Result<Vec<Vec<Model>>> {
        match self {
            Self::Fitted(form, order) => candidates(form, order),
            Self::Coarse | Self::Given => Ok(Vec::new()),
        }
    }
}

/// The lens that was fitted to the matches of one frame.
#[derive(Debug, Clone)]
pub struct FittedLens {
    /// Names of the intrinsics, as in a calibration.
    pub parameter_names: Vec<String>,
    /// Covariance of the intrinsics, followed by a small rotation about the camera's axes (rad).
    pub covariance: DMatrix<f64>,
}

/// A frame with a fitted lens.
pub(super) struct WithLens {
    /// Detections of the frame, corrected for the lens.
    pub(super) field: Field,
    pub(super) refined: Refined,
    pub(super) fit: SingleFit,
}

/// Matches found with one lens, and the camera with that lens.
struct Grown {
    view: View,
    field: Field,
    refined: Refined,
    /// Largest possible number of matches: the number of detections or of stars, whichever is smaller.
    most: usize,
}

impl Grown {
    fn number(&self) -> usize {
        self.refined.matches.len()
    }

    /// Whether nearly all possible matches are found, so that a better lens would add hardly any.
    fn is_complete(&self) -> bool {
        !has_grown(self.number(), self.most)
    }
}

/// Grows the matches of one frame and fits its lens.
pub(super) struct LensFitter<'a> {
    /// Detections in px from the image's centre, brightest first.
    pixels: &'a [Point],
    sky: &'a Sky<'a>,
    options: &'a SolveOptions,
    separation: f64,
}

impl<'a> LensFitter<'a> {
    /// `separation` is that of [`Field::new`].
    pub(super) fn new(
        pixels: &'a [Point],
        sky: &'a Sky<'a>,
        options: &'a SolveOptions,
        separation: f64,
    ) -> Self {
        Self { pixels, sky, options, separation }
    }

    /// Fits the lens of a solved frame; `None` if its matches do not determine a lens, or if the lens loses
    /// too many of them.
    pub(super) fn fit(&self, field: &Field, solved: &Refined) -> Option<WithLens> {
        let groups = self.options.lens.models().ok()?;
        let Pointing { attitude, focal_length, parity, .. } = solved.fit.pointing;
        let camera = solved.fit.lens.camera(&field.camera);
        let camera = camera.with_focal_length(focal_length).with_parity_flip(parity < 0.0);
        let stars = self.single(field, &solved.matches);
        let Grown { mut view, mut field, mut refined, .. } = self.grow(View { camera, attitude }, stars)?;
        let mut stars = self.single(&field, &refined.matches);
        let mut last: Option<SingleFit> = None;
        let mut settled = false;
        for _ in 0..FINAL_PASSES {
            // The model is chosen first, and chosen again when the matches no longer change.
            let known = last.as_ref().filter(|_| !settled).map(|last| last.model);
            let fit = match known {
                Some(model) => stars.finish(model, &view)?,
                None => Self::choose(&groups, &stars, &view)?,
            };
            view = fit.view.clone();
            last = Some(fit);
            let Grown { field: next_field, refined: next, .. } = self.matched(&view, FINAL_RADIUS)?;
            settled = same(&field, &refined, &next_field, &next);
            if settled && known.is_none() {
                break;
            }
            stars = self.single(&next_field, &next.matches);
            (field, refined) = (next_field, next);
        }
        let enough = refined.matches.len() as f64 >= MIN_KEPT_MATCHES * solved.matches.len() as f64;
        last.filter(|_| enough).map(|fit| WithLens { field, refined, fit })
    }

    /// Fits lenses, each of which predicts the positions of more stars, until the number of matches stops
    /// growing.
    fn grow(&self, mut view: View, mut stars: SingleFrame) -> Option<Grown> {
        let mut grown: Option<Grown> = None;
        for (radius, order) in PASSES {
            let order = stars.highest_order(order)?;
            let fit = |model: Model| {
                let view = stars.bears(model).then(|| stars.fit_nearly(model, &view))??;
                self.matched(&view, radius)
            };
            let alone = grown.is_some() && matches!(view.camera.distortion(), Distortion::Radial(_));
            let radial = fit(Model::Radial);
            // If a radial lens predicts most stars, no polynomial is tried.
            let polynomial = (!alone && !radial.as_ref().is_some_and(Grown::is_complete))
                .then(|| fit(Model::Polynomial { order }))
                .flatten();
            // If both predict equally many stars, the first one is kept, because it has fewer parameters.
            let better = |a: Grown, b: Grown| if b.number() > a.number() { b } else { a };
            let best = [radial, polynomial].into_iter().flatten().reduce(better)?;
            let growing = has_grown(stars.len(), best.number()) && !best.is_complete();
            stars = self.single(&best.field, &best.refined.matches);
            view = best.view.clone();
            grown = Some(best);
            if !growing {
                break;
            }
        }
        grown
    }

    /// Fits the best model that the matches determine nearly everywhere in the frame.
    fn choose(groups: &[Vec<Model>], stars: &SingleFrame, view: &View) -> Option<SingleFit> {
        let mut groups = groups.to_vec();
        while !groups.is_empty() {
            let (model, near) = stars.choose(&groups, view).ok()?;
            if let Some(fit) = stars.finish(model, &near) {
                return Some(fit);
            }
            for group in &mut groups {
                if let Some(place) = group.iter().position(|other| *other == model) {
                    group.truncate(place);
                }
            }
            groups.retain(|group| !group.is_empty());
        }
        None
    }

    /// Detections of a view and their matches within `radius`, a fraction of the image's width, of the
    /// expected stars.
    fn matched(&self, view: &View, radius: f64) -> Option<Grown> {
        let View { camera, attitude } = view;
        let brightest = &self.pixels[..self.pixels.len().min(MOST_DETECTIONS)];
        let field = Field::new(camera.clone(), brightest, self.separation);
        let pointing = Pointing {
            attitude: *attitude,
            focal_length: camera.focal_length_px(),
            parity: camera.parity(),
            projection: camera.projection(),
        };
        let mut stars = Vec::new();
        self.sky.in_view(&field, &pointing, stars_wanted(brightest.len()), &mut stars);
        let refiner = Refiner {
            field: &field,
            sky: self.sky,
            radius: radius * f64::from(camera.image_size()[0]),
            rounds: self.options.refine_iterations,
            lens_is_free: false,
        };
        let refined = refiner.settle::<4>(&stars, &pointing, Lens::default(), 0)?;
        let most = brightest.len().min(stars.len());
        Some(Grown { view: view.clone(), field, refined, most })
    }

    fn single(&self, field: &Field, matches: &[Match]) -> SingleFrame {
        let pixels = matches.iter().map(|m| self.pixels[field.order[m.detection]]).collect();
        let sky = matches.iter().map(|m| m.direction).collect();
        SingleFrame::new(pixels, sky, matches.iter().map(|m| m.probability).collect())
    }
}

/// Whether a number of matches changes by at least [`GROWTH`].
fn has_grown(before: usize, after: usize) -> bool {
    (after as f64 / before as f64).ln().abs() >= GROWTH
}

/// Whether the same detections are matched with the same stars.
fn same(field: &Field, before: &Refined, next_field: &Field, next: &Refined) -> bool {
    let pairs = |field: &Field, refined: &Refined| {
        let pair = |m: &Match| (field.order[m.detection], m.star);
        let mut pairs: Vec<(usize, u32)> = refined.matches.iter().map(pair).collect();
        pairs.sort_unstable();
        pairs
    };
    pairs(field, before) == pairs(next_field, next)
}
