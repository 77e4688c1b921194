//! Conjugate gradients (Hestenes & Stiefel 1952): symmetric systems whose matrix is never formed.

use crate::error::Result;
use crate::monitor::{Monitor, checkpoint};

/// Relative residual, in the norm of the preconditioner, at which they stop, and steps at most.
const RELATIVE_RESIDUAL: f64 = 1e-10;
const MAX_STEPS: usize = 3000;

/// Solves `A x = right`: `multiply` writes the product of A with a vector, `precondition` gives that of an approximate
/// inverse.
///
/// A may be singular when `right` is in its range.
///
/// # Errors
/// When the monitor stops it.
pub fn conjugate_gradients(
    right: Vec<f64>,
    mut multiply: impl FnMut(&[f64], &mut [f64]),
    precondition: impl Fn(&[f64]) -> Vec<f64>,
    monitor: &dyn Monitor,
) -> Result<Vec<f64>> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let mut x = vec![0.0; right.len()];
    let mut image = vec![0.0; right.len()];
    let mut r = right;
    let mut z = precondition(&r);
    let mut direction = z.clone();
    let mut rz = dot(&r, &z);
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
        rz = next;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second differences with a little on the diagonal.
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
        let x = conjugate_gradients(right.clone(), multiply, half, &()).unwrap();
        let mut image = vec![0.0; right.len()];
        multiply(&x, &mut image);
        assert!(image.iter().zip(&right).all(|(a, b)| (a - b).abs() < 1e-8));
    }

    #[test]
    fn nothing_is_the_solution_of_nothing() {
        let same = |r: &[f64]| r.to_vec();
        assert_eq!(conjugate_gradients(vec![0.0; 5], multiply, same, &()).unwrap(), vec![0.0; 5]);
    }
}
