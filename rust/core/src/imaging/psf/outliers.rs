//! Finds pixels hit by cosmic rays in the residuals of fitted stars: lone pixels that are too bright.

use rayon::prelude::*;

use super::cutouts::Stamps;
use super::field::PsfField;
use super::fit::Work;
use super::noise::Noise;
use super::source::{Fit, Source};
use crate::imaging::stamp::is_good;

/// Number of stars per task.
const TASK_STARS: usize = 8;

/// Finds lone pixels in the residuals of the stars `misfits`, which do not fit. Returns the index of each
/// such star with its lone pixels.
pub(crate) fn outliers(
    stamps: &Stamps,
    psf: &PsfField,
    noise: Noise,
    fits: &[Fit],
    misfits: &[usize],
) -> Vec<(usize, Vec<usize>)> {
    let sources: Vec<Source> = fits.iter().map(|fit| fit.source).collect();
    misfits
        .par_iter()
        .with_min_len(TASK_STARS)
        .map_init(
            || (Work::default(), Vec::new()),
            |(work, residual), &i| {
                stamps.step(psf, noise, &sources, i, work);
                residual.clear();
                let pixels = stamps.data(i).iter().zip(&work.own.value).zip(&work.light);
                residual.extend(pixels.map(|((&d, &p), &light)| {
                    let model = light + sources[i].flux * p;
                    let error = noise.variance(stamps.variance(i), model).sqrt();
                    if is_good(d) { (d - model) / error } else { d }
                }));
                (i, stamps.lone(residual))
            },
        )
        .filter(|(_, pixels)| !pixels.is_empty())
        .collect()
}
