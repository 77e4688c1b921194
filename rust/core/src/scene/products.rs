//! Weighted sums over pixels, in loops that are compiled for several kinds of machine.

use super::region::Segment;
use crate::simd::{Work, vectorized};

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

/// Columns of a stamp times the weights of its pixels.
pub(super) struct Weighted<'a> {
    pub columns: &'a [Vec<f64>],
    pub stretches: &'a [Span],
    pub weights: &'a [f64],
}

impl Work for Weighted<'_> {
    type Output = Vec<Vec<f64>>;

    #[allow(clippy::inline_always)] // As its trait asks: it is compiled for the instructions of this machine.
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

/// Products of a source's weighted columns with others, over stretches: place in the others, in the source, and length.
pub(super) struct Products<'a> {
    pub weighted: &'a [Vec<f64>],
    pub columns: &'a [&'a [f64]],
    pub stretches: &'a [Span],
}

/// Columns that are multiplied at once by another, of which pixels are then loaded once: all of a star.
const AT_ONCE: usize = 3;

/// Sums for each of some columns.
type Lanes = [[f64; LANES]; AT_ONCE];

impl Products<'_> {
    /// For each of the others the sums with all columns of the source.
    pub(super) fn sums(self) -> Vec<[f64; MOST_OWN]> {
        // Apart from where they are added up: the compiler would not keep lanes together that it sees added to each other.
        let lanes = vectorized(self);
        let of_all = |lanes: &[Lanes; _]| {
            let sum = |k: usize| total(&lanes[k / AT_ONCE][k % AT_ONCE]);
            std::array::from_fn(sum)
        };
        lanes.iter().map(of_all).collect()
    }
}

impl Work for Products<'_> {
    type Output = Vec<[Lanes; MOST_OWN.div_ceil(AT_ONCE)]>;

    #[allow(clippy::inline_always)] // As its trait asks.
    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut all = vec![[[[0.0; LANES]; AT_ONCE]; _]; self.columns.len()];
        for (column, all) in self.columns.iter().zip(&mut all) {
            for (own, sums) in self.weighted.chunks(AT_ONCE).zip(all) {
                let last = own.len() - 1;
                *sums = products([&own[0], &own[1.min(last)], &own[last]], column, self.stretches);
            }
        }
        all
    }
}

/// Products of three columns with another over stretches.
#[allow(clippy::inline_always)] // Part of a loop that is compiled for several kinds of machine.
#[inline(always)]
fn products([a, b, c]: [&[f64]; AT_ONCE], other: &[f64], stretches: &[Span]) -> Lanes {
    let mut sums = [[0.0; LANES]; AT_ONCE];
    // Without iterators: a call of one that is not inlined would be compiled for any machine.
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
            // The last lanes of the stretch, of which those that are done, or before it, count 0.
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

#[allow(clippy::inline_always)] // Part of a loop that is compiled for several kinds of machine.
#[inline(always)]
fn add_products(sums: &mut [f64; LANES], a: &[f64], b: &[f64]) {
    let (a, b, mut lane) = (&a[..LANES], &b[..LANES], 0);
    while lane < LANES {
        sums[lane] += a[lane] * b[lane];
        lane += 1;
    }
}

/// Ones for so many of the last lanes, and zeros.
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

/// The product of two columns.
pub(super) struct Dot<'a>(pub &'a [f64], pub &'a [f64]);

impl Work for Dot<'_> {
    type Output = f64;

    #[allow(clippy::inline_always)] // As its trait asks.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_every_pixel_once() {
        let column = |k: usize| (0..60).map(|i| ((i * 7 + k * 5) % 13) as f64 - 6.0).collect::<Vec<f64>>();
        // As many own columns as a star has, and a galaxy.
        for count in [3, MOST_OWN] {
            let weighted: Vec<Vec<f64>> = (0..count).map(column).collect();
            let others = [column(20), column(21)];
            let columns: Vec<&[f64]> = others.iter().map(|c| &c[..]).collect();
            // Of every length, at the beginning and the end of columns too.
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
