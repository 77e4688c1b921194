//! Resamples an image through a projective transform, with a mask of the pixels that have a value.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::simd::{Work, vectorized};

/// Number of pixels whose source positions are calculated together, before their values are read. They fit
/// into the first-level cache.
const BATCH: usize = 256;

/// Tolerance in pixels: a position so far outside the outermost pixel centres counts as inside, because of
/// rounding.
const ROUNDING: f64 = 1e-6;

/// How values between pixels are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Bilinear interpolation of the four surrounding pixels.
    Linear,
    /// The value of the nearest pixel; of two equally near pixels, the one with the larger coordinate.
    Nearest,
}

/// A type whose values can be interpolated.
pub trait Sample: Copy + Default + Send + Sync {
    /// Bilinear interpolation between [top left, top right, bottom left, bottom right] at fractions of a pixel.
    ///
    /// A pixel of zero weight has no effect, even if it is NaN. Integers are rounded.
    fn blend(corners: [Self; 4], fx: f32, fy: f32) -> Self;

    /// Whether it is a value: false for NaN.
    fn is_value(self) -> bool;
}

macro_rules! sample {
    ($($kind:ty),*; $wide:ty, $back:expr, $value:expr) => {$(
        impl Sample for $kind {
            #[inline(always)]
            fn blend([a, b, c, d]: [Self; 4], fx: f32, fy: f32) -> Self {
                // A pixel of zero weight may hold any value, even NaN.
                let between = |a: $wide, b: $wide, f: $wide| {
                    let value = if f == 0.0 { a } else { a + f * (b - a) };
                    if f == 1.0 { b } else { value }
                };
                let (fx, fy) = (<$wide>::from(fx), <$wide>::from(fy));
                // Converted one by one, because `map` of an array may become a call.
                let top = between(<$wide>::from(a), <$wide>::from(b), fx);
                let bottom = between(<$wide>::from(c), <$wide>::from(d), fx);
                let value = between(top, bottom, fy);
                ($back)(value) as Self
            }

            #[inline(always)]
            fn is_value(self) -> bool {
                ($value)(self)
            }
        }
    )*};
}
sample!(u8, i8, u16, i16; f32, |v: f32| v.round(), |_| true);
sample!(u32, i32; f64, |v: f64| v.round(), |_| true);
sample!(f32; f32, |v: f32| v, |v: f32| !v.is_nan());
sample!(f64; f64, |v: f64| v, |v: f64| !v.is_nan());

/// How an image is warped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// Projective transform from pixels (column, row, 1) of the result to those of the source.
    pub to_source: [[f64; 3]; 3],
    /// How values between pixels are interpolated.
    pub interpolation: Interpolation,
    /// Whether pixels outside the source take the value of its edge; otherwise they are zero. They are never
    /// valid.
    pub fill_edges: bool,
}

/// An image made by a [`Warp`].
#[derive(Debug, Clone, PartialEq)]
pub struct Warped<T> {
    /// The pixels, row by row.
    pub pixels: Vec<T>,
    /// Which of the pixels are valid, that is, show a part of the source.
    pub valid: Vec<bool>,
}

impl Warp {
    /// Warps an image of (width, height), contiguous rows, to one of another size.
    ///
    /// A pixel is valid if its position in the source is within the outermost pixel centres
    /// ([`Interpolation::Nearest`]: within the pixels), if it is on the same side of the horizon of a
    /// projective transform as the middle of the result, and if its value is not NaN.
    pub fn apply<T: Sample>(
        &self,
        source: &[T],
        source_size: [usize; 2],
        size: [usize; 2],
    ) -> Result<Warped<T>> {
        let count = size[0] * size[1];
        let mut warped = Warped { pixels: vec![T::default(); count], valid: vec![false; count] };
        self.apply_into(source, source_size, size, &mut warped.pixels, &mut warped.valid)?;
        Ok(warped)
    }

    /// Like [`Self::apply`], but writes into buffers, whose previous content does not matter.
    pub fn apply_into<T: Sample>(
        &self,
        source: &[T],
        source_size: [usize; 2],
        size: [usize; 2],
        pixels: &mut [T],
        valid: &mut [bool],
    ) -> Result<()> {
        let [width, height] = source_size;
        if width == 0 || height == 0 || source.len() != width * height {
            return Err(Error::argument(
                "image",
                "the number of pixels does not match width x height",
                "give a non-empty image",
            ));
        }
        if source.len() > u32::MAX as usize {
            return Err(Error::argument("image", "it has more than 2^32 pixels", "warp it in parts"));
        }
        if pixels.len() != size[0] * size[1] || valid.len() != pixels.len() {
            return Err(Error::argument(
                "out",
                "its size does not match the result",
                "give one element per pixel of the result",
            ));
        }
        let lines = Lines::new(&self.to_source, source_size, size, self.interpolation)?;
        if size[0] > 0 {
            let rows = pixels.par_chunks_mut(size[0]).zip(valid.par_chunks_mut(size[0]));
            rows.enumerate().for_each(|(y, (pixels, valid))| {
                vectorized(Row { warp: *self, lines: &lines, source, y, pixels, valid });
            });
        }
        Ok(())
    }
}

/// Maps pixels of the result to positions in the source.
struct Lines {
    matrix: [[f64; 3]; 3],
    affine: bool,
    /// Last column and row of the source.
    last: [f64; 2],
    stride: usize,
    /// Largest distance of a position outside the outermost pixel centres, in pixels.
    margin: f64,
}

impl Lines {
    fn new(m: &[[f64; 3]; 3], source: [usize; 2], size: [usize; 2], how: Interpolation) -> Result<Self> {
        if !m.iter().flatten().all(|v| v.is_finite()) {
            return Err(Error::argument("matrix", "it is not finite", "give finite numbers"));
        }
        let middle = size.map(|side| (side as f64 - 1.0) / 2.0);
        let depth = m[2][0] * middle[0] + m[2][1] * middle[1] + m[2][2];
        if depth == 0.0 {
            return Err(Error::argument(
                "matrix",
                "it sends the middle of the image to infinity",
                "give an invertible transform of this image",
            ));
        }
        let matrix = m.map(|row| row.map(|v| v / depth));
        Ok(Self {
            matrix,
            affine: matrix[2][0] == 0.0 && matrix[2][1] == 0.0,
            last: source.map(|side| side as f64 - 1.0),
            stride: source[0],
            margin: if how == Interpolation::Nearest { 0.5 } else { ROUNDING },
        })
    }

    /// Position of a pixel of the result in the source; NaN beyond the horizon.
    #[inline(always)]
    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let [a, b, c] = self.matrix;
        let (u, v) = (a[0] * x + (a[1] * y + a[2]), b[0] * x + (b[1] * y + b[2]));
        if self.affine {
            return [u, v];
        }
        let depth = c[0] * x + (c[1] * y + c[2]);
        let depth = if depth > 0.0 { depth } else { f64::NAN };
        [u / depth, v / depth]
    }

    #[inline(always)]
    fn is_inside(&self, [u, v]: [f64; 2]) -> bool {
        let (low, [right, bottom]) = (-self.margin, self.last.map(|last| last + self.margin));
        u >= low && v >= low && u <= right && v <= bottom
    }

    /// Range of columns of a row in which all positions of an affine transform are safely inside the source.
    /// The other columns are tested one by one.
    fn inside(&self, y: f64, width: usize) -> [usize; 2] {
        let (mut from, mut to) = (0.0_f64, width as f64 - 1.0);
        let within = self.margin - 2.0 * ROUNDING;
        for (row, last) in self.matrix.iter().zip(self.last) {
            let (slope, offset) = (row[0], row[1] * y + row[2]);
            let ends = [-within - offset, last + within - offset];
            if slope == 0.0 {
                if ends[0] > 0.0 || ends[1] < 0.0 {
                    return [0, 0];
                }
                continue;
            }
            let [a, b] = ends.map(|end| end / slope);
            (from, to) = (from.max(a.min(b).ceil()), to.min(a.max(b).floor()));
        }
        if to < from { [0, 0] } else { [from as usize, to as usize + 1] }
    }
}

/// One row of the result.
struct Row<'a, T> {
    warp: Warp,
    lines: &'a Lines,
    source: &'a [T],
    y: usize,
    pixels: &'a mut [T],
    valid: &'a mut [bool],
}

impl<T: Sample> Work for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let width = self.pixels.len();
        if !self.lines.affine {
            return self.edges(0, width);
        }
        let [from, to] = self.lines.inside(self.y as f64, width);
        self.edges(0, from);
        match self.warp.interpolation {
            Interpolation::Linear => self.linear(from, to),
            Interpolation::Nearest => self.nearest(from, to),
        }
        self.edges(to, width);
    }
}

impl<T: Sample> Row<'_, T> {
    /// Fills pixels that may lie outside the source, one by one.
    fn edges(&mut self, from: usize, to: usize) {
        for x in from..to {
            let place = self.lines.place(x as f64, self.y as f64);
            let inside = self.lines.is_inside(place);
            let filled = inside || (self.warp.fill_edges && !place[0].is_nan() && !place[1].is_nan());
            let value = if filled { self.value(place) } else { T::default() };
            self.pixels[x] = value;
            self.valid[x] = inside && value.is_value();
        }
    }

    /// The value at a position in the source; a position outside is moved to the nearest edge.
    fn value(&self, place: [f64; 2]) -> T {
        let [u, v] = [0, 1].map(|k| place[k].clamp(0.0, self.lines.last[k]));
        let at = |column: f64, row: f64| self.source[row as usize * self.lines.stride + column as usize];
        if self.warp.interpolation == Interpolation::Nearest {
            return at((u + 0.5).floor().min(self.lines.last[0]), (v + 0.5).floor().min(self.lines.last[1]));
        }
        let (left, top) = (u.floor(), v.floor());
        let (right, bottom) = ((left + 1.0).min(self.lines.last[0]), (top + 1.0).min(self.lines.last[1]));
        let corners = [at(left, top), at(right, top), at(left, bottom), at(right, bottom)];
        T::blend(corners, (u - left) as f32, (v - top) as f32)
    }

    /// Fills pixels of an affine transform that are safely inside, by bilinear interpolation.
    #[inline(always)]
    fn linear(&mut self, from: usize, to: usize) {
        let stride = self.lines.stride;
        let [step_u, step_v] = [self.lines.matrix[0][0], self.lines.matrix[1][0]].map(fixed);
        let (mut index, mut fx, mut fy) = ([0_u32; BATCH], [0.0_f32; BATCH], [0.0_f32; BATCH]);
        let (mut top, mut bottom) = ([[T::default(); 2]; BATCH], [[T::default(); 2]; BATCH]);
        let mut start = from;
        while start < to {
            let count = BATCH.min(to - start);
            let [mut u, mut v] = self.lines.place(start as f64, self.y as f64).map(fixed);
            // Always a whole batch, so that the compiler knows its length; positions beyond the row are not
            // used.
            for k in 0..BATCH {
                index[k] = whole(v).wrapping_mul(stride as u32).wrapping_add(whole(u));
                (fx[k], fy[k]) = (part(u), part(v));
                (u, v) = (u.wrapping_add(step_u), v.wrapping_add(step_v));
            }
            for k in 0..count {
                let index = index[k] as usize;
                let (above, below) = (&self.source[index..index + 2], &self.source[index + stride..][..2]);
                (top[k][0], top[k][1]) = (above[0], above[1]);
                (bottom[k][0], bottom[k][1]) = (below[0], below[1]);
            }
            let pixels = &mut self.pixels[start..start + count];
            let valid = &mut self.valid[start..start + count];
            for (k, (pixel, valid)) in pixels.iter_mut().zip(valid).enumerate() {
                let ([a, b], [c, d]) = (top[k], bottom[k]);
                *pixel = T::blend([a, b, c, d], fx[k], fy[k]);
                *valid = pixel.is_value();
            }
            start += count;
        }
    }

    /// Fills pixels of an affine transform that are safely inside, each with the nearest pixel of the source.
    #[inline(always)]
    fn nearest(&mut self, from: usize, to: usize) {
        let stride = self.lines.stride;
        let [step_u, step_v] = [self.lines.matrix[0][0], self.lines.matrix[1][0]].map(fixed);
        let mut index = [0_u32; BATCH];
        let mut start = from;
        while start < to {
            let count = BATCH.min(to - start);
            let [mut u, mut v] = self.lines.place(start as f64, self.y as f64).map(|c| fixed(c + 0.5));
            for index in &mut index {
                *index = whole(v).wrapping_mul(stride as u32).wrapping_add(whole(u));
                (u, v) = (u.wrapping_add(step_u), v.wrapping_add(step_v));
            }
            let pixels = &mut self.pixels[start..start + count];
            let valid = &mut self.valid[start..start + count];
            for ((pixel, valid), &index) in pixels.iter_mut().zip(valid).zip(&index) {
                *pixel = self.source[index as usize];
                *valid = pixel.is_value();
            }
            start += count;
        }
    }
}

/// A coordinate in units of 2⁻³² pixel: steps are added exactly, and masks and shifts give its two parts.
#[inline(always)]
fn fixed(coordinate: f64) -> i64 {
    (coordinate * 4_294_967_296.0) as i64
}

/// Whole part of a coordinate: the index of the pixel at or before it.
#[inline(always)]
fn whole(fixed: i64) -> u32 {
    (fixed >> 32) as u32
}

/// Fractional part of a coordinate: its distance from that pixel, 0 to 1.
#[inline(always)]
fn part(fixed: i64) -> f32 {
    ((fixed as u32) >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn warp(to_source: [[f64; 3]; 3], interpolation: Interpolation, fill_edges: bool) -> Warp {
        Warp { to_source, interpolation, fill_edges }
    }

    const IDENTITY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    #[test]
    fn the_identity_changes_nothing() {
        let image: Vec<u16> = (0..35).collect();
        for how in [Interpolation::Linear, Interpolation::Nearest] {
            let same = warp(IDENTITY, how, false).apply(&image, [7, 5], [7, 5]).unwrap();
            assert_eq!(same.pixels, image);
            assert!(same.valid.iter().all(|&v| v));
        }
    }

    #[test]
    fn one_pixel_and_one_row_are_images() {
        let one = warp(IDENTITY, Interpolation::Linear, false).apply(&[7_u8], [1, 1], [2, 2]).unwrap();
        assert_eq!((one.pixels, one.valid), (vec![7, 0, 0, 0], vec![true, false, false, false]));
        let half = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let row =
            warp(half, Interpolation::Linear, true).apply(&[0.0_f32, 2.0, 4.0], [3, 1], [3, 1]).unwrap();
        assert_eq!((row.pixels, row.valid), (vec![1.0, 3.0, 4.0], vec![true, true, false]));
    }

    #[test]
    fn a_pixel_without_value_spoils_only_what_it_has_a_part_in() {
        let image = [1.0_f32, f32::NAN, 3.0, 4.0, 5.0, 6.0];
        let same = warp(IDENTITY, Interpolation::Linear, false).apply(&image, [3, 2], [3, 2]).unwrap();
        assert_eq!(same.valid, [true, false, true, true, true, true]);
        assert_eq!(same.pixels[3..], [4.0, 5.0, 6.0]);
    }

    #[test]
    fn what_lies_beyond_the_horizon_is_not_shown() {
        // The depth 1 - x / 4 vanishes at column 4 of 8; the middle of the result, column 3.5, lies before it.
        let matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.25, 0.0, 1.0]];
        let image = vec![1.0_f64; 64];
        let shown = warp(matrix, Interpolation::Linear, true).apply(&image, [8, 8], [8, 8]).unwrap();
        assert!(shown.valid[..3].iter().all(|&v| v) && shown.valid[4..8].iter().all(|&v| !v));
        assert_eq!(shown.pixels[5], 0.0);
    }

    #[test]
    fn matrices_that_cannot_be_used_are_refused() {
        let mut matrix = IDENTITY;
        matrix[0][2] = f64::NAN;
        assert!(warp(matrix, Interpolation::Linear, false).apply(&[1_u8], [1, 1], [1, 1]).is_err());
        let nowhere = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
        assert!(warp(nowhere, Interpolation::Linear, false).apply(&[1_u8], [1, 1], [1, 1]).is_err());
        assert!(warp(IDENTITY, Interpolation::Linear, false).apply(&[1_u8; 3], [2, 2], [1, 1]).is_err());
    }

    proptest! {
        /// Linear interpolation reproduces a plane exactly, and the mask agrees with its definition.
        #[test]
        fn a_plane_is_interpolated_exactly(m in prop::array::uniform6(-1.5..1.5_f64), tilt in prop::array::uniform2(-0.01..0.01_f64)) {
            let matrix = [[m[0], m[1], 10.0 * m[2] + 5.0], [m[3], m[4], 10.0 * m[5] + 5.0], [tilt[0], tilt[1], 1.0]];
            let size = [23, 17];
            let plane: Vec<f64> = (0..size[1]).flat_map(|y| (0..size[0]).map(move |x| 2.0 * x as f64 - 3.0 * y as f64)).collect();
            let warped = warp(matrix, Interpolation::Linear, false).apply(&plane, size, [31, 29]).unwrap();
            for (i, (&value, &valid)) in warped.pixels.iter().zip(&warped.valid).enumerate() {
                let (x, y) = ((i % 31) as f64, (i / 31) as f64);
                let depth = tilt[0] * x + tilt[1] * y + 1.0;
                let u = (matrix[0][0] * x + matrix[0][1] * y + matrix[0][2]) / depth;
                let v = (matrix[1][0] * x + matrix[1][1] * y + matrix[1][2]) / depth;
                let beyond = [-u, u - 22.0, -v, v - 16.0].into_iter().fold(f64::NEG_INFINITY, f64::max);
                if beyond.abs() > 1e-5 {
                    prop_assert_eq!(valid, depth > 0.0 && beyond < 0.0);
                }
                if valid {
                    prop_assert!((value - (2.0 * u - 3.0 * v)).abs() < 1e-4, "{value} {u} {v}");
                } else {
                    prop_assert_eq!(value, 0.0);
                }
            }
        }
    }
}
