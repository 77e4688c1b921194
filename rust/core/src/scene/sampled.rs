//! Effective point-spread function given by samples of the light that a pixel receives, at several positions
//! of the image.

use super::profile::{COLUMNS, Run};
use crate::error::{Error, Result};
use crate::imaging::spline::Spline;

/// Samples of a point-spread function, several per pixel, on a lattice of positions in the image.
/// Interpolation is by cubic splines between samples, and linear between positions. The samples are
/// integrated over the pixel (Anderson & King 2000, PASP 112, 1360).
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    oversampling: [f64; 2],
    origin: [f64; 2],
    places: [Vec<f64>; 2],
    /// Splines at the positions, row by row.
    splines: Vec<Spline>,
}

impl Sampled {
    /// Builds a PSF from grids of samples at all combinations of columns and rows of the image, `places`
    /// (ascending).
    ///
    /// The grids have one size (columns and rows), and are given row by row. A pixel has `oversampling`
    /// samples along x and y, and the star is at the sample `origin`.
    ///
    /// # Errors
    /// If the numbers contradict each other or are not finite, or there is no light at the origin.
    pub fn new(
        samples: &[f64],
        size: [usize; 2],
        oversampling: [f64; 2],
        origin: [f64; 2],
        places: [Vec<f64>; 2],
    ) -> Result<Self> {
        let wrong = |problem: &str| {
            Err(Error::argument(
                "psf",
                problem,
                "give finite samples of a point-spread function, brightest inside",
            ))
        };
        let count = places[0].len() * places[1].len();
        if count == 0 || samples.len() != count * size[0] * size[1] || size[0].min(size[1]) < 4 {
            return wrong(
                "the number of samples does not match the grids, or an axis has fewer than 4 samples",
            );
        }
        if samples.iter().any(|v| !v.is_finite()) || oversampling.iter().any(|v| !(*v > 0.0 && v.is_finite()))
        {
            return wrong("it has samples or an oversampling that are not finite");
        }
        if !places.iter().all(|places| places.is_sorted()) {
            return wrong("the places of its grids are not ascending");
        }
        let splines = samples.chunks_exact(size[0] * size[1]).filter_map(|grid| Spline::new(grid, size));
        let sampled = Self { oversampling, origin, places, splines: splines.collect() };
        if sampled.splines.iter().any(|spline| spline.at(origin).value <= 0.0) {
            return wrong("it has no light at its origin");
        }
        Ok(sampled)
    }

    /// Highest light of a pixel of a star of flux 1, for the grid in the middle of the lattice.
    pub fn peak(&self) -> f64 {
        self.splines[self.splines.len() / 2].at(self.origin).value
    }

    /// Samples for a star at a pixel, interpolated between the grids.
    pub(super) fn grid(&self, pixel: [f64; 2]) -> Grid {
        let (size, parts) = (self.splines[0].size(), self.parts(pixel));
        let sample = |i: usize| {
            let at = [(i % size[0]) as f64, (i / size[0]) as f64];
            parts.iter().map(|&(spline, part)| part * self.splines[spline].at(at).value).sum()
        };
        let samples = (0..size[0] * size[1]).map(sample).collect();
        Grid { samples, size, oversampling: self.oversampling, origin: self.origin }
    }

    /// Distance from the star to the farthest edge of the samples, in pixels.
    pub(super) fn half(&self) -> f64 {
        let [width, height] = self.splines[0].size();
        let along = |k: usize, side: usize| {
            self.origin[k].max(side as f64 - 1.0 - self.origin[k]) / self.oversampling[k]
        };
        along(0, width).max(along(1, height))
    }

    /// Renders a star at a pixel as [`Renderer::render`](super::profile::Renderer::render) does, without
    /// light beyond the samples.
    pub(super) fn render(&self, pixel: [f64; 2], runs: &[Run], columns: &mut [Vec<f64>; COLUMNS]) {
        let total = runs.iter().map(|run| run.len).sum();
        for column in &mut columns[..3] {
            column.clear();
            column.resize(total, 0.0);
        }
        let [width, height] = self.splines[0].size().map(|side| side as f64 - 1.0);
        let parts = self.parts(pixel);
        let mut at = 0;
        for run in runs {
            let y = self.origin[1] + self.oversampling[1] * run.y;
            for k in 0..run.len {
                let x = self.origin[0] + self.oversampling[0] * (run.x + k as f64);
                if !(0.0..=width).contains(&x) || !(0.0..=height).contains(&y) {
                    continue;
                }
                for &(spline, part) in &parts {
                    let jet = self.splines[spline].at([x, y]);
                    columns[0][at + k] += part * jet.value;
                    for axis in 0..2 {
                        columns[1 + axis][at + k] -= part * self.oversampling[axis] * jet.gradient[axis];
                    }
                }
            }
            at += run.len;
        }
    }

    /// Grids around a pixel, and their weights in the interpolation.
    fn parts(&self, pixel: [f64; 2]) -> Vec<(usize, f64)> {
        let along = |axis: usize| {
            let places = &self.places[axis];
            let after =
                places.partition_point(|place| *place <= pixel[axis]).clamp(1, places.len().max(2) - 1);
            if places.len() == 1 {
                return [(0, 1.0), (0, 0.0)];
            }
            let (low, high) = (places[after - 1], places[after]);
            let part = ((pixel[axis] - low) / (high - low)).clamp(0.0, 1.0);
            [(after - 1, 1.0 - part), (after, part)]
        };
        let (columns, rows) = (along(0), along(1));
        let part = |&(row, b): &(usize, f64)| {
            columns.map(|(column, a)| (row * self.places[0].len() + column, a * b))
        };
        rows.iter().flat_map(part).filter(|(_, part)| *part > 0.0).collect()
    }
}

/// Samples at one position of an image, row by row.
pub(super) struct Grid {
    pub samples: Vec<f64>,
    /// Columns and rows.
    pub size: [usize; 2],
    /// Samples per pixel along x and y.
    pub oversampling: [f64; 2],
    /// Sample at the position of the star.
    pub origin: [f64; 2],
}

/// The moments of a star's light.
pub(super) struct Moments {
    pub flux: f64,
    /// Centroid, in pixels from the star's position.
    pub middle: [f64; 2],
    /// Covariance about the centroid: xx, xy, yy, square pixels.
    pub covariance: [f64; 3],
}

impl Grid {
    pub(super) fn moments(&self) -> Moments {
        let place = |i: usize| {
            let at = [i % self.size[0], i / self.size[0]];
            [0, 1].map(|axis| (at[axis] as f64 - self.origin[axis]) / self.oversampling[axis])
        };
        let mean = |value: &dyn Fn([f64; 2]) -> f64| {
            self.samples.iter().enumerate().map(|(i, sample)| sample * value(place(i))).sum::<f64>()
        };
        let total = mean(&|_| 1.0);
        let middle = [0, 1].map(|axis| mean(&|at| at[axis]) / total);
        let product = |a: usize, b: usize| mean(&|at| (at[a] - middle[a]) * (at[b] - middle[b])) / total;
        let covariance = [product(0, 0), product(0, 1), product(1, 1)];
        Moments { flux: total / (self.oversampling[0] * self.oversampling[1]), middle, covariance }
    }
}

impl Moments {
    /// Whether the moments are those of a profile similar to a Gaussian; noise in the wings may give any
    /// values.
    pub(super) fn are_sound(&self) -> bool {
        let [xx, xy, yy] = self.covariance;
        self.flux > 0.0 && xx > 0.0 && xx * yy > xy * xy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(sigma: f64) -> Vec<f64> {
        let value = |k: i32| {
            let [x, y] = [k % 41, k / 41].map(|v| f64::from(v - 20) / 3.0);
            (-0.5 * (x * x + y * y) / (sigma * sigma)).exp() / (std::f64::consts::TAU * sigma * sigma)
        };
        (0..41 * 41).map(value).collect()
    }

    #[test]
    fn light_and_slopes_between_samples_and_places() {
        let grids = [gaussian(1.2), gaussian(1.6)].concat();
        let psf = Sampled::new(&grids, [41, 41], [3.0; 2], [20.0; 2], [vec![0.0, 100.0], vec![0.0]]).unwrap();
        let light = |pixel: [f64; 2]| {
            let mut columns = std::array::from_fn(|_| Vec::new());
            psf.render(pixel, &[Run { x: 31.0 - pixel[0], y: 1.0 - pixel[1], len: 1 }], &mut columns);
            [columns[0][0], columns[1][0], columns[2][0]]
        };
        let exact = |[x, y]: [f64; 2]| {
            let of = |s: f64| {
                let r2 = (31.0 - x).powi(2) + (1.0 - y).powi(2);
                (-0.5 * r2 / (s * s)).exp() / (std::f64::consts::TAU * s * s)
            };
            (1.0 - x / 100.0) * of(1.2) + x / 100.0 * of(1.6)
        };
        let at = [30.27, 0.61];
        let [value, by_x, by_y] = light(at);
        assert!((value - exact(at)).abs() < 2e-4 * psf.peak());
        let step = 1e-5;
        let numeric_y = (light([at[0], at[1] + step])[0] - light([at[0], at[1] - step])[0]) / (2.0 * step);
        assert!((by_y - numeric_y).abs() < 1e-6);
        // Along x, the change between the positions contributes too, but little.
        let numeric_x = (light([at[0] + step, at[1]])[0] - light([at[0] - step, at[1]])[0]) / (2.0 * step);
        assert!((by_x - numeric_x).abs() < 5e-4);
        assert_eq!(light([50.0, 1.0]), [0.0; 3]);
    }

    #[test]
    fn samples_that_are_none_are_refused() {
        let places = || [vec![0.0], vec![0.0]];
        let new = |samples: &[f64]| Sampled::new(samples, [41, 41], [3.0; 2], [20.0; 2], places());
        assert!(new(&gaussian(1.0)[1..]).is_err());
        assert!(new(&vec![f64::NAN; 41 * 41]).is_err());
        assert!(new(&vec![0.0; 41 * 41]).is_err());
    }
}
