//! The stars of one frame, and how far they are from where a camera and an attitude put them.
//!
//! A frame of a rig is an exposure: it has stars on several detectors, and one attitude.

use std::ops::Range;

use super::optics::Optics;
use super::parameters::Parameters;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Jacobian, Point};
use crate::geometry::residual::{ATTITUDE, Residual};
use crate::geometry::rig::Rig;
use crate::geometry::sphere::Direction;
use crate::lsq::small::{inverse, multiply};

/// Stars on one detector, by their indices in the frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) detector: usize,
    pub(super) stars: Range<usize>,
}

/// The matched stars of one frame, ready to be fitted.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// From the centre of the detector that each is on.
    pub(super) pixels: Vec<Point>,
    /// Directions as this frame's observer sees them.
    pub(super) sky: Vec<Direction>,
    /// Lower triangle of the matrix that makes each star's residual one of unit variance.
    pub(super) whitening: Option<Vec<[f64; 3]>>,
    /// All stars by detector.
    pub(super) parts: Vec<Part>,
}

impl Frame {
    /// Stars on the reference detector alone.
    pub(super) fn new(pixels: Vec<Point>, sky: Vec<Direction>, whitening: Option<Vec<[f64; 3]>>) -> Self {
        let parts = vec![Part { detector: 0, stars: 0..pixels.len() }];
        Self { pixels, sky, whitening, parts }
    }

    /// One frame of the stars of several detectors; if some have no uncertainties, none of them counts.
    pub(super) fn joined(detectors: impl IntoIterator<Item = (usize, Self)>) -> Self {
        let mut all = Self { pixels: vec![], sky: vec![], whitening: Some(vec![]), parts: vec![] };
        for (detector, frame) in detectors {
            let first = all.pixels.len();
            all.parts.push(Part { detector, stars: first..first + frame.pixels.len() });
            all.pixels.extend(frame.pixels);
            all.sky.extend(frame.sky);
            all.whitening = all.whitening.zip(frame.whitening).map(|(all, own)| [all, own].concat());
        }
        all
    }

    /// Every star's pixel among those of the camera.
    pub(super) fn points(&self, rig: &Rig) -> impl Iterator<Item = Point> {
        self.parts.iter().flat_map(|part| {
            let placement = rig.in_camera(part.detector);
            self.pixels[part.stars.clone()].iter().map(move |&pixel| placement.to_focal_plane(pixel))
        })
    }
}

/// Derivatives of a residual's miss by the intrinsics and the attitude, and between them by the placement if there is
/// room.
pub(super) fn derivatives(
    residual: &Residual,
    parameters: &Parameters,
    camera: &CameraModel,
    out: &mut [Point],
) {
    let (intrinsics, rest) = out.split_at_mut(parameters.intrinsics());
    parameters.derivatives(camera, residual.point, &residual.jacobian, residual.projected, intrinsics);
    let (placement, attitude) = rest.split_at_mut(rest.len() - ATTITUDE);
    if !placement.is_empty() {
        placement.copy_from_slice(&residual.by_placement());
    }
    attitude.copy_from_slice(&residual.by_attitude(camera.focal_length_px()));
}

/// How far the stars of one frame are from where the model puts them.
#[derive(Debug, Clone, Default)]
pub(super) struct Misses {
    /// The matrices that bring residuals from the ideal plane to the units of `lengths`; zero where the model has no
    /// answer.
    pub(super) metrics: Vec<Jacobian>,
    /// Lengths in units of their own standard deviation, or in pixels if none was given; infinite where the model has no
    /// answer.
    pub(super) lengths: Vec<f64>,
    /// Lengths in pixels; infinite where the model has no answer.
    pub(super) distances: Vec<f64>,
}

impl Frame {
    /// How far every star is from where optics and attitude put it.
    pub(super) fn misses(&self, optics: &Optics, attitude: &Attitude) -> Misses {
        let mut misses = Misses::default();
        for part in &self.parts {
            let placement = optics.rig.in_camera(part.detector);
            for (star, (&pixel, sky)) in part.stars.clone().zip(self.stars(part)) {
                let found = Residual::new(&optics.camera, &placement, attitude, pixel, sky).map(|residual| {
                    let to_detector = placement.back(&inverse(&residual.jacobian));
                    let metric = self.metric(star, &to_detector);
                    let lengths = [metric, to_detector].map(|m| length(multiply(&m, residual.miss)));
                    (metric, lengths)
                });
                let (metric, [length, distance]) = found.unwrap_or(([[0.0; 2]; 2], [f64::INFINITY; 2]));
                misses.metrics.push(metric);
                misses.lengths.push(length);
                misses.distances.push(distance);
            }
        }
        misses
    }

    /// Pixels and directions of the stars of a part.
    pub(super) fn stars(&self, part: &Part) -> impl Iterator<Item = (&Point, &Direction)> {
        self.pixels[part.stars.clone()].iter().zip(&self.sky[part.stars.clone()])
    }

    /// The stars that are wanted, each with the length of its residual in pixels; infinite where the model has no answer.
    pub(super) fn distances(
        &self,
        optics: &Optics,
        attitude: &Attitude,
        wanted: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (usize, f64)> {
        let of_part = move |part: &Part| {
            let placement = optics.rig.in_camera(part.detector);
            let stars = part.stars.clone().filter(|&star| wanted(star));
            let distance = |star: usize| {
                let (pixel, sky) = (self.pixels[star], &self.sky[star]);
                let residual = Residual::new(&optics.camera, &placement, attitude, pixel, sky);
                residual.map_or(f64::INFINITY, |r| length(multiply(&inverse(&r.jacobian), r.miss)))
            };
            stars.map(|star| (star, distance(star))).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_part)
    }

    /// The matrix that brings a star's residual from the ideal plane to the detector (`to_detector` alone) and there to
    /// units of its own standard deviation, if that was given.
    fn metric(&self, star: usize, to_detector: &Jacobian) -> Jacobian {
        self.whitening.as_ref().map_or(*to_detector, |whitening| {
            let [w00, w10, w11] = whitening[star];
            let [[a, b], [c, d]] = *to_detector;
            [[w00 * a, w00 * b], [w10 * a + w11 * c, w10 * b + w11 * d]]
        })
    }
}

fn length([x, y]: Point) -> f64 {
    (x * x + y * y).sqrt()
}
