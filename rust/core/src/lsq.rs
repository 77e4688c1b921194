//! Non-linear least squares, once for the whole crate: Levenberg-Marquardt on normal equations.
//!
//! A [`Problem`] reduces all its data to [`NormalEquations`] about a state, in any way it likes: row by row, in
//! parallel, or as a [`Grouped`] problem, whose groups of data have parameters of their own that are eliminated.
//! [`minimize`] does the rest. The normal equations are scaled to a unit diagonal before they are solved, so parameters
//! may have any units, and a parameter that the data cannot tell from the others does not move (see [`normal`]).
//!
//! A [`Robust`] problem also weights its residuals. A [`RobustFit`] of it alternates weighting and steps, with a loss of
//! the table in [`robust`] at first and clipping at last.
//!
//! Blocks of parameters of which most do not touch are solved by [`sparse`] factors, with what all share in `arrow`.
//! Linear systems of which only products are at hand are solved by conjugate [`gradients`].
//! Systems of two or three unknowns, and the few of a joint fit on one stamp, are solved without allocation in `small`.

pub(crate) mod arrow;
pub mod gradients;
pub mod groups;
mod minimize;
pub mod normal;
mod problem;
mod reweight;
pub mod robust;
pub(crate) mod small;
pub mod sparse;
mod sums;

pub use groups::Grouped;
pub use minimize::{Iteration, Options, Outcome, minimize, minimize_watched};
pub use normal::{Covariance, NormalEquations};
pub use problem::{Problem, System};
pub use reweight::{Robust, RobustFit, RobustOptions, Weighed, Weighting};
pub use robust::Loss;
