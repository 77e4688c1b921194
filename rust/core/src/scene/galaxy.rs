//! Galaxies: Sérsic profiles convolved with the point-spread function, integrated over pixels, with their derivatives.
//!
//! Both profiles are mixtures of Gaussians (`mixture`), so the convolved light is a sum of Gaussians whose
//! covariances are `v W + u r² P`. W is the galaxy's covariance matrix on the pixels per unit of variance v,
//! P is that of the PSF. Gaussians of the PSF that hardly differ relative to the Gaussian of the galaxy are
//! merged, and so are Gaussians of the galaxy that are much narrower than the PSF.
#![allow(clippy::inline_always)] // Parts of a loop that is compiled for several instruction sets: `vectorized`.

use super::mixture::{self, Component};
use super::profile::{
    Kind, LANES, PARAMETERS, Pixels, Profile, Run, Stretch, Thresholds, by_nodes, exp, nodes_of,
};
use super::quadrature::{GAUSS, MOST_NODES};
use crate::lsq::small::Matrix2;
use crate::simd::{Work, vectorized};

/// Number of shape parameters of a galaxy: ρ (log of the effective radius in arcsec, the geometric mean of
/// both axes), e1, e2 (of the covariance on the sky, as in `Stretch`), ν (Sérsic exponent, see [`exponent`]).
pub const PARAMETERS_OF_GALAXY: usize = 4;
/// Smallest and largest Sérsic exponent of the fit.
pub const EXPONENTS: [f64; 2] = [0.6, 8.0];
/// Number of own columns of a galaxy: light, derivatives by its pixel, by W (xx, xy, yy), and by the
/// exponent.
pub(super) const OWN: usize = 7;
const COLUMNS: usize = OWN + PARAMETERS;

/// Allowed error of pixels, as a fraction of the light at the centre. The mixtures have about the same error.
const ACCURACY: f64 = 2e-5;
/// Ratio of successive distances at which the error is estimated; the first one is a quarter of a pixel.
const DISTANCE_STEP: f64 = 1.12;
/// Number of these distances.
const DISTANCES: i32 = 65;
/// Largest difference of the variances of merged Gaussians of the PSF, as a fraction of the total variance.
const ALIKE: f64 = 0.1;
/// Gaussians of a galaxy are merged if they add less than this fraction to the smallest variance of the PSF.
const NARROW: f64 = 0.05;
/// Smallest fraction of the flux with which a Gaussian of a PSF may count as the narrowest.
const NARROWEST_PART: f64 = 1e-3;

/// A Sérsic profile with its starting values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sersic {
    /// ρ, e1, e2, ν.
    pub parameters: [f64; PARAMETERS_OF_GALAXY],
    /// Whether each parameter is fitted.
    pub free: [bool; PARAMETERS_OF_GALAXY],
}

/// Sérsic exponent for a parameter ν of any value.
pub fn exponent(nu: f64) -> f64 {
    EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) / (1.0 + (-nu).exp())
}

/// Parameter ν for an exponent, which is kept at least a thousandth of the range from its bounds.
pub fn parameter(n: f64) -> f64 {
    let part = ((n - EXPONENTS[0]) / (EXPONENTS[1] - EXPONENTS[0])).clamp(1e-3, 1.0 - 1e-3);
    (part / (1.0 - part)).ln()
}

/// Derivative of [`exponent`].
pub fn exponent_slope(nu: f64) -> f64 {
    let n = exponent(nu);
    (n - EXPONENTS[0]) * (EXPONENTS[1] - n) / (EXPONENTS[1] - EXPONENTS[0])
}

/// Distance from the centre, in effective radii, at which the light is the fraction `part` of that at one
/// radius.
pub(super) fn reach(n: f64, part: f64) -> f64 {
    (1.0 - part.ln() / mixture::half_light(n)).max(0.0).powf(n)
}

/// Density at the effective radius of a profile of flux 1 and radius 1.
pub(super) fn density_at_radius(n: f64) -> f64 {
    mixture::density(&mixture::sersic(n), 1.0)
}

/// The shape of a galaxy on the pixels of an image.
pub(super) struct Outline {
    /// W: the covariance on the pixels per unit of the galaxy's variance (xx, xy, yy).
    pub w: [f64; 3],
    /// Sérsic's exponent, and its derivative by ν.
    pub exponent: f64,
    exponent_slope: f64,
    /// Derivatives of W by e1 and e2.
    by_stretch: [[f64; 3]; 2],
    /// The covariance on the sky, arcsec².
    on_sky: [f64; 3],
    /// Matrix from the sky to the pixels.
    to_pixel: Matrix2,
}

impl Outline {
    /// Outline from a galaxy's parameters and the derivatives of its pixel by its position.
    pub(super) fn new([rho, e1, e2, nu]: [f64; PARAMETERS_OF_GALAXY], to_pixel: Matrix2) -> Self {
        let (r2, stretch) = ((2.0 * rho).exp(), Stretch::new(e1, e2));
        let on_sky = stretch.matrix.map(|v| r2 * v);
        let by_stretch =
            [stretch.by_e1, stretch.by_e2].map(|by| carried(&to_pixel, &to_pixel, by.map(|v| r2 * v)));
        Self {
            w: carried(&to_pixel, &to_pixel, on_sky),
            exponent: exponent(nu),
            exponent_slope: exponent_slope(nu),
            by_stretch,
            on_sky,
            to_pixel,
        }
    }

    /// Derivatives by ρ, e1, e2, ν as combinations of the galaxy's own columns.
    pub(super) fn by_parameters(&self) -> [[f64; OWN]; PARAMETERS_OF_GALAXY] {
        let of_w = |[xx, xy, yy]: [f64; 3]| [0.0, 0.0, 0.0, xx, xy, yy, 0.0];
        let by_exponent = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, self.exponent_slope];
        let [by_e1, by_e2] = self.by_stretch.map(of_w);
        [of_w(self.w.map(|v| 2.0 * v)), by_e1, by_e2, by_exponent]
    }

    /// Derivative of W by a quantity, given the derivative `by` of `to_pixel` by the same quantity.
    pub(super) fn w_by(&self, by: &Matrix2) -> [f64; 3] {
        let turned = carried(by, &self.to_pixel, self.on_sky);
        let back = carried(&self.to_pixel, by, self.on_sky);
        std::array::from_fn(|i| turned[i] + back[i])
    }
}

/// Symmetric part of `a S bᵀ`, as xx, xy, yy.
fn carried(a: &Matrix2, b: &Matrix2, [xx, xy, yy]: [f64; 3]) -> [f64; 3] {
    let element = |i: usize, j: usize| {
        a[i][0] * (xx * b[j][0] + xy * b[j][1]) + a[i][1] * (xy * b[j][0] + yy * b[j][1])
    };
    [element(0, 0), 0.5 * (element(0, 1) + element(1, 0)), element(1, 1)]
}

/// A Gaussian of the convolved light.
#[derive(Debug, Clone, Copy)]
struct Term {
    /// Inverse of the covariance: xx, xy, yy.
    inverse: [f64; 3],
    /// Density at the centre.
    peak: f64,
    /// Factor v of the galaxy's covariance, and factor u of the covariance of the PSF.
    of_galaxy: f64,
    of_psf: f64,
    /// Relative derivatives of the flux by the Sérsic exponent and by ν of the PSF, and derivative of
    /// `of_psf` by ν.
    by_exponent: f64,
    by_nu: f64,
    of_psf_by_nu: f64,
}

/// A galaxy prepared for rendering.
pub(super) struct Galaxy {
    terms: Vec<Term>,
    psf: Stretch,
    /// Squared radius of the PSF.
    r2: f64,
    /// Smallest radius of the PSF.
    pole: f64,
}

/// Merged Gaussians of a PSF: like a [`Component`], with the derivative of the variance.
#[derive(Debug, Clone, Copy)]
struct Group {
    variance: f64,
    part: f64,
    by_exponent: f64,
    variance_by_exponent: f64,
}

impl Galaxy {
    /// Galaxy with a covariance matrix W on the pixels (xx, xy, yy) and a Sérsic exponent, convolved with a
    /// PSF.
    pub(super) fn new(w: [f64; 3], n: f64, psf: &Profile) -> Self {
        let [_, e1, e2, _] = psf.parameters;
        let (r2, stretch) = (psf.radius().powi(2), Stretch::new(e1, e2));
        let (psf_mixture, exponent_by_nu) = match psf.kind {
            Kind::Moffat => (mixture::moffat(psf.exponent()), psf.exponent() - 1.0),
            Kind::Gaussian => (vec![Component { variance: 1.0, part: 1.0, by_exponent: 0.0 }], 0.0),
        };
        let narrowest = psf_mixture.iter().filter(|c| c.part > NARROWEST_PART).map(|c| c.variance);
        let narrowest = narrowest.fold(f64::INFINITY, f64::min) * r2;
        // Relate the longest axis of the galaxy to the narrowest Gaussian of the PSF, and the other way
        // round.
        let widest_axis = largest_eigenvalue(w);
        let own = narrow_together(mixture::sersic(n), NARROW * narrowest / widest_axis);
        let least_axis = (w[0] * w[2] - w[1] * w[1]).max(0.0) / widest_axis;
        let psf_axis = r2 * largest_eigenvalue(stretch.matrix);
        let mut terms = Vec::new();
        for galaxy in own {
            for group in groups(&psf_mixture, galaxy.variance * least_axis / psf_axis) {
                let covariance: [f64; 3] =
                    std::array::from_fn(|i| galaxy.variance * w[i] + group.variance * r2 * stretch.matrix[i]);
                let determinant = covariance[0] * covariance[2] - covariance[1] * covariance[1];
                let part = galaxy.part * group.part;
                terms.push(Term {
                    inverse: [covariance[2], -covariance[1], covariance[0]].map(|c| c / determinant),
                    peak: part / (std::f64::consts::TAU * determinant.sqrt()),
                    of_galaxy: galaxy.variance,
                    of_psf: group.variance,
                    by_exponent: galaxy.by_exponent / galaxy.part,
                    by_nu: exponent_by_nu * group.by_exponent / group.part,
                    of_psf_by_nu: exponent_by_nu * group.variance_by_exponent,
                });
            }
        }
        Self { terms, psf: stretch, r2, pole: psf.radius() * psf.axis_ratio().sqrt() }
    }

    /// Galaxy of Gaussians so wide that only the flux and the covariance matrix (xx, xy, yy) of the PSF
    /// matter. One node is enough for rendering.
    pub(super) fn wide(w: [f64; 3], gaussians: &[Component], psf: [f64; 3], flux: f64) -> Self {
        let term = |galaxy: &Component| {
            let [xx, xy, yy] = std::array::from_fn(|i| galaxy.variance * w[i] + psf[i]);
            let determinant = xx * yy - xy * xy;
            Term {
                inverse: [yy, -xy, xx].map(|c| c / determinant),
                peak: flux * galaxy.part / (std::f64::consts::TAU * determinant.sqrt()),
                of_galaxy: galaxy.variance,
                of_psf: 0.0,
                by_exponent: galaxy.by_exponent / galaxy.part,
                by_nu: 0.0,
                of_psf_by_nu: 0.0,
            }
        };
        Self { terms: gaussians.iter().map(term).collect(), psf: Stretch::new(0.0, 0.0), r2: 0.0, pole: 0.0 }
    }

    /// Numbers of nodes per axis, minus 1, of all pixels of runs.
    pub(super) fn nodes(&self, runs: &[Run]) -> Vec<u8> {
        nodes_of(runs, &thresholds(&self.terms, self.pole))
    }

    /// Renders the light of flux 1 on runs of pixels, with derivatives: own columns, then those by the PSF's
    /// parameters. Columns that are not wanted are empty; the others are as long as all runs together.
    pub(super) fn render(&self, runs: &[Run], nodes: &[u8], wanted: [bool; PARAMETERS]) -> Vec<Vec<f64>> {
        let total = runs.iter().map(|run| run.len).sum();
        let is_wanted = |k: usize| k < OWN || wanted[k - OWN];
        let mut columns: Vec<Vec<f64>> =
            (0..COLUMNS).map(|k| if is_wanted(k) { vec![0.0; total] } else { Vec::new() }).collect();
        let mut kinds = by_nodes(runs, nodes);
        for (k, pixels) in kinds.iter_mut().enumerate().filter(|(_, pixels)| !pixels.at.is_empty()) {
            pixels.fill_lanes();
            for first in (0..pixels.at.len()).step_by(LANES) {
                let sums = vectorized(Integral { galaxy: self, pixels, first, nodes: k + 1 });
                for (lane, &at) in pixels.at[first..].iter().take(LANES).enumerate() {
                    for (column, sums) in columns.iter_mut().zip(&sums).filter(|(c, _)| !c.is_empty()) {
                        column[at] = sums[lane];
                    }
                }
            }
        }
        columns
    }
}

/// Squared distances beyond which one node per axis is enough, two nodes are enough, and so on.
///
/// The error of `k` nodes falls as the power 2k of the distance to which the light can be continued into the
/// complex plane: to the centre or the pole of the PSF, or to where it has fallen by a factor e.
fn thresholds(terms: &[Term], pole: f64) -> Thresholds {
    /// For an exponential, the error of one node is 1/24 of the squared ratio of the pixel to the length
    /// scale.
    const OF_LENGTH: f64 = 2.4;
    let centre: f64 = terms.iter().map(|term| term.peak).sum();
    let mut thresholds = [0.0; MOST_NODES];
    for step in 0..DISTANCES {
        let d = 0.25 * DISTANCE_STEP.powi(step);
        let (mut light, mut along, mut slope) = (0.0, 0.0, 0.0);
        for term in terms {
            let [xx, xy, yy] = term.inverse;
            let steep = largest_eigenvalue(term.inverse);
            let flat = (xx * yy - xy * xy) / steep;
            light += term.peak * (-0.5 * d * d * flat).exp();
            let minor = term.peak * (-0.5 * d * d * steep).exp();
            along += minor;
            slope += d * steep * minor;
        }
        let z = (2.0 * d.hypot(pole)).min(OF_LENGTH * along / slope.max(f64::MIN_POSITIVE));
        let base = (z + (z * z + 1.0).sqrt()).powi(-2);
        for (k, threshold) in thresholds.iter_mut().enumerate() {
            if light * base.powi(k as i32 + 1) > ACCURACY * centre {
                *threshold = (d * DISTANCE_STEP + 0.5).powi(2);
            }
        }
    }
    thresholds
}

pub(super) fn largest_eigenvalue([xx, xy, yy]: [f64; 3]) -> f64 {
    0.5 * (xx + yy) + (0.5 * (xx - yy)).hypot(xy)
}

/// Merges the components that are narrower than a variance. The widest components come first.
fn narrow_together(mut mixture: Vec<Component>, variance: f64) -> Vec<Component> {
    let wide = mixture.partition_point(|c| c.variance > variance);
    let narrow = mixture.split_off(wide);
    let part: f64 = narrow.iter().map(|c| c.part).sum();
    if part > 0.0 {
        mixture.push(Component {
            variance: narrow.iter().map(|c| c.part * c.variance).sum::<f64>() / part,
            part,
            by_exponent: narrow.iter().map(|c| c.by_exponent).sum(),
        });
    }
    mixture
}

/// Merges components of a PSF that differ little relative to the variance `added` to them.
fn groups(psf: &[Component], added: f64) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut from = 0;
    while from < psf.len() {
        let least = psf[from].variance;
        let same = |c: &&Component| c.variance - least <= ALIKE * (added + least);
        let count = psf[from..].iter().take_while(same).count();
        let members = &psf[from..from + count];
        let sum = |value: fn(&Component) -> f64| members.iter().map(value).sum::<f64>();
        let (part, by_exponent) = (sum(|c| c.part), sum(|c| c.by_exponent));
        let variance = sum(|c| c.part * c.variance) / part;
        let moved = sum(|c| c.by_exponent * c.variance);
        let variance_by_exponent = (moved - variance * by_exponent) / part;
        groups.push(Group { variance, part, by_exponent, variance_by_exponent });
        from += count;
    }
    groups
}

/// Computes all columns for as many pixels as there are lanes.
struct Integral<'a> {
    galaxy: &'a Galaxy,
    pixels: &'a Pixels,
    first: usize,
    nodes: usize,
}

impl Work for Integral<'_> {
    type Output = [[f64; LANES]; COLUMNS];

    #[inline(always)]
    fn call(self) -> [[f64; LANES]; COLUMNS] {
        let mut sums = [[0.0; LANES]; COLUMNS];
        let (places, weights) = GAUSS[self.nodes - 1];
        let (mut i, count) = (0, places.len());
        while i < count * count {
            let (u, v) = (places[i % count], places[i / count]);
            let weight = weights[i % count] * weights[i / count];
            let (mut xs, mut ys, mut lane) = ([0.0; LANES], [0.0; LANES], 0);
            while lane < LANES {
                xs[lane] = self.pixels.x[self.first + lane] + u;
                ys[lane] = self.pixels.y[self.first + lane] + v;
                lane += 1;
            }
            let mut k = 0;
            while k < self.galaxy.terms.len() {
                self.galaxy.add(&self.galaxy.terms[k], weight, &xs, &ys, &mut sums);
                k += 1;
            }
            i += 1;
        }
        sums
    }
}

impl Galaxy {
    /// Adds the light of a term and its derivatives. The derivative by the covariance C is half of
    /// `y yᵀ - C⁻¹` times the light, with `y = C⁻¹ x`.
    #[inline(always)]
    fn add(
        &self,
        term: &Term,
        weight: f64,
        xs: &[f64; LANES],
        ys: &[f64; LANES],
        sums: &mut [[f64; LANES]; COLUMNS],
    ) {
        let [xx, xy, yy] = term.inverse;
        let (p, [p1, p2]) = (&self.psf.matrix, [&self.psf.by_e1, &self.psf.by_e2]);
        let of_psf = term.of_psf * self.r2;
        let mut lane = 0;
        while lane < LANES {
            let (x, y) = (xs[lane], ys[lane]);
            let (a, b) = (xx * x + xy * y, xy * x + yy * y);
            let f = weight * term.peak * exp(-0.5 * (a * x + b * y));
            let half = 0.5 * f;
            let (mxx, mxy, myy) = (half * (a * a - xx), f * (a * b - xy), half * (b * b - yy));
            sums[0][lane] += f;
            sums[1][lane] += f * a;
            sums[2][lane] += f * b;
            sums[3][lane] += term.of_galaxy * mxx;
            sums[4][lane] += term.of_galaxy * mxy;
            sums[5][lane] += term.of_galaxy * myy;
            sums[6][lane] += term.by_exponent * f;
            let by_radius = p[0] * mxx + p[1] * mxy + p[2] * myy;
            sums[7][lane] += 2.0 * of_psf * by_radius;
            sums[8][lane] += of_psf * (p1[0] * mxx + p1[1] * mxy + p1[2] * myy);
            sums[9][lane] += of_psf * (p2[0] * mxx + p2[1] * mxy + p2[2] * myy);
            sums[10][lane] += term.by_nu * f + term.of_psf_by_nu * self.r2 * by_radius;
            lane += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Accuracy;
    use super::*;

    const PSFS: [(Kind, [f64; 4]); 3] = [
        (Kind::Moffat, [0.9, 0.2, -0.15, 0.4]),
        (Kind::Moffat, [0.1, 0.0, 0.0, 0.1]),
        (Kind::Gaussian, [0.5, -0.1, 0.2, 0.0]),
    ];

    fn runs(half: i32) -> Vec<Run> {
        let run =
            |row: i32| Run { x: -f64::from(half) - 0.2, y: f64::from(row) + 0.3, len: 2 * half as usize + 1 };
        (-half..=half).map(run).collect()
    }

    #[test]
    fn derivatives_are_those_of_the_light() {
        for (kind, parameters) in PSFS {
            let psf = Profile { kind, parameters };
            let (w, n) = ([9.0, 2.0, 5.0], 1.7);
            let galaxy = Galaxy::new(w, n, &psf);
            let nodes = galaxy.nodes(&runs(9));
            let columns = galaxy.render(&runs(9), &nodes, [true; 4]);
            let peak = columns[0].iter().copied().fold(0.0, f64::max);
            let moved = |k: usize, step: f64| {
                let (mut w, mut n, mut psf, mut runs) = (w, n, psf, runs(9));
                match k {
                    1 => runs.iter_mut().for_each(|run| run.x -= step),
                    2 => runs.iter_mut().for_each(|run| run.y -= step),
                    3..=5 => w[k - 3] += step,
                    6 => n += step,
                    _ => psf.parameters[k - OWN] += step,
                }
                Galaxy::new(w, n, &psf).render(&runs, &nodes, [false; 4]).swap_remove(0)
            };
            let count = COLUMNS - usize::from(kind == Kind::Gaussian);
            for (k, column) in columns.iter().enumerate().take(count).skip(1) {
                let step = 1e-4;
                let (high, low) = (moved(k, step), moved(k, -step));
                for (i, by) in column.iter().enumerate() {
                    let numeric = (high[i] - low[i]) / (2.0 * step);
                    assert!((by - numeric).abs() < 3e-3 * peak, "{kind:?} {k} {i} {by} {numeric} {peak}");
                }
            }
        }
    }

    #[test]
    fn a_point_of_light_is_the_psf_and_the_flux_is_one() {
        for (kind, parameters) in PSFS {
            let psf = Profile { kind, parameters };
            let runs = runs(12);
            let mut star = std::array::from_fn(|_| Vec::new());
            let nodes = psf.nodes().of(&runs, Accuracy::FINEST);
            psf.renderer().render(&runs, &nodes, [false; 4], &mut star);
            let point = Galaxy::new([1e-6, 0.0, 1e-6], 1.0, &psf).render(&runs, &nodes, [false; 4]);
            for (a, b) in point[0].iter().zip(&star[0]) {
                assert!((a - b).abs() < 2e-4 * psf.peak(), "{kind:?} {a} {b}");
            }
        }
        let psf = Profile { kind: Kind::Gaussian, parameters: [0.3, 0.0, 0.0, 0.0] };
        let (galaxy, runs) = (Galaxy::new([4.0, 1.0, 3.0], 1.0, &psf), runs(30));
        let light: f64 = galaxy.render(&runs, &galaxy.nodes(&runs), [false; 4])[0].iter().sum();
        assert!((light - 1.0).abs() < 1e-4, "{light}");
    }

    #[test]
    fn exponents_stay_within_bounds() {
        for nu in [-30.0, -1.0, 0.0, 2.0, 30.0] {
            let n = exponent(nu);
            assert!((EXPONENTS[0]..=EXPONENTS[1]).contains(&n));
            assert!(nu.abs() > 5.0 || (parameter(n) - nu).abs() < 1e-9);
            let numeric = (exponent(nu + 1e-5) - exponent(nu - 1e-5)) / 2e-5;
            assert!((exponent_slope(nu) - numeric).abs() < 1e-8);
        }
        let part = 1e-3;
        let b = mixture::half_light(2.5);
        let there = (-b * (reach(2.5, part).powf(0.4) - 1.0)).exp();
        assert!((there / part - 1.0).abs() < 1e-9);
    }
}
