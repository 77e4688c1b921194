//! False detections told by their counts: stars do not become more numerous as steeply as noise does.
//!
//! Noise that is cut off below has peaks and no troughs, so that the mirror does not show it; what is left of it by JPEG is
//! rare, and no quantile tells how high it reaches. But its peaks crowd at the threshold, where the number of stars above a
//! flux rises with flux^-1.5 at most, that of space filled evenly.

use super::Peak;

/// Peaks between the threshold and so many times it are compared with those above; and by how much the number of stars
/// rises then at most.
const SPAN: f32 = 1.25;
const RISE: f64 = 0.4;
/// So many more may be there, and so many standard deviations of their number.
const SPARE: f64 = 1.0;
const SIGMAS: f64 = 1.0;

/// The lowest threshold from `cut` on above which peaks are as numerous as stars may be.
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

    /// Of `n` numbers from zero to one, evenly.
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
        // Tails that are exponential, as steep as the threshold is high and half as steep.
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
