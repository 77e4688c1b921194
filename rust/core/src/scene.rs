//! Joint fit of the pixels of several images, with their WCS as part of the model.
//!
//! A [`Scene`] consists of images of the same sources: stars and galaxies with a position on the sky and a
//! flux in every image. Each image has a point-spread function ([`profile`]), a WCS with some [`Freedom`],
//! and a sky. [`fit`](fit::fit) determines all of them by Levenberg-Marquardt on sparse normal equations.
//! Each source is a block of the matrix, coupled to the blocks of overlapping sources. The shared parameters
//! (PSF, WCS, sky) form its border; the sources are eliminated first.
//!
//! 1. Fluxes are linear: they are fitted first, for several widths of the PSF. The best width is the start.
//! 2. Images with a free WCS are moved to the light of the sources (`search`).
//! 3. Sources are fitted on the fixed images, then the free images with the sources held, then everything.
//! 4. The few sources that do not converge with all others (`clusters`) are fitted in turn with these.
//!
//! [`register`](register::register) aligns two images by the agreement of their pixels, without sources.

mod clusters;
mod convolved;
mod extent;
pub mod fit;
pub mod freedom;
pub mod galaxy;
mod layout;
mod mixture;
mod place;
mod problem;
mod products;
pub mod profile;
mod quadrature;
mod region;
pub mod register;
pub mod sampled;
mod search;
mod stage;
mod summary;

use std::sync::Arc;

use self::freedom::Freedom;
pub use self::galaxy::Sersic;
pub use self::layout::Layout;
pub use self::place::Place;
use self::profile::{Kind, PARAMETERS, Profile};
pub use self::region::Window;
use self::sampled::Sampled;

/// Model of the light below the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sky {
    /// No light.
    #[default]
    None,
    /// The same value in all pixels.
    Constant,
    /// A plane over the image.
    Plane,
}

/// Which pixels are fitted.
#[derive(Debug, Clone, PartialEq)]
pub enum Windows {
    /// A square around every source, as wide as its light.
    Chosen,
    /// A square around every source, with this number of pixels a side.
    Side(usize),
    /// A single window for all sources.
    One(Window),
    /// One window for every source; `None` for a source without a window.
    Each(Vec<Option<Window>>),
}

/// A point-spread function with its starting values.
#[derive(Debug, Clone, PartialEq)]
pub struct Psf {
    /// Starting profile; for a sampled PSF, the Gaussian with the same peak.
    pub profile: Profile,
    /// Whether each parameter is fitted.
    pub free: [bool; PARAMETERS],
    /// Samples of the PSF, if it is given by samples.
    pub sampled: Option<Arc<Sampled>>,
}

impl Psf {
    /// A PSF given by samples, without free parameters.
    pub fn sampled(sampled: Sampled) -> Self {
        let sigma = (std::f64::consts::TAU * sampled.peak()).sqrt().recip();
        let profile = Profile { kind: Kind::Gaussian, parameters: [sigma.ln(), 0.0, 0.0, 0.0] };
        Self { profile, free: [false; PARAMETERS], sampled: Some(Arc::new(sampled)) }
    }
}

/// Number of parameters of a motion: proper motion along right ascension and declination (mas a year) and
/// parallax (mas), each relative to its known value.
pub const MOTION: usize = 3;

/// A source that all images share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// Approximate position in any plane in which neighbours are near each other.
    pub point: [f64; 2],
    /// Standard errors of the starting position, arcsec, if known; 0 for a source that does not move.
    pub prior: Option<[f64; 2]>,
    /// Standard errors of the known motion, if a motion is fitted: infinite for unknown parameters, 0 for
    /// held ones.
    pub motion: Option<[f64; MOTION]>,
    /// Colour relative to the colour at which light is not shifted.
    pub color: f64,
    /// Shape of a galaxy; `None` for a star.
    pub shape: Option<Sersic>,
}

/// An image of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneImage<'a> {
    /// Pixels, row after row; pixels that are not finite are excluded.
    pub data: &'a [f64],
    /// Variance of the pixels; pixels whose variance is not finite are excluded.
    pub variance: &'a [f64],
    /// Columns and rows.
    pub size: [usize; 2],
    /// Movements of the WCS that are fitted.
    pub freedom: Freedom,
    /// CD matrix, arcsec per pixel.
    pub cd: [[f64; 2]; 2],
    /// Position of each source; `None` if the image does not see the source.
    pub places: Vec<Option<Place>>,
    /// Displacement of each source, arcsec, per unit of each parameter of its motion; empty if no motion is
    /// fitted.
    pub tracks: Vec<[[f64; 2]; MOTION]>,
    /// Index of the shift of sources by their colour, which images of a band share; `None` without such a
    /// shift.
    pub chromatic: Option<usize>,
    /// Index of the image's point-spread function.
    pub psf: usize,
    /// Model of the light below the sources.
    pub sky: Sky,
    /// Pixels that are fitted.
    pub windows: Windows,
}

/// Images of the same sources.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene<'a> {
    /// The images.
    pub images: Vec<SceneImage<'a>>,
    /// The point-spread functions.
    pub psfs: Vec<Psf>,
    /// The sources.
    pub sources: Vec<Source>,
}

#[cfg(test)]
mod tests;
