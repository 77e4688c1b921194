//! Solve frames of the sky blind, calibrate the camera from many of them, align them, notice when it moves.
#![forbid(unsafe_code)]

pub mod attitude;
pub mod background;
pub mod camera;
pub mod centroid;
mod detect;
pub mod distortion;
pub mod error;
pub mod extract;
pub mod image;
mod lanes;
mod psf;
pub mod sphere;
mod stamp;

pub use attitude::Attitude;
pub use camera::CameraModel;
pub use distortion::Distortion;
pub use error::{Error, Monitor, Result};
