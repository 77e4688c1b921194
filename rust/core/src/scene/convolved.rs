//! Galaxies convolved with a point-spread function that is given by samples.
//!
//! A galaxy is a mixture of Gaussians (`mixture`), whose Fourier transforms are also Gaussians. Their sum
//! times the transform of the samples is the transform of the light in pixels, including the cusp of the
//! galaxy. The derivatives follow in the same way. The inverse transform lies on the lattice of the samples;
//! a spline interpolates between them. Gaussians that are much wider than the point-spread function depend
//! only on its second moments, and are added directly.
#![allow(clippy::inline_always)] // Parts of a loop that is compiled for several instruction sets: `vectorized`.

use std::f64::consts::TAU;

use rustfft::num_complex::{Complex32, Complex64};

use super::galaxy::{Galaxy, largest_eigenvalue};
use super::mixture::{self, Component};
use super::profile::{LANES, PARAMETERS, Run, exp};
use super::sampled::{Moments, Sampled};
use crate::imaging::fourier::{Fourier, good_side};
use crate::imaging::spline::Spline;
use crate::simd::{Work, vectorized};

/// Ratio of a Gaussian's minor axis to the axis of the point-spread function above which the Gaussian is
/// wide.
const WIDE: f64 = 4.0;
/// Extent to which the other Gaussians are drawn, in standard deviations.
const REACH: f64 = 4.5;
/// Longest side of the lattice. Gaussians that do not fit on the lattice also count as wide.
const LONGEST_SIDE: usize = 2048;
/// Negative exponent beyond which the transform of a Gaussian is neglected.
const FAINTEST: f64 = 40.0;
/// Number of columns that are convolved: light, derivatives by W (xx, xy, yy), and by the exponent. The other
/// columns are gradients of the light.
const CONVOLVED: usize = 5;
/// Indices of the convolved columns among a galaxy's own columns.
const COLUMNS: [usize; CONVOLVED] = [0, 3, 4, 5, 6];

/// A galaxy prepared for rendering near one position of an image.
pub(super) struct Convolved {
    wide: Galaxy,
    /// Centroid of the light of a star, in pixels from its position.
    middle: [f64; 2],
    narrow: [Spline; CONVOLVED],
    /// Samples per pixel, and the sample at the galaxy's centre.
    oversampling: [f64; 2],
    origin: [f64; 2],
}

impl Convolved {
    /// Convolves a galaxy, given by its covariance matrix W on the pixels (xx, xy, yy) and its exponent, with
    /// the PSF at a pixel.
    pub(super) fn new(w: [f64; 3], n: f64, psf: &Sampled, pixel: [f64; 2]) -> Self {
        let grid = psf.grid(pixel);
        let moments = grid.moments();
        let major = largest_eigenvalue(w);
        let minor = (w[0] * w[2] - w[1] * w[1]).max(0.0) / major;
        let side = grid.size[0].max(grid.size[1]);
        let finest = grid.oversampling[0].max(grid.oversampling[1]);
        let longest = LONGEST_SIDE.saturating_sub(side) as f64 / (2.0 * REACH * finest);
        let least = if moments.are_sound() {
            (WIDE * WIDE * largest_eigenvalue(moments.covariance) / minor).min(longest * longest / major)
        } else {
            longest * longest / major
        };
        let mut wide = mixture::sersic(n);
        let narrow = wide.split_off(wide.partition_point(|c| c.variance > least));
        let reach = narrow.first().map_or(0.0, |c| REACH * (c.variance * major).sqrt());
        let pad = grid.oversampling.map(|samples| (reach * samples).ceil() as usize);
        let size = [0, 1].map(|axis| good_side(grid.size[axis] + 2 * pad[axis]));
        let mut samples = vec![Complex32::default(); size[0] * size[1]];
        for (y, row) in grid.samples.chunks_exact(grid.size[0]).enumerate() {
            let at = (y + pad[1]) * size[0] + pad[0];
            for (to, from) in samples[at..].iter_mut().zip(row) {
                to.re = *from as f32;
            }
        }
        let narrow = convolved(&narrow, w, samples, size, grid.oversampling);
        let Moments { flux, middle, covariance } = moments;
        Self {
            wide: Galaxy::wide(w, &wide, covariance, flux),
            middle,
            narrow: narrow.map(|column| Spline::new(&column, size).expect("as many as its size says")),
            oversampling: grid.oversampling,
            origin: [0, 1].map(|axis| grid.origin[axis] + pad[axis] as f64),
        }
    }

    /// Renders the galaxy as [`Galaxy::render`] does, without derivatives by the point-spread function.
    pub(super) fn render(&self, runs: &[Run]) -> Vec<Vec<f64>> {
        let total = runs.iter().map(|run| run.len).sum();
        let about = |run: &Run| Run { x: run.x - self.middle[0], y: run.y - self.middle[1], len: run.len };
        let moved: Vec<Run> = runs.iter().map(about).collect();
        // The samples are already integrated over pixels.
        let mut columns = self.wide.render(&moved, &vec![0; total], [false; PARAMETERS]);
        let last = self.narrow[0].size().map(|side| side as f64 - 1.0);
        let mut at = 0;
        for run in runs {
            let y = self.origin[1] + self.oversampling[1] * run.y;
            for k in 0..run.len {
                let x = self.origin[0] + self.oversampling[0] * (run.x + k as f64);
                if !(0.0..=last[0]).contains(&x) || !(0.0..=last[1]).contains(&y) {
                    continue;
                }
                for (spline, column) in self.narrow.iter().zip(COLUMNS) {
                    let jet = spline.at([x, y]);
                    columns[column][at + k] += jet.value;
                    if column == 0 {
                        for axis in 0..2 {
                            columns[1 + axis][at + k] -= self.oversampling[axis] * jet.gradient[axis];
                        }
                    }
                }
            }
            at += run.len;
        }
        columns
    }
}

/// Samples convolved with Gaussians, and derivatives of the result by W (xx, xy, yy) and by the exponent.
fn convolved(
    gaussians: &[Component],
    w: [f64; 3],
    mut samples: Vec<Complex32>,
    size: [usize; 2],
    oversampling: [f64; 2],
) -> [Vec<f64>; CONVOLVED] {
    let fourier = Fourier::new(size);
    fourier.forward(&mut samples);
    let [across, down] = [0, 1].map(|axis| frequencies(size[axis], oversampling[axis]));
    // Two real images share a transform, as its real and its imaginary part. The mixed derivative is
    // transformed separately, because its transform at the highest frequency is not that of a real image.
    let mut packed: [Vec<Complex32>; 3] = std::array::from_fn(|_| vec![Complex32::default(); samples.len()]);
    let unit = 1.0 / samples.len() as f64;
    for (row, &ky) in down.iter().enumerate() {
        let at = row * size[0];
        let sums = vectorized(Transforms { gaussians, w, across: &across, ky });
        for (column, (&kx, [light, by_variance, by_exponent])) in across.iter().zip(sums).enumerate() {
            let sample = samples[at + column];
            let (xx, xy, yy) = (kx * kx, kx * ky, ky * ky);
            let filters = [
                Complex64::new(light, by_exponent),
                Complex64::new(-0.5 * xx, -0.5 * yy) * by_variance,
                Complex64::new(-xy * by_variance, 0.0),
            ];
            for (packed, filter) in packed.iter_mut().zip(filters) {
                let filter = filter * unit;
                packed[at + column] = sample * Complex32::new(filter.re as f32, filter.im as f32);
            }
        }
    }
    for spectrum in &mut packed {
        fourier.inverse(spectrum);
    }
    let real = |k: usize| packed[k].iter().map(|c| f64::from(c.re)).collect();
    let imaginary = |k: usize| packed[k].iter().map(|c| f64::from(c.im)).collect();
    [real(0), real(1), real(2), imaginary(1), imaginary(0)]
}

/// Frequencies of the transform of a line, radians per pixel.
fn frequencies(side: usize, oversampling: f64) -> Vec<f64> {
    let signed = |k: usize| if 2 * k > side { k as f64 - side as f64 } else { k as f64 };
    (0..side).map(|k| TAU * signed(k) * oversampling / side as f64).collect()
}

/// Transforms of a mixture in one row of frequencies: the transform itself, the factor of its derivative by
/// W, and its derivative by the exponent.
struct Transforms<'a> {
    gaussians: &'a [Component],
    w: [f64; 3],
    across: &'a [f64],
    ky: f64,
}

impl Work for Transforms<'_> {
    type Output = Vec<[f64; 3]>;

    #[inline(always)]
    fn call(self) -> Vec<[f64; 3]> {
        let Self { gaussians, w: [xx, xy, yy], across, ky } = self;
        let mut all = vec![[0.0; 3]; across.len()];
        let mut first = 0;
        while first < across.len() {
            let lanes = LANES.min(across.len() - first);
            let (mut q, mut least, mut lane) = ([f64::MAX; LANES], f64::MAX, 0);
            while lane < lanes {
                let kx = across[first + lane];
                q[lane] = 0.5 * (xx * kx * kx + 2.0 * xy * kx * ky + yy * ky * ky);
                least = if q[lane] < least { q[lane] } else { least };
                lane += 1;
            }
            let mut sums = [[0.0; LANES]; 3];
            let mut k = 0;
            while k < gaussians.len() {
                let Component { variance, part, by_exponent } = gaussians[k];
                k += 1;
                if variance * least > FAINTEST {
                    continue;
                }
                let mut lane = 0;
                while lane < LANES {
                    let light = exp(-variance * q[lane]);
                    sums[0][lane] += part * light;
                    sums[1][lane] += part * variance * light;
                    sums[2][lane] += by_exponent * light;
                    lane += 1;
                }
            }
            let mut lane = 0;
            while lane < lanes {
                all[first + lane] = [sums[0][lane], sums[1][lane], sums[2][lane]];
                lane += 1;
            }
            first += lanes;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::galaxy::OWN;
    use super::super::profile::{Kind, Profile};
    use super::*;

    /// Samples of a Gaussian that is integrated over pixels; `sigma` is its standard deviation before
    /// integration.
    fn psf(sigma: f64) -> Sampled {
        let profile = Profile { kind: Kind::Gaussian, parameters: [sigma.ln(), 0.0, 0.0, 0.0] };
        let runs: Vec<Run> = (-40..=40)
            .flat_map(|y| {
                (-40..=40).map(move |x| Run { x: f64::from(x) / 4.0, y: f64::from(y) / 4.0, len: 1 })
            })
            .collect();
        let mut columns = std::array::from_fn(|_| Vec::new());
        profile.renderer().render(&runs, &vec![8; runs.len()], [false; 4], &mut columns);
        Sampled::new(&columns[0], [81, 81], [4.0; 2], [40.0; 2], [vec![0.0], vec![0.0]]).unwrap()
    }

    fn runs(half: i32) -> Vec<Run> {
        let run =
            |row: i32| Run { x: -f64::from(half) - 0.2, y: f64::from(row) + 0.3, len: 2 * half as usize + 1 };
        (-half..=half).map(run).collect()
    }

    #[test]
    fn its_columns_are_those_of_an_analytic_profile() {
        let profile = Profile { kind: Kind::Gaussian, parameters: [1.3_f64.ln(), 0.0, 0.0, 0.0] };
        let (sampled, runs) = (psf(1.3), runs(25));
        for (w, n) in [([9.0, 2.0, 5.0], 1.0), ([30.0, -12.0, 10.0], 4.0), ([2.0, 0.5, 1.5], 2.0)] {
            let exact = Galaxy::new(w, n, &profile);
            let exact = exact.render(&runs, &vec![9; 51 * 51], [false; 4]);
            let found = Convolved::new(w, n, &sampled, [0.0; 2]).render(&runs);
            assert_eq!(found.len(), exact.len());
            for (k, (a, b)) in found.iter().zip(&exact).enumerate().take(OWN) {
                let largest = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                let off = a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
                let allowed = if k == 0 { 1e-3 } else { 1e-2 };
                assert!(off < allowed * largest, "{w:?} {n} column {k}: {off} of {largest}");
            }
        }
    }

    #[test]
    fn a_galaxy_without_extent_is_a_star() {
        let (sampled, runs) = (psf(0.9), runs(8));
        let mut star = std::array::from_fn(|_| Vec::new());
        sampled.render([0.0; 2], &runs, &mut star);
        let point = Convolved::new([1e-6, 0.0, 1e-6], 1.0, &sampled, [0.0; 2]).render(&runs);
        for k in 0..3 {
            assert!(point[k].iter().zip(&star[k]).all(|(a, b)| (a - b).abs() < 1e-6), "column {k}");
        }
    }
}
