//! Profiles of the point-spread function and their derivatives, integrated over pixels.
//!
//! The light of a star at the origin has the density `f(u²)` with `u² = xᵀ S x`: Moffat's
//! `(n-1)/(π rd²) (1 + u²)⁻ⁿ` or the Gaussian `1/(2π σ²) exp(-u²/2)`. S is that of a circle of radius r
//! stretched by the traceless matrix of e1 and e2, `S = r⁻² exp(-[[e1, e2], [e2, -e1]])`. It is positive
//! definite for all e1 and e2, its area does not depend on them, and it is smooth where the profile is round.
//! The exponent is `n = 1 + exp(ν)`, the radius `exp(ρ)`, so the parameters need no bounds.
//!
//! Pixels are integrated by Gauss-Legendre quadrature. The number of nodes depends on the distance from the
//! star, so that the error is at most a given fraction of the peak ([`Accuracy`]).
#![allow(clippy::inline_always)] // Parts of a loop that is compiled for several instruction sets: `vectorized`.

use super::quadrature::{GAUSS, MOST_NODES};
use crate::simd::{Work, vectorized};

/// Allowed errors of a pixel, as fractions of the profile's highest value.
const ACCURACIES: [f64; 4] = [1e-4, 1e-5, 1e-6, 1e-7];

/// Allowed error of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy(usize);

impl Accuracy {
    /// The smallest error.
    pub const FINEST: Self = Self(ACCURACIES.len() - 1);
    /// The largest error.
    pub const COARSEST: Self = Self(0);

    /// Accuracy with an error of at most this fraction of the profile's highest value, or the finest
    /// accuracy.
    pub fn of(part: f64) -> Self {
        let finer = ACCURACIES.iter().take_while(|accuracy| **accuracy > part).count();
        Self(finer.min(Self::FINEST.0))
    }
}

/// The kind of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Moffat profile.
    Moffat,
    /// Gaussian profile.
    Gaussian,
}

/// Number of parameters of a profile: ρ (log of the radius), e1, e2, ν (log of the exponent minus 1).
pub const PARAMETERS: usize = 4;
/// Index of ν among the parameters.
pub(super) const EXPONENT: usize = 3;

/// A profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// The kind of the profile.
    pub kind: Kind,
    /// ρ, e1, e2, ν.
    pub parameters: [f64; PARAMETERS],
}

/// Consecutive pixels of one row, relative to a star.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Offset of the centre of the first pixel from the star, along x.
    pub x: f64,
    /// Offset of the row from the star, along y.
    pub y: f64,
    /// Number of pixels.
    pub len: usize,
}

/// Number of columns of [`Renderer::render`]: the light, its derivatives by the star's x and y, and by the
/// parameters.
pub const COLUMNS: usize = 3 + PARAMETERS;

/// Shape in the form needed for a pixel.
#[derive(Debug, Clone, Copy)]
struct Shape {
    kind: Kind,
    /// Elements xx, xy, yy of S, and of its derivatives by e1 and e2.
    s: [f64; 3],
    by_e1: [f64; 3],
    by_e2: [f64; 3],
    norm: f64,
    n: f64,
}

/// The symmetric matrix `exp([[e1, e2], [e2, -e1]])` of determinant 1 and its derivatives, as elements xx,
/// xy, yy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    pub matrix: [f64; 3],
    pub by_e1: [f64; 3],
    pub by_e2: [f64; 3],
}

impl Stretch {
    pub(super) fn new(e1: f64, e2: f64) -> Self {
        let eta = e1.hypot(e2);
        let (cosh, k) = (eta.cosh(), if eta > 1e-4 { eta.sinh() / eta } else { 1.0 + eta * eta / 6.0 });
        let m = if eta > 1e-3 { (cosh - k) / (eta * eta) } else { 1.0 / 3.0 + eta * eta / 30.0 };
        Self {
            matrix: [cosh + k * e1, k * e2, cosh - k * e1],
            by_e1: [k * e1 + k + m * e1 * e1, m * e1 * e2, k * e1 - k - m * e1 * e1],
            by_e2: [k * e2 + m * e1 * e2, k + m * e2 * e2, k * e2 - m * e1 * e2],
        }
    }
}

impl Profile {
    /// The radius, in pixels: rd or σ.
    pub fn radius(&self) -> f64 {
        self.parameters[0].exp()
    }

    /// The exponent n; it has no meaning for a Gaussian.
    pub fn exponent(&self) -> f64 {
        1.0 + self.parameters[3].exp()
    }

    /// Full width at half maximum, pixels; for an ellipse, the geometric mean of both axes.
    pub fn fwhm(&self) -> f64 {
        match self.kind {
            Kind::Moffat => 2.0 * self.radius() * (2.0_f64.powf(1.0 / self.exponent()) - 1.0).sqrt(),
            Kind::Gaussian => self.radius() * (8.0 * 2.0_f64.ln()).sqrt(),
        }
    }

    /// Ratio of the minor to the major axis.
    pub(super) fn axis_ratio(&self) -> f64 {
        (-self.parameters[1].hypot(self.parameters[2])).exp()
    }

    /// Density of the light at its centre, per square pixel.
    pub fn peak(&self) -> f64 {
        self.shape().norm
    }

    /// Distance along the major axis at which the density falls to the fraction `part` of its peak.
    pub fn reach(&self, part: f64) -> f64 {
        if part >= 1.0 {
            return 0.0;
        }
        let u2 = match self.kind {
            Kind::Moffat => part.powf(-1.0 / self.exponent()) - 1.0,
            Kind::Gaussian => -2.0 * part.ln(),
        };
        self.radius() * (u2 / self.axis_ratio()).sqrt()
    }

    fn shape(&self) -> Shape {
        let [_, e1, e2, _] = self.parameters;
        let r2 = self.radius().powi(2);
        let stretch = Stretch::new(-e1, -e2);
        let n = self.exponent();
        let norm = match self.kind {
            Kind::Moffat => (n - 1.0) / (std::f64::consts::PI * r2),
            Kind::Gaussian => 1.0 / (std::f64::consts::TAU * r2),
        };
        Shape {
            kind: self.kind,
            s: stretch.matrix.map(|v| v / r2),
            by_e1: stretch.by_e1.map(|v| -v / r2),
            by_e2: stretch.by_e2.map(|v| -v / r2),
            norm,
            n,
        }
    }

    /// Squared distances beyond which one node per axis is enough, two nodes are enough, and so on.
    fn thresholds(&self, accuracy: f64) -> Thresholds {
        let (minor, major) =
            (self.radius() * self.axis_ratio().sqrt(), self.radius() / self.axis_ratio().sqrt());
        let (pole, decay): (f64, Box<dyn Fn(f64) -> f64>) = match self.kind {
            Kind::Moffat => {
                let n = self.exponent();
                (minor, Box::new(move |d2| (1.0 + d2 / (major * major)).powf(-n) * (1.0 + 0.5 * n * n)))
            }
            // A Gaussian has no pole, but near the star it is as hard to integrate as a function with a pole
            // nearby.
            Kind::Gaussian => (
                1.5 * minor,
                Box::new(move |d2: f64| {
                    let u = d2.sqrt() / major;
                    4.0 * (-0.5 * u * u).exp() * (1.0 + u).powi(2)
                }),
            ),
        };
        let mut thresholds = [0.0; MOST_NODES];
        for (k, threshold) in thresholds.iter_mut().enumerate() {
            let nodes = k as i32 + 1;
            let error = |d: f64| {
                let z = 2.0 * d.max(0.0).hypot(pole);
                decay(d * d) * (z + (z * z + 1.0).sqrt()).powi(-2 * nodes)
            };
            let (mut low, mut high) = (0.0, 1e3 * major + 10.0);
            if error(low) < accuracy {
                continue;
            }
            for _ in 0..30 {
                let middle = 0.5 * (low + high);
                if error(middle) < accuracy { high = middle } else { low = middle }
            }
            // A pixel extends half a pixel towards the star from its centre.
            *threshold = (high + 0.5).powi(2);
        }
        thresholds
    }

    /// Prepares the profile for rendering many stars.
    pub fn renderer(&self) -> Renderer {
        Renderer { shape: self.shape() }
    }

    /// Numbers of quadrature nodes for the pixels of stars with this profile.
    pub fn nodes(&self) -> Nodes {
        Nodes(ACCURACIES.map(|accuracy| self.thresholds(accuracy)))
    }
}

/// Numbers of nodes per axis of a pixel, by its distance from the star and the accuracy.
#[derive(Debug, Clone, Copy)]
pub struct Nodes([Thresholds; ACCURACIES.len()]);

/// Squared distances beyond which one node per axis is enough, two nodes are enough, and so on.
pub(super) type Thresholds = [f64; MOST_NODES];

impl Nodes {
    /// Numbers of nodes per axis, minus 1, of all pixels of runs.
    pub fn of(&self, runs: &[Run], accuracy: Accuracy) -> Vec<u8> {
        nodes_of(runs, &self.0[accuracy.0])
    }
}

/// Numbers of nodes per axis, minus 1, of all pixels of runs. They are still enough if the star moves a
/// little.
pub(super) fn nodes_of(runs: &[Run], thresholds: &Thresholds) -> Vec<u8> {
    /// Distance in pixels by which the star may move nearer.
    const MARGIN: f64 = 0.3;
    let farther = |threshold: f64| if threshold > 0.0 { (threshold.sqrt() + MARGIN).powi(2) } else { 0.0 };
    let limits = thresholds.map(farther);
    let mut nodes = Vec::with_capacity(runs.iter().map(|run| run.len).sum());
    for run in runs {
        let y2 = run.y * run.y;
        nodes.extend((0..run.len).map(|k| {
            let d2 = (run.x + k as f64).powi(2) + y2;
            limits[..MOST_NODES - 1].iter().take_while(|&&limit| d2 < limit).count() as u8
        }));
    }
    nodes
}

/// Shape that all stars of one profile share.
#[derive(Debug, Clone, Copy)]
pub struct Renderer {
    shape: Shape,
}

impl Renderer {
    /// Renders a star of flux 1 on runs of pixels with these [`Nodes`], with derivatives. Each column is as
    /// long as all runs together; columns of derivatives that are not wanted stay empty.
    pub fn render(
        &self,
        runs: &[Run],
        nodes: &[u8],
        wanted: [bool; PARAMETERS],
        columns: &mut [Vec<f64>; COLUMNS],
    ) {
        let total = runs.iter().map(|run| run.len).sum();
        for (k, column) in columns.iter_mut().enumerate() {
            column.clear();
            if k < 3 || wanted[k - 3] {
                column.resize(total, 0.0);
            }
        }
        let Self { shape } = self;
        let mut kinds = by_nodes(runs, nodes);
        for (k, pixels) in kinds.iter_mut().enumerate().filter(|(_, pixels)| !pixels.at.is_empty()) {
            pixels.fill_lanes();
            vectorized(Integral { shape, pixels, nodes: k + 1, wanted, columns });
        }
        finish(shape.n, wanted, columns);
    }
}

/// Computes the derivatives by ρ and ν from sums over the nodes.
fn finish(exponent: f64, wanted: [bool; PARAMETERS], columns: &mut [Vec<f64>; COLUMNS]) {
    let [light, _, _, by_rho, _, _, by_nu] = columns;
    if wanted[0] {
        for (by, light) in by_rho.iter_mut().zip(light.iter()) {
            *by -= 2.0 * light;
        }
    }
    if wanted[3] {
        let less = exponent - 1.0;
        for (by, light) in by_nu.iter_mut().zip(light.iter()) {
            *by = light - less * *by;
        }
    }
}

/// Groups pixels of runs by the number of nodes per axis, minus 1.
pub(super) fn by_nodes(runs: &[Run], nodes: &[u8]) -> [Pixels; MOST_NODES] {
    let mut counts = [0; MOST_NODES];
    for kind in nodes {
        counts[usize::from(*kind)] += 1;
    }
    let mut kinds = counts.map(Pixels::with_capacity);
    let mut first = 0;
    for run in runs {
        let mut rest = &nodes[first..first + run.len];
        while let Some(kind) = rest.first() {
            // Most consecutive pixels have the same number of nodes.
            let same = rest.iter().take_while(|other| *other == kind).count();
            let begin = run.len - rest.len();
            let pixels = &mut kinds[usize::from(*kind)];
            pixels.x.extend((begin..begin + same).map(|k| run.x + k as f64));
            pixels.y.resize(pixels.y.len() + same, run.y);
            pixels.at.extend(first + begin..first + begin + same);
            rest = &rest[same..];
        }
        first += run.len;
    }
    kinds
}

/// Pixels with the same number of nodes: their offsets from the star, and their indices in the columns.
pub(super) struct Pixels {
    pub x: Vec<f64>,
    pub y: Vec<f64>,
    pub at: Vec<usize>,
}

impl Pixels {
    fn with_capacity(count: usize) -> Self {
        let whole = count.next_multiple_of(LANES);
        Self { x: Vec::with_capacity(whole), y: Vec::with_capacity(whole), at: Vec::with_capacity(count) }
    }

    /// Pads the offsets with zeros to whole lanes.
    pub(super) fn fill_lanes(&mut self) {
        let whole = self.at.len().next_multiple_of(LANES);
        self.x.resize(whole, 0.0);
        self.y.resize(whole, 0.0);
    }
}

struct Integral<'a> {
    shape: &'a Shape,
    pixels: &'a Pixels,
    nodes: usize,
    wanted: [bool; PARAMETERS],
    columns: &'a mut [Vec<f64>; COLUMNS],
}

/// Number of pixels that are held in registers at once.
pub(super) const LANES: usize = 8;

impl Work for Integral<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match (self.shape.kind, self.wanted.contains(&true)) {
            (Kind::Moffat, true) => self.sum::<true, true>(),
            (Kind::Moffat, false) => self.sum::<true, false>(),
            (Kind::Gaussian, true) => self.sum::<false, true>(),
            (Kind::Gaussian, false) => self.sum::<false, false>(),
        }
    }
}

impl Integral<'_> {
    #[inline(always)]
    fn sum<const MOFFAT: bool, const SHAPE: bool>(self) {
        let Shape { s, by_e1, by_e2, norm, n, .. } = *self.shape;
        let (places, weights) = GAUSS[self.nodes - 1];
        let mut done = 0;
        while done < self.pixels.at.len() {
            let lanes = LANES.min(self.pixels.at.len() - done);
            let (mut xs, mut ys, mut lane) = ([0.0; LANES], [0.0; LANES], 0);
            while lane < LANES {
                (xs[lane], ys[lane]) = (self.pixels.x[done + lane], self.pixels.y[done + lane]);
                lane += 1;
            }
            let mut sums = [[0.0; LANES]; COLUMNS];
            for (&v, &wy) in places.iter().zip(weights) {
                for (&u, &wx) in places.iter().zip(weights) {
                    let weight = wx * wy * norm;
                    // The lanes of each column of sums become one register.
                    #[allow(clippy::needless_range_loop)]
                    for lane in 0..LANES {
                        let (x, y) = (xs[lane] + u, ys[lane] + v);
                        let (xx, xy, yy) = (x * x, x * y, y * y);
                        let q = s[0] * xx + 2.0 * s[1] * xy + s[2] * yy;
                        let (f, h, log) = if MOFFAT {
                            let log = ln(1.0 + q);
                            let f = weight * exp(-n * log);
                            (f, n * f / (1.0 + q), log)
                        } else {
                            let f = weight * exp(-0.5 * q);
                            (f, 0.5 * f, 0.0)
                        };
                        sums[0][lane] += f;
                        sums[1][lane] += 2.0 * h * (s[0] * x + s[1] * y);
                        sums[2][lane] += 2.0 * h * (s[1] * x + s[2] * y);
                        if SHAPE {
                            sums[3][lane] += 2.0 * h * q;
                            sums[4][lane] -= h * (by_e1[0] * xx + 2.0 * by_e1[1] * xy + by_e1[2] * yy);
                            sums[5][lane] -= h * (by_e2[0] * xx + 2.0 * by_e2[1] * xy + by_e2[2] * yy);
                            sums[6][lane] += f * log;
                        }
                    }
                }
            }
            // Most of these pixels are also consecutive in the columns.
            let first = self.pixels.at[done];
            let together = lanes == LANES && self.pixels.at[done + LANES - 1] == first + LANES - 1;
            for (k, (column, sum)) in self.columns.iter_mut().zip(&sums).enumerate() {
                if k >= 3 && !self.wanted[k - 3] {
                    continue;
                }
                let mut lane = 0;
                if together {
                    let column = &mut column[first..first + LANES];
                    while lane < LANES {
                        column[lane] = sum[lane];
                        lane += 1;
                    }
                }
                while lane < lanes {
                    column[self.pixels.at[done + lane]] = sum[lane];
                    lane += 1;
                }
            }
            done += lanes;
        }
    }
}

/// Natural logarithm of a positive normal number, to 1e-15; the scheme of Tang 1990 (ACM Trans. Math. Softw.
/// 16, 378).
#[inline(always)]
fn ln(x: f64) -> f64 {
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    const MANTISSA: u64 = 0x000f_ffff_ffff_ffff;
    /// Reciprocals of the odd numbers from 3.
    #[rustfmt::skip]
    const ODD: [f64; 9] = [1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0, 1.0 / 15.0, 1.0 / 17.0, 1.0 / 19.0];
    /// 2⁵²: the lowest bits of its sum with a whole number are those of the whole number.
    const WHOLE: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let exponent = f64::from_bits((bits >> 52) | WHOLE) - (4_503_599_627_370_496.0 + 1023.0);
    let f = f64::from_bits((bits & MANTISSA).wrapping_add(SQRT_HALF)) - 1.0;
    // log(1 + f) = 2 artanh(f / (2 + f)).
    let t = f / (2.0 + f);
    let z = t * t;
    let (mut series, mut k) = (0.0, ODD.len());
    // No iterators: a call that is not inlined would be compiled for the baseline instruction set.
    while k > 0 {
        k -= 1;
        series = z * (ODD[k] + series);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * t * (1.0 + series)
}

/// Exponential of a number that is not positive, to 1e-15; nearly 0 for numbers far below 0.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    /// Adding this constant rounds a number to a whole number in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    /// Reciprocals of the factorials of 0 to 11.
    #[rustfmt::skip]
    const FACTORIALS: [f64; 12] = [
        1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0, 1.0 / 40320.0,
        1.0 / 362_880.0, 1.0 / 3_628_800.0, 1.0 / 39_916_800.0,
    ];
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = if x > -700.0 { x } else { -700.0 };
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let (mut series, mut i) = (0.0, FACTORIALS.len());
    while i > 0 {
        i -= 1;
        series = FACTORIALS[i] + r * series;
    }
    f64::from_bits(series.to_bits().wrapping_add(rounded.to_bits() << 52))
}

#[cfg(test)]
mod tests;
