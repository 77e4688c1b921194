//! Measures the scale of the residuals in each part of the detector.
//!
//! A model that is too stiff for the lens has larger residuals in the corners than in the middle. With one
//! scale for all stars, the matches in the corners would be excluded as wrong, and the fit would never adapt
//! to the corners. Therefore a residual is compared with the larger of two medians: that of all stars, and
//! that of its part of the detector. The median of a part is limited: where all matches of a part are wrong,
//! as in the corners of a frame solved without its distortion, an unlimited median would accept all of them.
//! The limit is lowered once the whole model is fitted. The residuals of a part are then little larger than
//! elsewhere, or the matches are wrong.

use super::Rejection;
use super::frame::{Frame, FrameResiduals};
use crate::geometry::distortion::Point;
use crate::geometry::rig::Rig;
use crate::lsq::robust::{clipped_variance, planar_scale};

/// Average number of stars per cell of the detector.
const STARS_PER_CELL: usize = 60;
/// A cell with fewer stars has no scale of its own.
const MIN_STARS_PER_CELL: usize = 20;
/// Maximum number of cells per side.
const MAX_CELLS_PER_SIDE: usize = 12;
/// Initial limit of the scale of a cell, in units of the overall scale. Where a model is too stiff, its
/// residuals are a few times the noise; where they are larger, most matches of the cell are wrong.
const FIRST_MAX_RATIO: f64 = 5.0;
/// Factor by which the limit is lowered in each round of clipping.
const TIGHTENING: f64 = 0.8;
/// Lowest limit. It allows for star images that are worse in the corners.
const LAST_MAX_RATIO: f64 = 2.0;
/// Scales below this many pixels are rounding errors.
pub(super) const SMALLEST_SCALE: f64 = 1e-8;

/// The cell of the detector in which each star of each frame lies.
pub(super) struct Cells {
    count: usize,
    cell: Vec<Vec<usize>>,
    /// Limit of the scale of a cell, in units of the overall scale.
    max_ratio: f64,
}

/// Standard deviation of the residuals per axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    /// Over the whole detector.
    pub(super) overall: f64,
    /// In each cell; at least the overall one.
    local: Vec<f64>,
}

impl Cells {
    /// Divides the camera's image into cells.
    pub(super) fn new(frames: &[Frame], rig: &Rig, image_size: [u32; 2]) -> Self {
        let stars: usize = frames.iter().map(|f| f.pixels.len()).sum();
        let side = (stars / STARS_PER_CELL).isqrt().clamp(1, MAX_CELLS_PER_SIDE);
        let index = |x: f64, size: u32| {
            let position = (x / f64::from(size) + 0.5) * side as f64;
            (position.max(0.0) as usize).min(side - 1)
        };
        let cell = |frame: &Frame| {
            let cell = |[x, y]: Point| index(y, image_size[1]) * side + index(x, image_size[0]);
            frame.points(rig).map(cell).collect()
        };
        Self { count: side * side, cell: frames.iter().map(cell).collect(), max_ratio: FIRST_MAX_RATIO }
    }

    /// Lowers the limit of the scales of cells.
    pub(super) fn tighten(&mut self) {
        self.max_ratio = (TIGHTENING * self.max_ratio).max(LAST_MAX_RATIO);
    }

    /// Measures the scales from the residual lengths of the frames that are not rejected.
    pub(super) fn scales(&self, misses: &[FrameResiduals], rejections: &[Option<Rejection>]) -> Scales {
        let mut all = Vec::new();
        let mut parts = vec![Vec::new(); self.count];
        for (i, misses) in misses.iter().enumerate().filter(|(i, _)| rejections[*i].is_none()) {
            all.extend(&misses.lengths);
            for (&length, &cell) in misses.lengths.iter().zip(&self.cell[i]) {
                parts[cell].push(length);
            }
        }
        let overall = planar_scale(&mut all).max(SMALLEST_SCALE);
        let local = parts
            .iter_mut()
            .map(|part| {
                if part.len() < MIN_STARS_PER_CELL {
                    overall
                } else {
                    planar_scale(part).clamp(overall, self.max_ratio * overall)
                }
            })
            .collect();
        Scales { overall, local }
    }

    /// The same scale everywhere.
    pub(super) fn uniform(&self, scale: f64) -> Scales {
        Scales { overall: scale, local: vec![scale; self.count] }
    }

    /// The scale of the cell of a star.
    pub(super) fn at(&self, scales: &Scales, frame: usize, star: usize) -> f64 {
        scales.local[self.cell[frame][star]]
    }
}

/// Sums over weighted stars that measure the size of their residuals.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Number of stars with a weight above zero.
    pub stars: usize,
    /// Sum of the weights.
    pub weight: f64,
    /// Sum of the squares of weight times length of the whitened residual.
    pub square_pull: f64,
}

impl Spread {
    /// Adds the sums over other stars.
    pub fn add(&mut self, other: &Self) {
        self.stars += other.stars;
        self.weight += other.weight;
        self.square_pull += other.square_pull;
    }

    /// Variance per axis of a whitened residual after a fit of this many unknowns.
    ///
    /// The mean square pull (weight times residual) divided by the mean weight (Huber 1981, section 7.6),
    /// corrected for the part that the weights take from normal residuals.
    pub fn variance(&self, unknowns: usize, sigma_clip: f64) -> f64 {
        let count = self.stars as f64;
        let freedom = (1.0 - unknowns as f64 / (2.0 * count)).max(1.0 / (2.0 * count));
        self.square_pull / (2.0 * self.weight * freedom) / clipped_variance(sigma_clip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_corner_is_judged_by_itself() {
        let (mut pixels, mut lengths) = (vec![], vec![]);
        for i in 0..40 {
            for j in 0..40 {
                let (x, y) = (f64::from(i) * 10.0 - 195.0, f64::from(j) * 10.0 - 195.0);
                pixels.push([x, y]);
                lengths.push(if x < -120.0 && y < -120.0 { 5.0 } else { 1.0 });
            }
        }
        let cells = Cells::new(&[Frame::new(pixels, vec![], None)], &Rig::default(), [400, 400]);
        let scales = cells.scales(&[FrameResiduals { lengths, ..FrameResiduals::default() }], &[None]);
        assert!(cells.at(&scales, 0, 0) > 4.9 * scales.overall);
        assert_eq!(cells.at(&scales, 0, 820), scales.overall);
    }

    #[test]
    fn a_corner_of_wrong_matches_has_no_licence() {
        let pixels: Vec<_> =
            (0..1600).map(|i| [f64::from(i % 40) * 10.0 - 195.0, f64::from(i / 40) * 10.0 - 195.0]).collect();
        let lengths = pixels.iter().map(|p| if p[0] < -120.0 && p[1] < -120.0 { 1e4 } else { 1.0 }).collect();
        let mut cells = Cells::new(&[Frame::new(pixels, vec![], None)], &Rig::default(), [400, 400]);
        let misses = [FrameResiduals { lengths, ..FrameResiduals::default() }];
        let scales = cells.scales(&misses, &[None]);
        assert_eq!(cells.at(&scales, 0, 0), FIRST_MAX_RATIO * scales.overall);
        for _ in 0..20 {
            cells.tighten();
        }
        let scales = cells.scales(&misses, &[None]);
        assert_eq!(cells.at(&scales, 0, 0), LAST_MAX_RATIO * scales.overall);
    }

    #[test]
    fn no_stars_have_no_scale() {
        let cells = Cells::new(&[], &Rig::default(), [10, 10]);
        assert_eq!(cells.scales(&[], &[]).overall, SMALLEST_SCALE);
    }
}
