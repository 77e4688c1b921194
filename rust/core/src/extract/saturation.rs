//! Saturated stars: from which value on, and which pixels of which star.

use std::collections::HashMap;

use crate::background::Background;
use crate::detect::Peak;
use crate::image::{Image, Pixel};

/// A flat top lies within this fraction of the highest pixel's height above the background.
const FLAT_TOP: f32 = 0.01;
/// That many pixels within the flat top around one peak mean saturation; fewer happen to a star centred on a corner.
const FLAT_TOP_PIXELS: usize = 4;
/// Pixels around a peak that are looked at.
const REACH: usize = 2;

/// Saturated pixels that touch each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Region {
    /// Number of pixels.
    pub pixels: usize,
    /// First and last column and row.
    pub bounds: [[usize; 2]; 2],
}

/// The level and the saturated regions of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Saturation {
    level: f32,
    regions: Vec<Region>,
    /// Region of a saturated pixel.
    region_of: HashMap<(usize, usize), usize>,
}

impl Saturation {
    /// The regions at the peaks, from the `given` level on or, without, from a flat top that the frame shows.
    pub(crate) fn find<T: Pixel>(
        image: &Image<'_, T>,
        background: &Background,
        peaks: &[Peak],
        given: Option<f64>,
    ) -> Self {
        let level = given.map_or_else(|| flat_top(image, background, peaks), |level| level as f32);
        let mut found = Self { level, regions: Vec::new(), region_of: HashMap::new() };
        if level < f32::INFINITY {
            for peak in peaks {
                for (pixel, _) in around(image, peak).filter(|&(_, v)| v >= level) {
                    found.flood(image, pixel);
                }
            }
        }
        found
    }

    /// Value from which pixels are saturated; infinite where nothing is.
    pub(crate) fn level(&self) -> f32 {
        self.level
    }

    /// The saturated region at a peak.
    pub(crate) fn at<T: Pixel>(&self, image: &Image<'_, T>, peak: &Peak) -> Option<&Region> {
        self.index(image, peak).map(|index| &self.regions[index])
    }

    /// One peak, the highest, for each saturated region, and all the peaks that are not saturated.
    pub(crate) fn merge<T: Pixel>(&self, image: &Image<'_, T>, peaks: Vec<Peak>) -> Vec<Peak> {
        if self.regions.is_empty() {
            return peaks;
        }
        let mut best: HashMap<usize, usize> = HashMap::new();
        for (k, peak) in peaks.iter().enumerate() {
            if let Some(region) = self.index(image, peak) {
                let holder = best.entry(region).or_insert(k);
                if peak.height > peaks[*holder].height {
                    *holder = k;
                }
            }
        }
        let keep = |k: usize, peak: &Peak| self.index(image, peak).is_none_or(|region| best[&region] == k);
        peaks.iter().enumerate().filter(|&(k, peak)| keep(k, peak)).map(|(_, peak)| *peak).collect()
    }

    fn index<T: Pixel>(&self, image: &Image<'_, T>, peak: &Peak) -> Option<usize> {
        if self.regions.is_empty() {
            return None;
        }
        around(image, peak).find_map(|(pixel, _)| self.region_of.get(&pixel).copied())
    }

    fn flood<T: Pixel>(&mut self, image: &Image<'_, T>, start: (usize, usize)) {
        if self.region_of.contains_key(&start) {
            return;
        }
        let index = self.regions.len();
        let mut region = Region { pixels: 0, bounds: [[start.0, start.0], [start.1, start.1]] };
        let mut stack = vec![start];
        self.region_of.insert(start, index);
        while let Some((x, y)) = stack.pop() {
            region.pixels += 1;
            for (bounds, v) in region.bounds.iter_mut().zip([x, y]) {
                *bounds = [bounds[0].min(v), bounds[1].max(v)];
            }
            for y in y.saturating_sub(1)..=(y + 1).min(image.height() - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(image.width() - 1) {
                    if value(image, x, y) >= self.level && !self.region_of.contains_key(&(x, y)) {
                        self.region_of.insert((x, y), index);
                        stack.push((x, y));
                    }
                }
            }
        }
        self.regions.push(region);
    }
}

/// Level of the flat top of the brightest stars; infinite if they have none.
fn flat_top<T: Pixel>(image: &Image<'_, T>, background: &Background, peaks: &[Peak]) -> f32 {
    let highest = |peak: &Peak| around(image, peak).map(|(_, v)| v).fold(f32::NEG_INFINITY, f32::max);
    let Some((peak, top)) = peaks
        .iter()
        .map(|p| (p, highest(p)))
        .filter(|(_, v)| v.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
    else {
        return f32::INFINITY;
    };
    let floor = background.level.at(peak.x as f32, peak.y as f32);
    let level = top - FLAT_TOP * (top - floor);
    let flat = |peak: &Peak| around(image, peak).filter(|&(_, v)| v >= level).count() >= FLAT_TOP_PIXELS;
    if peaks.iter().any(flat) { level } else { f32::INFINITY }
}

/// Pixels near a peak and their values.
fn around<T: Pixel>(image: &Image<'_, T>, peak: &Peak) -> impl Iterator<Item = ((usize, usize), f32)> {
    let columns = peak.x.saturating_sub(REACH)..=(peak.x + REACH).min(image.width() - 1);
    let rows = peak.y.saturating_sub(REACH)..=(peak.y + REACH).min(image.height() - 1);
    rows.flat_map(move |y| columns.clone().map(move |x| ((x, y), value(image, x, y))))
}

fn value<T: Pixel>(image: &Image<'_, T>, x: usize, y: usize) -> f32 {
    let mut pixel = [0.0];
    image.read(y, x, &mut pixel);
    pixel[0]
}
