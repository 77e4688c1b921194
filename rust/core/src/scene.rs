//! Images aligned by their pixels.
//!
//! [`register`](register::register) aligns two images by the agreement of their pixels, without sources.

pub mod freedom;
pub mod register;
