//! Measures frames whose stars have large images, such as trails or rings: one star for every image, at its
//! middle.
//!
//! The peaks of such an image are noise peaks, and the small windows for round stars cover only a part of it.
//! Its connected pixels, however, are the whole image, and the images of one frame are alike; such frames are
//! recognised by this likeness. A Gaussian window of the common shape then moves to the middle of each image.

use rayon::prelude::*;

use super::{ExtractOptions, Frame, Rejected, Star, flags};
use crate::imaging::background::Background;
use crate::imaging::blobs::Blob;
use crate::imaging::centroid::{self, Moments, PIXEL_VARIANCE, eigenvalues};
use crate::imaging::detect::{Detection, Peak};
use crate::imaging::image::Image;
use crate::index::point_grid::PointGrid;
use crate::lsq::robust::median;
use window::{Sums, Window};

mod window;

/// Maximum number of blobs from which the common shape is determined. They are taken evenly from the
/// [`BRIGHT_BLOBS`] with the highest peaks.
const SHAPE_BLOBS: usize = 100;
/// Number of blobs with the highest peaks that are considered. Many are needed, because the very brightest
/// may bleed.
const BRIGHT_BLOBS: usize = 400;
/// Least height of their peaks, relative to the lowest peak of the frame. Fainter images break up into
/// several blobs.
const BRIGHT_FACTOR: f32 = 2.0;
/// Least number of blobs that must have the common shape.
const MIN_BLOBS: usize = 5;
/// Least fraction of these blobs that must have the common shape, if they are trails. Touching images have
/// others.
const ALIKE_TRAILS: f64 = 0.15;
/// Least fraction of these blobs that must have the common shape, if they are rings or discs.
const ALIKE_RINGS: f64 = 0.35;
/// Greatest distance in ellipticity between blobs that count as alike.
const ALIKE_ELLIPTICITY: f64 = 0.25;
/// Greatest ratio of the lengths of blobs that count as alike.
const ALIKE_SIZE: f64 = 1.2;
/// Elongation below which blobs are round. Unless more blobs have the common shape than are round, there are
/// no trails.
const ROUND_ELONGATION: f64 = 1.35;
/// Greatest fraction of the frame that blobs may cover: stripes, which are not stars, cover half.
const MAX_COVER: f64 = 0.4;
/// Least ratio of the axes of trails.
const TRAIL_ELONGATION: f64 = 1.8;
/// Least length of trails, in pixels. Shorter images fit into the windows for round stars.
const MIN_TRAIL: f64 = 15.0;
/// Greatest length of the images of stars, in pixels.
const MAX_LENGTH: f64 = 200.0;
/// Greatest ratio of the axes of rings and discs.
const RING_ELONGATION: f64 = 1.3;
/// Least radius of rings and discs, in pixels.
const MIN_RING: f64 = 3.0;
/// Least median of the number of peaks of rings and discs.
const RING_PEAKS: usize = 2;
/// Greatest median ratio of the light in the middle of rings and discs to the light around it.
const RING_MIDDLE: f64 = 1.1;
/// Radii at which the middle of a ring, and the light around the middle, end; in units of the ring's radius.
const RING_PARTS: [f64; 2] = [0.35, 0.7];
/// Increase of a blob's radius by the filter, in pixels.
const FILTERED: f64 = 2.0;
/// Least ratio of the upper to the lower quartile of the brightness of rings. Saturated stars, which may look
/// like discs, differ less.
const RING_CONTRAST: f64 = 1.2;
/// Greatest moments along the major and the minor axis of a blob that is one image, in units of the common
/// moments. In a larger blob, an image is searched for from each peak.
const ONE_IMAGE: [f64; 2] = [1.7, 3.0];
/// Distance between two middles, in sigmas of the common shape, below which they belong to the same image.
const SAME_IMAGE: f64 = 2.0;
/// Distance from the middle to the end of an image, in sigmas along the axis: √3, as for a uniform line.
const REACH: f64 = 1.732;
/// Least length of a star's image, as a fraction of the common length.
const MIN_LENGTH: f64 = 0.4;
/// Greatest number of images in a blob, as a multiple of the number that would fill its area.
const IMAGES_PER_AREA: f64 = 1.0;
/// Error of the background, in units of a pixel's noise. It is common to all pixels of an image.
const BACKGROUND_ERROR: f64 = 0.1;
/// Maximum number of iterations of a window's position.
const ROUNDS: usize = 8;
/// Step, in pixels, below which the iteration ends.
const TOLERANCE: f64 = 5e-3;

/// The common shape of the large images of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Large {
    /// Second moments of the pixels of one image, in square pixels.
    shape: Moments,
    /// Whether the images are trails.
    trailed: bool,
}

/// A star, or the function that counts the rejection of an image.
type Found = Result<Star, fn(&mut Rejected)>;

impl Large {
    /// Determines the common shape, if the images of the frame are large and alike.
    pub(super) fn find(image: &Image<'_>, background: &Background, detection: &Detection) -> Option<Self> {
        let pixels = image.width() * image.height();
        let blobs = bright(detection);
        let looks: Vec<Look> = blobs.iter().map(Look::of).collect();
        let may_be_large = |(blob, look): (&Blob, &Look)| {
            look.length >= MIN_TRAIL || blob.peaks >= RING_PEAKS && look.length >= MIN_RING
        };
        if blobs.iter().zip(&looks).filter(|&pair| may_be_large(pair)).count() < MIN_BLOBS {
            return None;
        }
        // The largest group of blobs that are alike. These are single images; touching images differ from
        // each other.
        let of_one = |one: &Look| -> Vec<&Blob> {
            blobs.iter().zip(&looks).filter(|(_, look)| one.is_like(look)).map(|(blob, _)| blob).collect()
        };
        let alike =
            looks.iter().map(of_one).rev().max_by_key(Vec::len).filter(|alike| alike.len() >= MIN_BLOBS)?;
        let common =
            [0, 1, 2].map(|k| median(&mut alike.iter().map(|blob| blob.moments()[k]).collect::<Vec<_>>()));
        let [large, _] = eigenvalues(common);
        let elongation = centroid::elongation(common);
        let found = Self { shape: common, trailed: elongation >= TRAIL_ELONGATION };
        let covered: usize =
            detection.blobs.iter().filter(|blob| blob.peaks > 0).map(|blob| blob.pixels).sum();
        if (12.0 * large).sqrt() > MAX_LENGTH || covered as f64 > MAX_COVER * pixels as f64 {
            return None;
        }
        let is_large = if found.trailed {
            let round =
                blobs.iter().filter(|blob| centroid::elongation(blob.moments()) < ROUND_ELONGATION).count();
            (12.0 * large).sqrt() >= MIN_TRAIL
                && alike.len() as f64 >= ALIKE_TRAILS * blobs.len() as f64
                && alike.len() > round
        } else {
            elongation <= RING_ELONGATION
                && 2.0 * large.sqrt() - FILTERED >= MIN_RING
                && alike.len() as f64 >= ALIKE_RINGS * blobs.len() as f64
                && found.are_rings(image, background, &alike)
        };
        is_large.then_some(found)
    }

    /// Whether the blobs are rings or discs.
    fn are_rings(&self, image: &Image<'_>, background: &Background, blobs: &[&Blob]) -> bool {
        if median(&mut blobs.iter().map(|blob| blob.peaks as f64).collect::<Vec<_>>()) < RING_PEAKS as f64 {
            return false;
        }
        let radius = 2.0 * eigenvalues(self.shape)[0].sqrt() - FILTERED;
        let [hole, rim] = RING_PARTS.map(|part| part * radius);
        let means: Vec<[f64; 2]> = blobs
            .iter()
            .map(|blob| Window::new(image, background, self.shape).means(blob.centre(), hole, rim))
            .collect();
        let mut rims: Vec<f64> = means.iter().map(|mean| mean[1]).collect();
        rims.sort_unstable_by(f64::total_cmp);
        let quartile = |k: usize| rims[k * (rims.len() - 1) / 4];
        median(&mut means.iter().map(|[middle, rim]| middle / rim).collect::<Vec<_>>()) < RING_MIDDLE
            && quartile(3) > RING_CONTRAST * quartile(1)
    }

    /// Measures the stars; they are in no particular order.
    pub(super) fn stars(&self, frame: &Frame<'_>, rejected: &mut Rejected) -> Vec<Star> {
        let mut peaks: Vec<&Peak> = frame.detection.peaks.iter().collect();
        peaks.sort_by(|a, b| a.blob.cmp(&b.blob).then_with(|| b.height.total_cmp(&a.height)));
        let blobs: Vec<&[&Peak]> = peaks.chunk_by(|a, b| a.blob == b.blob).collect();
        let measured: Vec<Vec<Found>> =
            blobs.into_par_iter().map(|peaks| self.in_blob(frame, peaks)).collect();
        let mut stars: Vec<Star> = Vec::new();
        for star in measured.into_iter().flatten() {
            match star {
                Ok(star) => stars.push(star),
                Err(count) => count(rejected),
            }
        }
        let mut stars = self.remove_duplicates(stars);
        reject_unlike(&mut stars, frame.options, rejected);
        stars
    }

    /// Measures the images in one blob. A blob of about the common size is one image, at its middle. In a
    /// larger blob, an image is searched for from each peak, the highest first, unless the peak is on an
    /// image that was already found.
    fn in_blob(&self, frame: &Frame<'_>, peaks: &[&Peak]) -> Vec<Found> {
        let blob = &frame.detection.blobs[peaks[0].blob];
        if blob.pixels < frame.options.min_pixels {
            return Vec::new();
        }
        let [own, common] = [blob.moments(), self.shape].map(eigenvalues);
        if (0..2).all(|k| own[k] <= ONE_IMAGE[k] * common[k]) {
            return vec![self.star(frame, blob.centre(), blob)];
        }
        // Number of pixels of a uniform ellipse with these moments.
        let area = 4.0 * std::f64::consts::PI * (common[0] * common[1]).sqrt();
        let most = (IMAGES_PER_AREA * blob.pixels as f64 / area) as usize + 1;
        let mut found: Vec<Found> = Vec::new();
        for peak in peaks {
            let place = peak.vertex.map(f64::from);
            let taken = |star: &Star| {
                let [x, y] = star.column_row(frame.image.size());
                window::mahalanobis([place[0] - x, place[1] - y], self.shape) < SAME_IMAGE
            };
            if found.len() < most && !found.iter().flatten().any(taken) {
                found.push(self.star(frame, place, blob));
            }
        }
        found
    }

    /// Measures the image to whose middle a window moves from `seed`, or rejects it.
    fn star(&self, frame: &Frame<'_>, seed: [f64; 2], blob: &Blob) -> Found {
        let Frame { image, background, options, .. } = frame;
        let window = Window::new(image, background, self.shape);
        let photon = options.gain.map_or(0.0, |gain| 1.0 / gain);
        let mut place = seed;
        let mut sums = Sums::default();
        for _ in 0..ROUNDS {
            sums = window.sums(place, photon);
            let step = sums.step(self.shape).ok_or(faint as fn(&mut Rejected))?;
            place = [place[0] + step[0], place[1] + step[1]];
            if step[0].hypot(step[1]) < TOLERANCE {
                break;
            }
        }
        let reach = [self.shape[0], self.shape[2]].map(|m| REACH * m.sqrt());
        let margin = options.border_margin as f64;
        let inside =
            |v: f64, reach: f64, n: usize| v - reach >= margin - 0.5 && v + reach <= n as f64 - margin - 0.5;
        if !inside(place[0], reach[0], image.width()) || !inside(place[1], reach[1], image.height()) {
            return Err(|r| r.border += 1);
        }
        let (flux, flux_error, moments) = sums.light(self.shape);
        let least = options.sigma_threshold * flux_error.hypot(self.unknown_background(frame, place));
        let Some(position_cov) = sums.covariance(self.shape).filter(|_| flux > least) else {
            return Err(faint);
        };
        let level = f64::from(background.level.at(place[0] as f32, place[1] as f32));
        let [peak, sharpness] = window.top(place);
        let saturated = peak + level >= f64::from(frame.saturation);
        let bits =
            if self.trailed { flags::TRAILED } else { 0 } | if saturated { flags::SATURATED } else { 0 };
        Ok(Star {
            position: [0, 1].map(|k| place[k] - image.size()[k] as f64 / 2.0),
            position_cov,
            flux,
            flux_error,
            cov: moments,
            peak,
            background: level,
            sharpness,
            num_pixels: blob.pixels,
            flags: bits,
        })
    }

    /// Error of the flux in a window due to the error of the background.
    fn unknown_background(&self, frame: &Frame<'_>, place: [f64; 2]) -> f64 {
        let noise = f64::from(frame.background.noise.at(place[0] as f32, place[1] as f32));
        let [large, small] = eigenvalues(self.shape);
        BACKGROUND_ERROR * noise * 4.0 * std::f64::consts::PI * (large * small).sqrt()
    }

    /// Keeps each star once, because several seeds may lead to it. Stars that overlap with brighter ones are
    /// marked as blended.
    fn remove_duplicates(&self, mut stars: Vec<Star>) -> Vec<Star> {
        let order = |star: &Star| (super::descending(star.flux), star.position.map(f64::to_bits));
        stars.sort_by_cached_key(order);
        let reach = SAME_IMAGE * eigenvalues(self.shape)[0].sqrt();
        let points: Vec<[f64; 2]> = stars.iter().map(|star| star.position).collect();
        let grid = PointGrid::new(&points, 2.0 * reach);
        let mut kept = vec![true; stars.len()];
        for i in 0..stars.len() {
            let others = grid.around(points[i], 2.0 * reach).map(|j| j as usize);
            let distances = others
                .filter(|&j| j < i && kept[j])
                .map(|j| window::mahalanobis([0, 1].map(|k| points[i][k] - points[j][k]), self.shape));
            let nearest = distances.fold(f64::INFINITY, f64::min);
            kept[i] = nearest >= SAME_IMAGE;
            if nearest < 2.0 * SAME_IMAGE {
                stars[i].flags |= flags::BLENDED;
            }
        }
        let mut keep = kept.into_iter();
        stars.retain(|_| keep.next().unwrap_or(false));
        stars
    }
}

/// Rejects stars whose images are much shorter than the median image, or too elongated in comparison with it.
fn reject_unlike(stars: &mut Vec<Star>, options: &ExtractOptions, rejected: &mut Rejected) {
    if stars.is_empty() {
        return;
    }
    let common = [0, 1, 2].map(|k| median(&mut stars.iter().map(|star| star.cov[k]).collect::<Vec<_>>()));
    let longest = options.max_elongation.map(|limit| limit * centroid::elongation(common));
    stars.retain(|star| {
        let short = eigenvalues(star.cov)[0] < MIN_LENGTH * MIN_LENGTH * eigenvalues(common)[0];
        let keep = !short && longest.is_none_or(|limit| star.elongation() <= limit);
        rejected.elongated += usize::from(!keep);
        keep
    });
}

fn faint(rejected: &mut Rejected) {
    rejected.faint += 1;
}

/// Selects the blobs from which the common shape is determined: a sample of those with the highest peaks.
fn bright(detection: &Detection) -> Vec<Blob> {
    let mut highest = vec![0.0_f32; detection.blobs.len()];
    for peak in &detection.peaks {
        highest[peak.blob] = highest[peak.blob].max(peak.height);
    }
    let least = BRIGHT_FACTOR * detection.peaks.iter().map(|peak| peak.height).fold(f32::INFINITY, f32::min);
    let mut order: Vec<usize> = (0..highest.len()).filter(|&k| highest[k] >= least).collect();
    let higher = |&a: &usize, &b: &usize| highest[b].total_cmp(&highest[a]).then_with(|| a.cmp(&b));
    if order.len() > BRIGHT_BLOBS {
        order.select_nth_unstable_by(BRIGHT_BLOBS, higher);
        order.truncate(BRIGHT_BLOBS);
    }
    order.sort_unstable_by(higher);
    let step = order.len().div_ceil(SHAPE_BLOBS).max(1);
    order.into_iter().step_by(step).map(|k| detection.blobs[k]).collect()
}

/// Shape and size of a blob.
struct Look {
    ellipticity: [f64; 2],
    /// Length, in pixels, of a uniform line with the larger moment of the blob.
    length: f64,
}

impl Look {
    fn of(blob: &Blob) -> Self {
        let moments = blob.moments();
        Self { ellipticity: ellipticity(&moments), length: (12.0 * eigenvalues(moments)[0]).sqrt() }
    }

    /// Whether two blobs have about the same shape and size.
    fn is_like(&self, other: &Self) -> bool {
        let (e, f) = (self.ellipticity[0] - other.ellipticity[0], self.ellipticity[1] - other.ellipticity[1]);
        let (short, long) = (self.length.min(other.length), self.length.max(other.length));
        e * e + f * f < ALIKE_ELLIPTICITY * ALIKE_ELLIPTICITY && long < ALIKE_SIZE * short
    }
}

/// Ellipticity along the frame's axes, (xx - yy) / (xx + yy), and along its diagonals, 2 xy / (xx + yy).
fn ellipticity([xx, xy, yy]: &Moments) -> [f64; 2] {
    let sum = (xx + yy).max(PIXEL_VARIANCE);
    [(xx - yy) / sum, 2.0 * xy / sum]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::detect::Detector;

    const SIZE: usize = 300;

    /// A frame of stars on a grid, with noise of standard deviation 2, and the stars' middles. `image` gives
    /// the light of a star at an offset from its middle.
    fn frame(image: impl Fn(f64, f64) -> f64) -> (Vec<f32>, Vec<[f64; 2]>) {
        let mut state = 5_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        let middles: Vec<[f64; 2]> =
            (0..16).map(|k| [k % 4, k / 4].map(|g| 45.0 + 70.0 * f64::from(g) + 4.0 * uniform())).collect();
        let pixels = (0..SIZE * SIZE)
            .map(|k| {
                let [x, y] = [k % SIZE, k / SIZE].map(|v| v as f64);
                let brightness = |i: usize| 100.0 + 60.0 * i as f64;
                let light: f64 =
                    middles.iter().enumerate().map(|(i, m)| brightness(i) * image(x - m[0], y - m[1])).sum();
                (50.0 + light + 2.0 * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)) as f32
            })
            .collect();
        (pixels, middles)
    }

    fn found(pixels: &[f32]) -> Option<Vec<Star>> {
        let image = Image::from_slice(pixels, SIZE).unwrap();
        let background = Background::measure(&image, 100).unwrap();
        let (mut detector, options) = (Detector::default(), ExtractOptions::default());
        let detection = detector.detect(&image, &background, Some(1.5), 5.0, false, None);
        let large = Large::find(&image, &background, detection)?;
        let saturation = f32::INFINITY;
        let frame =
            Frame { image: &image, background: &background, detection, options: &options, saturation };
        Some(large.stars(&frame, &mut Rejected::default()))
    }

    fn check(stars: &[Star], middles: &[[f64; 2]], bits: u32) {
        assert_eq!(stars.len(), middles.len());
        for star in stars {
            let [x, y] = star.column_row([SIZE; 2]);
            let error = |m: &[f64; 2]| [x - m[0], y - m[1]];
            let nearest =
                middles.iter().map(error).min_by(|a, b| a[0].hypot(a[1]).total_cmp(&b[0].hypot(b[1])));
            let [dx, dy] = nearest.unwrap();
            let [xx, _, yy] = star.position_cov;
            assert!(
                dx.abs() < 4.0 * xx.sqrt() + 0.02 && dy.abs() < 4.0 * yy.sqrt() + 0.02,
                "{dx} {dy} {star:?}"
            );
            assert_eq!(star.flags, bits);
        }
    }

    #[test]
    fn trails_are_one_star_each_at_their_middle() {
        for (length, angle) in [(20.0, 0.3_f64), (40.0, 2.2), (60.0, 1.0)] {
            let (sine, cosine) = angle.sin_cos();
            let (pixels, middles) = frame(|x, y| {
                let (along, across) = (cosine * x + sine * y, cosine * y - sine * x);
                let end = |d: f64| 1.0 / (1.0 + (-2.5 * d).exp());
                (-0.5 * across * across).exp() * end(0.5 * length - along) * end(0.5 * length + along)
            });
            check(&found(&pixels).unwrap(), &middles, flags::TRAILED);
        }
    }

    #[test]
    fn rings_are_one_star_each_at_their_middle() {
        let (pixels, middles) = frame(|x, y| (-0.5 * ((x.hypot(y) - 8.0) / 1.5).powi(2)).exp());
        check(&found(&pixels).unwrap(), &middles, 0);
    }

    #[test]
    fn round_stars_have_no_large_images() {
        for sigma in [0.8, 1.5, 3.0, 5.0] {
            let (pixels, _) = frame(|x, y| (-0.5 * (x * x + y * y) / (sigma * sigma)).exp());
            assert!(found(&pixels).is_none());
        }
    }
}
