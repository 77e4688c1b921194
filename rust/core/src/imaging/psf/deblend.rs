//! Stars hidden beside others: what the fit leaves over where it does not fit.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

use std::collections::HashSet;

use rayon::prelude::*;

use super::cutouts::Stamps;
use super::fit::Work;
use super::noise::{Noise, NoiseField};
use super::source::{Fit, Source};
use super::{Rendering, field::PsfField};
use crate::imaging::stamp::{Crop, Layout, is_good};
use crate::simd::{self, vectorized};

/// A star whose chi-square exceeds its expectation by so many standard deviations is looked at.
const MISFIT_SIGMAS: f32 = 4.0;
/// Height of a hidden star above the noise, the error of the point-spread function included.
const HIDDEN_SIGMAS: f32 = 5.0;
/// Hidden stars nearer than this many sigmas of a star's image to one that is known cannot be told from it.
const MIN_DISTANCE: f32 = 1.2;
/// A star at r sigmas from another must have more than w / (1 + r²) of its light, w being this many relative errors of
/// the point-spread function, and at least [`MIN_WINGS`]: beyond the stamps its wings are not known at all.
const WING_ERRORS: f32 = 10.0;
const MIN_WINGS: f32 = 0.1;
/// Stars that the fit has drawn together to within this many sigmas are one.
const MERGED_DISTANCE: f32 = 0.8;
/// Stars found beside others are dropped if the fit leaves them less than so many sigmas of flux.
const MIN_FLUX_SIGMAS: f32 = 3.0;
/// Half width of the part of the point-spread function that a hidden star is looked for with.
const REACH: usize = 2;
/// Stars looked at by one task.
const TASK_STARS: usize = 8;

/// A star found beside another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hidden {
    /// Index of the star beside which it was found.
    pub beside: usize,
    pub source: Source,
    /// Its height in sigmas.
    height: f32,
}

/// Stars that show in the residuals of those that do not fit, `misfits`; `sigma` is the width of a star's image.
///
/// A point-spread function that varies is less well known in some parts of the frame, which the `local` noise tells.
pub(crate) fn hidden(
    stamps: &Stamps,
    psf: &PsfField,
    (noise, local): (Noise, &NoiseField),
    fits: &[Fit],
    misfits: &[usize],
    sigma: f32,
) -> Vec<Hidden> {
    let sources: Vec<Source> = fits.iter().map(|fit| fit.source).collect();
    let mut found: Vec<Hidden> = misfits
        .par_iter()
        .with_min_len(TASK_STARS)
        .map_init(
            || (Work::default(), Residuals::default(), Rendering::default()),
            |(work, residuals, kernel), &i| {
                let known = if psf.along() > 1 { local.at(sources[i].pixel) } else { noise };
                let wings = (WING_ERRORS * known.model.sqrt()).max(MIN_WINGS);
                stamps.step(psf, noise, &sources, i, work);
                residuals.weigh(stamps, noise, &sources, i, work);
                psf.at(sources[i].pixel).render_value([0.0, 0.0], Crop::whole(psf.half()), kernel);
                brightest(stamps, kernel, &sources, i, residuals, sigma, wings)
            },
        )
        .flatten()
        .collect();
    found.sort_by(|a, b| b.height.total_cmp(&a.height));
    // Two stars may both point to the same third one.
    let mut taken = HashSet::new();
    found.retain(|hidden| {
        let [x, y] = hidden.source.pixel;
        let free = !taken.contains(&[x, y]);
        if free {
            taken.extend((-1..=1).flat_map(|j| (-1..=1).map(move |i| [x + i, y + j])));
        }
        free
    });
    found
}

/// Indices of the stars that do not fit.
pub(crate) fn misfits(fits: &[Fit]) -> Vec<usize> {
    let misfit = |fit: &Fit| fit.chi2 > fit.pixels + MISFIT_SIGMAS * (2.0 * fit.pixels).sqrt();
    (0..fits.len()).filter(|&i| misfit(&fits[i]) && fits[i].source.flux > 0.0).collect()
}

/// Which stars are there. The first `detected` are; of those found beside them, those that the fit has left their light and
/// has not drawn onto another star.
pub(crate) fn real(stamps: &Stamps, fits: &[Fit], detected: usize, sigma: f32) -> Vec<bool> {
    (0..fits.len())
        .map(|i| {
            let light = fits[i].source.flux > MIN_FLUX_SIGMAS * fits[i].flux_error;
            let mut others = stamps.neighbours(i).iter().map(|&j| j as usize);
            i < detected
                || light
                    && others
                        .all(|j| j > i || fits[i].source.distance(&fits[j].source) > MERGED_DISTANCE * sigma)
        })
        .collect()
}

/// Residuals of the fit of a star, with their weights.
#[derive(Debug, Default)]
struct Residuals {
    /// Weight of each pixel of the stamp, and its weighted residual: rows with zeros around, so many pixels on each side.
    weight: Vec<f32>,
    light: Vec<f32>,
    stride: usize,
}

impl Residuals {
    /// As many as the filter reaches beyond the stamp.
    const RIM: usize = REACH - 1;

    /// Those of star `i`; `work` holds its model and its neighbours' light.
    fn weigh(&mut self, stamps: &Stamps, noise: Noise, sources: &[Source], i: usize, work: &Work) {
        let layout = stamps.layout();
        self.stride = layout.side + 2 * Self::RIM;
        for values in [&mut self.weight, &mut self.light] {
            values.clear();
            values.resize(self.stride * self.stride, 0.0);
        }
        for at in stamps.crop(i).spans(layout).flatten() {
            let d = stamps.data(i)[at];
            if is_good(d) {
                let model = work.light[at] + sources[i].flux * work.own.value[at];
                let weight = 1.0 / noise.variance(stamps.variance(i), model);
                let [x, y] = [at % layout.stride, at / layout.stride].map(|v| v + Self::RIM);
                self.weight[y * self.stride + x] = weight;
                self.light[y * self.stride + x] = weight * (d - model);
            }
        }
    }
}

/// A row of residuals through a filter: the light of a star at each place, and its weight.
struct Filtered<'a> {
    residuals: &'a Residuals,
    kernel: &'a [f32],
    layout: Layout,
    /// The row, counted from the first that the filter fits in.
    row: usize,
    light: &'a mut [f32],
    weight: &'a mut [f32],
}

impl simd::Work for Filtered<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { residuals, kernel, layout: Layout { half, stride, .. }, row, light, weight } = self;
        light.fill(0.0);
        weight.fill(0.0);
        let columns = light.len();
        for j in 0..=2 * REACH {
            for i in 0..=2 * REACH {
                let p = kernel[(half + j - REACH) * stride + half + i - REACH];
                let first = (row + j) * residuals.stride + i;
                let under = residuals.light[first..first + columns].iter();
                let weights = &residuals.weight[first..first + columns];
                for (((light, weight), r), w) in light.iter_mut().zip(&mut *weight).zip(under).zip(weights) {
                    *light += p * r;
                    *weight += p * p * w;
                }
            }
        }
    }
}

/// The highest peak of the residuals through the filter `kernel`, away from all known stars.
fn brightest(
    stamps: &Stamps,
    kernel: &Rendering,
    sources: &[Source],
    i: usize,
    residuals: &Residuals,
    sigma: f32,
    wings: f32,
) -> Option<Hidden> {
    let layout = stamps.layout();
    let pixel = sources[i].pixel;
    let inner = layout.half as isize - 1;
    let known: Vec<([f32; 2], f32)> = std::iter::once(i)
        .chain(stamps.neighbours(i).iter().map(|&j| j as usize))
        .map(|j| {
            ([0, 1].map(|k| (sources[j].pixel[k] - pixel[k]) as f32 + sources[j].offset[k]), sources[j].flux)
        })
        .collect();
    // Flux that a star found at x, y must have to be none of the wings of those that are known.
    let least_flux = |x: isize, y: isize| {
        known.iter().fold(0.0, |least: f32, &([kx, ky], flux)| {
            let r = (kx - x as f32).hypot(ky - y as f32) / sigma;
            let light = if r < MIN_DISTANCE { f32::INFINITY } else { wings * flux / (1.0 + r * r) };
            least.max(light)
        })
    };
    let mut best: Option<Hidden> = None;
    let columns = (2 * inner + 1) as usize;
    let (mut light, mut weight) = (vec![0.0; columns], vec![0.0; columns]);
    for y in -inner..=inner {
        let (kernel, row) = (&kernel.value, (y + inner) as usize);
        vectorized(Filtered { residuals, kernel, layout, row, light: &mut light, weight: &mut weight });
        for (k, (&light, &weight)) in light.iter().zip(&weight).enumerate() {
            let x = k as isize - inner;
            let height = light / weight.sqrt();
            if height > best.map_or(HIDDEN_SIGMAS, |b| b.height) && light > least_flux(x, y) * weight {
                let source =
                    Source { pixel: [pixel[0] + x, pixel[1] + y], offset: [0.0; 2], flux: light / weight };
                best = Some(Hidden { beside: i, source, height });
            }
        }
    }
    best
}
