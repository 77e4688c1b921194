//! Selects the peaks that may be stars, by their blobs, their positions, their contrast and their number.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Frame, Rejected};
use crate::imaging::background::Background;
use crate::imaging::blobs::Blob;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;
use crate::imaging::sharp;

/// Number of pixels from which a blob is large. In large blobs, peaks must stand out from their surroundings:
/// stars in a crowd or in front of a nebula do, noise and edges in the light of a beam, a lamp or a roof do
/// not.
const LARGE_BLOB: usize = 1000;
/// Length of a blob, in pixels, from which its peaks may be on a hot column. Shorter ones have the shape of a
/// star, or are refused for theirs.
const LONG_BLOB: usize = 16;
/// Significance, in sigmas, with which the pixels beside a line must be darker than those beside a star. If this
/// holds for half of the peaks of a blob, the others need not be significant.
const LINE_SIGMAS: f32 = 2.0;
/// Offsets in columns and rows from a peak to the places around it with which it is compared.
const RING: [[isize; 2]; 16] = [
    [5, 0],
    [5, 2],
    [4, 4],
    [2, 5],
    [0, 5],
    [-2, 5],
    [-4, 4],
    [-5, 2],
    [-5, 0],
    [-5, -2],
    [-4, -4],
    [-2, -5],
    [0, -5],
    [2, -5],
    [4, -4],
    [5, -2],
];
/// Contrast that peaks must have, in sigmas: the mean of the peak's 3 x 3 pixels less the upper quartile of
/// such means around it. On an edge, half of the means around are as bright as the peak. The noise includes
/// that of the blob's light, which is estimated from the scatter around all peaks of the blob.
const RING_SIGMAS: f32 = 4.5;
/// Peaks per task.
const TASK_PEAKS: usize = 256;
/// Number of pixels that are read on each side of the peak.
const REACH: usize = 6;
const SIDE: usize = 2 * REACH + 1;
/// Sigma of a Gaussian, in units of the distance from its median to its quartile.
const QUARTILE_TO_SIGMA: f32 = 1.482_602;
/// Least number of pixels of the frame per measured peak, on average. Only lattices and noise have more
/// peaks.
const PIXELS_PER_PEAK: usize = 60;
/// Number of peaks that may be measured in any frame, even if it is small.
const FEW_PEAKS: usize = 5_000;
/// Least number of peaks of a blob (or all, if there are fewer) whose surroundings are used to estimate how
/// the blob's noise grows with its light.
const SAMPLED_PEAKS: usize = 1000;
/// Greatest distance, in columns and in rows, of other peaks that are measured together with a peak.
const COMPANION_REACH: usize = 6;
/// Least height of these other peaks, as a fraction of the peak's height. Fainter or more distant peaks
/// hardly shift the position of the peak.
const MIN_COMPANION_HEIGHT: f32 = 0.02;
/// Number of peaks that are tested for contrast first, as a multiple of the number to be measured. If too few
/// stand out, the number to be tested is multiplied by this factor again.
const FIRST_BATCH: usize = 2;

/// Peaks that may be stars, and the numbers of rejected candidates.
pub(super) type Chosen = (Vec<Peak>, Rejected);

/// Selects peaks in blobs of the right size, away from the border, that stand out from their surroundings.
///
/// If there are too many peaks, the highest are selected. If fewer are to be measured (`max_measured`), these
/// are the highest, together with peaks close to them.
pub(super) fn select(frame: &Frame<'_>) -> Chosen {
    let mut rejected = Rejected::default();
    let mut peaks = of_right_size(frame, &mut rejected);
    if frame.options.max_sharpness.is_some() {
        let all = peaks.len();
        peaks = off_lines(frame, &peaks);
        rejected.sharp += all - peaks.len();
    }
    let most = most_stars(frame.image, PIXELS_PER_PEAK);
    rejected.surplus += keep_highest(&mut peaks, most, |peak| peak.height).len();
    let crowd = Crowd::new(frame, &peaks);
    let (kept, refused) = match frame.options.max_measured.filter(|&most| most < peaks.len()) {
        Some(most) => crowd.brightest(most),
        None => crowd.standing_out((0..peaks.len()).collect()),
    };
    rejected.extended += refused;
    let found = frame.detection.about.unwrap_or(0).max(peaks.len());
    rejected.unmeasured = found - kept.len() - refused;
    (kept.into_iter().map(|k| peaks[k]).collect(), rejected)
}

/// Peaks in blobs of the right size, away from the border.
fn of_right_size(frame: &Frame<'_>, rejected: &mut Rejected) -> Vec<Peak> {
    let &Frame { image, detection, options, .. } = frame;
    let too_large = |blob: &Blob| blob.pixels > options.max_pixels.saturating_mul(blob.peaks);
    for blob in detection.blobs.iter().filter(|b| b.peaks > 0) {
        rejected.too_small += usize::from(blob.pixels < options.min_pixels);
        rejected.too_large += usize::from(too_large(blob));
    }
    let margin = options.border_margin;
    let inside = |i: usize, n: usize| i >= margin && i + margin < n;
    detection
        .peaks
        .iter()
        .filter(|peak| {
            let blob = &detection.blobs[peak.blob];
            blob.pixels >= options.min_pixels && !too_large(blob)
        })
        .filter(|peak| {
            let keep = inside(peak.x, image.width()) && inside(peak.y, image.height());
            rejected.border += usize::from(!keep);
            keep
        })
        .copied()
        .collect()
}

/// The peaks that are not on hot columns or rows.
fn off_lines(frame: &Frame<'_>, peaks: &[Peak]) -> Vec<Peak> {
    let &Frame { image, background, detection, .. } = frame;
    let is_long = |peak: &Peak| detection.blobs[peak.blob].size() >= LONG_BLOB;
    let on_line = |peak: &Peak, sigmas| sharp::is_on_line(image, background, peak, sigmas);
    let certain: Vec<bool> =
        peaks.par_iter().map(|peak| is_long(peak) && on_line(peak, LINE_SIGMAS)).collect();
    // For each long blob, the number of peaks and of those that certainly are on a line.
    let mut counts: HashMap<usize, [usize; 2]> = HashMap::new();
    for (peak, &line) in peaks.iter().zip(&certain).filter(|(peak, _)| is_long(peak)) {
        let [all, lines] = counts.entry(peak.blob).or_default();
        (*all, *lines) = (*all + 1, *lines + usize::from(line));
    }
    let in_line = |peak: &Peak| counts.get(&peak.blob).is_some_and(|[all, lines]| 2 * lines >= *all);
    let line = |peak: &Peak, certain| certain || in_line(peak) && on_line(peak, 0.0);
    let kept = peaks.iter().zip(certain).filter(|&(peak, certain)| !line(peak, certain));
    kept.map(|(peak, _)| *peak).collect()
}

/// Peaks of a frame, with the photon noise in large blobs.
struct Crowd<'a> {
    frame: &'a Frame<'a>,
    peaks: &'a [Peak],
    /// Increase of the variance per unit of light, for each large blob.
    photon: HashMap<usize, f32>,
}

impl<'a> Crowd<'a> {
    fn new(frame: &'a Frame<'a>, peaks: &'a [Peak]) -> Self {
        let mut crowd = Self { frame, peaks, photon: HashMap::new() };
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for (k, peak) in peaks.iter().enumerate().filter(|(_, peak)| crowd.is_in_large(peak)) {
            members.entry(peak.blob).or_default().push(k);
        }
        let photon = |(blob, members): (usize, Vec<usize>)| Some((blob, crowd.photon_noise(&members)?));
        crowd.photon = members.into_iter().filter_map(photon).collect();
        crowd
    }

    fn is_in_large(&self, peak: &Peak) -> bool {
        self.frame.detection.blobs[peak.blob].pixels >= LARGE_BLOB
    }

    fn surroundings(&self, k: usize) -> Option<Surroundings> {
        Surroundings::of(self.frame.image, self.frame.background, &self.peaks[k])
    }

    /// Increase of the variance per unit of light in a blob: the median over the surroundings of its peaks.
    fn photon_noise(&self, members: &[usize]) -> Option<f32> {
        let sample = members.par_iter().step_by((members.len() / SAMPLED_PEAKS).max(1));
        let mut excess: Vec<f32> = sample
            .filter_map(|&k| self.surroundings(k))
            .map(|Surroundings { light, scatter, noise, .. }| {
                (scatter * scatter - noise * noise).max(0.0) / light.max(noise)
            })
            .collect();
        let half = excess.len() / 2;
        (!excess.is_empty()).then(|| *excess.select_nth_unstable_by(half, f32::total_cmp).1)
    }

    fn stands_out(&self, k: usize) -> bool {
        let peak = &self.peaks[k];
        let photon = || self.photon.get(&peak.blob).copied().unwrap_or(0.0);
        !self.is_in_large(peak) || self.surroundings(k).is_none_or(|look| look.stands_out(photon()))
    }

    /// The peaks among `some` that stand out, in their order, and the number of peaks that do not.
    fn standing_out(&self, some: Vec<usize>) -> (Vec<usize>, usize) {
        let tested = some.len();
        let kept: Vec<usize> =
            some.into_par_iter().with_min_len(TASK_PEAKS).filter(|&k| self.stands_out(k)).collect();
        let refused = tested - kept.len();
        (kept, refused)
    }

    /// The `most` highest peaks that stand out, together with peaks close to them. Also returns how many of
    /// the tested highest peaks do not stand out.
    fn brightest(&self, most: usize) -> (Vec<usize>, usize) {
        let height = |&k: &usize| self.peaks[k].height;
        let mut wanted = FIRST_BATCH * most;
        let (mut highest, refused) = loop {
            let mut some = (0..self.peaks.len()).collect();
            keep_highest(&mut some, wanted, height);
            let (kept, refused) = self.standing_out(some);
            if kept.len() >= most || wanted >= self.peaks.len() {
                break (kept, refused);
            }
            wanted *= FIRST_BATCH;
        };
        keep_highest(&mut highest, most, height);
        let mut chosen = vec![false; self.peaks.len()];
        for &k in &highest {
            chosen[k] = true;
        }
        let companions: Vec<usize> = highest.iter().flat_map(|&k| self.companions(k)).collect();
        for k in companions {
            chosen[k] = chosen[k] || self.stands_out(k);
        }
        ((0..self.peaks.len()).filter(|&k| chosen[k]).collect(), refused)
    }

    /// Peaks close to peak `k`, with `k` itself. All peaks must be in reading order.
    fn companions(&self, k: usize) -> impl Iterator<Item = usize> {
        let Peak { x, y, height, .. } = self.peaks[k];
        let near_row = move |&k: &usize| self.peaks[k].y.abs_diff(y) <= COMPANION_REACH;
        let rows = (0..k).rev().take_while(near_row).chain((k..self.peaks.len()).take_while(near_row));
        rows.filter(move |&k| {
            self.peaks[k].x.abs_diff(x) <= COMPANION_REACH
                && self.peaks[k].height >= MIN_COMPANION_HEIGHT * height
        })
    }
}

/// Greatest number of stars to measure, if each must have `pixels` pixels of the frame on average.
pub(super) fn most_stars(image: &Image<'_>, pixels: usize) -> usize {
    (image.width() * image.height() / pixels).max(FEW_PEAKS)
}

/// Keeps the `most` highest peaks, in their order, and returns the others.
pub(super) fn keep_highest<P: Copy>(peaks: &mut Vec<P>, most: usize, height: impl Fn(&P) -> f32) -> Vec<P> {
    let surplus = peaks.len().saturating_sub(most);
    let mut others = Vec::with_capacity(surplus);
    if surplus > 0 {
        let mut heights: Vec<f32> = peaks.iter().map(&height).collect();
        let (_, &mut least, _) = heights.select_nth_unstable_by(surplus, f32::total_cmp);
        // Of the peaks of exactly the least height, the first are kept.
        let mut room = most - peaks.iter().filter(|peak| height(peak) > least).count();
        peaks.retain(|peak| {
            let is_least = height(peak) == least;
            let keep = height(peak) > least || is_least && room > 0;
            room -= usize::from(keep && is_least);
            if !keep {
                others.push(*peak);
            }
            keep
        });
    }
    others
}

/// Brightness at and around a peak, in means of 3 x 3 pixels.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    /// Mean at the peak.
    top: f32,
    /// Upper quartile of the means around the peak.
    upper: f32,
    /// Median of the means around the peak, less the background.
    light: f32,
    /// Standard deviation of the means around the peak, from their lower quartile and median.
    scatter: f32,
    /// Standard deviation of such a mean due to the frame's noise.
    noise: f32,
}

impl Surroundings {
    /// Measures the surroundings of a peak; `None` if too much of them is bad or outside the frame.
    fn of(image: &Image<'_>, background: &Background, peak: &Peak) -> Option<Self> {
        let origin = [peak.x, peak.y].map(|v| v.saturating_sub(REACH));
        let end = [(peak.x + REACH + 1).min(image.width()), (peak.y + REACH + 1).min(image.height())];
        let mut pixels = [[f32::NAN; SIDE]; SIDE];
        let [columns, rows] = [0, 1].map(|k| end[k] - origin[k]);
        image.read_block(origin, columns, pixels[..rows].as_flattened_mut(), SIDE);
        let place = [peak.x - origin[0], peak.y - origin[1]].map(|v| v as isize);
        let mut around = [0.0; RING.len()];
        let mut count = 0;
        for [dx, dy] in RING {
            if let Some(mean) = mean_about(&pixels, [place[0] + dx, place[1] + dy]) {
                around[count] = mean;
                count += 1;
            }
        }
        let top = mean_about(&pixels, place).filter(|_| count > RING.len() / 2)?;
        let around = &mut around[..count];
        around.sort_unstable_by(f32::total_cmp);
        let [lower, middle, upper] = [1, 2, 3].map(|quarter| around[quarter * (count - 1) / 4]);
        let [level, noise] =
            [&background.level, &background.noise].map(|mesh| mesh.at(peak.x as f32, peak.y as f32));
        let scatter = QUARTILE_TO_SIGMA * (middle - lower);
        Some(Self { top, upper, light: middle - level, scatter, noise: noise / 3.0 })
    }

    /// Whether the peak is significantly brighter than its surroundings; `photon` is the increase of their
    /// variance per unit of light.
    fn stands_out(&self, photon: f32) -> bool {
        let variance = self.noise * self.noise + photon * self.light.max(0.0);
        self.top - self.upper > RING_SIGMAS * variance.sqrt()
    }
}

/// Mean of the good pixels among the nine about a place; `None` if the place is outside `pixels`, or all are
/// bad.
fn mean_about(pixels: &[[f32; SIDE]; SIDE], [x, y]: [isize; 2]) -> Option<f32> {
    let inside = |v: isize| (0..SIDE as isize).contains(&v);
    if !inside(x) || !inside(y) {
        return None;
    }
    let span = |v: isize| (v as usize).saturating_sub(1)..(v as usize + 2).min(SIDE);
    let (mut sum, mut count) = (0.0, 0.0);
    for v in pixels[span(y)].iter().flat_map(|row| &row[span(x)]).filter(|v| v.is_finite()) {
        sum += v;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(x: usize, y: usize, height: f32) -> Peak {
        Peak { x, y, vertex: [x as f32, y as f32], height, blob: 0 }
    }

    #[test]
    fn the_highest_are_kept_in_their_order() {
        let mut peaks: Vec<Peak> = [3.0, 9.0, 5.0, 5.0, 1.0].iter().map(|&h| peak(0, 0, h)).collect();
        let height = |peak: &Peak| peak.height;
        assert_eq!(keep_highest(&mut peaks, 3, height).len(), 2);
        assert_eq!(peaks.iter().map(|p| p.height).collect::<Vec<_>>(), [9.0, 5.0, 5.0]);
        assert!(keep_highest(&mut peaks, 3, height).is_empty());
        let mut equal = vec![peak(1, 0, 2.0), peak(2, 0, 2.0), peak(3, 0, 7.0)];
        let others = keep_highest(&mut equal, 2, height);
        assert_eq!((equal[0].x, equal[1].x, others[0].x), (1, 3, 2));
    }

    #[test]
    fn stars_stand_out_and_edges_do_not() {
        let width = 60;
        let pixels: Vec<f32> = (0..width * 60)
            .map(|k| {
                let (x, y) = ((k % width) as f32, (k / width) as f32);
                let plateau = if x >= 30.0 { 500.0 } else { 0.0 };
                let star = |a: f32, b: f32| 300.0 * (-0.5 * ((x - a).powi(2) + (y - b).powi(2)) / 1.5).exp();
                100.0 + plateau + star(12.0, 20.0) + star(45.0, 40.0) + ((k * 7919) % 7) as f32
            })
            .collect();
        let image = Image::from_slice(&pixels, width).unwrap();
        let background = Background::measure(&image, 60).unwrap();
        let seen = |x, y| {
            let noise = crate::imaging::background::Mesh::per_pixel(&vec![&[2.0; 60][..]; 60]);
            let background = Background { noise, ..background.clone() };
            Surroundings::of(&image, &background, &peak(x, y, 50.0)).is_some_and(|look| look.stands_out(0.0))
        };
        assert!(seen(12, 20) && seen(45, 40));
        assert!(!seen(31, 10) && !seen(30, 50) && !seen(50, 10) && !seen(15, 50));
    }
}
