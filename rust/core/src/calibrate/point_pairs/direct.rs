//! The direct linear transform (Abdel-Aziz & Karara 1971): a pinhole from pixels and points, by linear equations.

use nalgebra::{DMatrix, Matrix3, Vector3};

use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::distortion::Point;

/// Smallest ratio of the second smallest singular value to the largest. Below it, more than one pinhole
/// explains the pixels.
const SINGULAR: f64 = 1e-9;

/// A pinhole.
pub(super) struct Pinhole {
    pub(super) attitude: Attitude,
    /// Position in units of the points; `None` if the points are directions.
    pub(super) position: Option<Vector3<f64>>,
    /// Focal length in pixels.
    pub(super) focal_length: f64,
}

/// The pinhole that maps points (directions, if `far`) to pixels, which are relative to the optical centre.
pub(super) fn transform(pixels: &[Point], points: &[[f64; 3]], far: bool) -> Result<Pinhole> {
    let points: Vec<Vector3<f64>> = points.iter().map(|&p| Vector3::from(p)).collect();
    let count = points.len() as f64;
    let or_one = |value: f64| if value > 0.0 { value } else { 1.0 };
    let middle = if far { Vector3::zeros() } else { points.iter().sum::<Vector3<f64>>() / count };
    let square: f64 = points.iter().map(|p| (p - middle).norm_squared()).sum();
    let size = if far { 1.0 } else { or_one((square / count).sqrt()) };
    let scale = or_one(pixels.iter().flatten().fold(0.0, |most: f64, c| most.max(c.abs())));
    let homogeneous: Vec<Vec<f64>> = points
        .iter()
        .map(|p| ((p - middle) / size).iter().copied().chain((!far).then_some(1.0)).collect())
        .collect();
    let matrix = smallest(pixels, &homogeneous, scale)?;
    let m: Matrix3<f64> = matrix.fixed_view::<3, 3>(0, 0).into_owned();
    let third = m.row(2).norm();
    // The rows are f r1, f r2 and r3. The first two give f; the nearest rotation gives r1, r2 and r3.
    let focal_length = (m.row(0).norm() + m.row(1).norm()) / (2.0 * third);
    let undetermined = || no_pinhole();
    let scaled =
        Matrix3::from_diagonal(&Vector3::new(1.0 / focal_length, 1.0 / focal_length, 1.0)) * m / third;
    let svd = scaled.try_svd(true, true, f64::EPSILON, 0).ok_or_else(undetermined)?;
    let (left, right) = svd.u.zip(svd.v_t).ok_or_else(undetermined)?;
    let sign = Vector3::new(1.0, 1.0, (left * right).determinant());
    let rotation = left * Matrix3::from_diagonal(&sign) * right;
    let attitude = Attitude::from_matrix(rotation.transpose().into()).map_err(|_| no_pinhole())?;
    let position = if far {
        None
    } else {
        let column: Vector3<f64> = matrix.fixed_view::<3, 1>(0, 3).into_owned();
        Some(middle - m.lu().solve(&column).ok_or_else(undetermined)? * size)
    };
    Ok(Pinhole { attitude, position, focal_length: focal_length * scale })
}

/// The matrix of three rows that maps homogeneous points to pixels, with the sign that puts most points in
/// front.
fn smallest(pixels: &[Point], points: &[Vec<f64>], scale: f64) -> Result<DMatrix<f64>> {
    let n = points.first().map_or(0, Vec::len);
    let columns = 3 * n;
    let rows = 2 * points.len();
    if columns == 0 || rows + 1 < columns {
        return Err(no_pinhole());
    }
    // Rows of zeros make the matrix at least square, so that its last singular vector is computed.
    let mut equations = DMatrix::zeros(rows.max(columns), columns);
    for (i, (pixel, point)) in pixels.iter().zip(points).enumerate() {
        for axis in 0..2 {
            for (k, c) in point.iter().enumerate() {
                equations[(2 * i + axis, axis * n + k)] = *c;
                equations[(2 * i + axis, 2 * n + k)] = -pixel[axis] / scale * c;
            }
        }
    }
    let svd = equations.try_svd(false, true, f64::EPSILON, 0).ok_or_else(no_pinhole)?;
    let mut order: Vec<usize> = (0..svd.singular_values.len()).collect();
    order.sort_by(|&i, &j| svd.singular_values[j].total_cmp(&svd.singular_values[i]));
    let value = |k: usize| svd.singular_values[order[k]];
    if value(columns - 2) < SINGULAR * value(0) {
        return Err(no_pinhole());
    }
    let vectors = svd.v_t.ok_or_else(no_pinhole)?;
    let vector = vectors.row(order[columns - 1]);
    let matrix = DMatrix::from_fn(3, n, |i, j| vector[i * n + j]);
    let depth: f64 = points.iter().map(|p| (0..n).map(|j| matrix[(2, j)] * p[j]).sum::<f64>()).sum();
    Ok(if depth < 0.0 { -matrix } else { matrix })
}

fn no_pinhole() -> Error {
    let problem = "image_points: too few, or all on one plane or line; give more that are not, or start=";
    Error::Undetermined(problem.into())
}
