//! Start of an image whose WCS is free: the position of the light of its sources, near the position that the
//! WCS gives.

use super::Scene;
use super::freedom::{Affine, Freedom};
use super::layout::Layout;
use super::register::picture::Picture;
use crate::lsq::NormalEquations;
use crate::lsq::robust::{median, normal_scale};

/// Largest shift that is tried, in pixels.
const REACH: f64 = 10.0;
/// Largest rotation that is tried, in radians.
const LARGEST_ANGLE: f64 = 0.12;
/// Maximum number of sources that are used, the brightest first.
const MOST_SOURCES: usize = 60;
/// Largest contribution of one source, in units of the noise. It prevents an artefact from outweighing the
/// other sources.
const MOST_LIGHT: f64 = 30.0;
/// Ratio of the light at another position to that at the start above which the other position is accepted.
const ADVANTAGE: f64 = 1.15;
/// Number of steps of the fit of the WCS parameters to positions.
const STEPS: usize = 6;

/// Moves the WCS of an image in a state to the position of the light, if that differs clearly from the start.
pub(super) fn place(
    scene: &Scene<'_>,
    layout: &Layout,
    image: usize,
    brightness: &[f64],
    width: f64,
    state: &mut [f64],
) {
    let of = &scene.images[image];
    let mut sources: Vec<(usize, [f64; 2])> = Vec::new();
    for source in 0..of.places.len() {
        sources.extend(layout.seen(scene, image, source, state).map(|seen| (source, seen.pixel)));
    }
    sources.sort_by(|a, b| brightness[b.0].total_cmp(&brightness[a.0]).then(a.0.cmp(&b.0)));
    sources.truncate(MOST_SOURCES);
    if sources.is_empty() {
        return;
    }
    let light = Light::new(of.data, of.variance, of.size, width);
    let center = of.size.map(|side| 0.5 * (side as f64 - 1.0));
    let score = |turn: &Affine| -> f64 {
        sources.iter().map(|(_, pixel)| light.at(moved(turn, center, *pixel))).sum()
    };
    let start = score(&Affine::IDENTITY);
    let mut best = (start, Affine::IDENTITY);
    for turn in turns(of.freedom, &sources, center, width) {
        let found = score(&turn);
        if found > best.0 {
            best = (found, turn);
        }
    }
    if best.0 > ADVANTAGE * start {
        let targets: Vec<(usize, [f64; 2])> =
            sources.iter().map(|(source, pixel)| (*source, moved(&best.1, center, *pixel))).collect();
        fit_wcs_to_targets(scene, layout, image, &targets, state);
    }
}

/// All transformations that are tried.
fn turns(freedom: Freedom, sources: &[(usize, [f64; 2])], center: [f64; 2], width: f64) -> Vec<Affine> {
    let step = (0.4 * width).max(1.0);
    let steps = (REACH / step).ceil() as i32;
    let radius = sources.iter().map(|(_, p)| (p[0] - center[0]).hypot(p[1] - center[1])).fold(1.0, f64::max);
    let angles = match freedom {
        Freedom::Fixed | Freedom::Shift => 0,
        _ => (LARGEST_ANGLE * radius / step).ceil() as i32,
    };
    let mut turns = Vec::new();
    for angle in -angles..=angles {
        let phi = f64::from(angle) * step / radius;
        for y in -steps..=steps {
            for x in -steps..=steps {
                let shift = [x, y].map(|v| f64::from(v) * step);
                turns.push(Affine::new(Freedom::Rshift, &[shift[0], shift[1], phi]));
            }
        }
    }
    turns
}

fn moved(turn: &Affine, center: [f64; 2], pixel: [f64; 2]) -> [f64; 2] {
    let at = turn.apply([pixel[0] - center[0], pixel[1] - center[1]]);
    [at[0] + center[0], at[1] + center[1]]
}

/// Fits the parameters of the WCS that bring the sources nearest to target positions.
fn fit_wcs_to_targets(
    scene: &Scene<'_>,
    layout: &Layout,
    image: usize,
    targets: &[(usize, [f64; 2])],
    state: &mut [f64],
) {
    let of = &scene.images[image];
    let (n, first) = (of.freedom.parameters(), layout.wcs[image]);
    for _ in 0..STEPS {
        let mut equations = NormalEquations::new(n);
        for (source, target) in targets {
            let Some(seen) = layout.seen(scene, image, *source, state) else { continue };
            for axis in 0..2 {
                let row: Vec<f64> = seen.by_wcs[..n].iter().map(|by| by[axis]).collect();
                equations.add(&row, seen.pixel[axis] - target[axis], 1.0);
            }
        }
        for (value, step) in state[first..first + n].iter_mut().zip(equations.solve(1e-6).iter()) {
            *value += step;
        }
    }
}

/// A smoothed image in units of its noise.
struct Light {
    pixels: Vec<f64>,
    size: [usize; 2],
}

impl Light {
    fn new(data: &[f64], variance: &[f64], size: [usize; 2], width: f64) -> Self {
        let good = |(v, s): (&f64, &f64)| if s.is_finite() { *v } else { f64::NAN };
        let pixels: Vec<f64> = data.iter().zip(variance).map(good).collect();
        let sigma = (width / 2.355).clamp(0.7, 6.0);
        let mut pixels = Picture { pixels, size, variance: None }.smoothed(sigma * sigma);
        let mut known: Vec<f64> = pixels.iter().copied().filter(|v| v.is_finite()).collect();
        let level = median(&mut known);
        let mut departures: Vec<f64> = known.iter().map(|v| (v - level).abs()).collect();
        let noise = normal_scale(&mut departures).max(f64::MIN_POSITIVE);
        for pixel in &mut pixels {
            *pixel = (*pixel - level) / noise;
        }
        Self { pixels, size }
    }

    fn at(&self, pixel: [f64; 2]) -> f64 {
        let [x, y] = pixel.map(f64::round);
        if !(x >= 0.0 && y >= 0.0 && x < self.size[0] as f64 && y < self.size[1] as f64) {
            return 0.0;
        }
        let light = self.pixels[y as usize * self.size[0] + x as usize];
        // Unknown pixels count as dark.
        if light > 0.0 { light.min(MOST_LIGHT) } else { 0.0 }
    }
}
