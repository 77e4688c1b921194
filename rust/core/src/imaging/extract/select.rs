//! Which peaks may be stars: by the blobs they are in, their place, and how many there are.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Frame, Rejected};
use crate::imaging::background::Background;
use crate::imaging::blobs::Blob;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;

/// In a blob of so many pixels a peak has to stand out from what is around it: in the light of a beam, a lamp or a roof
/// there is noise and there are edges, in a crowd and in front of a nebula there are stars.
const LARGE_BLOB: usize = 1000;
/// The mean of a peak's 3 x 3 pixels has to exceed the upper quartile of those around it, at these places, by so many
/// sigmas of their noise, that of the light included, which the scatter of the surroundings of all peaks of a blob tells. On
/// an edge half of those around are as bright.
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
const RING_SIGMAS: f32 = 4.5;
/// Peaks looked at by one task.
const TASK_PEAKS: usize = 256;
/// Pixels on each side of the peak that are read.
const REACH: usize = 6;
const SIDE: usize = 2 * REACH + 1;
/// Distance from the median to the quartile in sigmas.
const QUARTILE_TO_SIGMA: f32 = 1.482_602;
/// Peaks are measured as long as there is no more than one, on average, in so many pixels of the frame, or as many as in
/// a small frame: only lattices and noise have more.
const PIXELS_PER_PEAK: usize = 60;
const FEW_PEAKS: usize = 5_000;
/// The surroundings of so many peaks of a blob, at least, tell how its noise grows with its light.
const SAMPLED_PEAKS: usize = 1000;
/// A peak is measured with those beside it, within so many pixels, that have this fraction of its height: fainter ones, or
/// further ones, hardly shift it.
const BESIDE: usize = 6;
const BESIDE_HEIGHT: f32 = 0.02;
/// Of so many times the peaks to be measured it is asked first whether they stand out, then of more.
const LOOKED_AT: usize = 2;

/// Peaks that may be stars, and how many were left out.
pub(super) type Chosen = (Vec<Peak>, Rejected);

/// Peaks in blobs of the right size, away from the border, that stand out from their surroundings: the highest if there
/// are too many or fewer are to be measured, with those beside them.
pub(super) fn select(frame: &Frame<'_>) -> Chosen {
    let mut rejected = Rejected::default();
    let mut peaks = of_right_size(frame, &mut rejected);
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

/// Peaks, some of them in large blobs.
struct Crowd<'a> {
    frame: &'a Frame<'a>,
    peaks: &'a [Peak],
    /// By large blob, how the variance of the light grows with it.
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

    /// How the variance of a blob's light grows with it: in the middle of what the surroundings of its peaks show.
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

    /// Those of some that stand out, in their order, and how many do not.
    fn standing_out(&self, some: Vec<usize>) -> (Vec<usize>, usize) {
        let looked_at = some.len();
        let kept: Vec<usize> =
            some.into_par_iter().with_min_len(TASK_PEAKS).filter(|&k| self.stands_out(k)).collect();
        let refused = looked_at - kept.len();
        (kept, refused)
    }

    /// So many of the highest that stand out, with those beside them; and how many that were looked at do not stand out.
    fn brightest(&self, most: usize) -> (Vec<usize>, usize) {
        let height = |&k: &usize| self.peaks[k].height;
        let mut wanted = LOOKED_AT * most;
        let (mut highest, refused) = loop {
            let mut some = (0..self.peaks.len()).collect();
            keep_highest(&mut some, wanted, height);
            let (kept, refused) = self.standing_out(some);
            if kept.len() >= most || wanted >= self.peaks.len() {
                break (kept, refused);
            }
            wanted *= LOOKED_AT;
        };
        keep_highest(&mut highest, most, height);
        let mut chosen = vec![false; self.peaks.len()];
        for &k in &highest {
            chosen[k] = true;
        }
        let beside: Vec<usize> = highest.iter().flat_map(|&k| self.beside(k)).collect();
        for k in beside {
            chosen[k] = chosen[k] || self.stands_out(k);
        }
        ((0..self.peaks.len()).filter(|&k| chosen[k]).collect(), refused)
    }

    /// Peaks beside one, which is among them; they are in reading order.
    fn beside(&self, k: usize) -> impl Iterator<Item = usize> {
        let Peak { x, y, height, .. } = self.peaks[k];
        let near_row = move |&k: &usize| self.peaks[k].y.abs_diff(y) <= BESIDE;
        let rows = (0..k).rev().take_while(near_row).chain((k..self.peaks.len()).take_while(near_row));
        rows.filter(move |&k| {
            self.peaks[k].x.abs_diff(x) <= BESIDE && self.peaks[k].height >= BESIDE_HEIGHT * height
        })
    }
}

/// How many stars may be measured if each has so many pixels of the frame, on average.
pub(super) fn most_stars(image: &Image<'_>, pixels: usize) -> usize {
    (image.width() * image.height() / pixels).max(FEW_PEAKS)
}

/// Keeps so many of the highest, in their order, and returns the others.
pub(super) fn keep_highest<P: Copy>(peaks: &mut Vec<P>, most: usize, height: impl Fn(&P) -> f32) -> Vec<P> {
    let surplus = peaks.len().saturating_sub(most);
    let mut others = Vec::with_capacity(surplus);
    if surplus > 0 {
        let mut heights: Vec<f32> = peaks.iter().map(&height).collect();
        let (_, &mut least, _) = heights.select_nth_unstable_by(surplus, f32::total_cmp);
        // Of those of just this height the first.
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

/// Levels around a peak, in means of 3 x 3 pixels.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    /// At the peak, and the upper quartile around it.
    top: f32,
    upper: f32,
    /// Light around it above the background, and its scatter.
    light: f32,
    scatter: f32,
    /// The frame's noise.
    noise: f32,
}

impl Surroundings {
    /// `None` where too much of them is beyond the frame, or bad.
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

    /// Whether the peak is brighter than what is around it, of which the variance grows with the light.
    fn stands_out(&self, photon: f32) -> bool {
        let variance = self.noise * self.noise + photon * self.light.max(0.0);
        self.top - self.upper > RING_SIGMAS * variance.sqrt()
    }
}

/// Mean of the good ones among the nine pixels about a place; `None` if it is off the frame.
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
