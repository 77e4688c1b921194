//! Solve frames of the sky blind, calibrate the camera from many of them, align them, notice when it moves.
#![forbid(unsafe_code)]

pub mod attitude;
pub mod background;
pub mod calibrate;
pub mod camera;
pub mod catalog;
pub mod cells;
pub mod centroid;
pub mod database;
mod detect;
pub mod distortion;
pub mod error;
pub mod extract;
pub mod grid;
pub mod image;
mod lanes;
pub mod lsq;
pub mod pattern;
pub mod projection;
mod psf;
pub mod solve;
pub mod sphere;
mod stamp;

pub use attitude::Attitude;
pub use camera::CameraModel;
pub use catalog::Catalog;
pub use database::Database;
pub use distortion::Distortion;
pub use error::{Error, Monitor, Result};
pub use projection::Projection;
