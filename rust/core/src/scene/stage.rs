//! One stage of a fit: the fitted pixels, the extent of the light of each source, and the held parameters.

use std::sync::Arc;

use super::extent::Extent;
use super::galaxy::Galaxy;
use super::layout::Layout;
use super::layout::State;
use super::products::{Span, stretches};
use super::profile::{EXPONENT, Run};
use super::region::{Region, Segment, Window};
use super::{Scene, Windows};
use crate::lsq::sparse::Pattern;

/// Largest movement of a source in one step, in full widths of the PSF.
const LARGEST_STEP: f64 = 0.5;
/// Width, in columns, of the stripes in which stars are processed from top to bottom. In wider stripes, fewer
/// stars have neighbours in another stripe; in narrower ones, the pixels of a star are still in the cache
/// when the next star below is drawn.
const STRIPE: usize = 128;

/// Bounds of a PSF's ν: an exponent of 1.02, and one of 149, which pixels cannot distinguish from a Gaussian.
const EXPONENTS: [f64; 2] = [-4.0, 5.0];

/// The light of a source in one image.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    pub source: usize,
    pub segments: Vec<Segment>,
    /// The segments as spans.
    pub stretches: Vec<Span>,
    /// Number of quadrature nodes of each pixel, minus 1. It is the same in all steps, so that the cost is
    /// smooth.
    pub nodes: Vec<u8>,
    /// Window in which the star must stay.
    pub window: Window,
    /// Box for neighbours: another source is a neighbour if the boxes of both overlap.
    near: Window,
    /// Whether the star starts in `window`: a star beyond the edge of the image does not.
    inside: bool,
}

/// Pixels and light of one image.
#[derive(Debug, Clone, Default)]
pub(super) struct Field {
    pub region: Region,
    pub stamps: Vec<Stamp>,
    /// For each stamp, the later stamps that are near it.
    pub neighbours: Vec<Vec<usize>>,
}

/// A stage of a fit.
pub(super) struct Stage<'a> {
    pub scene: &'a Scene<'a>,
    pub layout: &'a Layout,
    pub fields: Vec<Field>,
    pub pattern: Arc<Pattern>,
    /// Whether each parameter is held.
    pub held: Vec<bool>,
}

impl<'a> Stage<'a> {
    /// Builds a stage for a state; images that do not take part have no pixels.
    pub(super) fn new(
        scene: &'a Scene<'a>,
        layout: &'a Layout,
        state: &[f64],
        extent: &(dyn Fn(usize, usize) -> Extent + Sync),
        takes_part: &[bool],
    ) -> Self {
        let field = |image: usize| {
            if takes_part[image] { Field::new(scene, layout, state, image, extent) } else { Field::default() }
        };
        let fields: Vec<Field> = (0..scene.images.len()).map(field).collect();
        let mut pairs = Vec::new();
        for field in &fields {
            for (a, others) in field.neighbours.iter().enumerate() {
                pairs.extend(others.iter().map(|&b| (field.stamps[a].source, field.stamps[b].source)));
            }
        }
        let points: Vec<[f64; 2]> = scene.sources.iter().map(|source| source.point).collect();
        let pattern = Arc::new(Pattern::new(&layout.sizes, &points, &pairs));
        Self { scene, layout, fields, pattern, held: vec![false; layout.total] }
    }

    /// Holds parameters.
    pub(super) fn hold(&mut self, parameters: impl IntoIterator<Item = usize>) {
        for parameter in parameters {
            self.held[parameter] = true;
        }
    }

    /// Number of pixels.
    pub(super) fn pixels(&self) -> usize {
        self.fields.iter().map(|field| field.region.len()).sum()
    }

    /// Groups wanted sources that are within `widths` full widths of the PSF of each other in an image.
    /// Returns the first source of the group of each source.
    pub(super) fn groups(&self, state: &[f64], widths: f64, wanted: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut of: Vec<usize> = (0..self.layout.sources.len()).collect();
        for (image, field) in self.fields.iter().enumerate() {
            let near = widths * self.layout.profile(self.scene, self.scene.images[image].psf, state).fwhm();
            let pixels: Vec<[f64; 2]> =
                field.stamps.iter().map(|stamp| self.pixel(image, stamp, state)).collect();
            for (k, others) in field.neighbours.iter().enumerate() {
                for &other in others {
                    let [a, b] = [k, other].map(|k| field.stamps[k].source);
                    let apart = (pixels[k][0] - pixels[other][0]).hypot(pixels[k][1] - pixels[other][1]);
                    if apart < near && wanted(a) && wanted(b) {
                        let (a, b) = (first_of(&of, a), first_of(&of, b));
                        of[a.max(b)] = a.min(b);
                    }
                }
            }
        }
        (0..of.len()).map(|k| first_of(&of, k)).collect()
    }

    /// A state moved by a step. The step ends where the first PSF becomes a Gaussian: without wings there is
    /// no exponent.
    pub(super) fn moved(&self, state: &State, delta: &State) -> State {
        let last = EXPONENTS[1];
        let exponents = self.layout.psfs.iter().map(|psf| psf + EXPONENT);
        let ends = exponents.filter(|&at| state[at] <= last && state[at] + delta[at] > last);
        let ends = ends.map(|at| (at, (last - state[at]) / delta[at]));
        match ends.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            None => state + delta,
            Some((at, part)) => {
                let mut next = state + delta * part;
                next[at] = last;
                next
            }
        }
    }

    /// Indices of the exponents of PSFs that became Gaussians.
    pub(super) fn without_wings(&self, state: &State) -> Vec<usize> {
        let exponents = self.layout.psfs.iter().map(|psf| psf + EXPONENT);
        exponents.filter(|&at| state[at] == EXPONENTS[1] && !self.held[at]).collect()
    }

    /// Shortens the steps of sources that move farther than the linear model is valid. Sources that would
    /// leave their windows do not move.
    pub(super) fn keep_near(&self, from: &[f64], next: &mut [f64]) {
        let mut parts = vec![1.0_f64; self.layout.sources.len()];
        for (image, field) in self.fields.iter().enumerate() {
            let of = &self.scene.images[image];
            let most = LARGEST_STEP * self.layout.profile(self.scene, of.psf, from).fwhm().max(1.0);
            for stamp in field.stamps.iter().filter(|stamp| stamp.inside) {
                let [start, end] = [from, &*next].map(|state| self.pixel(image, stamp, state));
                let moved = (end[0] - start[0]).hypot(end[1] - start[1]);
                let part = (most / moved).min(1.0);
                let stays = moved > 0.0
                    && !stamp.window.contains([0, 1].map(|i| start[i] + part * (end[i] - start[i])));
                parts[stamp.source] = parts[stamp.source].min(if stays { 0.0 } else { part });
            }
        }
        for (source, part) in parts.into_iter().enumerate().filter(|(_, part)| *part < 1.0) {
            let first = self.layout.sources[source];
            for k in first..first + self.layout.sizes[source] {
                next[k] = from[k] + part * (next[k] - from[k]);
            }
        }
    }

    /// The pixel of a star in an image.
    fn pixel(&self, image: usize, stamp: &Stamp, state: &[f64]) -> [f64; 2] {
        let seen = self.layout.seen(self.scene, image, stamp.source, state);
        seen.expect("a stamp is of a source that is seen").pixel
    }

    /// Whether all stars are inside their windows, and all shapes are valid.
    pub(super) fn admits(&self, state: &[f64]) -> bool {
        const RADII: [f64; 2] = [0.02, 1e3];
        const MOST_STRETCH: f64 = 3.0;
        const GALAXY_RADII: [f64; 2] = [1e-4, 1e5];
        const LARGEST_NU: f64 = 12.0;
        let sound = (0..self.scene.psfs.len()).all(|psf| {
            let profile = self.layout.profile(self.scene, psf, state);
            let [_, e1, e2, nu] = profile.parameters;
            (RADII[0]..RADII[1]).contains(&profile.radius())
                && e1.hypot(e2) < MOST_STRETCH
                && (EXPONENTS[0]..=EXPONENTS[1]).contains(&nu)
        });
        let galaxies = (0..self.layout.shapes.len()).all(|source| {
            self.layout.shapes[source].is_none_or(|at| {
                (GALAXY_RADII[0]..GALAXY_RADII[1]).contains(&state[at].exp())
                    && state[at + 1].hypot(state[at + 2]) < MOST_STRETCH
                    && state[at + 3].abs() < LARGEST_NU
            })
        });
        sound
            && galaxies
            && state.iter().all(|v| v.is_finite())
            && self.fields.iter().enumerate().all(|(image, field)| {
                let mut inside = field.stamps.iter().filter(|stamp| stamp.inside);
                inside.all(|stamp| stamp.window.contains(self.pixel(image, stamp, state)))
            })
    }
}

fn first_of(of: &[usize], mut k: usize) -> usize {
    while of[k] != k {
        k = of[k];
    }
    k
}

impl Field {
    fn new(
        scene: &Scene<'_>,
        layout: &Layout,
        state: &[f64],
        image: usize,
        extent: &(dyn Fn(usize, usize) -> Extent + Sync),
    ) -> Self {
        let of = &scene.images[image];
        let profile = layout.profile(scene, of.psf, state);
        let nodes = profile.nodes();
        let (mut windows, mut lit) = (Vec::new(), Vec::new());
        for source in 0..of.places.len() {
            let Some(seen) = layout.seen(scene, image, source, state) else { continue };
            let pixel = seen.pixel;
            let Extent { window, light, accuracy } = extent(image, source);
            let own = match &of.windows {
                Windows::Chosen => Window::about(pixel, window, of.size),
                Windows::Side(side) => Window::about(pixel, 0.5 * (*side as f64 - 1.0), of.size),
                Windows::One(_) => None,
                Windows::Each(windows) => windows[source],
            };
            windows.extend(own);
            if let Some(lights) = Window::about(pixel, light, of.size) {
                let near = Window::about(pixel, window, of.size).unwrap_or(lights);
                lit.push((source, lights, near, lights.contains(pixel), accuracy, seen));
            }
        }
        if let Windows::One(window) = &of.windows {
            windows.push(*window);
        }
        // Neighbours follow each other, so that the pixels they share are in the cache.
        lit.sort_by_key(|(source, window, ..)| (window.x0 / STRIPE, window.y0, *source));
        let region = Region::new(of.data, of.variance, of.size, windows.into_iter());
        let stamps: Vec<Stamp> = lit
            .into_iter()
            .map(|(source, window, near, inside, accuracy, seen)| {
                let segments = region.within(&window);
                let mut stamp = Stamp {
                    source,
                    stretches: stretches(&segments),
                    segments,
                    nodes: Vec::new(),
                    window,
                    near,
                    inside,
                };
                let runs = stamp.runs(seen.pixel);
                stamp.nodes = match layout.outline(source, &seen, state) {
                    // Samples are already integrated over pixels.
                    _ if scene.psfs[of.psf].sampled.is_some() => Vec::new(),
                    Some(outline) => Galaxy::new(outline.w, outline.exponent, &profile).nodes(&runs),
                    None => nodes.of(&runs, accuracy),
                };
                stamp
            })
            .filter(|stamp| !stamp.segments.is_empty())
            .collect();
        let neighbours = neighbours(&stamps);
        Self { region, stamps, neighbours }
    }
}

/// For each stamp, the later stamps whose boxes overlap its box.
fn neighbours(stamps: &[Stamp]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..stamps.len()).collect();
    order.sort_by_key(|&k| (stamps[k].near.y0, k));
    let mut neighbours = vec![Vec::new(); stamps.len()];
    for (i, &a) in order.iter().enumerate() {
        let near = &stamps[a].near;
        let below = order[i + 1..].iter().take_while(|&&b| stamps[b].near.y0 < near.y1);
        for &b in below.filter(|&&b| near.meets(&stamps[b].near)) {
            neighbours[a.min(b)].push(a.max(b));
        }
    }
    for list in &mut neighbours {
        list.sort_unstable();
    }
    neighbours
}

impl Stamp {
    /// Pixels of the stamp, relative to a star's position.
    pub(super) fn runs(&self, pixel: [f64; 2]) -> Vec<Run> {
        let run = |s: &Segment| Run { x: s.x as f64 - pixel[0], y: s.y as f64 - pixel[1], len: s.len };
        self.segments.iter().map(run).collect()
    }
}
