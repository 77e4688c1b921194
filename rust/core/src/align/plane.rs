//! Directions near an image, and their places in its tangent plane.

use crate::geometry::distortion::Point;

/// A plane that touches the sky.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TangentPlane {
    /// Unit vectors along its axes, and towards where it touches.
    pub axes: [[f64; 3]; 3],
    /// Coordinates in it, of lengths along the axes.
    pub matrix: [[f64; 2]; 2],
}

impl TangentPlane {
    /// Place of a direction; `None` on the far side.
    pub fn of_sky(&self, sky: &[f64; 3]) -> Option<Point> {
        let [x, y, depth] = self.axes.each_ref().map(|axis| product(axis, sky));
        let flat = [x / depth, y / depth];
        (depth > 0.0).then(|| self.matrix.map(|row| row[0] * flat[0] + row[1] * flat[1]))
    }
}

/// Indices of the directions in some runs of rows that are within an angle, given by its cosine, of a centre.
pub fn within(sky: &[[f64; 3]], runs: &[[i64; 2]], center: &[f64; 3], cosine: f64) -> Vec<i64> {
    let inside = |run: &[i64; 2]| {
        let rows = run[0].max(0)..run[1].min(sky.len() as i64);
        rows.filter(|&row| product(&sky[row as usize], center) >= cosine)
    };
    runs.iter().flat_map(inside).collect()
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
    fn rows_of_the_runs_alone_are_looked_at() {
        let sky = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.8, 0.6, 0.0]];
        assert_eq!(within(&sky, &[[0, 2], [3, 9]], &[1.0, 0.0, 0.0], 0.7), [0, 3]);
        assert_eq!(within(&sky, &[[-3, 1]], &[1.0, 0.0, 0.0], 0.7), [0]);
    }
}
