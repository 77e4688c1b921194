//! Similarity transformations of the plane: shift, rotation, a single scale, and optionally a reflection.

use crate::geometry::distortion::Point;
use crate::lsq::small::{Matrix2, inverse, multiply};

/// `x' = matrix · x + shift`, the matrix a rotation times a scale, mirrored if its determinant is negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// Rotation times scale, by rows.
    pub matrix: [[f64; 2]; 2],
    /// Position of the origin after the transformation.
    pub shift: Point,
}

impl Similarity {
    /// Fits a similarity to pairs (from, to) by least squares.
    ///
    /// `None` if there are fewer than two different points.
    ///
    /// ```
    /// use boresight::align::Similarity;
    /// let turned = Similarity::fit(&[([0.0, 0.0], [5.0, 0.0]), ([1.0, 0.0], [5.0, 2.0])], false).unwrap();
    /// assert!((turned.scale() - 2.0).abs() < 1e-12);
    /// assert!((turned.rotation().to_degrees() - 90.0).abs() < 1e-12);
    /// ```
    pub fn fit(pairs: &[(Point, Point)], mirrored: bool) -> Option<Self> {
        let n = pairs.len() as f64;
        let mean = |of: fn(&(Point, Point)) -> Point| {
            let sum = pairs.iter().map(of).fold([0.0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
            [sum[0] / n, sum[1] / n]
        };
        let (from, to) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let flip = if mirrored { -1.0 } else { 1.0 };
        let (mut cosine, mut sine, mut square) = (0.0, 0.0, 0.0);
        for (p, q) in pairs {
            let (x, y) = (p[0] - from[0], flip * (p[1] - from[1]));
            let (u, v) = (q[0] - to[0], q[1] - to[1]);
            cosine += x * u + y * v;
            sine += x * v - y * u;
            square += x * x + y * y;
        }
        let (a, b) = (cosine / square, sine / square);
        let matrix = [[a, -flip * b], [b, flip * a]];
        let moved = multiply(&matrix, from);
        let found = Self { matrix, shift: [to[0] - moved[0], to[1] - moved[1]] };
        (a.hypot(b) > 0.0 && found.shift.iter().all(|s| s.is_finite())).then_some(found)
    }

    /// Transforms a point.
    #[inline]
    pub fn apply(&self, p: Point) -> Point {
        let [x, y] = multiply(&self.matrix, p);
        [x + self.shift[0], y + self.shift[1]]
    }

    /// The inverse transformation.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let matrix: Matrix2 = inverse(&self.matrix);
        let [x, y] = multiply(&matrix, self.shift);
        Self { matrix, shift: [-x, -y] }
    }

    /// Factor by which lengths grow.
    pub fn scale(&self) -> f64 {
        self.matrix[0][0].hypot(self.matrix[1][0])
    }

    /// Angle from the x axis to its image, radians, towards +y.
    pub fn rotation(&self) -> f64 {
        self.matrix[1][0].atan2(self.matrix[0][0])
    }

    /// Whether the transformation includes a reflection.
    pub fn mirrored(&self) -> bool {
        self.matrix[0][0] * self.matrix[1][1] < self.matrix[0][1] * self.matrix[1][0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fits_what_it_moved_and_comes_back(
            points in prop::collection::vec(prop::array::uniform2(-1e3..1e3_f64), 2..20),
            angle in -3.1..3.1_f64, scale in 0.5..2.0_f64, shift in prop::array::uniform2(-1e4..1e4_f64), mirrored: bool,
        ) {
            prop_assume!((points[0][0] - points[1][0]).abs() > 1.0);
            let flip = if mirrored { -1.0 } else { 1.0 };
            let (s, c) = angle.sin_cos();
            let truth = Similarity { matrix: [[scale * c, -flip * scale * s], [scale * s, flip * scale * c]], shift };
            let pairs: Vec<_> = points.iter().map(|&p| (p, truth.apply(p))).collect();
            let found = Similarity::fit(&pairs, mirrored).unwrap();
            prop_assert!((found.scale() / scale - 1.0).abs() < 1e-9);
            prop_assert!((found.rotation() - angle).abs() < 1e-8);
            prop_assert_eq!(found.mirrored(), mirrored);
            for (p, q) in pairs {
                let back = found.inverse().apply(q);
                prop_assert!((back[0] - p[0]).hypot(back[1] - p[1]) < 1e-6);
            }
        }
    }

    #[test]
    fn coincident_points_have_none() {
        assert!(Similarity::fit(&[], false).is_none());
        assert!(Similarity::fit(&[([1.0, 1.0], [2.0, 2.0]); 3], false).is_none());
    }
}
