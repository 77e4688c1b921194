//! The effective point-spread function: the fraction of a star's light in a pixel, by the pixel's offset from the star.
//!
//! It is a cubic B-spline on a grid of half pixels, so it is smooth, has exact derivatives, and holds images of stars
//! down to a width of one pixel without loss (the pixel itself is part of it: Anderson & King 2000, PASP 112, 1360).
#![allow(clippy::manual_midpoint)] // Halves of column numbers, not means.

pub(crate) mod build;
pub(crate) mod deblend;
pub(crate) mod field;
pub(crate) mod fit;
pub(crate) mod noise;
mod normal;
mod settled;

use crate::imaging::stamp::{Crop, Layout};
use crate::simd::{LANES, Lanes};

/// Coefficients a pixel.
const OVERSAMPLING: usize = 2;
/// A star may stand this far (pixels) from the centre of its stamp.
pub(crate) const MAX_OFFSET: f32 = 1.0;
/// Light fainter than this fraction of the brightest, or than so many times its noise, counts less and less for the
/// centroid.
const WING: f32 = 0.01;
const WING_NOISE: f32 = 4.0;
/// Departures from what a function starts with are measured in that, and this fraction of its highest value more: wings
/// brighter than a Gaussian's are as likely as a core that differs by this fraction.
const WING_DEPARTURE: f32 = 0.05;
/// Noise of a wanted departure, as a fraction of the inverse weight. One step alone has (151/315)², for its taps are
/// correlated; steps add to that. More of it keeps shapes that vary from doing so, less lets noise in.
const DEPARTURE_NOISE: f32 = 0.4;
/// Corrections are taken so much further than each alone would go: below 2 that is stable, and converges faster.
const RELAXATION: f32 = 1.7;
/// Second moment, in square pixels, that the B-spline adds to its coefficients: 4/12 of a squared grid step.
const SPLINE_VARIANCE: f64 = 1.0 / 12.0;

/// A point-spread function on stamps of 2 `half` + 1 pixels a side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Psf {
    half: usize,
    /// Rows of coefficients, each as its even columns, padded, and then its odd ones.
    coefficients: Vec<f32>,
    /// Standard error of a coefficient, about.
    noise: f32,
}

/// Sizes of the grid of coefficients that follow from the half width of a stamp.
#[derive(Debug, Clone, Copy)]
struct Grid {
    stamp: Layout,
    /// Coefficients a side.
    side: usize,
    /// Length of the even or odd columns of a row of coefficients.
    plane: usize,
}

impl Grid {
    fn new(half: usize) -> Self {
        let stamp = Layout::new(half);
        // Four taps about every half pixel, for stars up to MAX_OFFSET off the centre.
        let side = 2 * Self::centre(half) + 1;
        let plane = (side.div_ceil(2) + stamp.stride - stamp.side + LANES).next_multiple_of(LANES);
        Self { stamp, side, plane }
    }

    /// Index of the coefficient at the star's position.
    fn centre(half: usize) -> usize {
        OVERSAMPLING * (half + MAX_OFFSET as usize) + 2
    }

    /// Length of a row: its even columns, padded, and then its odd ones.
    fn row(self) -> usize {
        2 * self.plane
    }

    fn index(self, row: usize, column: usize) -> usize {
        row * self.row() + column % 2 * self.plane + column / 2
    }
}

/// A stamp of the point-spread function and of its derivatives with respect to the star's position.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rendering {
    pub value: Vec<f32>,
    pub by_x: Vec<f32>,
    pub by_y: Vec<f32>,
    /// Blended coefficients, and their derivatives along y, as even and odd columns.
    rows: [[Vec<f32>; 2]; 2],
}

/// First coefficient under the first pixel, and the weights of four, with their derivatives.
#[derive(Debug, Clone, Copy)]
struct Taps {
    start: usize,
    weights: [f32; 4],
    slopes: [f32; 4],
}

impl Taps {
    /// For a star at `offset` pixels from the centre of its stamp.
    fn new(half: usize, offset: f32) -> Self {
        let offset = offset.clamp(-MAX_OFFSET, MAX_OFFSET);
        let u = -(OVERSAMPLING as f32) * offset;
        let floor = u.floor();
        let t = u - floor;
        let s = 1.0 - t;
        let start = (Grid::centre(half) - OVERSAMPLING * half) as isize + floor as isize - 1;
        let weights = [
            s * s * s / 6.0,
            (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
            (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
            t * t * t / 6.0,
        ];
        let by_t = [-0.5 * s * s, 1.5 * t * t - 2.0 * t, -1.5 * s * s + 2.0 * s, 0.5 * t * t];
        Self { start: start as usize, weights, slopes: by_t.map(|d| -(OVERSAMPLING as f32) * d) }
    }
}

impl Psf {
    /// A round Gaussian whose image, as pixels sample it, has this standard deviation.
    pub(crate) fn gaussian(half: usize, sigma: f64) -> Self {
        let grid = Grid::new(half);
        let variance = (sigma * sigma - SPLINE_VARIANCE).max(SPLINE_VARIANCE);
        let mut psf = Self { half, coefficients: vec![0.0; grid.side * grid.row()], noise: 0.0 };
        let centre = Grid::centre(half) as f64;
        for k in 0..grid.side {
            for l in 0..grid.side {
                let r2 = ((k as f64 - centre).powi(2) + (l as f64 - centre).powi(2)) / 4.0;
                psf.coefficients[grid.index(k, l)] = (-0.5 * r2 / variance).exp() as f32;
            }
        }
        psf.normalise();
        psf
    }

    /// A mean of four with weights that add up to one.
    pub(crate) fn blended(parts: [(&Self, f32); 4]) -> Self {
        let mut psf = parts[0].0.clone();
        psf.coefficients.fill(0.0);
        psf.noise = 0.0;
        for (part, weight) in parts {
            for (c, &p) in psf.coefficients.iter_mut().zip(&part.coefficients) {
                *c += weight * p;
            }
            psf.noise += weight * part.noise;
        }
        psf
    }

    pub(crate) fn half(&self) -> usize {
        self.half
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.half)
    }

    fn grid(&self) -> Grid {
        Grid::new(self.half)
    }

    /// The cropped stamp of a star at `offset` pixels from the centre of the stamp's middle pixel, and its derivatives.
    pub(crate) fn render(&self, offset: [f32; 2], crop: Crop, out: &mut Rendering) {
        let layout = self.layout();
        let (x, y) = (Taps::new(self.half, offset[0]), Taps::new(self.half, offset[1]));
        for stamp in [&mut out.value, &mut out.by_x, &mut out.by_y] {
            stamp.resize(layout.len(), 0.0);
        }
        let [rows, slopes] = &mut out.rows;
        for (j, span) in (crop.rows[0]..crop.rows[1]).zip(crop.spans(layout)) {
            let (first, start) = (y.start + OVERSAMPLING * j, x.start / 2 + crop.columns[0]);
            self.blend_rows(first, y.weights, rows, start, span.len());
            self.blend_rows(first, y.slopes, slopes, start, span.len());
            blend_columns(x.start, x.weights, rows, &mut out.value[span.clone()]);
            blend_columns(x.start, x.slopes, rows, &mut out.by_x[span.clone()]);
            blend_columns(x.start, x.weights, slopes, &mut out.by_y[span]);
        }
    }

    /// The cropped stamp alone, without derivatives.
    pub(crate) fn render_value(&self, offset: [f32; 2], crop: Crop, out: &mut Rendering) {
        let layout = self.layout();
        let (x, y) = (Taps::new(self.half, offset[0]), Taps::new(self.half, offset[1]));
        out.value.resize(layout.len(), 0.0);
        let row = &mut out.rows[0];
        for (j, span) in (crop.rows[0]..crop.rows[1]).zip(crop.spans(layout)) {
            self.blend_rows(
                y.start + OVERSAMPLING * j,
                y.weights,
                row,
                x.start / 2 + crop.columns[0],
                span.len(),
            );
            blend_columns(x.start, x.weights, row, &mut out.value[span]);
        }
    }

    /// Four rows of coefficients from `first` on, blended: of even and of odd columns those under `len` pixels.
    fn blend_rows(&self, first: usize, weights: [f32; 4], out: &mut [Vec<f32>; 2], start: usize, len: usize) {
        let grid = self.grid();
        // Two more than pixels, for the four taps, in whole lanes.
        let n = len + LANES;
        for (parity, out) in out.iter_mut().enumerate() {
            let at =
                |k: usize| &self.coefficients[(first + k) * grid.row() + parity * grid.plane + start..][..n];
            out.resize(n, 0.0);
            blend(weights, [at(0), at(1), at(2), at(3)], out);
        }
    }

    /// Standard error of the function, as a fraction of its highest value.
    pub(crate) fn relative_noise(&self) -> f32 {
        self.noise / self.brightest()
    }

    fn brightest(&self) -> f32 {
        self.coefficients.iter().copied().fold(0.0, f32::max)
    }

    /// Position of the light's centroid, its far wings left to symmetry: there is more noise than light in them.
    pub(crate) fn centroid(&self) -> [f64; 2] {
        let grid = self.grid();
        let centre = Grid::centre(self.half) as f64;
        let radius = (OVERSAMPLING * self.half) as f64;
        let wing = (WING * self.brightest()).max(WING_NOISE * self.noise);
        let (mut sum, mut first) = (0.0, [0.0; 2]);
        for k in 0..grid.side {
            for l in 0..grid.side {
                let c = self.coefficients[grid.index(k, l)].max(0.0);
                if (k as f64 - centre).powi(2) + (l as f64 - centre).powi(2) > radius * radius {
                    continue;
                }
                let c = f64::from(c * c / (c + wing));
                sum += c;
                first[0] += c * (l as f64 - centre) / OVERSAMPLING as f64;
                first[1] += c * (k as f64 - centre) / OVERSAMPLING as f64;
            }
        }
        first.map(|f| f / sum)
    }

    /// Root of the sum of squares on the stamp: the signal to noise of a unit of flux in unit noise.
    pub(crate) fn sharpness(&self) -> f32 {
        let mut stamp = Rendering::default();
        self.render_value([0.0, 0.0], Crop::whole(self.half), &mut stamp);
        let rows = stamp.value.chunks_exact(self.layout().stride);
        rows.flat_map(|row| &row[..self.layout().side]).map(|p| p * p).sum::<f32>().sqrt()
    }

    /// What departures of each coefficient are measured in.
    fn departure_scale(&self) -> impl Fn(usize) -> f32 {
        let least = WING_DEPARTURE * self.brightest();
        move |k| self.coefficients[k].max(0.0) + least
    }

    fn normalise(&mut self) {
        let sum: f64 = self.coefficients.iter().map(|&c| f64::from(c)).sum();
        let scale = (OVERSAMPLING * OVERSAMPLING) as f64 / sum;
        for c in &mut self.coefficients {
            *c = (f64::from(*c) * scale) as f32;
        }
    }
}

/// `out[i] = Σ weights[a] row[start % 2 + a + 2 i]`, the row given as its even and its odd columns.
fn blend_columns(start: usize, weights: [f32; 4], rows: &[Vec<f32>; 2], out: &mut [f32]) {
    let at = |a: usize| {
        let column = start % 2 + a;
        &rows[column % 2][column / 2..][..out.len()]
    };
    blend(weights, [at(0), at(1), at(2), at(3)], out);
}

/// `out[i] = Σ weights[k] rows[k][i]`, all of the same length, in whole [`LANES`].
#[allow(clippy::inline_always)] // the rows are so short that a call would show
#[inline(always)]
fn blend(weights: [f32; 4], [a, b, c, d]: [&[f32]; 4], out: &mut [f32]) {
    let [p, q, r, s] = weights.map(Lanes::splat);
    for at in (0..out.len()).step_by(LANES) {
        let load = |row: &[f32]| Lanes::load(&row[at..at + LANES]);
        (p * load(a) + q * load(b) + r * load(c) + s * load(d)).store(&mut out[at..at + LANES]);
    }
}

/// Corrections to the coefficients, gathered from the residuals of many stars.
#[derive(Debug, Clone)]
pub(crate) struct Correction {
    grid: Grid,
    sum: Vec<f32>,
    weight: Vec<f32>,
    rows: [Vec<f32>; 2],
}

impl Correction {
    pub(crate) fn new(half: usize) -> Self {
        let grid = Grid::new(half);
        let zeros = || vec![0.0; grid.side * grid.row()];
        let row = || vec![0.0; grid.row()];
        Self { grid, sum: zeros(), weight: zeros(), rows: [row(), row()] }
    }

    /// Spreads weighted residuals (in fractions of the star's flux) and their weights over the coefficients under them.
    pub(crate) fn add(&mut self, offset: [f32; 2], residual: &[f32], weight: &[f32]) {
        let (grid, layout) = (self.grid, self.grid.stamp);
        let (x, y) = (Taps::new(layout.half, offset[0]), Taps::new(layout.half, offset[1]));
        for j in 0..layout.side {
            let span = j * layout.stride..j * layout.stride + layout.side;
            for (source, row) in [residual, weight].into_iter().zip(&mut self.rows) {
                row.fill(0.0);
                for (a, &w) in x.weights.iter().enumerate() {
                    let first = grid.index(0, x.start + a);
                    for (r, &v) in row[first..first + layout.side].iter_mut().zip(&source[span.clone()]) {
                        *r += w * v;
                    }
                }
            }
            for (b, &w) in y.weights.iter().enumerate() {
                let start = (y.start + OVERSAMPLING * j + b) * grid.row();
                let targets = [&mut self.sum, &mut self.weight];
                for (target, row) in targets.into_iter().zip(&self.rows) {
                    for (t, &v) in target[start..start + grid.row()].iter_mut().zip(row) {
                        *t += w * v;
                    }
                }
            }
        }
    }

    /// Joins a part of what another task gathered.
    pub(crate) fn merge(&mut self, other: &Self, part: f32) {
        for (mine, theirs) in [(&mut self.sum, &other.sum), (&mut self.weight, &other.weight)] {
            for (m, t) in mine.iter_mut().zip(theirs) {
                *m += part * t;
            }
        }
    }

    /// Mean weight of a coefficient.
    pub(crate) fn mean_weight(&self) -> f32 {
        self.weight.iter().sum::<f32>() / (self.grid.side * self.grid.side) as f32
    }

    /// Indices of the coefficients that are corrected: at the rim, where few pixels reach, there is nothing but noise.
    fn inside(&self) -> impl Iterator<Item = usize> {
        let rim = Grid::centre(self.grid.stamp.half) - OVERSAMPLING * self.grid.stamp.half - 1;
        let inner = rim..self.grid.side - rim;
        let columns = inner.clone();
        let within = move |row| columns.clone().map(move |column| self.grid.index(row, column));
        inner.flat_map(within).filter(|&k| self.weight[k] > 0.0)
    }

    /// Sums over the coefficients: the squared departure from `start` that is wanted, less what noise explains, and the
    /// square of what departures are measured in.
    pub(crate) fn departure(&self, psf: &Psf, start: &Psf) -> [f32; 2] {
        let scale = start.departure_scale();
        self.inside().fold([0.0; 2], |[wanted, measure], k| {
            let departure = psf.coefficients[k] - start.coefficients[k] + self.sum[k] / self.weight[k];
            let known = self.weight[k];
            [wanted + known * departure.powi(2) - DEPARTURE_NOISE, measure + known * scale(k).powi(2)]
        })
    }

    /// Applies the correction; each coefficient stays as it was with the weight `prior`, and near that of `start` with the
    /// variance `freedom`, in what departures are measured in.
    pub(crate) fn apply(&self, psf: &mut Psf, start: &Psf, freedom: f32, prior: f32) {
        let scale = start.departure_scale();
        for k in self.inside() {
            let variance = freedom * scale(k).powi(2);
            let back = start.coefficients[k] - psf.coefficients[k];
            psf.coefficients[k] +=
                RELAXATION * (variance * self.sum[k] + back) / (variance * (self.weight[k] + prior) + 1.0);
        }
        psf.noise = 1.0 / (self.mean_weight() + prior).sqrt();
        psf.normalise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(psf: &Psf, offset: [f32; 2]) -> Rendering {
        let mut out = Rendering::default();
        psf.render(offset, Crop::whole(psf.half), &mut out);
        out
    }

    #[test]
    fn a_gaussian_is_one() {
        let (half, sigma) = (5, 1.1);
        let psf = Psf::gaussian(half, sigma);
        let layout = psf.layout();
        for offset in [[0.0, 0.0], [0.3, -0.45], [-0.5, 0.5], [0.9, 0.1]] {
            let stamp = rendered(&psf, offset);
            for j in 0..layout.side {
                for i in 0..layout.side {
                    let dx = i as f64 - half as f64 - f64::from(offset[0]);
                    let dy = j as f64 - half as f64 - f64::from(offset[1]);
                    let expected = (-0.5 * (dx * dx + dy * dy) / (sigma * sigma)).exp()
                        / (std::f64::consts::TAU * sigma * sigma);
                    let got = f64::from(stamp.value[j * layout.stride + i]);
                    assert!((got - expected).abs() < 3e-3, "{got} {expected} at {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_the_value() {
        let psf = Psf::gaussian(4, 0.8);
        let h = 1e-2;
        let (low, high) = (rendered(&psf, [0.2 - h, -0.1]), rendered(&psf, [0.2 + h, -0.1]));
        let (up, down) = (rendered(&psf, [0.2, -0.1 - h]), rendered(&psf, [0.2, -0.1 + h]));
        let middle = rendered(&psf, [0.2, -0.1]);
        for k in 0..middle.value.len() {
            assert!(((high.value[k] - low.value[k]) / (2.0 * h) - middle.by_x[k]).abs() < 1e-3);
            assert!(((down.value[k] - up.value[k]) / (2.0 * h) - middle.by_y[k]).abs() < 1e-3);
        }
    }

    #[test]
    fn corrections_lead_to_the_true_function() {
        let (half, truth) = (4, Psf::gaussian(4, 1.2));
        let start = Psf::gaussian(half, 0.9);
        let mut psf = start.clone();
        let (layout, weight) = (psf.layout(), 1e6);
        for _ in 0..20 {
            let mut correction = Correction::new(half);
            for k in 0..100 {
                let offset = [(k % 10) as f32 / 10.0 - 0.45, (k / 10) as f32 / 10.0 - 0.45];
                let (seen, model) = (rendered(&truth, offset), rendered(&psf, offset));
                let pixels = seen.value.iter().zip(&model.value);
                let residual: Vec<f32> = pixels.map(|(s, m)| weight * (s - m)).collect();
                correction.add(offset, &residual, &vec![weight; layout.len()]);
            }
            correction.apply(&mut psf, &start, 1.0, 0.0);
        }
        let (seen, model) = (rendered(&truth, [0.13, 0.37]), rendered(&psf, [0.13, 0.37]));
        let worst = seen.value.iter().zip(&model.value).map(|(s, m)| (s - m).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
        assert!(psf.centroid().iter().all(|c| c.abs() < 1e-3));
    }

    #[test]
    fn noise_is_no_departure_and_another_width_is_one() {
        let (half, start, stars) = (4, Psf::gaussian(4, 1.0), 40);
        let [noise, flux] = [1.0_f32, 60.0];
        // Evenly distributed, of unit variance.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            12.0_f32.sqrt() * ((state >> 40) as f32 / (1 << 24) as f32 - 0.5)
        };
        let mut freedom = |truth: &Psf| {
            let mut correction = Correction::new(half);
            for _ in 0..stars {
                let offset = [random(), random()].map(|r| 0.28 * r);
                let (seen, model) = (rendered(truth, offset), rendered(&start, offset));
                let weight = (flux / noise).powi(2);
                let residual: Vec<f32> = seen.value.iter().zip(&model.value).map(|(s, m)| s - m).collect();
                let residual: Vec<f32> =
                    residual.iter().map(|r| weight * (r + noise / flux * random())).collect();
                correction.add(offset, &residual, &vec![weight; residual.len()]);
            }
            let [wanted, measure] = correction.departure(&start, &start);
            wanted / measure
        };
        assert!(freedom(&start) < 1e-3);
        assert!(freedom(&Psf::gaussian(half, 1.3)) > 1e-2);
    }
}
