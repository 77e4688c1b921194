//! The search for defects: pixels that stand out alone as no star's can, hot ones and hits of cosmic rays. They are masked before
//! anything is detected, so that the stars beside them are found and measured without them.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]
// Many comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use std::ops::Range;

use rayon::prelude::*;

use crate::imaging::background::Background;
use crate::imaging::defects::Defects;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;
use crate::simd::{Work, vectorized};

/// A pixel is looked at closely if it is higher than one beside it by so many sigmas: fewer hardly make a detection.
const LOOK_SIGMAS: f32 = 6.0;
/// Its neighbours have to be too dark by so many sigmas of their mean for a star of any width ...
const ALONE_SIGMAS: f32 = 2.0;
/// ... without the highest of them: hot pixels come in pairs.
const PAIRED: usize = 1;
/// Leaving out a highest neighbour lowers the mean of the others by this fraction of a pixel's noise.
const SPARED_BIAS: f32 = 0.2;
/// Three neighbours may have all the light of seven.
const NEAREST: f32 = 7.0;
/// Fewer good neighbours tell nothing.
const MIN_NEIGHBOURS: usize = 5;
/// Among so many peaks this fraction of defects makes a search of the frame pay.
const SAMPLED_PEAKS: usize = 256;
const DEFECTIVE_PEAKS: f64 = 0.1;
/// Pixels that are looked at together, and over which the noise is taken as one.
const WORD: usize = 32;
const SPAN: usize = 256;

/// The neighbours of a pixel, as they are gone through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbours {
    count: usize,
    sum: f32,
    /// The highest two.
    highest: [f32; 2],
}

impl Neighbours {
    pub(crate) const NONE: Self = Self { count: 0, sum: 0.0, highest: [f32::NEG_INFINITY; 2] };

    /// One more, of this height.
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

    /// How many of eight are missing.
    pub(crate) fn missing(self) -> usize {
        8 - self.count
    }

    /// Whether a pixel stands out alone: its neighbours, without the `spared` highest (two at most), are in the mean
    /// darker than the fraction `least` of its height, by `sigmas` of the noise.
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

/// Pixels of some rows that are sharper than `limit`, (height - mean of the neighbours) / height, by more than noise explains.
pub(crate) fn find(image: &Image<'_>, background: &Background, limit: f64, rows: Range<usize>) -> Defects {
    let least = (1.0 - limit) as f32;
    if least <= 0.0 {
        return Defects::none(rows.end);
    }
    let end = rows.end;
    by_rows(vectorized(Search { image, background, rows, least }), end)
}

/// Whether some of the peaks are defects, so many that it pays to search the whole frame for them.
pub(crate) fn are_among(image: &Image<'_>, background: &Background, peaks: &[Peak], limit: f64) -> bool {
    let sample = peaks.iter().step_by(peaks.len().div_ceil(SAMPLED_PEAKS).max(1));
    let looked_at = sample.len();
    let alone = sample.filter(|peak| lone_near(image, background, peak, (1.0 - limit) as f32).is_some());
    alone.count() as f64 > DEFECTIVE_PEAKS * looked_at as f64
}

/// The defects among the peaks, one each.
pub(crate) fn among(image: &Image<'_>, background: &Background, peaks: &[Peak], limit: f64) -> Defects {
    let least = (1.0 - limit) as f32;
    let mut lone: Vec<Defect> =
        peaks.par_iter().filter_map(|peak| lone_near(image, background, peak, least)).collect();
    lone.sort_unstable_by_key(|defect| (defect.y, defect.x));
    lone.dedup_by_key(|defect| (defect.y, defect.x));
    by_rows(lone, image.height())
}

/// Defects in reading order, of the rows before `end`.
fn by_rows(found: Vec<Defect>, end: usize) -> Defects {
    let mut defects = Defects::none(0);
    for Defect { x, y, height } in found {
        defects.push([x, y], height);
    }
    defects.close(end);
    defects
}

/// The highest pixel about a peak, if it stands out alone.
fn lone_near(image: &Image<'_>, background: &Background, peak: &Peak, least: f32) -> Option<Defect> {
    let [level, noise] =
        [&background.level, &background.noise].map(|mesh| mesh.at(peak.x as f32, peak.y as f32));
    let mut pixels = [[f32::NAN; 5]; 5];
    let origin = [peak.x, peak.y].map(|v| v.saturating_sub(2));
    let columns = (image.width() - origin[0]).min(5);
    let rows = (image.height() - origin[1]).min(5);
    image.read_block(origin, columns, pixels[..rows].as_flattened_mut(), 5);
    let inner = (1..4).flat_map(|j| (1..4).map(move |i| [i, j]));
    let [i, j] = inner.max_by(|a, b| pixels[a[1]][a[0]].total_cmp(&pixels[b[1]][b[0]]))?;
    let mut around = Neighbours::NONE;
    for (y, row) in pixels.iter().enumerate().skip(j - 1).take(3) {
        for (x, v) in row.iter().enumerate().skip(i - 1).take(3) {
            if [x, y] != [i, j] && v.is_finite() {
                around.add(v - level);
            }
        }
    }
    let height = pixels[j][i] - level;
    around.are_dark(height, noise, least, ALONE_SIGMAS, PAIRED).then(|| Defect {
        x: origin[0] + i,
        y: origin[1] + j,
        height: height / noise,
    })
}

struct Defect {
    x: usize,
    y: usize,
    height: f32,
}

/// The search of some rows.
struct Search<'a> {
    image: &'a Image<'a>,
    background: &'a Background,
    rows: Range<usize>,
    least: f32,
}

impl Work for Search<'_> {
    type Output = Vec<Defect>;

    #[inline(always)]
    fn call(self) -> Vec<Defect> {
        let width = self.image.width();
        // With a pixel more at both ends: bad ones, as beyond the frame.
        let mut row = vec![f32::NAN; width.next_multiple_of(WORD) + 2];
        let mut found = Vec::new();
        for y in self.rows.clone() {
            self.image.read(y, 0, &mut row[1..=width]);
            for start in (0..width).step_by(SPAN) {
                let end = (start + SPAN).min(width);
                let middle = [(start + end) as f32 / 2.0, y as f32];
                let noise = self.background.noise.at(middle[0], middle[1]);
                let step = LOOK_SIGMAS * noise;
                // Only where something stands out.
                let mut known = None;
                for word in (start..end).step_by(WORD) {
                    let part = &row[word..word + WORD + 2];
                    let stands_out =
                        |k: usize| (part[k + 1] - part[k] > step) | (part[k + 1] - part[k + 2] > step);
                    if (0..WORD).fold(false, |any, k| any | stands_out(k)) {
                        let level =
                            *known.get_or_insert_with(|| self.background.level.at(middle[0], middle[1]));
                        self.look([word, y], part, level, noise, &mut found);
                    }
                }
            }
        }
        found
    }
}

impl Search<'_> {
    /// Adds those that stand out alone among the pixels of a row from a place on; `part` begins with the one before.
    #[inline(always)]
    fn look(&self, [x, y]: [usize; 2], part: &[f32], level: f32, noise: f32, found: &mut Vec<Defect>) {
        let (left, right) = (x.saturating_sub(1), (x + WORD + 1).min(self.image.width()));
        let first = usize::from(x == 0);
        let mut rows = [[f32::NAN; WORD + 2]; 3];
        rows[1].copy_from_slice(part);
        for (row, j) in [(0, y.wrapping_sub(1)), (2, y + 1)] {
            if j < self.image.height() {
                self.image.read(j, left, &mut rows[row][first..first + right - left]);
            }
        }
        // Bad neighbours are dark here, and not counted below.
        let mut known = rows;
        for v in known.as_flattened_mut() {
            *v = if v.is_nan() { level } else { *v };
        }
        let [above, row, below] = &known;
        let step = LOOK_SIGMAS * noise;
        let mut dark = [false; WORD];
        let mut any = false;
        for k in 0..WORD {
            let (v, a, b, c, d) = (row[k + 1], row[k], row[k + 2], above[k + 1], below[k + 1]);
            // Of the four nearest, three at least are dark beside it: of most pixels on the side of a star they are not.
            let (ab, cd) = (if a > b { a } else { b }, if c > d { c } else { d });
            let brightest = if ab > cd { ab } else { cd };
            let three = a + b + c + d - brightest - 3.0 * level;
            let beside = (v - a > step) | (v - b > step);
            let across = (v - c > step) | (v - d > step);
            dark[k] = beside & across & (three < NEAREST * self.least * (v - level) + step);
            any |= dark[k];
        }
        if any {
            for k in (0..WORD).filter(|&k| dark[k] && part[k + 1].is_finite()) {
                self.judge([x + k, y], &rows, k, [level, noise], found);
            }
        }
    }

    /// Adds pixel `k` of three rows, which begin with the one before it, if it stands out alone.
    #[inline(never)]
    fn judge(
        &self,
        [x, y]: [usize; 2],
        rows: &[[f32; WORD + 2]; 3],
        k: usize,
        [level, noise]: [f32; 2],
        found: &mut Vec<Defect>,
    ) {
        let mut around = Neighbours::NONE;
        for (j, row) in rows.iter().enumerate() {
            for (i, &v) in row[k..k + 3].iter().enumerate() {
                if [i, j] != [1, 1] && v.is_finite() {
                    around.add(v - level);
                }
            }
        }
        let height = rows[1][k + 1] - level;
        if around.are_dark(height, noise, self.least, ALONE_SIGMAS, PAIRED) {
            found.push(Defect { x, y, height: height / noise });
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
        // Stars of 1.2 pixels FWHM: 0.673 of an axis in the middle pixel, 0.162 in the next; or half of it in each of two.
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
        let defects = find(&image, &background, 0.9, 0..150);
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
        assert!(find(&image, &background, 1.0, 0..150).is_empty());
    }
}
