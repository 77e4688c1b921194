//! Patterns of four stars, and their shape, which identifies a pattern at any scale, rotation or mirroring.

use std::ops::RangeInclusive;

use bytemuck::{Pod, Zeroable};

use crate::geometry::sphere::Direction;

/// Shape of four directions: their six mutual distances, with the scale removed.
///
/// Distances are chords of the unit sphere, so nothing is lost or distorted in wide fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatternShape {
    /// The five shorter distances over the longest, ascending.
    pub ratios: [f32; 5],
    /// The longest distance, a chord.
    pub longest: f32,
}

/// The shape of four directions.
///
/// The function has no allocations or branches, because it runs thousands of times per frame.
///
/// ```
/// use boresight::geometry::sphere::direction;
/// use boresight::pattern::pattern_shape;
/// let square = [(0.0, 0.0), (0.01, 0.0), (0.0, 0.01), (0.01, 0.01)].map(|(ra, dec)| direction(ra, dec));
/// let shape = pattern_shape(square.each_ref());
/// let expected = [0.7071, 0.7071, 0.7071, 0.7071, 1.0]; // four sides and the other diagonal
/// assert!(shape.ratios.iter().zip(expected).all(|(ratio, x)| (ratio - x).abs() < 1e-4));
/// assert!((shape.longest - 0.01414).abs() < 1e-5);
/// ```
pub fn pattern_shape(directions: [&Direction; 4]) -> PatternShape {
    let [a, b, c, d] = directions;
    PatternShape::from_squared_edges(
        [a - b, a - c, a - d, b - c, b - d, c - d].map(|edge| edge.norm_squared() as f32),
    )
}

impl PatternShape {
    /// The shape of six squared chords, in any order.
    pub fn from_squared_edges(mut edges: [f32; 6]) -> Self {
        sort6(&mut edges);
        let longest = edges[5];
        let scale = if longest > 0.0 { 1.0 / longest } else { 0.0 };
        Self { ratios: std::array::from_fn(|i| (edges[i] * scale).sqrt()), longest: longest.sqrt() }
    }
}

/// Sorts six numbers by the shortest network (12 exchanges in 5 layers).
fn sort6(v: &mut [f32; 6]) {
    const NETWORK: [(usize, usize); 12] =
        [(0, 5), (1, 3), (2, 4), (1, 2), (3, 4), (0, 3), (2, 5), (0, 1), (2, 3), (4, 5), (1, 2), (3, 4)];
    for (i, j) in NETWORK {
        // One instruction each; `min` and `max` would test for NaN as well.
        let (a, b) = (v[i], v[j]);
        v[i] = if a < b { a } else { b };
        v[j] = if a < b { b } else { a };
    }
}

/// The order of [`Pattern::stars`]: the star nearest to the mean of the four directions comes first.
///
/// The order does not change with rotation or mirroring, so that star `k` of one pattern corresponds to star
/// `k` of another.
pub fn centroid_order(directions: [&Direction; 4]) -> [usize; 4] {
    let sum: Direction = directions.into_iter().sum();
    let closeness = directions.map(|v| v.dot(&sum));
    let mut order = [0, 1, 2, 3];
    for (i, j) in [(0, 1), (2, 3), (0, 2), (1, 3), (1, 2)] {
        if closeness[order[i]] < closeness[order[j]] {
            order.swap(i, j);
        }
    }
    order
}

/// Four stars of a database and their shape, in the layout of the file.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct Pattern {
    pub(crate) ratios: [u16; 5],
    longest_step: u16,
    /// The longest mutual distance, a chord.
    pub longest: f32,
    /// Indices of the stars in the database, in [`centroid_order`].
    pub stars: [u32; 4],
}

/// Number of steps to which ratios are rounded; the rounding error is at most 8e-6.
const RATIO_STEPS: f32 = 65535.0;

impl Pattern {
    /// The pattern of four stars, whose directions are given in the same order as their indices.
    pub fn new(stars: [u32; 4], directions: [&Direction; 4]) -> Self {
        let shape = pattern_shape(directions);
        Self {
            ratios: shape.ratios.map(|ratio| (ratio * RATIO_STEPS + 0.5) as u16),
            longest_step: length_step(shape.longest),
            longest: shape.longest,
            stars: centroid_order(directions).map(|i| stars[i]),
        }
    }

    /// The shape, with ratios rounded to 16 bits.
    pub fn shape(&self) -> PatternShape {
        PatternShape {
            ratios: self.ratios.map(|ratio| f32::from(ratio) / RATIO_STEPS),
            longest: self.longest,
        }
    }
}

/// Rounds up to an integer of 16 bits, without the call that `f32::ceil` is on most processors.
fn ceil(x: f32) -> u16 {
    let whole = x as u16;
    whole.saturating_add((f32::from(whole) < x).into())
}

/// A length as an integer of 16 bits, ascending with 2048 steps per octave: the upper bits of the
/// floating-point number.
fn length_step(length: f32) -> u16 {
    const SHORTEST: f32 = 1.0 / (1 << 28) as f32;
    let steps = (length.max(SHORTEST).to_bits() - SHORTEST.to_bits()) >> 12;
    steps.min(u32::from(u16::MAX)) as u16
}

/// The range of patterns near a shape: their ratios are within a tolerance, and their longest distance is in
/// a range.
#[derive(Debug, Clone)]
pub(crate) struct PatternWindow {
    /// Least and greatest values of the first eight 16-bit words of a pattern, which precede its stars.
    low: [u16; 8],
    high: [u16; 8],
    longest: RangeInclusive<f32>,
}

impl PatternWindow {
    /// Makes the window around a shape. Ratio limits are rounded outwards to whole steps, so that no pattern
    /// within the tolerance is missed.
    pub(crate) fn new(shape: &PatternShape, tolerance: f32, longest: RangeInclusive<f32>) -> Self {
        let steps = tolerance.max(0.0) * RATIO_STEPS + 0.5;
        let mut low = [0; 8];
        let mut high = [u16::MAX; 8];
        for (i, ratio) in shape.ratios.iter().enumerate() {
            low[i] = ceil(ratio * RATIO_STEPS - steps);
            high[i] = (ratio * RATIO_STEPS + steps) as u16;
        }
        low[5] = length_step(*longest.start());
        high[5] = length_step(*longest.end());
        Self { low, high, longest }
    }

    /// Whether a pattern is in the window.
    pub(crate) fn contains(&self, pattern: &Pattern) -> bool {
        let halfwords: &[u16; 16] = bytemuck::cast_ref(pattern);
        let mut outside = 0;
        for (value, (low, high)) in halfwords.iter().zip(self.low.iter().zip(&self.high)) {
            outside |= value.saturating_sub(*high) | low.saturating_sub(*value);
        }
        outside == 0 && self.longest.contains(&pattern.longest)
    }

    /// Least and greatest value of a ratio.
    pub(crate) fn ratio(&self, ratio: usize) -> (u16, u16) {
        (self.low[ratio], self.high[ratio])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attitude;
    use crate::geometry::sphere::{direction, separation};
    use proptest::prelude::*;

    #[test]
    fn network_sorts_every_zero_one_sequence() {
        for bits in 0..64_u32 {
            let mut v = std::array::from_fn(|i| f32::from((bits >> i & 1) as u8));
            sort6(&mut v);
            assert!(v.is_sorted(), "{bits:b}");
        }
    }

    #[test]
    fn coincident_stars_have_a_shape() {
        let v = direction(1.0, 1.0);
        assert_eq!(pattern_shape([&v; 4]), PatternShape { ratios: [0.0; 5], longest: 0.0 });
    }

    fn points() -> impl Strategy<Value = [Direction; 4]> {
        prop::array::uniform4((0.0..0.3, -0.2..0.2).prop_map(|(ra, dec)| direction(ra, dec)))
    }

    proptest! {
        #[test]
        fn shape_is_the_sorted_separations(points in points()) {
            let mut chords: Vec<f64> = Vec::new();
            for i in 0..4 {
                chords.extend((0..i).map(|j| crate::geometry::sphere::chord(separation(&points[i], &points[j]))));
            }
            chords.sort_by(f64::total_cmp);
            prop_assume!(chords[5] > 1e-6);
            let shape = pattern_shape(points.each_ref());
            for i in 0..5 {
                prop_assert!((f64::from(shape.ratios[i]) - chords[i] / chords[5]).abs() < 1e-6);
            }
            prop_assert!((f64::from(shape.longest) / chords[5] - 1.0).abs() < 1e-6);
        }

        #[test]
        fn nothing_depends_on_order_rotation_or_mirroring(
            points in points(), shuffle in Just([0, 1, 2, 3]).prop_shuffle(),
            w in -1.0..1.0, x in -1.0..1.0, y in -1.0..1.0, z in 0.1..1.0,
        ) {
            let attitude = Attitude::from_quaternion([w, x, y, z]).unwrap();
            let moved = shuffle.map(|i| {
                let v = attitude.to_camera(&points[i]);
                Direction::new(-v.x, v.y, v.z)
            });
            let (one, other) = (pattern_shape(points.each_ref()), pattern_shape(moved.each_ref()));
            for i in 0..5 {
                prop_assert!((one.ratios[i] - other.ratios[i]).abs() < 1e-6);
            }
            let sum: Direction = points.iter().sum();
            let mut closeness = points.map(|v| v.dot(&sum));
            closeness.sort_by(f64::total_cmp);
            prop_assume!(closeness.windows(2).all(|pair| pair[1] - pair[0] > 1e-12));
            let order = centroid_order(points.each_ref());
            prop_assert_eq!(order, centroid_order(moved.each_ref()).map(|i| shuffle[i]));
            prop_assert_eq!(Pattern::new([7, 8, 9, 10], points.each_ref()).stars, order.map(|i| i as u32 + 7));
        }

        #[test]
        fn window_holds_what_is_within_the_tolerance(points in points(), tolerance in 0.0_f32..0.05, off in -0.06_f32..0.06) {
            let pattern = Pattern::new([0, 1, 2, 3], points.each_ref());
            let mut shape = pattern_shape(points.each_ref());
            shape.ratios = shape.ratios.map(|ratio| ratio + off);
            let inside = PatternWindow::new(&shape, tolerance, 0.0..=2.0).contains(&pattern);
            prop_assert!(inside || off.abs() > tolerance - 1e-6);
            prop_assert!(!inside || off.abs() < tolerance + 4e-5);
        }

        #[test]
        fn window_holds_the_lengths_asked_for(points in points(), start in 0.0_f32..0.5, length in 0.0_f32..0.5) {
            let pattern = Pattern::new([0, 1, 2, 3], points.each_ref());
            let longest = start..=start + length;
            let inside = PatternWindow::new(&pattern.shape(), 0.0, longest.clone()).contains(&pattern);
            prop_assert_eq!(inside, longest.contains(&pattern.longest));
        }
    }
}
