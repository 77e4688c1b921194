//! Options of the extraction, and the background and noise that follow from them.

use crate::error::{Error, Result};
use crate::imaging::background::{Background, COARSE_SAMPLES, FINE_SAMPLES, Mesh};
use crate::imaging::image::{Image, Reading};

/// Options of the extraction. `Default` suits most frames of the sky.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractOptions {
    /// Least height of a star in the filtered frame, in standard deviations of the filtered noise.
    pub sigma_threshold: f64,
    /// Least number of pixels of a blob.
    pub min_pixels: usize,
    /// Greatest number of pixels of a blob for each of its peaks; crowded stars form one blob.
    pub max_pixels: usize,
    /// Number of the brightest stars to keep; `None` keeps all.
    pub max_centroids: Option<usize>,
    /// Number of the highest peaks to measure, together with peaks close to them; `None` measures all. The
    /// other peaks are only counted; in a frame with several times as many peaks they are not searched for,
    /// and their number is estimated.
    pub max_measured: Option<usize>,
    /// Side in pixels of the blocks in which the background is measured.
    pub local_bg_block_size: usize,
    /// Greatest ratio of the axes of a star's image. If all stars of the frame are trailed, this limit is
    /// multiplied by the ratio of the axes of the trails.
    pub max_elongation: Option<f64>,
    /// Standard deviation, in pixels, of the Gaussian matched filter; `None` does not filter.
    pub matched_filter_sigma: Option<f64>,
    /// Greatest sharpness, (peak - mean of its eight neighbours) / peak; a hot pixel has sharpness 1. Sources
    /// that exceed it by more than their noise explains are rejected.
    pub max_sharpness: Option<f64>,
    /// Value from which pixels are saturated. `None` determines it from a flat top of the brightest stars, if
    /// any.
    pub saturation_level: Option<f64>,
    /// Width, in pixels, of the border of the frame in which stars are rejected.
    pub border_margin: usize,
    /// Electrons per unit of the image, for the photon noise of the stars.
    pub gain: Option<f64>,
    /// Read noise in electrons. If it is given (with `gain`), the noise of a pixel without stars is not
    /// measured but computed from the read noise and the photon noise of the background; pixel values must
    /// then be zero without light.
    pub read_noise: Option<f64>,
    /// How positions are measured.
    pub method: Method,
    /// Detect on pixels binned 2 x 2, sample the background more sparsely, and measure positions in small
    /// windows, whatever the `method`. The extraction is several times faster and a little less sensitive.
    pub fast: bool,
}

/// How positions are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// Fit of the point-spread function that is measured from the frame itself, with neighbouring stars
    /// fitted together.
    #[default]
    Psf,
    /// Centroid in a Gaussian window: faster, and less accurate for faint, close or undersampled stars.
    Window,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            sigma_threshold: 5.0,
            min_pixels: 3,
            max_pixels: 10_000,
            max_centroids: None,
            max_measured: None,
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

/// Greatest sigma of the matched filter, in pixels. For wider stars the frame should be binned instead.
const MAX_FILTER_SIGMA: f64 = 50.0;
/// Smallest side of a background block, in pixels. Smaller blocks have too few pixels for robust estimates.
const MIN_BLOCK_SIZE: usize = 4;

impl ExtractOptions {
    pub(super) fn check(&self) -> Result<()> {
        positive("sigma_threshold", Some(self.sigma_threshold))?;
        positive("gain", self.gain)?;
        positive("read_noise", self.read_noise.filter(|&v| v != 0.0))?;
        if self.read_noise.is_some() && self.gain.is_none() {
            return Err(Error::argument(
                "read_noise",
                "it is in electrons, but no gain is given to convert it",
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
                "give max_pixels of at least min_pixels",
            ));
        }
        for (name, value, least) in
            [("max_elongation", self.max_elongation, 1.0), ("max_sharpness", self.max_sharpness, 0.0)]
        {
            if value.is_some_and(|v| v.is_nan() || v < least) {
                return Err(Error::argument(
                    name,
                    format!("{} rejects every star", value.unwrap_or_default()),
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

impl ExtractOptions {
    /// Converts the options to the units in which the image is read.
    pub(super) fn scaled(&self, reading: &Reading) -> Self {
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

    /// Measures the background. Its noise is the one given for the image's pixels (converted like the image),
    /// or is computed from gain and read noise, or is measured.
    pub(super) fn background(&self, image: &Image<'_>, reading: &Reading) -> Result<Background> {
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
                    "the image already has a noise for every pixel",
                    "give either the noise or read_noise",
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
