//! Rows of pixels of any type, read as single-precision numbers: all that is compiled for each type.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

use crate::simd::Work;

/// Floating-point pixels beyond this are bad: their squares would not fit.
pub(crate) const LIMIT: f32 = 1e15;

/// A type images are made of.
pub trait Pixel: Sized {
    /// Rows of such pixels.
    fn rows(rows: Vec<&[Self]>) -> Rows<'_>;
}

/// Rows of pixels of one type, each a slice of its own.
#[derive(Debug, Clone)]
pub enum Rows<'a> {
    /// Bytes.
    U8(Vec<&'a [u8]>),
    /// Short integers.
    I16(Vec<&'a [i16]>),
    /// Short integers without sign.
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

    /// Pixels as they are, from column and row `from` on, each `step` from the one before.
    pub(crate) fn line(&self, from: [usize; 2], step: [usize; 2], out: &mut [f64]) {
        match self {
            Self::U8(rows) => along(rows, from, step, out),
            Self::I16(rows) => along(rows, from, step, out),
            Self::U16(rows) => along(rows, from, step, out),
            Self::F32(rows) => along(rows, from, step, out),
            Self::F64(rows) => along(rows, from, step, out),
        }
    }

    /// Distance between neighbouring values, for integers.
    pub(crate) fn step(&self) -> Option<f64> {
        match self {
            Self::U8(_) | Self::I16(_) | Self::U16(_) => Some(1.0),
            Self::F32(_) | Self::F64(_) => None,
        }
    }

    /// Largest binary exponent of a scale that [`ScaledRow`] can apply.
    pub(crate) fn max_exponent(&self) -> i32 {
        if matches!(self, Self::F64(_)) { 1000 } else { 126 }
    }
}

fn along<T: Copy + Into<f64>>(rows: &[&[T]], [x, y]: [usize; 2], step: [usize; 2], out: &mut [f64]) {
    for (k, o) in out.iter_mut().enumerate() {
        *o = rows[y + k * step[1]][x + k * step[0]].into();
    }
}

/// Pixels from column `x0` of row `y` on, to be multiplied by `scale`; NaN where that is not finite (or beyond 1e15).
pub(crate) struct ScaledRow<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) y: usize,
    pub(crate) x0: usize,
    pub(crate) scale: f64,
    pub(crate) out: &'a mut [f32],
}

impl Work for ScaledRow<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, y, x0, scale, out } = self;
        let factor = scale as f32;
        let single = |v: f32| if v.abs() <= LIMIT { v } else { f32::NAN };
        let double = |v: f64| if v.abs() <= f64::from(LIMIT) { v as f32 } else { f32::NAN };
        match rows {
            Rows::U8(rows) => convert(rows[y], x0, out, |v| f32::from(v) * factor),
            Rows::I16(rows) => convert(rows[y], x0, out, |v| f32::from(v) * factor),
            Rows::U16(rows) => convert(rows[y], x0, out, |v| f32::from(v) * factor),
            Rows::F32(rows) => convert(rows[y], x0, out, |v| single(v * factor)),
            Rows::F64(rows) => convert(rows[y], x0, out, |v| double(v * scale)),
        }
    }
}

#[inline(always)]
fn convert<T: Copy>(row: &[T], x0: usize, out: &mut [f32], converted: impl Fn(T) -> f32) {
    let row = &row[x0..x0 + out.len()];
    for (o, &v) in out.iter_mut().zip(row) {
        *o = converted(v);
    }
}
