//! Weighted sums over pixels, in loops that are compiled for several kinds of machine.

use super::region::Segment;
use crate::simd::Work;

/// Sums that are kept at once.
const LANES: usize = 8;
/// Most columns of a source's own: of a galaxy.
pub(super) const MOST_OWN: usize = super::galaxy::OWN;

/// Pixels side by side: place of the first in the region, in a stamp, and how many.
pub(super) type Span = [usize; 3];

/// All of a stamp as one stretch per segment.
pub(super) fn stretches(segments: &[Segment]) -> Vec<Span> {
    let mut before = 0;
    let one = |s: &Segment| {
        before += s.len;
        [s.at, before - s.len, s.len]
    };
    segments.iter().map(one).collect()
}

/// Adds the light of a source to the pixels of a region.
pub(super) fn add_light(pixels: &mut [f64], stretches: &[Span], light: &[f64], flux: f64) {
    for &[at, from, len] in stretches {
        for (pixel, light) in pixels[at..at + len].iter_mut().zip(&light[from..from + len]) {
            *pixel += flux * light;
        }
    }
}

/// A column of a stamp times the weights of its pixels.
pub(super) fn weighted(column: &[f64], stretches: &[Span], weights: &[f64]) -> Vec<f64> {
    let mut weighted = Vec::with_capacity(column.len());
    for &[at, from, len] in stretches {
        weighted.extend(column[from..from + len].iter().zip(&weights[at..at + len]).map(|(v, w)| v * w));
    }
    weighted
}

/// Products of a source's weighted columns with others, over stretches: place in the others, in the source, and length.
pub(super) struct Products<'a> {
    pub weighted: &'a [Vec<f64>],
    pub columns: &'a [&'a [f64]],
    pub stretches: &'a [Span],
}

impl Work for Products<'_> {
    type Output = Vec<[f64; MOST_OWN]>;

    #[allow(clippy::inline_always)] // As its trait asks: it is compiled for the instructions of this machine.
    #[inline(always)]
    fn call(self) -> Vec<[f64; MOST_OWN]> {
        let mut all = Vec::with_capacity(self.columns.len());
        for column in self.columns {
            let mut sums = [0.0; MOST_OWN];
            let mut i = 0;
            while i < self.weighted.len() {
                let mut lanes = [0.0; LANES];
                for &[at, from, len] in self.stretches {
                    dot_into(&self.weighted[i][from..from + len], &column[at..at + len], &mut lanes);
                }
                sums[i] = total(&lanes);
                i += 1;
            }
            all.push(sums);
        }
        all
    }
}

/// The product of two columns.
pub(super) struct Dot<'a>(pub &'a [f64], pub &'a [f64]);

impl Work for Dot<'_> {
    type Output = f64;

    #[allow(clippy::inline_always)] // As its trait asks.
    #[inline(always)]
    fn call(self) -> f64 {
        let mut lanes = [0.0; LANES];
        dot_into(self.0, self.1, &mut lanes);
        total(&lanes)
    }
}

/// Adds products to sums that take turns.
#[allow(clippy::inline_always)] // Part of a loop that is compiled for several kinds of machine.
#[inline(always)]
fn dot_into(a: &[f64], b: &[f64], sums: &mut [f64; LANES]) {
    let (n, mut k) = (a.len().min(b.len()), 0);
    let (a, b) = (&a[..n], &b[..n]);
    // Without iterators: a call of one that is not inlined would be compiled for any machine.
    while k + LANES <= n {
        let mut lane = 0;
        while lane < LANES {
            sums[lane] += a[k + lane] * b[k + lane];
            lane += 1;
        }
        k += LANES;
    }
    let mut lane = 0;
    while k < n {
        sums[lane] += a[k] * b[k];
        (k, lane) = (k + 1, lane + 1);
    }
}

#[allow(clippy::inline_always)] // Part of a loop that is compiled for several kinds of machine.
#[inline(always)]
fn total(lanes: &[f64; LANES]) -> f64 {
    let (mut sum, mut lane) = (0.0, 0);
    while lane < LANES {
        sum += lanes[lane];
        lane += 1;
    }
    sum
}
