//! Phase correlation: finds the shift between two images and, by log-polar spectra, also rotation and scale.
//!
//! Only the phase of the cross-power spectrum of two shifted images is used; its inverse transform is a peak
//! at the shift (Kuglin & Hines 1975). The amplitudes of the spectra do not depend on the shift; rotation and
//! scale shift them in log-polar coordinates (Reddy & Chatterji 1996, IEEE Trans. Image Process. 5, 1266).

use std::f64::consts::PI;

use rustfft::num_complex::Complex32;

use super::plane::Plane;
use super::transform::{Point, Transform};
use crate::imaging::fourier::{Fourier, good_side};

/// Images are binned until neither side exceeds this number of pixels: positions are refined later.
const LARGEST_SIDE: usize = 288;
/// Fraction of each side over which an image fades out.
const FADE: f64 = 0.25;
/// Numbers of directions over half a turn and of distances from the middle in the log-polar spectrum.
const POLAR: [usize; 2] = [360, 256];
/// Range of distances from the middle of the spectrum that is compared, as fractions of the highest
/// frequency.
const RADII: [f64; 2] = [0.04, 0.9];
/// Largest change of scale accepted; the smallest is its inverse.
const LARGEST_SCALE: f64 = 1.6;
/// Number of peaks in the comparison of spectra that are evaluated.
const PEAKS: usize = 3;
/// Half the side of the squares over which contrast is equalised, binned pixels.
const EQUALISED_HALF: usize = 8;
/// Number of shifts without rotation that are evaluated.
const SHIFTS: usize = 3;
/// Half the side of the square of pixels that belong to a peak.
const PEAK_RADIUS: usize = 2;

/// A transform that may be the movement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Transform from moved to reference pixels.
    pub transform: Transform,
    /// Height of its peak in the correlation, in standard deviations of the correlation.
    pub significance: f64,
}

/// Transforms that may be the movement, the most significant first.
///
/// Returns shifts alone and, if `turned`, also transforms with rotation and scale.
pub fn phase_candidates(reference: &Plane, moved: &Plane, turned: bool) -> Vec<Candidate> {
    if reference.width != moved.width || reference.height != moved.height {
        return Vec::new();
    }
    let factor = reference.width.max(reference.height).div_ceil(LARGEST_SIDE);
    // Contrast is equalised, so that a bright object that has moved separately does not outweigh the scene.
    let [small, small_moved] = [reference, moved].map(|plane| {
        let small = plane.binned(factor);
        let floor = 2.0 * small.noise();
        small.equalised(EQUALISED_HALF, floor)
    });
    if small.width < 4 || small.height < 4 {
        return Vec::new();
    }
    let mut correlator = Correlator::new([small.width, small.height].map(good_side));
    let mut found = correlator.candidates(&small, &small_moved, &Transform(IDENTITY), SHIFTS);
    if turned {
        let polar = [&small, &small_moved].map(|plane| polar_spectrum(&mut correlator, plane));
        let mut comparer = Correlator::new([POLAR[1], POLAR[0]]);
        let step = (RADII[1] / RADII[0]).ln() / POLAR[1] as f64;
        for (shift, _) in comparer.peaks(&polar[0].pixels, &polar[1].pixels, PEAKS) {
            let (scale, angle) = ((-shift[0] * step).exp(), shift[1] * PI / POLAR[0] as f64);
            if !(1.0 / LARGEST_SCALE..=LARGEST_SCALE).contains(&scale) {
                continue;
            }
            // A spectrum does not change when it is rotated by half a turn, so the angle has two solutions.
            for angle in [angle, angle + PI] {
                let about = about_middle(&small, scale, angle);
                found.extend(correlator.candidates(&small, &small_moved, &about, 1));
            }
        }
    }
    found.sort_by(|a, b| b.significance.total_cmp(&a.significance));
    let enlarge = enlarging(factor as f64);
    for candidate in &mut found {
        let reduce = enlarging(1.0 / factor as f64);
        candidate.transform = reduce.then(&candidate.transform).then(&enlarge);
    }
    found
}

const IDENTITY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// Transform from pixels of a binned image to those of the original.
fn enlarging(factor: f64) -> Transform {
    let shift = (factor - 1.0) / 2.0;
    Transform([[factor, 0.0, shift], [0.0, factor, shift], [0.0, 0.0, 1.0]])
}

/// Rotation and scale about the middle of an image.
fn about_middle(plane: &Plane, scale: f64, angle: f64) -> Transform {
    let (a, b) = (scale * angle.cos(), scale * angle.sin());
    let (x, y) = ((plane.width as f64 - 1.0) / 2.0, (plane.height as f64 - 1.0) / 2.0);
    Transform([[a, -b, x - a * x + b * y], [b, a, y - b * x - a * y], [0.0, 0.0, 1.0]])
}

/// Phase correlation of images of one size.
struct Correlator(Fourier);

impl Correlator {
    fn new(size: [usize; 2]) -> Self {
        Self(Fourier::new(size))
    }

    /// Spectra of two real images at once: one is the real part, the other the imaginary part.
    fn spectra(&self, a: &[f32], b: &[f32]) -> Vec<[Complex32; 2]> {
        let [width, height] = self.0.size();
        let mut data: Vec<Complex32> = a.iter().zip(b).map(|(&a, &b)| Complex32::new(a, b)).collect();
        self.0.forward(&mut data);
        let both = |i: usize| {
            let (x, y) = (i % width, i / width);
            let mirrored = data[(height - y) % height * width + (width - x) % width].conj();
            [(data[i] + mirrored) * 0.5, (data[i] - mirrored) * Complex32::new(0.0, -0.5)]
        };
        (0..data.len()).map(both).collect()
    }

    /// The shifts from b to a with the highest peaks, and the peaks' heights in standard deviations of the
    /// correlation.
    fn peaks(&mut self, a: &[f32], b: &[f32], count: usize) -> Vec<(Point, f64)> {
        let [width, height] = self.0.size();
        let spectra = self.spectra(a, b);
        let mut cross: Vec<Complex32> = spectra
            .iter()
            .map(|[a, b]| {
                let product = a * b.conj();
                product / product.norm().max(f32::MIN_POSITIVE)
            })
            .collect();
        self.0.inverse(&mut cross);
        let mut surface: Vec<f32> = cross.iter().map(|c| c.re).collect();
        let scale =
            (surface.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / surface.len() as f64).sqrt();
        let mut peaks = Vec::new();
        for _ in 0..count {
            let highest = (0..surface.len()).max_by(|&i, &j| surface[i].total_cmp(&surface[j]));
            let Some(top) = highest.filter(|&i| surface[i] > 0.0 && scale > 0.0) else { break };
            let (x, y) = (top % width, top / width);
            let at = |i: usize, j: usize| surface[j % height * width + i % width];
            let fraction = |before: f32, middle: f32, after: f32| {
                let curve = before + after - 2.0 * middle;
                if curve < 0.0 { f64::from((before - after) / (2.0 * curve)) } else { 0.0 }
            };
            let fx = fraction(at(x + width - 1, y), at(x, y), at(x + 1, y));
            let fy = fraction(at(x, y + height - 1), at(x, y), at(x, y + 1));
            let signed = |v: usize, n: usize| if v * 2 > n { v as f64 - n as f64 } else { v as f64 };
            peaks.push(([signed(x, width) + fx, signed(y, height) + fy], f64::from(surface[top]) / scale));
            for j in 0..=2 * PEAK_RADIUS {
                for i in 0..=2 * PEAK_RADIUS {
                    let (u, v) = (x + width + i - PEAK_RADIUS, y + height + j - PEAK_RADIUS);
                    surface[v % height * width + u % width] = 0.0;
                }
            }
        }
        peaks
    }

    /// Candidates that consist of the transform `about` and a remaining shift.
    fn candidates(
        &mut self,
        reference: &Plane,
        moved: &Plane,
        about: &Transform,
        count: usize,
    ) -> Vec<Candidate> {
        let Some(back) = about.inverse() else { return Vec::new() };
        let turned = Plane {
            pixels: (0..reference.pixels.len())
                .map(|i| {
                    let pixel = [(i % reference.width) as f64, (i / reference.width) as f64];
                    back.apply(pixel).and_then(|place| moved.sample(place)).unwrap_or(0.0)
                })
                .collect(),
            ..*reference
        };
        let (a, b) = (self.faded(reference), self.faded(&turned));
        let shifted = |(shift, significance): (Point, f64)| {
            let shift = Transform([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]], [0.0, 0.0, 1.0]]);
            Candidate { transform: about.then(&shift), significance }
        };
        self.peaks(&a, &b, count).into_iter().map(shifted).collect()
    }

    /// Fades an image out towards its edges, so that they make no cross in its spectrum, and pads it with
    /// zeros.
    fn faded(&self, plane: &Plane) -> Vec<f32> {
        let fade = |i: usize, n: usize| {
            let edge = (i.min(n - 1 - i) as f64 + 0.5) / (FADE * n as f64);
            (0.5 - 0.5 * (PI * edge.min(1.0)).cos()) as f32
        };
        let across: Vec<f32> = (0..plane.width).map(|x| fade(x, plane.width)).collect();
        let [width, height] = self.0.size();
        let mut faded = vec![0.0; width * height];
        for (y, row) in plane.pixels.chunks_exact(plane.width).enumerate() {
            let down = fade(y, plane.height);
            for ((out, v), across) in faded[y * width..].iter_mut().zip(row).zip(&across) {
                *out = v * across * down;
            }
        }
        faded
    }
}

/// Logarithm of an image's amplitude spectrum by direction (rows) and logarithm of the frequency (columns).
fn polar_spectrum(correlator: &mut Correlator, plane: &Plane) -> Plane {
    let [width, height] = correlator.0.size();
    let faded = correlator.faded(plane);
    let mut data: Vec<Complex32> = faded.iter().map(|&v| Complex32::new(v, 0.0)).collect();
    correlator.0.forward(&mut data);
    // Moves the zero frequency to the middle.
    let centred: Vec<f32> = (0..data.len())
        .map(|i| {
            let (x, y) = (i % width, i / width);
            data[(y + height / 2) % height * width + (x + width / 2) % width].norm().ln_1p()
        })
        .collect();
    let shown = Plane { pixels: centred, width, height };
    let middle = [(width - width / 2) as f64, (height - height / 2) as f64];
    let step = (RADII[1] / RADII[0]).ln() / POLAR[1] as f64;
    let mut pixels = vec![0.0; POLAR[0] * POLAR[1]];
    for (row, out) in pixels.chunks_exact_mut(POLAR[1]).enumerate() {
        let (sin, cos) = (row as f64 * PI / POLAR[0] as f64).sin_cos();
        for (column, out) in out.iter_mut().enumerate() {
            // The frequency is in cycles per pixel in both directions, whatever the sides.
            let frequency = 0.5 * RADII[0] * (column as f64 * step).exp();
            let place =
                [middle[0] + frequency * cos * width as f64, middle[1] + frequency * sin * height as f64];
            *out = shown.sample(place).unwrap_or(0.0);
        }
    }
    // Power falls with frequency in every image; only differences between directions distinguish images.
    for column in 0..POLAR[1] {
        let mean = (0..POLAR[0]).map(|row| pixels[row * POLAR[1] + column]).sum::<f32>() / POLAR[0] as f32;
        let edge = (column.min(POLAR[1] - 1 - column) as f64 + 0.5) / (FADE * POLAR[1] as f64);
        let fade = (0.5 - 0.5 * (PI * edge.min(1.0)).cos()) as f32;
        for row in 0..POLAR[0] {
            let v = &mut pixels[row * POLAR[1] + column];
            *v = (*v - mean) * fade;
        }
    }
    Plane { pixels, width: POLAR[1], height: POLAR[0] }
}
