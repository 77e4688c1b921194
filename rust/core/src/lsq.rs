//! Non-linear least squares, once for the whole crate: Levenberg-Marquardt on normal equations.
//!
//! A [`Problem`] reduces all its data to [`NormalEquations`] about a state, in any way it likes: row by row,
//! in parallel, or with its own nuisance parameters eliminated. [`minimize`] does the rest. The normal
//! equations are scaled to a unit diagonal before they are solved, so parameters may have any units, and a
//! parameter that the data cannot tell from the others does not move (see [`normal`]).

mod minimize;
pub mod normal;
mod problem;
pub mod robust;

pub use minimize::{Options, Outcome, minimize};
pub use normal::{Covariance, NormalEquations};
pub use problem::Problem;
pub use robust::Loss;
