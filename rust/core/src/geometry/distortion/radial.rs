//! Radial and decentring distortion.

use super::{Jacobian, Point};
use crate::error::{Error, Result};

/// Brown's model (1966) about the optical centre, in the direction pixel → ideal, with a fourth radial term
/// for optical axes far off the detector.
///
/// With ρ² = (x² + y²)/s², X = x/s, Y = y/s:
/// `u = x (1 + k₁ρ² + k₂ρ⁴ + k₃ρ⁶ + k₄ρ⁸) + s (2 p₁XY + p₂(ρ² + 2X²))`,
/// `v = y (1 + k₁ρ² + k₂ρ⁴ + k₃ρ⁶ + k₄ρ⁸) + s (p₁(ρ² + 2Y²) + 2 p₂XY)`.
#[derive(Debug, Clone, PartialEq)]
pub struct RadialDistortion {
    k: [f64; 4],
    p: [f64; 2],
    scale: f64,
}

impl RadialDistortion {
    /// Makes a distortion from its coefficients; an error if they are not finite or the scale is not
    /// positive.
    pub fn new(k: [f64; 4], p: [f64; 2], scale: f64) -> Result<Self> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::argument(
                "scale",
                format!("{scale} is not positive"),
                "give half the image width",
            ));
        }
        if k.iter().chain(&p).any(|c| !c.is_finite()) {
            return Err(Error::argument("k, p", "a coefficient is not finite", "give finite numbers"));
        }
        Ok(Self { k, p, scale })
    }

    /// Radial coefficients k₁ to k₄.
    pub fn k(&self) -> [f64; 4] {
        self.k
    }

    /// Decentring coefficients p₁, p₂.
    pub fn p(&self) -> [f64; 2] {
        self.p
    }

    /// Length s in pixels by which the coordinates are divided.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    pub(super) fn undistort(&self, pixel: Point) -> Point {
        let (x, y) = (pixel[0] / self.scale, pixel[1] / self.scale);
        let r2 = x * x + y * y;
        let [k1, k2, k3, k4] = self.k;
        let [p1, p2] = self.p;
        let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)));
        let du = 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x);
        let dv = p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y;
        [self.scale * (x * radial + du), self.scale * (y * radial + dv)]
    }

    pub(super) fn undistort_with_jacobian(&self, pixel: Point) -> (Point, Jacobian) {
        let (x, y) = (pixel[0] / self.scale, pixel[1] / self.scale);
        let r2 = x * x + y * y;
        let [k1, k2, k3, k4] = self.k;
        let [p1, p2] = self.p;
        let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)));
        let slope = 2.0 * (k1 + r2 * (2.0 * k2 + r2 * (3.0 * k3 + r2 * 4.0 * k4))); // d(radial)/dx = slope x
        let cross = x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y;
        let jacobian = [
            [radial + x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x, cross],
            [cross, radial + y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x],
        ];
        (self.undistort(pixel), jacobian)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_value() {
        let model = RadialDistortion::new([0.1, 0.0, 0.0, 0.0], [0.0, 0.0], 10.0).unwrap();
        assert_eq!(model.undistort([10.0, 0.0]), [11.0, 0.0]);
    }

    #[test]
    fn wrong_input_is_refused() {
        assert!(RadialDistortion::new([f64::INFINITY, 0.0, 0.0, 0.0], [0.0; 2], 1.0).is_err());
        assert!(RadialDistortion::new([0.0; 4], [0.0; 2], -1.0).is_err());
    }
}
