//! Saturated stars: from which value on, and which pixels of which star.

use std::collections::HashMap;

use crate::imaging::background::Background;
use crate::imaging::centroid::Seen;
use crate::imaging::detect::{Detection, Peak};
use crate::imaging::image::{Image, Pixel};

/// A flat top lies within this fraction of the highest pixel's height above the background.
const FLAT_TOP: f32 = 0.01;
/// That many pixels within the flat top around one peak mean saturation; fewer happen to a star centred on a corner.
const FLAT_TOP_PIXELS: usize = 4;
/// A saturated star is measured in its saturated pixels and so many sigmas around them.
const MARGIN: f64 = 4.0;
/// Position error of a saturated star as a fraction of the size of its saturated part.
const POSITION_ERROR: f64 = 0.05;
/// A single pixel of the noise's height adds a known amount to the filtered frame, unless what surrounds it is darker
/// than the background: this factor is left for that.
const SLACK: f32 = 2.0;
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
}

/// A peak with its saturated region, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub peak: Peak,
    pub region: Option<Region>,
}

impl Saturation {
    /// The regions at the peaks, from the `given` level on or, without, from a flat top that the frame shows; and the
    /// peaks, of which each region keeps the highest alone.
    pub(crate) fn find<T: Pixel>(
        image: &Image<'_, T>,
        background: &Background,
        detection: &Detection,
        peaks: &[Peak],
        given: Option<f64>,
    ) -> (Self, Vec<Candidate>) {
        let bounds = Bounds::new(background, detection);
        let level = given.map_or_else(|| flat_top(image, background, peaks, &bounds), |level| level as f32);
        let mut found = Self { level, regions: Vec::new() };
        let mut region_of = HashMap::new();
        let region: Vec<Option<usize>> = peaks
            .iter()
            .map(|peak| {
                let window = (bounds.highest(peak) >= level).then(|| Window::read(image, peak))?;
                let (x, y, _) = window.pixels().find(|&(_, _, v)| v >= level)?;
                Some(found.flood(image, (x, y), &mut region_of))
            })
            .collect();
        let mut best = vec![usize::MAX; found.regions.len()];
        for (k, region) in region.iter().enumerate().filter_map(|(k, r)| r.map(|r| (k, r))) {
            if best[region] == usize::MAX || peaks[k].height > peaks[best[region]].height {
                best[region] = k;
            }
        }
        let candidates = peaks
            .iter()
            .zip(&region)
            .enumerate()
            .filter(|&(k, (_, region))| region.is_none_or(|r| best[r] == k))
            .map(|(_, (&peak, region))| Candidate { peak, region: region.map(|r| found.regions[r]) })
            .collect();
        (found, candidates)
    }

    /// Value from which pixels are saturated; infinite where nothing is.
    pub(crate) fn level(&self) -> f32 {
        self.level
    }

    /// Index of the region of a saturated pixel.
    fn flood<T: Pixel>(
        &mut self,
        image: &Image<'_, T>,
        start: (usize, usize),
        region_of: &mut HashMap<(usize, usize), usize>,
    ) -> usize {
        if let Some(&known) = region_of.get(&start) {
            return known;
        }
        let index = self.regions.len();
        let mut region = Region { pixels: 0, bounds: [[start.0, start.0], [start.1, start.1]] };
        let mut stack = vec![start];
        region_of.insert(start, index);
        while let Some((x, y)) = stack.pop() {
            region.pixels += 1;
            for (bounds, v) in region.bounds.iter_mut().zip([x, y]) {
                *bounds = [bounds[0].min(v), bounds[1].max(v)];
            }
            for y in y.saturating_sub(1)..=(y + 1).min(image.height() - 1) {
                for x in x.saturating_sub(1)..=(x + 1).min(image.width() - 1) {
                    if value(image, x, y) >= self.level && !region_of.contains_key(&(x, y)) {
                        region_of.insert((x, y), index);
                        stack.push((x, y));
                    }
                }
            }
        }
        self.regions.push(region);
        index
    }
}

/// Centre of the light of a saturated star, from its saturated pixels and those around.
pub(crate) fn centre_of_light<T: Pixel>(
    image: &Image<'_, T>,
    background: &Background,
    region: &Region,
    sigma: f64,
) -> Option<Seen> {
    let margin = (MARGIN * sigma).ceil() as usize;
    let span = |[low, high]: [usize; 2], n: usize| low.saturating_sub(margin)..(high + 1 + margin).min(n);
    let columns = span(region.bounds[0], image.width());
    let rows = span(region.bounds[1], image.height());
    let mut pixels = vec![0.0; columns.len()];
    let (mut flux, mut first, mut second) = (0.0, [0.0; 2], [0.0; 3]);
    let origin = [columns.start as f64, rows.start as f64];
    let height = rows.len();
    for y in rows {
        image.read(y, columns.start, &mut pixels);
        let mut level = background.level.at(columns.start as f32, y as f32);
        let slope = background.level.at(columns.start as f32 + 1.0, y as f32) - level;
        let dy = y as f64 - origin[1];
        for (i, &value) in pixels.iter().enumerate() {
            let v = f64::from(value - level);
            level += slope;
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
    Some(Seen {
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

/// What the height of a peak tells about its highest pixel, without looking at the frame.
struct Bounds {
    /// Highest background.
    level: f32,
    /// Light of a single pixel per height.
    pixel: f32,
}

impl Bounds {
    fn new(background: &Background, detection: &Detection) -> Self {
        let [_, level] = background.level.range();
        let [_, noise] = background.noise.range();
        Self { level, pixel: SLACK * noise / detection.single }
    }

    /// No pixel near the peak is higher.
    fn highest(&self, peak: &Peak) -> f32 {
        self.level + self.pixel * peak.height
    }
}

/// Level of the flat top of the brightest stars; infinite if they have none.
fn flat_top<T: Pixel>(image: &Image<'_, T>, background: &Background, peaks: &[Peak], bounds: &Bounds) -> f32 {
    let highest = |window: &Window| window.pixels().map(|(_, _, v)| v).fold(f32::NEG_INFINITY, f32::max);
    let Some(first) = peaks.iter().max_by(|a, b| a.height.total_cmp(&b.height)) else {
        return f32::INFINITY;
    };
    let [lowest, _] = background.level.range();
    let least = highest(&Window::read(image, first));
    let least = least - FLAT_TOP * (least - lowest);
    let windows: Vec<(&Peak, Window)> = peaks
        .iter()
        .filter(|peak| least.is_infinite() || bounds.highest(peak) >= least)
        .map(|peak| (peak, Window::read(image, peak)))
        .collect();
    let Some((peak, top)) = windows
        .iter()
        .map(|(peak, window)| (peak, highest(window)))
        .filter(|(_, v)| v.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
    else {
        return f32::INFINITY;
    };
    let floor = background.level.at(peak.x as f32, peak.y as f32);
    let level = top - FLAT_TOP * (top - floor);
    let flat = |window: &Window| window.pixels().filter(|&(_, _, v)| v >= level).count() >= FLAT_TOP_PIXELS;
    if windows.iter().any(|(_, window)| flat(window)) { level } else { f32::INFINITY }
}

/// Pixels near a peak; NaN outside the frame.
struct Window {
    origin: [usize; 2],
    values: [[f32; SIDE]; SIDE],
}

const SIDE: usize = 2 * REACH + 1;

impl Window {
    fn read<T: Pixel>(image: &Image<'_, T>, peak: &Peak) -> Self {
        let origin = [peak.x.saturating_sub(REACH), peak.y.saturating_sub(REACH)];
        let columns = (peak.x + REACH + 1).min(image.width()) - origin[0];
        let rows = (peak.y + REACH + 1).min(image.height()) - origin[1];
        let mut values = [[f32::NAN; SIDE]; SIDE];
        for (j, row) in values[..rows].iter_mut().enumerate() {
            image.read(origin[1] + j, origin[0], &mut row[..columns]);
        }
        Self { origin, values }
    }

    fn pixels(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        let [x, y] = self.origin;
        let rows = self.values.iter().enumerate();
        rows.flat_map(move |(j, row)| row.iter().enumerate().map(move |(i, &v)| (x + i, y + j, v)))
    }
}

fn value<T: Pixel>(image: &Image<'_, T>, x: usize, y: usize) -> f32 {
    let mut pixel = [0.0];
    image.read(y, x, &mut pixel);
    pixel[0]
}
