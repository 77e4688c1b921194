//! Images as the extraction reads them: rows of any pixel type, in place, with bad pixels left out.

// Reading is a part of loops that are compiled for several kinds of machine: `lanes::vectorized`.
#![allow(clippy::inline_always)]

use crate::error::{Error, Result};

/// Floating-point pixels beyond this are bad: their squares would not fit.
pub(crate) const LIMIT: f32 = 1e15;

/// A type images are made of.
pub trait Pixel: Copy + Send + Sync {
    /// The pixel in the precision the extraction works with; NaN if it is not finite (or beyond 1e15).
    fn value(self) -> f32;
}

macro_rules! pixel {
    ($($kind:ty),*; $convert:expr) => {$(
        impl Pixel for $kind {
            #[inline(always)]
            fn value(self) -> f32 {
                $convert(self)
            }
        }
    )*};
}
pixel!(u8, i16, u16; f32::from);
pixel!(f32; |v: f32| if v.abs() <= LIMIT { v } else { f32::NAN });
pixel!(f64; |v: f64| if v.abs() <= f64::from(LIMIT) { v as f32 } else { f32::NAN });

/// A view of an image: one slice per row, so that any part of a larger array can be read where it is.
///
/// Pixels that are not finite (or beyond 1e15), or for which the mask holds true, are bad: they are never used.
#[derive(Debug, Clone)]
pub struct Image<'a, T> {
    rows: Vec<&'a [T]>,
    mask: Option<Vec<&'a [bool]>>,
    noise: Option<Vec<&'a [f32]>>,
    width: usize,
}

impl<'a, T: Pixel> Image<'a, T> {
    /// Refuses an image without pixels, rows of different length, and a mask of another shape.
    pub fn new(rows: Vec<&'a [T]>, mask: Option<Vec<&'a [bool]>>) -> Result<Self> {
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
                "its shape is not that of the image",
                "give one boolean per pixel, true where the pixel is bad",
            ));
        }
        Ok(Self { rows, mask, noise: None, width })
    }

    /// An image of contiguous rows.
    pub fn from_slice(pixels: &'a [T], width: usize) -> Result<Self> {
        if width == 0 || !pixels.len().is_multiple_of(width) {
            return Err(Error::argument(
                "width",
                format!("{width} does not divide the pixels"),
                "give the row length",
            ));
        }
        Self::new(pixels.chunks_exact(width).collect(), None)
    }

    /// With the standard deviation of the noise of every pixel, where it is known: rows of positive, finite numbers
    /// (any, where a pixel is bad).
    pub fn with_noise(mut self, noise: Vec<&'a [f32]>) -> Result<Self> {
        if noise.len() != self.height() || noise.iter().any(|row| row.len() != self.width) {
            return Err(Error::argument(
                "noise",
                "its shape is not that of the image",
                "give one standard deviation per pixel",
            ));
        }
        if noise.iter().any(|row| !row.iter().all(|&v| v > 0.0 && v <= LIMIT)) {
            return Err(Error::argument(
                "noise",
                "it holds numbers that are not positive and finite",
                "give standard deviations, and mask pixels that have none",
            ));
        }
        self.noise = Some(noise);
        Ok(self)
    }

    /// The noise of every pixel, row by row, where it is known.
    pub(crate) fn noise(&self) -> Option<&[&'a [f32]]> {
        self.noise.as_deref()
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// Pixels `x0..x0 + out.len()` of row `y`; NaN where they are bad.
    #[inline(always)]
    pub fn read(&self, y: usize, x0: usize, out: &mut [f32]) {
        let row = &self.rows[y][x0..x0 + out.len()];
        for (o, &v) in out.iter_mut().zip(row) {
            *o = v.value();
        }
        if let Some(mask) = &self.mask {
            for (o, &bad) in out.iter_mut().zip(&mask[y][x0..x0 + row.len()]) {
                if bad {
                    *o = f32::NAN;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_shapes_are_refused() {
        assert!(Image::<f32>::new(vec![], None).is_err());
        assert!(Image::<f32>::new(vec![&[], &[]], None).is_err());
        assert!(Image::new(vec![&[1_u8, 2][..], &[3][..]], None).is_err());
        assert!(Image::new(vec![&[1_u8, 2][..]], Some(vec![&[false][..]])).is_err());
        assert!(Image::from_slice(&[1.0_f32; 7], 2).is_err());
        let image = Image::from_slice(&[1.0_f32; 4], 2).unwrap();
        assert!(image.clone().with_noise(vec![&[1.0, 1.0]]).is_err());
        assert!(image.clone().with_noise(vec![&[1.0, 1.0], &[1.0, 0.0]]).is_err());
        assert!(image.with_noise(vec![&[1.0, 1.0], &[1.0, 2.0]]).is_ok());
    }

    #[test]
    fn masked_pixels_read_as_nan() {
        let image = Image::new(vec![&[1_u16, 2, 3][..]], Some(vec![&[false, true, false][..]])).unwrap();
        let mut row = [0.0; 2];
        image.read(0, 1, &mut row);
        assert!(row[0].is_nan() && row[1] == 3.0);
    }
}
