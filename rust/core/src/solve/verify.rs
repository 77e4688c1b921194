//! How likely a candidate is right: a likelihood ratio with an honest false-alarm probability.
//!
//! Under chance, detections lie anywhere on the detector (density 1/A). Under the candidate, each is with
//! probability 1 - q one of the M brightest catalogue stars in view, star k with probability `w(k)`, at a distance r
//! from its expected place with density `g(r) = 1 / (π ln(1 + R²/a²) (a² + r²))`, r < R: all scales of error from the
//! centroid's (a) to the match radius (R) alike; otherwise it lies anywhere. The ratio of one detection is thus
//! `q + (1 - q) A w(k) g(r)`, or q without a star within R, and its mean under chance is at most 1, since all `w` are 1
//! together. So is that of the product over detections, and of the mean L of such products over the shares q of stray
//! detections that frames have; and by Markov's inequality chance reaches L with a probability of at most 1/L. With N
//! candidates to be expected by chance, one of them does so with at most N/L: that is the probability reported, and
//! compared with the threshold.
//!
//! Brightness speaks through `w`: the i-th brightest detection is most likely about the i-th brightest star (see
//! [`Ranks`]).
//!
//! The positions of detections from which the candidate was made are no evidence for it, and neither is that of any other
//! detection beside one of its stars, for lists repeat detections: these detections and their stars are left out. So are
//! detections that are not distinct from a brighter one. A star counts for one detection, so that repetitions of others
//! gain nothing.

use std::ops::RangeInclusive;

use super::field::{Field, Pointing, ProjectedStar, Sky, stars_wanted};
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;

/// Detections looked at, brightest first: enough to be sure, few enough to be quick.
const MAX_DETECTIONS: usize = 60;
/// Catalogue stars looked at per detection; more than one, for the camera's and the catalogue's orders differ.
const STARS_PER_DETECTION: usize = 2;
/// Catalogue stars looked at where there are few detections.
const MIN_STARS: usize = 24;
/// Smallest scale of the distance between a detection and its star, px (see the module's text).
const CORE_RADIUS_PX: f64 = 0.5;
/// Factor between the ranks of a detection and its star in most frames: cameras see other colours than catalogues, and
/// a few of the detections are no stars or have none.
const RANK_FACTOR: f64 = 3.0;
/// Probability that ranks tell something: among many bright detections that are no stars they do not.
const TRUST: f64 = 0.75;
/// Shares of the detections that are none of the catalogue stars looked at: few, or nearly all where hot pixels pass
/// for stars. Each is as likely.
const STRAY_SHARES: [f64; 4] = [0.2, 0.5, 0.8, 0.95];

/// Products beyond are not multiplied on: no factor, from the least stray share to the image's area in px², makes one within
/// overflow, or lose digits.
const SAFE_PRODUCTS: RangeInclusive<f64> = 1e-200..=1e200;

/// Evidence for candidates on one frame.
pub(super) struct Verifier<'a> {
    field: &'a Field,
    /// The frame of which the field may be a part.
    whole: &'a Field,
    sky: &'a Sky<'a>,
    grid: PointGrid,
    detections: usize,
    radius: f64,
    ranks: Ranks,
    /// For each detection the largest of `w(k) / (a² + r²)` of the stars near it, 0 without any.
    densities: Vec<f64>,
    /// Brightest first.
    stars: Vec<ProjectedStar>,
}

impl<'a> Verifier<'a> {
    /// `radius` is the match radius in px.
    pub(super) fn new(field: &'a Field, sky: &'a Sky<'a>, radius: f64) -> Self {
        Self::within(field, field, sky, radius)
    }

    /// The same on a part of the field.
    pub(super) fn of_part<'p>(&self, part: &'p Field) -> Verifier<'p>
    where
        'a: 'p,
    {
        Verifier::within(part, self.whole, self.sky, self.radius)
    }

    fn within(field: &'a Field, whole: &'a Field, sky: &'a Sky<'a>, radius: f64) -> Self {
        let brightest: Vec<Point> = field.distinct().iter().copied().take(MAX_DETECTIONS).collect();
        Self {
            grid: PointGrid::new(&brightest, radius),
            detections: brightest.len(),
            ranks: Ranks::new((STARS_PER_DETECTION * brightest.len()).max(MIN_STARS)),
            densities: vec![0.0; brightest.len()],
            radius: radius.max(2.0 * CORE_RADIUS_PX),
            field,
            whole,
            sky,
            stars: Vec::with_capacity(stars_wanted(brightest.len())),
        }
    }

    /// Natural logarithm of the likelihood ratio of a candidate made from these `used` detections and these stars.
    pub(super) fn log_ratio(&mut self, pointing: &Pointing, used: &[usize], stars: &[u32]) -> f64 {
        self.sky.in_view(self.field, pointing, stars_wanted(self.detections), &mut self.stars);
        let count = self.ranks.most().min(self.stars.len());
        let a2 = CORE_RADIUS_PX * CORE_RADIUS_PX;
        self.densities.fill(0.0);
        let others = |(_, (star, _)): &(usize, &ProjectedStar)| !stars.contains(star);
        for (rank, &(_, at)) in self.stars[..count].iter().enumerate().filter(others) {
            // A detection counts once, with its likeliest star; a star counts for its nearest detection only.
            if let Some((detection, d2)) = self.grid.nearest(at, self.radius) {
                let density = self.ranks.share(detection, rank, count) / (a2 + d2);
                self.densities[detection] = self.densities[detection].max(density);
            }
        }
        let norm = 1.0 / (std::f64::consts::PI * (1.0 + self.radius * self.radius / a2).ln());
        let mut log_ratios = [0.0; STRAY_SHARES.len()];
        // Of products of many factors the logarithm is taken at once, before they grow out of bounds.
        let mut products = [1.0; STRAY_SHARES.len()];
        let mut strays = 0_u32;
        for (detection, &density) in self.densities.iter().enumerate() {
            if used.contains(&detection) {
                continue;
            }
            if density > 0.0 {
                let star = self.field.chance_area(detection) * norm * density;
                for ((product, log_ratio), stray) in
                    products.iter_mut().zip(&mut log_ratios).zip(STRAY_SHARES)
                {
                    *product *= stray + (1.0 - stray) * star;
                    if !SAFE_PRODUCTS.contains(product) {
                        *log_ratio += product.ln();
                        *product = 1.0;
                    }
                }
            } else {
                strays += 1;
            }
        }
        for ((product, log_ratio), stray) in products.iter().zip(&mut log_ratios).zip(STRAY_SHARES) {
            *log_ratio += product.ln() + f64::from(strays) * stray.ln();
        }
        log_mean_exp(&log_ratios)
    }

    /// The candidate looked at last, with the stars in view of the whole frame.
    pub(super) fn accepted(&mut self, pointing: Pointing, probability: f64) -> Accepted {
        let all = self.whole.ideal.len();
        if all > self.detections {
            self.sky.in_view(self.whole, &pointing, stars_wanted(all), &mut self.stars);
        }
        Accepted { pointing, probability, stars: std::mem::take(&mut self.stars) }
    }
}

/// An accepted candidate.
pub(super) struct Accepted {
    pub(super) pointing: Pointing,
    /// Bound on its false-alarm probability.
    pub(super) probability: f64,
    /// The brightest stars in view, as many as matching all detections asks for.
    pub(super) stars: Vec<ProjectedStar>,
}

/// Which catalogue star a detection is likely to be, by their brightness alone.
///
/// With probability [`TRUST`] the ranks of both, counted from 1, differ by a factor of at most [`RANK_FACTOR`], all
/// ratios alike; otherwise any star is as likely. Nothing is assumed of chance candidates: for each detection the
/// shares of all stars sum up to 1.
struct Ranks {
    /// Sums of the reciprocals of 1 to k.
    harmonic: Vec<f64>,
}

impl Ranks {
    /// For up to so many stars.
    fn new(most: usize) -> Self {
        let mut harmonic = vec![0.0; most + 1];
        for k in 1..=most {
            harmonic[k] = harmonic[k - 1] + 1.0 / k as f64;
        }
        Self { harmonic }
    }

    /// Most stars.
    fn most(&self) -> usize {
        self.harmonic.len() - 1
    }

    /// Probability that a detection is this one of `stars`, both by their ranks counted from 0.
    fn share(&self, detection: usize, star: usize, stars: usize) -> f64 {
        let (rank, star) = (detection as f64 + 1.0, star + 1);
        let first = (rank / RANK_FACTOR).ceil() as usize;
        let last = ((rank * RANK_FACTOR) as usize).min(stars);
        if last < first {
            return 1.0 / stars as f64;
        }
        let near = (first..=last).contains(&star).then(|| {
            let all = self.harmonic[last] - self.harmonic[first - 1];
            1.0 / (star as f64 * all)
        });
        (1.0 - TRUST) / stars as f64 + TRUST * near.unwrap_or(0.0)
    }
}

/// Logarithm of the mean of numbers given by their logarithms.
fn log_mean_exp(logarithms: &[f64]) -> f64 {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logarithms.iter().map(|x| (x - largest).exp()).sum();
    largest + (sum / logarithms.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_of_all_stars_are_one_together(detection in 0_usize..60, stars in 1_usize..=120) {
            let ranks = Ranks::new(120);
            let sum: f64 = (0..stars).map(|star| ranks.share(detection, star, stars)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
        }
    }
}
