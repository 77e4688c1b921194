//! Solve frames of the sky blind, and calibrate the camera from many of them.
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod catalog;
pub mod database;
pub mod error;
pub mod geometry;
pub mod imaging;
pub mod index;
pub mod lsq;
pub mod matches;
pub mod monitor;
pub mod pattern;
mod simd;
pub mod solve;

pub use catalog::Catalog;
pub use database::Database;
pub use error::{Error, Result};
pub use geometry::apparent::ApparentPlace;
pub use geometry::attitude::Attitude;
pub use geometry::camera::CameraModel;
pub use geometry::distortion::Distortion;
pub use geometry::projection::Projection;
pub use matches::MatchedStars;
pub use monitor::Monitor;
