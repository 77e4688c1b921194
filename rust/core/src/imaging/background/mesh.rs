//! A mesh: values at the centres of the blocks of an image, interpolated between them.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

/// Values at the centres of equal blocks of an image, interpolated bilinearly between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    pub(super) values: Vec<f32>,
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) spacing: [f32; 2],
}

impl Mesh {
    pub(super) fn constant(value: f32, image_size: [usize; 2]) -> Self {
        Self { values: vec![value], columns: 1, rows: 1, spacing: image_size.map(|n| n as f32) }
    }

    /// Makes a mesh from the values of equal blocks that cover an image of this width and height. The values
    /// are given row by row, `columns` per row; `None` if they make no full rows.
    pub fn over(values: Vec<f32>, columns: usize, image_size: [usize; 2]) -> Option<Self> {
        let rows = values.len().checked_div(columns).filter(|rows| rows * columns == values.len())?;
        let spacing = [image_size[0] as f32 / columns as f32, image_size[1] as f32 / rows as f32];
        (rows > 0).then_some(Self { values, columns, rows, spacing })
    }

    /// A mesh with one value for every pixel.
    pub(crate) fn per_pixel(rows: &[&[f32]]) -> Self {
        let columns = rows.first().map_or(0, |row| row.len());
        Self { values: rows.concat(), columns, rows: rows.len(), spacing: [1.0; 2] }
    }

    /// Number of columns and rows of blocks.
    pub fn shape(&self) -> [usize; 2] {
        [self.columns, self.rows]
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Mean of the values.
    pub fn mean(&self) -> f64 {
        self.values.iter().map(|&v| f64::from(v)).sum::<f64>() / self.values.len() as f64
    }

    /// The lowest and the highest value.
    pub(crate) fn range(&self) -> [f32; 2] {
        let bounds = [f32::INFINITY, f32::NEG_INFINITY];
        self.values.iter().fold(bounds, |[low, high], &v| [low.min(v), high.max(v)])
    }

    /// The value at a pixel. Outside the outermost block centres, the mesh is extrapolated linearly.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (i, u) = locate(x, self.spacing[0], self.columns);
        let (j, v) = locate(y, self.spacing[1], self.rows);
        let (i1, j1) = ((i + 1).min(self.columns - 1), (j + 1).min(self.rows - 1));
        let row = |j: usize| {
            let row = &self.values[j * self.columns..(j + 1) * self.columns];
            row[i] + u * (row[i1] - row[i])
        };
        let (low, high) = (row(j), row(j1));
        low + v * (high - low)
    }

    /// The value at every pixel of an image of this width and height, row by row.
    pub fn pixels(&self, [width, height]: [usize; 2]) -> Vec<f32> {
        let mut pixels = vec![0.0; width * height];
        pixels
            .par_chunks_mut(width.max(1))
            .enumerate()
            .for_each_init(Vec::new, |knots, (y, row)| self.along_row(y, knots, row, |_, value| value));
        pixels
    }

    /// Puts the elements of `row`, and the values of the mesh along row `y`, through `f`. The buffer holds the
    /// mesh interpolated at the row.
    #[inline(always)]
    pub(crate) fn along_row(
        &self,
        y: usize,
        knots: &mut Vec<f32>,
        row: &mut [f32],
        f: impl Fn(f32, f32) -> f32,
    ) {
        if self.spacing == [1.0; 2] {
            for (v, &value) in row.iter_mut().zip(&self.values[y * self.columns..]) {
                *v = f(*v, value);
            }
            return;
        }
        let (j, v) = locate(y as f32, self.spacing[1], self.rows);
        let j1 = (j + 1).min(self.rows - 1);
        knots.clear();
        knots.extend((0..self.columns).map(|i| {
            let (low, high) = (self.values[j * self.columns + i], self.values[j1 * self.columns + i]);
            low + v * (high - low)
        }));
        if self.columns == 1 {
            for v in row {
                *v = f(*v, knots[0]);
            }
            return;
        }
        let spacing = self.spacing[0];
        let (mut start, last) = (0, self.columns - 2);
        for i in 0..=last {
            let end = if i == last {
                row.len()
            } else {
                (((i as f32 + 1.5) * spacing - 0.5).ceil() as usize).min(row.len())
            };
            let slope = (knots[i + 1] - knots[i]) / spacing;
            let origin = knots[i] - slope * ((i as f32 + 0.5) * spacing - 0.5);
            if start < end {
                for (v, x) in row[start..end].iter_mut().zip(start as i32..) {
                    *v = f(*v, origin + slope * x as f32);
                }
                start = end;
            }
        }
    }

    /// The same mesh for the frame binned by `bin` pixels along each axis.
    pub(crate) fn binned(&self, bin: usize) -> Self {
        if self.spacing != [1.0; 2] || bin == 1 {
            return Self { spacing: self.spacing.map(|s| s / bin as f32), ..self.clone() };
        }
        let (columns, rows) = (self.columns / bin, self.rows / bin);
        let mean = |k: usize| {
            let (i, j) = (k % columns * bin, k / columns * bin);
            let lines = (j..j + bin).map(|j| &self.values[j * self.columns + i..][..bin]);
            lines.flatten().sum::<f32>() / (bin * bin) as f32
        };
        Self { values: (0..columns * rows).map(mean).collect(), columns, rows, spacing: [1.0; 2] }
    }

    /// The same mesh with every value put through `f`.
    pub(crate) fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { values: self.values.iter().map(|&v| f(v)).collect(), ..self.clone() }
    }
}

/// Index of the block centre before `x` and the distance from it in blocks.
fn locate(x: f32, spacing: f32, n: usize) -> (usize, f32) {
    if n == 1 {
        return (0, 0.0);
    }
    let u = (x + 0.5) / spacing - 0.5;
    let i = (u.max(0.0) as usize).min(n - 2);
    (i, u - i as f32)
}
