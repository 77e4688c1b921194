//! Alignment of star lists: pairs the stars of one list with those of another and fits the transformation
//! between the lists.
//!
//! [`match_lists`] needs no initial transformation: patterns of neighbouring stars propose transformations
//! ([`patterns`]), and each proposal is extended from its pattern to the whole of both lists until chance is
//! ruled out ([`growth`]). [`register()`] starts from the histogram of differences ([`offset`]) or from
//! patterns, and fits a transformation to the pairs ([`linear`]). [`joint`] fits all exposures at once, with
//! the positions and motions of the [`objects`] and the distortion of the [`device`]. [`footprint`] computes
//! which images overlap on the sky.

pub mod closure;
pub mod device;
pub mod footprint;
pub mod growth;
pub mod joint;
pub mod linear;
pub mod matching;
pub mod objects;
pub mod offset;
pub mod patterns;
pub mod plane;
pub mod register;
pub mod similarity;

pub use device::Device;
pub use footprint::Footprint;
pub use joint::{JointProblem, JointSolution};
pub use linear::{ClipStatistic, Clipping, Geometry, LinearFit, fit_linear};
pub use matching::{ListMatch, MatchOptions, match_lists};
pub use objects::Detection;
pub use register::{Ending, RegisterOptions, Registration, Sources, Start, join, register};
pub use similarity::Similarity;

/// Pseudo-random numbers for tests.
#[cfg(test)]
pub(crate) mod testing {
    /// Returns a pseudo-random number from 0 to 1 for an index (Steele, Lea & Flood 2014).
    pub(crate) fn random(index: u64) -> f64 {
        let mut x = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
