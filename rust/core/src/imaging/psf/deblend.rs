//! Finds stars that are blended with others, in the residuals of stars that do not fit.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
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

/// A star does not fit if its chi-square exceeds its expectation by this many standard deviations.
const MISFIT_SIGMAS: f32 = 4.0;
/// Least height of a hidden star, in sigmas of the noise with the error of the point-spread function.
const HIDDEN_SIGMAS: f32 = 5.0;
/// Least distance of a hidden star from known stars, in sigmas of a star's image. Nearer stars cannot be
/// separated.
const MIN_DISTANCE: f32 = 1.2;
/// A hidden star at r sigmas from a known star must have more than the fraction w / (1 + r²) of that star's
/// flux, where w is this many relative errors of the point-spread function.
const WING_ERRORS: f32 = 10.0;
/// Least value of that w, because the wings of stars are unknown beyond the stamps.
const MIN_WINGS: f32 = 0.1;
/// Stars nearer to each other than this many sigmas after the fit are taken as one star.
const MERGED_DISTANCE: f32 = 0.8;
/// A star found in residuals is dropped if its fitted flux is less than this many sigmas.
const MIN_FLUX_SIGMAS: f32 = 3.0;
/// Half width, in pixels, of the part of the point-spread function that serves as the matched filter.
const REACH: usize = 2;
/// Number of stars per task.
const TASK_STARS: usize = 8;

/// A star found in the residuals of another star.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hidden {
    /// Index of the star in whose residuals it was found.
    pub beside: usize,
    pub source: Source,
    /// Height of its peak, in sigmas.
    height: f32,
}

/// Finds stars in the residuals of the stars `misfits`, which do not fit. `sigma` is the width of a star's
/// image.
///
/// If the point-spread function varies, its error differs over the frame and is taken from the `local` noise.
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
    // The residuals of two stars may show the same third star.
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

/// Tests which stars are real. The first `detected` always are. A star found in residuals is real if its
/// fitted flux is significant and the fit has not merged it with another star.
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

/// Residuals of the fit of a star and their weights, with a border of zeros.
#[derive(Debug, Default)]
struct Residuals {
    /// Weight of each pixel of the stamp.
    weight: Vec<f32>,
    /// Residual of each pixel times its weight.
    light: Vec<f32>,
    stride: usize,
}

impl Residuals {
    /// Width of the border: the number of pixels by which the filter extends beyond the stamp.
    const RIM: usize = REACH - 1;

    /// Computes the residuals of star `i`. `work` holds its model and its neighbours' light.
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

/// Arguments of the matched filter for a row of residuals. It gives the light of a star at each position and
/// its weight.
struct Filtered<'a> {
    residuals: &'a Residuals,
    kernel: &'a [f32],
    layout: Layout,
    /// Index of the row, counted from the first one on which the filter can be centred.
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

/// Finds the highest peak of the residuals, filtered with `kernel`, that is not explained by the known stars.
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
    // Least flux that a star at x, y must have to exceed the errors of the known stars' wings.
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
