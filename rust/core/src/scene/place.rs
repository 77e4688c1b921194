//! Position of a source in an image, as a function of the source's position and of the image's WCS.

use super::freedom::{Affine, Freedom};
use crate::lsq::small::{Matrix2, inverse, multiply};

/// Step of numerical derivatives by the parameters of a WCS: in arcsec, radians, or as a fraction.
const WCS_STEP: f64 = 1e-4;

/// Map from a source to a pixel, about the starting values of both the source and the WCS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// Map through the tangent plane of the image: `plane = CD M (focal) + crtan`, where the freedom gives M
    /// and crtan. Focal coordinates (pixels from the reference pixel, without distortion) are then mapped to
    /// pixels, linearly about the source.
    Plane {
        /// Starting position on the plane, arcsec.
        plane: [f64; 2],
        /// Derivatives of `plane` by the source's position.
        by_source: Matrix2,
        /// Focal coordinates about which the map to pixels is linear.
        focal: [f64; 2],
        /// Pixel at `focal`; the first pixel is 0.
        pixel: [f64; 2],
        /// Derivatives of the pixel by the focal coordinates.
        by_focal: Matrix2,
    },
    /// Map that is linear in all parameters.
    Local {
        /// Pixel at the starting values.
        pixel: [f64; 2],
        /// Derivatives of the pixel by the source's position.
        by_source: Matrix2,
        /// Derivatives of the pixel by the parameters of the WCS.
        by_wcs: [[f64; 2]; 4],
    },
}

/// A pixel and its derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Projected {
    pub pixel: [f64; 2],
    /// Derivatives by the position of the source: rows x and y.
    pub by_source: Matrix2,
    /// Derivatives by the parameters of the WCS, as many as the freedom has.
    pub by_wcs: [[f64; 2]; 6],
}

/// The WCS of an image as far as it is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wcs<'a> {
    pub freedom: Freedom,
    /// CD matrix, arcsec per pixel.
    pub cd: Matrix2,
    pub parameters: &'a [f64],
}

impl Place {
    /// The same place in a cutout whose first pixel is the pixel `[x0, y0]` of the image.
    pub(super) fn cut_out(&self, [x0, y0]: [usize; 2]) -> Self {
        let mut place = *self;
        let (Self::Plane { pixel, .. } | Self::Local { pixel, .. }) = &mut place;
        *pixel = [pixel[0] - x0 as f64, pixel[1] - y0 as f64];
        place
    }

    /// Pixel of a source moved by `moved` (arcsec) from its starting position, with derivatives.
    pub(super) fn seen(&self, moved: [f64; 2], wcs: &Wcs<'_>) -> Projected {
        match self {
            Self::Plane { plane, by_source, focal, pixel, by_focal } => {
                let Affine { matrix, shift } = Affine::new(wcs.freedom, wcs.parameters);
                let step = multiply(by_source, moved);
                let on = [0, 1].map(|i| plane[i] + step[i] - shift[i]);
                // M⁻¹ CD⁻¹ maps the plane to focal coordinates.
                let back = inverse(&matrix);
                let from_plane = product(&back, &inverse(&wcs.cd));
                let u = multiply(&from_plane, on);
                let off = multiply(by_focal, [u[0] - focal[0], u[1] - focal[1]]);
                let to_pixel = product(by_focal, &from_plane);
                let mut by_wcs = [[0.0; 2]; 6];
                let count = wcs.freedom.parameters();
                for (k, by) in by_wcs[..count].iter_mut().enumerate() {
                    let du = match (k, wcs.freedom) {
                        (0 | 1, _) => [-from_plane[0][k], -from_plane[1][k]],
                        (2, Freedom::Rshift | Freedom::Rscale) => [u[1], -u[0]],
                        (3, Freedom::Rscale) => {
                            let scale = wcs.parameters[3];
                            [-u[0] / scale, -u[1] / scale]
                        }
                        _ => {
                            // An element of M: dM⁻¹ = -M⁻¹ dM M⁻¹.
                            let (row, column) = ((k - 2) / 2, (k - 2) % 2);
                            [-back[0][row] * u[column], -back[1][row] * u[column]]
                        }
                    };
                    *by = multiply(by_focal, du);
                }
                Projected {
                    pixel: [pixel[0] + off[0], pixel[1] + off[1]],
                    by_source: product(&to_pixel, by_source),
                    by_wcs,
                }
            }
            Self::Local { pixel, by_source, by_wcs } => {
                let mut at = multiply(by_source, moved);
                let mut all = [[0.0; 2]; 6];
                for (k, by) in by_wcs.iter().enumerate().take(wcs.freedom.parameters()) {
                    all[k] = *by;
                    at = [0, 1].map(|i| at[i] + by[i] * wcs.parameters[k]);
                }
                Projected { pixel: [pixel[0] + at[0], pixel[1] + at[1]], by_source: *by_source, by_wcs: all }
            }
        }
    }
}

impl Place {
    /// Derivatives of `by_source` by the parameters of the WCS: how the WCS rotates and stretches a shape.
    pub(super) fn by_source_by_wcs(&self, wcs: &Wcs<'_>) -> Vec<Matrix2> {
        let by = |k: usize| {
            let there = |step: f64| {
                let mut parameters = wcs.parameters.to_vec();
                parameters[k] += step;
                self.seen([0.0; 2], &Wcs { parameters: &parameters, ..*wcs }).by_source
            };
            let (high, low) = (there(WCS_STEP), there(-WCS_STEP));
            [0, 1].map(|i| [0, 1].map(|j| (high[i][j] - low[i][j]) / (2.0 * WCS_STEP)))
        };
        (0..wcs.parameters.len()).map(by).collect()
    }
}

fn product(a: &Matrix2, b: &Matrix2) -> Matrix2 {
    let element = |i: usize, j: usize| a[i][0] * b[0][j] + a[i][1] * b[1][j];
    [[element(0, 0), element(0, 1)], [element(1, 0), element(1, 1)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_pixel() {
        let cd = [[-0.26, 0.01], [0.02, 0.262]];
        let plane = Place::Plane {
            plane: [7.0, -12.0],
            by_source: [[1.0, 0.01], [-0.02, 0.99]],
            focal: [-25.0, -45.0],
            pixel: [50.0, 30.0],
            by_focal: [[1.01, 0.002], [0.001, 0.99]],
        };
        let local = Place::Local {
            pixel: [50.0, 30.0],
            by_source: [[3.0, 0.1], [0.2, -3.0]],
            by_wcs: [[1.0, 2.0], [3.0, -4.0], [5.0, 6.0], [0.7, 0.8]],
        };
        for (place, freedom, parameters) in [
            (plane, Freedom::Shift, vec![0.3, -0.1]),
            (plane, Freedom::Rshift, vec![0.3, -0.1, 0.1]),
            (plane, Freedom::Rscale, vec![0.3, -0.1, 0.1, 1.03]),
            (plane, Freedom::General, vec![0.3, -0.1, 0.1, -0.05, 0.02, 0.03]),
            (local, Freedom::Attitude, vec![0.1, 0.2, 0.3, 0.4]),
        ] {
            let at =
                |moved: [f64; 2], p: &[f64]| place.seen(moved, &Wcs { freedom, cd, parameters: p }).pixel;
            let seen = place.seen([0.2, 0.1], &Wcs { freedom, cd, parameters: &parameters });
            let close = |by: [f64; 2], high: [f64; 2], low: [f64; 2]| {
                (0..2).all(|i| (by[i] - (high[i] - low[i]) / 2e-5).abs() < 1e-5)
            };
            for axis in 0..2 {
                let moved = |step: f64| {
                    let mut moved = [0.2, 0.1];
                    moved[axis] += step;
                    at(moved, &parameters)
                };
                let by = [seen.by_source[0][axis], seen.by_source[1][axis]];
                assert!(close(by, moved(1e-5), moved(-1e-5)), "{freedom:?}");
            }
            for k in 0..parameters.len() {
                let moved = |step: f64| {
                    let mut p = parameters.clone();
                    p[k] += step;
                    at([0.2, 0.1], &p)
                };
                assert!(close(seen.by_wcs[k], moved(1e-5), moved(-1e-5)), "{freedom:?} {k}");
            }
        }
    }
}
