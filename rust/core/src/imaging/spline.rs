//! Cubic B-splines through the pixels of an image: smooth between them, with exact derivatives.

use rayon::prelude::*;

/// Pole of the recursive filter from pixels to coefficients ("Splines", IEEE Signal Processing Magazine 16, 22, 1999).
const POLE: f64 = -0.267_949_192_431_122_7;
/// Number of pixels that contribute to the first coefficient of a line: the weight of farther ones is
/// negligible.
const REACH: usize = 28;

/// A spline through the pixels of an image; (0, 0) is the centre of the first pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Spline {
    coefficients: Vec<f64>,
    width: usize,
    height: usize,
}

/// A value and its derivatives by x and y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jet {
    /// The value.
    pub value: f64,
    /// First derivatives by x and y.
    pub gradient: [f64; 2],
    /// Sum of the second derivatives.
    pub laplacian: f64,
}

impl Spline {
    /// The spline through the pixels of an image, given row by row. Beyond its edges, the image is continued
    /// by reflection.
    ///
    /// `None` if the image is empty or the number of pixels does not match the size.
    pub fn new(pixels: &[f64], [width, height]: [usize; 2]) -> Option<Self> {
        if width == 0 || height == 0 || pixels.len() != width * height {
            return None;
        }
        let mut coefficients = pixels.to_vec();
        coefficients.par_chunks_mut(width).for_each(filter);
        let columns: Vec<Vec<f64>> = (0..width)
            .into_par_iter()
            .map(|x| {
                let mut column: Vec<f64> = (0..height).map(|y| coefficients[y * width + x]).collect();
                filter(&mut column);
                column
            })
            .collect();
        for (x, column) in columns.iter().enumerate() {
            for (y, value) in column.iter().enumerate() {
                coefficients[y * width + x] = *value;
            }
        }
        Some(Self { coefficients, width, height })
    }

    /// Columns and rows.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// The value at a position, with derivatives. Beyond the edges, the image is continued by reflection.
    pub fn at(&self, [x, y]: [f64; 2]) -> Jet {
        let (column, row) = (x.floor(), y.floor());
        let (across, down) = (Taps::new(x - column), Taps::new(y - row));
        let (column, row) = (column as isize - 1, row as isize - 1);
        let inside =
            column >= 0 && row >= 0 && column + 4 <= self.width as isize && row + 4 <= self.height as isize;
        let mut jet = Jet { value: 0.0, gradient: [0.0; 2], laplacian: 0.0 };
        for j in 0..4 {
            let y = if inside { row as usize + j } else { mirror(row + j as isize, self.height) };
            let mut sums = [0.0; 3];
            for i in 0..4 {
                let x = if inside { column as usize + i } else { mirror(column + i as isize, self.width) };
                let c = self.coefficients[y * self.width + x];
                sums[0] += across.value[i] * c;
                sums[1] += across.first[i] * c;
                sums[2] += across.second[i] * c;
            }
            jet.value += down.value[j] * sums[0];
            jet.gradient[0] += down.value[j] * sums[1];
            jet.gradient[1] += down.first[j] * sums[0];
            jet.laplacian += down.value[j] * sums[2] + down.second[j] * sums[0];
        }
        jet
    }
}

/// Weights of the four coefficients around a position, and their first and second derivatives.
struct Taps {
    value: [f64; 4],
    first: [f64; 4],
    second: [f64; 4],
}

impl Taps {
    fn new(t: f64) -> Self {
        let s = 1.0 - t;
        Self {
            value: [
                s * s * s / 6.0,
                (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
                (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
                t * t * t / 6.0,
            ],
            first: [-0.5 * s * s, 1.5 * t * t - 2.0 * t, -1.5 * s * s + 2.0 * s, 0.5 * t * t],
            second: [s, 3.0 * t - 2.0, 3.0 * s - 2.0, t],
        }
    }
}

/// Index of the pixel that replaces one beyond an edge, by reflection at the centre of the outermost pixel.
fn mirror(at: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length as isize - 1);
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

/// Replaces values along a line by the coefficients of the spline through them.
fn filter(line: &mut [f64]) {
    let n = line.len();
    if n == 1 {
        return;
    }
    let gain = (1.0 - POLE) * (1.0 - 1.0 / POLE);
    let mut first = 0.0;
    let mut power = 1.0;
    for k in 0..REACH {
        first += power * line[mirror(k as isize, n)];
        power *= POLE;
    }
    line[0] = gain * first;
    for k in 1..n {
        line[k] = gain * line[k] + POLE * line[k - 1];
    }
    line[n - 1] = POLE / (POLE * POLE - 1.0) * (line[n - 1] + POLE * line[n - 2]);
    for k in (0..n - 1).rev() {
        line[k] = POLE * (line[k + 1] - line[k]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_the_pixels() {
        for size in [[1, 1], [2, 3], [5, 1], [40, 31]] {
            let pixels: Vec<f64> =
                (0..size[0] * size[1]).map(|k| f64::from((k as u32 * 7919) % 101)).collect();
            let spline = Spline::new(&pixels, size).unwrap();
            for (k, pixel) in pixels.iter().enumerate() {
                let jet = spline.at([(k % size[0]) as f64, (k / size[0]) as f64]);
                assert!((jet.value - pixel).abs() < 1e-9, "{size:?} {k} {jet:?} {pixel}");
            }
        }
        assert!(Spline::new(&[1.0], [2, 2]).is_none() && Spline::new(&[], [0, 0]).is_none());
    }

    #[test]
    fn derivatives_are_those_of_a_smooth_image() {
        let wave = |x: f64, y: f64| (0.2 * x).sin() * (0.15 * y).cos();
        let pixels: Vec<f64> = (0..60 * 50).map(|k| wave(f64::from(k % 60), f64::from(k / 60))).collect();
        let spline = Spline::new(&pixels, [60, 50]).unwrap();
        let (x, y) = (29.37, 22.81);
        let jet = spline.at([x, y]);
        assert!((jet.value - wave(x, y)).abs() < 2e-5);
        assert!((jet.gradient[0] - 0.2 * (0.2 * x).cos() * (0.15 * y).cos()).abs() < 1e-4);
        assert!((jet.gradient[1] + 0.15 * (0.2 * x).sin() * (0.15 * y).sin()).abs() < 1e-4);
        assert!((jet.laplacian + (0.04 + 0.0225) * wave(x, y)).abs() < 1e-3);
    }
}
