//! Separate fits of sources that do not converge together with all others: blends and faint sources, whose
//! residuals are not linear.
//!
//! A few such sources would make all others take as many steps. They are fitted in clusters of nearby
//! sources, with everything else held, to the pixels without the light of all other sources. Then all sources
//! are fitted together again.

use nalgebra::DVector;
use rayon::prelude::*;

use super::extent::Extent;
use super::layout::Layout;
use super::layout::State;
use super::problem::Fit;
use super::profile::PARAMETERS;
use super::region::Window;
use super::stage::{Stage, Stamp};
use super::{Scene, SceneImage, Sky, Windows};
use crate::lsq::{self, Problem, minimize};

/// Largest distance of neighbouring sources in a cluster, in full widths of the PSF.
const NEAR_WIDTHS: f64 = 2.0;
/// Largest fraction of the sources that are fitted separately. If more have not converged, all are fitted
/// together.
pub(super) const MAX_UNCONVERGED: f64 = 0.3;
/// Maximum number of steps of a cluster.
const MOST_STEPS: usize = 300;

/// Result of fitting sources in clusters.
pub(super) struct ClusterFit {
    pub sources: Vec<usize>,
    /// State and cost after the fits; the cost may be higher if clusters disturb each other.
    pub state: State,
    pub cost: f64,
}

/// Sources that have not converged at a state; `None` if there are none, or so many that all are fitted
/// together.
pub(super) fn not_converged(fit: &Fit<'_>, state: &State, options: &lsq::Options) -> Option<Vec<usize>> {
    let system = fit.linearize(state);
    let slopes = system.slopes(&system.whole_step());
    let limit = 2.0 * options.resolution * options.resolution;
    let sources = slopes.len() - 1;
    fit.keep(state, system);
    let unconverged: Vec<usize> = (0..sources).filter(|&k| slopes[k].abs() > limit).collect();
    let few = !unconverged.is_empty() && unconverged.len() as f64 <= MAX_UNCONVERGED * sources as f64;
    few.then_some(unconverged)
}

/// Fits the sources that have not converged, separately in clusters.
pub(super) fn settle(
    fit: &Fit<'_>,
    state: &State,
    unconverged: Vec<usize>,
    extent: &(dyn Fn(usize, usize) -> Extent + Sync),
    options: &lsq::Options,
) -> ClusterFit {
    let residuals: Vec<Vec<f64>> =
        (0..fit.stage.fields.len()).map(|image| fit.residual(image, state.as_slice())).collect();
    let options = lsq::Options { max_iterations: MOST_STEPS, ..*options };
    let mut clusters: Vec<Vec<usize>> = vec![Vec::new(); fit.stage.scene.sources.len()];
    let groups = fit.stage.groups(state.as_slice(), NEAR_WIDTHS, &|k| unconverged.binary_search(&k).is_ok());
    for &source in &unconverged {
        clusters[groups[source]].push(source);
    }
    clusters.retain(|members| !members.is_empty());
    let settled: Vec<Vec<(usize, f64)>> = clusters
        .par_iter()
        .map(|members| Cutout::new(fit, state, &residuals, members).settle(fit, state, extent, &options))
        .collect();
    let mut next = state.clone();
    for (at, value) in settled.into_iter().flatten() {
        next[at] = value;
    }
    ClusterFit { cost: fit.cost(&next), sources: unconverged, state: next }
}

/// Pixels of one image with light of a cluster, without the light of all other sources.
struct Cut {
    image: usize,
    corner: [usize; 2],
    size: [usize; 2],
    data: Vec<f64>,
    variance: Vec<f64>,
    /// Members with light on these pixels.
    seen: Vec<usize>,
}

struct Cutout<'a> {
    members: &'a [usize],
    cuts: Vec<Cut>,
}

impl<'a> Cutout<'a> {
    fn new(fit: &Fit<'_>, state: &State, residuals: &[Vec<f64>], members: &'a [usize]) -> Self {
        let cut = |image: usize| {
            let stamps = fit.stage.fields[image].stamps.iter();
            let stamps: Vec<&Stamp> = stamps.filter(|stamp| members.contains(&stamp.source)).collect();
            (!stamps.is_empty()).then(|| Cut::new(fit, state, &residuals[image], image, &stamps))
        };
        Self { members, cuts: (0..fit.stage.fields.len()).filter_map(cut).collect() }
    }

    /// Parameters of the members at the minimum, with their indices in the whole scene.
    fn settle(
        &self,
        fit: &Fit<'_>,
        state: &State,
        extent: &(dyn Fn(usize, usize) -> Extent + Sync),
        options: &lsq::Options,
    ) -> Vec<(usize, f64)> {
        let scene = self.scene(fit.stage.scene);
        let layout = Layout::new(&scene);
        let (start, numbers) = self.state(fit.stage.layout, &layout, &scene, state);
        let extent = |cut: usize, member: usize| extent(self.cuts[cut].image, self.members[member]);
        let all = vec![true; self.cuts.len()];
        let mut stage = Stage::new(&scene, &layout, start.as_slice(), &extent, &all);
        stage.hold(numbers.iter().enumerate().filter(|(_, n)| fit.stage.held[**n]).map(|(k, _)| k));
        stage.hold(layout.shared..layout.total);
        let found = minimize(&Fit::new(&stage, fit.loss), start, options).state;
        numbers.into_iter().zip(found.iter().copied()).collect()
    }

    fn scene<'s>(&'s self, whole: &Scene<'_>) -> Scene<'s> {
        let image = |cut: &'s Cut| {
            let of = &whole.images[cut.image];
            let place = |source: &usize| {
                let place = of.places[*source].filter(|_| cut.seen.contains(source));
                place.map(|place| place.cut_out(cut.corner))
            };
            let [width, height] = cut.size;
            SceneImage {
                data: &cut.data,
                variance: &cut.variance,
                size: cut.size,
                freedom: of.freedom,
                cd: of.cd,
                places: self.members.iter().map(place).collect(),
                tracks: self.members.iter().filter_map(|&source| of.tracks.get(source).copied()).collect(),
                chromatic: of.chromatic,
                psf: of.psf,
                sky: Sky::None,
                windows: Windows::One(Window { x0: 0, x1: width, y0: 0, y1: height }),
            }
        };
        let images = self.cuts.iter().map(image);
        Scene {
            images: images.collect(),
            psfs: whole.psfs.clone(),
            sources: self.members.iter().map(|&source| whole.sources[source]).collect(),
        }
    }

    /// State of the cluster, and the indices of its sources' parameters in the whole scene.
    fn state(&self, whole: &Layout, own: &Layout, scene: &Scene<'_>, state: &State) -> (State, Vec<usize>) {
        let mut start = DVector::zeros(own.total);
        let mut numbers = vec![0; own.shared];
        for (member, &source) in self.members.iter().enumerate() {
            for (at, number) in own.place_and_shape(member).zip(whole.place_and_shape(source)) {
                numbers[at] = number;
            }
            for (cut, fluxes) in self.cuts.iter().zip(&own.fluxes) {
                if let (Some(at), Some(number)) = (fluxes[member], whole.fluxes[cut.image][source]) {
                    numbers[at] = number;
                }
            }
        }
        for (k, &number) in numbers.iter().enumerate() {
            start[k] = state[number];
        }
        for (&to, &from) in own.psfs.iter().zip(&whole.psfs) {
            start.rows_mut(to, PARAMETERS).copy_from(&state.rows(from, PARAMETERS));
        }
        for ((cut, image), &to) in self.cuts.iter().zip(&scene.images).zip(&own.wcs) {
            let count = image.freedom.parameters();
            start.rows_mut(to, count).copy_from(&state.rows(whole.wcs[cut.image], count));
        }
        for (cut, to) in self.cuts.iter().zip(&own.chromatic) {
            if let (Some(to), Some(from)) = (*to, whole.chromatic[cut.image]) {
                start.rows_mut(to, 2).copy_from(&state.rows(from, 2));
            }
        }
        (start, numbers)
    }
}

impl Cut {
    fn new(fit: &Fit<'_>, state: &State, residual: &[f64], image: usize, stamps: &[&Stamp]) -> Self {
        let region = &fit.stage.fields[image].region;
        let least = |side: fn(&Window) -> usize| stamps.iter().map(|s| side(&s.window)).min().unwrap_or(0);
        let most = |side: fn(&Window) -> usize| stamps.iter().map(|s| side(&s.window)).max().unwrap_or(0);
        let (corner, end) = ([least(|w| w.x0), least(|w| w.y0)], [most(|w| w.x1), most(|w| w.y1)]);
        let size = [end[0] - corner[0], end[1] - corner[1]];
        let count = size[0] * size[1];
        let (mut data, mut variance) = (vec![0.0; count], vec![f64::INFINITY; count]);
        let place = |x: usize, y: usize| (y - corner[1]) * size[0] + x - corner[0];
        for stamp in stamps {
            for s in &stamp.segments {
                let to = place(s.x, s.y);
                for k in 0..s.len {
                    data[to + k] = -residual[s.at + k];
                    variance[to + k] = 1.0 / region.weights[s.at + k];
                }
            }
        }
        for stamp in stamps {
            let light = fit.light(image, stamp, state.as_slice());
            let mut light = light.iter();
            for s in &stamp.segments {
                let to = place(s.x, s.y);
                data[to..to + s.len].iter_mut().zip(&mut light).for_each(|(data, light)| *data += light);
            }
        }
        Self { image, corner, size, data, variance, seen: stamps.iter().map(|stamp| stamp.source).collect() }
    }
}
