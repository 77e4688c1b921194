//! Finds the shift between two lists of points from the histogram of their differences.
//!
//! The differences of matching stars accumulate at the shift; all other differences are spread evenly. Let N
//! boxes hold a mean of μ differences each. The probability that by chance any box holds n or more is at most
//! `N P(n; μ)`, where P is the upper tail of the Poisson distribution. This bound is the false-alarm
//! probability.

use crate::geometry::distortion::Point;
use crate::index::point_grid::PointGrid;

/// Width of a bin, in units of the positions. Differences are counted in boxes of three by three bins.
const BIN: f64 = 1.0;
/// Maximum number of bins per axis. Wider searches have wider bins.
const MAX_BINS: usize = 2048;
/// Approximate maximum number of differences. From longer lists, points are taken at a constant step.
const MAX_DIFFERENCES: f64 = 1e7;
/// Maximum number of rounds in which the shift is moved to the mean of the differences near it.
const SETTLING_ROUNDS: usize = 4;
/// Number of points whose differences are enough for these rounds.
const ENOUGH_POINTS: usize = 2000;

/// The shift found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offset {
    /// Position in the second list minus position in the first.
    pub shift: Point,
    /// Natural logarithm of the probability that chance makes such a peak; 0 without differences.
    pub log_false_alarm: f64,
    /// Number of differences in the peak.
    pub count: usize,
}

/// Finds the shift that brings most points of one list onto points of another, up to `radius` from `guess`
/// along each axis.
pub fn find_offset(from: &[Point], to: &PointGrid, guess: Point, radius: f64) -> Offset {
    let nothing = Offset { shift: guess, log_false_alarm: 0.0, count: 0 };
    let width = BIN.max(2.0 * radius / MAX_BINS as f64);
    // The bins are centred on the guess, and one whole bin lies beyond the radius.
    let half = (radius / width).ceil() as usize + 1;
    let side = 2 * half + 1;
    let reach = (half as f64 + 0.5) * width;
    let area = (to.extent() + 2.0 * reach).powi(2);
    let expected = from.len() as f64 * to.len() as f64 * (4.0 * reach * reach / area).min(1.0);
    let step = (expected / MAX_DIFFERENCES).ceil().max(1.0) as usize;
    let mut bins = vec![0_u32; side * side];
    let mut total = 0_usize;
    // Counting has no branch: with half of the differences inside, a branch would often be mispredicted.
    let mut each = |d: Point, inside: bool| {
        let bin = |k: usize| ((d[k] - guess[k] + reach) / width) as u32 as usize;
        let (column, row) = (bin(0), bin(1));
        let counts = u32::from(inside) & u32::from(column.max(row) < side);
        bins[row.min(side - 1) * side + column.min(side - 1)] += counts;
        total += counts as usize;
    };
    differences(from.iter().step_by(step), to, guess, reach, &mut each);
    let Some((row, column, count)) = highest_box(&bins, side) else { return nothing };
    let boxes = (side * side) as f64;
    // The peak is not part of the background.
    let background = (total - count) as f64 * 9.0 / (boxes - 9.0).max(1.0);
    let place = |k: usize| (k as f64 - half as f64) * width;
    let start = [guess[0] + place(column), guess[1] + place(row)];
    let log_false_alarm = (log_poisson_tail(count, background) + boxes.ln()).min(0.0);
    let step = step.max(from.len() / ENOUGH_POINTS).max(1);
    let shift = settle(&from.iter().step_by(step), to, start, 1.5 * width);
    Offset { shift, log_false_alarm, count }
}

/// Calls `each` with the differences to the points in the cells around each point, and whether they are
/// within the reach.
fn differences<'a>(
    from: impl Iterator<Item = &'a Point>,
    to: &PointGrid,
    guess: Point,
    reach: f64,
    each: &mut impl FnMut(Point, bool),
) {
    for p in from {
        let at = [p[0] + guess[0], p[1] + guess[1]];
        to.visit_around(at, reach, |_, q| {
            let d = [q[0] - p[0], q[1] - p[1]];
            each(d, (d[0] - guess[0]).abs().max((d[1] - guess[1]).abs()) < reach);
        });
    }
}

/// Row, column and count of the fullest box of three by three bins; `None` if all are empty.
fn highest_box(bins: &[u32], side: usize) -> Option<(usize, usize, usize)> {
    let mut best = (0, 0, 0);
    let mut columns = vec![0_u32; side];
    for row in 1..side - 1 {
        let [above, here, below] = [row - 1, row, row + 1].map(|r| &bins[r * side..(r + 1) * side]);
        for (((sum, a), h), b) in columns.iter_mut().zip(above).zip(here).zip(below) {
            *sum = a + h + b;
        }
        let boxes = || columns.windows(3).map(|w| w[0] + w[1] + w[2]);
        let most = boxes().fold(0, u32::max);
        if most as usize > best.2 {
            let column = boxes().take_while(|&count| count < most).count() + 1;
            best = (row, column, most as usize);
        }
    }
    (best.2 > 0).then_some(best)
}

/// Mean of the differences within a radius of that mean, found by iteration from `at`.
fn settle<'a>(
    from: &(impl Iterator<Item = &'a Point> + Clone),
    to: &PointGrid,
    mut at: Point,
    radius: f64,
) -> Point {
    for _ in 0..SETTLING_ROUNDS {
        let (mut sum, mut count) = ([0.0; 2], 0.0);
        differences(from.clone(), to, at, radius, &mut |d, inside| {
            if inside {
                sum = [sum[0] + d[0], sum[1] + d[1]];
                count += 1.0;
            }
        });
        if count == 0.0 {
            break;
        }
        at = sum.map(|s| s / count);
    }
    at
}

/// Upper bound of the natural logarithm of the probability of `n` or more events where `mean` are expected.
pub(crate) fn log_poisson_tail(n: usize, mean: f64) -> f64 {
    if n == 0 || mean <= 0.0 {
        return if n == 0 { 0.0 } else { f64::NEG_INFINITY };
    }
    let k = n as f64;
    if k <= mean {
        return 0.0;
    }
    // The first term, times the sum of the ratios of later terms to it, which is at most a geometric series.
    let log_factorial: f64 = (2..=n).map(|i| (i as f64).ln()).sum();
    k * mean.ln() - mean - log_factorial - (1.0 - mean / (k + 1.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::testing::random;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shifts_are_found_up_to_the_radius(x in -0.99..0.99_f64, y in -0.99..0.99_f64, radius in 0.5..40.0_f64, seed in 0..1000_u64) {
            let shift = [radius * x, radius * y];
            let from: Vec<Point> = (0..300).map(|i| [random(seed + 2 * i) * 500.0, random(seed + 2 * i + 1) * 500.0]).collect();
            let to: Vec<Point> = from.iter().map(|p| [p[0] + shift[0], p[1] + shift[1]]).collect();
            let found = find_offset(&from, &PointGrid::new(&to, 0.0), [0.0; 2], radius);
            prop_assert!((found.shift[0] - shift[0]).hypot(found.shift[1] - shift[1]) < 0.3, "{:?} {:?}", found, shift);
            prop_assert!(found.log_false_alarm < -20.0);
        }
    }

    #[test]
    fn chance_peaks_are_as_rare_as_told() {
        let mut rare = 0;
        for trial in 0..300_u64 {
            let list = |s: u64| -> Vec<Point> {
                (0..150)
                    .map(|i| {
                        [
                            random(trial * 7001 + s + 2 * i) * 300.0,
                            random(trial * 7001 + s + 2 * i + 1) * 300.0,
                        ]
                    })
                    .collect()
            };
            let (from, to) = (list(0), list(100_000));
            let found = find_offset(&from, &PointGrid::new(&to, 0.0), [0.0; 2], 20.0);
            rare += usize::from(found.log_false_alarm < 0.05_f64.ln());
        }
        assert!(rare <= 25, "{rare} of 300 below 0.05");
    }

    #[test]
    fn tails_are_those_of_the_sum() {
        for (n, mean) in [(3, 0.5_f64), (10, 2.0), (30, 5.0)] {
            let mut term = (-mean).exp();
            let mut below = 0.0;
            for i in 0..n {
                below += term;
                term *= mean / (i + 1) as f64;
            }
            let exact: f64 = 1.0 - below;
            if exact > 1e-10 {
                assert!((log_poisson_tail(n, mean) - exact.ln()).abs() < 0.1);
            }
        }
        assert_eq!(log_poisson_tail(0, 1.0), 0.0);
    }
}
