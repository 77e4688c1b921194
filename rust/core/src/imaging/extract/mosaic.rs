//! Measures the relative sensitivities of the pixels in mosaics of colours and of interleaved amplifiers,
//! from the stars.

use crate::imaging::background::Background;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;
use crate::imaging::stamp::{self, Layout, is_good};

/// Maximum number of peaks that are used, the highest first.
const PEAKS: usize = 300;
/// Minimum number of usable peaks; with fewer, no sensitivities are returned.
const MIN_PEAKS: usize = 10;
/// Least height of a used peak, in sigmas of the filtered noise.
pub(super) const MIN_HEIGHT: f32 = 30.0;
/// Half width, in pixels, of the stamp about a peak whose light is summed. It holds all light of the star, in
/// each of the four places of the pattern.
const HALF: usize = 4;
/// Range to which relative sensitivities are limited.
const RANGE: [f32; 2] = [0.1, 4.0];

/// Sensitivity to starlight by the parity of row and column, relative to the mean; `None` if too few peaks
/// are usable. Stars lie anywhere in the pattern, so a place's median share of their light is proportional to
/// its sensitivity.
pub(super) fn sensitivities(
    image: &Image<'_>,
    background: &Background,
    peaks: &[Peak],
) -> Option<[[f32; 2]; 2]> {
    let mut highest: Vec<&Peak> = peaks.iter().filter(|peak| peak.height > MIN_HEIGHT).collect();
    highest.sort_by(|a, b| b.height.total_cmp(&a.height));
    let shares: Vec<[f32; 4]> =
        highest.iter().take(PEAKS).filter_map(|peak| shares(image, background, peak)).collect();
    if shares.len() < MIN_PEAKS {
        return None;
    }
    let median = |k: usize| {
        let mut values: Vec<f32> = shares.iter().map(|share| share[k]).collect();
        let middle = values.len() / 2;
        (*values.select_nth_unstable_by(middle, f32::total_cmp).1).clamp(RANGE[0], RANGE[1])
    };
    Some([[median(0), median(1)], [median(2), median(3)]])
}

/// Fractions of a star's light in the four places of the pattern, times four; `None` with a bad pixel or no
/// light.
fn shares(image: &Image<'_>, background: &Background, peak: &Peak) -> Option<[f32; 4]> {
    let layout = Layout::new(HALF);
    let mut stamp = vec![0.0; layout.len()];
    stamp::cut(image, background, [peak.x as isize, peak.y as isize], HALF, f32::INFINITY, &mut stamp);
    let mut light = [0.0; 4];
    for (j, row) in stamp.chunks_exact(layout.stride).enumerate() {
        for (i, &v) in row[..layout.side].iter().enumerate() {
            if !is_good(v) {
                return None;
            }
            // The stamp begins `HALF` pixels before the peak. `HALF` is even, so the parity is that of the
            // frame.
            light[(peak.y + j) % 2 * 2 + (peak.x + i) % 2] += v;
        }
    }
    let total: f32 = light.iter().sum();
    (total > 0.0).then(|| light.map(|part| 4.0 * part / total))
}
