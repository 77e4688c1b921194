//! Finds the saturation level and the saturated pixels of each star, and measures saturated stars.

use std::f64::consts::PI;
use std::ops::Range;

use rayon::prelude::*;

use super::{Frame, Rejected};
use crate::imaging::background::Background;
use crate::imaging::blobs::{Blob, Labels, Run};
use crate::imaging::centroid::Seen;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;

/// Depth of a flat top below the highest pixel, as a fraction of that pixel's height above the background.
const FLAT_TOP: f32 = 0.01;
/// Least number of pixels in the flat top around one peak that means saturation. Unsaturated stars that are
/// centred on a corner of pixels may have fewer.
const FLAT_TOP_PIXELS: usize = 4;
/// Margin around the saturated pixels in which a saturated star is measured, in sigmas of the stars.
const MARGIN: f64 = 4.0;
/// Position error of a saturated star, as a fraction of the square root of its number of saturated pixels.
const POSITION_ERROR: f64 = 0.05;
/// Safety factor on the height of a single pixel that follows from a peak's height in the filtered frame. It
/// allows for surroundings darker than the background, which lower the peak.
const SLACK: f32 = 2.0;
/// Relative error of a fitted flux below which the fitted flux is used.
const KNOWN_FLUX: f64 = 0.2;
/// Relative error of the flux that is derived from the saturated area.
const AREA_ERROR: f64 = 0.3;
/// Surface brightness of the far wings of a star, in units of the peak. It falls with the square of the
/// distance.
const WING_BRIGHTNESS: f64 = 0.01;
/// Greatest area of the box around a star's saturated pixels (bleeding included), as a multiple of their
/// number.
const STREWN_FACTOR: usize = 12;
/// Number of saturated pixels that is used for this limit if the star has fewer.
const STREWN_PIXELS: usize = 100;
/// Peaks per task.
const TASK_PEAKS: usize = 128;
/// Number of pixels that are read on each side of a peak.
const REACH: usize = 2;

/// A peak, with its region of saturated pixels if it is saturated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub peak: Peak,
    pub region: Option<Blob>,
}

/// Value from which pixels are saturated: the given value or, without one, the level of a flat top of the
/// peaks. Infinite without a flat top.
pub(super) fn level(frame: &Frame<'_>, peaks: &[Peak]) -> f32 {
    frame.options.saturation_level.map_or_else(|| flat_top(frame, peaks), |level| level as f32)
}

/// Pairs the peaks with their saturated regions. Of the peaks in one region only the highest is kept. Peaks
/// whose region is too large or scattered are rejected.
pub(super) fn candidates(frame: &Frame<'_>, peaks: &[Peak], rejected: &mut Rejected) -> Vec<Candidate> {
    let &Frame { image, saturation: level, .. } = frame;
    let bounds = Bounds::new(frame);
    let saturated = |peak: &Peak| {
        let window = (bounds.highest(peak) >= level).then(|| Window::read(image, peak))?;
        window.pixels().find(|&(_, _, v)| v >= level).map(|(x, y, _)| [x, y])
    };
    let places: Vec<Option<[usize; 2]>> = peaks.par_iter().with_min_len(TASK_PEAKS).map(saturated).collect();
    let regions = Regions::find(image, level, places.iter().flatten().copied());
    let region: Vec<Option<usize>> = places.iter().map(|place| regions.at((*place)?)).collect();
    let mut best = vec![usize::MAX; regions.blobs.len()];
    for (k, region) in region.iter().enumerate().filter_map(|(k, r)| r.map(|r| (k, r))) {
        if best[region] == usize::MAX || peaks[k].height > peaks[best[region]].height {
            best[region] = k;
        }
    }
    let mut candidates: Vec<Candidate> = peaks
        .iter()
        .zip(&region)
        .enumerate()
        .filter(|&(k, (_, region))| region.is_none_or(|r| best[r] == k))
        .map(|(_, (&peak, region))| Candidate { peak, region: region.map(|r| regions.blobs[r]) })
        .collect();
    let found = candidates.len();
    candidates.retain(|c| c.region.is_none_or(|region| is_compact(&region, frame.options.max_pixels)));
    rejected.too_large += found - candidates.len();
    candidates
}

/// Regions of connected saturated pixels, as blobs.
#[derive(Debug, Default)]
struct Regions {
    runs: Vec<Run>,
    labels: Labels,
    blobs: Vec<Blob>,
}

impl Regions {
    /// Finds the regions of pixels of `level` or more that contain one of `places`. Each pixel is visited
    /// once.
    fn find(image: &Image<'_>, level: f32, places: impl Iterator<Item = [usize; 2]>) -> Self {
        let mut flood = Flood::new(image, level);
        let mut found = Self::default();
        for place in places {
            flood.join(place, &mut found.runs);
        }
        found.runs.sort_unstable_by_key(|run| (run.y, run.start));
        found.labels.label(&found.runs, &mut found.blobs);
        found
    }

    fn at(&self, place: [usize; 2]) -> Option<usize> {
        self.labels.blob_at(&self.runs, place)
    }
}

/// Flood fill of saturated pixels.
struct Flood<'a> {
    image: &'a Image<'a>,
    level: f32,
    /// One bit per pixel, which is set once the pixel was visited.
    seen: Vec<u64>,
    /// Runs whose neighbours are not tested yet.
    open: Vec<Run>,
}

impl<'a> Flood<'a> {
    fn new(image: &'a Image<'a>, level: f32) -> Self {
        let words = (image.width() * image.height()).div_ceil(64);
        Self { image, level, seen: vec![0; words], open: Vec::new() }
    }

    /// Adds the runs of saturated pixels that are connected to a place and were not visited before.
    fn join(&mut self, [x, y]: [usize; 2], runs: &mut Vec<Run>) {
        self.open_runs(y, x..x + 1);
        while let Some(run) = self.open.pop() {
            runs.push(run);
            let (y, start, end) = (run.y as usize, run.start as usize, run.end as usize);
            let columns = start.saturating_sub(1)..(end + 1).min(self.image.width());
            for y in [y.wrapping_sub(1), y + 1].into_iter().filter(|&y| y < self.image.height()) {
                self.open_runs(y, columns.clone());
            }
        }
    }

    /// Marks the new saturated runs of row `y` that overlap with `columns` as visited, and adds them to the
    /// open runs.
    fn open_runs(&mut self, y: usize, columns: Range<usize>) {
        let mut x = columns.start;
        while x < columns.end {
            if !self.is_new([x, y]) {
                x += 1;
                continue;
            }
            let (mut start, mut end) = (x, x + 1);
            while start > 0 && self.is_new([start - 1, y]) {
                start -= 1;
            }
            while end < self.image.width() && self.is_new([end, y]) {
                end += 1;
            }
            for x in start..end {
                let bit = y * self.image.width() + x;
                self.seen[bit / 64] |= 1 << (bit % 64);
            }
            self.open.push(Run { y: y as u32, start: start as u32, end: end as u32 });
            x = end;
        }
    }

    /// Whether a pixel is saturated and was not visited before.
    fn is_new(&self, [x, y]: [usize; 2]) -> bool {
        let bit = y * self.image.width() + x;
        if self.seen[bit / 64] >> (bit % 64) & 1 == 1 {
            return false;
        }
        let mut pixel = [0.0];
        self.image.read(y, x, &mut pixel);
        pixel[0] >= self.level
    }
}

/// Whether a saturated region may be a star: it has at most `max_pixels` pixels, and these are not scattered.
fn is_compact(region: &Blob, max_pixels: usize) -> bool {
    let [width, height] = region.bounds.map(|[low, high]| high - low + 1);
    region.pixels <= max_pixels && width * height <= STREWN_FACTOR * region.pixels.max(STREWN_PIXELS)
}

/// Flux of a star of width `sigma` that has this number of pixels of at least `height` above the background.
///
/// The star's profile is a Gaussian whose wings are no darker than those of real stars. The flux grows with
/// the saturated area, so that saturated stars are sorted by area, before all unsaturated stars.
pub(crate) fn flux_of_area(pixels: usize, height: f64, sigma: f64) -> f64 {
    let r2 = pixels as f64 / (PI * sigma * sigma);
    height * 2.0 * PI * sigma * sigma / (-0.5 * r2).exp().max(WING_BRIGHTNESS / (1.0 + r2))
}

/// Replaces the flux of a saturated star, unless its fit to the wings is accurate, by the flux from its
/// saturated area. `area` is that flux; `clipped`, the light that was recorded, is a lower limit.
pub(crate) fn with_known_flux(seen: Seen, area: f64, clipped: f64) -> Seen {
    if seen.flux_error < KNOWN_FLUX * seen.flux && seen.flux >= clipped {
        return seen;
    }
    let flux = area.max(clipped);
    Seen { flux, flux_error: AREA_ERROR * flux, ..seen }
}

/// Centroid of a saturated star, from its saturated pixels and the pixels around them. The flux is the light
/// that was recorded, without the part lost to saturation.
pub(crate) fn centre_of_light(
    image: &Image<'_>,
    background: &Background,
    region: &Blob,
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

/// Upper limit of the pixels near a peak, from the peak's height alone, without reading the frame.
struct Bounds {
    /// Highest background level of the frame.
    level: f32,
    /// Light of a single pixel per unit of the peak's height.
    pixel: f32,
}

impl Bounds {
    fn new(frame: &Frame<'_>) -> Self {
        let [_, level] = frame.background.level.range();
        let [_, noise] = frame.background.noise.range();
        Self { level, pixel: SLACK * noise / frame.detection.single }
    }

    /// Upper limit of the values of pixels near the peak.
    fn highest(&self, peak: &Peak) -> f32 {
        self.level + self.pixel * peak.height
    }
}

/// Level of the flat top of the brightest stars; infinite if they have none.
fn flat_top(frame: &Frame<'_>, peaks: &[Peak]) -> f32 {
    let &Frame { image, background, .. } = frame;
    let bounds = Bounds::new(frame);
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
    fn read(image: &Image<'_>, peak: &Peak) -> Self {
        let origin = [peak.x.saturating_sub(REACH), peak.y.saturating_sub(REACH)];
        let columns = (peak.x + REACH + 1).min(image.width()) - origin[0];
        let rows = (peak.y + REACH + 1).min(image.height()) - origin[1];
        let mut values = [[f32::NAN; SIDE]; SIDE];
        image.read_block(origin, columns, values[..rows].as_flattened_mut(), SIDE);
        Self { origin, values }
    }

    fn pixels(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        let [x, y] = self.origin;
        let rows = self.values.iter().enumerate();
        rows.flat_map(move |(j, row)| row.iter().enumerate().map(move |(i, &v)| (x + i, y + j, v)))
    }
}
