//! Calculates with several numbers at a time, in a form that the compiler turns into vector instructions on
//! any machine.

// Each function is only a few instructions; a call would cost more than its body.
#![allow(clippy::inline_always)]
// Comparisons of four numbers at once, without branches.
#![allow(clippy::needless_bitwise_bool)]

use std::ops::{Add, Deref, DerefMut, Div, Mul, Range, Sub};

/// A computation that runs faster with the widest vector instructions of the machine.
///
/// Its `call` method and all functions it calls must be `#[inline(always)]`: a function that is not inlined
/// is compiled for the baseline instruction set.
pub(crate) use pulp::NullaryFnOnce as Work;

/// Runs the work with the widest vector instructions of this machine. The results are the same on every
/// machine.
pub(crate) fn vectorized<W: Work>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Runs work that mainly moves data, with 256-bit vector instructions at most. Wider instructions are slower
/// for such work, because memory is seldom aligned for them.
pub(crate) fn streamed<W: Work>(work: W) -> W::Output {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, work);
    }
    work.call()
}

/// Length of a cache line of common machines, in bytes.
const LINE_BYTES: usize = 64;
/// Number of elements by which parts of [`Aligned`] numbers should be padded: two cache lines.
pub(crate) const LINE: usize = 32;

/// Numbers whose first one begins a cache line. Vector instructions are slower where they cross the end of a
/// line.
pub(crate) struct Aligned {
    numbers: Vec<f32>,
    range: Range<usize>,
}

impl Aligned {
    /// `length` times the same value.
    pub(crate) fn filled(value: f32, length: usize) -> Self {
        let numbers = vec![value; length + LINE_BYTES / size_of::<f32>()];
        let start = numbers.as_ptr().align_offset(LINE_BYTES).min(numbers.len() - length);
        Self { numbers, range: start..start + length }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.numbers[self.range.clone()]
    }
}

impl DerefMut for Aligned {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.range.clone()]
    }
}

/// Adds `factor` times `numbers` to `to`, element by element.
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

/// Filters by a symmetric kernel: `out[x] = kernel[0] · v[x] + Σ kernel[i] · (before[x] + after[x])`, where `v`,
/// `before` and `after` begin at `taps[i]` of `values`.
#[inline(always)]
pub(crate) fn symmetric(kernel: &[f32], taps: &[[usize; 2]], values: &[f32], out: &mut [f32]) {
    let n = out.len();
    let part = |start: usize| &values[start..start + n];
    let pair = |[before, after]: [usize; 2]| part(before).iter().zip(part(after));
    let middle = out.iter_mut().zip(part(taps[0][0]));
    // Several taps at a time, which needs fewer passes over `out`.
    let passed = match (kernel, taps) {
        (&[h, k, l, m, ..], &[_, first, second, third, ..]) => {
            for ((((o, &v), (a, b)), (c, d)), (e, f)) in
                middle.zip(pair(first)).zip(pair(second)).zip(pair(third))
            {
                *o = (h * v + k * (a + b)) + (l * (c + d) + m * (e + f));
            }
            2
        }
        (&[h, k, ..], &[_, first, ..]) => {
            for ((o, &v), (a, b)) in middle.zip(pair(first)) {
                *o = h * v + k * (a + b);
            }
            1
        }
        _ => {
            for (o, &v) in middle {
                *o = kernel[0] * v;
            }
            1
        }
    };
    for (k, taps) in kernel.chunks(2).zip(taps.chunks(2)).skip(passed) {
        if let (&[k, l], &[one, other]) = (k, taps) {
            for ((o, (a, b)), (c, d)) in out.iter_mut().zip(pair(one)).zip(pair(other)) {
                *o += k * (a + b) + l * (c + d);
            }
        } else {
            for (o, (a, b)) in out.iter_mut().zip(pair(taps[0])) {
                *o += k[0] * (a + b);
            }
        }
    }
}

/// Number of independent accumulators of a sum. With a single accumulator, each addition would wait for the
/// result of the previous one.
pub(crate) const ACCUMULATORS: usize = 16;

/// The sum of the numbers, in double precision.
pub(crate) fn sum(numbers: &[f32]) -> f64 {
    let step = |sum: f64, n: f32| sum + f64::from(n);
    vectorized(Fold { numbers, start: 0.0, step }).iter().sum()
}

/// The largest of the numbers, or zero if all are negative.
pub(crate) fn largest(numbers: &[f32]) -> f32 {
    let step = |most: f32, n: f32| if n > most { n } else { most };
    vectorized(Fold { numbers, start: 0.0, step }).into_iter().fold(0.0, step)
}

/// A fold of many numbers into [`ACCUMULATORS`] partial results, each of which begins with `start`.
struct Fold<'a, T, F> {
    numbers: &'a [f32],
    start: T,
    step: F,
}

impl<T: Copy, F: Fn(T, f32) -> T> Work for Fold<'_, T, F> {
    type Output = [T; ACCUMULATORS];

    #[inline(always)]
    fn call(self) -> [T; ACCUMULATORS] {
        let (chunks, rest) = self.numbers.as_chunks::<ACCUMULATORS>();
        let mut results = [self.start; ACCUMULATORS];
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

/// Number of elements of one [`Lanes`].
pub(crate) const LANES: usize = 4;

/// Four numbers with element-wise arithmetic.
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

    /// Writes the four numbers to the first four elements of a slice.
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

    /// 1 where `|self| < limit`, else 0. Computed by arithmetic, because the compiler would turn a comparison
    /// into a branch.
    #[inline(always)]
    pub(crate) fn within(self, limit: f32) -> Self {
        const STEEP: f32 = 1e30;
        let inside = |v: f32| {
            let inside = (limit - v.abs()) * STEEP;
            let inside = if inside > 0.0 { inside } else { 0.0 };
            if inside < 1.0 { inside } else { 1.0 }
        };
        // Element by element, because `map` of an array may become a function call.
        let [a, b, c, d] = self.0;
        Self([inside(a), inside(b), inside(c), inside(d)])
    }

    #[inline(always)]
    pub(crate) fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

/// The sum of each of several [`Lanes`]. It is not inlined, because otherwise the compiler would pair the
/// accumulators of the preceding loop in the order of these sums, and compute the rest of that loop number by
/// number.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_symmetric_filter_is_its_sum(
            kernel in prop::collection::vec(-1.0_f32..1.0, 1..9),
            values in prop::collection::vec(-1.0_f32..1.0, 20..90),
        ) {
            let reach = kernel.len() - 1;
            let taps: Vec<[usize; 2]> = (0..=reach).map(|i| [reach - i, reach + i]).collect();
            let mut out = vec![f32::NAN; values.len() - 2 * reach];
            symmetric(&kernel, &taps, &values, &mut out);
            for (x, found) in out.iter().enumerate() {
                let pairs = (1..=reach).map(|i| kernel[i] * (values[x + reach - i] + values[x + reach + i]));
                let sum = kernel[0] * values[x + reach] + pairs.sum::<f32>();
                prop_assert!((found - sum).abs() < 1e-5, "{found} {sum}");
            }
        }

        #[test]
        fn aligned_numbers_begin_a_cache_line(length in 0_usize..100) {
            let mut numbers = Aligned::filled(7.0, length);
            numbers.iter_mut().for_each(|n| *n += 1.0);
            prop_assert_eq!(&numbers[..], &vec![8.0; length][..]);
            prop_assert!(length == 0 || numbers.as_ptr().align_offset(LINE_BYTES) == 0);
        }
    }
}
