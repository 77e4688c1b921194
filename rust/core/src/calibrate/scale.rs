//! How large residuals are, here and there on the detector.
//!
//! A model that is too stiff for the lens misses stars by more in the corners than in the middle. Judged by one scale
//! for all, the corners would be thrown out as wrong matches and the fit would never learn of them. So a residual is
//! judged by the larger of two medians: that of all stars and that of its part of the detector. But only within
//! limits: where a whole part is matched wrongly, as in the corners of a frame solved without its distortion, its
//! own median would let everything pass. The limits narrow once the whole model is fitted: what it leaves in a part is
//! then little more than elsewhere, or wrong.

use super::Rejection;
use super::frame::{Frame, Misses};
use crate::geometry::distortion::Point;
use crate::geometry::rig::Rig;
use crate::lsq::robust::{clipped_variance, planar_scale};

/// Stars a part of the detector should have on average.
const STARS_PER_CELL: usize = 60;
/// A part with fewer has no say.
const MIN_STARS_PER_CELL: usize = 20;
/// Parts per side at most.
const MAX_CELLS_PER_SIDE: usize = 12;
/// A part is judged by at most this many times the scale of all: where a model is stiff, misfits are a few times the
/// noise; beyond, most of the part's matches are wrong.
const MAX_LOCAL_EXCESS: f64 = 5.0;
/// The limit is lowered by this factor at a time ...
const TIGHTENING: f64 = 0.8;
/// ... down to this: the noise of star images that are worse in the corners.
const LEAST_LOCAL_EXCESS: f64 = 2.0;
/// Scales below this many pixels are rounding.
pub(super) const SMALLEST_SCALE: f64 = 1e-8;

/// The cell of the detector in which each star of each frame lies.
pub(super) struct Cells {
    count: usize,
    cell: Vec<Vec<usize>>,
    /// Times the scale of all by which a part is judged at most.
    excess: f64,
}

/// Standard deviation of the residuals per axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    /// Over the whole detector.
    pub(super) overall: f64,
    /// In each cell, nowhere smaller than overall.
    local: Vec<f64>,
}

impl Cells {
    /// Cells of the camera's image.
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
        Self { count: side * side, cell: frames.iter().map(cell).collect(), excess: MAX_LOCAL_EXCESS }
    }

    /// Lets parts differ less from all than before.
    pub(super) fn tighten(&mut self) {
        self.excess = (TIGHTENING * self.excess).max(LEAST_LOCAL_EXCESS);
    }

    /// Scales from the residuals' lengths in the frames that are not rejected.
    pub(super) fn scales(&self, misses: &[Misses], rejections: &[Option<Rejection>]) -> Scales {
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
                    planar_scale(part).clamp(overall, self.excess * overall)
                }
            })
            .collect();
        Scales { overall, local }
    }

    /// The same scale everywhere.
    pub(super) fn uniform(&self, scale: f64) -> Scales {
        Scales { overall: scale, local: vec![scale; self.count] }
    }

    /// The scale by which a star is judged.
    pub(super) fn at(&self, scales: &Scales, frame: usize, star: usize) -> f64 {
        scales.local[self.cell[frame][star]]
    }
}

/// Sums over weighted stars that tell how large their residuals are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Stars that count.
    pub stars: usize,
    /// Sum of their weights.
    pub weight: f64,
    /// Sum of the squares of weight times whitened residual.
    pub square_pull: f64,
}

impl Spread {
    /// Adds the sums over other stars.
    pub fn add(&mut self, other: &Self) {
        self.stars += other.stars;
        self.weight += other.weight;
        self.square_pull += other.square_pull;
    }

    /// Variance per axis of a whitened residual, when this many unknowns were fitted.
    ///
    /// The mean square pull (weight times residual) over the mean weight (Huber 1981, section 7.6), corrected for what
    /// the weights take from normal residuals.
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
        let scales = cells.scales(&[Misses { lengths, ..Misses::default() }], &[None]);
        assert!(cells.at(&scales, 0, 0) > 4.9 * scales.overall);
        assert_eq!(cells.at(&scales, 0, 820), scales.overall);
    }

    #[test]
    fn a_corner_of_wrong_matches_has_no_licence() {
        let pixels: Vec<_> =
            (0..1600).map(|i| [f64::from(i % 40) * 10.0 - 195.0, f64::from(i / 40) * 10.0 - 195.0]).collect();
        let lengths = pixels.iter().map(|p| if p[0] < -120.0 && p[1] < -120.0 { 1e4 } else { 1.0 }).collect();
        let mut cells = Cells::new(&[Frame::new(pixels, vec![], None)], &Rig::default(), [400, 400]);
        let misses = [Misses { lengths, ..Misses::default() }];
        let scales = cells.scales(&misses, &[None]);
        assert_eq!(cells.at(&scales, 0, 0), MAX_LOCAL_EXCESS * scales.overall);
        for _ in 0..20 {
            cells.tighten();
        }
        let scales = cells.scales(&misses, &[None]);
        assert_eq!(cells.at(&scales, 0, 0), LEAST_LOCAL_EXCESS * scales.overall);
    }

    #[test]
    fn no_stars_have_no_scale() {
        let cells = Cells::new(&[], &Rig::default(), [10, 10]);
        assert_eq!(cells.scales(&[], &[]).overall, SMALLEST_SCALE);
    }
}
