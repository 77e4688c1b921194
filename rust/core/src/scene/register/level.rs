//! The least-squares problem of one level of the pyramid.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::picture::Picture;
use crate::imaging::spline::{Jet, Spline};
use crate::lsq::groups::in_chunks;
use crate::lsq::robust::median;
use crate::lsq::{Loss, NormalEquations, Problem};
use crate::scene::freedom::{Affine, Freedom};

/// Distance in pixels from the edge of the reference, or from a hole in it, within which pixels are not
/// compared.
const MARGIN: f64 = 2.0;
/// Median of the absolute value of a standard normal deviate.
const NORMAL_MEDIAN: f64 = 0.674_49;
/// Number of rows of derivatives that are added to the normal equations at once.
const BATCH: usize = 256;
/// Maximum number of parameters: six of a transformation, then gain, offset and blur.
const MOST: usize = 9;

/// State of the fit: the parameters of the transformation, then gain, offset and blur.
pub(super) type State = DVector<f64>;

/// Mapping from pixels of the image to those of the reference: a known transformation, followed by the fitted
/// one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub freedom: Freedom,
    pub start: Affine,
    /// Pixel of the reference about which the fitted transformation rotates.
    pub center: [f64; 2],
}

impl Mapping {
    /// Position in the reference, relative to the centre, before the fitted transformation.
    fn before(&self, pixel: [f64; 2]) -> [f64; 2] {
        let q = self.start.apply(pixel);
        [q[0] - self.center[0], q[1] - self.center[1]]
    }

    /// The whole transformation.
    pub(super) fn total(&self, parameters: &[f64]) -> Affine {
        let fitted = Affine::new(self.freedom, parameters);
        let row = |i: usize| {
            let [a, b] = fitted.matrix[i];
            let m = self.start.matrix;
            [a * m[0][0] + b * m[1][0], a * m[0][1] + b * m[1][1]]
        };
        let moved = fitted.apply(self.before([0.0; 2]));
        Affine { matrix: [row(0), row(1)], shift: [moved[0] + self.center[0], moved[1] + self.center[1]] }
    }
}

/// Rounding error of a smoothed and interpolated pixel, relative to its value.
const ROUNDING: f64 = 1e-13;

/// Two smoothed pictures at one scale.
pub(super) struct Level {
    mapping: Mapping,
    /// Side of a pixel of this level, in pixels of the whole image.
    factor: f64,
    image: Vec<f64>,
    size: [usize; 2],
    reference: Spline,
    /// Inverse variance of each compared difference, up to the factor that `scale` gives; 0 if a pixel is not
    /// compared.
    pub weights: Vec<f64>,
    /// Contributions of the image's and the reference's pixels to the variances from which the weights were
    /// made.
    pub variances: [Vec<f64>; 2],
    /// Robust standard deviation of the residuals times the root of their weights.
    pub scale: f64,
    /// Size of a residual that is only rounding error, in units of `scale`.
    pub resolution: f64,
    loss: Loss,
    blurs: bool,
}

/// A compared pixel: its residual, its derivatives, its weight.
struct Row {
    residual: f64,
    derivatives: [f64; MOST],
    weight: f64,
}

impl Level {
    /// Builds a level from two pictures smoothed by these variances. The state determines which pixels are
    /// compared.
    pub(super) fn new(
        [image, reference]: [&Picture; 2],
        smoothing: [f64; 2],
        mapping: Mapping,
        state: &State,
        (factor, blurs): (f64, bool),
    ) -> Self {
        let smooth = reference.smoothed(smoothing[1]);
        let known: Vec<bool> = smooth.iter().map(|v| v.is_finite()).collect();
        let fill = median(&mut smooth.iter().copied().filter(|v| v.is_finite()).collect::<Vec<f64>>());
        let fill = if fill.is_finite() { fill } else { 0.0 };
        let filled: Vec<f64> = smooth.iter().map(|v| if v.is_finite() { *v } else { fill }).collect();
        let spline = Spline::new(&filled, reference.size).expect("a picture has its pixels");
        let mut level = Self {
            mapping,
            factor,
            image: image.smoothed(smoothing[0]),
            size: image.size,
            reference: spline,
            weights: Vec::new(),
            variances: [Vec::new(), Vec::new()],
            scale: 1.0,
            resolution: 0.0,
            loss: Loss::Squares,
            blurs,
        };
        level.weigh([image, reference], &known, state);
        level
    }

    /// Selects the pixels that are compared, and computes their weights.
    fn weigh(&mut self, [image, reference]: [&Picture; 2], known: &[bool], state: &State) {
        let gain2 = state[self.mapping.freedom.parameters()].powi(2);
        let [width, height] = self.reference.size();
        let one = |k: usize| {
            let [x, y] = self.place(k, state);
            let inside = |v: f64, side: usize| v >= MARGIN && v <= side as f64 - 1.0 - MARGIN;
            if !(self.image[k].is_finite() && inside(x, width) && inside(y, height)) {
                return [0.0; 3];
            }
            let (x, y) = (x.round() as usize, y.round() as usize);
            let about = |v: usize| v - MARGIN as usize..=v + MARGIN as usize;
            if about(y).any(|y| about(x).any(|x| x >= width || y >= height || !known[y * width + x])) {
                return [0.0; 3];
            }
            let own = image.variance.as_ref().map_or(1.0, |v| v[k]);
            let other = reference.variance.as_ref().map_or(1.0, |v| v[y * width + x]);
            let both = own + gain2 * other;
            if both > 0.0 && both.is_finite() { [1.0 / both, own, gain2 * other] } else { [0.0; 3] }
        };
        let all: Vec<[f64; 3]> = (0..self.image.len()).into_par_iter().map(one).collect();
        self.weights = all.iter().map(|v| v[0]).collect();
        self.variances = [1, 2].map(|i| all.iter().map(|v| v[i]).collect());
    }

    /// Number of pixels that are compared.
    pub(super) fn compared(&self) -> usize {
        self.weights.iter().filter(|w| **w > 0.0).count()
    }

    /// Measures the scale of the residuals, and sets the loss.
    pub(super) fn set_loss(&mut self, loss: Loss, state: &State) {
        let size = |k: usize| {
            let row = self.row(k, state);
            (row.weight > 0.0).then(|| row.residual.abs() * row.weight.sqrt())
        };
        let mut sizes: Vec<f64> = (0..self.image.len()).into_par_iter().filter_map(size).collect();
        let scale = median(&mut sizes) / NORMAL_MEDIAN;
        (self.scale, self.loss) = (if scale > 0.0 { scale } else { 1.0 }, loss);
        let light = |k: usize| self.weights[k] * self.image[k] * self.image[k];
        let lights = (0..self.image.len()).filter(|&k| self.weights[k] > 0.0).map(light);
        let typical = (lights.sum::<f64>() / sizes.len().max(1) as f64).sqrt();
        self.resolution = ROUNDING * typical / self.scale;
    }

    /// The state with the best gain and offset for its transformation; both are kept if the gain is not
    /// positive.
    pub(super) fn regressed(&self, state: &State) -> State {
        let n = self.mapping.freedom.parameters();
        let mut sums = [0.0; 5];
        for (k, &pixel) in self.image.iter().enumerate() {
            let row = self.row(k, state);
            if row.weight > 0.0 {
                let light = row.derivatives[n];
                for (sum, term) in sums.iter_mut().zip([1.0, light, pixel, light * light, light * pixel]) {
                    *sum += row.weight * term;
                }
            }
        }
        let [w, x, y, xx, xy] = sums;
        let gain = (w * xy - x * y) / (w * xx - x * x);
        let mut next = state.clone();
        if gain > 0.0 && gain.is_finite() {
            (next[n], next[n + 1]) = (gain, (y - gain * x) / w);
        }
        next
    }

    /// Sets whether the blur is fitted.
    pub(super) fn set_blurs(&mut self, blurs: bool) {
        self.blurs = blurs;
    }

    /// Position of pixel `k` of this level in the reference of this level.
    fn place(&self, k: usize, state: &State) -> [f64; 2] {
        let u = self.mapping.before(self.whole(k));
        let fitted = Affine::new(self.mapping.freedom, state.as_slice());
        let q = fitted.apply(u);
        [0, 1].map(|i| (q[i] + self.mapping.center[i] + 0.5) / self.factor - 0.5)
    }

    /// Position of pixel `k` of this level in the whole image.
    fn whole(&self, k: usize) -> [f64; 2] {
        let (x, y) = (k % self.size[0], k / self.size[0]);
        [x, y].map(|v| (v as f64 + 0.5) * self.factor - 0.5)
    }

    fn row(&self, k: usize, state: &State) -> Row {
        let (weight, n) = (self.weights[k], self.mapping.freedom.parameters());
        let mut row = Row { residual: 0.0, derivatives: [0.0; MOST], weight };
        if weight == 0.0 {
            return row;
        }
        let fitted = Affine::new(self.mapping.freedom, state.as_slice());
        let u = self.mapping.before(self.whole(k));
        let q = fitted.apply(u);
        let place = [0, 1].map(|i| (q[i] + self.mapping.center[i] + 0.5) / self.factor - 0.5);
        let Jet { value, gradient, laplacian } = self.reference.at(place);
        let (gain, offset, blur) = (state[n], state[n + 1], state[n + 2]);
        // Convolution with a Gaussian of small variance v is the operator 1 + v/2 ∇².
        let curve = 0.5 * laplacian / (self.factor * self.factor);
        let light = value + blur * curve;
        row.residual = gain * light + offset - self.image[k];
        let by = fitted.derivatives(self.mapping.freedom, u);
        for (derivative, by) in row.derivatives[..n].iter_mut().zip(&by) {
            *derivative = gain * (gradient[0] * by[0] + gradient[1] * by[1]) / self.factor;
        }
        row.derivatives[n] = light;
        row.derivatives[n + 1] = 1.0;
        row.derivatives[n + 2] = if self.blurs { gain * curve } else { 0.0 };
        row
    }

    fn z2(&self, row: &Row) -> f64 {
        row.residual * row.residual * row.weight / (self.scale * self.scale)
    }

    /// Number of parameters.
    fn parameters(&self) -> usize {
        self.mapping.freedom.parameters() + 3
    }

    /// Derivative of every residual by one parameter, times the weight of the residual.
    pub(super) fn weighted_derivatives(&self, state: &State, parameter: usize) -> Vec<f64> {
        let one = |k: usize| {
            let row = self.row(k, state);
            row.weight * self.loss.weight_of_square(self.z2(&row)) * row.derivatives[parameter]
        };
        (0..self.image.len()).into_par_iter().map(one).collect()
    }

    /// The matrix `JᵀWJ`.
    pub(super) fn information(&self, state: &State) -> DMatrix<f64> {
        let equations = self.equations(state);
        let n = self.parameters();
        let scale = self.scale * self.scale;
        DMatrix::from_fn(n, n, |i, j| scale * equations.element(i, j))
    }

    fn equations(&self, state: &State) -> NormalEquations {
        let rows: Vec<usize> = (0..self.size[1]).collect();
        let n = self.parameters();
        let blocks = in_chunks(&rows, |rows| {
            let mut block = Block::new(n);
            for y in rows {
                for k in y * self.size[0]..(y + 1) * self.size[0] {
                    let row = self.row(k, state);
                    if row.weight > 0.0 {
                        let z2 = self.z2(&row);
                        let weight = row.weight / (self.scale * self.scale) * self.loss.weight_of_square(z2);
                        block.add(&row.derivatives[..n], row.residual, weight, self.loss.of_square(z2));
                    }
                }
            }
            block.finish()
        });
        blocks.iter().fold(NormalEquations::new(n), |mut sum, block| {
            sum.merge(block);
            sum
        })
    }
}

/// Normal equations that take their rows in batches, and the excess of the cost of a loss over that of
/// squares.
struct Block {
    equations: NormalEquations,
    derivatives: Vec<f64>,
    residuals: Vec<f64>,
    weights: Vec<f64>,
    excess: f64,
}

impl Block {
    fn new(parameters: usize) -> Self {
        let equations = NormalEquations::new(parameters);
        Self { equations, derivatives: vec![], residuals: vec![], weights: vec![], excess: 0.0 }
    }

    fn add(&mut self, derivatives: &[f64], residual: f64, weight: f64, cost: f64) {
        self.derivatives.extend_from_slice(derivatives);
        self.residuals.push(residual);
        self.weights.push(weight);
        self.excess += cost - 0.5 * weight * residual * residual;
        if self.residuals.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.equations.add_all(&self.derivatives, &self.residuals, &self.weights);
        self.derivatives.clear();
        self.residuals.clear();
        self.weights.clear();
    }

    fn finish(mut self) -> NormalEquations {
        self.flush();
        self.equations.add_cost(self.excess);
        self.equations
    }
}

impl Problem for Level {
    type State = State;
    type System = NormalEquations;

    fn cost(&self, state: &State) -> f64 {
        let costs: Vec<f64> = (0..self.size[1])
            .into_par_iter()
            .map(|y| {
                let of = |k: usize| self.row(k, state);
                let row = (y * self.size[0]..(y + 1) * self.size[0]).map(of);
                row.filter(|row| row.weight > 0.0).map(|row| self.loss.of_square(self.z2(&row))).sum()
            })
            .collect();
        costs.iter().sum()
    }

    fn linearize(&self, state: &State) -> NormalEquations {
        self.equations(state)
    }

    fn step(&self, state: &State, _: &NormalEquations, delta: &DVector<f64>) -> Option<State> {
        let next = state + delta;
        next.iter().all(|v| v.is_finite()).then_some(next)
    }
}
