//! Reads the rows of a frame one after another, and excludes the defects that are found on the way.

use std::ops::Range;

use crate::imaging::defects::Defects;
use crate::imaging::image::Image;
use crate::simd::{Aligned, LINE};

/// A function that finds the defects in one row of the frame, given its number, the row above it, the row
/// itself and the row below it. Each row is padded to a multiple of 32 pixels, and then by one pixel on either
/// side; pixels outside the frame are bad (NaN).
pub(crate) type Search<'a> = dyn Fn(usize, [&[f32]; 3], &mut Defects) + Sync + 'a;

/// Number of pixels that are read at once, in whole rows. The memory delivers many rows faster than single ones
/// between which other work is done; more pixels would not stay in the cache until they are used.
const READ_AT_ONCE: usize = 1 << 15;

/// A buffer for a [`Reader`] of this image.
pub(super) fn buffer(image: &Image<'_>) -> Aligned {
    let stride = stride(image);
    let count = (READ_AT_ONCE / stride).clamp(1, image.height()) + 2;
    Aligned::filled(f32::NAN, count * stride)
}

/// Number of pixels from one row of the buffer to the next: the first pixel of a row is at [`LINE`].
fn stride(image: &Image<'_>) -> usize {
    image.width().next_multiple_of(LINE) + 2 * LINE
}

/// Reads the rows of a frame in ascending order.
pub(super) struct Reader<'a> {
    search: Option<&'a Search<'a>>,
    rows: Rows<'a>,
    /// The row that is read next.
    next: usize,
    defects: Defects,
}

impl<'a> Reader<'a> {
    /// A reader of some rows; the buffer is that of [`buffer`].
    pub(super) fn new(
        image: &'a Image<'a>,
        search: Option<&'a Search<'a>>,
        rows: Range<usize>,
        buffer: &'a mut [f32],
    ) -> Self {
        let next = rows.start;
        Self { search, rows: Rows::new(image, rows, buffer), next, defects: Defects::none(0) }
    }

    /// Row `y`, one of the last two that were read; bad pixels and defects are NaN. `copy` is used if there
    /// are defects.
    #[inline]
    pub(super) fn row<'r>(&'r self, y: usize, copy: &'r mut [f32]) -> &'r [f32] {
        let row = &self.rows.padded(y)[1..=self.rows.image.width()];
        if self.defects.in_row(y).is_empty() {
            return row;
        }
        copy.copy_from_slice(row);
        self.defects.blank(y, 0, copy);
        copy
    }

    /// Reads the rows before row `end`, and finds the defects in them.
    pub(super) fn read_to(&mut self, end: usize) {
        for y in self.next..end {
            self.rows.advance_to(y);
            if let Some(search) = self.search {
                let rows = [y.wrapping_sub(1), y, y + 1].map(|y| self.rows.padded(y));
                search(y, rows, &mut self.defects);
            }
            self.defects.close(y + 1);
        }
        self.next = self.next.max(end);
    }

    /// The defects that were found.
    pub(super) fn defects(&self) -> &Defects {
        &self.defects
    }
}

/// Some consecutive rows of a frame.
struct Rows<'a> {
    image: &'a Image<'a>,
    pixels: &'a mut [f32],
    stride: usize,
    /// The second row; only the first and the last row have no row above and below them.
    first: usize,
    /// The last row.
    last: usize,
    /// The last row that is needed.
    limit: usize,
}

impl<'a> Rows<'a> {
    /// Begins with the first of some rows and the row above it.
    fn new(image: &'a Image<'a>, range: Range<usize>, pixels: &'a mut [f32]) -> Self {
        let Range { start, end } = range;
        let mut rows = Self { image, pixels, stride: stride(image), first: start, last: start, limit: end };
        rows.read(start.wrapping_sub(1));
        rows.read(start);
        rows
    }

    /// Makes sure that row `y`, which must be present or the next one, has a row below it.
    fn advance_to(&mut self, y: usize) {
        if y < self.last {
            return;
        }
        let kept = (self.last - self.first) * self.stride;
        self.pixels.copy_within(kept..kept + 2 * self.stride, 0);
        let added = self.pixels.len() / self.stride - 2;
        (self.first, self.last) = (self.last, (self.last + added).min(self.limit));
        for y in self.first + 1..=self.last {
            self.read(y);
        }
    }

    /// Start of row `y` in the buffer.
    fn start(&self, y: usize) -> usize {
        y.wrapping_add(1).wrapping_sub(self.first) * self.stride
    }

    /// Row `y` with bad pixels before and after it, as for [`Search`].
    fn padded(&self, y: usize) -> &[f32] {
        &self.pixels[self.start(y)..][LINE - 1..=self.stride - LINE]
    }

    /// Reads row `y` of the frame; all its pixels are bad if it is outside the frame.
    fn read(&mut self, y: usize) {
        let start = self.start(y) + LINE;
        let row = &mut self.pixels[start..][..self.image.width()];
        if y < self.image.height() {
            self.image.read(y, 0, row);
        } else {
            row.fill(f32::NAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads some rows of an image of this size, with defects in one column of each row that is between two
    /// others, and compares them with those of the image.
    fn check([width, height]: [usize; 2], range: Range<usize>) {
        let pixels: Vec<f32> = (0..width * height).map(|k| (k * 7919 % 1000) as f32).collect();
        let image = Image::from_slice(&pixels, width).unwrap();
        let column = |y: usize| y * 31 % width;
        let search: &Search<'_> = &|y, [above, row, below], found: &mut Defects| {
            for (y, seen) in [(y.wrapping_sub(1), above), (y, row), (y + 1, below)] {
                let expected = pixels.chunks(width).nth(y).unwrap_or(&[]);
                assert_eq!(&seen[1..=expected.len()], expected);
                assert!(seen[0].is_nan() && seen[1 + expected.len()..].iter().all(|v| v.is_nan()));
                assert!((seen.len() - 2).is_multiple_of(LINE));
            }
            if above[1].is_finite() && below[1].is_finite() {
                found.push([column(y), y], 9.0);
            }
        };
        for search in [None, Some(search)] {
            let mut buffer = buffer(&image);
            let mut reader = Reader::new(&image, search, range.clone(), &mut buffer);
            let mut copy = vec![0.0; width];
            for y in range.start..range.end.min(height) {
                reader.read_to(y + 1);
                let mut expected = pixels[y * width..][..width].to_vec();
                if search.is_some() && 0 < y && y + 1 < height {
                    expected[column(y)] = f32::NAN;
                }
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(reader.row(y, &mut copy).iter().zip(&expected).all(same));
            }
        }
    }

    #[test]
    fn rows_are_those_of_the_image() {
        for width in [1, 31, 32, 33, 700, 2 * READ_AT_ONCE] {
            for height in [1, 2, 3, 40] {
                check([width, height], 0..height);
                check([width, height], height / 2..height + 5);
            }
        }
        check([500, 300], 120..250);
    }
}
