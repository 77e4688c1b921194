//! Lens distortion: the map from pixels about the optical centre to ideal (pinhole) pixels.
//!
//! The fitted direction is pixel → ideal, as in FITS SIP; the inverse is calculated by Newton's method. Both
//! planes are in pixels: a pinhole camera has `ideal = pixel`.

mod polynomial;
mod radial;

pub use polynomial::{MAX_ORDER, PolynomialDistortion, exponents};
pub use radial::RadialDistortion;

use crate::lsq::small::{determinant, solve};

/// A point of the detector or of the ideal plane, in pixels from the optical centre.
pub type Point = [f64; 2];

/// Partial derivatives `[[∂u/∂x, ∂u/∂y], [∂v/∂x, ∂v/∂y]]` of the ideal point (u, v) by the pixel (x, y).
pub type Jacobian = [[f64; 2]; 2];

/// Newton's method stops when a step is smaller than this many pixels.
const INVERSE_TOLERANCE_PX: f64 = 1e-11;
/// Newton's method gives up after this many steps; six reach the tolerance for real lenses.
const INVERSE_MAX_STEPS: usize = 50;

/// One of the distortion models.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Distortion {
    /// Pinhole camera.
    #[default]
    None,
    /// Polynomial in the pixel coordinates, as SIP.
    Polynomial(PolynomialDistortion),
    /// Radial and decentring terms about the optical centre (Brown 1966).
    Radial(RadialDistortion),
}

impl Distortion {
    /// Ideal point of a pixel.
    pub fn undistort(&self, pixel: Point) -> Point {
        match self {
            Self::None => pixel,
            Self::Polynomial(model) => model.undistort(pixel),
            Self::Radial(model) => model.undistort(pixel),
        }
    }

    /// Ideal point of a pixel, and its derivatives.
    pub fn undistort_with_jacobian(&self, pixel: Point) -> (Point, Jacobian) {
        match self {
            Self::None => (pixel, [[1.0, 0.0], [0.0, 1.0]]),
            Self::Polynomial(model) => model.undistort_with_jacobian(pixel),
            Self::Radial(model) => model.undistort_with_jacobian(pixel),
        }
    }

    /// Pixel of an ideal point: the inverse of [`Distortion::undistort`].
    ///
    /// `None` where the model folds over, so that no pixel sees the point.
    pub fn distort(&self, ideal: Point) -> Option<Point> {
        if matches!(self, Self::None) {
            return Some(ideal);
        }
        let mut pixel = ideal;
        let (mut at, mut jacobian) = self.undistort_with_jacobian(pixel);
        let mut miss = (at[0] - ideal[0]).hypot(at[1] - ideal[1]);
        for _ in 0..INVERSE_MAX_STEPS {
            let det = determinant(&jacobian);
            if det <= 0.0 || det.is_nan() {
                return None;
            }
            let step = solve(&jacobian, [at[0] - ideal[0], at[1] - ideal[1]]);
            if step[0].hypot(step[1]) < INVERSE_TOLERANCE_PX {
                return Some([pixel[0] - step[0], pixel[1] - step[1]]);
            }
            // Halve the step until it helps: strong distortion overshoots far from the centre.
            let mut fraction = 1.0;
            loop {
                let next = [pixel[0] - fraction * step[0], pixel[1] - fraction * step[1]];
                let (next_at, next_jacobian) = self.undistort_with_jacobian(next);
                let next_miss = (next_at[0] - ideal[0]).hypot(next_at[1] - ideal[1]);
                if next_miss < miss {
                    (pixel, at, jacobian, miss) = (next, next_at, next_jacobian, next_miss);
                    break;
                }
                fraction *= 0.5;
                if fraction < 1e-3 {
                    // At the level of rounding errors no step helps; the remaining error is the accuracy of
                    // the model itself.
                    return (miss < 1e-9 * (1.0 + ideal[0].abs() + ideal[1].abs())).then_some(pixel);
                }
            }
        }
        None
    }

    /// Short name of the model, as it appears in files: `none`, `polynomial` or `radial`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Polynomial(_) => "polynomial",
            Self::Radial(_) => "radial",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every model with distortion of up to a few percent at 1000 px.
    fn models() -> Vec<Distortion> {
        let n = exponents(4).len();
        let a: Vec<f64> = (0..n).map(|i| 3.0 * ((i * 7 % 5) as f64 - 2.0)).collect();
        let b: Vec<f64> = (0..n).map(|i| 2.0 * ((i * 3 % 7) as f64 - 3.0)).collect();
        vec![
            Distortion::None,
            Distortion::Polynomial(PolynomialDistortion::new(4, 1000.0, a, b).unwrap()),
            Distortion::Radial(
                RadialDistortion::new([-0.05, 0.01, 0.002, 0.0], [1e-3, -5e-4], 1000.0).unwrap(),
            ),
        ]
    }

    proptest! {
        #[test]
        fn distort_inverts_undistort(x in -1000.0..1000.0, y in -1000.0..1000.0) {
            for model in models() {
                let back = model.distort(model.undistort([x, y])).unwrap();
                prop_assert!((back[0] - x).hypot(back[1] - y) < 1e-10, "{model:?}");
            }
        }

        #[test]
        fn jacobian_is_the_derivative(x in -1000.0..1000.0, y in -1000.0..1000.0) {
            let h = 1e-3;
            for model in models() {
                let (at, j) = model.undistort_with_jacobian([x, y]);
                prop_assert_eq!(at, model.undistort([x, y]));
                for (k, (dx, dy)) in [(h, 0.0), (0.0, h)].into_iter().enumerate() {
                    let (p, m) = (model.undistort([x + dx, y + dy]), model.undistort([x - dx, y - dy]));
                    for i in 0..2 {
                        prop_assert!((j[i][k] - (p[i] - m[i]) / (2.0 * h)).abs() < 1e-7);
                    }
                }
            }
        }

        #[test]
        fn no_input_hangs_or_panics(x in prop::num::f64::ANY, y in prop::num::f64::ANY) {
            for model in models() {
                let _ = model.distort([x, y]);
            }
        }
    }

    #[test]
    fn a_fold_is_not_visible() {
        // u = x (1 - 0.5 x²/s²) never exceeds 0.544 s.
        let model =
            Distortion::Radial(RadialDistortion::new([-0.5, 0.0, 0.0, 0.0], [0.0; 2], 1000.0).unwrap());
        assert_eq!(model.distort([800.0, 0.0]), None);
        assert!(model.distort([500.0, 0.0]).is_some());
    }
}
