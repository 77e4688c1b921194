//! Raises the threshold where peaks are more numerous than stars can be: towards the threshold, the number of
//! noise peaks rises more steeply than that of stars.
//!
//! Noise that is cut off below has peaks and no troughs, so that the comparison in module `mirror` does not
//! show it. The noise that JPEG compression leaves is rare, and no quantile gives its maximum. But noise
//! peaks crowd at the threshold, whereas the number of stars above a flux rises at most with flux^-1.5, as
//! for stars that fill space evenly.

use super::Peak;

/// The number of peaks between the threshold and this multiple of it is compared with the number of higher
/// peaks.
const SPAN: f32 = 1.25;
/// Largest ratio of the two numbers for stars.
const RISE: f64 = 0.4;
/// Number of peaks that are tolerated in excess.
const SPARE: f64 = 1.0;
/// Further tolerated excess, in standard deviations of the expected number.
const SIGMAS: f64 = 1.0;

/// The lowest threshold, from `cut` on, above which peaks are no more numerous than stars can be.
pub(super) fn threshold(peaks: &[Peak], cut: f32) -> f32 {
    let mut heights: Vec<f32> = peaks.iter().map(|peak| peak.height).filter(|&h| h >= cut).collect();
    heights.sort_unstable_by(f32::total_cmp);
    let mut far = 0;
    for (first, &lowest) in heights.iter().enumerate() {
        let threshold = if first == 0 { cut } else { lowest };
        while heights.get(far).is_some_and(|&h| h < SPAN * threshold) {
            far += 1;
        }
        let expected = RISE * (heights.len() - far) as f64;
        if (far - first) as f64 <= SPARE + expected + SIGMAS * expected.sqrt() {
            return threshold;
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(heights: impl Iterator<Item = f64>) -> Vec<Peak> {
        heights.map(|h| Peak { x: 0, y: 0, vertex: [0.0; 2], height: h as f32, blob: 0 }).collect()
    }

    /// `n` evenly spaced numbers between zero and one.
    fn evenly(n: usize) -> impl Iterator<Item = f64> {
        (0..n).map(move |k| (k as f64 + 0.5) / n as f64)
    }

    #[test]
    fn stars_stay() {
        for slope in [0.4, 0.8, 1.4] {
            for n in [1, 3, 20, 3000] {
                let stars = peaks(evenly(n).map(|u| 5.0 * u.powf(-1.0 / slope)));
                assert_eq!(threshold(&stars, 5.0), 5.0, "{slope} {n}");
            }
        }
        assert_eq!(threshold(&[], 5.0), 5.0);
    }

    #[test]
    fn noise_goes() {
        // Exponential tails of two different scales.
        for scale in [0.5, 1.0] {
            let noise = || evenly(2000).map(move |u| 5.0 - scale * u.ln());
            let alone = peaks(noise());
            let above = |peaks: &[Peak], cut: f32| peaks.iter().filter(|peak| peak.height >= cut).count();
            assert!(above(&alone, threshold(&alone, 5.0)) <= 3);
            let stars = || evenly(400).map(|u| 5.0 / u);
            let both = peaks(noise().chain(stars()));
            let cut = threshold(&both, 5.0);
            let (false_ones, stars) = (above(&alone, cut), above(&peaks(stars()), cut));
            assert!(stars > 100 && 5 * false_ones < 2 * stars, "{false_ones} {stars}");
        }
    }
}
