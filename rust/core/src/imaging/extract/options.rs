//! Options of the extraction: sources to look for, and the noise.

use crate::error::{Error, Result};
use crate::imaging::background::{Background, COARSE_SAMPLES, FINE_SAMPLES, Mesh};
use crate::imaging::image::{Image, Reading};

/// Sources to look for and to keep. `Default` fits most frames of the sky.
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
    /// Measure so many of the highest peaks, and those beside them. The others are counted; in a frame of several times as
    /// many they are not looked for, and their number is estimated.
    pub max_measured: Option<usize>,
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

/// Widest matched filter: beyond it the frame should be binned instead.
const MAX_FILTER_SIGMA: f64 = 50.0;
/// Smallest block: below it there is nothing left to be robust with.
const MIN_BLOCK_SIZE: usize = 4;

impl ExtractOptions {
    pub(super) fn check(&self) -> Result<()> {
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

impl ExtractOptions {
    /// The same for an image that is read in other units.
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

    /// The background, and its noise: that of the image's pixels (as it is read), of a gain and read noise, or measured.
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
