//! Points spread evenly over the sphere.

use std::f64::consts::{PI, TAU};

use crate::geometry::sphere::Direction;

/// Point `i` of `n` spread evenly over the sphere on a Fibonacci spiral (Swinbank & Purser 2006).
pub(crate) fn lattice_point(i: usize, n: usize) -> Direction {
    let z = 1.0 - (2 * i + 1) as f64 / n as f64;
    let (sin, cos) = lattice_ra(i).sin_cos();
    let r = (1.0 - z * z).sqrt();
    Direction::new(r * cos, r * sin, z)
}

/// Right ascension of point `i` of a lattice, radians from 0.
pub(super) fn lattice_ra(i: usize) -> f64 {
    let golden_angle = PI * (3.0 - 5.0_f64.sqrt());
    golden_angle * i as f64 % TAU
}
