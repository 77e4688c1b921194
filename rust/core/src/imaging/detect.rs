//! Detects stars. A matched filter runs over the frame in units of its noise; runs of filtered pixels above
//! an isophote are joined into blobs, and local maxima above the threshold are peaks.
//!
//! The frame is read in bands of rows, a second time only if the threshold must be raised. No array of the
//! frame's size is stored.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]
// `&` and `|` on booleans make many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use filter::{Filter, Level, Pass, Visitor};
use mirror::Mirror;
pub(crate) use reader::Search;

use crate::imaging::background::Background;
use crate::imaging::blobs::{Blob, Labels, Run};
use crate::imaging::defects::Defects;
use crate::imaging::image::Image;
use crate::simd::vectorized;

mod counts;
mod filter;
mod highest;
mod mirror;
mod reader;
mod skewed;

/// Rows per task. Fewer rows balance the load better between threads; more rows repeat less filtering at the
/// borders.
const BAND_ROWS: usize = 128;
/// Number of pixels that are compared together; each gives one bit of a word.
const WORD: usize = 32;
/// Level of the isophote that bounds blobs, as a fraction of the threshold. It is below one, so that the blob
/// of a star just above the threshold has enough pixels to count.
const ISOPHOTE_FRACTION: f32 = 0.6;

/// A local maximum of the filtered frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Peak {
    /// Column and row of the highest pixel.
    pub x: usize,
    pub y: usize,
    /// Position of the vertices of the parabolas along x and y through the highest pixel and its neighbours.
    pub vertex: [f32; 2],
    /// Height in sigmas of the filtered noise.
    pub height: f32,
    /// Index of its blob.
    pub blob: usize,
}

impl Peak {
    /// The peak at column `x` and row `y` of the filtered frame, which is at index `place` of the middle one
    /// of three rows.
    #[inline(always)]
    fn at([x, y]: [usize; 2], rows: [&[f32]; 3], place: usize) -> Self {
        let height = rows[1][place];
        let vertex = [
            x as f32 + vertex(rows[1][place - 1], height, rows[1][place + 1]),
            y as f32 + vertex(rows[0][place], height, rows[2][place]),
        ];
        Self { x, y, vertex, height, blob: 0 }
    }

    /// Converts the position from pixels of the binned, filtered frame to pixels of the frame itself.
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
    /// Number of blobs with at least one peak.
    pub found: usize,
    /// Noise of the filtered frame, relative to that of filtered white noise of the same standard deviation
    /// per pixel.
    pub correlation: f32,
    /// Height that peaks must reach, in sigmas of the filtered noise.
    pub threshold: f32,
    /// Sum of the two-dimensional kernel, which is normalised to a unit response to white noise.
    pub gain: f32,
    /// Response to a single pixel that is one sigma of the pixel noise high, in sigmas of the filtered noise.
    pub single: f32,
    /// Defects that were found in the frame and excluded.
    pub defects: Arc<Defects>,
    /// Approximate number of all peaks, if only the highest were searched for.
    pub about: Option<usize>,
}

impl Detection {
    /// Sets the number of blobs with peaks and the scale of the threshold, for peaks above a level of a
    /// filtered frame.
    fn describe(&mut self, filter: &Filter<'_>, Level { cut, correlation, .. }: Level) {
        self.found = self.blobs.iter().filter(|blob| blob.peaks > 0).count();
        self.correlation = correlation;
        self.threshold = cut / correlation;
        self.gain = filter.gain;
        self.single = filter.single() / correlation;
    }
}

/// Finds peaks; its buffers are reused from frame to frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detector {
    bands: Vec<Scan>,
    /// Defects found in each band.
    defects: Vec<Defects>,
    runs: Vec<Run>,
    troughs: Vec<Trough>,
    labels: Labels,
    detection: Detection,
}

impl Detector {
    /// Finds the peaks higher than `threshold` sigmas of the filtered noise. With `binned`, the frame is
    /// binned 2 x 2 first, which is faster and a little less sensitive. Defects that `search` finds in the
    /// frame are excluded.
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

    /// Joins the defects of all bands of a frame with this number of rows, and stores them in the detection.
    fn take_defects(&mut self, rows: usize) -> Arc<Defects> {
        let mut found = Defects::none(0);
        for band in &self.defects {
            found.join(band);
        }
        found.close(rows);
        self.detection.defects = Arc::new(found);
        self.detection.defects.clone()
    }

    /// Joins the runs into blobs, assigns the peaks to them, and completes the detection.
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
            // Unbinning may swap peaks of neighbouring rows.
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

    /// Collects runs, peaks and troughs in a part of each band of rows. Peaks are at or above the cut;
    /// troughs are at or below minus the noise part of the cut (the cut less the plateau).
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
        bands.par_iter_mut().zip(defects).enumerate().for_each_init(
            || filter.buffers(),
            |buffers, (band, (scan, defects))| {
                scan.restart(ISOPHOTE_FRACTION * cut, cut, plateau);
                let rows = part(band * BAND_ROWS..((band + 1) * BAND_ROWS).min(height));
                vectorized(Pass { filter, rows, visit: Visitor::Scan(scan), defects, buffers });
            },
        );
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

/// A local minimum of the filtered frame that is so deep that equal noise of the other sign, on a plateau,
/// would be a peak.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trough {
    x: usize,
    y: usize,
    /// Height of that peak.
    depth: f32,
}

/// Collects the runs of filtered pixels above `isophote`, the peaks above `cut`, and the troughs that
/// correspond to such peaks.
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
    /// Scans row `y` of a frame of this width; `rows` are the row above it, the row itself, and the row below
    /// it.
    #[inline(always)]
    fn visit(&mut self, y: usize, width: usize, rows: [&[f32]; 3]) {
        let (isophote, cut, deepest) = (self.isophote, self.cut, self.plateau - self.cut);
        // Start column of the run that has not ended yet.
        let mut open: Option<usize> = None;
        for (c, word) in rows[1][1..].as_chunks::<WORD>().0.iter().enumerate() {
            let any = |reaches: &dyn Fn(f32) -> bool| word.iter().fold(false, |any, &s| any | reaches(s));
            if open.is_none() && !any(&|s| (s >= isophote) | (s <= deepest)) {
                continue;
            }
            // Excludes the zeros that pad the last word: they would reach a threshold of zero.
            let inside = u32::MAX >> ((c + 1) * WORD).saturating_sub(width);
            let above = reaching(word, isophote) & inside;
            // A bit for each pixel that is on the other side of the isophote than the pixel before it.
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
            if any(&|s| s <= deepest) {
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

    /// Adds the pixel at column `x` to the troughs if it is a local minimum.
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

/// Indices of the bits that are set, from the lowest.
#[inline(always)]
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        lowest
    })
}

/// A bit for each pixel of the middle row, from column `start` on, that is a peak and not below the level.
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

/// Whether a pixel is higher than its eight neighbours, which are given in two groups: before and after it in
/// reading order. Of equal pixels the first is the peak.
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

/// Sets the blob of each peak and the number of peaks of each blob; peaks and runs are in reading order.
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
        // Content that one frame leaves in the buffers does not affect the next.
        detector.detect(&image, &background, None, 0.5, true, None);
        let detection = detector.detect(&image, &background, Some(1.5), 5.0, false, None);
        let mut found: Vec<_> = detection.peaks.iter().map(|p| (p.x, p.y)).collect();
        found.sort_unstable();
        assert_eq!(found, [(5, 0), (10, 127), (30, 128), (50, 255), (63, 299)]);
        assert!(detection.blobs.iter().all(|b| b.peaks <= 1));
    }
}
