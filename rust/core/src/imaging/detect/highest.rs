//! Finds only the highest peaks of a rich frame. A first pass over binned pixels uses a level above which
//! about the wanted number of peaks remains; then the frame is filtered without binning around each of these
//! peaks.
//!
//! This serves speed alone. A solution needs the brightest thousand of fifty thousand stars; without this
//! search, faint stars would be filtered, listed, and joined into blobs, only to be discarded in the end.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use std::sync::Arc;

use rayon::prelude::*;

use super::filter::{Filter, Level, SQUARE, Square};
use super::{BAND_ROWS, Detector, Peak, is_peak};
use crate::imaging::background::Background;
use crate::imaging::image::Image;
use crate::simd::{Work, vectorized};

/// The level is chosen for this multiple of the wanted number of peaks, so that no fewer than wanted are
/// found.
const AMPLE: usize = 2;
/// Rows per band that are sampled to estimate how many peaks there are above each height.
const SAMPLE_ROWS: usize = 16;
/// Least number of peaks to be found in the sampled rows. From so large a sample, the number of peaks in the
/// whole frame is known to ten percent.
const MIN_SAMPLED: usize = 100;
/// A frame is rich if it has more than this multiple of the wanted number of peaks.
const RICH: usize = 4;
/// Largest half-width of the filter, in pixels of the binned frame. Wider filters reach so far beyond the
/// squares that filtering all pixels is faster.
const MAX_REACH: usize = 6;
/// If there is more than one trough per this number of peaks, the frame has noise that only the search for
/// all peaks can handle.
const PEAKS_PER_TROUGH: usize = 50;
/// Peaks per task.
const TASK_PEAKS: usize = 64;
/// Pixels from a peak of the binned frame to the first corner of the square that is filtered around it.
const HALF: isize = (SQUARE / 2) as isize - 1;

impl Detector {
    /// Finds about the `wanted` highest peaks, in binned pixels. Returns false, with a detection that is of
    /// no use, if there are not many more peaks, if there are too many troughs, or if most peaks share their
    /// blobs with others, as noise peaks of large images do.
    pub(crate) fn detect_highest(
        &mut self,
        image: &Image<'_>,
        background: &Background,
        filter_sigma: Option<f64>,
        threshold: f32,
        wanted: usize,
    ) -> bool {
        let filter = Filter::new(image, background, filter_sigma, true, None);
        let level = filter.level(background, threshold);
        let Some((cut, about)) = self.highest(&filter, level, wanted) else { return false };
        self.scan(&filter, Level { cut, ..level }, |band| band);
        if let Some(least) = lowest_of(wanted, &mut self.heights()) {
            self.detection.peaks.retain(|peak| peak.height >= least);
        }
        if PEAKS_PER_TROUGH * self.troughs.len() > self.detection.peaks.len() {
            return false;
        }
        self.put_together(&filter, level);
        // The caller searches for defects among the peaks if it needs them.
        self.detection.defects = Arc::default();
        self.detection.about = Some(about);
        let alone = self.detection.blobs.iter().filter(|blob| blob.peaks == 1).count();
        2 * alone > self.detection.peaks.len()
    }

    /// The level above which there are about as many peaks as wanted, and the approximate number of all
    /// peaks; `None` if the frame is not rich or this search would not be faster.
    fn highest(&mut self, filter: &Filter<'_>, level: Level, wanted: usize) -> Option<(f32, usize)> {
        let [width, height] = filter.size();
        let sampled = height.div_ceil(BAND_ROWS) * SAMPLE_ROWS;
        let wanted_here = AMPLE * wanted * sampled / height.max(1);
        if wanted_here < MIN_SAMPLED || filter.reach() > MAX_REACH || width < SQUARE {
            return None;
        }
        self.scan(filter, level, |band| {
            let start = band.start + band.len().saturating_sub(SAMPLE_ROWS) / 2;
            start..(start + SAMPLE_ROWS).min(band.end)
        });
        let about = self.detection.peaks.len() * height / sampled;
        let cut = lowest_of(wanted_here, &mut self.heights()).filter(|_| about > RICH * wanted)?;
        Some((cut, about))
    }

    /// Heights of the peaks.
    fn heights(&self) -> Vec<f32> {
        self.detection.peaks.iter().map(|peak| peak.height).collect()
    }

    /// Replaces the peaks of binned pixels by the peaks of the unbinned frame at or near them. Each peak near
    /// a binned peak is assigned to the blob of the latter.
    pub(crate) fn refine_unbinned(
        &mut self,
        image: &Image<'_>,
        background: &Background,
        filter_sigma: Option<f64>,
        threshold: f32,
    ) {
        let filter = Filter::new(image, background, filter_sigma, false, None);
        let level = filter.level(background, threshold);
        let Self { detection, .. } = self;
        let mut found: Vec<Near> = detection
            .peaks
            .par_chunks(TASK_PEAKS)
            .flat_map_iter(|peaks| vectorized(Look { filter: &filter, level, peaks }))
            .collect();
        // A peak that is found near several binned peaks belongs to the nearest of them.
        let place = |near: &Near| (near.peak.y, near.peak.x);
        found.sort_unstable_by_key(|near| (place(near), near.distance, near.peak.blob));
        found.dedup_by_key(|near| place(near));
        detection.peaks.clear();
        detection.blobs.iter_mut().for_each(|blob| blob.peaks = 0);
        for Near { peak, .. } in found {
            detection.blobs[peak.blob].peaks += 1;
            detection.peaks.push(peak);
        }
        detection.describe(&filter, level);
    }
}

/// The lowest of the `count` highest heights; `None` if `count` is zero or there are fewer heights.
fn lowest_of(count: usize, heights: &mut [f32]) -> Option<f32> {
    let surplus = heights.len().checked_sub(count).filter(|_| count > 0)?;
    Some(*heights.select_nth_unstable_by(surplus, f32::total_cmp).1)
}

/// A peak, and the square of its distance from the binned peak near which it was found.
struct Near {
    peak: Peak,
    distance: usize,
}

/// The search of the unbinned frame around some binned peaks.
struct Look<'a> {
    filter: &'a Filter<'a>,
    level: Level,
    peaks: &'a [Peak],
}

impl Work for Look<'_> {
    type Output = Vec<Near>;

    #[inline(always)]
    fn call(self) -> Vec<Near> {
        let (mut scratch, mut square) = (Square::default(), [[0.0; SQUARE]; SQUARE]);
        let mut found = Vec::new();
        for of in self.peaks {
            let from = [of.x, of.y].map(|v| v as isize - HALF);
            self.filter.square(from, &mut scratch, &mut square);
            for j in 1..SQUARE - 1 {
                if !square[j].iter().fold(false, |any, &height| any | (height >= self.level.cut)) {
                    continue;
                }
                let rows = [&square[j - 1][..], &square[j][..], &square[j + 1][..]];
                for i in (1..SQUARE - 1).filter(|&i| rows[1][i] >= self.level.cut) {
                    let [above, row, below] = rows.map(|row| [row[i - 1], row[i], row[i + 1]]);
                    let before = [above[0], above[1], above[2], row[0]];
                    if is_peak(row[1], before, [row[2], below[0], below[1], below[2]]) {
                        // No peak is outside the frame: the square is zero there, which is below the level.
                        let [x, y] = [from[0] + i as isize, from[1] + j as isize].map(|v| v as usize);
                        let peak = Peak::at([x, y], rows, i);
                        let peak =
                            Peak { height: peak.height / self.level.correlation, blob: of.blob, ..peak };
                        let distance = x.abs_diff(of.x).pow(2) + y.abs_diff(of.y).pow(2);
                        found.push(Near { peak, distance });
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 1024;

    /// Stars of many magnitudes in noise, on a lattice of this spacing in pixels.
    fn frame(spacing: usize) -> Vec<f32> {
        let mut state = 5_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        let mut noise = || 3.5 * (random() + random() + random());
        let mut pixels: Vec<f32> = (0..WIDTH * WIDTH).map(|_| 100.0 + noise()).collect();
        let places = || (spacing / 2..WIDTH - 5).step_by(spacing);
        for (x, y) in places().flat_map(|y| places().map(move |x| (x, y))) {
            let (dx, dy, height) = (random() - 0.5, random() - 0.5, 40.0 / (random() + 0.002));
            for (k, pixel) in pixels.iter_mut().enumerate().skip((y - 4) * WIDTH).take(9 * WIDTH) {
                let [u, v] = [(k % WIDTH) as f32 - x as f32 - dx, (k / WIDTH) as f32 - y as f32 - dy];
                if u.abs() < 5.0 {
                    *pixel += height * (-0.5 * (u * u + v * v)).exp();
                }
            }
        }
        pixels
    }

    #[test]
    fn the_highest_are_those_of_all() {
        let pixels = frame(9);
        let image = Image::from_slice(&pixels, WIDTH).unwrap();
        let background = Background::measure(&image, 64).unwrap();
        let all = Detector::default().detect(&image, &background, Some(1.5), 5.0, false, None).clone();
        let mut detector = Detector::default();
        assert!(detector.detect_highest(&image, &background, Some(1.5), 5.0, 1000));
        let about = detector.detection().about.unwrap();
        assert!(about.abs_diff(all.peaks.len()) < all.peaks.len() / 8, "{about} {}", all.peaks.len());
        detector.refine_unbinned(&image, &background, Some(1.5), 5.0);
        let some = detector.detection();
        assert!((1000..3000).contains(&some.peaks.len()) && 4 * some.peaks.len() < all.peaks.len());
        assert!(some.peaks.is_sorted_by_key(|peak| (peak.y, peak.x)));
        let mut highest = all.peaks.clone();
        highest.sort_by(|a, b| b.height.total_cmp(&a.height));
        for peak in &highest[..700] {
            let k = some.peaks.binary_search_by_key(&(peak.y, peak.x), |peak| (peak.y, peak.x)).unwrap();
            assert!((some.peaks[k].height / peak.height - 1.0).abs() < 0.01);
            assert!((some.peaks[k].vertex[0] - peak.vertex[0]).abs() < 0.01);
        }
        // A frame with three times the wanted number of peaks is not rich.
        assert!(!detector.detect_highest(&image, &background, Some(1.5), 5.0, all.peaks.len() / 3));
    }
}
