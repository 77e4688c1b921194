//! Image processing: from the pixels of a frame to its stars.
//!
//! The modules measure the background and the noise, detect stars, measure their centroids, and build the
//! point-spread function; [`extract`] runs them in this order. Nothing here depends on where the camera
//! points: no module imports [`geometry`](crate::geometry).

pub mod background;
mod blobs;
pub mod centroid;
mod defects;
mod detect;
pub mod extract;
pub(crate) mod fourier;
pub mod image;
mod pixels;
mod psf;
mod sharp;
pub mod spline;
mod stamp;
mod survey;
pub mod warp;
