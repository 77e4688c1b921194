//! Four numbers at a time, in a form the compiler turns into vector instructions on any machine.

// Each is a few instructions: a call would cost more than what it does.
#![allow(clippy::inline_always)]
// Four comparisons at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use std::ops::{Add, Div, Mul, Sub};

/// Work that gains from the widest vector instructions a machine has.
///
/// Its `call` and all that it calls must be `#[inline(always)]`: what is not inlined is compiled for any machine.
pub(crate) use pulp::NullaryFnOnce as Work;

/// Does the work with what this machine has. The numbers are the same on every machine.
pub(crate) fn vectorized<W: Work>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Does work that moves numbers more than it calculates with them: there the widest instructions are slower, since memory is
/// seldom aligned for them.
pub(crate) fn streamed<W: Work>(work: W) -> W::Output {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, work);
    }
    work.call()
}

/// Adds a multiple of other numbers.
pub(crate) fn add_scaled(to: &mut [f32], factor: f32, numbers: &[f32]) {
    vectorized(AddScaled { to, factor, numbers });
}

struct AddScaled<'a> {
    to: &'a mut [f32],
    factor: f32,
    numbers: &'a [f32],
}

impl Work for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (t, &n) in self.to.iter_mut().zip(self.numbers) {
            *t += self.factor * n;
        }
    }
}

/// Sums that are added to in turn, and largest numbers that are kept so, since each step waits for the one before it.
const IN_TURN: usize = 16;

/// The sum of many numbers.
pub(crate) fn sum(numbers: &[f32]) -> f64 {
    vectorized(Sum { numbers })
}

struct Sum<'a> {
    numbers: &'a [f32],
}

impl Work for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let (chunks, rest) = self.numbers.as_chunks::<IN_TURN>();
        let mut sums = [0.0; IN_TURN];
        for chunk in chunks {
            for (sum, &n) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(n);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|&n| f64::from(n)).sum::<f64>()
    }
}

/// The largest of many numbers, zero at least.
pub(crate) fn largest(numbers: &[f32]) -> f32 {
    vectorized(Largest { numbers })
}

struct Largest<'a> {
    numbers: &'a [f32],
}

impl Work for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let (chunks, rest) = self.numbers.as_chunks::<IN_TURN>();
        let mut largest = [0.0; IN_TURN];
        for chunk in chunks {
            for (most, &n) in largest.iter_mut().zip(chunk) {
                *most = if n > *most { n } else { *most };
            }
        }
        largest.iter().chain(rest).fold(0.0, |most, &n| if n > most { n } else { most })
    }
}

/// Numbers in one [`Lanes`].
pub(crate) const LANES: usize = 4;

/// Four numbers, calculated with element by element.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(16))]
pub(crate) struct Lanes([f32; LANES]);

impl Lanes {
    #[inline(always)]
    pub(crate) fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    /// The first four numbers of a slice.
    #[inline(always)]
    pub(crate) fn load(slice: &[f32]) -> Self {
        Self([slice[0], slice[1], slice[2], slice[3]])
    }

    /// Puts them into the first four places of a slice.
    #[inline(always)]
    pub(crate) fn store(self, slice: &mut [f32]) {
        let (to, [a, b, c, d]) = (&mut slice[..LANES], self.0);
        (to[0], to[1], to[2], to[3]) = (a, b, c, d);
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let ([a, b, c, d], [p, q, r, s]) = (self.0, other.0);
        Self([f(a, p), f(b, q), f(c, r), f(d, s)])
    }

    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// 1 where `|self| < limit`, else 0; by arithmetic, as the compiler would make a branch of a comparison.
    #[inline(always)]
    pub(crate) fn within(self, limit: f32) -> Self {
        const STEEP: f32 = 1e30;
        let inside = |v: f32| {
            let inside = (limit - v.abs()) * STEEP;
            let inside = if inside > 0.0 { inside } else { 0.0 };
            if inside < 1.0 { inside } else { 1.0 }
        };
        // One by one: `map` of an array may become a call.
        let [a, b, c, d] = self.0;
        Self([inside(a), inside(b), inside(c), inside(d)])
    }

    #[inline(always)]
    pub(crate) fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

/// The sums of several. By themselves, for the compiler would pair up what is added up in the loop before as the sums need it,
/// and do the rest of that loop number by number.
#[inline(never)]
pub(crate) fn sums<const N: usize>(lanes: &[Lanes; N]) -> [f32; N] {
    lanes.map(Lanes::sum)
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        }
    };
}
operator!(Add, add, +);
operator!(Sub, sub, -);
operator!(Mul, mul, *);
operator!(Div, div, /);
