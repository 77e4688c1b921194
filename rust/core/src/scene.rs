//! Images fitted by their pixels, together, with their WCS as part of the model.
//!
//! A [`Scene`] has images of sources that all images share: stars and galaxies with a position on the sky, and a flux in
//! every image. Each image
//! has a point-spread function ([`profile`]), a WCS with some [`Freedom`], and a sky. [`fit`](fit::fit) finds all of them
//! by Levenberg-Marquardt on sparse normal equations: sources that overlap are blocks of neighbours, and what is shared
//! (PSF, WCS, sky) is a border that they are eliminated into.
//!
//! 1. Fluxes are linear: they come first, for some widths of the PSF, of which the best is the start.
//! 2. Images whose WCS is free are moved to where the light of the sources is (`search`).
//! 3. Sources are fitted on the images that are fixed, then the free images with sources held, then all.
//! 4. The few sources that do not come to rest with all others (`clusters`) are fitted in turn with these.
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

/// Light below the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sky {
    /// None.
    #[default]
    None,
    /// The same in all pixels.
    Constant,
    /// A plane.
    Plane,
}

/// Which pixels are fitted.
#[derive(Debug, Clone, PartialEq)]
pub enum Windows {
    /// A square about every source as wide as its light.
    Chosen,
    /// A square about every source of so many pixels a side.
    Side(usize),
    /// One window.
    One(Window),
    /// One for every source; `None` where it has none.
    Each(Vec<Option<Window>>),
}

/// A point-spread function with its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Psf {
    /// Where it starts; of one that is sampled the Gaussian that is as high.
    pub profile: Profile,
    /// Which of its parameters are fitted.
    pub free: [bool; PARAMETERS],
    /// Its samples, if it is given by them.
    pub sampled: Option<Arc<Sampled>>,
}

impl Psf {
    /// One that is given by samples, of which nothing is free.
    pub fn sampled(sampled: Sampled) -> Self {
        let sigma = (std::f64::consts::TAU * sampled.peak()).sqrt().recip();
        let profile = Profile { kind: Kind::Gaussian, parameters: [sigma.ln(), 0.0, 0.0, 0.0] };
        Self { profile, free: [false; PARAMETERS], sampled: Some(Arc::new(sampled)) }
    }
}

/// Number of a motion's parameters: proper motion along right ascension and declination (mas a year), parallax (mas); each
/// counted from what is known.
pub const MOTION: usize = 3;

/// A source that all images share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// About where it is, on any plane: neighbours are near.
    pub point: [f64; 2],
    /// Standard errors of the position where it starts, arcsec, if that is known; 0 of one that does not move.
    pub prior: Option<[f64; 2]>,
    /// Standard errors of what is known of its motion, if that is fitted: infinite of what is not known, 0 of what is held.
    pub motion: Option<[f64; MOTION]>,
    /// Its colour, from that of which the light is not shifted.
    pub color: f64,
    /// Its shape, if it is a galaxy; else it is a star.
    pub shape: Option<Sersic>,
}

/// An image of a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct SceneImage<'a> {
    /// Pixels, row after row; what is not finite does not count.
    pub data: &'a [f64],
    /// Their variance; where it is not finite the pixel does not count.
    pub variance: &'a [f64],
    /// Columns and rows.
    pub size: [usize; 2],
    /// Movements that are fitted.
    pub freedom: Freedom,
    /// CD matrix, arcsec per pixel.
    pub cd: [[f64; 2]; 2],
    /// Where each source is; `None` where the image does not see it.
    pub places: Vec<Option<Place>>,
    /// Of each source the displacement, arcsec, by a unit of each parameter of its motion; none if no motion is fitted.
    pub tracks: Vec<[[f64; 2]; MOTION]>,
    /// Number of the shift by which its sources are moved for their colour, which images of a band share; `None` without.
    pub chromatic: Option<usize>,
    /// Number of its point-spread function.
    pub psf: usize,
    /// Light below the sources.
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
