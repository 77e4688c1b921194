//! The lens of a solved frame: matches that grow outwards, and the model that they bear.
//!
//! A first solution knows the camera without its lens, or with a radial term, and so matches stars where that is nearly
//! right. A polynomial of a low order is fitted to these; it predicts where stars farther out are to be looked for, within
//! less; and so on, to higher orders, as the passes of a calibration do. The model is then chosen by held-out stars
//! ([`calibrate`](crate::calibrate)) and fitted until the matches stay the same.

use nalgebra::DMatrix;

use super::SolveOptions;
use super::field::{Field, Pointing, Sky, stars_wanted};
use super::fit::{Lens, Match};
use super::refine::{Refined, Refiner};
use crate::calibrate::{Form, Model, SingleFit, SingleFrame, View, candidates};
use crate::error::Result;
use crate::geometry::distortion::{Distortion, Point};

/// Match radius (fraction of the image's width) and highest order of the passes in which the matches grow. Raising the
/// order before the matches are right makes it follow the wrong ones.
const PASSES: [(f64, usize); 3] = [(0.005, 3), (0.003, 4), (0.002, 5)];
/// Matches have grown when their number changes by less than this fraction.
const GROWTH: f64 = 0.02;
/// Match radius of all further passes, which fit the model that is chosen.
const FINAL_RADIUS: f64 = 0.002;
/// Further passes at most; the matches usually stay the same from the second of them on.
const FINAL_PASSES: usize = 4;
/// Brightest detections that are matched: a lens takes some hundred stars, and has no more of millions.
const MOST_DETECTIONS: usize = 3000;
/// Share of the matches of the first solution that a lens has to keep.
const MIN_KEPT_MATCHES: f64 = 0.8;

/// Parameters of the lens to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LensModel {
    /// Where nothing is known of the lens, a radial coefficient and the optical centre, as the residuals ask for them.
    #[default]
    Coarse,
    /// Nothing: it is as the camera has it.
    Given,
    /// The model of this form, and if it is polynomial of this order, or of the one that predicts held-out stars best.
    Fitted(Form, Option<usize>),
}

impl LensModel {
    /// Whether a coarse lens may be fitted.
    pub(super) fn is_free(self) -> bool {
        self != Self::Given
    }

    /// Refuses an order that there is not.
    pub(super) fn check(self) -> Result<()> {
        self.models().map(|_| ())
    }

    /// The models to choose from; none if none is fitted.
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
    /// Names of the intrinsics, as of a calibration.
    pub parameter_names: Vec<String>,
    /// Covariance of the intrinsics, followed by a small rotation about the camera's axes (rad).
    pub covariance: DMatrix<f64>,
}

/// A frame whose lens is fitted.
pub(super) struct WithLens {
    /// Its detections with the lens taken out.
    pub(super) field: Field,
    pub(super) refined: Refined,
    pub(super) fit: SingleFit,
}

/// Matches that have grown as far as they do, and the lens that predicts them.
struct Grown {
    view: View,
    field: Field,
    refined: Refined,
    /// How many there could be: one for each detection, and for each star.
    most: usize,
}

impl Grown {
    fn number(&self) -> usize {
        self.refined.matches.len()
    }

    /// Whether a better lens would predict hardly more.
    fn is_complete(&self) -> bool {
        !has_grown(self.number(), self.most)
    }
}

/// Grows the matches of one frame and fits its lens.
pub(super) struct LensFitter<'a> {
    /// Detections, brightest first, from the image's centre.
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

    /// The lens of a frame that is solved but for it; `None` where its matches bear none, or none that is better.
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
            // The model is chosen at first, and again for the matches in which that ended.
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

    /// Fits lenses that predict where more stars are, until there are no more.
    fn grow(&self, mut view: View, mut stars: SingleFrame) -> Option<Grown> {
        let mut grown: Option<Grown> = None;
        for (radius, order) in PASSES {
            let order = stars.highest_order(order)?;
            let lead = |model: Model| {
                let view = stars.bears(model).then(|| stars.lead(model, &view))??;
                self.matched(&view, radius)
            };
            let alone = grown.is_some() && matches!(view.camera.distortion(), Distortion::Radial(_));
            let radial = lead(Model::Radial);
            // A radial lens that predicts most stars leads on alone.
            let polynomial = (!alone && !radial.as_ref().is_some_and(Grown::is_complete))
                .then(|| lead(Model::Polynomial { order }))
                .flatten();
            // Of two that predict as many the first, of few parameters.
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

    /// The best model that the matches determine nearly everywhere in the frame.
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

    /// Matches within a fraction of the image's width of where a camera expects stars, and its detections.
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

/// Whether a number of matches changes by more than a little.
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
