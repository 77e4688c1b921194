//! Computes the probability that a catalogue star and its nearest detection are a match, not neighbours by
//! chance.
//!
//! A catalogue star has a detection with a probability c, which depends on the star's brightness. If it has
//! one, the detection lies at a distance r from the star's expected position with a density of two parts. The
//! first part is a bivariate t distribution, whose tails cover blended stars. The second part has a share e,
//! for misfits where the camera's model is not that of the lens; it treats all scales from σ to the search
//! radius R alike:
//!
//! ```text
//! g(r) = (1 - e) (1 + r² / (ν σ²))^(-(ν + 2) / 2) / (2 π σ²)  +  e / (π ln(1 + R²/σ²) (σ² + r²)).
//! ```
//!
//! Otherwise the nearest detection is a stray one without a star; such detections have the density λ. The
//! pair is thus a match with the probability
//!
//! ```text
//! p = c g(r) / (c g(r) + (1 - c) λ).
//! ```
//!
//! σ, e, λ and c are computed from the probabilities, and the probabilities from them, in turn (expectation
//! and maximisation: Dempster, Laird & Rubin 1977): σ and e from the distances, λ from the unmatched
//! detections, and c from the share of matches among the other stars of the same brightness, because a pair
//! is no evidence for itself. Stars without any detection count in that share: where catalogue stars are too
//! faint for the frame, a detection near one of them is there by chance.

use std::f64::consts::{PI, TAU};

use super::fit::Match;

/// Degrees of freedom ν of the distances. A smaller value accepts more blends; a larger value accepts fewer
/// chance pairs.
const FREEDOM: f64 = 6.0;
/// Smallest σ, px: catalogue errors and blends have this size.
const MIN_SIGMA_PX: f64 = 0.06;
/// Initial share of misfits.
const FIRST_MISFITS: f64 = 0.3;
/// Upper limit of the share of misfits.
const MOST_MISFITS: f64 = 0.9;
/// Number of stars in the first class of brightness; every further class has twice as many as the class
/// before.
const FIRST_CLASS: usize = 8;
/// Number of classes; the last one holds all remaining stars.
const CLASSES: usize = 16;
/// Number of matches credited to every class. It is so small that stars of a class without any other match
/// need strong evidence.
const PRIOR_MATCHES: f64 = 0.1;
/// Maximum number of rounds. They are repeated whenever the fit to the matches is repeated.
const MAX_ROUNDS: usize = 20;
/// Change of σ (relative) and of the share of misfits below which the rounds end.
const TOLERANCE: f64 = 0.05;
/// If all pairs are more probable than this, the rounds end whatever σ: the next round of the fit computes a
/// better σ.
const CERTAIN: f64 = 0.999;

/// Numbers and extents that determine how many pairs of stars and detections occur by chance.
pub(super) struct Mixture {
    /// Number of detections that may be matched.
    pub(super) detections: usize,
    /// Area in which the detections lie, px².
    pub(super) area: f64,
    /// Largest distance between the star and the detection of a pair, px.
    pub(super) radius: f64,
    /// Number of catalogue stars tried, with or without a detection near them.
    pub(super) stars: usize,
}

impl Mixture {
    /// Computes the probability of every pair; `sigma` is the initial σ, px.
    pub(super) fn weigh(&self, pairs: &mut [Match], sigma: f64) {
        let mut spread = Spread { sigma: sigma.max(MIN_SIGMA_PX), misfits: FIRST_MISFITS };
        for pair in pairs.iter_mut() {
            pair.probability = 0.5;
        }
        let mut classes = self.classes();
        for _ in 0..MAX_ROUNDS {
            let next = self.round(pairs, &mut classes, &spread);
            let change = (next.sigma / spread.sigma - 1.0).abs().max((next.misfits - spread.misfits).abs());
            spread = next;
            if pairs.iter().all(|pair| pair.probability > CERTAIN) || change < TOLERANCE {
                break;
            }
        }
    }

    /// One round: updates the probabilities from the previous ones and from the spread of the distances, and
    /// returns the new spread.
    fn round(
        &self,
        pairs: &mut [Match],
        classes: &mut [Class],
        &Spread { sigma, misfits }: &Spread,
    ) -> Spread {
        for class in classes.iter_mut() {
            class.matches = 0.0;
        }
        for pair in pairs.iter() {
            classes[class_of(pair.rank)].matches += pair.probability;
        }
        let matches: f64 = classes.iter().map(|class| class.matches).sum();
        let strays = (self.detections as f64 - matches).max(1.0) / self.area;
        let sigma2 = sigma * sigma;
        let (scale, peak) = (1.0 / (FREEDOM * sigma2), (1.0 - misfits) / (TAU * sigma2));
        let any_scale = misfits / (PI * (1.0 + self.radius * self.radius / sigma2).ln());
        let (mut sum, mut squares, mut far) = (0.0, 0.0, 0.0);
        for pair in pairs.iter_mut() {
            let share = classes[class_of(pair.rank)].share_without(pair.probability);
            let falls = 1.0 / (1.0 + pair.distance2 * scale);
            // The exponent of the formula is -4 for six degrees of freedom; `falls` is squared twice.
            let near = peak * (falls * falls).powi(2);
            let density = near + any_scale / (sigma2 + pair.distance2);
            let weight = share / (share * density + (1.0 - share) * strays);
            pair.probability = weight * density;
            sum += weight * near;
            far += weight * (density - near);
            squares += weight * near * falls * pair.distance2;
        }
        let sigma = ((FREEDOM + 2.0) / FREEDOM * squares / (2.0 * sum)).sqrt();
        let misfits = far / (sum + far);
        // Without pairs σ is NaN here, and `max` gives the lower limit.
        Spread { sigma: sigma.max(MIN_SIGMA_PX), misfits: misfits.clamp(0.0, MOST_MISFITS) }
    }

    fn classes(&self) -> [Class; CLASSES] {
        let mut first = 0;
        std::array::from_fn(|class| {
            let size = if class + 1 == CLASSES { usize::MAX } else { FIRST_CLASS << class };
            let stars = self.stars.saturating_sub(first).min(size);
            first = first.saturating_add(size);
            Class { stars: stars as f64, matches: 0.0 }
        })
    }
}

/// Spread of the distances between the detections and the stars of matches.
struct Spread {
    /// σ, px.
    sigma: f64,
    /// Share of the matches that are misfits.
    misfits: f64,
}

/// Stars of about the same brightness.
struct Class {
    stars: f64,
    /// Sum of the probabilities of the pairs of these stars.
    matches: f64,
}

impl Class {
    /// Share of the stars that have a detection, estimated without the star whose pair has this probability.
    fn share_without(&self, probability: f64) -> f64 {
        (self.matches - probability + PRIOR_MATCHES)
            / (self.stars - 1.0 + 2.0 * PRIOR_MATCHES).max(2.0 * PRIOR_MATCHES)
    }
}

/// Class of a star by its rank; the brightest star has rank 0.
fn class_of(rank: usize) -> usize {
    ((rank / FIRST_CLASS + 1).ilog2() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::sphere::Direction;
    use proptest::prelude::*;

    const AREA: f64 = 1e6;

    fn pair(rank: usize, distance: f64) -> Match {
        let distance2 = distance * distance;
        Match {
            detection: rank,
            star: rank as u32,
            direction: Direction::z(),
            rank,
            distance2,
            probability: 1.0,
        }
    }

    /// Pairs of the brightest `seen` stars at normally distributed distances, and of the other stars with the
    /// nearest of `strays` detections.
    fn pairs(
        seen: usize,
        stars: usize,
        strays: usize,
        sigma: f64,
        mut uniform: impl FnMut() -> f64,
    ) -> Vec<Match> {
        let chance = strays as f64 / AREA * std::f64::consts::PI;
        let nearest = |u: f64| (-(1.0 - u).ln() / chance).sqrt();
        let normal = |u: f64| sigma * (-2.0 * (1.0 - u).ln()).sqrt();
        let distance = |rank: usize, u: f64| if rank < seen { normal(u) } else { nearest(u) };
        (0..stars)
            .map(|rank| pair(rank, distance(rank, uniform())))
            .filter(|pair| pair.distance2 < 100.0)
            .collect()
    }

    proptest! {
        #[test]
        fn true_and_chance_pairs_are_told_apart(
            seen in 30_usize..150, strays in 1_usize..1500, sigma in 0.1..1.0, seed: u64, start in 0.5..4.0,
        ) {
            let mut state = seed;
            let uniform = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1_u64 << 53) as f64
            };
            let mut pairs = pairs(seen, 500, strays, sigma, uniform);
            Mixture { detections: seen + strays, area: AREA, radius: 10.0, stars: 500 }.weigh(&mut pairs, start);
            let of = |matches: bool| pairs.iter().filter(move |pair| (pair.rank < seen) == matches);
            let found = of(true).filter(|pair| pair.is_probable()).count();
            let wrong = of(false).filter(|pair| pair.is_probable()).count();
            prop_assert!(found as f64 > 0.7 * seen as f64, "{} of {}", found, seen);
            // The number of wrong pairs is that given by the probabilities, within six standard deviations of
            // such a count.
            let probable = pairs.iter().filter(|pair| pair.is_probable());
            let expected: f64 = probable.map(|pair| 1.0 - pair.probability).sum();
            let most = expected + 6.0 * expected.sqrt() + 6.0;
            prop_assert!(wrong as f64 <= most, "{} wrong, {} expected", wrong, expected);
        }
    }

    #[test]
    fn a_pair_is_no_evidence_for_itself() {
        // The last pair is alone among 256 stars too faint for the frame; the other pairs are as close, among
        // stars that the frame shows.
        let bright = (0..56).map(|rank| pair(rank, 0.3));
        let mut pairs: Vec<Match> = bright.chain([pair(400, 0.3)]).collect();
        Mixture { detections: 1500, area: AREA, radius: 10.0, stars: 500 }.weigh(&mut pairs, 1.0);
        assert!(pairs[..56].iter().all(|pair| pair.probability > 0.99));
        assert!(pairs[56].probability < 0.5, "{}", pairs[56].probability);
    }

    #[test]
    fn classes_hold_all_stars() {
        let mixture = Mixture { detections: 1, area: 1.0, radius: 1.0, stars: 1000 };
        let classes = mixture.classes();
        for (class, found) in classes.iter().enumerate() {
            let count = (0..1000).filter(|&rank| class_of(rank) == class).count();
            assert_eq!(found.stars, count as f64, "{class}");
        }
    }

    #[test]
    fn no_pairs_are_no_trouble() {
        Mixture { detections: 0, area: 1.0, radius: 1.0, stars: 0 }.weigh(&mut [], 0.0);
    }
}
