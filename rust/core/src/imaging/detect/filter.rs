//! Applies the matched filter in one pass over the frame.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use std::f64::consts::{PI, TAU};
use std::ops::Range;

use rayon::prelude::*;

use super::Scan;
use super::reader::{self, Reader, Search};
use super::skewed::Skewed;
use crate::imaging::background::{Background, Mesh};
use crate::imaging::defects::Defects;
use crate::imaging::image::Image;
use crate::simd::{Aligned, LINE, Work, symmetric, vectorized};

/// Half-width of the kernel, in units of its sigma.
const KERNEL_CUT: f64 = 3.0;
/// Number of bands of rows in which the noise after filtering is measured.
const NOISE_BANDS: usize = 8;
/// Rows per band, if the noise is normal and if it is not.
const NOISE_ROWS: usize = 4;
const COARSE_ROWS: usize = 32;
/// Column step of the sampled pixels: adjacent pixels are correlated.
const NOISE_STEP: usize = 2;
/// Upper limit of the measured correlation. Correlated noise (JPEG, demosaicing) reaches this value; any
/// excess is due to unresolved stars, which may be detected.
const MAX_CORRELATION: f32 = 3.0;
/// Bin size of fast detection along each axis, in pixels.
const BIN: usize = 2;
/// Side of the squares that are filtered separately, in pixels.
pub(super) const SQUARE: usize = 16;
/// Standard deviation of the rounding error, in quantisation steps.
const ROUNDING: f32 = 0.288_675;
/// Number of rows that are filtered along y together, in parts of [`PART`] columns. The rows of such a part
/// stay in the innermost cache.
const ROWS: usize = 16;
const PART: usize = 256;

/// The matched filter: a separable Gaussian, applied to (frame - background level) / noise.
pub(super) struct Filter<'a> {
    image: &'a Image<'a>,
    /// Finds defects of the frame that are not known yet, which are then excluded.
    search: Option<&'a Search<'a>>,
    /// Background level of a pixel of the filtered frame.
    under: Mesh,
    /// One over the noise of the mean of the pixels that are binned into one.
    weight: Mesh,
    /// Half of the symmetric kernel, from its centre outwards; the squares of the whole kernel sum to one.
    kernel: Vec<f32>,
    /// Bin size along each axis: pixels of the frame per pixel of the filtered frame.
    pub(super) bin: usize,
    /// Sum of the two-dimensional kernel over the pixels of the frame, at unit response to white noise.
    pub(super) gain: f32,
}

impl<'a> Filter<'a> {
    pub(super) fn new(
        image: &'a Image<'a>,
        background: &'a Background,
        sigma: Option<f64>,
        binned: bool,
        search: Option<&'a Search<'a>>,
    ) -> Self {
        let bin = if binned { BIN } else { 1 };
        let sigma = sigma.map(|sigma| sigma / bin as f64);
        let kernel: Vec<f64> = match sigma {
            Some(sigma) => (0..=(KERNEL_CUT * sigma).round().max(1.0) as usize)
                .map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp())
                .collect(),
            None => vec![1.0],
        };
        let norm = (2.0 * kernel.iter().map(|k| k * k).sum::<f64>() - 1.0).sqrt();
        let sum = (2.0 * kernel.iter().sum::<f64>() - 1.0) / norm;
        let weight = background.noise.map(|noise| if noise > 0.0 { bin as f32 / noise } else { 0.0 });
        let kernel = kernel.iter().map(|k| (k / norm) as f32).collect();
        let gain = (sum * sum) as f32 * bin as f32;
        let [under, weight] = [background.level.binned(bin), weight.binned(bin)];
        Self { image, search, under, weight, kernel, bin, gain }
    }

    /// The same filter for `image`, the frame with its defects already excluded.
    pub(super) fn of<'b>(self, image: &'b Image<'b>) -> Filter<'b>
    where
        'a: 'b,
    {
        Filter { image, search: None, ..self }
    }

    /// Number of columns and rows of the filtered frame.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.image.width() / self.bin, self.image.height() / self.bin]
    }

    /// Response to a single pixel that is one sigma of the pixel noise high.
    pub(super) fn single(&self) -> f32 {
        self.kernel[0] * self.kernel[0] / self.bin as f32
    }

    /// Expected number of local maxima of filtered white noise above `sigmas` (Adler 1981, The Geometry of
    /// Random Fields), or of pixels above that level if these are fewer, as without a filter.
    pub(super) fn maxima(&self, sigmas: f32) -> f64 {
        let [width, height] = self.size();
        let u = f64::from(sigmas);
        let tail = (-0.5 * u * u).exp() / TAU.sqrt();
        // The square sum of a Gaussian kernel of width s that is one in the middle is s √π.
        let width_squared = (f64::from(self.kernel[0]).powi(-4) / PI).max(f64::MIN_POSITIVE);
        let pixels = tail / u.max(1.0);
        let maxima = tail * u / (2.0 * TAU * width_squared);
        (width * height) as f64 * maxima.min(pixels)
    }

    /// The levels of the filtered frame for a threshold in sigmas of its noise.
    pub(super) fn level(&self, background: &Background, threshold: f32) -> Level {
        let noise = self.noise(background);
        // Noise adds to flat areas a step above most, which are too rare to affect its measurement.
        let plateau = self.plateau(background);
        let correlation = noise.deviation.max(plateau * ROUNDING);
        Level { cut: noise.exceeded(threshold) + plateau, plateau, correlation }
    }

    /// Response to the step between areas whose pixels are rounded to one value; zero without any.
    fn plateau(&self, background: &Background) -> f32 {
        let plateau = self.image.reading().map_or(0.0, |reading| reading.plateau);
        let [noise, _] = background.noise.range();
        if plateau > 0.0 && noise > 0.0 { plateau * self.gain / noise } else { 0.0 }
    }

    /// Skewness of the filtered noise relative to that of the pixel noise, if the pixel noise is white.
    fn skewness(&self) -> f32 {
        let cubes = self.kernel[1..].iter().map(|k| 2.0 * k.powi(3)).sum::<f32>() + self.kernel[0].powi(3);
        cubes * cubes / self.bin as f32
    }

    /// Noise of the filtered frame, in units of filtered white noise, from its lower half, which has no
    /// stars.
    ///
    /// Noise of few steps may be skewed, or so strongly correlated that single pixels do not show it.
    fn noise(&self, background: &Background) -> Skewed {
        let [width, height] = self.size();
        let coarse = background.skewness > 0.0;
        let rows = if coarse { COARSE_ROWS } else { NOISE_ROWS };
        let step = height.div_ceil(NOISE_BANDS);
        let samples: Vec<Vec<f32>> = (0..height.div_ceil(step))
            .into_par_iter()
            .map_init(
                || self.buffers(),
                |buffers, band| {
                    let (start, end) = (band * step, ((band + 1) * step).min(height));
                    let middle = (start + end).saturating_sub(rows) / 2;
                    let mut sampled = Vec::with_capacity(rows * (width + 2).div_ceil(NOISE_STEP));
                    let rows = middle.max(start)..(middle + rows).min(end);
                    let (visit, defects) = (Visitor::Sample(&mut sampled), &mut Defects::none(0));
                    vectorized(Pass { filter: self, rows, visit, defects, buffers });
                    sampled
                },
            )
            .collect();
        let mut noise = Skewed::of(&samples, background.skewness * self.skewness());
        let most = if coarse { f32::INFINITY } else { MAX_CORRELATION };
        noise.deviation = noise.deviation.clamp(1.0, most);
        noise
    }

    /// Length of a filtered row with zeros at its end.
    fn padded(&self) -> usize {
        self.size()[0].next_multiple_of(LINE)
    }

    /// Buffers for passes of this filter.
    pub(super) fn buffers(&self) -> Buffers {
        let (reach, padded) = (self.reach(), self.padded());
        let line = Line {
            row: Aligned::filled(0.0, padded + 2 * reach.next_multiple_of(LINE)),
            lines: [0; BIN].map(|_| vec![0.0; self.image.width()]),
            knots: Vec::new(),
        };
        Buffers {
            rows: reader::buffer(self.image),
            line,
            across: Aligned::filled(0.0, (ROWS + 2 * reach) * padded),
            filtered: [0; ROWS + 2].map(|_| Aligned::filled(0.0, padded + 2 * LINE)),
        }
    }

    /// Passes filtered rows to the visitor one by one, and adds the defects that were found in them.
    #[inline(always)]
    fn triples(
        &self,
        rows: Range<usize>,
        mut visit: Visitor<'_>,
        found: &mut Defects,
        buffers: &mut Buffers,
    ) {
        let reach = self.reach();
        let [width, height] = self.size();
        let padded = self.padded();
        let Buffers { rows: buffer, line, across, filtered } = buffers;
        let bounds = [rows.start.saturating_sub(reach + 1), rows.end + reach + 1].map(|y| self.bin * y);
        let mut reader = Reader::new(self.image, self.search, bounds[0]..bounds[1], buffer);
        let along: Vec<[usize; 2]> = (0..=reach).map(|i| [reach - i, reach + i]).collect();
        let slots = across.len() / padded;
        let slot = |y: isize| y.rem_euclid(slots as isize) as usize * padded;
        let mut down = along.clone();
        // Also the rows above and below.
        let (mut y, end) = (rows.start as isize - 1, rows.end as isize + 1);
        let mut ahead = y - reach as isize;
        while y < end {
            let count = (end - y).min(ROWS as isize);
            while ahead < y + count + reach as isize {
                self.filter_row(ahead, &mut reader, line, &along, &mut across[slot(ahead)..][..padded]);
                ahead += 1;
            }
            for part in (0..padded).step_by(PART) {
                let part = part..(part + PART).min(padded);
                for (y, out) in (y..y + count).zip(&mut filtered[2..]) {
                    for (i, taps) in down.iter_mut().enumerate() {
                        *taps = [y - i as isize, y + i as isize].map(|y| slot(y) + part.start);
                    }
                    symmetric(&self.kernel, &down, across, &mut out[LINE..][part.clone()]);
                }
            }
            for (y, out) in (y..y + count).zip(&mut filtered[2..]) {
                let inside = if (0..height as isize).contains(&y) { width } else { 0 };
                out[LINE + inside..].fill(0.0);
            }
            for (y, three) in (y - 1..y - 1 + count).zip(filtered.windows(3)) {
                if y >= rows.start as isize {
                    visit.visit(y as usize, width, [0, 1, 2].map(|k| &three[k][LINE - 1..=LINE + padded]));
                }
            }
            filtered.rotate_left(count as usize);
            y += count;
        }
        if self.search.is_some() {
            // Binning may exclude the last row of the frame.
            let end = if rows.end == height { self.image.height() } else { self.bin * rows.end };
            reader.read_to(end);
            found.extend(reader.defects(), self.bin * rows.start..end);
            found.close(end);
        }
    }

    /// Half-width of the kernel: number of pixels on each side of the central one.
    pub(super) fn reach(&self) -> usize {
        self.kernel.len() - 1
    }

    /// Filters a square from column and row `from` on, without binning; zeros outside the frame.
    #[inline(always)]
    pub(super) fn square(&self, from: [isize; 2], scratch: &mut Square, out: &mut [[f32; SQUARE]; SQUARE]) {
        let (reach, n) = (self.reach(), SQUARE + 2 * self.reach());
        let size = self.size().map(|n| n as isize);
        // Bounds of the part of the frame that is read: its first pixel, and the end after its last.
        let first = from.map(|v| v - reach as isize);
        let [left, top] = first.map(|v| v.max(0));
        let [right, bottom] = [0, 1].map(|k| (first[k] + n as isize).min(size[k]));
        let Square { pixels, across } = scratch;
        pixels.clear();
        pixels.resize(n * n, 0.0);
        across.resize(n, [0.0; SQUARE]);
        let middle = from.map(|v| (v + SQUARE as isize / 2) as f32);
        let [level, weight] = [&self.under, &self.weight].map(|mesh| mesh.at(middle[0], middle[1]));
        let columns = (right - left) as usize;
        let start = (top - first[1]) as usize * n + (left - first[0]) as usize;
        let inside = &mut pixels[start..][..((bottom - top) as usize - 1) * n + columns];
        self.image.read_block([left as usize, top as usize], columns, inside, n);
        for v in inside.chunks_mut(n).flat_map(|row| &mut row[..columns]) {
            *v = above(*v, level) * weight;
        }
        for (row, out) in pixels.chunks_exact(n).zip(&mut *across) {
            *out = self.weighted(|tap| row[tap..].first_chunk());
        }
        for (y, out) in out.iter_mut().enumerate() {
            *out = self.weighted(|tap| across.get(y + tap));
            let row = from[1] + y as isize;
            for (x, v) in (from[0]..).zip(out) {
                let seen = (0..size[0]).contains(&x) & (0..size[1]).contains(&row);
                *v = if seen { *v } else { 0.0 };
            }
        }
    }

    /// Sum of rows weighted by the kernel; `row` gives the row of each tap.
    #[inline(always)]
    fn weighted<'r>(&self, row: impl Fn(usize) -> Option<&'r [f32; SQUARE]>) -> [f32; SQUARE] {
        let mut sum = [0.0; SQUARE];
        let reach = self.reach();
        for (i, k) in self.kernel.iter().enumerate() {
            let Some((before, after)) = row(reach - i).zip(row(reach + i)) else { break };
            let k = if i == 0 { 0.5 * k } else { *k };
            for ((s, a), b) in sum.iter_mut().zip(before).zip(after) {
                *s += k * (a + b);
            }
        }
        sum
    }

    /// One row in units of the noise, filtered along x; zeros outside the frame and for bad pixels.
    #[inline(always)]
    fn filter_row(
        &self,
        y: isize,
        reader: &mut Reader<'_>,
        line: &mut Line,
        along: &[[usize; 2]],
        out: &mut [f32],
    ) {
        let [width, height] = self.size();
        if y < 0 || y >= height as isize {
            out.fill(0.0);
            return;
        }
        let (y, reach) = (y as usize, self.reach());
        let Line { row, lines: [first, second], knots } = line;
        let inner = &mut row[reach.next_multiple_of(LINE)..][..width];
        reader.read_to(self.bin * (y + 1));
        if self.bin == 1 {
            inner.copy_from_slice(reader.row(y, first));
            self.under.along_row(y, knots, inner, above);
        } else {
            let [first, second] = [reader.row(BIN * y, first), reader.row(BIN * y + 1, second)];
            let pairs = || first.as_chunks::<BIN>().0.iter().zip(second.as_chunks::<BIN>().0);
            for (v, (&[a, b], &[c, d])) in inner.iter_mut().zip(pairs()) {
                *v = 0.25 * ((a + b) + (c + d));
            }
            if inner.iter().fold(true, |all, v| all & (v.abs() < f32::INFINITY)) {
                self.under.along_row(y, knots, inner, |v, level| v - level);
            } else {
                self.under.along_row(y, knots, inner, |_, level| level);
                for (v, (&[a, b], &[c, d])) in inner.iter_mut().zip(pairs()) {
                    *v = 0.25 * ((above(a, *v) + above(b, *v)) + (above(c, *v) + above(d, *v)));
                }
            }
        }
        self.weight.along_row(y, knots, inner, |v, weight| v * weight);
        let start = reach.next_multiple_of(LINE) - reach;
        symmetric(&self.kernel, along, &row[start..], out);
    }
}

/// Height of a pixel above the background; zero if it is bad.
#[inline(always)]
fn above(v: f32, level: f32) -> f32 {
    if (v - level).abs() < f32::INFINITY { v - level } else { 0.0 }
}

/// Levels of the filtered frame, in units of filtered white noise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    /// Least height of a peak.
    pub(super) cut: f32,
    /// Height of flat areas that are above the others.
    pub(super) plateau: f32,
    /// Standard deviation of the noise.
    pub(super) correlation: f32,
}

/// Receives filtered rows. It is one type for all purposes, so that the filter is compiled only once.
pub(super) enum Visitor<'a> {
    /// Collects runs, peaks and troughs.
    Scan(&'a mut Scan),
    /// Collects one pixel in [`NOISE_STEP`], unless it is zero and thus without weight.
    Sample(&'a mut Vec<f32>),
}

impl Visitor<'_> {
    /// Receives row `y` between the rows above and below it. Each row has one zero before it, and after it
    /// zeros up to a whole [`LINE`] and one more.
    #[inline(always)]
    fn visit(&mut self, y: usize, width: usize, rows: [&[f32]; 3]) {
        match self {
            Self::Scan(scan) => scan.visit(y, width, rows),
            Self::Sample(found) => {
                // Without branches: excluded pixels are overwritten.
                let sampled = rows[1][..width + 2].as_chunks::<NOISE_STEP>().0;
                let mut end = found.len();
                found.resize(end + sampled.len(), 0.0);
                for &[s, _] in sampled {
                    found[end] = s;
                    end += usize::from(s != 0.0);
                }
                found.truncate(end);
            }
        }
    }
}

/// A range of rows to be filtered and passed to a visitor one by one.
pub(super) struct Pass<'a> {
    pub(super) filter: &'a Filter<'a>,
    pub(super) rows: Range<usize>,
    pub(super) visit: Visitor<'a>,
    pub(super) defects: &'a mut Defects,
    pub(super) buffers: &'a mut Buffers,
}

impl Work for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.filter.triples(self.rows, self.visit, self.defects, self.buffers);
    }
}

/// Buffers for filtering a square: the pixels of the frame, and the same pixels filtered along rows.
#[derive(Default)]
pub(super) struct Square {
    pixels: Vec<f32>,
    across: Vec<[f32; SQUARE]>,
}

/// Buffers for filtering rows of a frame, to be used for many passes.
pub(super) struct Buffers {
    /// Rows of the frame.
    rows: Aligned,
    line: Line,
    /// The last rows that were filtered along x.
    across: Aligned,
    /// The last two rows that were filtered along both axes, and the next ones. Each has one [`LINE`] of zeros
    /// before and after it.
    filtered: [Aligned; ROWS + 2],
}

/// Buffers for filtering one row along x.
struct Line {
    /// A row to be filtered, with zeros for the kernel on both sides; the first pixel begins a cache line.
    row: Aligned,
    /// Two rows of the frame with defects, which are binned into one.
    lines: [Vec<f32>; BIN],
    /// A mesh interpolated at a row.
    knots: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for binned in [false, true] {
            let filter = Filter::new(&image, &background, Some(1.5), binned, None);
            let bin = filter.bin;
            let (mut n, mut squares) = (0.0, 0.0);
            let mut sampled = Vec::new();
            let (visit, defects) = (Visitor::Sample(&mut sampled), &mut Defects::none(0));
            let buffers = &mut filter.buffers();
            vectorized(Pass { filter: &filter, rows: 20..380 / bin, visit, defects, buffers });
            for s in sampled {
                n += 1.0;
                squares += f64::from(s * s);
            }
            assert!((squares / n - 1.0_f64).abs() < 0.06 * f64::from(bin as u32), "{}", squares / n);
        }
    }
}
