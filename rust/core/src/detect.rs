//! Detection: a matched filter over the frame in units of its noise, runs of pixels above an isophote, blobs, peaks.
//!
//! The frame is read once, in bands of rows; nothing of its size is ever stored.

use rayon::prelude::*;

use crate::background::{Background, Mesh, RowScratch};
use crate::image::{Image, Pixel};
use crate::lanes::{self, Lanes};

/// The filter's kernel ends at this many of its sigmas.
const KERNEL_CUT: f64 = 3.0;
/// Rows a task works on: fewer balance better over threads, more repeat less of the filter at the seams.
const BAND_ROWS: usize = 128;
/// Blobs reach down to this fraction of the threshold, so that a star just found has pixels to count.
const ISOPHOTE_FRACTION: f32 = 0.6;
/// Rows on which the noise after filtering is measured.
const NOISE_ROWS: usize = 8;
/// Distance from the median to the 16th percentile of a unit normal distribution.
const PERCENTILE_16: f32 = 0.994_458;
/// Correlated noise (JPEG, demosaicing) reaches this; what exceeds it are unresolved stars, which may be found.
const MAX_CORRELATION: f32 = 3.0;
/// Pixels filtered together, as many as fit the registers.
const BLOCK: usize = 16;

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

/// Neighbouring pixels above the isophote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Blob {
    /// Number of pixels.
    pub pixels: usize,
    /// Number of peaks.
    pub peaks: usize,
}

/// Peaks in reading order, the blobs they belong to, and the scale of the threshold.
#[derive(Debug, Clone)]
pub(crate) struct Detection {
    pub peaks: Vec<Peak>,
    pub blobs: Vec<Blob>,
    /// Blobs with at least one peak.
    pub found: usize,
    /// Noise of the filtered frame over that of white noise of the same deviation.
    pub correlation: f32,
    /// Sum of the two-dimensional kernel whose response to white noise is one.
    pub gain: f32,
}

/// A run of pixels above the isophote: columns `start..end` of row `y`.
#[derive(Debug, Clone, Copy)]
struct Run {
    y: u32,
    start: u32,
    end: u32,
}

/// Finds the peaks higher than `threshold` sigmas.
pub(crate) fn detect<T: Pixel>(
    image: &Image<'_, T>,
    background: &Background,
    filter_sigma: Option<f64>,
    threshold: f32,
) -> Detection {
    let filter = Filter::new(image, background, filter_sigma);
    let correlation = filter.noise();
    let cut = threshold * correlation;
    let isophote = ISOPHOTE_FRACTION * cut;
    let bands: Vec<(Vec<Run>, Vec<Peak>)> = (0..image.height().div_ceil(BAND_ROWS))
        .into_par_iter()
        .map(|band| {
            let (mut runs, mut peaks) = (Vec::new(), Vec::new());
            let rows = band * BAND_ROWS..((band + 1) * BAND_ROWS).min(image.height());
            filter.triples(rows, |y, rows| scan(y, rows, isophote, cut, &mut runs, &mut peaks));
            (runs, peaks)
        })
        .collect();
    let mut peaks: Vec<Peak> = bands.iter().flat_map(|(_, peaks)| peaks.iter().copied()).collect();
    let runs: Vec<Run> = bands.into_iter().flat_map(|(runs, _)| runs).collect();
    let blobs = label(&runs, &mut peaks);
    for peak in &mut peaks {
        peak.height /= correlation;
    }
    let found = blobs.iter().filter(|blob| blob.peaks > 0).count();
    Detection { peaks, blobs, found, correlation, gain: filter.sum * filter.sum }
}

/// The matched filter: a separable Gaussian on the frame less its level, over its noise.
struct Filter<'a, T> {
    image: &'a Image<'a, T>,
    level: &'a Mesh,
    weight: Mesh,
    /// Half of the symmetric kernel, from its centre outwards, of unit square sum.
    kernel: Vec<f32>,
    sum: f32,
}

impl<'a, T: Pixel> Filter<'a, T> {
    fn new(image: &'a Image<'a, T>, background: &'a Background, sigma: Option<f64>) -> Self {
        let kernel: Vec<f64> = match sigma {
            Some(sigma) => (0..=(KERNEL_CUT * sigma).ceil() as usize)
                .map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp())
                .collect(),
            None => vec![1.0],
        };
        let norm = (2.0 * kernel.iter().map(|k| k * k).sum::<f64>() - 1.0).sqrt();
        let sum = (2.0 * kernel.iter().sum::<f64>() - 1.0) / norm;
        let weight = background.noise.map(|noise| if noise > 0.0 { 1.0 / noise } else { 0.0 });
        let kernel = kernel.iter().map(|k| (k / norm) as f32).collect();
        Self { image, level: &background.level, weight, kernel, sum: sum as f32 }
    }

    /// Robust deviation of the filtered frame: one for white noise, more where the noise is correlated.
    fn noise(&self) -> f32 {
        let step = self.image.height().div_ceil(NOISE_ROWS);
        let mut samples: Vec<f32> = (step / 2..self.image.height())
            .step_by(step)
            .collect::<Vec<_>>()
            .into_par_iter()
            .flat_map_iter(|y| {
                let mut row = Vec::new();
                self.triples(y..y + 1, |_, [_, middle, _]| {
                    row.extend(middle.iter().copied().filter(|&s| s != 0.0));
                });
                row
            })
            .collect();
        if samples.is_empty() {
            return 1.0;
        }
        let n = samples.len();
        let (low, &mut median, _) = samples.select_nth_unstable_by(n / 2, f32::total_cmp);
        if low.is_empty() {
            return 1.0;
        }
        let percentile = *low.select_nth_unstable_by((0.16 * n as f32) as usize, f32::total_cmp).1;
        ((median - percentile) / PERCENTILE_16).clamp(1.0, MAX_CORRELATION)
    }

    /// Calls `visit(y, [row above, row, row below])` for filtered rows, each with one zero before and after it.
    fn triples(&self, rows: std::ops::Range<usize>, mut visit: impl FnMut(usize, [&[f32]; 3])) {
        let reach = self.kernel.len() - 1;
        let (width, height) = (self.image.width(), self.image.height());
        let padded = width.next_multiple_of(BLOCK);
        let mut scratch = Scratch::new(width, padded, reach);
        let mut across = vec![vec![0.0; padded]; 2 * reach + 1];
        let mut filtered = vec![vec![0.0_f32; padded + 2]; 3];
        let first = rows.start as isize - 1;
        for y in first - reach as isize..first + reach as isize {
            let slot = y.rem_euclid(across.len() as isize) as usize;
            self.filter_row(y, &mut scratch, &mut across[slot]);
        }
        for y in first..=rows.end as isize {
            let ahead = y + reach as isize;
            let slots = across.len() as isize;
            self.filter_row(ahead, &mut scratch, &mut across[ahead.rem_euclid(slots) as usize]);
            filtered.rotate_left(1);
            let out = &mut filtered[2][1..=padded];
            if y < 0 || y >= height as isize {
                out.fill(0.0);
            } else {
                let row = |offset: isize| &across[(y + offset).rem_euclid(slots) as usize][..];
                let pairs: Vec<_> = (0..=reach as isize).map(|i| (row(-i), row(i))).collect();
                symmetric(&self.kernel, &pairs, out);
                out[width..].fill(0.0);
            }
            if y > rows.start as isize {
                let [above, middle, below] = [0, 1, 2].map(|k: usize| &filtered[k][..width + 2]);
                visit((y - 1) as usize, [above, middle, below]);
            }
        }
    }

    /// One row in units of the noise, filtered along itself; zeros outside the frame and for bad pixels.
    fn filter_row(&self, y: isize, scratch: &mut Scratch, out: &mut [f32]) {
        if y < 0 || y >= self.image.height() as isize {
            out.fill(0.0);
            return;
        }
        let (y, reach, width) = (y as usize, self.kernel.len() - 1, self.image.width());
        self.level.fill_row(y, &mut scratch.rows, &mut scratch.level);
        self.weight.fill_row(y, &mut scratch.rows, &mut scratch.weight);
        let row = &mut scratch.row[reach..reach + width];
        self.image.read(y, 0, row);
        for ((v, &level), &weight) in row.iter_mut().zip(&scratch.level).zip(&scratch.weight) {
            let sigmas = (*v - level) * weight;
            *v = if sigmas.abs() < f32::INFINITY { sigmas } else { 0.0 };
        }
        let row = &scratch.row;
        let padded = out.len();
        let pairs: Vec<_> = (0..=reach)
            .map(|i| (&row[reach - i..reach - i + padded], &row[reach + i..reach + i + padded]))
            .collect();
        symmetric(&self.kernel, &pairs, out);
    }
}

struct Scratch {
    row: Vec<f32>,
    level: Vec<f32>,
    weight: Vec<f32>,
    rows: RowScratch,
}

impl Scratch {
    fn new(width: usize, padded: usize, reach: usize) -> Self {
        Self {
            row: vec![0.0; padded + 2 * reach],
            level: vec![0.0; width],
            weight: vec![0.0; width],
            rows: RowScratch::default(),
        }
    }
}

/// `out = kernel[0] * centre + Σ kernel[i] * (before[i] + after[i])`; all of the same length, a multiple of [`BLOCK`].
fn symmetric(kernel: &[f32], pairs: &[(&[f32], &[f32])], out: &mut [f32]) {
    for (c, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let span = c * BLOCK..(c + 1) * BLOCK;
        let mut sum = [0.0_f32; BLOCK];
        for (s, &v) in sum.iter_mut().zip(&pairs[0].0[span.clone()]) {
            *s = kernel[0] * v;
        }
        for (&k, (before, after)) in kernel.iter().zip(pairs).skip(1) {
            for ((s, &a), &b) in sum.iter_mut().zip(&before[span.clone()]).zip(&after[span.clone()]) {
                *s += k * (a + b);
            }
        }
        out.copy_from_slice(&sum);
    }
}

/// Collects the runs above `isophote` and the peaks above `cut` of one filtered row.
fn scan(y: usize, rows: [&[f32]; 3], isophote: f32, cut: f32, runs: &mut Vec<Run>, peaks: &mut Vec<Peak>) {
    let row = &rows[1][1..rows[1].len() - 1];
    let mut open: Option<usize> = None;
    for (c, chunk) in row.chunks(BLOCK).enumerate() {
        let quarters = chunk.chunks_exact(lanes::LANES).map(Lanes::load);
        let highest = quarters.reduce(Lanes::max);
        let below = chunk.len() == BLOCK && highest.is_some_and(|h| !h.any_reaches(isophote));
        if below && open.is_none() {
            continue;
        }
        for (i, &s) in chunk.iter().enumerate() {
            let x = c * BLOCK + i;
            if s < isophote {
                if let Some(start) = open.take() {
                    runs.push(Run { y: y as u32, start: start as u32, end: x as u32 });
                }
                continue;
            }
            open.get_or_insert(x);
            if s >= cut && is_peak(rows, x + 1) {
                let vertex = [
                    x as f32 + vertex(rows[1][x], s, rows[1][x + 2]),
                    y as f32 + vertex(rows[0][x + 1], s, rows[2][x + 1]),
                ];
                peaks.push(Peak { x, y, vertex, height: s, blob: 0 });
            }
        }
    }
    if let Some(start) = open {
        runs.push(Run { y: y as u32, start: start as u32, end: row.len() as u32 });
    }
}

/// Whether padded column `i` of the middle row is above its eight neighbours; of equal ones the first counts.
fn is_peak([above, row, below]: [&[f32]; 3], i: usize) -> bool {
    let s = row[i];
    s > row[i - 1]
        && s >= row[i + 1]
        && above[i - 1..=i + 1].iter().all(|&n| s > n)
        && below[i - 1..=i + 1].iter().all(|&n| s >= n)
}

/// Offset, within half a pixel, of the vertex of the parabola through three equidistant values.
fn vertex(before: f32, centre: f32, after: f32) -> f32 {
    let curvature = 2.0 * centre - before - after;
    if curvature > 0.0 { (0.5 * (after - before) / curvature).clamp(-0.5, 0.5) } else { 0.0 }
}

/// Joins runs that touch, also over a corner, into blobs and tells each peak its blob.
fn label(runs: &[Run], peaks: &mut [Peak]) -> Vec<Blob> {
    let mut parent: Vec<u32> = (0..runs.len() as u32).collect();
    let mut above = 0;
    for (k, run) in runs.iter().enumerate() {
        while above < k
            && (runs[above].y + 1 < run.y || (runs[above].y + 1 == run.y && runs[above].end < run.start))
        {
            above += 1;
        }
        let mut other = above;
        while other < k && runs[other].y + 1 == run.y && runs[other].start <= run.end {
            join(&mut parent, other as u32, k as u32);
            other += 1;
        }
    }
    let mut number = vec![u32::MAX; runs.len()];
    let mut blobs: Vec<Blob> = Vec::new();
    let mut blob_of = Vec::with_capacity(runs.len());
    for (k, run) in runs.iter().enumerate() {
        let root = root(&mut parent, k as u32) as usize;
        if number[root] == u32::MAX {
            number[root] = blobs.len() as u32;
            blobs.push(Blob { pixels: 0, peaks: 0 });
        }
        blob_of.push(number[root] as usize);
        blobs[number[root] as usize].add(*run);
    }
    let mut k = 0;
    for peak in peaks {
        while (runs[k].y as usize, runs[k].end as usize) <= (peak.y, peak.x) {
            k += 1;
        }
        peak.blob = blob_of[k];
        blobs[peak.blob].peaks += 1;
    }
    blobs
}

impl Blob {
    fn add(&mut self, run: Run) {
        self.pixels += (run.end - run.start) as usize;
    }
}

fn root(parent: &mut [u32], mut k: u32) -> u32 {
    while parent[k as usize] != k {
        let up = parent[parent[k as usize] as usize];
        parent[k as usize] = up;
        k = up;
    }
    k
}

fn join(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b) as usize] = a.min(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs_of(art: &[&str]) -> Vec<Blob> {
        let mut runs = Vec::new();
        for (y, line) in art.iter().enumerate() {
            let row: Vec<f32> =
                [" ", line, " "].concat().bytes().map(|b| f32::from(u8::from(b == b'#'))).collect();
            scan(y, [&row, &row, &row], 0.5, f32::INFINITY, &mut runs, &mut Vec::new());
        }
        label(&runs, &mut [])
    }

    #[test]
    fn corners_connect() {
        let blobs = blobs_of(&["#  #", " ## ", "    ", "##  "]);
        assert_eq!(blobs.iter().map(|b| b.pixels).collect::<Vec<_>>(), [4, 2]);
    }

    #[test]
    fn a_cup_is_one_blob() {
        assert_eq!(blobs_of(&["# # #", "# # #", "#####"]).len(), 1);
        assert_eq!(blobs_of(&["###", "# #", "###"]).len(), 1);
    }

    #[test]
    fn filtered_white_noise_has_unit_deviation() {
        let mut state = 1_u64;
        let pixels: Vec<f32> = (0..400 * 400)
            .map(|_| {
                let mut sum = 0.0;
                for _ in 0..12 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    sum += (state >> 40) as f32 / (1_u64 << 24) as f32;
                }
                30.0 + 4.0 * (sum - 6.0)
            })
            .collect();
        let image = Image::from_slice(&pixels, 400).unwrap();
        let background = Background::measure(&image, 64).unwrap();
        let filter = Filter::new(&image, &background, Some(1.5));
        let (mut n, mut squares) = (0.0, 0.0);
        filter.triples(20..380, |_, [_, row, _]| {
            for &s in &row[20..380] {
                n += 1.0;
                squares += f64::from(s * s);
            }
        });
        assert!((squares / n - 1.0_f64).abs() < 0.06, "{}", squares / n);
    }

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
        let detection = detect(&image, &background, Some(1.5), 5.0);
        let mut found: Vec<_> = detection.peaks.iter().map(|p| (p.x, p.y)).collect();
        found.sort_unstable();
        assert_eq!(found, [(5, 0), (10, 127), (30, 128), (50, 255), (63, 299)]);
        assert!(detection.blobs.iter().all(|b| b.peaks <= 1));
    }
}
