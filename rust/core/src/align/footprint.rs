//! Footprints on the sky: unions of spherical polygons, and the area that two of them share.
//!
//! A polygon is cut into convex pieces, whose sides are great circles. A convex piece is clipped by another,
//! side by side: the part behind each side is cut off (Sutherland & Hodgman 1974, on half-spaces). The
//! crossing of sides that nearly coincide need not be exact, so identical and nearly identical footprints are
//! no special case. A union is stored as pieces that do not overlap: the area that a polygon shares with the
//! polygons before it is cut out of it.

use crate::error::{Error, Result};
use crate::geometry::sphere::Direction;

/// A convex polygon: its corners, counterclockwise as seen from outside the sphere.
type Piece = Vec<Direction>;

/// Distance of a corner from a side, on its outer side, in radians, beyond which the corner is outside.
/// Rounding errors are 1e-16.
const OUTSIDE_TOLERANCE: f64 = 1e-15;
/// Distance from the great circle of a side, in radians, up to which a corner counts as lying on it.
const COLLINEAR_TOLERANCE: f64 = 1e-12;
/// Area in steradians below which a piece is dropped: that of a strip a ten-thousandth of a microarcsecond
/// wide and a degree long.
const NO_AREA: f64 = 1e-17;
/// Width in radians below which a piece is dropped. Where sides nearly coincide, rounding makes slivers that
/// are larger than `NO_AREA`, and each cut of a sliver would make more.
const NO_WIDTH: f64 = 1e-14;

/// A region of the sky.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Footprint {
    /// Convex pieces, which have no points in common except on their sides.
    pieces: Vec<Piece>,
}

impl Footprint {
    /// Footprint of a polygon, given by its corners in order around it, in either direction.
    ///
    /// # Errors
    /// If there are fewer than three corners, a corner is not a unit vector, the corners reach a quarter of
    /// the sphere from their mean, or the outline crosses itself.
    pub fn polygon(corners: &[Direction]) -> Result<Self> {
        let wrong = |problem: &str, repair: &str| Err(Error::argument("footprint", problem, repair));
        if corners.len() < 3 {
            return wrong("fewer than three corners", "give at least three");
        }
        if !corners.iter().all(|c| (c.norm() - 1.0).abs() < 1e-9) {
            return wrong("a corner is not a unit vector", "give unit vectors");
        }
        let mean: Direction = corners.iter().sum();
        if corners.iter().any(|c| c.dot(&mean) <= 0.0) {
            return wrong(
                "a corner is 90 degrees or more from the mean of the corners",
                "give smaller footprints",
            );
        }
        if crosses_itself(corners) {
            return wrong("its outline crosses itself", "give the corners in order around it");
        }
        let mut ring = corners.to_vec();
        if signed_area(&ring) < 0.0 {
            ring.reverse();
        }
        let pieces = if is_convex(&ring) { vec![ring] } else { triangles(ring) };
        Ok(Self { pieces: pieces.into_iter().filter(|piece| !is_sliver(piece)).collect() })
    }

    /// The union of footprints.
    pub fn union<'a>(footprints: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut union = Self::default();
        for footprint in footprints {
            let mut rest = footprint.pieces.clone();
            for old in &union.pieces {
                rest = rest.into_iter().flat_map(|piece| without(piece, old)).collect();
            }
            union.pieces.append(&mut rest);
        }
        union
    }

    /// Area in steradians.
    pub fn area(&self) -> f64 {
        self.pieces.iter().map(|piece| area_of(piece)).sum()
    }

    /// Area in steradians shared with another footprint.
    pub fn shared_area(&self, other: &Self) -> f64 {
        let both = |a: &Piece| other.pieces.iter().map(|b| area_of(&common(a, b))).sum::<f64>();
        self.pieces.iter().map(both).sum()
    }
}

/// Area that each pair of footprints shares, in steradians; 0 on the diagonal.
pub fn overlap_matrix(footprints: &[Footprint]) -> Vec<Vec<f64>> {
    let mut matrix = vec![vec![0.0; footprints.len()]; footprints.len()];
    for i in 0..footprints.len() {
        for j in 0..i {
            let shared = footprints[i].shared_area(&footprints[j]);
            matrix[i][j] = shared;
            matrix[j][i] = shared;
        }
    }
    matrix
}

/// Area of a triangle, positive counterclockwise (Van Oosterom & Strackee 1983).
fn triangle_area(a: &Direction, b: &Direction, c: &Direction) -> f64 {
    // Computed from differences, because small triangles would lose all digits otherwise.
    let volume = a.dot(&(b - a).cross(&(c - a)));
    2.0 * volume.atan2(1.0 + a.dot(b) + b.dot(c) + c.dot(a))
}

fn signed_area(ring: &[Direction]) -> f64 {
    ring.windows(2).skip(1).map(|side| triangle_area(&ring[0], &side[0], &side[1])).sum()
}

fn area_of(piece: &[Direction]) -> f64 {
    if piece.len() < 3 { 0.0 } else { signed_area(piece).max(0.0) }
}

/// Whether a piece is only an artefact of rounding.
fn is_sliver(piece: &[Direction]) -> bool {
    let outline: f64 = sides(piece).map(|(a, b)| (b - a).norm()).sum();
    area_of(piece) <= NO_AREA.max(NO_WIDTH * outline)
}

/// Sides of a ring, from each corner to the next.
fn sides(ring: &[Direction]) -> impl Iterator<Item = (&Direction, &Direction)> {
    (0..ring.len()).map(|i| (&ring[i], &ring[(i + 1) % ring.len()]))
}

/// Inward unit normal of a side; zero for a side without length.
fn normal(from: &Direction, to: &Direction) -> Direction {
    from.cross(&(to - from)).try_normalize(0.0).unwrap_or_else(Direction::zeros)
}

fn is_convex(ring: &[Direction]) -> bool {
    sides(ring).all(|(a, b)| {
        let inward = normal(a, b);
        ring.iter().all(|corner| inward.dot(&(corner - a)) >= -OUTSIDE_TOLERANCE)
    })
}

/// Whether two sides of a ring cross, so that its inside is not defined.
fn crosses_itself(ring: &[Direction]) -> bool {
    // Sides on one great circle do not cross, whatever the rounding of their corners.
    let parts = |a: &Direction, b: &Direction, p: &Direction, q: &Direction| {
        let inward = normal(a, b);
        let [p, q] = [p, q].map(|corner| inward.dot(&(corner - a)));
        p.min(q) < -COLLINEAR_TOLERANCE && p.max(q) > COLLINEAR_TOLERANCE
    };
    let sides: Vec<_> = sides(ring).collect();
    // Neighbouring sides share a corner; so do the last and the first.
    let apart = |k: usize, l: usize| k > l + 1 && (l > 0 || k + 1 < sides.len());
    let cross = |k: usize, l: usize| {
        let ((a, b), (p, q)) = (sides[k], sides[l]);
        parts(a, b, p, q) && parts(p, q, a, b)
    };
    (0..sides.len()).any(|k| (0..k).any(|l| apart(k, l) && cross(k, l)))
}

/// Triangles of a simple polygon: ears, which are triangles that contain no other corner, are cut off.
fn triangles(mut ring: Piece) -> Vec<Piece> {
    let mut all = Vec::new();
    while ring.len() > 3 {
        let n = ring.len();
        let ear = (0..n).find(|&i| {
            let (a, b, c) = (&ring[(i + n - 1) % n], &ring[i], &ring[(i + 1) % n]);
            let triangle = vec![*a, *b, *c];
            triangle_area(a, b, c) > 0.0
                && ring.iter().filter(|p| *p != a && *p != b && *p != c).all(|p| !holds(&triangle, p))
        });
        // A ring that touches itself may have no ear; then its first corner is cut off.
        let i = ear.unwrap_or(0);
        all.push(vec![ring[(i + n - 1) % n], ring[i], ring[(i + 1) % n]]);
        ring.remove(i);
    }
    all.push(ring);
    all
}

fn holds(piece: &[Direction], point: &Direction) -> bool {
    sides(piece).all(|(a, b)| normal(a, b).dot(&(point - a)) >= 0.0)
}

/// Parts of a convex piece in front of (inside) and behind (outside) a side.
fn split(piece: &[Direction], inward: &Direction, at: &Direction) -> (Piece, Piece) {
    let (mut inside, mut outside) = (Vec::with_capacity(piece.len() + 1), Vec::new());
    // The plane of the side contains the centre of the sphere, so `at` only reduces rounding errors.
    let height = |p: &Direction| inward.dot(&(p - at));
    for (a, b) in sides(piece) {
        let (from, to) = (height(a), height(b));
        if from >= -OUTSIDE_TOLERANCE {
            inside.push(*a);
        }
        if from <= OUTSIDE_TOLERANCE {
            outside.push(*a);
        }
        if (from > OUTSIDE_TOLERANCE && to < -OUTSIDE_TOLERANCE)
            || (from < -OUTSIDE_TOLERANCE && to > OUTSIDE_TOLERANCE)
        {
            let crossing = (a * to - b * from).normalize() * (to - from).signum();
            inside.push(crossing);
            outside.push(crossing);
        }
    }
    (inside, outside)
}

/// Intersection of two convex pieces.
fn common(a: &[Direction], b: &[Direction]) -> Piece {
    let mut rest = a.to_vec();
    for (from, to) in sides(b) {
        let inward = normal(from, to);
        if inward == Direction::zeros() {
            continue;
        }
        rest = split(&rest, &inward, from).0;
        if rest.len() < 3 {
            return Vec::new();
        }
    }
    rest
}

/// Difference of two convex pieces, as a list of convex pieces.
fn without(piece: Piece, other: &[Direction]) -> Vec<Piece> {
    if is_sliver(&common(&piece, other)) {
        return vec![piece];
    }
    let (mut rest, mut outer) = (piece, Vec::new());
    for (from, to) in sides(other) {
        let inward = normal(from, to);
        if inward == Direction::zeros() {
            continue;
        }
        let (inside, outside) = split(&rest, &inward, from);
        if !is_sliver(&outside) {
            outer.push(outside);
        }
        rest = inside;
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attitude;
    use crate::align::testing;
    use crate::geometry::sphere::direction;
    use proptest::prelude::*;
    use std::f64::consts::PI;

    /// Corners of a rotated square in the tangent plane at a direction.
    fn square(center: [f64; 2], half: f64, roll: f64, offset: [f64; 2]) -> Vec<Direction> {
        let attitude = Attitude::from_pointing(center[0], center[1], roll);
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
            .map(|[x, y]| {
                let v = Direction::new(half * x + offset[0], half * y + offset[1], 1.0).normalize();
                attitude.to_sky(&v)
            })
            .to_vec()
    }

    #[test]
    fn an_octant_is_an_eighth_of_the_sphere() {
        let octant = [direction(0.0, 0.0), direction(PI / 2.0, 0.0), direction(0.0, PI / 2.0)];
        let footprint = Footprint::polygon(&octant).unwrap();
        assert!((footprint.area() - PI / 2.0).abs() < 1e-14);
        assert!((footprint.shared_area(&footprint) - PI / 2.0).abs() < 1e-14);
    }

    #[test]
    fn an_outline_that_crosses_itself_is_refused() {
        let mut corners = square([1.0, 0.5], 0.1, 0.4, [0.0; 2]);
        assert!(Footprint::polygon(&corners).is_ok());
        corners.swap(1, 2);
        let error = Footprint::polygon(&corners).unwrap_err();
        assert!(error.to_string().contains("crosses itself"), "{error}");
    }

    proptest! {
        #[test]
        fn dithers_of_any_size_share_what_they_should(
            ra in 0.0..6.3_f64, dec in -1.57..1.57_f64, roll in -3.0..3.0_f64, exponent in -17.0..0.5_f64, angle in 0.0..6.2_f64,
        ) {
            // The field is so small that areas in the plane equal those on the sphere.
            let half = 1e-6;
            let step = [angle.cos(), angle.sin()].map(|c| half * 10_f64.powf(exponent) * c);
            let one = Footprint::polygon(&square([ra, dec], half, roll, [0.0; 2])).unwrap();
            let other = Footprint::polygon(&square([ra, dec], half, roll, step)).unwrap();
            let side = |s: f64| (2.0 * half - s.abs()).max(0.0);
            let expected = side(step[0]) * side(step[1]);
            prop_assert!((one.shared_area(&other) - expected).abs() < 1e-8 * half * half, "{} {}", one.shared_area(&other), expected);
            let union = Footprint::union([&one, &other]).area();
            // Slivers of no area are dropped.
            prop_assert!((union - (8.0 * half * half - expected)).abs() < 1e-8 * half * half + 8.0 * NO_AREA);
        }

        #[test]
        fn nested_and_far_footprints(ra in 0.0..6.3_f64, dec in -1.5..1.5_f64, roll in -3.0..3.0_f64) {
            let outer = Footprint::polygon(&square([ra, dec], 0.1, 0.3, [0.0; 2])).unwrap();
            let inner = Footprint::polygon(&square([ra, dec], 0.02, roll, [0.0; 2])).unwrap();
            prop_assert!((outer.shared_area(&inner) / inner.area() - 1.0).abs() < 1e-12);
            prop_assert!((Footprint::union([&inner, &outer]).area() / outer.area() - 1.0).abs() < 1e-12);
            let far = Footprint::polygon(&square([ra + PI, -dec], 0.1, roll, [0.0; 2])).unwrap();
            prop_assert_eq!(outer.shared_area(&far), 0.0);
        }

        #[test]
        fn areas_are_those_of_random_points(seed in 0..50_u64) {
            let random = |k: u64| testing::random(1_000_000 * seed + k);
            // Stars with five points, which are not convex.
            let star = |shift: f64| -> Vec<Direction> {
                (0..10).map(|i| {
                    let angle = f64::from(i) * PI / 5.0;
                    let radius = if i % 2 == 0 { 0.1 } else { 0.04 };
                    Direction::new(radius * angle.cos() + shift, radius * angle.sin(), 1.0).normalize()
                }).collect()
            };
            let (a, b) = (star(0.0), star(0.05 * random(1)));
            let inside = |ring: &[Direction], p: &Direction| {
                sides(ring).filter(|(u, v)| {
                    let (u, v) = ([u.x / u.z, u.y / u.z], [v.x / v.z, v.y / v.z]);
                    let (x, y) = (p.x / p.z, p.y / p.z);
                    (u[1] > y) != (v[1] > y) && x < (v[0] - u[0]) * (y - u[1]) / (v[1] - u[1]) + u[0]
                }).count() % 2 == 1
            };
            let n = 40_000;
            let (low, width) = (-0.12, 0.3);
            let mut sum = 0.0;
            for i in 0..n {
                let p = Direction::new(low + width * random(7 + 2 * i), low + width * random(8 + 2 * i), 1.0);
                if inside(&a, &p.normalize()) && inside(&b, &p.normalize()) {
                    sum += p.norm().powi(-3);
                }
            }
            let expected = sum * width * width / n as f64;
            let found = Footprint::polygon(&a).unwrap().shared_area(&Footprint::polygon(&b).unwrap());
            prop_assert!((found / expected - 1.0).abs() < 0.1, "{} {}", found, expected);
        }
    }

    #[test]
    fn sides_in_common_share_nothing() {
        let one = Footprint::polygon(&square([1.0, 1.4], 0.01, 0.0, [0.0; 2])).unwrap();
        let beside = Footprint::polygon(&square([1.0, 1.4], 0.01, 0.0, [0.02, 0.0])).unwrap();
        assert!(one.shared_area(&beside) < 1e-15);
        assert_eq!(overlap_matrix(&[one.clone(), one.clone()])[0][1], one.area());
    }

    #[test]
    fn bad_footprints_are_refused() {
        let v = direction(0.0, 0.0);
        assert!(Footprint::polygon(&[v, v]).is_err());
        assert!(Footprint::polygon(&[v, -v, direction(0.0, 1.0)]).is_err());
        assert!(Footprint::polygon(&[v, v, Direction::zeros()]).is_err());
        assert_eq!(Footprint::polygon(&[v, v, v]).unwrap().area(), 0.0);
    }
}
