//! Calibrates a rig: places the detectors, and then fits the whole focal plane as one camera.
//!
//! The first guess of a placement compares the attitudes with which the detectors were solved in the same
//! exposure. These attitudes ignore the distortion, so the guess is wrong by as much as the distortion moves
//! stars. A coarse fit with free placements then finds the middle of the focal plane to a pixel. About this
//! middle, the whole model is fitted, starting from a pinhole.
//!
//! A shift of all detectors is equivalent to a change of the pointing, and a common rotation to a roll of
//! every exposure. Therefore the reference detector stays fixed.

#[cfg(test)]
mod tests;

use super::fitter::Fitter;
use super::frame::Frame;
use super::given::{check, check_one_camera, prepare};
use super::parameters::Parameters;
use super::start::Start;
use super::{CalibrationResult, Given, Options, fit, start};
use crate::error::{Error, Result};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::geometry::rig::{Placement, Rig, bounds};
use crate::lsq::robust::median;
use crate::matches::MatchedStars;
use crate::monitor::Monitor;

/// The matched stars of one exposure, by detector; `None` where a detector has no solution.
pub type Exposure<'a> = Vec<Option<&'a MatchedStars>>;

/// Number of stages of growing parameters after which the placements give the middle of the focal plane.
const PLACING_STAGES: usize = 2;
/// Two placements are compared at points of a grid on a detector: number of points per side ([`GRID`]), and
/// distance of the outermost points from its centre ([`REACH`]), in image sizes.
const GRID: usize = 5;
const REACH: f64 = 0.4;

/// Fits one lens and the placements of the detectors behind it to the matched stars of many exposures.
///
/// All exposures have the same detectors, in the same order; the first is the reference. The result's camera
/// is that of the focal plane ([`CalibrationResult::rig`]), and its frames are the exposures. `start` is a
/// calibration of the same exposures. If it is given, the whole model is fitted from there at once, rather
/// than from a pinhole. `places` gives the displacement of the stars in each exposure; by default it is that
/// with which they were matched.
///
/// Returns [`Error::Undetermined`] when a detector shares no exposure with the reference, directly or through
/// other detectors, and in the same cases as [`calibrate`](super::calibrate()).
pub fn calibrate_rig(
    exposures: &[Exposure<'_>],
    places: Option<&[ApparentPlace]>,
    options: &Options,
    start: Option<&CalibrationResult>,
    monitor: &dyn Monitor,
) -> Result<CalibrationResult> {
    let given: Vec<Given<'_>> = exposures
        .iter()
        .map(|e| e.iter().enumerate().filter_map(|(d, found)| Some((d, (*found)?))).collect())
        .collect();
    let all: Vec<&MatchedStars> = given.iter().flatten().map(|(_, matches)| *matches).collect();
    check(&all, options)?;
    let sizes = image_sizes(&given, exposures[0].len())?;
    let prepared = prepare_exposures(&given, places)?;
    let from = match start {
        Some(start) => Start::calibrated(start, options.model)?,
        None => placed(&given, &prepared, &sizes, options, monitor)?,
    };
    let calibration = fit(&given, &prepared, &from, options, monitor)?;
    let parameters = Parameters::none().with_detectors(sizes.len());
    let loose = parameters.names().iter().position(|name| calibration.frozen.contains(name));
    match loose.and_then(|k| (1..sizes.len()).find(|d| parameters.placement(*d).contains(&k))) {
        Some(detector) => Err(Error::Undetermined(format!(
            "results: detector {detector} fits in no exposure together with detector 0; check their solutions"
        ))),
        None => Ok(calibration),
    }
}

/// Prepares all exposures, each with the apparent place given for it, or those of its detectors.
fn prepare_exposures(given: &[Given<'_>], places: Option<&[ApparentPlace]>) -> Result<Vec<Frame>> {
    if let Some(places) = places.filter(|places| places.len() != given.len()) {
        return Err(Error::argument(
            "places",
            format!("{} places for {} exposures", places.len(), given.len()),
            "give one for each exposure",
        ));
    }
    let frame = |(i, exposure): (usize, &Given<'_>)| -> Result<Frame> {
        let place = |own: &MatchedStars| places.map_or(own.place, |places| places[i]);
        let detectors = exposure.iter().map(|(detector, own)| Ok((*detector, prepare(own, &place(own))?)));
        Ok(Frame::joined(detectors.collect::<Result<Vec<_>>>()?))
    };
    given.iter().enumerate().map(frame).collect()
}

/// The image size of every detector.
fn image_sizes(given: &[Given<'_>], detectors: usize) -> Result<Vec<[u32; 2]>> {
    let size = |detector: usize| {
        let own = given.iter().flatten().filter(|(d, _)| *d == detector).map(|(_, matches)| *matches);
        let own: Vec<&MatchedStars> = own.collect();
        let first = own.first().ok_or_else(|| alone(detector))?;
        check_one_camera(&own, &first.camera)?;
        Ok(first.camera.image_size())
    };
    (0..detectors).map(size).collect()
}

fn alone(detector: usize) -> Error {
    Error::Undetermined(format!(
        "results: detector {detector} shares no solved exposure with detector 0, directly or through other \
         detectors; give such an exposure"
    ))
}

/// A pinhole for the whole focal plane with placed detectors, and the exposures' attitudes.
fn placed(
    given: &[Given<'_>],
    frames: &[Frame],
    sizes: &[[u32; 2]],
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Start> {
    let all: Vec<&MatchedStars> = given.iter().flatten().map(|(_, matches)| *matches).collect();
    let assembled = |placements: &[Placement]| {
        let (center, size) = bounds(placements.iter().copied().zip(sizes.iter().copied()));
        let rig = Rig::new(placements[1..].iter().copied(), center);
        start::pinhole(&all, frames, rig, size, options)
    };
    let Start { optics, attitudes, .. } = assembled(&first_placements(given, sizes)?)?;
    let mut fitter = Fitter::start(frames, optics, &attitudes, options, monitor);
    for parameters in Parameters::stages(options.model).into_iter().take(PLACING_STAGES) {
        fitter.problem.parameters = parameters.with_detectors(sizes.len());
        fitter.settle()?;
    }
    assembled(fitter.state.shared.rig.placements())
}

/// Placements from the attitudes with which the detectors were solved.
fn first_placements(given: &[Given<'_>], sizes: &[[u32; 2]]) -> Result<Vec<Placement>> {
    let mut found = vec![None; sizes.len()];
    found[0] = Some(Placement::default());
    // Place the detectors that share an exposure with the reference, then those that share one with these.
    while let Some(open) = (0..sizes.len()).find(|&d| found[d].is_none()) {
        let next: Vec<(usize, Placement)> = (open..sizes.len())
            .filter(|&d| found[d].is_none())
            .filter_map(|d| Some((d, median_placement(given, d, sizes[d], &found)?)))
            .collect();
        if next.is_empty() {
            return Err(alone(open));
        }
        for (detector, placement) in next {
            found[detector] = Some(placement);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// Median placement of a detector, over its exposures with a placed detector.
///
/// Only exposures with the first such detector are used, so that all compare with the same one.
fn median_placement(
    given: &[Given<'_>],
    detector: usize,
    size: [u32; 2],
    placements: &[Option<Placement>],
) -> Option<Placement> {
    (0..placements.len()).find_map(|other| {
        let known = placements[other]?;
        let pair = |exposure: &Given<'_>| {
            let find = |d: usize| exposure.iter().find(|(k, _)| *k == d).map(|(_, matches)| *matches);
            relative(find(detector)?, size, find(other)?, &known)
        };
        let placed: Vec<Placement> = given.iter().filter_map(pair).collect();
        let first = placed.first()?;
        let middle =
            |value: &dyn Fn(&Placement) -> f64| median(&mut placed.iter().map(value).collect::<Vec<_>>());
        // Angles relative to the first one, so that none is a whole turn off.
        let turned = |p: &Placement| {
            let (sin, cos) = (p.rotation() - first.rotation()).sin_cos();
            first.rotation() + sin.atan2(cos)
        };
        Some(Placement::new([middle(&|p| p.shift()[0]), middle(&|p| p.shift()[1])], middle(&turned)))
    })
}

/// The placement of a detector, from its attitude and that of a placed detector, without distortion.
fn relative(
    own: &MatchedStars,
    size: [u32; 2],
    other: &MatchedStars,
    known: &Placement,
) -> Option<Placement> {
    let lens = CameraModel::new(other.camera.focal_length_px(), size).ok()?;
    let lens = lens.with_parity_flip(other.camera.parity_flip()).with_projection(other.camera.projection());
    let mark = |k: usize, size: u32| (k as f64 / (GRID - 1) as f64 * 2.0 - 1.0) * REACH * f64::from(size);
    let marks = (0..GRID * GRID).map(|k| [mark(k % GRID, size[0]), mark(k / GRID, size[1])]);
    let pairs: Option<Vec<(Point, Point)>> = marks
        .map(|pixel| {
            let seen = own.attitude.to_sky(&lens.pixel_to_direction(pixel));
            let there = lens.direction_to_pixel(&other.attitude.to_camera(&seen))?;
            Some((pixel, known.to_focal_plane(there)))
        })
        .collect();
    Placement::from_pairs(&pairs?)
}
