//! Extent of the fitted pixels around a source, and of the drawn light of the source.

use super::galaxy::{self, PARAMETERS_OF_GALAXY};
use super::layout::Layout;
use super::profile::Accuracy;
use super::{Scene, SceneImage};

/// Brightness of a source, in units of the noise of a pixel, at which its window ends. A single pixel in the
/// wings carries little information, but many together carry some. Sources are neighbours if their windows
/// overlap; if they do not, the correlation of their parameters is a few hundredths at most.
const WINDOW_NOISE: f64 = 0.05;
/// Brightness of a source, in units of the noise of a pixel, at which its drawn light ends.
const LIGHT_NOISE: f64 = 0.003;
/// Limit of the drawn light in a scene of few sources. It costs little, and the excluded light changes chi²
/// by less than 0.1.
const LIGHT_NOISE_OF_FEW: f64 = 0.0005;
/// Maximum number of sources that count as few.
const FEW: usize = 16;
/// Smallest half side of a window, in full widths of the PSF.
const LEAST_WIDTHS: f64 = 2.5;
/// Largest half side of a window, in pixels.
pub(super) const LARGEST_HALF: f64 = 64.0;
/// Allowed error of a pixel, as a fraction of its noise.
const PIXEL_NOISE: f64 = 1e-3;
/// Largest distance from a source to which its light is drawn, in pixels.
const FARTHEST_LIGHT: f64 = 256.0;

/// Extent of the window and the light of a source in an image, in pixels.
pub(super) struct Extent {
    /// Half the side of a chosen window, and of the box in which the source is a neighbour of other sources.
    pub window: f64,
    /// Half the side of the box in which the light is drawn.
    pub light: f64,
    /// Accuracy of the integration over pixels.
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

    /// Extent of the fitted pixels and of the drawn light.
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

    /// Extent of the light that is drawn in a whole image.
    pub(super) fn whole(&self, state: &[f64], image: usize, source: usize) -> Extent {
        let psf = self.scene.images[image].psf;
        let flux = self.flux(state, image, source).abs();
        let reach = self.reach(state, image, source, self.light_noise() * self.noise[image] / flux);
        let light = self.light(psf, source, reach);
        let least = LEAST_WIDTHS * self.layout.profile(self.scene, psf, state).fwhm();
        let light = light.clamp(least, FARTHEST_LIGHT);
        Extent { window: light, light, accuracy: Accuracy::FINEST }
    }

    /// Extent of the light, given its extent `reach` without samples. The light of a star ends with the
    /// samples.
    fn light(&self, psf: usize, source: usize, reach: f64) -> f64 {
        match &self.scene.psfs[psf].sampled {
            Some(sampled) if self.layout.shapes[source].is_some() => sampled.half().max(reach),
            Some(sampled) => sampled.half(),
            None => reach,
        }
    }

    /// Half the side of a box that holds most of a galaxy's light, pixels; 0 for a star.
    pub(super) fn radius(&self, state: &[f64], image: usize, source: usize) -> f64 {
        const RADII: f64 = 3.0;
        RADII * self.galaxy(state, image, source).map_or(0.0, |galaxy| galaxy.radius)
    }

    fn light_noise(&self) -> f64 {
        if self.scene.sources.len() <= FEW { LIGHT_NOISE_OF_FEW } else { LIGHT_NOISE }
    }

    /// Accuracy at which the errors of pixels are hidden by their noise.
    fn accuracy(&self, image: usize, flux: f64, psf: usize, state: &[f64]) -> Accuracy {
        let peak = flux * self.layout.profile(self.scene, psf, state).peak();
        Accuracy::of(PIXEL_NOISE * self.noise[image] / peak)
    }

    fn flux(&self, state: &[f64], image: usize, source: usize) -> f64 {
        self.layout.fluxes[image][source].map_or(0.0, |at| state[at])
    }

    /// Distance from a source, in pixels, at which the density of its light is `limit` times its flux.
    fn reach(&self, state: &[f64], image: usize, source: usize, limit: f64) -> f64 {
        if !limit.is_finite() {
            return 0.0;
        }
        let profile = self.layout.profile(self.scene, self.scene.images[image].psf, state);
        let galaxy = self.galaxy(state, image, source).map_or(0.0, |galaxy| {
            let density = galaxy::density_at_radius(galaxy.exponent) / galaxy.area;
            galaxy.radius * galaxy::reach(galaxy.exponent, limit / density)
        });
        // Far from its centre, a galaxy has the wings of the PSF.
        galaxy.max(profile.reach(limit / profile.peak()))
    }

    fn galaxy(&self, state: &[f64], image: usize, source: usize) -> Option<GalaxyExtent> {
        let at = self.layout.shapes[source]?;
        let [[a, b], [c, d]] = self.layout.seen(self.scene, image, source, state)?.by_source;
        let parameters: [f64; PARAMETERS_OF_GALAXY] = std::array::from_fn(|k| state[at + k]);
        let [rho, e1, e2, nu] = parameters;
        let area = (2.0 * rho).exp() * (a * d - b * c).abs();
        let radius = area.sqrt() * (0.5 * e1.hypot(e2)).exp();
        Some(GalaxyExtent { radius, area, exponent: galaxy::exponent(nu) })
    }
}

/// A galaxy in an image: the semi-major axis of the ellipse with half of its light, in pixels, and the
/// product of both semi-axes.
struct GalaxyExtent {
    radius: f64,
    area: f64,
    exponent: f64,
}

/// Noise of the faint pixels of each image.
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
