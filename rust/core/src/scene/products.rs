//! Weighted sums over pixels, in loops that are compiled for several instruction sets.

use super::region::Segment;
use crate::simd::{Work, vectorized};

/// Number of partial sums that are kept at once.
const LANES: usize = 8;
/// Maximum number of own columns of a source: those of a galaxy.
pub(super) const MOST_OWN: usize = super::galaxy::OWN;

/// Consecutive pixels: index of the first in the region, index of the first in a stamp, and number of pixels.
pub(super) type Span = [usize; 3];

/// All pixels of a stamp, as one span per segment.
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

/// Columns of a stamp times the weights of its pixels.
pub(super) struct Weighted<'a> {
    pub columns: &'a [Vec<f64>],
    pub stretches: &'a [Span],
    pub weights: &'a [f64],
}

impl Work for Weighted<'_> {
    type Output = Vec<Vec<f64>>;

    #[allow(clippy::inline_always)] // As `Work` requires: it is compiled for the instructions of this machine.
    #[inline(always)]
    fn call(self) -> Vec<Vec<f64>> {
        let mut all = self.columns.to_vec();
        for column in &mut all {
            for &[at, from, len] in self.stretches {
                let (pixels, weights) = (&mut column[from..from + len], &self.weights[at..at + len]);
                let mut k = 0;
                while k < len {
                    pixels[k] *= weights[k];
                    k += 1;
                }
            }
        }
        all
    }
}

/// Products of a source's weighted columns with other columns over spans: index in the other columns, index
/// in the source, and length.
pub(super) struct Products<'a> {
    pub weighted: &'a [Vec<f64>],
    pub columns: &'a [&'a [f64]],
    pub stretches: &'a [Span],
}

/// Number of own columns that are multiplied by another column at once, so that its pixels are loaded once:
/// all columns of a star.
const COLUMNS_AT_ONCE: usize = 3;

/// Partial sums for each of these columns.
type Lanes = [[f64; LANES]; COLUMNS_AT_ONCE];

impl Products<'_> {
    /// For each of the other columns, the sums of its products with all columns of the source.
    pub(super) fn sums(self) -> Vec<[f64; MOST_OWN]> {
        // Separate from the final addition: the compiler would not keep lanes in one register if it saw them
        // added to each other.
        let lanes = vectorized(self);
        let of_all = |lanes: &[Lanes; _]| {
            let sum = |k: usize| total(&lanes[k / COLUMNS_AT_ONCE][k % COLUMNS_AT_ONCE]);
            std::array::from_fn(sum)
        };
        lanes.iter().map(of_all).collect()
    }
}

impl Work for Products<'_> {
    type Output = Vec<[Lanes; MOST_OWN.div_ceil(COLUMNS_AT_ONCE)]>;

    #[allow(clippy::inline_always)] // Required by the trait `Work`.
    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut all = vec![[[[0.0; LANES]; COLUMNS_AT_ONCE]; _]; self.columns.len()];
        for (column, all) in self.columns.iter().zip(&mut all) {
            for (own, sums) in self.weighted.chunks(COLUMNS_AT_ONCE).zip(all) {
                let last = own.len() - 1;
                *sums = products([&own[0], &own[1.min(last)], &own[last]], column, self.stretches);
            }
        }
        all
    }
}

/// Products of three columns with another column over spans.
#[allow(clippy::inline_always)] // Part of a loop that is compiled for several instruction sets.
#[inline(always)]
fn products([a, b, c]: [&[f64]; COLUMNS_AT_ONCE], other: &[f64], stretches: &[Span]) -> Lanes {
    let mut sums = [[0.0; LANES]; COLUMNS_AT_ONCE];
    // No iterators: a call that is not inlined would be compiled for the baseline instruction set.
    for &[at, from, len] in stretches {
        let mut k = 0;
        while k + LANES <= len {
            let (pixels, first) = (&other[at + k..at + k + LANES], from + k);
            add_products(&mut sums[0], &a[first..first + LANES], pixels);
            add_products(&mut sums[1], &b[first..first + LANES], pixels);
            add_products(&mut sums[2], &c[first..first + LANES], pixels);
            k += LANES;
        }
        if k < len && at.min(from) + len >= LANES {
            // The last lanes of the span. Lanes that are already summed, or before the span, are multiplied
            // by 0.
            let (part, pixels) = (&LAST[len - k], &other[at + len - LANES..at + len]);
            let (mut masked, first, mut lane) = ([0.0; LANES], from + len - LANES, 0);
            while lane < LANES {
                masked[lane] = pixels[lane] * part[lane];
                lane += 1;
            }
            add_products(&mut sums[0], &a[first..first + LANES], &masked);
            add_products(&mut sums[1], &b[first..first + LANES], &masked);
            add_products(&mut sums[2], &c[first..first + LANES], &masked);
            k = len;
        }
        while k < len {
            let pixel = other[at + k];
            sums[0][0] += a[from + k] * pixel;
            sums[1][0] += b[from + k] * pixel;
            sums[2][0] += c[from + k] * pixel;
            k += 1;
        }
    }
    sums
}

#[allow(clippy::inline_always)] // Part of a loop that is compiled for several instruction sets.
#[inline(always)]
fn add_products(sums: &mut [f64; LANES], a: &[f64], b: &[f64]) {
    let (a, b, mut lane) = (&a[..LANES], &b[..LANES], 0);
    while lane < LANES {
        sums[lane] += a[lane] * b[lane];
        lane += 1;
    }
}

/// Masks by a number of lanes: ones for this number of last lanes, zeros for the others.
const LAST: [[f64; LANES]; LANES] = {
    let mut masks = [[0.0; LANES]; LANES];
    let mut count = 0;
    while count < LANES {
        let mut lane = LANES - count;
        while lane < LANES {
            masks[count][lane] = 1.0;
            lane += 1;
        }
        count += 1;
    }
    masks
};

/// The dot product of two columns.
pub(super) struct Dot<'a>(pub &'a [f64], pub &'a [f64]);

impl Work for Dot<'_> {
    type Output = f64;

    #[allow(clippy::inline_always)] // Required by the trait `Work`.
    #[inline(always)]
    fn call(self) -> f64 {
        let (n, mut sums, mut k) = (self.0.len().min(self.1.len()), [0.0; LANES], 0);
        while k + LANES <= n {
            add_products(&mut sums, &self.0[k..k + LANES], &self.1[k..k + LANES]);
            k += LANES;
        }
        while k < n {
            sums[0] += self.0[k] * self.1[k];
            k += 1;
        }
        total(&sums)
    }
}

#[allow(clippy::inline_always)] // Part of a loop that is compiled for several instruction sets.
#[inline(always)]
fn total(lanes: &[f64; LANES]) -> f64 {
    let (mut sum, mut lane) = (0.0, 0);
    while lane < LANES {
        sum += lanes[lane];
        lane += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_every_pixel_once() {
        let column = |k: usize| (0..60).map(|i| ((i * 7 + k * 5) % 13) as f64 - 6.0).collect::<Vec<f64>>();
        // As many own columns as a star has, and as a galaxy has.
        for count in [3, MOST_OWN] {
            let weighted: Vec<Vec<f64>> = (0..count).map(column).collect();
            let others = [column(20), column(21)];
            let columns: Vec<&[f64]> = others.iter().map(|c| &c[..]).collect();
            // Spans of every length, also at the beginning and the end of columns.
            for len in 0..=40 {
                for stretches in
                    [vec![[0, 2, len]], vec![[20, 0, len], [3, 5, 1]], vec![[60 - len, 60 - len, len]]]
                {
                    let sums =
                        Products { weighted: &weighted, columns: &columns, stretches: &stretches }.sums();
                    for (other, sums) in others.iter().zip(&sums) {
                        for (own, sum) in weighted.iter().zip(sums) {
                            let of = |&[at, from, len]: &Span| -> f64 {
                                (0..len).map(|k| own[from + k] * other[at + k]).sum()
                            };
                            assert_eq!(*sum, stretches.iter().map(of).sum::<f64>(), "{count} {stretches:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn columns_are_weighted_where_their_pixels_are() {
        let columns = [vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]];
        let weights = [0.0, 10.0, 100.0, 0.0, 1000.0];
        let stretches = [[1, 0, 2], [4, 2, 1]];
        let weighted = vectorized(Weighted { columns: &columns, stretches: &stretches, weights: &weights });
        assert_eq!(weighted, [vec![10.0, 200.0, 3000.0], vec![40.0, 500.0, 6000.0]]);
    }
}
