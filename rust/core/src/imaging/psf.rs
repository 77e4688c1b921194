//! The effective point-spread function: the fraction of a star's light in a pixel, by the pixel's offset from the star.
//!
//! It is a cubic B-spline on a grid of half pixels, so it is smooth, has exact derivatives, and holds images of stars
//! down to a width of one pixel without loss (the pixel itself is part of it: Anderson & King 2000, PASP 112, 1360).
#![allow(clippy::manual_midpoint)]
// Halves of column numbers, not means.
// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

pub(crate) mod build;
mod correction;
pub(crate) mod cutouts;
pub(crate) mod deblend;
pub(crate) mod field;
pub(crate) mod fit;
pub(crate) mod noise;
mod normal;
pub(crate) mod outliers;
mod settled;
mod smoothing;
pub(crate) mod source;

use std::ops::Range;

use crate::imaging::stamp::{Crop, Layout};
use crate::simd::{self, LANES, Lanes, vectorized};

/// Coefficients a pixel.
const OVERSAMPLING: usize = 2;
/// A star may stand this far (pixels) from the centre of its stamp.
pub(crate) const MAX_OFFSET: f32 = 1.0;
/// Light fainter than this fraction of the brightest, or than so many times its noise, counts less and less for the
/// centroid.
const WING: f32 = 0.003;
const WING_NOISE: f32 = 2.0;
/// Departures from what a function starts with are measured in that, and this fraction of its highest value more: wings
/// brighter than a Gaussian's are as likely as a core that differs by this fraction.
const WING_DEPARTURE: f32 = 0.05;
/// Nothing of the function is darker than this fraction of its highest value.
const DEEPEST: f32 = -0.1;
/// The centroid of a measured function is at most this far (pixels) from its middle, and it is at most so many times wider
/// or narrower than a Gaussian of the stars' width: else it is that of no star.
const MAX_DECENTRE: f64 = 0.75;
const MAX_WIDTH_FACTOR: f64 = 1.8;
/// Second moment, in square pixels, that the B-spline adds to its coefficients: 4/12 of a squared grid step.
const SPLINE_VARIANCE: f64 = 1.0 / 12.0;

/// A point-spread function on stamps of 2 `half` + 1 pixels a side.
#[derive(Debug, Clone, Default, PartialEq)]
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
    #[inline(always)]
    fn new(half: usize) -> Self {
        let stamp = Layout::new(half);
        // Four taps about every half pixel, for stars up to MAX_OFFSET off the centre.
        let side = 2 * Self::centre(half) + 1;
        let plane = (side.div_ceil(2) + stamp.stride - stamp.side + LANES).next_multiple_of(LANES);
        Self { stamp, side, plane }
    }

    /// Index of the coefficient at the star's position.
    #[inline(always)]
    fn centre(half: usize) -> usize {
        OVERSAMPLING * (half + MAX_OFFSET as usize) + 2
    }

    /// Length of a row: its even columns, padded, and then its odd ones.
    #[inline(always)]
    fn row(self) -> usize {
        2 * self.plane
    }

    #[inline(always)]
    fn index(self, row: usize, column: usize) -> usize {
        row * self.row() + column % 2 * self.plane + column / 2
    }

    /// First and last row, and column, of the coefficients that stars determine: few pixels reach the rim around them.
    fn bounds(self) -> [usize; 2] {
        let rim = Self::centre(self.stamp.half) - OVERSAMPLING * self.stamp.half - 1;
        [rim, self.side - rim - 1]
    }

    /// Indices of these coefficients in a row: of every other column from the first on, and of those between, each with its
    /// first column.
    fn columns(self, row: usize) -> [(usize, Range<usize>); 2] {
        let [rim, last] = self.bounds();
        [rim, rim + 1].map(|first| {
            let last = last - (last - first) % 2;
            (first, self.index(row, first)..self.index(row, last) + 1)
        })
    }

    /// Indices of these coefficients in all rows.
    fn inside(self) -> impl Iterator<Item = Range<usize>> {
        let [rim, last] = self.bounds();
        (rim..=last).flat_map(move |row| self.columns(row).map(|(_, columns)| columns))
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
    #[inline(always)]
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
        let scale = -(OVERSAMPLING as f32);
        // One by one: `map` of an array may become a call.
        let slopes = [scale * by_t[0], scale * by_t[1], scale * by_t[2], scale * by_t[3]];
        Self { start: start as usize, weights, slopes }
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

    /// Becomes the mean of four with weights that add up to one.
    pub(crate) fn blend(&mut self, parts: [(&Self, f32); 4]) {
        self.half = parts[0].0.half;
        self.coefficients.clear();
        self.coefficients.resize(parts[0].0.coefficients.len(), 0.0);
        self.noise = 0.0;
        for (part, weight) in parts.into_iter().filter(|&(_, weight)| weight != 0.0) {
            simd::add_scaled(&mut self.coefficients, weight, &part.coefficients);
            self.noise += weight * part.noise;
        }
    }

    #[inline(always)]
    pub(crate) fn half(&self) -> usize {
        self.half
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.half)
    }

    #[inline(always)]
    fn grid(&self) -> Grid {
        Grid::new(self.half)
    }

    /// The cropped stamp of a star at `offset` pixels from the centre of the stamp's middle pixel, and its derivatives.
    #[inline(always)]
    pub(crate) fn render(&self, offset: [f32; 2], crop: Crop, out: &mut Rendering) {
        let layout = self.layout();
        let (x, y) = (Taps::new(self.half, offset[0]), Taps::new(self.half, offset[1]));
        lengthen(&mut out.value, layout.len());
        lengthen(&mut out.by_x, layout.len());
        lengthen(&mut out.by_y, layout.len());
        let [rows, slopes] = &mut out.rows;
        for j in crop.rows[0]..crop.rows[1] {
            let span = crop.span(layout, j);
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
        vectorized(Value { psf: self, offset, crop, out });
    }

    #[inline(always)]
    fn render_value_inline(&self, offset: [f32; 2], crop: Crop, out: &mut Rendering) {
        let layout = self.layout();
        let (x, y) = (Taps::new(self.half, offset[0]), Taps::new(self.half, offset[1]));
        lengthen(&mut out.value, layout.len());
        let row = &mut out.rows[0];
        for j in crop.rows[0]..crop.rows[1] {
            let span = crop.span(layout, j);
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
    #[inline(always)]
    fn blend_rows(&self, first: usize, weights: [f32; 4], out: &mut [Vec<f32>; 2], start: usize, len: usize) {
        let grid = self.grid();
        // Two more than pixels, for the four taps, in whole lanes.
        let n = len + LANES;
        let [even, odd] = out;
        lengthen(even, n);
        lengthen(odd, n);
        let row = grid.row();
        let first = first * row + start;
        for (first, out) in [(first, even), (first + grid.plane, odd)] {
            let (a, b) =
                (&self.coefficients[first..first + n], &self.coefficients[first + row..first + row + n]);
            let first = first + 2 * row;
            let (c, d) =
                (&self.coefficients[first..first + n], &self.coefficients[first + row..first + row + n]);
            blend(weights, [a, b, c, d], &mut out[..n]);
        }
    }

    /// Coefficients along a side of the grid.
    fn samples_a_side(&self) -> usize {
        self.grid().side
    }

    /// Values at the places of the coefficients, row by row.
    fn samples(&self) -> Vec<f64> {
        const MIDDLE: [f64; 3] = [1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0];
        let grid = self.grid();
        let inside = |k: usize, step: usize| (k + step).checked_sub(1).filter(|k| *k < grid.side);
        let mut samples = Vec::with_capacity(grid.side * grid.side);
        for k in 0..grid.side {
            for l in 0..grid.side {
                let mut sum = 0.0;
                for (j, a) in MIDDLE.iter().enumerate() {
                    for (i, b) in MIDDLE.iter().enumerate() {
                        if let (Some(row), Some(column)) = (inside(k, j), inside(l, i)) {
                            sum += a * b * f64::from(self.coefficients[grid.index(row, column)]);
                        }
                    }
                }
                samples.push(sum);
            }
        }
        samples
    }

    fn brightest(&self) -> f32 {
        simd::largest(&self.coefficients)
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

    /// Departures of a coefficient are measured in itself and this much.
    #[inline(always)]
    fn least_departure(&self) -> f32 {
        WING_DEPARTURE * self.brightest()
    }

    /// Keeps the function within what an image of a star can be, and its sum one.
    fn bound(&mut self) {
        let lowest = DEEPEST * self.brightest();
        for c in &mut self.coefficients {
            *c = if c.is_finite() { c.max(lowest) } else { 0.0 };
        }
        self.normalise();
    }

    /// Whether it looks like the image of a star of about the width of another function.
    pub(crate) fn resembles(&self, other: &Self) -> bool {
        let widths = f64::from(self.sharpness() / other.sharpness());
        let near = self.centroid().iter().all(|c| c.abs() < MAX_DECENTRE);
        near && (1.0 / MAX_WIDTH_FACTOR..MAX_WIDTH_FACTOR).contains(&widths)
    }

    fn normalise(&mut self) {
        let scale = (OVERSAMPLING * OVERSAMPLING) as f64 / simd::sum(&self.coefficients);
        for c in &mut self.coefficients {
            *c = (f64::from(*c) * scale) as f32;
        }
    }
}

/// Makes a buffer at least so long.
#[inline(always)]
fn lengthen(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

/// The rendering of a stamp without derivatives.
struct Value<'a> {
    psf: &'a Psf,
    offset: [f32; 2],
    crop: Crop,
    out: &'a mut Rendering,
}

impl simd::Work for Value<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.psf.render_value_inline(self.offset, self.crop, self.out);
    }
}

/// `out[i] = Σ weights[a] row[start % 2 + a + 2 i]`, the row given as its even and its odd columns.
#[inline(always)]
fn blend_columns(start: usize, weights: [f32; 4], rows: &[Vec<f32>; 2], out: &mut [f32]) {
    let first = start % 2;
    let (this, other) = (&rows[first], &rows[1 - first]);
    let n = out.len();
    // The second and the fourth tap are of the other parity; one more column on where it begins with the even one.
    blend(weights, [&this[..n], &other[first..first + n], &this[1..=n], &other[1 + first..=n + first]], out);
}

/// `out[i] = Σ weights[k] rows[k][i]`, all of the same length, in whole [`LANES`].
#[inline(always)]
fn blend(weights: [f32; 4], [a, b, c, d]: [&[f32]; 4], out: &mut [f32]) {
    let [p, q, r, s] = weights;
    let (p, q, r, s) = (Lanes::splat(p), Lanes::splat(q), Lanes::splat(r), Lanes::splat(s));
    for at in (0..out.len()).step_by(LANES) {
        let span = at..at + LANES;
        let near = p * Lanes::load(&a[span.clone()]) + q * Lanes::load(&b[span.clone()]);
        let far = near + r * Lanes::load(&c[span.clone()]) + s * Lanes::load(&d[span.clone()]);
        far.store(&mut out[span]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rendered(psf: &Psf, offset: [f32; 2]) -> Rendering {
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
}
