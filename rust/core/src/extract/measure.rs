//! From peaks to stars.

use rayon::prelude::*;

use super::saturation::{Region, Saturation};
use super::{ExtractOptions, Rejected, Star, flags};
use crate::background::Background;
use crate::centroid::{self, Stamp, Windowed};
use crate::detect::{Blob, Peak};
use crate::image::{Image, Pixel};

/// So many of the highest peaks tell the width of the stars.
const WIDTH_STARS: usize = 200;
/// Width (sigma, pixels) assumed where no star tells it.
const DEFAULT_SIGMA: f64 = 1.2;
/// Narrowest and widest window.
const SIGMA_RANGE: [f64; 2] = [0.6, 6.0];
/// What is this many times wider than the stars in every direction is a glow or a cloud.
const EXTENDED_FACTOR: f64 = 3.0;
/// Stars measured by one task.
const TASK_STARS: usize = 64;
/// A saturated star is measured in its saturated pixels and so many sigmas around them.
const SATURATED_MARGIN: f64 = 4.0;
/// Position error of a saturated star as a fraction of the size of its saturated part.
const SATURATED_ERROR: f64 = 0.05;

/// Everything needed to measure a peak.
pub(super) struct Measure<'a, T> {
    image: &'a Image<'a, T>,
    background: &'a Background,
    saturation: &'a Saturation,
    options: &'a ExtractOptions,
    sigma: f64,
}

enum Outcome {
    Star(Star),
    Faint,
    Sharp,
    Elongated,
    Extended,
}

impl<'a, T: Pixel> Measure<'a, T> {
    pub(super) fn new(
        image: &'a Image<'a, T>,
        background: &'a Background,
        saturation: &'a Saturation,
        options: &'a ExtractOptions,
        blobs: &[Blob],
        peaks: &[Peak],
    ) -> Self {
        let mut measure = Self { image, background, saturation, options, sigma: DEFAULT_SIGMA };
        measure.sigma = measure
            .typical_sigma(peaks.iter().filter(|peak| blobs[peak.blob].peaks == 1))
            .or_else(|| measure.typical_sigma(peaks.iter()))
            .unwrap_or(DEFAULT_SIGMA);
        measure
    }

    /// The stars among the peaks, in their order.
    pub(super) fn stars(&self, blobs: &[Blob], peaks: &[Peak], rejected: &mut Rejected) -> Vec<Star> {
        let outcomes: Vec<Outcome> = peaks
            .par_iter()
            .with_min_len(TASK_STARS)
            .map_init(Stamp::default, |stamp, peak| self.star(stamp, peak, &blobs[peak.blob]))
            .collect();
        let mut stars = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Outcome::Star(star) => stars.push(star),
                Outcome::Faint => rejected.faint += 1,
                Outcome::Sharp => rejected.sharp += 1,
                Outcome::Elongated => rejected.elongated += 1,
                Outcome::Extended => rejected.extended += 1,
            }
        }
        stars
    }

    /// Median width of the highest peaks that are neither saturated nor hot pixels.
    fn typical_sigma<'p>(&self, peaks: impl Iterator<Item = &'p Peak>) -> Option<f64> {
        let mut order: Vec<&Peak> = peaks.collect();
        order.sort_by(|a, b| b.height.total_cmp(&a.height));
        let mut stamp = Stamp::default();
        let mut widths: Vec<f64> = order
            .iter()
            .filter(|peak| self.saturation.at(self.image, peak).is_none())
            .filter_map(|peak| {
                stamp.read(
                    self.image,
                    self.background,
                    [peak.x, peak.y],
                    Stamp::half_for(SIGMA_RANGE[1] / 2.0),
                );
                let limit = self.options.max_sharpness.unwrap_or(f64::INFINITY);
                let usable = !stamp.cut && brightest(&stamp, peak).1 <= limit;
                let start = peak.vertex.map(f64::from);
                if usable { centroid::adaptive_sigma(&stamp, start, DEFAULT_SIGMA) } else { None }
            })
            .take(WIDTH_STARS)
            .collect();
        if widths.is_empty() {
            return None;
        }
        let middle = widths.len() / 2;
        let median = *widths.select_nth_unstable_by(middle, f64::total_cmp).1;
        Some(median.clamp(SIGMA_RANGE[0], SIGMA_RANGE[1]))
    }

    fn star(&self, stamp: &mut Stamp, peak: &Peak, blob: &Blob) -> Outcome {
        stamp.read(self.image, self.background, [peak.x, peak.y], Stamp::half_for(self.sigma));
        let (height, sharpness) = brightest(stamp, peak);
        let region = self.saturation.at(self.image, peak);
        if region.is_none() && self.options.max_sharpness.is_some_and(|limit| sharpness > limit) {
            return Outcome::Sharp;
        }
        let seen = match region {
            Some(region) => self.saturated(region),
            None => centroid::windowed(stamp, peak.vertex.map(f64::from), self.sigma, self.options.gain),
        };
        let Some(seen) = seen else { return Outcome::Faint };
        let [column, row] = seen.position;
        let inside = |v: f64, n: usize| v > -0.5 && v < n as f64 - 0.5;
        if !inside(column, self.image.width()) || !inside(row, self.image.height()) {
            return Outcome::Faint;
        }
        let [_, narrowest] = centroid::eigenvalues(seen.moments);
        if region.is_none() && narrowest > (EXTENDED_FACTOR * self.sigma).powi(2) {
            return Outcome::Extended;
        }
        let elongation = centroid::elongation(seen.moments);
        if self.options.max_elongation.is_some_and(|limit| elongation > limit) {
            return Outcome::Elongated;
        }
        Outcome::Star(Star {
            column,
            row,
            position_cov: seen.covariance,
            flux: seen.flux,
            flux_error: seen.flux_error,
            cov: seen.moments,
            peak: height,
            background: f64::from(self.background.level.at(column as f32, row as f32)),
            sharpness,
            num_pixels: blob.pixels,
            flags: self.flags(stamp, &seen, region, blob),
        })
    }

    fn flags(&self, stamp: &Stamp, seen: &Windowed, region: Option<&Region>, blob: &Blob) -> u32 {
        let near = |v: f64, n: usize| v < 2.0 * self.sigma || v > n as f64 - 1.0 - 2.0 * self.sigma;
        let edge = near(seen.position[0], self.image.width()) || near(seen.position[1], self.image.height());
        let reach = (2.0 * self.sigma).ceil() as usize;
        let core = (stamp.half.saturating_sub(reach)..=stamp.half + reach)
            .flat_map(|j| (stamp.half.saturating_sub(reach)..=stamp.half + reach).map(move |i| (i, j)));
        let masked = core
            .filter(|&(i, j)| {
                let inside =
                    |k: usize, i: usize, n: usize| (0..n as isize).contains(&(stamp.origin[k] + i as isize));
                i < stamp.side()
                    && j < stamp.side()
                    && inside(0, i, self.image.width())
                    && inside(1, j, self.image.height())
            })
            .any(|(i, j)| !stamp.good[j * stamp.side() + i]);
        let mut bits = 0;
        for (bit, set) in [
            (flags::SATURATED, region.is_some()),
            (flags::EDGE, edge),
            (flags::BLENDED, blob.peaks > 1),
            (flags::MASKED, masked),
        ] {
            bits |= if set { bit } else { 0 };
        }
        bits
    }

    /// Centre of the light of a saturated star, from its saturated pixels and those around.
    fn saturated(&self, region: &Region) -> Option<Windowed> {
        let margin = (SATURATED_MARGIN * self.sigma).ceil() as usize;
        let span = |[low, high]: [usize; 2], n: usize| low.saturating_sub(margin)..(high + 1 + margin).min(n);
        let columns = span(region.bounds[0], self.image.width());
        let rows = span(region.bounds[1], self.image.height());
        let mut pixels = vec![0.0; columns.len()];
        let (mut level, mut knots) = (vec![0.0; self.image.width()], Vec::new());
        let (mut flux, mut first, mut second) = (0.0, [0.0; 2], [0.0; 3]);
        let origin = [columns.start as f64, rows.start as f64];
        for y in rows {
            self.image.read(y, columns.start, &mut pixels);
            self.background.level.fill_row(y, &mut knots, &mut level);
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
        let error = SATURATED_ERROR * (region.pixels as f64).sqrt();
        let area = (columns.len() as f64).powi(2);
        let noise = f64::from(self.background.noise.at((origin[0] + x) as f32, (origin[1] + y) as f32));
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
}

/// Height of the highest pixel at a peak and its sharpness.
fn brightest(stamp: &Stamp, peak: &Peak) -> (f64, f64) {
    let (x, y) = (peak.x as isize, peak.y as isize);
    let near = |x: isize, y: isize| (-1..=1).flat_map(move |j| (-1..=1).map(move |i| [x + i, y + j]));
    let highest = near(x, y)
        .filter_map(|p| stamp.pixel(p).map(|v| (p, v)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
    let Some((centre, height)) = highest else { return (0.0, 1.0) };
    let (mut sum, mut count) = (0.0, 0.0);
    for p in near(centre[0], centre[1]).filter(|&p| p != centre) {
        if let Some(v) = stamp.pixel(p) {
            sum += v;
            count += 1.0;
        }
    }
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    (f64::from(height), f64::from((height - mean) / height.max(f32::MIN_POSITIVE)))
}
