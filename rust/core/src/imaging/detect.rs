//! Detection: a matched filter over the frame in units of its noise, runs of pixels above an isophote, blobs, peaks.
//!
//! The frame is read once, in bands of rows; nothing of its size is ever stored.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]
// Many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use rayon::prelude::*;

use filter::{Filter, Pass, Visitor};
use mirror::Mirror;

use crate::imaging::background::Background;
use crate::imaging::blobs::{Blob, Labels, Run};
use crate::imaging::image::{Image, Pixel};
use crate::simd::vectorized;

mod filter;
mod mirror;
mod skewed;

/// Rows a task works on: fewer balance better over threads, more repeat less of the filter at the seams.
const BAND_ROWS: usize = 128;
/// Pixels that are looked at together, each a bit of a word.
const WORD: usize = 32;
/// Blobs reach down to this fraction of the threshold, so that a star just found has pixels to count.
const ISOPHOTE_FRACTION: f32 = 0.6;

/// Standard deviation of rounding, in steps.
const ROUNDING: f32 = 0.288_675;

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
}

/// Finds peaks, in buffers that are kept from frame to frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detector {
    bands: Vec<Scan>,
    runs: Vec<Run>,
    troughs: Vec<Trough>,
    labels: Labels,
    detection: Detection,
}

impl Detector {
    /// Finds the peaks higher than `threshold` sigmas. With `binned`, pixels are added up two by two first:
    /// faster, and a little less sensitive.
    pub(crate) fn detect<T: Pixel>(
        &mut self,
        image: &Image<'_, T>,
        background: &Background,
        filter_sigma: Option<f64>,
        threshold: f32,
        binned: bool,
    ) -> &Detection {
        let filter = Filter::new(image, background, filter_sigma, binned);
        let bin = filter.bin;
        let noise = filter.noise(background);
        // The noise is on top of areas that may be a step higher than most, and too rare to be seen in it.
        let plateau = filter.plateau(background);
        let correlation = noise.deviation.max(plateau * ROUNDING);
        let mut cut = noise.exceeded(threshold) + plateau;
        self.scan(&filter, cut, plateau);
        let mirror = Mirror { image, background, bin, white: filter.maxima(threshold) };
        if let Some(higher) = mirror.threshold(&self.detection.peaks, &self.troughs, cut) {
            cut = higher;
            self.scan(&filter, cut, plateau);
        }
        let Self { runs, labels, detection, .. } = self;
        labels.label(runs, &mut detection.blobs);
        assign(runs, labels, &mut detection.peaks, &mut detection.blobs);
        for peak in &mut detection.peaks {
            peak.height /= correlation;
            if bin > 1 {
                peak.unbin(bin);
            }
        }
        for blob in &mut detection.blobs {
            blob.unbin(bin);
        }
        detection.found = detection.blobs.iter().filter(|blob| blob.peaks > 0).count();
        detection.correlation = correlation;
        detection.threshold = cut / correlation;
        detection.gain = filter.gain;
        detection.single = filter.single() / correlation;
        detection
    }

    /// What was found last.
    pub(crate) fn detection(&self) -> &Detection {
        &self.detection
    }

    /// Collects what is above `cut`, and below minus what of it is noise: without the plateau.
    fn scan<T: Pixel>(&mut self, filter: &Filter<'_, T>, cut: f32, plateau: f32) {
        let Self { bands, runs, troughs, detection, .. } = self;
        let [_, height] = filter.size();
        bands.resize_with(height.div_ceil(BAND_ROWS), Scan::default);
        bands.par_iter_mut().enumerate().for_each(|(band, scan)| {
            scan.restart(ISOPHOTE_FRACTION * cut, cut, plateau);
            let rows = band * BAND_ROWS..((band + 1) * BAND_ROWS).min(height);
            vectorized(Pass { filter, rows, visit: Visitor::Scan(scan) });
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
    /// Looks at row `y` between those above and below it.
    #[inline(always)]
    fn visit(&mut self, y: usize, rows: [&[f32]; 3]) {
        let (isophote, cut, deepest) = (self.isophote, self.cut, self.plateau - self.cut);
        let row = &rows[1][1..rows[1].len() - 1];
        // Where the run began that has not ended.
        let mut open: Option<usize> = None;
        let (words, rest) = row.as_chunks::<WORD>();
        let mut last = [0.0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        for (c, word) in words.iter().chain([&last]).enumerate() {
            let quiet = |&s: &f32| (s < isophote) & (s > deepest);
            if open.is_none() && word.iter().fold(true, |all, s| all & quiet(s)) {
                continue;
            }
            // Where the threshold is zero, what fills up the last word reaches it too.
            let inside = if c < words.len() { u32::MAX } else { (1 << rest.len()) - 1 };
            let above = reaching(word, isophote) & inside;
            // A bit wherever a pixel is not on the same side of the isophote as the one before.
            let mut crossings = above ^ (above << 1 | u32::from(open.is_some()));
            while crossings != 0 {
                let x = c * WORD + crossings.trailing_zeros() as usize;
                crossings &= crossings - 1;
                match open.take() {
                    Some(start) => self.runs.push(Run { y: y as u32, start: start as u32, end: x as u32 }),
                    None => open = Some(x),
                }
            }
            let mut high = reaching(word, cut) & inside;
            while high != 0 {
                self.look(y, rows, c * WORD + high.trailing_zeros() as usize);
                high &= high - 1;
            }
            let mut deep = reaching_down(word, deepest) & inside;
            while deep != 0 {
                self.look_below(y, rows, c * WORD + deep.trailing_zeros() as usize);
                deep &= deep - 1;
            }
        }
        if let Some(start) = open {
            self.runs.push(Run { y: y as u32, start: start as u32, end: row.len() as u32 });
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

    /// Keeps the pixel at column `x` if it is a peak.
    #[inline(always)]
    fn look(&mut self, y: usize, rows: [&[f32]; 3], x: usize) {
        if !is_peak(rows, x + 1) {
            return;
        }
        let height = rows[1][x + 1];
        let vertex = [
            x as f32 + vertex(rows[1][x], height, rows[1][x + 2]),
            y as f32 + vertex(rows[0][x + 1], height, rows[2][x + 1]),
        ];
        self.peaks.push(Peak { x, y, vertex, height, blob: 0 });
    }

    /// Keeps the pixel at column `x` if it is a trough.
    #[inline(always)]
    fn look_below(&mut self, y: usize, rows: [&[f32]; 3], x: usize) {
        let around = rows.map(|row| [0, 1, 2].map(|k| -row[x + k]));
        if is_peak([&around[0], &around[1], &around[2]], 1) {
            self.troughs.push(Trough { x, y, depth: around[1][1] + self.plateau });
        }
    }
}

/// A bit for each pixel that is not below the level.
#[inline(always)]
fn reaching(word: &[f32; WORD], level: f32) -> u32 {
    word.iter().enumerate().fold(0, |bits, (k, &s)| bits | u32::from(s >= level) << k)
}

/// A bit for each pixel that is not above the level.
#[inline(always)]
fn reaching_down(word: &[f32; WORD], level: f32) -> u32 {
    word.iter().enumerate().fold(0, |bits, (k, &s)| bits | u32::from(s <= level) << k)
}

/// Whether padded column `i` of the middle row is above its eight neighbours; of equal ones the first counts.
#[inline(always)]
fn is_peak([above, row, below]: [&[f32]; 3], i: usize) -> bool {
    let (above, row, below) = (&above[i - 1..i + 2], &row[i - 1..i + 2], &below[i - 1..i + 2]);
    let s = row[1];
    let first = (s > above[0]) & (s > above[1]) & (s > above[2]) & (s > row[0]);
    first & (s >= row[2]) & (s >= below[0]) & (s >= below[1]) & (s >= below[2])
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
        detector.detect(&image, &background, None, 0.5, true);
        let detection = detector.detect(&image, &background, Some(1.5), 5.0, false);
        let mut found: Vec<_> = detection.peaks.iter().map(|p| (p.x, p.y)).collect();
        found.sort_unstable();
        assert_eq!(found, [(5, 0), (10, 127), (30, 128), (50, 255), (63, 299)]);
        assert!(detection.blobs.iter().all(|b| b.peaks <= 1));
    }
}
