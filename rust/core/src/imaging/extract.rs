//! Extraction: from the pixels of a frame to its stars.
//!
//! Background and noise on a mesh, a matched filter, blobs and their peaks, then the position of every peak. Positions
//! count from the image's centre, as everywhere in this crate: [`Star::position`] is what [`crate::solve::solve`] takes.

use crate::error::{Error, Result};
use crate::imaging::background::{Background, COARSE_SAMPLES, FINE_SAMPLES, Mesh};
use crate::imaging::centroid::{self, Moments};
use crate::imaging::detect::{Blob, Detection, Detector, Peak};
use crate::imaging::image::{Image, Pixel, Reading};
use crate::imaging::survey::survey;

mod measure;
mod mosaic;
mod quick;
mod saturation;

use measure::{Measure, Measured};
use saturation::Saturation;

/// What to look for and what to keep. `Default` fits most frames of the sky.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractOptions {
    /// Least height of a star in the filtered frame, in standard deviations of its noise.
    pub sigma_threshold: f64,
    /// Least number of pixels of a blob.
    pub min_pixels: usize,
    /// Greatest number of pixels of a blob for each of its peaks: crowded stars are one blob.
    pub max_pixels: usize,
    /// Keep so many of the brightest stars.
    pub max_centroids: Option<usize>,
    /// Side in pixels of the blocks in which the background is measured.
    pub local_bg_block_size: usize,
    /// Greatest ratio of the axes of a star's image; of that of the frame's stars, where all of them are trailed.
    pub max_elongation: Option<f64>,
    /// Standard deviation in pixels of the Gaussian with which the frame is filtered; `None` does not filter.
    pub matched_filter_sigma: Option<f64>,
    /// Greatest sharpness, (peak - mean of its eight neighbours) / peak, within its noise: 1 is a hot pixel.
    pub max_sharpness: Option<f64>,
    /// Pixels from this value on are saturated. `None` finds a flat top by itself.
    pub saturation_level: Option<f64>,
    /// Stars nearer than this to the edge of the frame are left out.
    pub border_margin: usize,
    /// Electrons per unit of the image, for the photon noise of the stars.
    pub gain: Option<f64>,
    /// Read noise in electrons. With it and `gain`, the noise of a pixel without stars is that of its background's
    /// photons and of its reading, and is not measured: the image's zero must be that of its light.
    pub read_noise: Option<f64>,
    /// How positions are measured.
    pub method: Method,
    /// Detect on pixels binned two by two, sample the background more sparsely and take positions from small windows,
    /// whatever the `method`: several times faster, a little less sensitive.
    pub fast: bool,
}

/// How positions are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// By fitting the point-spread function that the frame itself shows, neighbours included.
    #[default]
    Psf,
    /// By the centroid in a Gaussian window: faster, and less exact for faint, close or undersampled stars.
    Window,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            sigma_threshold: 5.0,
            min_pixels: 3,
            max_pixels: 10_000,
            max_centroids: None,
            local_bg_block_size: 64,
            max_elongation: Some(3.0),
            matched_filter_sigma: Some(1.5),
            max_sharpness: Some(0.9),
            saturation_level: None,
            border_margin: 0,
            gain: None,
            read_noise: None,
            method: Method::default(),
            fast: false,
        }
    }
}

/// Widest matched filter: beyond it the frame should be binned instead.
const MAX_FILTER_SIGMA: f64 = 50.0;
/// Smallest frame that is binned for fast detection.
const MIN_BINNED_SIZE: usize = 16;
/// Smallest block: below it there is nothing left to be robust with.
const MIN_BLOCK_SIZE: usize = 4;

impl ExtractOptions {
    fn check(&self) -> Result<()> {
        positive("sigma_threshold", Some(self.sigma_threshold))?;
        positive("gain", self.gain)?;
        positive("read_noise", self.read_noise.filter(|&v| v != 0.0))?;
        if self.read_noise.is_some() && self.gain.is_none() {
            return Err(Error::argument(
                "read_noise",
                "it is in electrons, and there is no gain to convert it",
                "give the gain too, in electrons per unit of the image",
            ));
        }
        positive("matched_filter_sigma", self.matched_filter_sigma)?;
        if self.matched_filter_sigma.is_some_and(|s| s > MAX_FILTER_SIGMA) {
            return Err(Error::argument(
                "matched_filter_sigma",
                format!("{} is too wide", self.matched_filter_sigma.unwrap_or_default()),
                format!("give at most {MAX_FILTER_SIGMA} pixels, or bin the image"),
            ));
        }
        if self.local_bg_block_size < MIN_BLOCK_SIZE {
            return Err(Error::argument(
                "local_bg_block_size",
                format!("{} pixels is too small", self.local_bg_block_size),
                format!("give at least {MIN_BLOCK_SIZE}"),
            ));
        }
        if self.max_pixels < self.min_pixels {
            return Err(Error::argument(
                "max_pixels",
                format!("{} is less than min_pixels, {}", self.max_pixels, self.min_pixels),
                "give a range that blobs can fall in",
            ));
        }
        for (name, value, least) in
            [("max_elongation", self.max_elongation, 1.0), ("max_sharpness", self.max_sharpness, 0.0)]
        {
            if value.is_some_and(|v| v.is_nan() || v < least) {
                return Err(Error::argument(
                    name,
                    format!("{} lets nothing pass", value.unwrap_or_default()),
                    format!("give a number of at least {least}, or none for no limit"),
                ));
            }
        }
        if self.saturation_level.is_some_and(f64::is_nan) {
            return Err(Error::argument("saturation_level", "it is NaN", "give a pixel value, or none"));
        }
        Ok(())
    }
}

fn positive(name: &'static str, value: Option<f64>) -> Result<()> {
    match value {
        Some(v) if !(v > 0.0 && v.is_finite()) => {
            Err(Error::argument(name, format!("{v} is not positive"), "give a positive, finite number"))
        }
        _ => Ok(()),
    }
}

/// What is special about a star, as bits.
pub mod flags {
    /// A pixel of it is saturated: flux and position are worse than their noise tells.
    pub const SATURATED: u32 = 1;
    /// It is so near the edge of the frame that a part of it is missing.
    pub const EDGE: u32 = 2;
    /// Another star's light reaches into it.
    pub const BLENDED: u32 = 4;
    /// A bad pixel lies within it.
    pub const MASKED: u32 = 8;
    /// The stars of its frame are elongated, all in one direction.
    pub const TRAILED: u32 = 16;
    /// It is sharper than the frame's stars can be: a hot pixel or the hit of a cosmic ray.
    pub const HOT_PIXEL: u32 = 32;
}

/// One star as it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Star {
    /// Position in pixels from the image's centre, as [`crate::solve::solve`] takes it: the 0-based column (whole at
    /// pixel centres) less half the width, and the row less half the height.
    pub position: [f64; 2],
    /// Covariance of the position in square pixels: xx, xy, yy.
    pub position_cov: Moments,
    /// Light above the background, in units of the image.
    pub flux: f64,
    /// Standard deviation of `flux`.
    pub flux_error: f64,
    /// Second moments of the star's image in square pixels: xx, xy, yy.
    pub cov: Moments,
    /// Highest pixel above the background.
    pub peak: f64,
    /// Background at the star.
    pub background: f64,
    /// (peak - mean of its eight neighbours) / peak.
    pub sharpness: f64,
    /// Pixels of the blob it belongs to.
    pub num_pixels: usize,
    /// Bits of [`flags`].
    pub flags: u32,
}

impl Star {
    /// Column and row of the position in an image of this width and height, 0-based and whole at pixel centres.
    pub fn column_row(&self, image_size: [usize; 2]) -> [f64; 2] {
        std::array::from_fn(|k| self.position[k] + image_size[k] as f64 / 2.0)
    }

    /// The same star with its light in other units, by a factor.
    fn in_units(self, factor: f64) -> Self {
        Self {
            flux: factor * self.flux,
            flux_error: factor * self.flux_error,
            peak: factor * self.peak,
            background: factor * self.background,
            ..self
        }
    }

    /// Ratio of the axes of the image.
    pub fn elongation(&self) -> f64 {
        centroid::elongation(self.cov)
    }

    /// Full width at half maximum of a Gaussian with the image's moments.
    pub fn fwhm(&self) -> f64 {
        let [xx, xy, yy] = self.cov;
        (8.0 * std::f64::consts::LN_2).sqrt() * (xx * yy - xy * xy).max(0.0).powf(0.25)
    }

    /// Flux over its error.
    pub fn snr(&self) -> f64 {
        self.flux / self.flux_error
    }
}

/// How many candidates were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Blobs of fewer than `min_pixels`.
    pub too_small: usize,
    /// Blobs of more than `max_pixels` a peak.
    pub too_large: usize,
    /// More elongated than `max_elongation`.
    pub elongated: usize,
    /// Several times wider than the stars.
    pub extended: usize,
    /// Sharper than `max_sharpness`.
    pub sharp: usize,
    /// Within `border_margin`.
    pub border: usize,
    /// Without light left when measured.
    pub faint: usize,
    /// Beyond the brightest `max_centroids`.
    pub surplus: usize,
}

/// Stars of a frame, brightest first, and what was measured on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// The stars, brightest first.
    pub stars: Vec<Star>,
    /// Background and noise of the frame.
    pub background: Background,
    /// Mean threshold in units of the image, after a filter that keeps the flux.
    pub threshold: f64,
    /// Blobs with a peak above the threshold.
    pub num_blobs_raw: usize,
    /// What was left out.
    pub rejected: Rejected,
    /// Value from which pixels counted as saturated.
    pub saturation_level: Option<f64>,
}

/// Finds and measures the stars of a frame. For many frames, see [`Extractor`].
pub fn extract<T: Pixel>(image: &Image<'_, T>, options: &ExtractOptions) -> Result<Extraction> {
    Extractor::new(options.clone())?.extract(image)
}

/// Finds and measures the stars of frame after frame, with options that are checked once and buffers that are kept.
#[derive(Debug, Clone)]
pub struct Extractor {
    options: ExtractOptions,
    detector: Detector,
    measured: Vec<Measured>,
}

impl Extractor {
    /// Refuses options that make no sense.
    pub fn new(options: ExtractOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { options, detector: Detector::default(), measured: Vec::new() })
    }

    /// What it looks for and keeps.
    pub fn options(&self) -> &ExtractOptions {
        &self.options
    }

    /// The stars of one frame; those before leave no trace in them.
    pub fn extract<T: Pixel>(&mut self, image: &Image<'_, T>) -> Result<Extraction> {
        // All that follows is in units in which the frame scatters by about one.
        let reading = self.reading(image)?;
        let Self { options, detector, measured } = self;
        let (image, options) = (&image.with_reading(reading), &options.scaled(&reading));
        let background = options.background(image, &reading)?;
        let binned = options.fast && image.width().min(image.height()) >= MIN_BINNED_SIZE;
        let threshold = options.sigma_threshold as f32;
        let detection = detector.detect(image, &background, options.matched_filter_sigma, threshold, binned);
        let mut rejected = Rejected::default();
        let peaks = select(image, detection, options, &mut rejected);
        let (saturation, candidates) =
            Saturation::find(image, &background, detection, &peaks, options.saturation_level);
        let measure = Measure::new(image, &background, &saturation, detection, options, &candidates);
        let mut stars = measure.stars(&candidates, measured, &mut rejected);
        stars.sort_by_cached_key(|star| descending(star.flux));
        let keep = options.max_centroids.unwrap_or(usize::MAX).min(stars.len());
        rejected.surplus = stars.len() - keep;
        stars.truncate(keep);
        let response = f64::from(detection.threshold * detection.correlation / detection.gain);
        let unit = reading.scale.recip();
        Ok(Extraction {
            stars: stars.into_iter().map(|star| star.in_units(unit)).collect(),
            threshold: unit * response * background.noise.mean(),
            num_blobs_raw: detection.found,
            rejected,
            saturation_level: Some(f64::from(saturation.level())).filter(|l| l.is_finite()).map(|l| unit * l),
            background: background.in_units(unit),
        })
    }
}

impl Extractor {
    /// How to read the image. What the places of a pattern differ in, without light, the sky tells; with light, the stars.
    fn reading<T: Pixel>(&mut self, image: &Image<'_, T>) -> Result<Reading> {
        let reading = survey(image);
        let Some(pattern) = reading.pattern else { return Ok(reading) };
        let (image, options) = (&image.with_reading(reading), self.options.scaled(&reading));
        let background = options.background(image, &reading)?;
        let threshold = options.sigma_threshold as f32;
        let filter = options.matched_filter_sigma;
        let detection = self.detector.detect(image, &background, filter, threshold, false);
        let level = background.level.mean() as f32;
        let sensitive = mosaic::sensitivities(image, &background, &detection.peaks);
        let pattern = sensitive.map_or(pattern, |places| pattern.divided(places, level));
        Ok(Reading { pattern: Some(pattern), ..reading })
    }
}

impl ExtractOptions {
    /// The same for an image that is read in other units.
    fn scaled(&self, reading: &Reading) -> Self {
        let saturation = |level: f64| {
            let level = reading.scale * level;
            reading.pattern.map_or(level, |pattern| pattern.lowest(level))
        };
        Self {
            gain: self.gain.map(|gain| gain / reading.scale),
            saturation_level: self.saturation_level.map(saturation),
            ..self.clone()
        }
    }

    /// The background, and its noise: that of the image's pixels (as it is read), of a gain and read noise, or measured.
    fn background<T: Pixel>(&self, image: &Image<'_, T>, reading: &Reading) -> Result<Background> {
        let samples = if self.fast { COARSE_SAMPLES } else { FINE_SAMPLES };
        let Some(mut background) = Background::sample(image, self.local_bg_block_size, samples) else {
            return Err(Error::argument(
                "image",
                "no pixel is finite and unmasked",
                "give an image with data, or check its mask",
            ));
        };
        match (image.noise(), self.read_noise, self.gain) {
            (Some(_), Some(_), _) => {
                return Err(Error::argument(
                    "read_noise",
                    "the noise of every pixel is given already",
                    "give one of the two",
                ));
            }
            (Some(noise), None, _) => {
                background.noise =
                    Mesh::per_pixel(noise).map(|noise| (reading.scale * f64::from(noise)) as f32);
            }
            (None, Some(read_noise), Some(gain)) => {
                let photons = |level: f32| f64::from(level).max(0.0) * gain;
                background.noise = background
                    .level
                    .map(|level| ((photons(level) + read_noise * read_noise).sqrt() / gain) as f32);
            }
            _ => {}
        }
        background.noise = background.noise.map(|noise| noise.max(reading.least_noise));
        Ok(background)
    }
}

/// A number that rises as `value` falls.
fn descending(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { bits } else { !(bits | 1 << 63) }
}

/// Peaks in blobs of the right size and away from the border.
fn select<T: Pixel>(
    image: &Image<'_, T>,
    detection: &Detection,
    options: &ExtractOptions,
    rejected: &mut Rejected,
) -> Vec<Peak> {
    let too_large = |blob: &Blob| blob.pixels > options.max_pixels.saturating_mul(blob.peaks);
    for blob in detection.blobs.iter().filter(|b| b.peaks > 0) {
        rejected.too_small += usize::from(blob.pixels < options.min_pixels);
        rejected.too_large += usize::from(too_large(blob));
    }
    let margin = options.border_margin;
    let inside = |i: usize, n: usize| i >= margin && i + margin < n;
    detection
        .peaks
        .iter()
        .filter(|peak| {
            let blob = &detection.blobs[peak.blob];
            blob.pixels >= options.min_pixels && !too_large(blob)
        })
        .filter(|peak| {
            let keep = inside(peak.x, image.width()) && inside(peak.y, image.height());
            rejected.border += usize::from(!keep);
            keep
        })
        .copied()
        .collect()
}
