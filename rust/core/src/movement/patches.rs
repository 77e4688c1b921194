//! Matches patches of two images with sub-pixel accuracy, to refine a coarse transform and to test whether it
//! is correct.
//!
//! Each patch of the reference is searched in the moved image, near the position given by the transform, by
//! least squares (Lucas & Kanade 1981) with a separate gain and offset. The fit has the inverse form of Baker
//! & Matthews (2004, IJCV 56, 221): the derivatives are those of the reference, so they are computed once.
//! The uncertainty of each patch follows from its texture: an edge determines the position across the edge,
//! but not along it.

use std::sync::OnceLock;

use nalgebra::{Matrix4, Vector4};
use rayon::prelude::*;

use super::fit::{Fit, FitOptions, fit};
use super::plane::Plane;
use super::transform::{Kind, Point, Transform};
use crate::error::{Error, Result};

/// Half the side of a patch, and its side, pixels.
const HALF: usize = 12;
const SIDE: usize = 2 * HALF + 1;
/// Offset of the origin of coordinates before a row, pixels. It makes coordinates positive, so that rounding
/// down is a cast.
const ORIGIN_OFFSET: f64 = 64.0;
/// Maximum number of patches along the longer side of the image.
const PATCHES: usize = 28;
/// Maximum number of steps in the fit of one patch.
const STEPS: usize = 8;
/// Length of a step that ends the fit of a patch, pixels.
const SMALL_STEP: f64 = 0.005;
/// Largest distance between a patch and its expected position, pixels of its image.
const REACH: f64 = 5.0;
/// Smallest correlation with the reference at which a patch counts as found.
const CORRELATION: f64 = 0.6;
/// Largest uncertainty of a patch, pixels; a patch with a larger one has too little texture to count.
const LARGEST_SIGMA: f64 = 0.4;
/// Smallest contrast of a patch relative to the noise of the image at which the patch has texture.
const LEAST_CONTRAST: f64 = 2.0;
/// Largest distance between a patch and its position by the common transform, pixels of its image.
const TOLERANCE: f64 = 1.5;
/// Sides of the images on which patches are searched, from coarse to fine. Each image brings the transform
/// within reach of the next.
const COARSE_SIDES: [usize; 2] = [160, 400];
/// A pass at full size that moves a corner by more than this many pixels is repeated from its result.
const SETTLED: f64 = 1.0;
/// Minimum number of patches that must agree: unrelated images can agree in fewer.
const LEAST_PATCHES: usize = 12;
/// Minimum share of the expected patches that must agree.
const LEAST_PART: f64 = 0.25;
/// Uncertainty of every match due to interpolation, pixels.
const FLOOR: f64 = 0.01;

/// A movement measured on patches.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// The transform from moved to reference pixels.
    pub fit: Fit,
    /// Centres of the patches that were found, on the reference.
    pub reference: Vec<[f64; 2]>,
    /// Positions of these patches on the moved image.
    pub moved: Vec<[f64; 2]>,
    /// Number of patches with texture that should be on both images: those of `reference`, and those not
    /// found.
    pub expected: usize,
}

impl Registration {
    /// Whether enough patches agree to conclude that both images show the same scene.
    pub fn is_common(&self) -> bool {
        let following = self.fit.inliers.iter().filter(|&&inlier| inlier).count();
        following >= LEAST_PATCHES && following as f64 >= LEAST_PART * self.expected as f64
    }
}

/// Two images, prepared for the refinement of coarse transforms between them.
pub struct Registrar {
    reference: Plane,
    moved: Plane,
    /// The scales of [`COARSE_SIDES`] and the full size; each is made when it is first used.
    scales: [OnceLock<Scale>; COARSE_SIDES.len() + 1],
}

/// Both images binned by a factor.
struct Scale {
    factor: usize,
    moved: Plane,
    patches: Vec<Patch>,
}

impl Scale {
    fn new(reference: &Plane, moved: &Plane, factor: usize) -> Self {
        let noise = reference.noise();
        let reference = reference.smoothed();
        let patch = |centre| Patch::new(&reference, centre, noise);
        let patches = centres(&reference).into_iter().filter_map(patch).collect();
        Self { factor, moved: moved.smoothed(), patches }
    }
}

impl Registrar {
    /// Prepares a reference and a moved image.
    pub fn new(reference: Plane, moved: Plane) -> Self {
        Self { reference, moved, scales: Default::default() }
    }

    /// Refines a coarse transform on images of increasing resolution.
    ///
    /// Returns [`Error::Undetermined`] if the patches do not agree on a transform.
    pub fn register(&self, start: &Transform, kind: Kind) -> Result<Registration> {
        let (reference, moved) = (&self.reference, &self.moved);
        let side = reference.width.max(reference.height);
        let mut transform = *start;
        for (scale, coarse) in self.scales.iter().zip(COARSE_SIDES) {
            let factor = side / coarse;
            if factor > 1 {
                let binned = || Scale::new(&reference.binned(factor), &moved.binned(factor), factor);
                // Coarse images cannot distinguish between the larger families.
                let simple = if kind == Kind::Shift { kind } else { Kind::Similarity };
                let found = scale.get_or_init(binned).registered(&transform, simple);
                // The coarsest image may lack details that finer images show.
                match found.ok().filter(Registration::is_common) {
                    Some(found) => transform = found.fit.transform,
                    None if coarse == COARSE_SIDES[1] => {
                        return Err(Error::Undetermined("the images do not agree on a movement".into()));
                    }
                    None => {}
                }
            }
        }
        let full = self.scales[COARSE_SIDES.len()].get_or_init(|| Scale::new(reference, moved, 1));
        let best = full.registered(&transform, kind)?;
        let [right, bottom] = [moved.width as f64, moved.height as f64];
        let settled = [[0.0, 0.0], [right, 0.0], [0.0, bottom], [right, bottom]].into_iter().all(|corner| {
            match (transform.apply(corner), best.fit.transform.apply(corner)) {
                (Some(before), Some(after)) => (before[0] - after[0]).hypot(before[1] - after[1]) < SETTLED,
                _ => false,
            }
        });
        if settled { Ok(best) } else { full.registered(&best.fit.transform, kind) }
    }
}

impl Scale {
    /// One pass at this scale; the transforms are in pixels of the original images.
    fn registered(&self, start: &Transform, kind: Kind) -> Result<Registration> {
        let scale = self.factor as f64;
        let nothing = || Error::Undetermined("the images have no part with texture in common".into());
        let backward = start.inverse().ok_or_else(nothing)?;
        let to_full = |p: Point| p.map(|c| (c + 0.5) * scale - 0.5);
        let to_small = |p: Point| p.map(|c| (c + 0.5) / scale - 0.5);
        let there = |p: Point| backward.apply(to_full(p)).map(to_small);
        let sought: Vec<&Patch> =
            self.patches.iter().filter(|patch| patch.is_expected(&self.moved, &there)).collect();
        let found: Vec<Option<Found>> =
            sought.par_iter().map(|patch| patch.find(&self.moved, &there)).collect();
        let found: Vec<(Point, Found)> =
            sought.iter().zip(found).filter_map(|(patch, found)| Some((patch.middle(), found?))).collect();
        let from: Vec<Point> = found.iter().map(|(_, f)| to_full(f.place)).collect();
        let to: Vec<Point> = found.iter().map(|&(p, _)| to_full(p)).collect();
        let covariance: Vec<[f64; 3]> =
            found.iter().map(|(_, f)| f.covariance.map(|c| c * scale * scale)).collect();
        let options = FitOptions {
            kind,
            tolerance: TOLERANCE * scale,
            covariance: Some(&covariance),
            // A patch that is found by chance lies anywhere within reach.
            area: std::f64::consts::PI * (REACH * scale).powi(2),
        };
        Ok(Registration {
            fit: fit(&from, &to, &options)?,
            reference: to,
            moved: from,
            expected: sought.len(),
        })
    }
}

/// Centres of the patches.
fn centres(plane: &Plane) -> Vec<[usize; 2]> {
    let step = (plane.width.max(plane.height) / PATCHES).max(HALF / 2);
    let along = |side: usize| (HALF + 1..side.saturating_sub(HALF + 1)).step_by(step);
    along(plane.height).flat_map(|y| along(plane.width).map(move |x| [x, y])).collect()
}

/// A patch of the reference, and the equations of its fit.
struct Patch {
    centre: [usize; 2],
    /// For each pixel, the value minus the mean value, and the derivatives along x and y.
    basis: Vec<[f32; 3]>,
    inverse: Matrix4<f64>,
    variance: f64,
}

/// Where a patch was found.
struct Found {
    place: Point,
    covariance: [f64; 3],
}

impl Patch {
    /// Prepares a patch; `None` if it has no texture.
    fn new(plane: &Plane, centre: [usize; 2], noise: f64) -> Option<Self> {
        let [cx, cy] = centre;
        let w = plane.width;
        let mut basis = Vec::with_capacity(SIDE * SIDE);
        for y in cy - HALF..=cy + HALF {
            for x in cx - HALF..=cx + HALF {
                let at = |i: usize, j: usize| plane.pixels[j * w + i];
                basis.push([
                    at(x, y),
                    0.5 * (at(x + 1, y) - at(x - 1, y)),
                    0.5 * (at(x, y + 1) - at(x, y - 1)),
                ]);
            }
        }
        let count = basis.len() as f64;
        let mean = (basis.iter().map(|b| f64::from(b[0])).sum::<f64>() / count) as f32;
        for pixel in &mut basis {
            pixel[0] -= mean;
        }
        let mut normal = Matrix4::zeros();
        for &[v, dx, dy] in &basis {
            let row = Vector4::new(v, 1.0, dx, dy).cast::<f64>();
            normal += row * row.transpose();
        }
        let variance = normal[(0, 0)] / count;
        if variance.sqrt() <= LEAST_CONTRAST * noise.max(1e-6) * 0.27 {
            return None; // 0.27: noise after smoothing, relative to before
        }
        Some(Self { centre, basis, inverse: normal.try_inverse()?, variance })
    }

    fn middle(&self) -> Point {
        self.centre.map(|c| c as f64)
    }

    /// Whether the moved image should show the patch.
    fn is_expected(&self, moved: &Plane, there: &impl Fn(Point) -> Option<Point>) -> bool {
        let half = HALF as f64;
        let [x, y] = self.middle();
        let corners =
            [[x - half, y - half], [x + half, y - half], [x - half, y + half], [x + half, y + half]];
        corners.into_iter().all(|c| there(c).is_some_and(|place| moved.sample(place).is_some()))
    }

    fn find(&self, moved: &Plane, there: &impl Fn(Point) -> Option<Point>) -> Option<Found> {
        let [x, y] = self.middle();
        let origin = there([x, y])?;
        let (right, down) = (there([x + 1.0, y])?, there([x, y + 1.0])?);
        // Derivatives of the position with respect to that on the reference.
        let jacobian =
            [[right[0] - origin[0], down[0] - origin[0]], [right[1] - origin[1], down[1] - origin[1]]];
        let place = |[u, v]: Point| [0, 1].map(|k| origin[k] + jacobian[k][0] * u + jacobian[k][1] * v);
        let mut shift = [0.0; 2];
        for step in 0..STEPS {
            let (solved, squares) = self.equations(moved, place(shift), &jacobian)?;
            let gain = solved[0];
            let along = [solved[2] / gain, solved[3] / gain];
            let length = along[0].hypot(along[1]);
            if gain <= 0.0 || length.is_nan() || length >= REACH {
                return None;
            }
            shift = [shift[0] - along[0], shift[1] - along[1]];
            if shift[0].hypot(shift[1]) > REACH {
                return None;
            }
            if along[0].hypot(along[1]) < SMALL_STEP || step + 1 == STEPS {
                return self
                    .judged(gain, squares, along)
                    .map(|covariance| Found { place: place(shift), covariance });
            }
        }
        None
    }

    /// Gain, offset and shifts that best fit the moved image around a position, with the residual and the
    /// total sum of squares.
    fn equations(
        &self,
        moved: &Plane,
        middle: Point,
        jacobian: &[Point; 2],
    ) -> Option<(Vector4<f64>, [f64; 2])> {
        let half = HALF as f64;
        let place = |u: f64, v: f64| [0, 1].map(|k| middle[k] + jacobian[k][0] * u + jacobian[k][1] * v);
        let corners = [place(-half, -half), place(half, -half), place(-half, half), place(half, half)];
        let inside = |&[x, y]: &Point| {
            x >= 0.0 && y >= 0.0 && x < moved.width as f64 - 1.0 && y < moved.height as f64 - 1.0
        };
        if !corners.iter().all(inside) {
            return None;
        }
        let (step_x, step_y) = (jacobian[0][0] as f32, jacobian[1][0] as f32);
        let (mut right, mut total) = ([0.0_f64; 4], 0.0_f64);
        for (j, basis) in self.basis.chunks_exact(SIDE).enumerate() {
            let [x, y] = place(-half, j as f64 - half);
            // Coordinates are relative to an origin near the row, so that single precision is sufficient.
            let (left, top) = (x.floor() - ORIGIN_OFFSET, y.floor() - ORIGIN_OFFSET);
            let (x, y) = ((x - left) as f32, (y - top) as f32);
            let origin = top as isize * moved.width as isize + left as isize;
            let mut sums = [0.0_f32; 5];
            for (i, &[v, dx, dy]) in basis.iter().enumerate() {
                let (u, w) = (x + step_x * i as f32, y + step_y * i as f32);
                let (column, row) = (u as i32, w as i32);
                let index = (origin + row as isize * moved.width as isize + column as isize).max(0) as usize;
                let above = moved.pixels.get(index..index + 2)?;
                let below = moved.pixels.get(index + moved.width..index + moved.width + 2)?;
                let (fx, fy) = (u - column as f32, w - row as f32);
                let (a, b) = (above[0] + fx * (above[1] - above[0]), below[0] + fx * (below[1] - below[0]));
                let value = a + fy * (b - a);
                sums[0] += v * value;
                sums[1] += value;
                sums[2] += dx * value;
                sums[3] += dy * value;
                sums[4] += value * value;
            }
            for (sum, &row) in right.iter_mut().zip(&sums) {
                *sum += f64::from(row);
            }
            total += f64::from(sums[4]);
        }
        let (sum, right) = (right[1], Vector4::from(right));
        let solved = self.inverse * right;
        Some((solved, [total - solved.dot(&right), total - sum * sum / self.basis.len() as f64]))
    }

    /// Covariance of the shift of a finished fit; `None` if the patch does not count as found.
    fn judged(&self, gain: f64, [left, total]: [f64; 2], last: [f64; 2]) -> Option<[f64; 3]> {
        let count = self.basis.len() as f64;
        let explained = gain * gain * self.variance * count;
        if last[0].hypot(last[1]) > 0.1 || explained < CORRELATION * CORRELATION * total {
            return None;
        }
        // Smoothing correlates neighbouring pixels: about one pixel in six is independent.
        let variance = 6.0 * left.max(0.0) / (count - 4.0) / (gain * gain);
        let part = |i, j| variance * self.inverse[(i, j)];
        let (xx, xy, yy) = (part(2, 2) + FLOOR * FLOOR, part(2, 3), part(3, 3) + FLOOR * FLOOR);
        let (middle, half) = (f64::midpoint(xx, yy), ((xx - yy).powi(2) / 4.0 + xy * xy).sqrt());
        // An edge determines the position across the edge, but not along it. It counts too, unless it has one
        // direction only.
        let (least, most) = (LARGEST_SIGMA.powi(2), (4.0 * LARGEST_SIGMA).powi(2));
        (middle - half < least && middle + half < most).then_some([xx, xy, yy])
    }
}

#[cfg(test)]
#[path = "patches_tests.rs"]
mod tests;
