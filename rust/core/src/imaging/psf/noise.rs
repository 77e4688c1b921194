//! The noise of pixels with stars on them.

use super::fit::Fit;
use crate::imaging::stamp::part_of;
use crate::lsq::robust::median;

/// Relative error of the point-spread function that is counted at most in the weights of pixels.
const MAX_WEIGHT_ERROR: f32 = 0.03;

/// Variance of a pixel: `σ² + photon · light + model · light²`, of the light of all stars on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Units of the image per electron.
    pub photon: f32,
    /// Square of the relative error of the point-spread function.
    pub model: f32,
}

impl Noise {
    #[inline]
    pub(crate) fn variance(self, background: f32, light: f32) -> f32 {
        let light = light.max(0.0);
        background + self.photon * light + self.model * light * light
    }

    /// The variance to weight pixels with, which grows with the light no more than is sure.
    ///
    /// Where the point-spread function is not known well, its error, and stars too faint to see, pass for photon noise.
    /// Counted in full they would leave a bright star to its faint wings, and to neighbouring stars.
    #[inline]
    pub(super) fn weighting(self) -> Self {
        let known = MAX_WEIGHT_ERROR * MAX_WEIGHT_ERROR;
        if self.model <= known {
            self
        } else {
            Self { photon: self.photon * known / self.model, model: known }
        }
    }
}

/// Stars of this signal to noise tell how wrong the point-spread function is in their part of the frame, if there are so many
/// on average; parts along an axis at most.
const TELLING_SNR: f32 = 30.0;
const STARS_A_PART: usize = 10;
const MAX_PARTS: usize = 8;
/// The brightest of a part, asked besides all: one in so many, but so many at least.
const BRIGHTEST_SHARE: usize = 3;
const FEWEST_STARS: usize = 5;
/// The function is taken to be no more wrong than this fraction of the light.
const WORST_ERROR: f32 = 0.3;

/// The noise all over a frame: the error of the point-spread function differs from place to place.
#[derive(Debug, Clone)]
pub(crate) struct NoiseField {
    /// Width and height of the frame.
    size: [usize; 2],
    /// Parts along each axis, row by row.
    along: usize,
    parts: Vec<Noise>,
}

impl NoiseField {
    /// Some noise, with the error of the point-spread function that the stars of each part show beyond that of all: the median,
    /// for a star with another beside it does not tell. The brightest of them may have one more often; of fainter ones, stars
    /// too faint to see are a larger part: the less counts.
    pub(crate) fn local(noise: Noise, size: [usize; 2], fits: &[Fit]) -> Self {
        let telling: Vec<&Fit> = fits.iter().filter(|fit| fit.snr() > TELLING_SNR).collect();
        let along = ((telling.len() as f64 / STARS_A_PART as f64).sqrt() as usize).clamp(1, MAX_PARTS);
        let mut stars = vec![Vec::new(); along * along];
        for fit in telling {
            stars[part_of(fit.source.pixel, size, along)].push(fit);
        }
        let parts = stars.into_iter().map(|mut stars| {
            stars.sort_by(|a, b| b.snr().total_cmp(&a.snr()));
            let brightest = (stars.len() / BRIGHTEST_SHARE).max(FEWEST_STARS);
            let more = match stars.get(..brightest) {
                Some(brightest) => median_excess(brightest).min(median_excess(&stars)).max(0.0),
                None => 0.0,
            };
            Noise { model: (noise.model + more).min(WORST_ERROR * WORST_ERROR), ..noise }
        });
        Self { size, along, parts: parts.collect() }
    }

    /// The noise at a pixel.
    pub(crate) fn at(&self, pixel: [isize; 2]) -> Noise {
        self.parts[part_of(pixel, self.size, self.along)]
    }
}

/// Median excess of the squared residuals over their expectation, as a fraction of the squared light.
fn median_excess(stars: &[&Fit]) -> f32 {
    let excess = |fit: &&Fit| f64::from((fit.chi2 - fit.pixels) / fit.snr().powi(2));
    median(&mut stars.iter().map(excess).collect::<Vec<f64>>()) as f32
}
