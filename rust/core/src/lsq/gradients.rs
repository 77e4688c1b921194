//! Solves symmetric systems whose matrix is never formed, by conjugate gradients (Hestenes & Stiefel 1952).

use nalgebra::DMatrix;

use crate::error::Result;
use crate::monitor::{Monitor, checkpoint};

/// Relative residual, in the norm of the preconditioner, at which the iteration stops, and maximum number of
/// steps.
const RELATIVE_RESIDUAL: f64 = 1e-10;
const MAX_STEPS: usize = 3000;

/// Maximum number of steps for which the spectrum is computed.
const MAX_SPECTRUM: usize = 300;

/// Result of conjugate gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The solution.
    pub x: Vec<f64>,
    /// Length of each step, and the multiple of its direction that the next direction contains.
    steps: Vec<(f64, f64)>,
}

impl Solution {
    /// Largest difference from 1 of the eigenvalues of A times the approximate inverse, as far as the steps
    /// have found them.
    ///
    /// The eigenvalues are those of the tridiagonal matrix of Lanczos (Golub & Van Loan 2013, section 11.3).
    /// Infinite after many steps.
    pub fn spread(&self) -> f64 {
        let (n, steps) = (self.steps.len(), &self.steps);
        if n == 0 {
            return 0.0;
        }
        if n > MAX_SPECTRUM {
            return f64::INFINITY;
        }
        let element = |i: usize, j: usize| match (i.min(j), i.abs_diff(j)) {
            (0, 0) => steps[0].0.recip(),
            (i, 0) => steps[i].0.recip() + steps[i - 1].1 / steps[i - 1].0,
            (i, 1) => steps[i].1.sqrt() / steps[i].0,
            _ => 0.0,
        };
        let values = DMatrix::from_fn(n, n, element).symmetric_eigenvalues();
        values.iter().map(|value| (value - 1.0).abs()).fold(0.0, f64::max)
    }
}

/// Solves `A x = right` without forming A.
///
/// `multiply` writes the product of A with a vector; `precondition` returns the product of an approximate
/// inverse with a vector.
///
/// A may be singular when `right` is in its range.
///
/// # Errors
/// If the monitor stops the iteration.
pub fn conjugate_gradients(
    right: Vec<f64>,
    mut multiply: impl FnMut(&[f64], &mut [f64]),
    precondition: impl Fn(&[f64]) -> Vec<f64>,
    monitor: &dyn Monitor,
) -> Result<Solution> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut x = vec![0.0; right.len()];
    let mut image = vec![0.0; right.len()];
    let mut r = right;
    let mut z = precondition(&r);
    let mut direction = z.clone();
    let mut rz = dot(&r, &z);
    let mut steps = Vec::new();
    let stop = rz * RELATIVE_RESIDUAL * RELATIVE_RESIDUAL;
    for step in 0..MAX_STEPS {
        if rz <= stop {
            break;
        }
        checkpoint(monitor)?;
        monitor.progress(step as f64 / MAX_STEPS as f64);
        multiply(&direction, &mut image);
        let curvature = dot(&direction, &image);
        if curvature <= 0.0 {
            break;
        }
        let length = rz / curvature;
        for i in 0..x.len() {
            x[i] += length * direction[i];
            r[i] -= length * image[i];
        }
        z = precondition(&r);
        let next = dot(&r, &z);
        for i in 0..x.len() {
            direction[i] = z[i] + next / rz * direction[i];
        }
        steps.push((length, next / rz));
        rz = next;
    }
    Ok(Solution { x, steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second differences, with 0.01 added to the diagonal.
    fn multiply(x: &[f64], out: &mut [f64]) {
        for i in 0..x.len() {
            let before = if i > 0 { x[i - 1] } else { 0.0 };
            let after = x.get(i + 1).copied().unwrap_or(0.0);
            out[i] = 2.01 * x[i] - before - after;
        }
    }

    #[test]
    fn solutions_fulfil_the_equations() {
        let right: Vec<f64> = (0..200).map(|i| f64::from(i % 7) - 3.0).collect();
        let half = |r: &[f64]| r.iter().map(|r| r / 2.01).collect();
        let found = conjugate_gradients(right.clone(), multiply, half, &()).unwrap();
        let mut image = vec![0.0; right.len()];
        multiply(&found.x, &mut image);
        assert!(image.iter().zip(&right).all(|(a, b)| (a - b).abs() < 1e-8));
        // Eigenvalues are 2.01 - 2 cos(k π / 201), k = 1 ... 200.
        let largest = 2.0 * (std::f64::consts::PI / 201.0).cos() / 2.01;
        assert!((found.spread() / largest - 1.0).abs() < 1e-3);
    }

    #[test]
    fn nothing_is_the_solution_of_nothing() {
        let same = |r: &[f64]| r.to_vec();
        let found = conjugate_gradients(vec![0.0; 5], multiply, same, &()).unwrap();
        assert_eq!((found.spread(), found.x), (0.0, vec![0.0; 5]));
    }
}
