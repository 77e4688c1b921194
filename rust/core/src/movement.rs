//! Movement of a camera between two images of the same scene.
//!
//! [`fit`] finds the [`Transform`] between pairs of points, some of which may be wrong.
//!
//! Here pixels are those of arrays, (column, row) counted from the centre of the first pixel, since nothing depends on
//! where an image's centre is.

mod consensus;
mod fit;
mod transform;

pub use fit::{Fit, FitOptions, fit};
pub use transform::{Kind, Transform};
