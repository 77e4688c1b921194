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

/// Results that are kept in turn, since each step waits for the one before it.
pub(crate) const IN_TURN: usize = 16;

/// The sum of many numbers.
pub(crate) fn sum(numbers: &[f32]) -> f64 {
    let step = |sum: f64, n: f32| sum + f64::from(n);
    vectorized(Fold { numbers, start: 0.0, step }).iter().sum()
}

/// The largest of many numbers, zero at least.
pub(crate) fn largest(numbers: &[f32]) -> f32 {
    let step = |most: f32, n: f32| if n > most { n } else { most };
    vectorized(Fold { numbers, start: 0.0, step }).into_iter().fold(0.0, step)
}

/// Steps over many numbers, from the same start in each turn.
struct Fold<'a, T, F> {
    numbers: &'a [f32],
    start: T,
    step: F,
}

impl<T: Copy, F: Fn(T, f32) -> T> Work for Fold<'_, T, F> {
    type Output = [T; IN_TURN];

    #[inline(always)]
    fn call(self) -> [T; IN_TURN] {
        let (chunks, rest) = self.numbers.as_chunks::<IN_TURN>();
        let mut results = [self.start; IN_TURN];
        for chunk in chunks {
            for (result, &n) in results.iter_mut().zip(chunk) {
                *result = (self.step)(*result, n);
            }
        }
        for (result, &n) in results.iter_mut().zip(rest) {
            *result = (self.step)(*result, n);
        }
        results
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
