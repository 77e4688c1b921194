//! Non-linear least squares for the whole crate: Levenberg-Marquardt on normal equations.
//!
//! A [`Problem`] reduces all its data to [`NormalEquations`] about a state. It may do so row by row, in
//! parallel, or as a [`Grouped`] problem, whose groups of data have separate parameters that are eliminated.
//! [`minimize`] does the rest. The normal equations are scaled to a unit diagonal before they are solved.
//! Therefore parameters may have any units, and a parameter that the data cannot distinguish from the others
//! does not move (see [`normal`]).
//!
//! A [`Robust`] problem also weights its residuals. A [`RobustFit`] of such a problem alternates weighting
//! and steps, first with a loss from [`robust`], then with clipping.
//!
//! Blocks of parameters that mostly do not touch are solved by [`sparse`] factors, together with the
//! parameters that all blocks share in `arrow`. Linear systems whose matrix is only available as a product
//! with a vector are solved by conjugate [`gradients`]. Systems of two or three unknowns, and those of a
//! joint fit on one stamp, are solved without allocation in `small`.

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
