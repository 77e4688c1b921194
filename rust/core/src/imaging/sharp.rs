//! Searches for defects: pixels that stand out from their neighbours more than any star's can, such as hot
//! pixels and hits of cosmic rays. They are masked before detection, so that stars next to them are found and
//! measured without them.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]
// `&` and `|` on booleans make many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use rayon::prelude::*;

use crate::imaging::background::Background;
use crate::imaging::defects::Defects;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;
use crate::simd::{Work, vectorized};

/// A pixel is tested if it is higher than an adjacent one by this many sigmas. A lower one would hardly be
/// detected.
const MIN_STEP_SIGMAS: f32 = 6.0;
/// The neighbours of a defect must be darker than those of a star of any width, by this many standard errors.
const ALONE_SIGMAS: f32 = 2.0;
/// Number of the highest neighbours that this test excludes, because hot pixels come in pairs.
const PAIRED: usize = 1;
/// Excluding a highest neighbour lowers the mean of the others by this fraction of a pixel's noise.
const SPARED_BIAS: f32 = 0.2;
/// Factor of the first test, of three of the four nearest neighbours: they may have all the light of seven
/// neighbours.
const PRETEST_FACTOR: f32 = 7.0;
/// A line of pixels is too narrow for a star or its trail if the pixels beside it have less than this fraction
/// of its height. Those of a trail of stars of 1.1 pixels FWHM have 0.17.
const LINE_SIDES: f32 = 0.15;
/// Least height of the pixels before and after the highest pixel of such a line, as a fraction of its height.
const LINE_LIKENESS: f32 = 0.5;
/// Least number of good neighbours for a decision.
const MIN_NEIGHBOURS: usize = 5;
/// Number of peaks that are sampled to decide whether the whole frame is searched for defects.
const SAMPLED_PEAKS: usize = 256;
/// Fraction of defects among these peaks above which a search of the whole frame pays.
const DEFECTIVE_PEAKS: f64 = 0.1;
/// Number of pixels that are compared together.
const WORD: usize = 32;
/// Number of pixels over which level and noise are taken as constant.
const SPAN: usize = 256;

/// Statistics of the neighbours of a pixel, accumulated one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbours {
    count: usize,
    sum: f32,
    /// Heights of the two highest neighbours.
    highest: [f32; 2],
}

impl Neighbours {
    pub(crate) const NONE: Self = Self { count: 0, sum: 0.0, highest: [f32::NEG_INFINITY; 2] };

    /// Adds a neighbour of this height.
    #[inline(always)]
    pub(crate) fn add(&mut self, height: f32) {
        self.count += 1;
        self.sum += height;
        let [first, second] = self.highest;
        self.highest = if height > first {
            [height, first]
        } else {
            [first, if height > second { height } else { second }]
        };
    }

    /// Number of the eight neighbours that are missing.
    pub(crate) fn missing(self) -> usize {
        8 - self.count
    }

    /// Whether a pixel of this height stands out alone: the mean of its neighbours, without the `spared`
    /// highest (at most two), is below the fraction `least` of the height, by `sigmas` standard errors of the
    /// difference.
    pub(crate) fn are_dark(self, height: f32, noise: f32, least: f32, sigmas: f32, spared: usize) -> bool {
        if self.count < MIN_NEIGHBOURS {
            return false;
        }
        let count = (self.count - spared) as f32;
        let sum = self.sum - self.highest[..spared].iter().sum::<f32>();
        let mean = sum / count + SPARED_BIAS * spared as f32 * noise;
        let error = noise * (1.0 / count + least * least).sqrt();
        least * height - mean > sigmas * error
    }
}

/// Finds pixels of row `y` whose sharpness, (height - mean of the neighbours) / height, exceeds `limit` by more
/// than noise explains; `rows` as for [`Search`](crate::imaging::detect::Search).
pub(crate) fn find(background: &Background, limit: f64, y: usize, rows: [&[f32]; 3], found: &mut Defects) {
    vectorized(Search { background, y, rows, least: (1.0 - limit) as f32, found });
}

/// The defects of a whole frame.
#[cfg(test)]
pub(crate) fn find_all(image: &Image<'_>, background: &Background, limit: f64) -> Defects {
    let read = |y: usize| {
        let mut row = vec![f32::NAN; image.width().next_multiple_of(WORD) + 2];
        if y < image.height() {
            image.read(y, 0, &mut row[1..=image.width()]);
        }
        row
    };
    let mut found = Defects::none(0);
    for y in 0..image.height() {
        let rows = [y.wrapping_sub(1), y, y + 1].map(read);
        find(background, limit, y, rows.each_ref().map(|row| &row[..]), &mut found);
    }
    found.close(image.height());
    found
}

/// Whether so many of the peaks are defects that a search of the whole frame pays.
pub(crate) fn many_among_peaks(
    image: &Image<'_>,
    background: &Background,
    peaks: &[Peak],
    limit: f64,
) -> bool {
    let sample = peaks.iter().step_by(peaks.len().div_ceil(SAMPLED_PEAKS).max(1));
    let sampled = sample.len();
    let alone = sample.filter(|peak| lone_near(image, background, peak, (1.0 - limit) as f32).is_some());
    alone.count() as f64 > DEFECTIVE_PEAKS * sampled as f64
}

/// The defects among the peaks, at most one per peak.
pub(crate) fn among_peaks(image: &Image<'_>, background: &Background, peaks: &[Peak], limit: f64) -> Defects {
    let least = (1.0 - limit) as f32;
    let mut lone: Vec<Defect> =
        peaks.par_iter().filter_map(|peak| lone_near(image, background, peak, least)).collect();
    lone.sort_unstable_by_key(|defect| (defect.y, defect.x));
    lone.dedup_by_key(|defect| (defect.y, defect.x));
    by_rows(lone, image.height())
}

/// Makes [`Defects`] of a list in reading order, for the rows before `end`.
fn by_rows(found: Vec<Defect>, end: usize) -> Defects {
    let mut defects = Defects::none(0);
    for Defect { x, y, height } in found {
        defects.push([x, y], height);
    }
    defects.close(end);
    defects
}

/// The 5 x 5 pixels around a peak less the background, as far as they are in the frame.
struct Around {
    heights: [[f32; 5]; 5],
    /// Column and row of the first pixel.
    origin: [usize; 2],
    /// Column and row of the highest of the inner 3 x 3 pixels, from the first pixel.
    top: [usize; 2],
    noise: f32,
}

impl Around {
    fn of(image: &Image<'_>, background: &Background, peak: &Peak) -> Option<Self> {
        let [level, noise] =
            [&background.level, &background.noise].map(|mesh| mesh.at(peak.x as f32, peak.y as f32));
        let mut heights = [[f32::NAN; 5]; 5];
        let origin = [peak.x, peak.y].map(|v| v.saturating_sub(2));
        let columns = (image.width() - origin[0]).min(5);
        let rows = (image.height() - origin[1]).min(5);
        image.read_block(origin, columns, heights[..rows].as_flattened_mut(), 5);
        heights.as_flattened_mut().iter_mut().for_each(|v| *v -= level);
        let inner = (1..4).flat_map(|j| (1..4).map(move |i| [i, j]));
        let top = inner.max_by(|a, b| heights[a[1]][a[0]].total_cmp(&heights[b[1]][b[0]]))?;
        Some(Self { heights, origin, top, noise })
    }

    /// Height of the pixel at this offset from the highest one.
    fn at(&self, [x, y]: [isize; 2]) -> f32 {
        self.heights[self.top[1].wrapping_add_signed(y)][self.top[0].wrapping_add_signed(x)]
    }

    /// The good ones of some neighbours of the highest pixel.
    fn neighbours(&self, offsets: impl Iterator<Item = [isize; 2]>) -> Neighbours {
        let mut around = Neighbours::NONE;
        for v in offsets.map(|offset| self.at(offset)).filter(|v| v.is_finite()) {
            around.add(v);
        }
        around
    }
}

/// The highest of the 3 x 3 pixels around a peak, if it stands out alone.
fn lone_near(image: &Image<'_>, background: &Background, peak: &Peak, least: f32) -> Option<Defect> {
    let around = Around::of(image, background, peak)?;
    let square = (-1..=1).flat_map(|y| (-1..=1).map(move |x| [x, y]));
    let neighbours = around.neighbours(square.filter(|&offset| offset != [0, 0]));
    let (height, noise) = (around.at([0, 0]), around.noise);
    neighbours.are_dark(height, noise, least, ALONE_SIGMAS, PAIRED).then(|| Defect {
        x: around.origin[0] + around.top[0],
        y: around.origin[1] + around.top[1],
        height: height / noise,
    })
}

/// Whether a peak is on a line of single pixels along a column or a row, such as a hot column of a detector, by
/// this many sigmas.
pub(crate) fn is_on_line(image: &Image<'_>, background: &Background, peak: &Peak, sigmas: f32) -> bool {
    let Some(around) = Around::of(image, background, peak) else { return false };
    let (height, noise) = (around.at([0, 0]), around.noise);
    [[0, 1], [1, 0]].into_iter().any(|[x, y]: [isize; 2]| {
        let bright = |along: isize| around.at([along * x, along * y]) >= LINE_LIKENESS * height;
        let beside = [-1, 1].into_iter().flat_map(|s| (-1..=1).map(move |t| [t * x + s * y, t * y + s * x]));
        bright(-1) && bright(1) && around.neighbours(beside).are_dark(height, noise, LINE_SIDES, sigmas, 0)
    })
}

struct Defect {
    x: usize,
    y: usize,
    height: f32,
}

/// The search of row `y`.
struct Search<'a> {
    background: &'a Background,
    y: usize,
    rows: [&'a [f32]; 3],
    least: f32,
    found: &'a mut Defects,
}

impl Work for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let row = self.rows[1];
        let width = row.len() - 2;
        for start in (0..width).step_by(SPAN) {
            let end = (start + SPAN).min(width);
            let middle = [(start + end) as f32 / 2.0, self.y as f32];
            let noise = self.background.noise.at(middle[0], middle[1]);
            let step = MIN_STEP_SIGMAS * noise;
            // The level, calculated only if a pixel stands out.
            let mut known = None;
            for word in (start..end).step_by(WORD) {
                let part = &row[word..word + WORD + 2];
                let stands_out =
                    |k: usize| (part[k + 1] - part[k] > step) | (part[k + 1] - part[k + 2] > step);
                if (0..WORD).fold(false, |any, k| any | stands_out(k)) {
                    let level = *known.get_or_insert_with(|| self.background.level.at(middle[0], middle[1]));
                    self.search_word(word, level, noise);
                }
            }
        }
    }
}

impl Search<'_> {
    /// Adds the pixels that stand out alone among [`WORD`] pixels from column `x` on.
    #[inline(always)]
    fn search_word(&mut self, x: usize, level: f32, noise: f32) {
        let rows = self.rows.map(|row| &row[x..x + WORD + 2]);
        // Bad neighbours count as dark here; `judge` ignores them.
        let [above, row, below] = rows.map(|row| {
            std::array::from_fn::<_, { WORD + 2 }, _>(|k| if row[k].is_nan() { level } else { row[k] })
        });
        let step = MIN_STEP_SIGMAS * noise;
        let mut dark = [false; WORD];
        let mut any = false;
        for k in 0..WORD {
            let (v, a, b, c, d) = (row[k + 1], row[k], row[k + 2], above[k + 1], below[k + 1]);
            // At least three of the four nearest neighbours must be dark. Most pixels on the flank of a star
            // fail this test.
            let (ab, cd) = (if a > b { a } else { b }, if c > d { c } else { d });
            let brightest = if ab > cd { ab } else { cd };
            let three = a + b + c + d - brightest - 3.0 * level;
            let horizontal = (v - a > step) | (v - b > step);
            let vertical = (v - c > step) | (v - d > step);
            dark[k] = horizontal & vertical & (three < PRETEST_FACTOR * self.least * (v - level) + step);
            any |= dark[k];
        }
        if any {
            for k in (0..WORD).filter(|&k| dark[k] && rows[1][k + 1].is_finite()) {
                self.judge(x + k, level, noise);
            }
        }
    }

    /// Adds the pixel in column `x` if it stands out alone.
    #[inline(never)]
    fn judge(&mut self, x: usize, level: f32, noise: f32) {
        let mut around = Neighbours::NONE;
        for (j, row) in self.rows.iter().enumerate() {
            for (i, &v) in row[x..x + 3].iter().enumerate() {
                if [i, j] != [1, 1] && v.is_finite() {
                    around.add(v - level);
                }
            }
        }
        let height = self.rows[1][x + 1] - level;
        if around.are_dark(height, noise, self.least, ALONE_SIGMAS, PAIRED) {
            self.found.push([x, self.y], height / noise);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard normal numbers: sums of twelve uniform ones from a small generator.
    fn noise(n: usize) -> Vec<f32> {
        let mut state = 7_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn hot_pixels_and_pairs_are_found_and_stars_are_not() {
        let width = 203;
        let mut pixels: Vec<f32> = noise(width * 150).iter().map(|e| 100.0 + 2.0 * e).collect();
        let hot = [(0, 0), (202, 7), (50, 64), (51, 64), (90, 63), (90, 64), (7, 149), (120, 80)];
        for (x, y) in hot {
            pixels[y * width + x] += 300.0;
        }
        // Stars of 1.2 pixels FWHM. Along an axis, the middle pixel holds 0.673 of the light and the next
        // ones 0.162 each, or two pixels hold half of it each.
        for (x0, y0, along) in
            [(30, 30, [0.0, 0.162, 0.673, 0.162, 0.0]), (160, 120, [0.025, 0.475, 0.475, 0.025, 0.0])]
        {
            for (j, v) in [0.162, 0.673, 0.162].iter().enumerate() {
                for (i, u) in along.iter().enumerate() {
                    pixels[(y0 + j) * width + x0 + i] += 2e4 * u * v;
                }
            }
        }
        let image = Image::from_slice(&pixels, width).unwrap();
        let background = Background::measure(&image, 50).unwrap();
        let defects = find_all(&image, &background, 0.9);
        let mut masked = Vec::new();
        let clean = image.without(defects.into());
        for y in 0..150 {
            let mut row = vec![0.0; width - 1];
            clean.read(y, 1, &mut row);
            masked.extend((1..).zip(&row).filter(|(_, v)| v.is_nan()).map(|(x, _)| (x, y)));
        }
        let mut expected = hot[1..].to_vec();
        expected.sort_by_key(|&(x, y)| (y, x));
        assert_eq!(masked, expected);
        assert!(find_all(&image, &background, 1.0).is_empty());
    }
}
