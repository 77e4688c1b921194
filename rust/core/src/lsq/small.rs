//! Linear systems of a few unknowns, without allocation.

/// A matrix of two rows.
pub(crate) type Matrix2 = [[f64; 2]; 2];

/// Upper triangle by rows of a symmetric matrix of three rows.
pub(crate) type Symmetric3 = [f64; 6];

/// Smallest determinant of a [`Symmetric3`] matrix that is inverted, as a fraction of the product of its
/// diagonal.
const SINGULAR: f64 = 1e-9;

/// The determinant.
#[inline]
pub(crate) fn determinant(&[[a, b], [c, d]]: &Matrix2) -> f64 {
    a * d - b * c
}

/// The inverse matrix; not finite if there is none.
#[inline]
pub(crate) fn inverse(m: &Matrix2) -> Matrix2 {
    let det = determinant(m);
    let [[a, b], [c, d]] = *m;
    [[d / det, -b / det], [-c / det, a / det]]
}

/// The solution x of m x = v; not finite if there is none.
#[inline]
pub(crate) fn solve(m: &Matrix2, [u, v]: [f64; 2]) -> [f64; 2] {
    let det = determinant(m);
    let [[a, b], [c, d]] = *m;
    [(d * u - b * v) / det, (a * v - c * u) / det]
}

/// A matrix times a vector.
#[inline]
pub(crate) fn multiply(m: &Matrix2, [x, y]: [f64; 2]) -> [f64; 2] {
    [m[0][0] * x + m[0][1] * y, m[1][0] * x + m[1][1] * y]
}

/// Inverse of the lower Cholesky factor of a covariance (xx, xy, yy), its elements by rows.
///
/// It gives differences with this covariance unit variance. `None` if the covariance is not positive
/// definite.
pub(crate) fn whitener(&[xx, xy, yy]: &[f64; 3]) -> Option<[f64; 3]> {
    let l00 = xx.sqrt();
    let l10 = xy / l00;
    let l11 = (yy - l10 * l10).sqrt();
    let is_definite = l00 > 0.0 && l11 > 0.0 && l00.is_finite() && l11.is_finite();
    is_definite.then(|| [1.0 / l00, -l10 / (l00 * l11), 1.0 / l11])
}

/// The inverse of a positive definite matrix; `None` if it is too near to a singular one.
#[inline]
pub(crate) fn inverse_of_symmetric(&[xx, xy, xz, yy, yz, zz]: &Symmetric3) -> Option<Symmetric3> {
    let minors = [yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy];
    let determinant = xx * minors[0] + xy * minors[1] + xz * minors[2];
    if !(determinant > SINGULAR * xx * yy * zz && determinant.is_finite() && xx > 0.0 && yy > 0.0) {
        return None;
    }
    let d = determinant;
    Some([
        minors[0] / d,
        minors[1] / d,
        minors[2] / d,
        (xx * zz - xz * xz) / d,
        (xy * xz - xx * yz) / d,
        (xx * yy - xy * xy) / d,
    ])
}

/// Eliminates all unknowns but the first `kept` of normal equations.
///
/// Each row belongs to one unknown. It holds the coefficients, which begin at the left, and the right-hand
/// side in the last column. An unknown without information is skipped.
#[inline]
pub(crate) fn eliminate<const COLUMNS: usize>(rows: &mut [[f64; COLUMNS]], kept: usize) {
    for pivot in (kept..rows.len()).rev() {
        let row = rows[pivot];
        if row[pivot] <= 0.0 {
            continue;
        }
        for other in &mut rows[..pivot] {
            let factor = other[pivot] / row[pivot];
            for (o, &p) in other.iter_mut().zip(&row) {
                *o -= factor * p;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::{Matrix3, SMatrix, SVector};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn inverses_are_inverses(m in prop::array::uniform4(-1.0..1.0f64), v in prop::array::uniform2(-1.0..1.0f64)) {
            let m = [[m[0], m[1]], [m[2], m[3]]];
            prop_assume!(determinant(&m).abs() > 1e-3);
            let back = multiply(&inverse(&m), multiply(&m, v));
            prop_assert!((back[0] - v[0]).hypot(back[1] - v[1]) < 1e-10);
            let back = solve(&m, multiply(&m, v));
            prop_assert!((back[0] - v[0]).hypot(back[1] - v[1]) < 1e-10);
        }

        #[test]
        fn symmetric_inverses_are_those_of_the_library(j in prop::array::uniform12(-1.0..1.0f64)) {
            let jacobian = SMatrix::<f64, 4, 3>::from_column_slice(&j);
            let m: Matrix3<f64> = jacobian.transpose() * jacobian;
            prop_assume!(m.determinant() > 1e-3);
            let upper = [m[(0, 0)], m[(0, 1)], m[(0, 2)], m[(1, 1)], m[(1, 2)], m[(2, 2)]];
            let [xx, xy, xz, yy, yz, zz] = inverse_of_symmetric(&upper).unwrap();
            let found = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
            prop_assert!((found * m - Matrix3::identity()).amax() < 1e-9);
        }

        #[test]
        fn elimination_keeps_the_solution(j in prop::array::uniform32(-1.0..1.0f64), b in prop::array::uniform4(-1.0..1.0f64)) {
            let jacobian = SMatrix::<f64, 8, 4>::from_column_slice(&j);
            let normal = jacobian.transpose() * jacobian;
            prop_assume!(normal.determinant() > 1e-2);
            let whole = normal.lu().solve(&SVector::<f64, 4>::from(b)).unwrap();
            let mut rows: [[f64; 5]; 4] =
                std::array::from_fn(|i| std::array::from_fn(|j| if j < 4 { normal[(i, j)] } else { b[i] }));
            eliminate(&mut rows, 2);
            let own = multiply(&inverse(&[[rows[0][0], rows[0][1]], [rows[1][0], rows[1][1]]]), [rows[0][4], rows[1][4]]);
            prop_assert!((own[0] - whole[0]).hypot(own[1] - whole[1]) < 1e-9);
        }
    }

    #[test]
    fn what_is_not_determined_has_no_inverse() {
        assert!(inverse_of_symmetric(&[1.0, 1.0, 0.0, 1.0, 0.0, 1.0]).is_none());
        assert!(inverse_of_symmetric(&[0.0; 6]).is_none());
        assert!(inverse_of_symmetric(&[f64::NAN; 6]).is_none());
        // An unknown without information changes nothing.
        let mut rows = [[2.0, 0.0, 4.0], [0.0, 0.0, 0.0]];
        eliminate(&mut rows, 1);
        assert_eq!(rows[0], [2.0, 0.0, 4.0]);
    }
}
