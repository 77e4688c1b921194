//! Stamps: the pixels around a star, in rows padded for vector instructions.

// Parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use crate::imaging::background::Background;
use crate::imaging::image::Image;
use crate::simd::LANES;

/// Marker for a pixel of a stamp that is bad, saturated or outside the frame; larger than any good pixel.
pub(crate) const BAD: f32 = 1e20;

/// Whether a pixel of a stamp may be used.
#[inline]
pub(crate) fn is_good(value: f32) -> bool {
    value < BAD / 2.0
}

/// Dimensions of a square stamp with sides of 2 `half` + 1 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Number of pixels on each side of the middle pixel.
    pub half: usize,
    /// Number of pixels along one side.
    pub side: usize,
    /// Length of a padded row, in pixels.
    pub stride: usize,
}

impl Layout {
    #[inline(always)]
    pub(crate) fn new(half: usize) -> Self {
        let side = 2 * half + 1;
        Self { half, side, stride: side.next_multiple_of(LANES) }
    }

    /// Number of pixels of a stamp, with padding.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.side * self.stride
    }

    /// Index, in a stamp about `centre`, of the pixel at column and row `at` of the frame; `None` outside the
    /// stamp.
    pub(crate) fn index(self, centre: [isize; 2], at: [isize; 2]) -> Option<usize> {
        let (x, y) = (at[0] - centre[0] + self.half as isize, at[1] - centre[1] + self.half as isize);
        let inside = |v: isize| (0..self.side as isize).contains(&v);
        (inside(x) && inside(y)).then(|| y as usize * self.stride + x as usize)
    }
}

/// The middle part of a stamp: a range of rows and a range of columns, in whole groups of [`LANES`] columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crop {
    pub rows: [usize; 2],
    pub columns: [usize; 2],
}

impl Crop {
    /// The part within `reach` rows and columns of the middle pixel, with columns rounded outwards to whole
    /// groups.
    pub(crate) fn new(half: usize, reach: usize) -> Self {
        let (low, high) = (half - reach.min(half), half + reach.min(half) + 1);
        Self { rows: [low, high], columns: [low / LANES * LANES, high.next_multiple_of(LANES)] }
    }

    /// The whole stamp.
    pub(crate) fn whole(half: usize) -> Self {
        Self::new(half, half)
    }

    /// Whether the pixel at index `at` of a stamp is in the part.
    pub(crate) fn contains(self, layout: Layout, at: usize) -> bool {
        let inside = |[low, high]: [usize; 2], v: usize| (low..high).contains(&v);
        inside(self.columns, at % layout.stride) && inside(self.rows, at / layout.stride)
    }

    /// Index range, in a stamp, of row `j` of the part.
    #[inline(always)]
    pub(crate) fn span(self, layout: Layout, j: usize) -> std::ops::Range<usize> {
        j * layout.stride + self.columns[0]..j * layout.stride + self.columns[1]
    }

    /// Index ranges, in a stamp, of all rows of the part.
    pub(crate) fn spans(self, layout: Layout) -> impl Iterator<Item = std::ops::Range<usize>> {
        (self.rows[0]..self.rows[1]).map(move |j| self.span(layout, j))
    }
}

/// Reads the stamp about column `x` and row `y`: the frame less the background. Bad pixels, pixels outside
/// the frame, and pixels of `saturation` or more become [`BAD`].
pub(crate) fn cut(
    image: &Image<'_>,
    background: &Background,
    [x, y]: [isize; 2],
    half: usize,
    saturation: f32,
    stamp: &mut [f32],
) {
    let Layout { side, stride, .. } = Layout::new(half);
    stamp.fill(BAD);
    let (left, top) = (x - half as isize, y - half as isize);
    let columns = left.max(0)..(left + side as isize).min(image.width() as isize);
    let rows = top.max(0)..(top + side as isize).min(image.height() as isize);
    if columns.is_empty() || rows.is_empty() {
        return;
    }
    let level = background.level.at(x as f32, y as f32);
    let slope = [
        background.level.at(x as f32 + 1.0, y as f32) - level,
        background.level.at(x as f32, y as f32 + 1.0) - level,
    ];
    let first = (rows.start - top) as usize * stride + (columns.start - left) as usize;
    let stamp = &mut stamp[first..][..(rows.len() - 1) * stride + columns.len()];
    image.read_block([columns.start as usize, rows.start as usize], columns.len(), stamp, stride);
    for (row, pixels) in rows.zip(stamp.chunks_mut(stride)) {
        let under = level + slope[1] * (row - y) as f32 + slope[0] * (columns.start - x) as f32;
        for (v, k) in pixels[..columns.len()].iter_mut().zip(0_i32..) {
            *v = if *v < saturation { *v - (under + slope[0] * k as f32) } else { BAD };
        }
    }
}

/// Index of the part of a frame that a pixel is in. The frame, of width and height `size`, is divided into
/// `along` parts along each axis; parts are numbered row by row.
pub(crate) fn part_of(pixel: [isize; 2], size: [usize; 2], along: usize) -> usize {
    let [column, row] = [0, 1].map(|k| {
        let inside = pixel[k].clamp(0, size[k] as isize - 1) as usize;
        inside * along / size[k]
    });
    row * along + column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_bad_and_saturated_pixels_are_marked() {
        let mut pixels = vec![10.0_f32; 20 * 20];
        pixels[21] = f32::NAN;
        pixels[2] = 500.0;
        pixels[3] = 90.0;
        let image = Image::from_slice(&pixels, 20).unwrap();
        let background = Background::measure(&image, 20).unwrap();
        let layout = Layout::new(2);
        let mut stamp = vec![0.0; layout.len()];
        cut(&image, &background, [1, 1], 2, 100.0, &mut stamp);
        let at = |x, y| stamp[layout.index([1, 1], [x, y]).unwrap()];
        assert!(!is_good(at(-1, 0)) && !is_good(at(1, 1)) && !is_good(at(2, 0)));
        assert!((at(3, 0) - 80.0).abs() < 1e-3 && at(0, 3).abs() < 1e-3);
        assert_eq!(layout.index([1, 1], [4, 0]), None);
    }

    #[test]
    fn a_crop_covers_its_reach() {
        for half in 1..9 {
            for reach in 0..=half {
                let layout = Layout::new(half);
                let crop = Crop::new(half, reach);
                assert_eq!(crop.spans(layout).count(), 2 * reach + 1);
                assert!(crop.columns[0] <= half - reach && crop.columns[1] > half + reach);
                assert!(crop.spans(layout).all(|span| span.end <= layout.len() && span.len() % LANES == 0));
            }
        }
    }
}
