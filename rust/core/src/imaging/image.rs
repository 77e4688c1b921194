//! Images as the extraction reads them: rows of any pixel type, read in place, with bad pixels excluded.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::imaging::defects::Defects;
use crate::imaging::pixels::ScaledBlock;
pub use crate::imaging::pixels::{Pixel, Rows};
use crate::simd::{Work, streamed};

/// Blocks with fewer pixels than this are converted without wide vector instructions, which would bring no
/// gain.
const SHORT: usize = 64;
/// Number of pixels of a row from which the pattern is removed at once, a multiple of the pattern's period.
const PAIRS: usize = 16;

/// How pixel values are converted on reading: multiplied by a power of two, then freed from a pattern of
/// period two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// Power of two by which pixel values are multiplied.
    pub scale: f64,
    /// Pattern that is removed after scaling, if there is one.
    pub pattern: Option<Pattern>,
    /// Quantisation step of the scaled values (spacing of the lattice on which they lie); zero if there is
    /// none.
    pub step: f32,
    /// Level difference between flat areas, in which all pixels are rounded to one value; zero if there are
    /// none.
    pub plateau: f32,
    /// Lower limit of the noise, assumed for a frame without noise; zero for other frames.
    pub least_noise: f32,
}

/// Pattern of period two: an offset to subtract and a factor to multiply by, indexed by the parity of row and
/// column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pattern {
    pub offset: [[f32; 2]; 2],
    pub factor: [[f32; 2]; 2],
}

impl Pattern {
    fn flatten(&self, y: usize, x0: usize, out: &mut [f32]) {
        // As many pixels at once as vector registers hold, so that the compiler uses vector instructions.
        let alternating =
            |values: [f32; 2]| -> [f32; PAIRS] { std::array::from_fn(|k| values[(x0 + k) % 2]) };
        let [offset, factor] = [self.offset, self.factor].map(|values| alternating(values[y % 2]));
        let flatten = |v: &mut [f32]| {
            for ((v, offset), factor) in v.iter_mut().zip(offset).zip(factor) {
                *v = (*v - offset) * factor;
            }
        };
        let (whole, rest) = out.as_chunks_mut::<PAIRS>();
        for pixels in whole {
            flatten(pixels);
        }
        flatten(rest);
    }

    /// The pattern that also divides the height of flattened pixels above `level` by `sensitivity`, which is
    /// indexed by the parity of row and column.
    pub(crate) fn divided(&self, sensitivity: [[f32; 2]; 2], level: f32) -> Self {
        let mut divided = *self;
        for (j, i) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let s = sensitivity[j][i];
            divided.offset[j][i] -= level * (s - 1.0) / self.factor[j][i];
            divided.factor[j][i] /= s;
        }
        divided
    }

    /// The lowest of the four results that one pixel value gives, one for each parity of row and column.
    pub(crate) fn lowest(&self, value: f64) -> f64 {
        let places = self.offset.iter().flatten().zip(self.factor.iter().flatten());
        places
            .map(|(&offset, &factor)| (value - f64::from(offset)) * f64::from(factor))
            .fold(f64::INFINITY, f64::min)
    }
}

/// A view of an image: one slice per row, so that any part of a larger array can be read without copying.
///
/// Pixels that are not finite (or beyond 1e15), or for which the mask holds true, are bad: they are never used.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    rows: Rows<'a>,
    mask: Option<Vec<&'a [bool]>>,
    noise: Option<Vec<&'a [f32]>>,
    width: usize,
    /// How pixel values are converted; `None` until the image has been surveyed.
    reading: Option<Reading>,
    /// Bad pixels in addition to those of the mask.
    defects: Option<Arc<Defects>>,
}

impl<'a> Image<'a> {
    /// Makes an image from its rows and an optional mask of bad pixels.
    ///
    /// Returns an error for an image without pixels, rows of different length, and a mask of another shape.
    pub fn new<T: Pixel>(rows: Vec<&'a [T]>, mask: Option<Vec<&'a [bool]>>) -> Result<Self> {
        let width = rows.first().map_or(0, |row| row.len());
        if width == 0 {
            return Err(Error::argument(
                "image",
                "it has no pixels",
                "give an array of shape (height, width)",
            ));
        }
        if rows.iter().any(|row| row.len() != width) {
            return Err(Error::argument("image", "its rows differ in length", "give a rectangular image"));
        }
        if let Some(mask) = &mask
            && (mask.len() != rows.len() || mask.iter().any(|row| row.len() != width))
        {
            return Err(Error::argument(
                "mask",
                "its shape differs from that of the image",
                "give one boolean per pixel, true where the pixel is bad",
            ));
        }
        Ok(Self { rows: T::rows(rows), mask, noise: None, width, reading: None, defects: None })
    }

    /// Makes an image from contiguous rows of `width` pixels.
    pub fn from_slice<T: Pixel>(pixels: &'a [T], width: usize) -> Result<Self> {
        if width == 0 || !pixels.len().is_multiple_of(width) {
            return Err(Error::argument(
                "width",
                format!("the number of pixels is not a multiple of {width}"),
                "give the row length",
            ));
        }
        Self::new(pixels.chunks_exact(width).collect(), None)
    }

    /// The same image with the standard deviation of the noise of every pixel.
    ///
    /// `noise` holds one row per row of the image. All its numbers must be positive and finite, also those of
    /// bad pixels, where their value does not matter.
    pub fn with_noise(mut self, noise: Vec<&'a [f32]>) -> Result<Self> {
        if noise.len() != self.height() || noise.iter().any(|row| row.len() != self.width) {
            return Err(Error::argument(
                "noise",
                "its shape differs from that of the image",
                "give one standard deviation per pixel",
            ));
        }
        if noise.iter().any(|row| !row.iter().all(|&v| v > 0.0 && v.is_finite())) {
            return Err(Error::argument(
                "noise",
                "it holds numbers that are not positive and finite",
                "give standard deviations, and mask pixels that have none",
            ));
        }
        self.noise = Some(noise);
        Ok(self)
    }

    /// Standard deviation of the noise of every pixel, row by row, in the units of the image; `None` if it is
    /// not known.
    pub(crate) fn noise(&self) -> Option<&[&'a [f32]]> {
        self.noise.as_deref()
    }

    /// The same image with another conversion of its pixel values.
    pub(crate) fn with_reading(&self, reading: Reading) -> Self {
        Self { reading: Some(reading), ..self.clone() }
    }

    /// How pixel values are converted, if that has been determined.
    pub(crate) fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// Reads unconverted pixels along a line. The first is at column and row `from`, and each is `step`
    /// columns and rows after the one before. Pixels that are masked or not finite become NaN.
    pub(crate) fn line(&self, from: [usize; 2], step: [usize; 2], out: &mut [f64]) {
        self.rows.line(from, step, out);
        for v in &mut *out {
            *v = if v.is_finite() { *v } else { f64::NAN };
        }
        if let Some(mask) = &self.mask {
            for (k, v) in out.iter_mut().enumerate() {
                let [x, y] = [0, 1].map(|axis| from[axis] + k * step[axis]);
                *v = if mask[y][x] { f64::NAN } else { *v };
            }
        }
    }

    /// One unconverted pixel; NaN if it is masked or not finite.
    pub(crate) fn raw(&self, x: usize, y: usize) -> f64 {
        let mut pixel = [f64::NAN];
        self.line([x, y], [1, 0], &mut pixel);
        pixel[0]
    }

    /// Quantisation step of the pixel type: one for integers, `None` for floating-point numbers.
    pub(crate) fn step(&self) -> Option<f64> {
        self.rows.step()
    }

    /// Largest binary exponent of a scale with which the image can be read.
    pub(crate) fn max_exponent(&self) -> i32 {
        self.rows.max_exponent()
    }

    /// The same image with `defects` as further bad pixels.
    pub(crate) fn without(&self, defects: Arc<Defects>) -> Self {
        Self { defects: Some(defects).filter(|defects| !defects.is_empty()), ..self.clone() }
    }

    /// Number of columns and of rows.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.width(), self.height()]
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// Reads pixels `x0..x0 + out.len()` of row `y`, converted; bad pixels become NaN.
    pub fn read(&self, y: usize, x0: usize, out: &mut [f32]) {
        let columns = out.len();
        self.read_block([x0, y], columns, out, columns.max(1));
    }

    /// Reads a block of `columns` columns whose first column and row are `from`, converted; bad pixels become
    /// NaN. It has as many rows as fit into `out`, and each row begins `stride` numbers after the one before.
    pub(crate) fn read_block(&self, from: [usize; 2], columns: usize, out: &mut [f32], stride: usize) {
        let scale = self.reading.as_ref().map_or(1.0, |reading| reading.scale);
        let short = out.len() < SHORT;
        let block = ScaledBlock { rows: &self.rows, from, columns, scale, out: &mut *out, stride };
        if short {
            block.call();
        } else {
            streamed(block);
        }
        let pattern = self.reading.as_ref().and_then(|reading| reading.pattern.as_ref());
        if pattern.is_none() && self.mask.is_none() && self.defects.is_none() {
            return;
        }
        let x0 = from[0];
        for (y, out) in (from[1]..).zip(out.chunks_mut(stride)) {
            let out = &mut out[..columns];
            if let Some(pattern) = pattern {
                pattern.flatten(y, x0, out);
            }
            if let Some(mask) = &self.mask {
                for (o, &bad) in out.iter_mut().zip(&mask[y][x0..]) {
                    if bad {
                        *o = f32::NAN;
                    }
                }
            }
            if let Some(defects) = &self.defects {
                defects.blank(y, x0, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_shapes_are_refused() {
        assert!(Image::new::<f32>(vec![], None).is_err());
        assert!(Image::new::<f32>(vec![&[], &[]], None).is_err());
        assert!(Image::new(vec![&[1_u8, 2][..], &[3][..]], None).is_err());
        assert!(Image::new(vec![&[1_u8, 2][..]], Some(vec![&[false][..]])).is_err());
        assert!(Image::from_slice(&[1.0_f32; 7], 2).is_err());
        let image = Image::from_slice(&[1.0_f32; 4], 2).unwrap();
        assert!(image.clone().with_noise(vec![&[1.0, 1.0]]).is_err());
        assert!(image.clone().with_noise(vec![&[1.0, 1.0], &[1.0, 0.0]]).is_err());
        assert!(image.with_noise(vec![&[1.0, 1.0], &[1.0, 2.0]]).is_ok());
    }

    /// Reads the middle of a row of seven pixels, multiplied by a power of two.
    fn scaled<T: Pixel>(pixels: &[T; 7], scale: f64) -> [f32; 5] {
        let image = Image::from_slice(pixels, 7).unwrap();
        let reading = Reading { scale, pattern: None, step: 0.0, plateau: 0.0, least_noise: 0.0 };
        let mut row = [0.0; 5];
        image.with_reading(reading).read(0, 1, &mut row);
        row
    }

    #[test]
    fn pixels_of_every_type_are_scaled() {
        assert_eq!(scaled(&[9_u8, 0, 1, 2, 254, 255, 9], 0.5), [0.0, 0.5, 1.0, 127.0, 127.5]);
        let short = [-32768.0, -1.0, 0.0, 1.0, 32767.0].map(|v: f32| v * 4.0);
        assert_eq!(scaled(&[9_i16, -32768, -1, 0, 1, 32767, 9], 4.0), short);
        assert_eq!(scaled(&[9_u16, 0, 1, 2, 65534, 65535, 9], 0.25), [0.0, 0.25, 0.5, 16383.5, 16383.75]);
        let single = scaled(&[9.0_f32, -0.1, f32::NAN, f32::INFINITY, 5e14, 1e14, 9.0], 4.0);
        assert!(single[1..4].iter().all(|v| v.is_nan()));
        assert_eq!([single[0], single[4]], [-0.4, 4e14]);
        // A value beyond the range of single precision may be within it once scaled.
        let double = scaled(&[9.0, -1e300, f64::NAN, 2e300, 0.0, 1e299, 9.0], 2.0_f64.powi(-960));
        let small = 2.0_f64.powi(-960);
        assert_eq!([double[0], double[2], double[4]], [-1e300, 2e300, 1e299].map(|v| (v * small) as f32));
        assert!(double[1].is_nan() && double[3] == 0.0);
    }

    #[test]
    fn masked_pixels_read_as_nan() {
        let image = Image::new(vec![&[1_u16, 2, 3][..]], Some(vec![&[false, true, false][..]])).unwrap();
        let mut row = [0.0; 2];
        image.read(0, 1, &mut row);
        assert!(row[0].is_nan() && row[1] == 3.0);
    }
}
