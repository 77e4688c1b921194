//! Movement of a camera between two images of the same scene.
//!
//! [`fit`] finds the [`Transform`] between pairs of points, some of which may be wrong. [`phase_candidates`] guesses it
//! from the pixels, and a [`Registrar`] makes a guess exact, or refuses it. [`change`] finds what changed of a calibrated
//! camera by its stars.
//!
//! But for [`change`], pixels are those of arrays, (column, row) counted from the centre of the first pixel, since nothing
//! depends on where an image's centre is.

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
