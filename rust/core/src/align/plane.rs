//! Tangent planes: positions of sky directions near an image in its tangent plane.

use crate::geometry::distortion::Point;

/// A plane tangent to the celestial sphere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TangentPlane {
    /// Unit vectors along the two axes of the plane and towards its tangent point.
    pub axes: [[f64; 3]; 3],
    /// Matrix from lengths along the axes to coordinates in the plane, by rows.
    pub matrix: [[f64; 2]; 2],
}

impl TangentPlane {
    /// Position of a direction in the plane; `None` for directions in the opposite hemisphere.
    pub fn of_sky(&self, sky: &[f64; 3]) -> Option<Point> {
        let [x, y, depth] = self.axes.each_ref().map(|axis| product(axis, sky));
        let flat = [x / depth, y / depth];
        (depth > 0.0).then(|| self.matrix.map(|row| row[0] * flat[0] + row[1] * flat[1]))
    }
}

/// Indices of the directions that are within an angle, given by its cosine, of a centre.
pub fn within(sky: &[[f64; 3]], center: &[f64; 3], cosine: f64) -> Vec<i64> {
    let inside = |&row: &usize| product(&sky[row], center) >= cosine;
    (0..sky.len()).filter(inside).map(|row| row as i64).collect()
}

fn product(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tangents_and_the_far_side_has_none() {
        let axes = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]];
        let plane = TangentPlane { axes, matrix: [[2.0, 0.0], [0.0, 4.0]] };
        let (sin, cos) = 0.1_f64.sin_cos();
        let [x, y] = plane.of_sky(&[cos, sin, 0.0]).unwrap();
        assert!((x - 2.0 * 0.1_f64.tan()).abs() < 1e-15 && y == 0.0);
        assert_eq!(plane.of_sky(&[-cos, sin, 0.0]), None);
    }

    #[test]
    fn directions_within_an_angle_are_told() {
        let sky = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.8, 0.6, 0.0]];
        assert_eq!(within(&sky, &[1.0, 0.0, 0.0], 0.7), [0, 2, 3]);
    }
}
