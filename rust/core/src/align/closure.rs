//! Mean differences that a joint fit leaves between pairs of images, from the residuals of the objects
//! detected in both.

use crate::error::{Error, Result};
use crate::geometry::distortion::Point;

/// Mean difference between the residuals of two images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closure {
    /// The images, the lower number first.
    pub images: [usize; 2],
    /// Number of objects detected in both images.
    pub objects: usize,
    /// Mean of the residual in the first image minus the residual in the second.
    pub mean: Point,
    /// Standard error of the mean per axis, from the root mean square of the differences.
    pub error: f64,
}

/// Mean residual differences between every two of `images` images.
///
/// The detections of object k have the indices from `starts[k]` to `starts[k + 1]`. Only detections with
/// `kept` set count.
///
/// # Errors
/// If an image number is out of range or the lengths of the lists do not match.
pub fn closures(
    images: usize,
    exposures: &[u32],
    starts: &[usize],
    residuals: &[Point],
    kept: &[bool],
) -> Result<Vec<Closure>> {
    let n = exposures.len();
    let fits = residuals.len() == n && kept.len() == n && starts.is_sorted();
    if !fits || starts.last().is_some_and(|&end| end > n) || exposures.iter().any(|&e| e as usize >= images) {
        return Err(Error::argument(
            "detections",
            "the lists differ in length, or their indices are out of range",
            "give one row per detection",
        ));
    }
    // For each pair of images: the number, the sums along x and y, and the sum of squares of the differences.
    let mut sums = vec![[0.0_f64; 4]; images * images];
    let mut seen: Vec<(usize, Point)> = Vec::new();
    for of in starts.windows(2) {
        seen.clear();
        seen.extend((of[0]..of[1]).filter(|&i| kept[i]).map(|i| (exposures[i] as usize, residuals[i])));
        seen.sort_by_key(|(exposure, _)| *exposure);
        for (k, (first, a)) in seen.iter().enumerate() {
            let row = &mut sums[first * images..(first + 1) * images];
            for (second, b) in &seen[k + 1..] {
                let step = [a[0] - b[0], a[1] - b[1]];
                let terms = [1.0, step[0], step[1], step[0] * step[0] + step[1] * step[1]];
                row[*second].iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
        }
    }
    let closure = |(k, [count, x, y, squares]): (usize, &[f64; 4])| Closure {
        images: [k / images, k % images],
        objects: *count as usize,
        mean: [x / count, y / count],
        error: (squares / count / 2.0 / count).sqrt(),
    };
    Ok(sums.iter().enumerate().filter(|(_, sums)| sums[0] > 0.0).map(closure).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_objects_that_two_images_have() {
        let exposures = [2, 0, 1, 0, 2, 1];
        let residuals = [[3.0, 0.0], [1.0, 1.0], [9.0, 9.0], [2.0, 0.0], [0.0, 2.0], [5.0, 5.0]];
        let kept = [true, true, false, true, true, true];
        let found = closures(3, &exposures, &[0, 3, 5, 6], &residuals, &kept).unwrap();
        // The first object differs by (-2, 1) between images 0 and 2, the second by (2, -2).
        let error = (13.0 / 2.0 / 2.0 / 2.0_f64).sqrt();
        assert_eq!(found, [Closure { images: [0, 2], objects: 2, mean: [0.0, -0.5], error }]);
        assert!(closures(2, &exposures, &[0, 3, 5, 6], &residuals, &kept).is_err());
    }
}
