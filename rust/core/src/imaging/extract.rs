//! Extracts the stars of a frame from its pixels.
//!
//! The steps are: background and noise on a mesh, a matched filter, blobs and their peaks, then the position
//! of every peak. Positions are relative to the image's centre, as everywhere in this crate;
//! [`Star::position`] can be passed to [`crate::solve::solve`] directly.

use std::sync::Arc;

use crate::error::Result;
use crate::imaging::background::Background;
use crate::imaging::centroid::{self, Moments};
use crate::imaging::defects::Defects;
use crate::imaging::detect::{Detection, Detector, Search};
use crate::imaging::image::{Image, Reading};
use crate::imaging::sharp;
use crate::imaging::survey::survey;
use crate::monitor::{Monitor, checkpoint};

mod large;
mod measure;
mod mosaic;
mod options;
mod quick;
mod saturation;
mod select;

pub use crate::imaging::psf::field::EffectivePsf;
pub use crate::imaging::psf::field::PsfKind;
use large::Large;
use measure::{Measure, Measured};
pub use options::{ExtractOptions, Method};
use select::{Chosen, select};

/// Properties of a star, as bits.
pub mod flags {
    /// A pixel of the star is saturated; flux and position are less accurate than their noise suggests.
    pub const SATURATED: u32 = 1;
    /// The star is so near the edge of the frame that a part of it is missing.
    pub const EDGE: u32 = 2;
    /// The star overlaps with the light of another star.
    pub const BLENDED: u32 = 4;
    /// A bad pixel lies within the star.
    pub const MASKED: u32 = 8;
    /// The stars of the frame are elongated, all in one direction.
    pub const TRAILED: u32 = 16;
    /// The source is sharper than a star of the frame can be: a hot pixel or the hit of a cosmic ray.
    pub const HOT_PIXEL: u32 = 32;
}

/// One star, with its measured properties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Star {
    /// Position in pixels from the image's centre, as for [`crate::solve::solve`]: the 0-based column (an
    /// integer at pixel centres) less half the image's width, and the row less half its height.
    pub position: [f64; 2],
    /// Covariance of the position in square pixels: xx, xy, yy.
    pub position_cov: Moments,
    /// Light above the background, in units of the image.
    pub flux: f64,
    /// Standard deviation of `flux`.
    pub flux_error: f64,
    /// Second moments of the star's image in square pixels: xx, xy, yy.
    pub cov: Moments,
    /// Height of the highest pixel above the background, in units of the image.
    pub peak: f64,
    /// Background at the star, in units of the image.
    pub background: f64,
    /// (peak - mean of its eight neighbours) / peak.
    pub sharpness: f64,
    /// Number of pixels of the blob that the star belongs to.
    pub num_pixels: usize,
    /// Bits of [`flags`].
    pub flags: u32,
}

impl Star {
    /// Column and row of the star in an image of this width and height, 0-based and integers at pixel
    /// centres.
    pub fn column_row(&self, image_size: [usize; 2]) -> [f64; 2] {
        std::array::from_fn(|k| self.position[k] + image_size[k] as f64 / 2.0)
    }

    /// Converts the light of the star to other units, by multiplying it by `factor`.
    fn in_units(self, factor: f64) -> Self {
        Self {
            flux: factor * self.flux,
            flux_error: factor * self.flux_error,
            peak: factor * self.peak,
            background: factor * self.background,
            ..self
        }
    }

    /// Multiplies the covariance of the position by `factor`.
    fn with_position_errors(self, factor: f64) -> Self {
        Self { position_cov: self.position_cov.map(|c| factor * c), ..self }
    }

    /// Ratio of the major to the minor axis of the star's image.
    pub fn elongation(&self) -> f64 {
        centroid::elongation(self.cov)
    }

    /// Full width at half maximum, in pixels, of a Gaussian with the second moments of the star's image.
    pub fn fwhm(&self) -> f64 {
        let [xx, xy, yy] = self.cov;
        (8.0 * std::f64::consts::LN_2).sqrt() * (xx * yy - xy * xy).max(0.0).powf(0.25)
    }

    /// Signal-to-noise ratio: flux over its standard deviation.
    pub fn snr(&self) -> f64 {
        self.flux / self.flux_error
    }
}

/// Numbers of rejected candidates, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Blobs of fewer than `min_pixels` pixels.
    pub too_small: usize,
    /// Blobs of more than `max_pixels` pixels per peak, and saturated regions that are too large or
    /// scattered.
    pub too_large: usize,
    /// Sources more elongated than `max_elongation` and, where stars have large images, sources shorter than
    /// these.
    pub elongated: usize,
    /// Sources several times wider than the stars, and peaks that do not stand out from the light around
    /// them.
    pub extended: usize,
    /// Sources sharper than `max_sharpness`.
    pub sharp: usize,
    /// Sources within `border_margin` of the edge of the frame.
    pub border: usize,
    /// Sources in which too little light is measured.
    pub faint: usize,
    /// Stars beyond the brightest `max_centroids`, and peaks beyond the greatest number for the size of the
    /// frame.
    pub surplus: usize,
    /// Peaks that were not measured, because they are beyond the highest `max_measured`; an estimate if only
    /// the highest peaks were searched for.
    pub unmeasured: usize,
}

/// Result of an extraction: the stars of a frame, its background and its point-spread function.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// The stars, brightest first.
    pub stars: Vec<Star>,
    /// Background and noise of the frame.
    pub background: Background,
    /// Mean detection threshold in units of the image, for a matched filter that conserves flux.
    pub threshold: f64,
    /// Number of blobs with a peak above the threshold.
    pub num_blobs_raw: usize,
    /// Numbers of rejected candidates.
    pub rejected: Rejected,
    /// Pixel value from which pixels count as saturated, if there is one.
    pub saturation_level: Option<f64>,
    /// Kind of the point-spread function that was fitted; `None` if positions were measured in windows.
    pub psf: Option<PsfKind>,
    /// The point-spread function that was fitted, as measured from the stars.
    pub effective_psf: Option<EffectivePsf>,
}

/// Search for the highest peaks: one peak is added as a reserve for each of this number of peaks to be
/// measured, because some peaks are defects or do not stand out from the light around them.
const SPARE: usize = 4;
/// Smallest side, in pixels, of a frame that is binned for fast detection.
const MIN_BINNED_SIZE: usize = 16;

/// Finds and measures the stars of a frame. For many frames, see [`Extractor`].
pub fn extract(image: &Image<'_>, options: &ExtractOptions) -> Result<Extraction> {
    Extractor::new(options.clone())?.extract(image, &())
}

/// Finds and measures the stars of many frames, one after another. Options are checked once; buffers are
/// reused.
#[derive(Debug, Clone)]
pub struct Extractor {
    options: ExtractOptions,
    detector: Detector,
    measured: Vec<Measured>,
}

impl Extractor {
    /// Checks the options, and returns an error if they are invalid.
    pub fn new(options: ExtractOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { options, detector: Detector::default(), measured: Vec::new() })
    }

    /// The same extractor, with its buffers, for other options. Returns an error if they are invalid.
    pub fn with_options(self, options: ExtractOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { options, ..self })
    }

    /// Options of the extractor.
    pub fn options(&self) -> &ExtractOptions {
        &self.options
    }

    /// Finds and measures the stars of one frame. The result does not depend on earlier frames. Stops soon
    /// after the monitor requests it.
    pub fn extract(&mut self, image: &Image<'_>, monitor: &dyn Monitor) -> Result<Extraction> {
        // From here on, light is in units in which the frame's scatter is about one.
        let reading = self.reading(image)?;
        let Self { options, detector, measured } = self;
        let (image, options) = (&image.with_reading(reading), &options.scaled(&reading));
        let background = options.background(image, &reading)?;
        checkpoint(monitor)?;
        let (defects, brightest) = match detect_brightest(detector, image, &background, options) {
            Some((defects, peaks)) => (defects, Some(peaks)),
            None => (detect(detector, image, &background, options), None),
        };
        let (image, detection) = (&image.without(defects.clone()), detector.detection());
        checkpoint(monitor)?;
        let mut frame =
            Frame { image, background: &background, detection, options, saturation: f32::INFINITY };
        let large = if brightest.is_none() { Large::find(image, &background, detection) } else { None };
        let mut rejected = Rejected::default();
        let (mut stars, psf) = if let Some(large) = large {
            frame.saturation = saturation::level(&frame, &detection.peaks);
            (large.stars(&frame, &mut rejected), None)
        } else {
            let peaks;
            (peaks, rejected) = brightest.unwrap_or_else(|| select(&frame));
            frame.saturation = saturation::level(&frame, &peaks);
            let candidates = saturation::candidates(&frame, &peaks, &mut rejected);
            checkpoint(monitor)?;
            Measure::new(&frame, &candidates).stars(candidates, measured, &mut rejected, monitor)?
        };
        rejected.sharp += defects.higher_than(detection.threshold / detection.single);
        stars.sort_by_cached_key(|star| descending(star.flux));
        let keep = options.max_centroids.unwrap_or(usize::MAX).min(stars.len());
        rejected.surplus += stars.len() - keep;
        stars.truncate(keep);
        let response = f64::from(detection.threshold * detection.correlation / detection.gain);
        let (unit, level) = (reading.scale.recip(), f64::from(frame.saturation));
        Ok(Extraction {
            stars: stars.into_iter().map(|star| star.in_units(unit)).collect(),
            threshold: unit * response * background.noise.mean(),
            num_blobs_raw: detection.found,
            rejected,
            saturation_level: Some(unit * level).filter(|level| level.is_finite()),
            background: background.in_units(unit),
            psf: psf.as_ref().map(|psf| psf.kind),
            effective_psf: psf,
        })
    }

    /// Determines how the image is read. If pixels form a pattern of period two, its offsets are measured on
    /// the sky, and its sensitivities on the stars.
    fn reading(&mut self, image: &Image<'_>) -> Result<Reading> {
        let reading = survey(image);
        let Some(pattern) = reading.pattern else { return Ok(reading) };
        let (image, options) = (&image.with_reading(reading), self.options.scaled(&reading));
        let background = options.background(image, &reading)?;
        let (threshold, filter) = (mosaic::MIN_HEIGHT, options.matched_filter_sigma);
        let detection = self.detector.detect(image, &background, filter, threshold, false, None);
        let level = background.level.mean() as f32;
        let sensitive = mosaic::sensitivities(image, &background, &detection.peaks);
        let pattern = sensitive.map_or(pattern, |places| pattern.divided(places, level));
        Ok(Reading { pattern: Some(pattern), ..reading })
    }
}

/// A frame whose stars are to be measured.
struct Frame<'a> {
    image: &'a Image<'a>,
    background: &'a Background,
    detection: &'a Detection,
    options: &'a ExtractOptions,
    /// Value from which pixels are saturated; infinite if no pixels are.
    saturation: f32,
}

/// Detects the sources of a frame, with its defects masked, and returns the defects.
fn detect(
    detector: &mut Detector,
    image: &Image<'_>,
    background: &Background,
    options: &ExtractOptions,
) -> Arc<Defects> {
    let binned = options.fast && image.width().min(image.height()) >= MIN_BINNED_SIZE;
    let (sigma, threshold) = (options.matched_filter_sigma, options.sigma_threshold as f32);
    let sharpness = options.max_sharpness.unwrap_or(1.0);
    if options.fast {
        // Fast detection searches the frame for defects only if enough of the peaks are defects.
        let found = detector.detect(image, background, sigma, threshold, binned, None);
        if !sharp::many_among_peaks(image, background, &found.peaks, sharpness) {
            return found.defects.clone();
        }
    }
    let search: &Search<'_> =
        &|y, rows, found: &mut Defects| sharp::find(background, sharpness, y, rows, found);
    let search = (sharpness < 1.0).then_some(search);
    detector.detect(image, background, sigma, threshold, binned, search).defects.clone()
}

/// Detects the brightest stars of a rich frame, if only these are to be measured. Returns the defects among
/// the peaks, and the peaks that may be stars; `None` if the frame must be searched for all peaks.
fn detect_brightest(
    detector: &mut Detector,
    image: &Image<'_>,
    background: &Background,
    options: &ExtractOptions,
) -> Option<(Arc<Defects>, Chosen)> {
    let most = options.max_measured?;
    let (sigma, threshold) = (options.matched_filter_sigma, options.sigma_threshold as f32);
    let sharpness = options.max_sharpness.unwrap_or(1.0);
    if !detector.detect_highest(image, background, sigma, threshold, most + most / SPARE) {
        return None;
    }
    let defects = Arc::new(sharp::among_peaks(image, background, &detector.detection().peaks, sharpness));
    let image = &image.without(defects.clone());
    if !options.fast || !defects.is_empty() {
        detector.refine_unbinned(image, background, sigma, threshold);
    }
    let detection = detector.detection();
    let frame = Frame { image, background, detection, options, saturation: f32::INFINITY };
    let chosen = select(&frame);
    (chosen.0.len() >= most).then_some((defects, chosen))
}

/// Sort key that increases as `value` decreases.
fn descending(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { bits } else { !(bits | 1 << 63) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::monitor::StopAfter;

    #[test]
    fn it_stops_wherever_it_is_asked_to() {
        let pixels: Vec<f32> = (0..200 * 200)
            .map(|k| {
                let (x, y) = ((k % 200 % 20) as f32 - 9.7, (k / 200 % 20) as f32 - 10.2);
                100.0 + ((k * 7919) % 13) as f32 + 900.0 * (-0.5 * (x * x + y * y) / 1.4).exp()
            })
            .collect();
        let image = Image::from_slice(&pixels, 200).unwrap();
        let mut extractor = Extractor::new(ExtractOptions::default()).unwrap();
        let whole = extractor.extract(&image, &()).unwrap();
        assert_eq!((whole.stars.len(), whole.psf), (100, Some(PsfKind::Uniform)));
        let mut stops = 0;
        loop {
            let outcome = extractor.extract(&image, &StopAfter::new(stops));
            if let Ok(found) = outcome {
                assert_eq!(found, whole);
                break;
            }
            assert!(matches!(outcome, Err(Error::Interrupted)));
            stops += 1;
        }
        assert!(stops > 8, "{stops}");
    }

    #[test]
    fn defects_found_by_the_way_are_those_of_the_frame() {
        let (width, height) = (203, 401);
        let mut state = 3_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut pixels: Vec<f32> = (0..width * height).map(|_| 100.0 + 9.0 * random()).collect();
        for _ in 0..600 {
            pixels[(random() * (width * height) as f32) as usize] += 500.0 * random();
        }
        for at in (0..width).step_by(40).chain([width * 128 - 7, width * 127 + 60, width * height - 1]) {
            pixels[at] += 900.0;
        }
        let image = Image::from_slice(&pixels, width).unwrap();
        let background = Background::measure(&image, 64).unwrap();
        let defects = Arc::new(sharp::find_all(&image, &background, 0.9));
        let search: &Search<'_> =
            &|y, rows, found: &mut Defects| sharp::find(&background, 0.9, y, rows, found);
        assert!(defects.higher_than(10.0) > 100);
        for binned in [false, true] {
            let mut detector = Detector::default();
            let found = detector.detect(&image, &background, Some(1.2), 5.0, binned, Some(search)).clone();
            assert_eq!(found.defects, defects);
            let clean = image.without(defects.clone());
            let again = detector.detect(&clean, &background, Some(1.2), 5.0, binned, None);
            assert!(again.defects.is_empty() && found.peaks == again.peaks && !found.peaks.is_empty());
            assert_eq!((found.threshold, found.correlation), (again.threshold, again.correlation));
        }
    }

    #[test]
    fn nothing_makes_positions_that_are_no_numbers() {
        let checkers = |k: usize| if (k / 3 + k / 600).is_multiple_of(2) { 0.0_f32 } else { 100.0 };
        let hot = |k: usize| if (k * 7919).is_multiple_of(97) { 1e4_f32 } else { (k % 7) as f32 };
        let ramp = |k: usize| (k % 200) as f32 * 50.0 + (k % 3) as f32;
        for frame in [&checkers as &dyn Fn(usize) -> f32, &hot, &ramp, &|_| 7.0] {
            let pixels: Vec<f32> = (0..200 * 200).map(frame).collect();
            let image = Image::from_slice(&pixels, 200).unwrap();
            let found = extract(&image, &ExtractOptions::default()).unwrap();
            assert!(found.stars.iter().all(|star| star.position.iter().all(|p| p.abs() <= 100.0)));
            assert!(found.stars.iter().all(|star| star.flux > 0.0 && star.flux_error.is_finite()));
        }
    }
}
