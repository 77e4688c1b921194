//! Measures the stars at the peaks of a frame.

mod fitted;

use rayon::prelude::*;

use super::quick::{Quick, Stamp};
use super::saturation::{self, Candidate};
use super::select::{keep_highest, most_stars};
use super::{ExtractOptions, Frame, Method, Rejected, Star, flags};
use crate::error::Result;
use crate::imaging::background::Background;
use crate::imaging::blobs::Blob;
use crate::imaging::centroid::{self, Moments, Seen, View};
use crate::imaging::detect::{Detection, Peak};
use crate::imaging::image::Image;
use crate::imaging::psf::field::EffectivePsf;
use crate::imaging::stamp::{self, Crop, Layout, is_good};
use crate::lsq::robust;
use crate::monitor::Monitor;

/// Number of the highest peaks from which the width of the stars is measured.
const WIDTH_STARS: usize = 40;
/// Maximum number of peaks among which these are searched for, because some peaks are hot pixels.
const WIDTH_PEAKS: usize = 8 * WIDTH_STARS;
/// Number of these peaks per task.
const WIDTH_TASK: usize = 8;
/// Sigma of the stars, in pixels, that is assumed if it cannot be measured.
const DEFAULT_SIGMA: f64 = 1.2;
/// Range to which the measured sigma of the stars is limited, in pixels.
const SIGMA_RANGE: [f64; 2] = [0.6, 6.0];
/// Half width, in pixels, of the stamps on which the width of the stars is measured.
const WIDTH_HALF: usize = 9;
/// Half width of the stamp on which a star is measured, in sigmas of the stars.
const FIT_SIGMAS: f64 = 3.5;
/// Smallest and largest half width of this stamp, in pixels.
const FIT_HALF_RANGE: [usize; 2] = [4, 12];
/// Width of a source, relative to the stars, from which it is rejected as a glow or a cloud. The source must
/// be so wide in every direction.
const EXTENDED_FACTOR: f64 = 3.0;
/// Least area of the frame per star, on average, in units of the stars' squared sigma. More stars would
/// overlap so much that they could not be separated.
const AREA_SIGMAS: f64 = 20.0;
/// Greatest total area of the stamps of stars that are fitted or measured in wide windows, in units of the
/// frame's area. It is large enough for a field of mostly isolated stars. Fainter stars are measured by fast
/// centroids.
const FITTED_SHARE: f64 = 0.35;
/// Number of stars that may be fitted in any frame, even if it is small.
const FITTED_STARS: usize = 1000;
/// Stars per task.
const TASK_STARS: usize = 16;

/// Least number of measured images for which stars can be recognised as trailed.
const MIN_TRAILED: usize = 5;
/// Least ratio of the axes of the typical image of trailed stars.
const TRAIL_ELONGATION: f64 = 1.5;
/// Width of the sharpest possible star, in units of the stars' width: a Gaussian in the middle of a pixel.
const SHARPEST_WIDTH: f64 = 0.7;
/// Significance, in sigmas of the noise, with which the sharpness of a source must exceed a limit.
const SHARPNESS_SIGMAS: f64 = 2.0;

/// A star, or the reason why a peak is not a star.
pub(super) type Measured = std::result::Result<Star, Refusal>;

/// A frame, with everything that is needed to measure its peaks.
pub(super) struct Measure<'a> {
    image: &'a Image<'a>,
    background: &'a Background,
    detection: &'a Detection,
    options: &'a ExtractOptions,
    /// Value from which pixels are saturated.
    saturation: f32,
    /// Typical standard deviation of a star's image, in pixels.
    sigma: f64,
    /// Ratio of the axes of the stars' images, if these are trailed.
    trail: Option<f64>,
    /// Upper limit of the sharpness of a star.
    sharpest: f64,
}

/// Reason why a peak is not a star.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Faint,
    Sharp,
    Elongated,
    Extended,
}

/// Height above the background and sharpness of the highest pixel at a peak.
#[derive(Debug, Clone, Copy)]
struct Top {
    height: f64,
    sharpness: f64,
}

impl<'a> Measure<'a> {
    pub(super) fn new(frame: &Frame<'a>, candidates: &[Candidate]) -> Self {
        let &Frame { image, background, detection, options, saturation } = frame;
        let (sigma, trail, sharpest) = (DEFAULT_SIGMA, None, 1.0);
        let mut measure = Self { image, background, detection, options, saturation, sigma, trail, sharpest };
        let alone = |c: &&Candidate| detection.blobs[c.peak.blob].peaks == 1;
        let mut shapes = measure.bright_shapes(candidates.iter().filter(alone));
        if shapes.is_empty() {
            shapes = measure.bright_shapes(candidates.iter());
        }
        if let Some(sigma) = median(shapes.iter().map(|&moments| centroid::mean_sigma(moments))) {
            measure.sigma = sigma.clamp(SIGMA_RANGE[0], SIGMA_RANGE[1]);
        }
        measure.trail = common_elongation(&shapes);
        measure.sharpest = gaussian_sharpness(SHARPEST_WIDTH * measure.sigma);
        measure
    }

    /// Measures the stars among the candidates. Also returns the point-spread function, if one was fitted.
    pub(super) fn stars(
        &self,
        mut candidates: Vec<Candidate>,
        measured: &mut Vec<Measured>,
        rejected: &mut Rejected,
        monitor: &dyn Monitor,
    ) -> Result<(Vec<Star>, Option<EffectivePsf>)> {
        let mut psf = None;
        let most = most_stars(self.image, (AREA_SIGMAS * self.sigma * self.sigma) as usize + 1);
        rejected.surplus += keep_highest(&mut candidates, most, |c| c.peak.height).len();
        match self.options.method {
            // Trails are longer than the windows of the fast centroids.
            _ if self.options.fast && self.trail.is_none() => self.quick(&candidates, measured),
            _ if self.options.fast => self.windowed(&candidates, measured),
            Method::Psf => {
                let (stars, fitted) = self.fitted(&candidates, monitor)?;
                (*measured, psf) = (stars, Some(fitted));
            }
            Method::Window => self.windowed_or_quick(candidates, measured),
        }
        let mut stars = Vec::with_capacity(measured.len());
        for result in measured {
            match result {
                Ok(star) => stars.push(*star),
                Err(Refusal::Faint) => rejected.faint += 1,
                Err(Refusal::Sharp) => rejected.sharp += 1,
                Err(Refusal::Elongated) => rejected.elongated += 1,
                Err(Refusal::Extended) => rejected.extended += 1,
            }
        }
        Ok((stars, psf))
    }

    /// Second moments of the images at the highest peaks that are neither saturated nor hot pixels.
    fn bright_shapes<'p>(&self, candidates: impl Iterator<Item = &'p Candidate>) -> Vec<Moments> {
        let mut order: Vec<&Peak> = candidates.filter(|c| c.region.is_none()).map(|c| &c.peak).collect();
        let higher =
            |a: &&Peak, b: &&Peak| b.height.total_cmp(&a.height).then_with(|| (a.y, a.x).cmp(&(b.y, b.x)));
        if order.len() > WIDTH_PEAKS {
            order.select_nth_unstable_by(WIDTH_PEAKS, higher);
            order.truncate(WIDTH_PEAKS);
        }
        order.sort_unstable_by(higher);
        let layout = Layout::new(WIDTH_HALF);
        let shape = |stamp: &mut Vec<f32>, peak: &&Peak| {
            let centre = [peak.x as isize, peak.y as isize];
            stamp.resize(layout.len(), 0.0);
            stamp::cut(self.image, self.background, centre, WIDTH_HALF, f32::INFINITY, stamp);
            let top = Top::of(peak, centre, stamp, layout);
            if self.options.max_sharpness.is_some_and(|limit| top.sharpness > limit) {
                return None;
            }
            let crop = Crop::whole(WIDTH_HALF);
            let view = View { stamp, layout, crop, variance: 0.0, photon: 0.0 };
            view.adaptive(offset(peak.vertex, centre), DEFAULT_SIGMA as f32)
        };
        let (mut shapes, mut rest) = (Vec::new(), &order[..]);
        while shapes.len() < WIDTH_STARS && !rest.is_empty() {
            let (next, others) = rest.split_at((WIDTH_STARS - shapes.len()).min(rest.len()));
            let seen = next.par_iter().with_min_len(WIDTH_TASK).map_init(Vec::new, shape);
            shapes.extend(seen.collect::<Vec<_>>().into_iter().flatten());
            rest = others;
        }
        shapes
    }

    /// Measures stars in Gaussian windows or, if there are very many, the faintest of them by fast centroids.
    fn windowed_or_quick(&self, mut bright: Vec<Candidate>, measured: &mut Vec<Measured>) {
        let faint = keep_highest(&mut bright, self.room(self.half()), |c| c.peak.height);
        let mut quick = Vec::new();
        self.quick(&faint, &mut quick);
        self.windowed(&bright, measured);
        measured.extend(quick);
    }

    /// Measures stars in Gaussian windows.
    fn windowed(&self, candidates: &[Candidate], measured: &mut Vec<Measured>) {
        candidates
            .par_iter()
            .with_min_len(TASK_STARS)
            .map_init(
                || vec![0.0; Layout::new(self.half()).len()],
                |stamp, candidate| self.windowed_star(candidate, stamp),
            )
            .collect_into_vec(measured);
    }

    fn windowed_star(&self, candidate: &Candidate, stamp: &mut [f32]) -> Measured {
        let Candidate { peak, region } = candidate;
        let layout = Layout::new(self.half());
        let centre = [peak.x as isize, peak.y as isize];
        stamp::cut(self.image, self.background, centre, layout.half, f32::INFINITY, stamp);
        let (variance, photon) = self.noise(peak);
        let view = View { stamp, layout, crop: Crop::whole(layout.half), variance, photon };
        let seen = match region {
            Some(region) => self.saturated(None, region),
            None => view.windowed(offset(peak.vertex, centre), self.sigma).map(|seen| seen.moved(centre)),
        };
        let masked = self.core_is_masked(peak, centre, stamp, layout);
        let top = Top::of(peak, centre, stamp, layout);
        self.judge(peak, region.as_ref(), top, seen, if masked { flags::MASKED } else { 0 })
    }

    /// Measures stars by fast centroids, or in Gaussian windows if that fails or if there are saturated
    /// pixels.
    fn quick(&self, candidates: &[Candidate], measured: &mut Vec<Measured>) {
        let quick = Quick::new(self.sigma);
        let (small, large) = (quick.stamp_len(), Layout::new(self.half()).len());
        measured.clear();
        measured.resize(candidates.len(), Err(Refusal::Faint));
        candidates.par_chunks(TASK_STARS).zip(measured.par_chunks_mut(TASK_STARS)).for_each_init(
            || [vec![0.0; TASK_STARS * small], vec![0.0; large]],
            |[stamps, stamp], (candidates, measured)| {
                // All stamps are read before any is measured, so that many memory accesses overlap.
                let cut = |(candidate, pixels): (&Candidate, _)| {
                    let Peak { x, y, .. } = candidate.peak;
                    quick
                        .cut(self.image, self.background, [x, y], pixels)
                        .filter(|_| candidate.region.is_none())
                };
                let stamps: Vec<_> = candidates.iter().zip(stamps.chunks_exact_mut(small)).map(cut).collect();
                for ((candidate, small), measured) in candidates.iter().zip(&stamps).zip(measured) {
                    let quickly =
                        small.as_ref().and_then(|small| self.quick_star(&quick, &candidate.peak, small));
                    *measured = quickly.unwrap_or_else(|| self.windowed_star(candidate, stamp));
                }
            },
        );
    }

    fn quick_star(&self, quick: &Quick, peak: &Peak, stamp: &Stamp<'_>) -> Option<Measured> {
        let centre = [peak.x as isize, peak.y as isize];
        let (variance, photon) = self.noise(peak);
        let seen = quick.measure(stamp, offset(peak.vertex, centre), variance, photon)?;
        Some(self.judge(peak, None, Top::within(stamp), Some(seen.moved(centre)), 0))
    }

    /// Variance of a pixel at a peak without starlight, and its increase per unit of starlight.
    fn noise(&self, peak: &Peak) -> (f32, f32) {
        let noise = self.detection.correlation * self.background.noise.at(peak.vertex[0], peak.vertex[1]);
        (noise * noise, self.options.gain.map_or(0.0, |gain| 1.0 / gain) as f32)
    }

    /// Greatest number of stars that may be measured on stamps of this half width.
    fn room(&self, half: usize) -> usize {
        let pixels = (self.image.width() * self.image.height()) as f64;
        ((FITTED_SHARE * pixels / Layout::new(half).len() as f64) as usize).max(FITTED_STARS)
    }

    /// Half width of the stamps on which stars are measured.
    fn half(&self) -> usize {
        ((FIT_SIGMAS * self.sigma).ceil() as usize).clamp(FIT_HALF_RANGE[0], FIT_HALF_RANGE[1])
    }

    fn centre_of_light(&self, region: &Blob) -> Option<Seen> {
        saturation::centre_of_light(self.image, self.background, region, self.sigma)
    }

    /// Measures a saturated star by its fit or by its centroid, whichever has the smaller position error. The
    /// flux is that of the fit if it is accurate, or else follows from the saturated area.
    fn saturated(&self, fitted: Option<Seen>, region: &Blob) -> Option<Seen> {
        let Some(clipped) = self.centre_of_light(region) else { return fitted };
        let [x, y] = clipped.position.map(|p| p as f32);
        let height = f64::from(self.saturation - self.background.level.at(x, y));
        let area = saturation::flux_of_area(region.pixels, height.max(0.0), self.sigma);
        let error = |seen: &Seen| seen.covariance[0] + seen.covariance[2];
        let unknown = Seen { flux_error: f64::INFINITY, ..clipped };
        let star = saturation::with_known_flux(fitted.unwrap_or(unknown), area, clipped.flux);
        let better = fitted.filter(|fitted| error(fitted) <= error(&clipped)).unwrap_or(clipped);
        Some(Seen { flux: star.flux, flux_error: star.flux_error, ..better })
    }

    /// Whether a bad pixel of the frame lies within two sigmas of the peak.
    fn core_is_masked(&self, peak: &Peak, centre: [isize; 2], stamp: &[f32], layout: Layout) -> bool {
        let reach = (2.0 * self.sigma).ceil() as isize;
        let inside = |v: isize, n: usize| (0..n as isize).contains(&v);
        (-reach..=reach).any(|j| {
            (-reach..=reach).any(|i| {
                let at = [peak.x as isize + i, peak.y as isize + j];
                inside(at[0], self.image.width())
                    && inside(at[1], self.image.height())
                    && layout.index(centre, at).is_some_and(|k| !is_good(stamp[k]))
            })
        })
    }

    /// Whether the sharpness of a peak exceeds `limit` by more than noise explains.
    fn is_sharper(&self, peak: &Peak, top: Top, limit: f64) -> bool {
        if top.sharpness <= limit {
            return false;
        }
        let noise = f64::from(self.background.noise.at(peak.vertex[0], peak.vertex[1]));
        let error = noise * (1.0 / 8.0 + (1.0 - limit).powi(2)).sqrt();
        (top.sharpness - limit) * top.height > SHARPNESS_SIGMAS * error
    }

    /// Decides whether a measured image is a star, and completes its properties; `bits` are flags that are
    /// already known.
    fn judge(&self, peak: &Peak, region: Option<&Blob>, top: Top, seen: Option<Seen>, bits: u32) -> Measured {
        let sharper = |limit: f64| region.is_none() && self.is_sharper(peak, top, limit);
        if self.options.max_sharpness.is_some_and(sharper) {
            return Err(Refusal::Sharp);
        }
        let seen = seen.ok_or(Refusal::Faint)?;
        let [column, row] = seen.position;
        let inside = |v: f64, n: usize| v > -0.5 && v < n as f64 - 0.5;
        if !inside(column, self.image.width()) || !inside(row, self.image.height()) {
            return Err(Refusal::Faint);
        }
        let [_, narrowest] = centroid::eigenvalues(seen.moments);
        if region.is_none() && narrowest > (EXTENDED_FACTOR * self.sigma).powi(2) {
            return Err(Refusal::Extended);
        }
        let longest = self.options.max_elongation.map(|limit| limit * self.trail.unwrap_or(1.0));
        if longest.is_some_and(|limit| centroid::elongation(seen.moments) > limit) {
            return Err(Refusal::Elongated);
        }
        let near = |v: f64, n: usize| v < 2.0 * self.sigma || v > n as f64 - 1.0 - 2.0 * self.sigma;
        let edge = near(column, self.image.width()) || near(row, self.image.height());
        let blob = &self.detection.blobs[peak.blob];
        let mut bits = bits;
        for (bit, set) in [
            (flags::SATURATED, region.is_some()),
            (flags::EDGE, edge),
            (flags::BLENDED, blob.peaks > 1),
            (flags::TRAILED, self.trail.is_some()),
            (flags::HOT_PIXEL, sharper(self.sharpest)),
        ] {
            bits |= if set { bit } else { 0 };
        }
        Ok(Star {
            position: [column - self.image.width() as f64 / 2.0, row - self.image.height() as f64 / 2.0],
            position_cov: seen.covariance,
            flux: seen.flux,
            flux_error: seen.flux_error,
            cov: seen.moments,
            peak: top.height,
            background: f64::from(self.background.level.at(column as f32, row as f32)),
            sharpness: top.sharpness,
            num_pixels: blob.pixels,
            flags: bits,
        })
    }
}

/// Ratio of the axes of the median image, if that is elongated. Images that are elongated in various
/// directions have no such ratio.
fn common_elongation(shapes: &[Moments]) -> Option<f64> {
    let ellipticity = |difference: fn(&Moments) -> f64| {
        median(shapes.iter().map(|moments| difference(moments) / (moments[0] + moments[2])))
    };
    let [along, across] = [ellipticity(|m| m[0] - m[2])?, ellipticity(|m| 2.0 * m[1])?];
    let e = along.hypot(across).min(1.0 - f64::EPSILON);
    let elongation = ((1.0 + e) / (1.0 - e)).sqrt();
    (shapes.len() >= MIN_TRAILED && elongation >= TRAIL_ELONGATION).then_some(elongation)
}

/// Sharpness of a Gaussian star in the middle of a pixel.
fn gaussian_sharpness(sigma: f64) -> f64 {
    let [beside, diagonally] = centroid::gaussian_neighbours(sigma);
    1.0 - 0.5 * (beside + diagonally)
}

/// Median, if there are values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| robust::median(&mut values))
}

/// Position relative to the centre of a stamp's middle pixel, `centre`.
fn offset(position: [f32; 2], centre: [isize; 2]) -> [f32; 2] {
    [position[0] - centre[0] as f32, position[1] - centre[1] as f32]
}

impl Top {
    /// Finds the highest pixel near the middle of a stamp without bad pixels.
    fn within(stamp: &Stamp<'_>) -> Self {
        let Layout { half, stride, .. } = stamp.layout;
        let row = |at: usize| [stamp.pixels[at - 1], stamp.pixels[at], stamp.pixels[at + 1]];
        let (mut at, mut height) = (half * stride + half, f32::NEG_INFINITY);
        for j in half - 1..=half + 1 {
            for (i, v) in row(j * stride + half).into_iter().enumerate() {
                if v > height {
                    (at, height) = (j * stride + half + i - 1, v);
                }
            }
        }
        let sum: f32 = [at - stride, at, at + stride].iter().flat_map(|&at| row(at)).sum();
        let mean = (sum - height) / 8.0;
        Self {
            height: f64::from(height),
            sharpness: f64::from((height - mean) / height.max(f32::MIN_POSITIVE)),
        }
    }

    /// Finds the highest pixel at a peak, on the stamp about `centre`.
    fn of(peak: &Peak, centre: [isize; 2], stamp: &[f32], layout: Layout) -> Self {
        let pixel = |at: [isize; 2]| layout.index(centre, at).map(|k| stamp[k]).filter(|&v| is_good(v));
        let around = |[x, y]: [isize; 2]| (-1..=1).flat_map(move |j| (-1..=1).map(move |i| [x + i, y + j]));
        let highest = around([peak.x as isize, peak.y as isize])
            .filter_map(|at| pixel(at).map(|v| (at, v)))
            .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        let Some((top, height)) = highest else { return Self { height: 0.0, sharpness: 1.0 } };
        let (mut sum, mut count) = (0.0, 0.0);
        for v in around(top).filter(|&at| at != top).filter_map(pixel) {
            sum += v;
            count += 1.0;
        }
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        Self {
            height: f64::from(height),
            sharpness: f64::from((height - mean) / height.max(f32::MIN_POSITIVE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharpness_of_a_gaussian() {
        // From erf: σ = 0.51 puts 0.6732 of an axis in the middle pixel and 0.1618 in the next.
        let (middle, next) = (0.6732, 0.1618);
        let expected = 1.0 - (4.0 * middle * next + 4.0 * next * next) / 8.0 / (middle * middle);
        assert!((gaussian_sharpness(0.51) - expected).abs() < 1e-3);
        assert!(gaussian_sharpness(0.3) > 0.94 && gaussian_sharpness(3.0) < 0.1);
    }

    #[test]
    fn a_trail_has_one_direction() {
        assert!(common_elongation(&[[4.0, 0.0, 1.0]; 6]).is_some_and(|e| (e - 2.0).abs() < 1e-12));
        assert!(common_elongation(&[[2.5, 1.5, 2.5]; 6]).is_some_and(|e| (e - 2.0).abs() < 1e-12));
        assert_eq!(common_elongation(&[[4.0, 0.0, 1.0]; 4]), None);
        assert_eq!(common_elongation(&[[1.2, 0.0, 1.0]; 9]), None);
        let mixed = [[4.0, 0.0, 1.0], [1.0, 0.0, 4.0], [2.5, 1.5, 2.5], [2.5, -1.5, 2.5]].repeat(3);
        assert_eq!(common_elongation(&mixed), None);
    }
}
