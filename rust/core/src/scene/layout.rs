//! Layout of the state: the index of each parameter of a scene.

use nalgebra::DVector;

use super::freedom::Affine;
use super::galaxy::{Outline, PARAMETERS_OF_GALAXY};
use super::place::{Projected, Wcs};
use super::profile::{PARAMETERS, Profile};
use super::{MOTION, Scene, Sky};
use crate::lsq::small::Matrix2;

/// The state: all parameters of a scene in the order of its layout.
pub(super) type State = DVector<f64>;

/// Indices of the parameters of a scene in its state: source after source, then the shared parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// First parameter of each source: its position, its motion if fitted, its flux in each image that sees
    /// it, and its shape if it is a galaxy.
    pub sources: Vec<usize>,
    /// Number of parameters of each source.
    pub sizes: Vec<usize>,
    /// Index of the flux, by image and source; `None` if the image does not see the source.
    pub fluxes: Vec<Vec<Option<usize>>>,
    /// First parameter of each galaxy's shape: ρ, e1, e2, ν.
    pub shapes: Vec<Option<usize>>,
    /// First parameter of each fitted motion: proper motion along right ascension and declination, parallax.
    pub motions: Vec<Option<usize>>,
    /// First shared parameter.
    pub shared: usize,
    /// First parameter of each PSF: ρ, e1, e2, ν.
    pub psfs: Vec<usize>,
    /// First parameter of each image's WCS.
    pub wcs: Vec<usize>,
    /// First parameter of each image's sky.
    pub skies: Vec<usize>,
    /// First parameter of each image's shift per unit of colour, if fitted; images may share it.
    pub chromatic: Vec<Option<usize>>,
    /// Number of all parameters.
    pub total: usize,
}

impl Layout {
    /// Layout of a scene.
    pub(super) fn new(scene: &Scene<'_>) -> Self {
        let (mut at, mut sources, mut sizes) = (0, Vec::new(), Vec::new());
        let (mut shapes, mut motions) = (Vec::new(), Vec::new());
        let mut fluxes = vec![vec![None; scene.sources.len()]; scene.images.len()];
        for source in 0..scene.sources.len() {
            sources.push(at);
            at += 2;
            let motion = scene.sources[source].motion.map(|_| at);
            at += motion.map_or(0, |_| MOTION);
            motions.push(motion);
            for (image, fluxes) in scene.images.iter().zip(&mut fluxes) {
                if image.places[source].is_some() {
                    fluxes[source] = Some(at);
                    at += 1;
                }
            }
            let shape = scene.sources[source].shape.map(|_| at);
            at += shape.map_or(0, |_| PARAMETERS_OF_GALAXY);
            shapes.push(shape);
            sizes.push(at - sources[source]);
        }
        let shared = at;
        let mut next = |count: usize| {
            let first = at;
            at += count;
            first
        };
        let psfs = scene.psfs.iter().map(|_| next(PARAMETERS)).collect();
        let wcs = scene.images.iter().map(|image| next(image.freedom.parameters())).collect();
        let skies = scene.images.iter().map(|image| next(image.sky.terms())).collect();
        let mut shifts = std::collections::BTreeMap::new();
        let mut shift = |number: usize| *shifts.entry(number).or_insert_with(|| next(2));
        let chromatic = scene.images.iter().map(|image| image.chromatic.map(&mut shift)).collect();
        Self { sources, sizes, fluxes, shapes, motions, shared, psfs, wcs, skies, chromatic, total: at }
    }

    /// State at which a fit starts: nothing is moved, all fluxes and skies are 0.
    pub(super) fn start(&self, scene: &Scene<'_>) -> Vec<f64> {
        let mut state = vec![0.0; self.total];
        for (psf, &at) in scene.psfs.iter().zip(&self.psfs) {
            state[at..at + PARAMETERS].copy_from_slice(&psf.profile.parameters);
        }
        for (source, at) in scene.sources.iter().zip(&self.shapes) {
            if let (Some(shape), Some(at)) = (source.shape, *at) {
                state[at..at + PARAMETERS_OF_GALAXY].copy_from_slice(&shape.parameters);
            }
        }
        for (image, &at) in scene.images.iter().zip(&self.wcs) {
            let start = Affine::start(image.freedom);
            state[at..at + start.len()].copy_from_slice(&start);
        }
        state
    }

    /// The profile of a PSF.
    pub(super) fn profile(&self, scene: &Scene<'_>, psf: usize, state: &[f64]) -> Profile {
        let at = self.psfs[psf];
        let parameters = std::array::from_fn(|i| state[at + i]);
        Profile { parameters, ..scene.psfs[psf].profile }
    }

    /// All parameters of a source except its fluxes.
    pub(super) fn place_and_shape(&self, source: usize) -> impl Iterator<Item = usize> {
        let first = self.sources[source];
        let motion = self.motions[source].map_or(0..0, |at| at..at + MOTION);
        let shape = self.shapes[source].map_or(0..0, |at| at..at + PARAMETERS_OF_GALAXY);
        (first..first + 2).chain(motion).chain(shape)
    }

    /// Displacement of a source in an image from its starting position, arcsec, by its position, its motion
    /// and its colour.
    fn moved(&self, scene: &Scene<'_>, image: usize, source: usize, state: &[f64]) -> [f64; 2] {
        let (of, first) = (&scene.images[image], self.sources[source]);
        let mut moved = [state[first], state[first + 1]];
        if let (Some(at), Some(track)) = (self.motions[source], of.tracks.get(source)) {
            for (k, by) in track.iter().enumerate() {
                moved = [0, 1].map(|axis| moved[axis] + state[at + k] * by[axis]);
            }
        }
        if let Some(at) = self.chromatic[image] {
            moved = [0, 1].map(|axis| moved[axis] + state[at + axis] * scene.sources[source].color);
        }
        moved
    }

    /// The pixel of a source in an image that sees it, with derivatives.
    pub(super) fn seen(
        &self,
        scene: &Scene<'_>,
        image: usize,
        source: usize,
        state: &[f64],
    ) -> Option<Projected> {
        let place = scene.images[image].places[source].as_ref()?;
        Some(place.seen(self.moved(scene, image, source, state), &self.wcs_of(scene, image, state)))
    }

    /// Shape of a galaxy in an image; `None` for a star.
    pub(super) fn outline(&self, source: usize, seen: &Projected, state: &[f64]) -> Option<Outline> {
        let at = self.shapes[source]?;
        Some(Outline::new(std::array::from_fn(|k| state[at + k]), seen.by_source))
    }

    /// Derivatives of the rotation and stretch of a source by the parameters of an image's WCS.
    pub(super) fn turns(
        &self,
        scene: &Scene<'_>,
        image: usize,
        source: usize,
        state: &[f64],
    ) -> Vec<Matrix2> {
        let place = scene.images[image].places[source].as_ref();
        place.map_or_else(Vec::new, |place| place.by_source_by_wcs(&self.wcs_of(scene, image, state)))
    }

    /// The WCS of an image at a state.
    pub(super) fn wcs_of<'s>(&self, scene: &Scene<'_>, image: usize, state: &'s [f64]) -> Wcs<'s> {
        let (first, of) = (self.wcs[image], &scene.images[image]);
        let parameters = &state[first..first + of.freedom.parameters()];
        Wcs { freedom: of.freedom, cd: of.cd, parameters }
    }

    /// Light of an image's sky at a pixel.
    pub(super) fn sky(&self, scene: &Scene<'_>, image: usize, state: &[f64], pixel: [f64; 2]) -> f64 {
        let terms = sky_terms(scene.images[image].size, pixel);
        let at = self.skies[image];
        (0..scene.images[image].sky.terms()).map(|k| state[at + k] * terms[k]).sum()
    }
}

/// Factors of the parameters of a sky at a pixel: 1, and x and y scaled to -1/2 to 1/2 over the image.
pub(super) fn sky_terms([width, height]: [usize; 2], [x, y]: [f64; 2]) -> [f64; 3] {
    let over = |v: f64, side: usize| (v - 0.5 * (side as f64 - 1.0)) / side as f64;
    [1.0, over(x, width), over(y, height)]
}

impl Sky {
    /// Number of parameters.
    pub fn terms(self) -> usize {
        match self {
            Self::None => 0,
            Self::Constant => 1,
            Self::Plane => 3,
        }
    }
}
