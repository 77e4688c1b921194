//! How likely a candidate is right: a likelihood ratio with an honest false-alarm probability.
//!
//! Under chance, detections lie anywhere on the detector (density 1/A). Under the candidate, each is with
//! probability 1 - q one of the M brightest catalogue stars in view, at a distance r from its expected place with
//! density `g(r) = 1 / (π ln(1 + R²/a²) (a² + r²))`, r < R: all scales of error from the centroid's (a) to the match
//! radius (R) alike; otherwise it lies anywhere. The ratio of one detection is thus `q + (1 - q) A/M g(r)`, or q
//! without a star within R, and its mean under chance is at most 1. So is that of the product over detections, and of
//! the mean L of such products over the shares q of stray detections that frames have; and by Markov's inequality
//! chance reaches L with a probability of at most 1/L. With N candidates looked at, one of them does so with at most
//! N/L: that is the probability reported, and compared with the threshold.
//!
//! The detections from which the candidate was made are no evidence for it and are left out.

use super::field::{Field, Pointing, ProjectedStar, Sky};
use super::refine::stars_wanted;
use crate::distortion::Point;
use crate::grid::PointGrid;

/// Detections looked at, brightest first: enough to be sure, few enough to be quick.
const MAX_DETECTIONS: usize = 60;
/// Catalogue stars looked at per detection; more than one, for the camera's and the catalogue's orders differ.
const STARS_PER_DETECTION: usize = 2;
/// Catalogue stars looked at where there are few detections.
const MIN_STARS: usize = 24;
/// Smallest scale of the distance between a detection and its star, px (see the module's text).
const CORE_RADIUS_PX: f64 = 0.5;
/// Shares of the detections that are none of the catalogue stars looked at: few, or nearly all where hot pixels pass
/// for stars. Each is as likely.
const STRAY_SHARES: [f64; 4] = [0.2, 0.5, 0.8, 0.95];

/// Evidence for candidates on one frame.
pub(super) struct Verifier<'a> {
    field: &'a Field,
    sky: &'a Sky<'a>,
    grid: PointGrid,
    detections: usize,
    radius: f64,
    /// Squared distance of the star matched to each detection, infinite for none.
    distances: Vec<f64>,
    stars: Vec<ProjectedStar>,
}

impl<'a> Verifier<'a> {
    /// `radius` is the match radius in px.
    pub(super) fn new(field: &'a Field, sky: &'a Sky<'a>, radius: f64) -> Self {
        let brightest: Vec<Point> = field.ideal.iter().copied().take(MAX_DETECTIONS).collect();
        Self {
            grid: PointGrid::new(&brightest, radius),
            detections: brightest.len(),
            distances: vec![f64::INFINITY; brightest.len()],
            radius: radius.max(2.0 * CORE_RADIUS_PX),
            field,
            sky,
            stars: Vec::new(),
        }
    }

    /// Natural logarithm of the likelihood ratio of a candidate made from these `used` detections.
    pub(super) fn log_ratio(&mut self, pointing: &Pointing, used: &[usize]) -> f64 {
        self.sky.in_view(self.field, pointing, stars_wanted(self.detections), &mut self.stars);
        let limit = (STARS_PER_DETECTION * self.detections).max(MIN_STARS).min(self.stars.len());
        if limit < self.stars.len() {
            self.stars.select_nth_unstable_by_key(limit, |(star, _)| *star);
        }
        self.distances.fill(f64::INFINITY);
        for &(_, at) in &self.stars[..limit] {
            // A detection counts once, with its nearest star; a star counts for its nearest detection only.
            if let Some((detection, d2)) = self.grid.nearest(at, self.radius) {
                self.distances[detection] = self.distances[detection].min(d2);
            }
        }
        let (r2, a2) = (self.radius * self.radius, CORE_RADIUS_PX * CORE_RADIUS_PX);
        let norm = 1.0 / (limit.max(1) as f64 * std::f64::consts::PI * (1.0 + r2 / a2).ln());
        let mut log_ratios = [0.0; STRAY_SHARES.len()];
        let mut strays = 0_u32;
        for (detection, &d2) in self.distances.iter().enumerate() {
            if used.contains(&detection) {
                continue;
            }
            if d2 < r2 {
                let star = self.field.chance_area(detection) * norm / (a2 + d2);
                for (log_ratio, stray) in log_ratios.iter_mut().zip(STRAY_SHARES) {
                    *log_ratio += (stray + (1.0 - stray) * star).ln();
                }
            } else {
                strays += 1;
            }
        }
        for (log_ratio, stray) in log_ratios.iter_mut().zip(STRAY_SHARES) {
            *log_ratio += f64::from(strays) * stray.ln();
        }
        log_mean_exp(&log_ratios)
    }

    /// The brightest stars in view of the candidate looked at last, as many as matching all detections asks for.
    pub(super) fn take_stars(&mut self, pointing: &Pointing) -> Vec<ProjectedStar> {
        let all = self.field.ideal.len();
        if all > self.detections {
            self.sky.in_view(self.field, pointing, stars_wanted(all), &mut self.stars);
        }
        std::mem::take(&mut self.stars)
    }
}

/// Logarithm of the mean of numbers given by their logarithms.
fn log_mean_exp(logarithms: &[f64]) -> f64 {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|x| (x - largest).exp()).sum();
    largest + (sum / logarithms.len() as f64).ln()
}
