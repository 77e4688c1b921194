//! Verifies candidates by a likelihood ratio with a rigorous bound on the false-alarm probability.
//!
//! By chance, detections lie anywhere on the detector (density 1/A). Under the candidate, a detection is with
//! probability 1 - q one of the M brightest catalogue stars in view: it is star k with probability `w(k)`, at
//! a distance r < R from the star's expected position with density `g(r) = 1 / (π ln(1 + R²/a²) (a² + r²))`.
//! This density treats all scales of error alike, from that of the centroid (a) to the match radius (R).
//! With probability q the detection lies anywhere. The ratio of one detection is thus
//! `q + (1 - q) A w(k) g(r)`, or q without a star within R. Its mean under chance is at most 1, because the
//! sum of all `w` is 1.
//! The same holds for the product over all detections, and for the mean L of such products over typical
//! shares q of stray detections. By Markov's inequality, chance reaches L with a probability of at most 1/L.
//! If N candidates are expected by chance, the probability that one of them reaches L is at most N/L. This
//! probability is reported and compared with the threshold.
//!
//! Brightness enters through `w`: the i-th brightest detection is most likely about the i-th brightest star
//! (see [`Ranks`]).
//!
//! The detections from which the candidate was made are no evidence for it, and neither are other detections
//! next to one of its stars, because lists repeat detections. These detections and their stars are excluded.
//! Detections that are not distinct from a brighter one are excluded too. A star counts for one detection
//! only, so repetitions of other detections add no evidence.

use std::ops::RangeInclusive;

use super::field::{Field, Pointing, ProjectedStar, Sky, stars_wanted};
use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;

/// Maximum number of detections evaluated, brightest first: enough for certainty, few enough for speed.
const MAX_DETECTIONS: usize = 60;
/// Number of catalogue stars evaluated per detection. It exceeds 1 because the camera and the catalogue sort
/// stars by different magnitudes.
const STARS_PER_DETECTION: usize = 2;
/// Minimum number of catalogue stars evaluated where there are few detections.
const MIN_STARS: usize = 24;
/// Smallest scale of the distance between a detection and its star, px (see the module documentation).
const CORE_RADIUS_PX: f64 = 0.5;
/// Largest factor between the ranks of a detection and its star in most frames. Ranks differ because cameras
/// and catalogues have different passbands, and because a few detections are not stars or have no catalogue
/// star.
const RANK_FACTOR: f64 = 3.0;
/// Probability that ranks carry information. They carry none where many bright detections are not stars.
const RANK_RELIABILITY: f64 = 0.75;
/// Shares of the detections that are none of the evaluated catalogue stars: few, or nearly all where hot
/// pixels were taken for stars. All these shares are equally likely.
const STRAY_SHARES: [f64; 4] = [0.2, 0.5, 0.8, 0.95];

/// Range within which products are multiplied further. A factor lies between the smallest stray share and the
/// image's area in px², so a product within this range neither overflows nor loses digits with one more
/// factor.
const SAFE_PRODUCTS: RangeInclusive<f64> = 1e-200..=1e200;

/// Computes the evidence for candidates on one frame.
pub(super) struct Verifier<'a> {
    field: &'a Field,
    /// The whole frame; `field` may be a part of it.
    whole: &'a Field,
    sky: &'a Sky<'a>,
    grid: PointGrid,
    detections: usize,
    radius: f64,
    ranks: Ranks,
    /// For each detection, the largest `w(k) / (a² + r²)` of the stars near it; 0 if there is no such star.
    densities: Vec<f64>,
    /// Catalogue stars in view, brightest first.
    stars: Vec<ProjectedStar>,
}

impl<'a> Verifier<'a> {
    /// `radius` is the match radius in px.
    pub(super) fn new(field: &'a Field, sky: &'a Sky<'a>, radius: f64) -> Self {
        Self::within(field, field, sky, radius)
    }

    /// A verifier for a part of the field.
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
        // Factors are collected in products, so that few logarithms are needed; one is taken before a product
        // leaves the safe range.
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

    /// Accepts the candidate evaluated last, with the stars in view of the whole frame.
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
    /// Upper bound on its false-alarm probability.
    pub(super) probability: f64,
    /// The brightest stars in view, as many as needed to match all detections.
    pub(super) stars: Vec<ProjectedStar>,
}

/// Probabilities that a detection is a given catalogue star, from their brightness ranks alone.
///
/// With probability [`RANK_RELIABILITY`], the ranks of both, counted from 1, differ by a factor of at most
/// [`RANK_FACTOR`], and all ratios are equally likely; otherwise all stars are equally likely. Nothing is
/// assumed about chance candidates: for each detection, the shares of all stars sum to 1.
struct Ranks {
    /// Harmonic numbers: element k is the sum of the reciprocals of 1 to k.
    harmonic: Vec<f64>,
}

impl Ranks {
    /// Prepares the sums for up to `most` stars.
    fn new(most: usize) -> Self {
        let mut harmonic = vec![0.0; most + 1];
        for k in 1..=most {
            harmonic[k] = harmonic[k - 1] + 1.0 / k as f64;
        }
        Self { harmonic }
    }

    /// Largest number of stars.
    fn most(&self) -> usize {
        self.harmonic.len() - 1
    }

    /// Probability that a detection is this star out of `stars`. Both are given by their ranks; the brightest
    /// has rank 0.
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
        (1.0 - RANK_RELIABILITY) / stars as f64 + RANK_RELIABILITY * near.unwrap_or(0.0)
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
