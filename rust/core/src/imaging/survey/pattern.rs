//! Detects patterns of period two: mosaics of colours, and columns or rows that are read by two amplifiers.

use super::{Patch, SIDE};
use crate::imaging::image::Pattern;
use crate::lsq::robust::median;

/// Least amplitude of a pattern, in units of its standard error.
const PATTERN_SIGMAS: f64 = 6.0;
/// Least amplitude of a pattern, as a fraction of its scatter from patch to patch: a weaker one does no harm.
const PATTERN_FRACTION: f64 = 0.3;
/// Least number of good patches from which a pattern is detected.
const PATTERN_PATCHES: usize = 100;
/// Range to which the factors of a pattern are limited.
const FACTOR_RANGE: [f64; 2] = [0.2, 5.0];
/// Number of rounds of the robust fit of a line through the patches.
const LINE_ROUNDS: usize = 6;
/// Largest distance of a patch from the line, in median absolute deviations.
const LINE_CLIP: f64 = 7.0;
/// Ratio of the standard deviation to the median absolute deviation, for a normal distribution.
const MAD_TO_SIGMA: f64 = 1.482_602;
/// Standard error of a median, times the root of the count, over the median absolute deviation of the
/// population.
const MEDIAN_ERROR: f64 = 1.858;

/// Weights of the second difference of three pixels, which is zero for a gradient.
const DIFFERENCE: [f64; SIDE] = [0.25, -0.5, 0.25];
/// Weights that smooth three pixels.
const SMOOTHING: [f64; SIDE] = [0.25, 0.5, 0.25];

/// Excess of each of the four places of a pattern over their mean at a level of the frame, and the excess's
/// slope with the level.
pub(super) struct Amplitudes {
    level: f64,
    excess: [f64; 4],
    slope: [f64; 4],
}

/// Detects a pattern that is constant over the frame or grows with its level. The patches come in rows of
/// `columns`.
pub(super) fn pattern(patches: &[Patch], columns: usize) -> Option<Amplitudes> {
    let good: Vec<&Patch> = patches.iter().filter(|patch| patch.iter().all(|v| v.is_finite())).collect();
    if good.len() < PATTERN_PATCHES {
        return None;
    }
    // Alternation by column, by row, and by both.
    let weights = [[DIFFERENCE, SMOOTHING], [SMOOTHING, DIFFERENCE], [DIFFERENCE, DIFFERENCE]];
    let is_pattern = weights.iter().any(|&w| {
        let (amplitude, scatter) = median_and_scatter(good.iter().map(|patch| weighted(patch, w)));
        let error = MEDIAN_ERROR * scatter / (good.len() as f64).sqrt();
        amplitude.abs() > (PATTERN_SIGMAS * error).max(PATTERN_FRACTION * scatter)
    });
    if !is_pattern {
        return None;
    }
    // The level of a patch is that of its neighbours, because its own noise would cause a false slope.
    let level_of = |patch: &Patch| weighted(patch, [SMOOTHING; 2]);
    let (level, _) = median_and_scatter(good.iter().map(|patch| level_of(patch)));
    let lines = weights.map(|w| {
        let rows = patches.chunks(columns).flat_map(|row| row.windows(3));
        let points =
            rows.map(|row| (0.5 * (level_of(&row[0]) + level_of(&row[2])) - level, weighted(&row[1], w)));
        line(&points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect::<Vec<_>>())
    });
    let places = |k: usize| {
        let [column, row, both] = lines.map(|line| line[k]);
        [column + row + both, -column + row - both, column - row - both, -column - row + both]
    };
    Some(Amplitudes { level, excess: places(0), slope: places(1) })
}

/// Height at zero and slope of a line through points of which a few are stars. A slope that may be due to
/// chance is set to zero.
fn line(points: &[(f64, f64)]) -> [f64; 2] {
    if points.is_empty() {
        return [0.0; 2];
    }
    let (mut height, mut slope, mut error) = (0.0, 0.0, 0.0);
    for round in 0..LINE_ROUNDS {
        let (middle, scatter) = median_and_scatter(points.iter().map(|&(x, y)| y - height - slope * x));
        let near = |&&(x, y): &&(f64, f64)| (y - height - slope * x - middle).abs() <= LINE_CLIP * scatter;
        let kept: Vec<(f64, f64)> = points.iter().filter(near).copied().collect();
        let n = kept.len() as f64;
        let [mx, my] = [kept.iter().map(|p| p.0).sum::<f64>() / n, kept.iter().map(|p| p.1).sum::<f64>() / n];
        let spread: f64 = kept.iter().map(|p| (p.0 - mx).powi(2)).sum();
        if round == 0 || spread <= 0.0 {
            // The first round fits a pattern that is constant over the frame.
            (height, slope) = (my, 0.0);
            continue;
        }
        slope = kept.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / spread;
        height = my - slope * mx;
        error = MAD_TO_SIGMA * scatter / spread.sqrt();
    }
    if slope.abs() > PATTERN_SIGMAS * error {
        return [height, slope];
    }
    [median_and_scatter(points.iter().map(|p| p.1)).0, 0.0]
}

impl Amplitudes {
    /// The pattern whose removal brings each of the four places to the level of the frame, in scaled units.
    pub(super) fn scaled(&self, scale: f64) -> Pattern {
        let mut pattern = Pattern { offset: [[0.0; 2]; 2], factor: [[1.0; 2]; 2] };
        for k in 0..4 {
            let rise = (1.0 + self.slope[k]).clamp(FACTOR_RANGE[0], FACTOR_RANGE[1]);
            let offset = self.level + self.excess[k] - self.level * rise;
            pattern.offset[k / 2][k % 2] = (scale * offset) as f32;
            pattern.factor[k / 2][k % 2] = rise.recip() as f32;
        }
        pattern
    }
}

fn weighted(patch: &Patch, [columns, rows]: [[f64; SIDE]; 2]) -> f64 {
    patch.iter().enumerate().map(|(k, v)| rows[k / SIDE] * columns[k % SIDE] * v).sum()
}

/// Median and median absolute deviation.
fn median_and_scatter(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    let middle = median(&mut values);
    for v in &mut values {
        *v = (*v - middle).abs();
    }
    (middle, median(&mut values))
}
