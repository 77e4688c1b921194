//! Saturated stars: from which value on, and which pixels of which star.

use std::f64::consts::PI;
use std::ops::Range;

use rayon::prelude::*;

use super::{Frame, Rejected};
use crate::imaging::background::Background;
use crate::imaging::blobs::{Blob, Labels, Run};
use crate::imaging::centroid::Seen;
use crate::imaging::detect::Peak;
use crate::imaging::image::Image;

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
/// The flux that a fit tells is believed if its error is less than this fraction of it.
const KNOWN_FLUX: f64 = 0.2;
/// Relative error of the flux that follows from the saturated area.
const AREA_ERROR: f64 = 0.3;
/// Surface brightness of the far wings of a star, falling with the square of the distance, in units of the peak.
const WING_BRIGHTNESS: f64 = 0.01;
/// The box about a star's saturated pixels, bleeding included, has at most so many times their number of pixels (or of so
/// many, where there are fewer).
const STREWN_FACTOR: usize = 12;
const STREWN_PIXELS: usize = 100;
/// Peaks looked at by one task.
const TASK_PEAKS: usize = 128;
/// Pixels around a peak that are looked at.
const REACH: usize = 2;

/// A peak with the saturated pixels that it is one of, if it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub peak: Peak,
    pub region: Option<Blob>,
}

/// Value from which pixels are saturated: the one that is given or, without, that of a flat top that the peaks show;
/// infinite where nothing is.
pub(super) fn level(frame: &Frame<'_>, peaks: &[Peak]) -> f32 {
    frame.options.saturation_level.map_or_else(|| flat_top(frame, peaks), |level| level as f32)
}

/// The peaks with their saturated regions, of which each keeps the highest alone, and which may not be too large.
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

/// Saturated pixels that are joined to some places, as blobs.
#[derive(Debug, Default)]
struct Regions {
    runs: Vec<Run>,
    labels: Labels,
    blobs: Vec<Blob>,
}

impl Regions {
    /// Those of pixels from `level` on that are joined to `places`; each is gone through once.
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

/// Goes through saturated pixels from one to the next.
struct Flood<'a> {
    image: &'a Image<'a>,
    level: f32,
    /// A bit for each pixel that was gone through.
    seen: Vec<u64>,
    /// Runs whose neighbours are still to be looked at.
    open: Vec<Run>,
}

impl<'a> Flood<'a> {
    fn new(image: &'a Image<'a>, level: f32) -> Self {
        let words = (image.width() * image.height()).div_ceil(64);
        Self { image, level, seen: vec![0; words], open: Vec::new() }
    }

    /// Adds the runs of saturated pixels that are joined to a place and were not gone through before.
    fn join(&mut self, [x, y]: [usize; 2], runs: &mut Vec<Run>) {
        self.look(y, x..x + 1);
        while let Some(run) = self.open.pop() {
            runs.push(run);
            let (y, start, end) = (run.y as usize, run.start as usize, run.end as usize);
            let beside = start.saturating_sub(1)..(end + 1).min(self.image.width());
            for y in [y.wrapping_sub(1), y + 1].into_iter().filter(|&y| y < self.image.height()) {
                self.look(y, beside.clone());
            }
        }
    }

    /// Opens the runs of row `y` that reach into some columns.
    fn look(&mut self, y: usize, columns: Range<usize>) {
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

    /// Whether a pixel is saturated and was not gone through.
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

/// Whether saturated pixels may be those of a star: so many at most, and not strewn over the frame.
fn is_compact(region: &Blob, max_pixels: usize) -> bool {
    let [width, height] = region.bounds.map(|[low, high]| high - low + 1);
    region.pixels <= max_pixels && width * height <= STREWN_FACTOR * region.pixels.max(STREWN_PIXELS)
}

/// Flux of a star of width `sigma` of which so many pixels reach `height` above the background: that of a Gaussian, but no
/// darker in its wings than stars are. It grows with the saturated area, so that saturated stars rank in their order, before
/// all that are not.
pub(crate) fn flux_of_area(pixels: usize, height: f64, sigma: f64) -> f64 {
    let r2 = pixels as f64 / (PI * sigma * sigma);
    height * 2.0 * PI * sigma * sigma / (-0.5 * r2).exp().max(WING_BRIGHTNESS / (1.0 + r2))
}

/// The same star with the flux that its wings tell, if they do, or else that of its saturated area.
pub(crate) fn with_known_flux(seen: Seen, area: f64, clipped: f64) -> Seen {
    if seen.flux_error < KNOWN_FLUX * seen.flux && seen.flux >= clipped {
        return seen;
    }
    let flux = area.max(clipped);
    Seen { flux, flux_error: AREA_ERROR * flux, ..seen }
}

/// Centre of the light of a saturated star, from its saturated pixels and those around; its flux is what is left of it.
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

/// Bounds of the highest pixel of a peak by its height, without looking at the frame.
struct Bounds {
    /// Highest background.
    level: f32,
    /// Light of a single pixel per height.
    pixel: f32,
}

impl Bounds {
    fn new(frame: &Frame<'_>) -> Self {
        let [_, level] = frame.background.level.range();
        let [_, noise] = frame.background.noise.range();
        Self { level, pixel: SLACK * noise / frame.detection.single }
    }

    /// No pixel near the peak is higher.
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
