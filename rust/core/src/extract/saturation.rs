//! Saturated stars: from which value on, and which pixels of which star.

use std::collections::HashMap;

use crate::background::Background;
use crate::centroid::Windowed;
use crate::detect::Peak;
use crate::image::{Image, Pixel};

/// A flat top lies within this fraction of the highest pixel's height above the background.
const FLAT_TOP: f32 = 0.01;
/// That many pixels within the flat top around one peak mean saturation; fewer happen to a star centred on a corner.
const FLAT_TOP_PIXELS: usize = 4;
/// A saturated star is measured in its saturated pixels and so many sigmas around them.
const MARGIN: f64 = 4.0;
/// Position error of a saturated star as a fraction of the size of its saturated part.
const POSITION_ERROR: f64 = 0.05;
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

impl Region {
    /// The larger of width and height.
    pub(crate) fn size(&self) -> usize {
        self.bounds.iter().map(|[low, high]| high - low + 1).max().unwrap_or(0)
    }
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

/// Centre of the light of a saturated star, from its saturated pixels and those around.
pub(crate) fn centre_of_light<T: Pixel>(
    image: &Image<'_, T>,
    background: &Background,
    region: &Region,
    sigma: f64,
) -> Option<Windowed> {
    let margin = (MARGIN * sigma).ceil() as usize;
    let span = |[low, high]: [usize; 2], n: usize| low.saturating_sub(margin)..(high + 1 + margin).min(n);
    let columns = span(region.bounds[0], image.width());
    let rows = span(region.bounds[1], image.height());
    let mut pixels = vec![0.0; columns.len()];
    let (mut level, mut knots) = (vec![0.0; image.width()], Vec::new());
    let (mut flux, mut first, mut second) = (0.0, [0.0; 2], [0.0; 3]);
    let origin = [columns.start as f64, rows.start as f64];
    let height = rows.len();
    for y in rows {
        image.read(y, columns.start, &mut pixels);
        background.level.fill_row(y, &mut knots, &mut level);
        let dy = y as f64 - origin[1];
        for (i, (&value, &level)) in pixels.iter().zip(&level[columns.clone()]).enumerate() {
            let v = f64::from(value - level);
            if v > 0.0 {
                let dx = i as f64;
                flux += v;
                first[0] += v * dx;
                first[1] += v * dy;
                second[0] += v * dx * dx;
                second[1] += v * dx * dy;
                second[2] += v * dy * dy;
            }
        }
    }
    if flux <= 0.0 {
        return None;
    }
    let [x, y] = first.map(|m| m / flux);
    let error = POSITION_ERROR * (region.pixels as f64).sqrt();
    let area = (columns.len() * height) as f64;
    let noise = f64::from(background.noise.at((origin[0] + x) as f32, (origin[1] + y) as f32));
    Some(Windowed {
        position: [origin[0] + x, origin[1] + y],
        covariance: [error * error, 0.0, error * error],
        flux,
        flux_error: noise * area.sqrt(),
        moments: [
            (second[0] / flux - x * x).max(1.0 / 12.0),
            second[1] / flux - x * y,
            (second[2] / flux - y * y).max(1.0 / 12.0),
        ],
    })
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
