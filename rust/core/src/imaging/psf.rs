//! The effective point-spread function (PSF): the fraction of a star's light in a pixel, as a function of the
//! pixel's offset from the star.
//!
//! The PSF is a cubic B-spline on a grid of half pixels. It is smooth, has exact derivatives, and represents
//! star images down to a width of one pixel without loss. The integration over the pixel is part of the PSF
//! (Anderson & King 2000, PASP 112, 1360).
#![allow(clippy::manual_midpoint)]
// The code halves column numbers; it computes no means.
// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
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
pub(crate) mod residuals;
mod settled;
mod smoothing;
pub(crate) mod source;

use std::ops::Range;

use crate::imaging::stamp::{Crop, Layout};
use crate::simd::{self, LANES, Lanes, vectorized};

/// Coefficients per pixel along each axis.
const OVERSAMPLING: usize = 2;
/// Largest offset (pixels) of a star from the centre of its stamp, along each axis.
pub(crate) const MAX_OFFSET: f32 = 1.0;
/// Coefficients below this fraction of the largest one have a reduced weight in the centroid.
const WING: f32 = 0.003;
/// Coefficients below this multiple of their noise have a reduced weight in the centroid.
const WING_NOISE: f32 = 2.0;
/// The unit of a departure from the starting function is the local value of that function plus this fraction
/// of its maximum. So wings brighter than a Gaussian's are as likely as a core that differs by this fraction.
const WING_DEPARTURE: f32 = 0.05;
/// Lower limit of the coefficients, as a fraction of the largest one.
const DEEPEST: f32 = -0.1;
/// Largest distance (pixels along each axis) of a measured PSF's centroid from its middle. A PSF beyond it is
/// rejected.
const MAX_DECENTRE: f64 = 0.75;
/// Largest ratio, or inverse ratio, of the width of a measured PSF to the width of the function it started
/// with. A PSF beyond it is rejected.
const MAX_WIDTH_FACTOR: f64 = 1.8;
/// Second moment, in square pixels, that the B-spline adds to that of its coefficients: 4/12 of a squared
/// grid step.
const SPLINE_VARIANCE: f64 = 1.0 / 12.0;

/// A point-spread function on stamps of 2 `half` + 1 pixels a side.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Psf {
    half: usize,
    /// Rows of coefficients. Each row holds its even columns, padded, and then its odd columns, padded.
    coefficients: Vec<f32>,
    /// Approximate standard error of a coefficient.
    noise: f32,
}

/// Dimensions of the grid of coefficients, derived from the half width of a stamp.
#[derive(Debug, Clone, Copy)]
struct Grid {
    stamp: Layout,
    /// Number of coefficients along one side.
    side: usize,
    /// Padded number of even columns, and of odd columns, in a row of coefficients.
    plane: usize,
}

impl Grid {
    #[inline(always)]
    fn new(half: usize) -> Self {
        let stamp = Layout::new(half);
        // Room for four taps around every half pixel, for stars up to MAX_OFFSET from the centre.
        let side = 2 * Self::centre(half) + 1;
        let plane = (side.div_ceil(2) + stamp.stride - stamp.side + LANES).next_multiple_of(LANES);
        Self { stamp, side, plane }
    }

    /// Index of the coefficient at the star's position.
    #[inline(always)]
    fn centre(half: usize) -> usize {
        OVERSAMPLING * (half + MAX_OFFSET as usize) + 2
    }

    /// Length of a row: its even columns and its odd columns, both padded.
    #[inline(always)]
    fn row(self) -> usize {
        2 * self.plane
    }

    #[inline(always)]
    fn index(self, row: usize, column: usize) -> usize {
        row * self.row() + column % 2 * self.plane + column / 2
    }

    /// First and last index, along either axis, of the coefficients that stars determine. Few pixels
    /// contribute to the rim outside.
    fn bounds(self) -> [usize; 2] {
        let rim = Self::centre(self.stamp.half) - OVERSAMPLING * self.stamp.half - 1;
        [rim, self.side - rim - 1]
    }

    /// Indices in a row of the coefficients that stars determine. They are two ranges, one for the columns
    /// with the parity of the first column and one for the other parity, each preceded by its first column.
    fn columns(self, row: usize) -> [(usize, Range<usize>); 2] {
        let [rim, last] = self.bounds();
        [rim, rim + 1].map(|first| {
            let last = last - (last - first) % 2;
            (first, self.index(row, first)..self.index(row, last) + 1)
        })
    }

    /// Indices, over all rows, of the coefficients that stars determine.
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
    /// Coefficients interpolated along y, and their derivatives along y, each as even and odd columns.
    rows: [[Vec<f32>; 2]; 2],
}

/// Interpolation along one axis: the first coefficient under the first pixel, the weights of four consecutive
/// coefficients, and the derivatives of these weights with respect to the star's position.
#[derive(Debug, Clone, Copy)]
struct Taps {
    start: usize,
    weights: [f32; 4],
    slopes: [f32; 4],
}

impl Taps {
    /// The taps for a star at `offset` pixels from the centre of its stamp.
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
        // Element by element, because `map` of an array may become a function call.
        let slopes = [scale * by_t[0], scale * by_t[1], scale * by_t[2], scale * by_t[3]];
        Self { start: start as usize, weights, slopes }
    }
}

impl Psf {
    /// A round Gaussian PSF. `sigma` is the standard deviation (pixels) of the image that pixels sample.
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

    /// Replaces this PSF by the weighted mean of four others. The weights must add up to one.
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

    /// Renders the cropped stamp of a star and its derivatives. The star is at `offset` pixels from the
    /// centre of the stamp's middle pixel.
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

    /// Renders the cropped stamp of a star without derivatives.
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

    /// Interpolates four rows of coefficients from row `first` on. The output holds the even and the odd
    /// columns under `len` pixels.
    #[inline(always)]
    fn blend_rows(&self, first: usize, weights: [f32; 4], out: &mut [Vec<f32>; 2], start: usize, len: usize) {
        let grid = self.grid();
        // The four taps need two columns more than there are pixels; the number is rounded up to whole lanes.
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

    /// Number of coefficients along one side of the grid.
    fn samples_a_side(&self) -> usize {
        self.grid().side
    }

    /// Values of the PSF at the grid points of the coefficients, row by row.
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

    /// Centroid of the PSF, in pixels from its middle. The weight of faint coefficients is reduced, because
    /// the far wings contain more noise than light; they are assumed to be symmetric.
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

    /// Root of the sum of squares over the stamp: the signal-to-noise ratio of a star of unit flux in unit
    /// noise.
    pub(crate) fn sharpness(&self) -> f32 {
        let mut stamp = Rendering::default();
        self.render_value([0.0, 0.0], Crop::whole(self.half), &mut stamp);
        let rows = stamp.value.chunks_exact(self.layout().stride);
        rows.flat_map(|row| &row[..self.layout().side]).map(|p| p * p).sum::<f32>().sqrt()
    }

    /// Constant part of the unit in which departures of coefficients are measured, see [`WING_DEPARTURE`].
    #[inline(always)]
    fn least_departure(&self) -> f32 {
        WING_DEPARTURE * self.brightest()
    }

    /// Replaces non-finite coefficients by 0, limits negative ones to [`DEEPEST`], and normalises the sum to
    /// one.
    fn bound(&mut self) {
        let lowest = DEEPEST * self.brightest();
        for c in &mut self.coefficients {
            *c = if c.is_finite() { c.max(lowest) } else { 0.0 };
        }
        self.normalise();
    }

    /// Whether this PSF is plausible for a star: its centroid is near its middle, and its width is similar to
    /// that of `other`.
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

/// Extends a buffer with zeros to at least the length `len`.
#[inline(always)]
fn lengthen(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

/// Arguments of the rendering of a stamp without derivatives.
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

/// Computes `out[i] = Σ weights[a] row[start % 2 + a + 2 i]` from the row's even and odd columns.
#[inline(always)]
fn blend_columns(start: usize, weights: [f32; 4], rows: &[Vec<f32>; 2], out: &mut [f32]) {
    let first = start % 2;
    let (this, other) = (&rows[first], &rows[1 - first]);
    let n = out.len();
    // The second and the fourth tap have the other parity. If the first tap is odd, these even columns begin
    // one later.
    blend(weights, [&this[..n], &other[first..first + n], &this[1..=n], &other[1 + first..=n + first]], out);
}

/// Computes `out[i] = Σ weights[k] rows[k][i]`. All slices have the same length, a multiple of [`LANES`].
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
