//! Detection: a matched filter over the frame in units of its noise, runs of pixels above an isophote, blobs, peaks.
//!
//! The frame is read once, in bands of rows; nothing of its size is ever stored.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]
// Many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

pub(crate) use filter::Search;
use filter::{Filter, Level, Pass, Visitor};
use mirror::Mirror;

use crate::imaging::background::Background;
use crate::imaging::blobs::{Blob, Labels, Run};
use crate::imaging::defects::Defects;
use crate::imaging::image::Image;
use crate::simd::vectorized;

mod counts;
mod filter;
mod highest;
mod mirror;
mod skewed;

/// Rows a task works on: fewer balance better over threads, more repeat less of the filter at the seams.
const BAND_ROWS: usize = 128;
/// Pixels that are looked at together, each a bit of a word.
const WORD: usize = 32;
/// Blobs reach down to this fraction of the threshold, so that a star just found has pixels to count.
const ISOPHOTE_FRACTION: f32 = 0.6;

/// A local maximum of the filtered frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Peak {
    /// Column and row of the highest pixel.
    pub x: usize,
    pub y: usize,
    /// Position of the vertex of the parabolas through it and its neighbours.
    pub vertex: [f32; 2],
    /// Height in sigmas of the filtered noise.
    pub height: f32,
    /// Index of its blob.
    pub blob: usize,
}

impl Peak {
    /// The one at a place of three rows, at `at` column and row of the frame.
    #[inline(always)]
    fn at([x, y]: [usize; 2], rows: [&[f32]; 3], place: usize) -> Self {
        let height = rows[1][place];
        let vertex = [
            x as f32 + vertex(rows[1][place - 1], height, rows[1][place + 1]),
            y as f32 + vertex(rows[0][place], height, rows[2][place]),
        ];
        Self { x, y, vertex, height, blob: 0 }
    }

    /// From the filtered frame to the frame itself.
    fn unbin(&mut self, bin: usize) {
        self.vertex = self.vertex.map(|v| (v + 0.5) * bin as f32 - 0.5);
        [self.x, self.y] = self.vertex.map(|v| (v + 0.5) as usize);
    }
}

/// Peaks in reading order, the blobs they belong to, and the scale of the threshold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detection {
    pub peaks: Vec<Peak>,
    pub blobs: Vec<Blob>,
    /// Blobs with at least one peak.
    pub found: usize,
    /// Noise of the filtered frame over that of white noise of the same deviation.
    pub correlation: f32,
    /// Height that peaks have to reach, in sigmas of the filtered noise.
    pub threshold: f32,
    /// Sum of the two-dimensional kernel whose response to white noise is one.
    pub gain: f32,
    /// Response, in sigmas of the filtered noise, to light of one sigma in a single pixel.
    pub single: f32,
    /// Defects of the frame that were found, and left out.
    pub defects: Arc<Defects>,
    /// About how many peaks there are, where only the highest were looked for.
    pub about: Option<usize>,
}

impl Detection {
    /// Tells what peaks above a level of a filtered frame are.
    fn describe(&mut self, filter: &Filter<'_>, Level { cut, correlation, .. }: Level) {
        self.found = self.blobs.iter().filter(|blob| blob.peaks > 0).count();
        self.correlation = correlation;
        self.threshold = cut / correlation;
        self.gain = filter.gain;
        self.single = filter.single() / correlation;
    }
}

/// Finds peaks, in buffers that are kept from frame to frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detector {
    bands: Vec<Scan>,
    /// Those that were found in each band.
    defects: Vec<Defects>,
    runs: Vec<Run>,
    troughs: Vec<Trough>,
    labels: Labels,
    detection: Detection,
}

impl Detector {
    /// Finds the peaks higher than `threshold` sigmas. With `binned`, pixels are added up two by two first:
    /// faster, and a little less sensitive. What `search` finds in the rows of the frame is left out.
    pub(crate) fn detect(
        &mut self,
        image: &Image<'_>,
        background: &Background,
        filter_sigma: Option<f64>,
        threshold: f32,
        binned: bool,
        search: Option<&Search<'_>>,
    ) -> &Detection {
        let filter = Filter::new(image, background, filter_sigma, binned, search);
        let mut level = filter.level(background, threshold);
        self.scan(&filter, level, |band| band);
        let image = &image.without(self.take_defects(image.height()));
        let filter = filter.of(image);
        let mirror = Mirror { image, background, bin: filter.bin, white: filter.maxima(threshold) };
        let peaks = &self.detection.peaks;
        let mut cut = mirror.threshold(peaks, &self.troughs, level.cut).unwrap_or(level.cut);
        if background.skewness.is_infinite() || level.plateau > 0.0 {
            cut = counts::threshold(peaks, cut);
        }
        if cut > level.cut {
            level.cut = cut;
            self.scan(&filter, level, |band| band);
        }
        self.put_together(&filter, level);
        &self.detection
    }

    /// Joins what was found in the bands of a frame of so many rows.
    fn take_defects(&mut self, rows: usize) -> Arc<Defects> {
        let mut found = Defects::none(0);
        for band in &self.defects {
            found.join(band);
        }
        found.close(rows);
        self.detection.defects = Arc::new(found);
        self.detection.defects.clone()
    }

    /// Makes blobs of the runs, and the detection of them and the peaks.
    fn put_together(&mut self, filter: &Filter<'_>, level: Level) {
        let Self { runs, labels, detection, .. } = self;
        let bin = filter.bin;
        labels.label(runs, &mut detection.blobs);
        assign(runs, labels, &mut detection.peaks, &mut detection.blobs);
        for peak in &mut detection.peaks {
            peak.height /= level.correlation;
        }
        if bin > 1 {
            detection.peaks.iter_mut().for_each(|peak| peak.unbin(bin));
            // Of neighbouring rows, some have changed places.
            detection.peaks.sort_by_key(|peak| (peak.y, peak.x));
        }
        for blob in &mut detection.blobs {
            blob.unbin(bin);
        }
        detection.about = None;
        detection.describe(filter, level);
    }

    /// The last detection.
    pub(crate) fn detection(&self) -> &Detection {
        &self.detection
    }

    /// Collects what is above the cut, and below minus what of it is noise (without the plateau), in a part of each band of
    /// rows.
    fn scan(
        &mut self,
        filter: &Filter<'_>,
        Level { cut, plateau, .. }: Level,
        part: impl Fn(Range<usize>) -> Range<usize> + Sync,
    ) {
        let Self { bands, defects, runs, troughs, detection, .. } = self;
        let [_, height] = filter.size();
        bands.resize_with(height.div_ceil(BAND_ROWS), Scan::default);
        defects.clear();
        defects.resize_with(bands.len(), || Defects::none(0));
        bands.par_iter_mut().zip(defects).enumerate().for_each(|(band, (scan, defects))| {
            scan.restart(ISOPHOTE_FRACTION * cut, cut, plateau);
            let rows = part(band * BAND_ROWS..((band + 1) * BAND_ROWS).min(height));
            vectorized(Pass { filter, rows, visit: Visitor::Scan(scan), defects });
        });
        detection.peaks.clear();
        runs.clear();
        troughs.clear();
        for band in bands {
            detection.peaks.extend_from_slice(&band.peaks);
            runs.extend_from_slice(&band.runs);
            troughs.extend_from_slice(&band.troughs);
        }
    }
}

/// A local minimum of the filtered frame, as deep as noise has to be to make a peak of a plateau.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trough {
    x: usize,
    y: usize,
    /// Height of such a peak.
    depth: f32,
}

/// Collects the runs of filtered pixels above `isophote`, the peaks above `cut`, and the troughs that would be such peaks.
#[derive(Debug, Clone, Default)]
struct Scan {
    isophote: f32,
    cut: f32,
    plateau: f32,
    runs: Vec<Run>,
    peaks: Vec<Peak>,
    troughs: Vec<Trough>,
}

impl Scan {
    /// Looks at row `y` of a frame of this width, between those above and below it.
    #[inline(always)]
    fn visit(&mut self, y: usize, width: usize, rows: [&[f32]; 3]) {
        let (isophote, cut, deepest) = (self.isophote, self.cut, self.plateau - self.cut);
        // Where the run began that has not ended.
        let mut open: Option<usize> = None;
        for (c, word) in rows[1][1..].as_chunks::<WORD>().0.iter().enumerate() {
            let any = |reaches: &dyn Fn(f32) -> bool| word.iter().fold(false, |any, &s| any | reaches(s));
            let deep = any(&|s| s <= deepest);
            if open.is_none() && !deep && !any(&|s| s >= isophote) {
                continue;
            }
            // Where the threshold is zero, what fills up the last word reaches it too.
            let inside = u32::MAX >> ((c + 1) * WORD).saturating_sub(width);
            let above = reaching(word, isophote) & inside;
            // A bit wherever a pixel is not on the same side of the isophote as the one before.
            for k in ones(above ^ (above << 1 | u32::from(open.is_some()))) {
                let x = c * WORD + k;
                match open.take() {
                    Some(start) => self.runs.push(Run { y: y as u32, start: start as u32, end: x as u32 }),
                    None => open = Some(x),
                }
            }
            if any(&|s| s >= cut) {
                for k in ones(maxima(rows, c * WORD, cut) & inside) {
                    self.peaks.push(Peak::at([c * WORD + k, y], rows, c * WORD + k + 1));
                }
            }
            if deep {
                for k in ones(reaching_down(word, deepest) & inside) {
                    self.look_below(y, rows, c * WORD + k);
                }
            }
        }
        if let Some(start) = open {
            self.runs.push(Run { y: y as u32, start: start as u32, end: width as u32 });
        }
    }
}

impl Scan {
    fn restart(&mut self, isophote: f32, cut: f32, plateau: f32) {
        (self.isophote, self.cut, self.plateau) = (isophote, cut, plateau);
        self.runs.clear();
        self.peaks.clear();
        self.troughs.clear();
    }

    /// Keeps the pixel at column `x` if it is a trough.
    #[inline(always)]
    fn look_below(&mut self, y: usize, rows: [&[f32]; 3], x: usize) {
        let [above, row, below] = rows.map(|row| [0, 1, 2].map(|k| -row[x + k]));
        let [before, depth, after] = row;
        if is_peak(depth, [above[0], above[1], above[2], before], [after, below[0], below[1], below[2]]) {
            self.troughs.push(Trough { x, y, depth: depth + self.plateau });
        }
    }
}

/// A bit for each pixel that is not below the level.
#[inline(always)]
fn reaching(word: &[f32; WORD], level: f32) -> u32 {
    let mut bits = 0;
    for (k, &s) in word.iter().enumerate() {
        bits |= u32::from(s >= level) << k;
    }
    bits
}

/// A bit for each pixel that is not above the level.
#[inline(always)]
fn reaching_down(word: &[f32; WORD], level: f32) -> u32 {
    let mut bits = 0;
    for (k, &s) in word.iter().enumerate() {
        bits |= u32::from(s <= level) << k;
    }
    bits
}

/// Numbers of the bits that are set, from the lowest.
#[inline(always)]
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        lowest
    })
}

/// A bit for each peak that is not below the level among the pixels of the middle row from column `start` on.
#[inline(always)]
fn maxima(rows: [&[f32]; 3], start: usize, level: f32) -> u32 {
    let [above, row, below] = [
        &rows[0][start..start + WORD + 2],
        &rows[1][start..start + WORD + 2],
        &rows[2][start..start + WORD + 2],
    ];
    let mut bits = 0;
    for k in 0..WORD {
        let peak = is_peak(
            row[k + 1],
            [above[k], above[k + 1], above[k + 2], row[k]],
            [row[k + 2], below[k], below[k + 1], below[k + 2]],
        );
        bits |= u32::from((row[k + 1] >= level) & peak) << k;
    }
    bits
}

/// Whether a pixel is above its eight neighbours, those that come before and after it; of equal ones the first counts.
#[inline(always)]
fn is_peak(height: f32, before: [f32; 4], after: [f32; 4]) -> bool {
    let [a, b, c, d] = before;
    let [e, f, g, h] = after;
    let first = (height > a) & (height > b) & (height > c) & (height > d);
    first & (height >= e) & (height >= f) & (height >= g) & (height >= h)
}

/// Offset, within half a pixel, of the vertex of the parabola through three equidistant values.
fn vertex(before: f32, centre: f32, after: f32) -> f32 {
    let curvature = 2.0 * centre - before - after;
    if curvature > 0.0 { (0.5 * (after - before) / curvature).clamp(-0.5, 0.5) } else { 0.0 }
}

/// Tells each peak its blob, and each blob its number of peaks; peaks and runs are in reading order.
fn assign(runs: &[Run], labels: &Labels, peaks: &mut [Peak], blobs: &mut [Blob]) {
    let mut k = 0;
    for peak in peaks {
        while (runs[k].y as usize, runs[k].end as usize) <= (peak.y, peak.x) {
            k += 1;
        }
        peak.blob = labels.blob_of(k);
        blobs[peak.blob].peaks += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_bands_do_not_show() {
        let width = 64;
        let mut pixels = vec![0.0_f32; width * 300];
        for (k, v) in pixels.iter_mut().enumerate() {
            *v = ((k * 7919) % 101) as f32;
        }
        for (x, y) in [(10, 127), (30, 128), (50, 255), (5, 0), (63, 299)] {
            pixels[y * width + x] += 3000.0;
        }
        let image = Image::from_slice(&pixels, width).unwrap();
        let background = Background::measure(&image, 32).unwrap();
        let mut detector = Detector::default();
        // What a frame leaves in the buffers does not show in the next.
        detector.detect(&image, &background, None, 0.5, true, None);
        let detection = detector.detect(&image, &background, Some(1.5), 5.0, false, None);
        let mut found: Vec<_> = detection.peaks.iter().map(|p| (p.x, p.y)).collect();
        found.sort_unstable();
        assert_eq!(found, [(5, 0), (10, 127), (30, 128), (50, 255), (63, 299)]);
        assert!(detection.blobs.iter().all(|b| b.peaks <= 1));
    }
}
