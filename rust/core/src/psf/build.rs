//! The point-spread function of a frame and the noise of its pixels, from its own bright stars.

use rayon::prelude::*;

use super::fit::{Fit, Noise, Source, Stamps, Work};
use super::{Correction, Psf};
use crate::stamp::{Crop, is_good};

/// So many of the brightest stars that qualify are used.
const MAX_STARS: usize = 300;
/// Fewer do not tell more than the width.
const MIN_STARS: usize = 5;
/// A star whose flux over its error in background noise is less tells nothing.
const MIN_SNR: f32 = 20.0;
/// Neighbours of more than this fraction of the star's flux disturb it.
const NEIGHBOUR_FRACTION: f32 = 0.02;
/// Rounds of position, flux and shape in turn.
const ROUNDS: usize = 10;
/// The shape stays as it was with the weight of so many stars.
const PRIOR_STARS: f32 = 1.0;
/// Relative error of the point-spread function while it is being built: keeps the brightest stars from ruling.
const BUILDING_ERROR: f32 = 0.03;
/// Stars whose mean squared residual exceeds the median by this factor are no single stars.
const MISFIT_FACTOR: f32 = 4.0;
/// Stars gathered by one task.
const TASK_STARS: usize = 32;

/// Indices of the stars that tell the shape: bright, alone, whole.
fn qualified(stamps: &Stamps, psf: &Psf, sources: &[Source]) -> Vec<usize> {
    let sharpness = psf.sharpness();
    let layout = psf.layout();
    let mut found: Vec<usize> = (0..sources.len())
        .filter(|&i| {
            let source = &sources[i];
            let whole = (0..layout.side).all(|j| {
                stamps.data(i)[j * layout.stride..j * layout.stride + layout.side].iter().all(|&v| is_good(v))
            });
            let alone = || {
                stamps
                    .neighbours(i)
                    .iter()
                    .all(|&j| sources[j as usize].flux < NEIGHBOUR_FRACTION * source.flux)
            };
            whole && source.flux * sharpness > MIN_SNR * stamps.variance(i).sqrt() && alone()
        })
        .collect();
    found.sort_by(|&a, &b| sources[b].flux.total_cmp(&sources[a].flux));
    found.truncate(MAX_STARS);
    found
}

/// Shape and noise, starting from a Gaussian of the stars' width. `gain` is the photon noise if it is known.
pub(crate) fn build(stamps: &Stamps, start: Psf, sources: &[Source], gain: Option<f64>) -> (Psf, Noise) {
    let mut psf = start;
    let photon = gain.map_or(0.0, |g| (1.0 / g) as f32);
    let noise = Noise { photon, model: BUILDING_ERROR * BUILDING_ERROR };
    let mut chosen = qualified(stamps, &psf, sources);
    if chosen.len() < MIN_STARS {
        return (psf, noise);
    }
    let mut sources = sources.to_vec();
    for _ in 0..ROUNDS {
        let gathered = chosen
            .par_chunks(TASK_STARS)
            .map(|stars| gather(stamps, &psf, noise, &sources, stars))
            .collect::<Vec<_>>();
        let mut correction = Correction::new(psf.half());
        let mut misfits = Vec::with_capacity(chosen.len());
        for (part, fits) in &gathered {
            correction = correction.merge(part);
            misfits.extend(fits.iter().map(|fit| fit.chi2 / fit.pixels));
        }
        for (&i, fit) in chosen.iter().zip(gathered.iter().flat_map(|(_, fits)| fits)) {
            sources[i] = fit.source;
        }
        correction.apply(&mut psf, PRIOR_STARS / chosen.len() as f32);
        let mut sorted = misfits.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let limit = MISFIT_FACTOR * sorted[sorted.len() / 2];
        let mut keep = misfits.iter().map(|&m| m <= limit);
        chosen.retain(|_| keep.next().unwrap_or(true));
    }
    let noise = measure_noise(stamps, &psf, noise, &sources, &chosen, gain);

    (psf, noise)
}

/// One step of each star and what its residuals say about the shape.
fn gather(
    stamps: &Stamps,
    psf: &Psf,
    noise: Noise,
    sources: &[Source],
    stars: &[usize],
) -> (Correction, Vec<Fit>) {
    let mut correction = Correction::new(psf.half());
    let mut work = Work::default();
    let (mut residual, mut weight) = (Vec::new(), Vec::new());
    let fits = stars
        .iter()
        .map(|&i| {
            let fit = stamps.step(psf, noise, sources, i, &mut work);
            let Source { offset, flux, .. } = fit.source;
            if flux > 0.0 {
                psf.render_value(offset, Crop::whole(psf.half()), &mut work.own);
                residual.clear();
                weight.clear();
                for ((&d, &p), &light) in stamps.data(i).iter().zip(&work.own.value).zip(&work.light) {
                    let model = flux * p;
                    let r = d - light - model;
                    let w = flux * flux / noise.variance(stamps.variance(i), model + light);
                    let good = is_good(d);
                    weight.push(if good { w } else { 0.0 });
                    residual.push(if good { w * r / flux } else { 0.0 });
                }
                correction.add(offset, &residual, &weight);
            }
            fit
        })
        .collect();
    (correction, fits)
}

/// Photon noise and error of the shape, from how the squared residuals grow with the light.
///
/// Each residual is corrected for what the fit of its star took away (its leverage).
fn measure_noise(
    stamps: &Stamps,
    psf: &Psf,
    building: Noise,
    sources: &[Source],
    stars: &[usize],
    gain: Option<f64>,
) -> Noise {
    let mut samples = Vec::new();
    let mut work = Work::default();
    for &i in stars {
        let fit = stamps.step(psf, building, sources, i, &mut work);
        let source = sources[i];
        let inverse = fit.inverse();
        let shapes = work.own.value.iter().zip(&work.own.by_x).zip(&work.own.by_y);
        for ((&d, ((&p, &px), &py)), &other) in stamps.data(i).iter().zip(shapes).zip(&work.light) {
            let light = source.flux * p;
            let background = stamps.variance(i);
            if !is_good(d) || light * light < background {
                continue;
            }
            let variance = building.variance(background, light + other);
            let g = [source.flux * px, source.flux * py, p];
            let mut leverage = 0.0;
            for (a, row) in inverse.iter().enumerate() {
                for (b, c) in row.iter().enumerate() {
                    leverage += g[a] * c * g[b] / variance;
                }
            }
            if leverage < 0.9 {
                let r = d - other - light;
                samples.push([light, r * r / (1.0 - leverage) - background, background]);
            }
        }
    }
    regress(&samples, gain)
}

/// Least squares of `excess = photon · light + model · light²`, each weighted with its own expected scatter.
fn regress(samples: &[[f32; 3]], gain: Option<f64>) -> Noise {
    let given = gain.map(|g| 1.0 / g);
    let mut noise = Noise { photon: given.unwrap_or(0.0) as f32, model: BUILDING_ERROR * BUILDING_ERROR };
    for _ in 0..4 {
        let (mut a, mut b, mut c, mut u, mut v) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &[light, excess, background] in samples {
            let expected = noise.variance(background, light);
            // A residual of many sigmas is a neighbour or a cosmic ray.
            if excess + background > 25.0 * expected {
                continue;
            }
            let weight = f64::from(1.0 / (expected * expected));
            let (m, e) = (f64::from(light), f64::from(excess));
            a += weight * m * m;
            b += weight * m * m * m;
            c += weight * m * m * m * m;
            u += weight * m * e;
            v += weight * m * m * e;
        }
        if let Some(photon) = given {
            noise.model = ((v - photon * b) / c).max(0.0) as f32;
        } else {
            let determinant = a * c - b * b;
            let mut photon = (c * u - b * v) / determinant;
            let mut model = (a * v - b * u) / determinant;
            if photon < 0.0 {
                (photon, model) = (0.0, v / c);
            } else if model < 0.0 {
                (photon, model) = (u / a, 0.0);
            }
            if !(photon.is_finite() && model.is_finite()) {
                return noise;
            }
            noise = Noise { photon: photon.max(0.0) as f32, model: model.max(0.0) as f32 };
        }
    }
    noise
}
