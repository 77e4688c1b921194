//! Solves frames of the sky blind, and calibrates the camera from many of them.
//!
//! Six types carry the whole chain:
//!
//! | type | |
//! |---|---|
//! | [`Catalog`] | stars in columns; [`Catalog::hipparcos`] is compiled in |
//! | [`Database`] | star patterns, made once for a range of fields of view, searched for every frame |
//! | [`CameraModel`] | pixel ↔ direction in the camera: focal length, projection, distortion |
//! | [`Attitude`] | the rotation from ICRS to the camera: direction in the sky ↔ direction in the camera |
//! | [`Solution`] | one solved frame: its attitude, its camera, its matched stars |
//! | [`CalibrationResult`] | one camera model from many solved frames, with its covariance |
//!
//! [`imaging::extract`] finds the stars of a frame, [`solve::solve`] finds where the frame looks, and
//! [`calibrate::calibrate`] finds the camera. Pixels are counted from the centre of the image, +x to the right and +y to
//! larger rows; angles are radians, directions are unit vectors in ICRS. Long work takes a [`Monitor`] that shows its
//! progress and can stop it; `&()` does neither.
//!
//! # Example
//!
//! Four frames of one camera, whose distortion is not known: solve each, then calibrate the camera with all of them.
//!
//! ```
//! use boresight::calibrate::{Model, Options, calibrate};
//! use boresight::database::Parameters;
//! use boresight::geometry::distortion::{Distortion, RadialDistortion};
//! use boresight::solve::{Solution, SolveOptions, solve};
//! use boresight::{Attitude, CameraModel, Catalog, Database, MatchedStars};
//!
//! # fn main() -> boresight::Result<()> {
//! let fov = 12_f64.to_radians();
//! let parameters = Parameters { max_fov: fov, ..Parameters::default() };
//! let database = Database::generate(&Catalog::hipparcos(), &parameters, &())?;
//!
//! // The true camera, and the brightest stars of each frame as it sees them.
//! let lens = RadialDistortion::new([-0.005, 0.0, 0.0, 0.0], [0.0; 2], 512.0)?;
//! let truth = CameraModel::from_fov(fov, [1024, 1024])?.with_distortion(Distortion::Radial(lens));
//! let observe = |attitude: &Attitude| -> Vec<[f64; 2]> {
//!     let stars = database.directions().iter();
//!     stars
//!         .filter_map(|&star| truth.direction_to_pixel(&attitude.to_camera(&star.into())))
//!         .filter(|&pixel| truth.contains(pixel))
//!         .take(80)
//!         .collect()
//! };
//! let attitudes = [0.0, 0.8, 1.6, 2.4].map(|angle| Attitude::from_pointing(angle, angle - 1.2, angle));
//! let frames = attitudes.map(|attitude| observe(&attitude));
//!
//! // Solve: nothing is known but the size of the image and about the field of view.
//! let guess = CameraModel::from_fov(fov, [1024, 1024])?;
//! let options = SolveOptions { fov_estimate: Some(0.95 * fov), ..SolveOptions::new(guess) };
//! let mut solved: Vec<Solution> = Vec::new();
//! for pixels in &frames {
//!     solved.push(solve(&database, pixels, &options, &())?.solution.expect("these frames solve"));
//! }
//!
//! // Calibrate: one camera for all frames.
//! let matches: Vec<&MatchedStars> = solved.iter().map(|solution| &solution.matches).collect();
//! let options = Options { model: Model::Radial, ..Options::default() };
//! let calibration = calibrate(&matches, None, &options, None, &())?;
//!
//! let error = calibration.camera.focal_length_px() / truth.focal_length_px() - 1.0;
//! assert!(error.abs() < 1e-6);
//! assert!(calibration.rmse_after_px < 1e-3);
//! for (frame, attitude) in calibration.frames.iter().zip(&attitudes) {
//!     assert!(frame.attitude.angle_to(attitude).to_degrees() < 1e-5);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/solve.rs` starts from the pixels of an image; `examples/calibrate.rs` has noise and false
//! detections.
#![forbid(unsafe_code)]

pub mod align;
pub mod calibrate;
pub mod catalog;
pub mod database;
pub mod error;
pub mod geometry;
pub mod imaging;
pub mod index;
pub mod lsq;
pub mod matches;
pub mod memory;
pub mod monitor;
pub mod movement;
pub mod pattern;
pub mod scene;
mod simd;
pub mod solve;

pub use calibrate::CalibrationResult;
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
pub use solve::Solution;

/// The examples of the README run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
