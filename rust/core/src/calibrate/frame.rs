//! The stars of one frame, and their residuals for a given camera and attitude.
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
    /// Pixel of each star, relative to the centre of its detector.
    pub(super) pixels: Vec<Point>,
    /// Apparent directions of the stars for the observer of this frame.
    pub(super) sky: Vec<Direction>,
    /// Lower triangle of the whitening matrix of each star, which gives its residual unit variance.
    pub(super) whitening: Option<Vec<[f64; 3]>>,
    /// The stars of each detector.
    pub(super) parts: Vec<Part>,
}

impl Frame {
    /// A frame with all its stars on the reference detector.
    pub(super) fn new(pixels: Vec<Point>, sky: Vec<Direction>, whitening: Option<Vec<[f64; 3]>>) -> Self {
        let parts = vec![Part { detector: 0, stars: 0..pixels.len() }];
        Self { pixels, sky, whitening, parts }
    }

    /// One frame with the stars of several detectors. If one detector has no covariances, none are used.
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

    /// Position of every star in the pixel coordinates of the camera.
    pub(super) fn points(&self, rig: &Rig) -> impl Iterator<Item = Point> {
        self.parts.iter().flat_map(|part| {
            let placement = rig.in_camera(part.detector);
            self.pixels[part.stars.clone()].iter().map(move |&pixel| placement.to_focal_plane(pixel))
        })
    }
}

/// Derivatives of a residual's miss by the intrinsics, the placement and the attitude, in this order. Those
/// by the placement are omitted if `out` has no room for them.
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

/// Residuals of the stars of one frame.
#[derive(Debug, Clone, Default)]
pub(super) struct FrameResiduals {
    /// Matrices that map residuals from the ideal plane to the units of `lengths`; zero where the model is
    /// not defined.
    pub(super) metrics: Vec<Jacobian>,
    /// Lengths in units of each residual's standard deviation, or in pixels if none was given; infinite where
    /// the model is not defined.
    pub(super) lengths: Vec<f64>,
    /// Lengths in pixels; infinite where the model is not defined.
    pub(super) distances: Vec<f64>,
}

impl Frame {
    /// Residuals of all stars for given optics and attitude.
    pub(super) fn misses(&self, optics: &Optics, attitude: &Attitude) -> FrameResiduals {
        let mut misses = FrameResiduals::default();
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

    /// The wanted stars, each with the length of its residual in pixels; infinite where the model is not
    /// defined.
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

    /// The matrix that maps a star's residual from the ideal plane to the detector (`to_detector`), and then
    /// to units of the star's standard deviation if that was given.
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
