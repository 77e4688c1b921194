//! Coarse position of an image on a small reference, found by correlation.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::picture::Picture;
use crate::lsq::robust::median;
use crate::scene::freedom::{Affine, Freedom};

/// Largest shift that is tried, as a fraction of the image's longer side. The step is a pixel of the level.
const REACH: f64 = 0.3;
/// Largest rotation that is tried, in radians.
const LARGEST_ANGLE: f64 = TAU / 36.0;
/// Smallest fraction of the image's pixels that must lie on the reference.
const LEAST_OVERLAP: f64 = 0.3;
/// Smallest advantage in correlation over the start with which another position is accepted: the start is as
/// likely as all other positions together.
const ADVANTAGE: f64 = 0.02;

/// Finds the best transformation from the pixels of one small picture to those of another, near `start`.
///
/// The tried positions are one pixel apart, which is the size of the smallest detail of such pictures.
pub(super) fn search(image: &Picture, reference: &Picture, start: Affine, freedom: Freedom) -> Affine {
    let (a, b) = (compressed(image), compressed(reference));
    let center = reference.size.map(|side| (side as f64 - 1.0) / 2.0);
    let reach = (REACH * image.size[0].max(image.size[1]) as f64).ceil() as isize;
    let half_diagonal = 0.5 * (image.size[0] as f64).hypot(image.size[1] as f64);
    let turns = match freedom {
        Freedom::Fixed | Freedom::Shift | Freedom::Attitude => 0,
        _ => (LARGEST_ANGLE * half_diagonal).ceil() as isize,
    };
    let mut places = Vec::new();
    for turn in -turns..=turns {
        let about = turned(start, turn as f64 / half_diagonal, center);
        for y in -reach..=reach {
            for x in -reach..=reach {
                let shift = [about.shift[0] + x as f64, about.shift[1] + y as f64];
                places.push(Affine { shift, ..about });
            }
        }
    }
    let score = |place: &Affine| correlation((&a, image.size), (&b, reference.size), place);
    let scores: Vec<f64> = places.par_iter().map(score).collect();
    let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    match best {
        Some((k, &found)) if found > score(&start) + ADVANTAGE => places[k],
        _ => start,
    }
}

/// A transformation followed by a rotation about a point.
fn turned(start: Affine, angle: f64, center: [f64; 2]) -> Affine {
    let turn = Affine::new(Freedom::Rshift, &[0.0, 0.0, angle]);
    let row = |[a, b]: [f64; 2]| {
        let m = start.matrix;
        [a * m[0][0] + b * m[1][0], a * m[0][1] + b * m[1][1]]
    };
    let moved = turn.apply([start.shift[0] - center[0], start.shift[1] - center[1]]);
    Affine {
        matrix: [row(turn.matrix[0]), row(turn.matrix[1])],
        shift: [moved[0] + center[0], moved[1] + center[1]],
    }
}

/// Pixels minus their median, in units of their median deviation, compressed so that no star outweighs all
/// others.
fn compressed(picture: &Picture) -> Vec<f64> {
    let mut known: Vec<f64> = picture.pixels.iter().copied().filter(|v| v.is_finite()).collect();
    let middle = median(&mut known);
    let mut departures: Vec<f64> = known.iter().map(|v| (v - middle).abs()).collect();
    let scale = median(&mut departures);
    let scale = if scale > 0.0 { scale } else { 1.0 };
    picture.pixels.iter().map(|v| ((v - middle) / scale).asinh()).collect()
}

/// Pearson's coefficient of the pixels of an image and the reference pixels nearest to their transformed
/// positions.
fn correlation((a, size): (&[f64], [usize; 2]), (b, other): (&[f64], [usize; 2]), place: &Affine) -> f64 {
    let mut sums = [0.0; 6];
    for (k, &u) in a.iter().enumerate() {
        let [x, y] = place.apply([(k % size[0]) as f64, (k / size[0]) as f64]).map(f64::round);
        if !(x >= 0.0 && y >= 0.0 && x < other[0] as f64 && y < other[1] as f64) {
            continue;
        }
        let v = b[y as usize * other[0] + x as usize];
        if u.is_finite() && v.is_finite() {
            for (sum, term) in sums.iter_mut().zip([1.0, u, v, u * u, v * v, u * v]) {
                *sum += term;
            }
        }
    }
    let [n, u, v, uu, vv, uv] = sums;
    let product = (n * uu - u * u) * (n * vv - v * v);
    let enough = n >= LEAST_OVERLAP * a.len() as f64;
    if enough && product > 0.0 { (n * uv - u * v) / product.sqrt() } else { -1.0 }
}
