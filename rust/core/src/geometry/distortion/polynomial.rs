//! Polynomial distortion.

use super::{Jacobian, Point};
use crate::error::{Error, Result};

/// Highest supported order: beyond it the terms are no longer independent in double precision.
pub const MAX_ORDER: usize = 9;

/// Exponents (p, q) of x and y in the order in which coefficients are kept:
/// 1, x, y, x², xy, y², x³, … up to total degree `order`.
pub fn exponents(order: usize) -> Vec<(usize, usize)> {
    (0..=order).flat_map(|degree| (0..=degree).map(move |q| (degree - q, q))).collect()
}

/// `u = x + Σ A_pq (x/s)^p (y/s)^q`, `v = y + Σ B_pq (x/s)^p (y/s)^q`, for 0 ≤ p + q ≤ order.
///
/// SIP (Shupe et al. 2005) with normalised coordinates and with the terms of degree 0 and 1 included.
/// Coefficients are in pixels and in the order of [`exponents`].
#[derive(Debug, Clone, PartialEq)]
pub struct PolynomialDistortion {
    order: usize,
    scale: f64,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl PolynomialDistortion {
    /// Makes a distortion from its coefficients.
    ///
    /// Returns an error for an order above [`MAX_ORDER`], a scale that is not positive, a wrong number of
    /// coefficients, or a coefficient that is not finite.
    pub fn new(order: usize, scale: f64, a: Vec<f64>, b: Vec<f64>) -> Result<Self> {
        if order > MAX_ORDER {
            return Err(Error::argument(
                "order",
                format!("{order} is too high"),
                format!("give 0 to {MAX_ORDER}"),
            ));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::argument(
                "scale",
                format!("{scale} is not positive"),
                "give half the image width",
            ));
        }
        let expected = (order + 1) * (order + 2) / 2;
        for (name, coefficients) in [("a_coeffs", &a), ("b_coeffs", &b)] {
            if coefficients.len() != expected {
                return Err(Error::argument(
                    name,
                    format!("{} coefficients for order {order}", coefficients.len()),
                    format!("give {expected}, in the order 1, x, y, x^2, xy, y^2, ..."),
                ));
            }
            if coefficients.iter().any(|c| !c.is_finite()) {
                return Err(Error::argument(name, "a coefficient is not finite", "give finite numbers"));
            }
        }
        Ok(Self { order, scale, a, b })
    }

    /// No distortion, with room for the terms up to `order`.
    pub fn zero(order: usize, scale: f64) -> Result<Self> {
        let n = (order + 1) * (order + 2) / 2;
        Self::new(order, scale, vec![0.0; n], vec![0.0; n])
    }

    /// The same distortion with room for the terms up to a higher order.
    pub fn raised(&self, order: usize) -> Result<Self> {
        let terms = (order + 1) * (order + 2) / 2;
        let (mut a, mut b) = (self.a.clone(), self.b.clone());
        a.resize(terms.max(a.len()), 0.0);
        b.resize(terms.max(b.len()), 0.0);
        Self::new(order.max(self.order), self.scale, a, b)
    }

    /// The same distortion without the terms above a lower order.
    pub fn lowered(&self, order: usize) -> Result<Self> {
        let terms = (order + 1) * (order + 2) / 2;
        let [a, b] = [&self.a, &self.b].map(|all| all.iter().copied().take(terms).collect());
        Self::new(order.min(self.order), self.scale, a, b)
    }

    /// Total degree of the highest term.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Length s in pixels by which the coordinates are divided.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Coefficients of u, in pixels.
    pub fn a(&self) -> &[f64] {
        &self.a
    }

    /// Coefficients of v, in pixels.
    pub fn b(&self) -> &[f64] {
        &self.b
    }

    pub(super) fn undistort(&self, [x, y]: Point) -> Point {
        let (px, py) = (self.powers(x), self.powers(y));
        let (mut u, mut v, mut k) = (x, y, 0);
        for degree in 0..=self.order {
            for q in 0..=degree {
                let term = px[degree - q] * py[q];
                u += self.a[k] * term;
                v += self.b[k] * term;
                k += 1;
            }
        }
        [u, v]
    }

    pub(super) fn undistort_with_jacobian(&self, [x, y]: Point) -> (Point, Jacobian) {
        let (px, py) = (self.powers(x), self.powers(y));
        let (slopes_x, slopes_y) = (self.slopes(&px), self.slopes(&py));
        let (mut u, mut v, mut k) = (x, y, 0);
        let mut j = [[1.0, 0.0], [0.0, 1.0]];
        for degree in 0..=self.order {
            for q in 0..=degree {
                let p = degree - q;
                let (term, dx, dy) = (px[p] * py[q], slopes_x[p] * py[q], px[p] * slopes_y[q]);
                let (a, b) = (self.a[k], self.b[k]);
                u += a * term;
                v += b * term;
                j[0][0] += a * dx;
                j[0][1] += a * dy;
                j[1][0] += b * dx;
                j[1][1] += b * dy;
                k += 1;
            }
        }
        ([u, v], j)
    }

    fn powers(&self, x: f64) -> [f64; MAX_ORDER + 1] {
        let x = x / self.scale;
        let mut powers = [1.0; MAX_ORDER + 1];
        for i in 1..=self.order {
            powers[i] = powers[i - 1] * x;
        }
        powers
    }

    /// Derivatives of the powers by the coordinate.
    fn slopes(&self, powers: &[f64; MAX_ORDER + 1]) -> [f64; MAX_ORDER + 1] {
        let mut slopes = [0.0; MAX_ORDER + 1];
        for i in 1..=self.order {
            slopes[i] = i as f64 / self.scale * powers[i - 1];
        }
        slopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_by_degree() {
        assert_eq!(exponents(2), [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]);
    }

    #[test]
    fn wrong_input_is_refused() {
        assert!(PolynomialDistortion::zero(MAX_ORDER + 1, 1.0).is_err());
        assert!(PolynomialDistortion::zero(3, 0.0).is_err());
        assert!(PolynomialDistortion::new(1, 1.0, vec![0.0; 3], vec![0.0; 2]).is_err());
        assert!(PolynomialDistortion::new(1, 1.0, vec![f64::NAN; 3], vec![0.0; 3]).is_err());
    }

    #[test]
    fn a_known_value() {
        // u = x + 2 (x/10)(y/10), v = y - (y/10)²
        let a = vec![0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
        let b = vec![0.0, 0.0, 0.0, 0.0, 0.0, -1.0];
        let model = PolynomialDistortion::new(2, 10.0, a, b).unwrap();
        assert_eq!(model.undistort([20.0, 30.0]), [32.0, 21.0]);
    }
}
