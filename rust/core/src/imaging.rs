//! Pixels: from a frame's image to its stars.
//!
//! Background and noise, detection, centroids, the point-spread function, and [`extract`], which runs them in this order.
//! Nothing here knows where the camera looks: no module of it imports [`geometry`](crate::geometry).

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
