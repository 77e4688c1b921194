//! Attitude: the rotation from ICRS to the camera frame.
//!
//! Camera frame: +z out of the lens along the boresight, +x and +y along the pixel axes (right and down).

use nalgebra::{Matrix3, Quaternion, Rotation3, UnitQuaternion, Vector3};

use crate::error::{Error, Result};
use crate::geometry::sphere::{Direction, direction, east_north, ra_dec};

/// Largest deviation of a given matrix from a rotation; a larger one is an error.
const ROTATION_TOLERANCE: f64 = 1e-6;
/// Deviation from a rotation that is due to rounding alone. Such a matrix is kept unchanged, so that
/// attitudes are stored and read exactly.
const ROUNDING: f64 = 1e-14;

/// Rotation ICRS → camera: `v_camera = R · v_icrs`. The rows of `R` are the camera's axes in ICRS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attitude {
    rotation: Rotation3<f64>,
}

impl Attitude {
    /// Makes an attitude from a rotation matrix, given by rows; an error unless it is orthonormal and proper.
    pub fn from_matrix(rows: [[f64; 3]; 3]) -> Result<Self> {
        let m = Matrix3::from(rows).transpose();
        let off = (m * m.transpose() - Matrix3::identity()).amax();
        if !(off < ROTATION_TOLERANCE && m.determinant() > 0.0) {
            return Err(Error::argument(
                "attitude",
                "the matrix is not a rotation",
                "give an orthonormal 3x3 matrix with determinant +1, mapping ICRS to camera",
            ));
        }
        let exact = off < ROUNDING;
        Ok(Self { rotation: if exact { Rotation3::from_matrix_unchecked(m) } else { orthonormal(&m) } })
    }

    /// Makes an attitude from a quaternion, scalar first, of any non-zero length.
    pub fn from_quaternion(wxyz: [f64; 4]) -> Result<Self> {
        let q = Quaternion::new(wxyz[0], wxyz[1], wxyz[2], wxyz[3]);
        if !(q.norm().is_finite() && q.norm() > 1e-12) {
            return Err(Error::argument(
                "quaternion",
                "its length is zero or not finite",
                "give four finite numbers, scalar first, not all zero",
            ));
        }
        Ok(Self { rotation: UnitQuaternion::from_quaternion(q).to_rotation_matrix() })
    }

    /// Makes an attitude from the boresight's right ascension and declination and the roll (see
    /// [`Attitude::roll`]).
    pub fn from_pointing(ra: f64, dec: f64, roll: f64) -> Self {
        let z = direction(ra, dec);
        let (east, north) = east_north(&z);
        let up = north * roll.cos() + east * roll.sin();
        let y = -up;
        let x = y.cross(&z);
        Self {
            rotation: Rotation3::from_matrix_unchecked(Matrix3::from_rows(&[
                x.transpose(),
                y.transpose(),
                z.transpose(),
            ])),
        }
    }

    /// The rotation that best maps sky directions to camera directions, in the weighted least-squares sense.
    ///
    /// Each pair is (camera, sky, weight). Wahba's problem is solved by singular value decomposition (Markley
    /// 1988). `None` when fewer than two directions differ, or a vector is not finite.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a Direction, &'a Direction, f64)>,
    ) -> Option<Self> {
        let mut b = Matrix3::zeros();
        for (camera, sky, weight) in pairs {
            b += camera * sky.transpose() * weight;
        }
        let svd = b.try_svd(true, true, f64::EPSILON, 64)?;
        let (u, v_t) = (svd.u?, svd.v_t?);
        let mut order = [0, 1, 2];
        order.sort_by(|&i, &j| svd.singular_values[j].total_cmp(&svd.singular_values[i]));
        let spread = svd.singular_values[order[1]] / svd.singular_values[order[0]];
        if spread < 1e-12 || spread.is_nan() {
            return None;
        }
        let mut sign = Vector3::repeat(1.0);
        sign[order[2]] = (u.determinant() * v_t.determinant()).signum();
        Some(Self { rotation: Rotation3::from_matrix_unchecked(u * Matrix3::from_diagonal(&sign) * v_t) })
    }

    /// The rotation about a vector, by an angle in radians equal to its length.
    pub fn from_rotation_vector(vector: &Vector3<f64>) -> Self {
        Self { rotation: Rotation3::new(*vector) }
    }

    /// This attitude followed by the small rotation `exp([delta]×)` in the camera frame (radians).
    #[must_use]
    pub fn rotated(&self, delta: &Vector3<f64>) -> Self {
        Self { rotation: orthonormal(&(Rotation3::new(*delta) * self.rotation).into_inner()) }
    }

    /// Converts a direction on the sky to the camera frame.
    pub fn to_camera(&self, sky: &Direction) -> Direction {
        self.rotation * sky
    }

    /// Converts a direction in the camera frame to the sky.
    pub fn to_sky(&self, camera: &Direction) -> Direction {
        self.rotation.inverse_transform_vector(camera)
    }

    /// Direction on the sky of the camera's +z axis.
    pub fn boresight(&self) -> Direction {
        self.rotation.matrix().row(2).transpose()
    }

    /// Roll: position angle of the image's up (-y), from north through east, in (-π, π].
    pub fn roll(&self) -> f64 {
        let up = -self.rotation.matrix().row(1).transpose();
        let (east, north) = east_north(&self.boresight());
        up.dot(&east).atan2(up.dot(&north))
    }

    /// Right ascension and declination of the boresight, and roll.
    pub fn pointing(&self) -> (f64, f64, f64) {
        let (ra, dec) = ra_dec(&self.boresight());
        (ra, dec, self.roll())
    }

    /// Rotation matrix by rows.
    pub fn matrix(&self) -> [[f64; 3]; 3] {
        self.rotation.matrix().transpose().into()
    }

    /// Quaternion, scalar first and not negative.
    pub fn quaternion(&self) -> [f64; 4] {
        let q = UnitQuaternion::from_rotation_matrix(&self.rotation);
        let sign = if q.w < 0.0 { -1.0 } else { 1.0 };
        [q.w * sign, q.i * sign, q.j * sign, q.k * sign]
    }

    /// Angle of the rotation between two attitudes.
    pub fn angle_to(&self, other: &Self) -> f64 {
        // The difference's norm is accurate for tiny angles, where the trace is not.
        let chord =
            (self.rotation.matrix() - other.rotation.matrix()).norm() / (2.0 * std::f64::consts::SQRT_2);
        2.0 * chord.min(1.0).asin()
    }
}

/// Rotation from a matrix that is nearly one, by orthogonalisation of its rows (Gram-Schmidt).
fn orthonormal(m: &Matrix3<f64>) -> Rotation3<f64> {
    let x = Vector3::from(m.row(0).transpose()).normalize();
    let y = Vector3::from(m.row(1).transpose());
    let y = (y - x * x.dot(&y)).normalize();
    let z = x.cross(&y);
    Rotation3::from_matrix_unchecked(Matrix3::from_rows(&[x.transpose(), y.transpose(), z.transpose()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pointing_round_trips(ra in 0.0..6.2, dec in -1.4..1.4, roll in -3.1..3.1) {
            let a = Attitude::from_pointing(ra, dec, roll);
            let (r, d, p) = a.pointing();
            prop_assert!((r - ra).abs() < 1e-11 && (d - dec).abs() < 1e-11 && (p - roll).abs() < 1e-11);
            let b = Attitude::from_quaternion(a.quaternion()).unwrap();
            let c = Attitude::from_matrix(a.matrix()).unwrap();
            prop_assert!(a.angle_to(&b) < 1e-12 && a.angle_to(&c) < 1e-12);
            prop_assert_eq!(c.matrix(), a.matrix());
        }

        #[test]
        fn pairs_give_the_rotation_back(ra in 0.0..6.2, dec in -1.2..1.2, roll in -3.1..3.1, n in 2_usize..6) {
            let a = Attitude::from_pointing(ra, dec, roll);
            let sky: Vec<_> = (0..n).map(|i| direction(ra + 0.03 * i as f64, dec + 0.01 * (i * i) as f64)).collect();
            let camera: Vec<_> = sky.iter().map(|s| a.to_camera(s)).collect();
            let b = Attitude::from_pairs(camera.iter().zip(&sky).map(|(c, s)| (c, s, 1.0))).unwrap();
            for (c, s) in camera.iter().zip(&sky) {
                prop_assert!((b.to_camera(s) - c).norm() < 1e-9);
            }
        }
    }

    #[test]
    fn axes_follow_the_convention() {
        // Boresight on the equator, north up: +y (down) is south, +x (right) is west.
        let a = Attitude::from_pointing(0.0, 0.0, 0.0);
        assert!((a.to_sky(&Vector3::y()) - Vector3::new(0.0, 0.0, -1.0)).norm() < 1e-15);
        assert!((a.to_sky(&Vector3::x()) - Vector3::new(0.0, -1.0, 0.0)).norm() < 1e-15);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Attitude::from_quaternion([0.0; 4]).is_err());
        assert!(Attitude::from_quaternion([f64::NAN, 0.0, 0.0, 1.0]).is_err());
        assert!(Attitude::from_matrix([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]).is_err());
        let v = direction(1.0, 1.0);
        assert!(Attitude::from_pairs([(&v, &v, 1.0), (&v, &v, 1.0)]).is_none());
    }
}
