//! Geometry: directions on the sky, attitudes, projections, lenses, and the camera model that combines them.

pub mod apparent;
pub mod attitude;
pub mod camera;
pub mod distortion;
pub mod projection;
pub(crate) mod residual;
pub mod rig;
pub mod sphere;
