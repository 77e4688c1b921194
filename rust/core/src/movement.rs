//! Movement of a camera between two images of the same scene.
//!
//! [`fit`] fits the [`Transform`] between pairs of points, some of which may be wrong. [`phase_candidates`]
//! estimates the transform from the pixels, and a [`Registrar`] refines or rejects such an estimate.
//! [`change`] measures the change of a calibrated camera by its stars.
//!
//! Except in [`change`], pixels are positions in arrays, (column, row) counted from the centre of the first
//! pixel, because nothing depends on where an image's centre is.

pub mod change;
mod consensus;
mod fit;
mod patches;
mod phase;
mod plane;
mod transform;

pub use fit::{Fit, FitOptions, fit};
pub use patches::{Registrar, Registration};
pub use phase::{Candidate, phase_candidates};
pub use plane::Plane;
pub use transform::{Kind, Transform};
