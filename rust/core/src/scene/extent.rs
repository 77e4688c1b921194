//! How far from a source pixels are fitted, and how far its light is drawn.

use super::galaxy::{self, PARAMETERS_OF_GALAXY};
use super::layout::Layout;
use super::profile::Accuracy;
use super::{Scene, SceneImage};

/// Windows end where a source is fainter than this part of the noise of a pixel, and its light at that part: wings of
/// which one pixel tells nothing tell something together. Sources are neighbours if their windows would meet: beyond, the
/// correlation of their parameters is a few hundredths at most.
const WINDOW_NOISE: f64 = 0.05;
const LIGHT_NOISE: f64 = 0.003;
/// Light of a few sources is drawn so much farther: it costs little, and all that is left out changes chi² by less than 0.1.
const LIGHT_NOISE_OF_FEW: f64 = 0.0005;
const FEW: usize = 16;
/// Bounds of half the side of a window: full widths of the PSF, and pixels.
const LEAST_WIDTHS: f64 = 2.5;
pub(super) const LARGEST_HALF: f64 = 64.0;
/// Error of a pixel that is allowed, as a part of its noise.
const PIXEL_NOISE: f64 = 1e-3;
/// Light is drawn at most so far from its source, pixels.
const FARTHEST_LIGHT: f64 = 256.0;

/// How far windows and light reach from a source: pixels, for each image and source.
pub(super) struct Extent {
    /// Half the side of the window where windows are chosen, and of the box on which the source counts for its neighbours.
    pub window: f64,
    /// Half the side of the box on which the source shines.
    pub light: f64,
    /// How exactly its pixels are integrated.
    pub accuracy: Accuracy,
}

/// The light of all sources of a scene.
pub(super) struct Lights<'a> {
    scene: &'a Scene<'a>,
    layout: &'a Layout,
    noise: Vec<f64>,
}

impl<'a> Lights<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, layout: &'a Layout) -> Self {
        Self { scene, layout, noise: noise(scene) }
    }

    /// Where pixels are fitted, and light is drawn.
    pub(super) fn extent(&self, state: &[f64], image: usize, source: usize) -> Extent {
        let psf = self.scene.images[image].psf;
        let least = (LEAST_WIDTHS * self.layout.profile(self.scene, psf, state).fwhm()).max(4.0);
        let flux = self.flux(state, image, source).max(0.0);
        let reach = |part: f64| self.reach(state, image, source, part * self.noise[image] / flux);
        let window = reach(WINDOW_NOISE).clamp(least.min(LARGEST_HALF), LARGEST_HALF);
        let light = self.light(psf, source, reach(self.light_noise()));
        Extent {
            window,
            light: light.min(FARTHEST_LIGHT).max(window),
            accuracy: self.accuracy(image, flux, psf, state),
        }
    }

    /// Where light is drawn in a whole image.
    pub(super) fn whole(&self, state: &[f64], image: usize, source: usize) -> Extent {
        let psf = self.scene.images[image].psf;
        let flux = self.flux(state, image, source).abs();
        let reach = self.reach(state, image, source, self.light_noise() * self.noise[image] / flux);
        let light = self.light(psf, source, reach);
        let least = LEAST_WIDTHS * self.layout.profile(self.scene, psf, state).fwhm();
        let light = light.clamp(least, FARTHEST_LIGHT);
        Extent { window: light, light, accuracy: Accuracy::FINEST }
    }

    /// How far light reaches that would reach so far without samples: a star ends with these.
    fn light(&self, psf: usize, source: usize, reach: f64) -> f64 {
        match &self.scene.psfs[psf].sampled {
            Some(sampled) if self.layout.shapes[source].is_some() => sampled.half().max(reach),
            Some(sampled) => sampled.half(),
            None => reach,
        }
    }

    /// Half the side of a box that holds most of a galaxy's light, pixels; 0 of a star.
    pub(super) fn radius(&self, state: &[f64], image: usize, source: usize) -> f64 {
        const RADII: f64 = 3.0;
        RADII * self.galaxy(state, image, source).map_or(0.0, |galaxy| galaxy.radius)
    }

    fn light_noise(&self) -> f64 {
        if self.scene.sources.len() <= FEW { LIGHT_NOISE_OF_FEW } else { LIGHT_NOISE }
    }

    /// Errors of pixels that no noise shows.
    fn accuracy(&self, image: usize, flux: f64, psf: usize, state: &[f64]) -> Accuracy {
        let peak = flux * self.layout.profile(self.scene, psf, state).peak();
        Accuracy::of(PIXEL_NOISE * self.noise[image] / peak)
    }

    fn flux(&self, state: &[f64], image: usize, source: usize) -> f64 {
        self.layout.fluxes[image][source].map_or(0.0, |at| state[at])
    }

    /// Pixels from a source to where the density of its light is this part of its flux.
    fn reach(&self, state: &[f64], image: usize, source: usize, limit: f64) -> f64 {
        if !limit.is_finite() {
            return 0.0;
        }
        let profile = self.layout.profile(self.scene, self.scene.images[image].psf, state);
        let galaxy = self.galaxy(state, image, source).map_or(0.0, |galaxy| {
            let density = galaxy::density_at_radius(galaxy.exponent) / galaxy.area;
            galaxy.radius * galaxy::reach(galaxy.exponent, limit / density)
        });
        // Far away a galaxy has the wings of the PSF.
        galaxy.max(profile.reach(limit / profile.peak()))
    }

    fn galaxy(&self, state: &[f64], image: usize, source: usize) -> Option<OnPixels> {
        let at = self.layout.shapes[source]?;
        let [[a, b], [c, d]] = self.layout.seen(self.scene, image, source, state)?.by_source;
        let parameters: [f64; PARAMETERS_OF_GALAXY] = std::array::from_fn(|k| state[at + k]);
        let [rho, e1, e2, nu] = parameters;
        let area = (2.0 * rho).exp() * (a * d - b * c).abs();
        let radius = area.sqrt() * (0.5 * e1.hypot(e2)).exp();
        Some(OnPixels { radius, area, exponent: galaxy::exponent(nu) })
    }
}

/// A galaxy in an image: the half of the major axis of the ellipse with half of its light, in pixels, and the product of
/// both halves.
struct OnPixels {
    radius: f64,
    area: f64,
    exponent: f64,
}

/// The noise of faint pixels of each image.
fn noise(scene: &Scene<'_>) -> Vec<f64> {
    const EVERY: usize = 7;
    let of = |image: &SceneImage<'_>| {
        let good = image.variance.iter().step_by(EVERY).copied().filter(|v| v.is_finite() && *v > 0.0);
        let mut sample: Vec<f64> = good.collect();
        let at = sample.len() / 5;
        if sample.is_empty() { 1.0 } else { sample.select_nth_unstable_by(at, f64::total_cmp).1.sqrt() }
    };
    scene.images.iter().map(of).collect()
}
