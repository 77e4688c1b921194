//! Rows of pixels of any type, read as single-precision numbers. Only the code of this module is compiled
//! once for each pixel type.

// Inlined functions are parts of loops that `streamed` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use crate::simd::{LANES, Work};

/// Floating-point pixels of larger absolute value are bad, because sums of their squares could overflow.
pub(crate) const LIMIT: f32 = 1e15;

/// Number of columns from which the compiler's loop over the pixels of a row, which converts many at once, is
/// faster than a few at a time.
const WIDE: usize = 32;

/// A type of pixel values.
pub trait Pixel: Sized {
    /// Wraps rows of pixels of this type.
    fn rows(rows: Vec<&[Self]>) -> Rows<'_>;
}

/// Rows of pixels of one type, each row a separate slice.
#[derive(Debug, Clone)]
pub enum Rows<'a> {
    /// Unsigned 8-bit integers.
    U8(Vec<&'a [u8]>),
    /// Signed 16-bit integers.
    I16(Vec<&'a [i16]>),
    /// Unsigned 16-bit integers.
    U16(Vec<&'a [u16]>),
    /// Numbers in single precision.
    F32(Vec<&'a [f32]>),
    /// Numbers in double precision.
    F64(Vec<&'a [f64]>),
}

macro_rules! pixel {
    ($($kind:ty => $variant:ident),*) => {$(
        impl Pixel for $kind {
            fn rows(rows: Vec<&[Self]>) -> Rows<'_> {
                Rows::$variant(rows)
            }
        }
    )*};
}
pixel!(u8 => U8, i16 => I16, u16 => U16, f32 => F32, f64 => F64);

impl Rows<'_> {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::U8(rows) => rows.len(),
            Self::I16(rows) => rows.len(),
            Self::U16(rows) => rows.len(),
            Self::F32(rows) => rows.len(),
            Self::F64(rows) => rows.len(),
        }
    }

    /// Reads unconverted pixels along a line: the first at column and row `from`, each `step` after the one
    /// before.
    pub(crate) fn line(&self, from: [usize; 2], step: [usize; 2], out: &mut [f64]) {
        match self {
            Self::U8(rows) => along(rows, from, step, out),
            Self::I16(rows) => along(rows, from, step, out),
            Self::U16(rows) => along(rows, from, step, out),
            Self::F32(rows) => along(rows, from, step, out),
            Self::F64(rows) => along(rows, from, step, out),
        }
    }

    /// Quantisation step: one for integers, `None` for floating-point numbers.
    pub(crate) fn step(&self) -> Option<f64> {
        match self {
            Self::U8(_) | Self::I16(_) | Self::U16(_) => Some(1.0),
            Self::F32(_) | Self::F64(_) => None,
        }
    }

    /// Largest binary exponent of a scale that [`ScaledBlock`] can apply.
    pub(crate) fn max_exponent(&self) -> i32 {
        if matches!(self, Self::F64(_)) { 1000 } else { 126 }
    }
}

fn along<T: Copy + Into<f64>>(rows: &[&[T]], [x, y]: [usize; 2], step: [usize; 2], out: &mut [f64]) {
    if step == [1, 0] {
        for (o, &v) in out.iter_mut().zip(&rows[y][x..]) {
            *o = v.into();
        }
        return;
    }
    for (k, o) in out.iter_mut().enumerate() {
        *o = rows[y + k * step[1]][x + k * step[0]].into();
    }
}

/// A block of pixels to be multiplied by `scale`. Products that are not finite or are beyond 1e15 become NaN.
pub(crate) struct ScaledBlock<'a> {
    pub(crate) rows: &'a Rows<'a>,
    /// First column and row of the block.
    pub(crate) from: [usize; 2],
    /// Number of columns of the block.
    pub(crate) columns: usize,
    pub(crate) scale: f64,
    /// Output rows; each begins `stride` numbers after the one before.
    pub(crate) out: &'a mut [f32],
    pub(crate) stride: usize,
}

impl Work for ScaledBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let scale = self.scale;
        let factor = scale as f32;
        let single = |v: f32| if v.abs() <= LIMIT { v } else { f32::NAN };
        let double = |v: f64| if v.abs() <= f64::from(LIMIT) { v as f32 } else { f32::NAN };
        match self.rows {
            Rows::U8(rows) => self.convert(rows, |v| f32::from(v) * factor),
            Rows::I16(rows) => self.convert(rows, |v| f32::from(v) * factor),
            Rows::U16(rows) => self.convert(rows, |v| f32::from(v) * factor),
            Rows::F32(rows) => self.convert(rows, |v| single(v * factor)),
            Rows::F64(rows) => self.convert(rows, |v| double(v * scale)),
        }
    }
}

impl ScaledBlock<'_> {
    #[inline(always)]
    fn convert<T: Copy>(self, rows: &[&[T]], converted: impl Fn(T) -> f32 + Copy) {
        let [x, y] = self.from;
        for (out, row) in self.out.chunks_mut(self.stride).zip(&rows[y..]) {
            let (out, row) = (&mut out[..self.columns], &row[x..x + self.columns]);
            if self.columns >= WIDE {
                for (o, &v) in out.iter_mut().zip(row) {
                    *o = converted(v);
                }
                continue;
            }
            let (out, rest) = out.as_chunks_mut::<LANES>();
            let (row, last) = row.as_chunks::<LANES>();
            for (out, row) in out.iter_mut().zip(row) {
                *out = row.map(converted);
            }
            for (o, &v) in rest.iter_mut().zip(last) {
                *o = converted(v);
            }
        }
    }
}
