//! Computes the result of a calibration from the finished fit.

use std::fmt;

use nalgebra::{DMatrix, Matrix3};

use super::fit::sensitivity;
use super::fitter::Fitter;
use super::given::apparent;
use super::optics::Optics;
use super::parameters::Parameters;
use super::{Given, held_out};
use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::geometry::projection::Projection;
use crate::geometry::residual::PLACEMENT;
use crate::geometry::rig::Rig;
use crate::geometry::sphere::Direction;
use crate::lsq::groups::Reduced;
use crate::lsq::small::determinant;

/// Largest ratio of the residuals to the errors of the positions in a converged fit. Above it, the matches or
/// the model are wrong, even if the fit no longer changes. Errors of real star images are up to a few times
/// the stated ones.
pub const MAX_MISFIT: f64 = 10.0;
/// Points per side of the grid on which the fitted distortion is checked for folds.
const FOLD_GRID: u32 = 33;

/// Result of [`super::calibrate`].
#[derive(Debug, Clone)]
pub struct CalibrationResult {
    /// The camera model.
    pub camera: CameraModel,
    /// The detectors behind the camera; in a calibration of one camera, its only detector.
    pub rig: Rig,
    /// One fit for each given frame, in order.
    pub frames: Vec<FrameFit>,
    /// RMS distance in pixels between the measured positions of the final inliers and those modelled by the
    /// frames' own solutions; `None` if the solutions model no position.
    pub rmse_before_px: Option<f64>,
    /// RMS distance in pixels between the same measured positions and those modelled by the fitted camera.
    pub rmse_after_px: f64,
    /// Matches that the fit used.
    pub num_inliers: usize,
    /// Matches that the fit excluded, including those of rejected frames.
    pub num_outliers: usize,
    /// Steps of the fit.
    pub iterations: usize,
    /// Whether the steps and the set of inliers have settled, and the residuals are not far above the errors
    /// of the positions ([`CalibrationResult::misfit`] of at most [`MAX_MISFIT`]).
    pub converged: bool,
    /// Standard deviation of the residuals per axis: in pixels, or, if the positions came with covariances, in units
    /// of these.
    pub noise: f64,
    /// Ratio of the residuals to the given errors of the positions, or to the given noise; about 1 if all is
    /// well. `None` if neither is known.
    pub misfit: Option<f64>,
    /// Names of the fitted parameters, in the order of the covariance.
    pub parameter_names: Vec<String>,
    /// Parameters of the model that the data do not determine; they are zero.
    pub frozen: Vec<String>,
    /// Covariance of the fitted parameters, scaled to the residuals; zero for frozen ones.
    pub covariance: DMatrix<f64>,
    /// Condition number of the problem with all parameters scaled to the same information.
    pub condition_number: f64,
    /// If requested: for every star of every frame, the length in pixels of its residual when the star is
    /// held out. The fit then uses the other frames, or, with one or two frames, the other stars. NaN for
    /// stars that the fit did not use.
    pub held_out: Option<Vec<Vec<f64>>>,
}

impl CalibrationResult {
    /// Number of fitted intrinsics; the placements of detectors follow them among the parameters.
    pub fn num_intrinsics(&self) -> usize {
        self.parameter_names.len() - PLACEMENT * (self.rig.placements().len() - 1)
    }

    /// Covariance of the fitted parameters followed by a frame's small rotation about the camera's axes.
    pub fn joint_covariance(&self, frame: &FrameFit) -> DMatrix<f64> {
        let shared = self.parameter_names.len();
        let mut joint = DMatrix::zeros(shared + 3, shared + 3);
        joint.view_mut((0, 0), (shared, shared)).copy_from(&self.covariance);
        joint.view_mut((0, shared), (shared, 3)).copy_from(&frame.cross_covariance);
        joint.view_mut((shared, 0), (3, shared)).copy_from(&frame.cross_covariance.transpose());
        joint.view_mut((shared, shared), (3, 3)).copy_from(&frame.attitude_covariance);
        joint
    }
}

/// Covariance (xx, xy, yy), in square pixels, of the positions at which a calibrated model images the stars
/// that pixels of a frame see.
///
/// `joint` is the [`CalibrationResult::joint_covariance`] of the frame, for the parameters `parameter_names`.
/// The result includes the uncertainty of the intrinsics and the attitude, but not that of a measured
/// position. It is NaN where the distortion folds over.
pub fn model_covariance(
    camera: &CameraModel,
    parameter_names: &[String],
    joint: &DMatrix<f64>,
    pixels: &[Point],
) -> Result<Vec<[f64; 3]>> {
    let parameters = Parameters::named(camera.distortion(), parameter_names);
    let size = parameters.len() + 3;
    if parameters.len() != parameter_names.len() || joint.shape() != (size, size) {
        return Err(Error::argument(
            "parameter_names",
            "the names do not match the camera and the covariance",
            "give the camera, names and covariance of one calibration",
        ));
    }
    let covariance = |&pixel: &Point| {
        sensitivity(&parameters, camera, pixel).map_or([f64::NAN; 3], |rows| {
            let covariance = &rows * joint * rows.transpose();
            [covariance[(0, 0)], covariance[(0, 1)], covariance[(1, 1)]]
        })
    };
    Ok(pixels.iter().map(covariance).collect())
}

/// Fit of one frame in a calibration.
#[derive(Debug, Clone)]
pub struct FrameFit {
    /// Attitude with the fitted camera; for a rejected frame, that of its solution.
    pub attitude: Attitude,
    /// Covariance of a small rotation about the camera's axes (rad²), including the uncertainty of the
    /// intrinsics.
    pub attitude_covariance: Matrix3<f64>,
    /// Measured minus modelled position of every match in pixels; NaN where the model gives none.
    pub residuals: Vec<Point>,
    /// Whether the fit used each match.
    pub inliers: Vec<bool>,
    /// RMS length of the inliers' residuals in pixels; `None` without inliers.
    pub rmse_px: Option<f64>,
    /// Why the frame was rejected; `None` if it was not.
    pub rejected: Option<Rejection>,
    /// Covariance of the fitted parameters (rows) with the small rotation (columns); zero for a rejected frame.
    pub cross_covariance: DMatrix<f64>,
}

/// Why a frame was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Too few matched stars, or all in one place.
    TooFewStars {
        /// Number of matched stars.
        stars: usize,
    },
    /// Most matches disagree with the model that fits the other frames.
    PoorFit {
        /// Number of matches that agree.
        inliers: usize,
        /// Number of all matches.
        stars: usize,
    },
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewStars { stars } => {
                write!(f, "{stars} matched stars are too few, or all in one place")
            }
            Self::PoorFit { inliers, stars } => {
                write!(f, "only {inliers} of {stars} matches agree with the model that fits the other frames")
            }
        }
    }
}

/// Measured minus modelled position; NaN where the model gives none.
fn reprojection(camera: &CameraModel, attitude: &Attitude, pixel: Point, sky: &Direction) -> Point {
    let modelled = camera.direction_to_pixel(&attitude.to_camera(sky)).unwrap_or([f64::NAN; 2]);
    [pixel[0] - modelled[0], pixel[1] - modelled[1]]
}

/// RMS length of the finite residuals; `None` if there are none.
fn rms(residuals: impl Iterator<Item = Point>) -> Option<f64> {
    let (sum, n) = residuals
        .map(|[x, y]| x * x + y * y)
        .filter(|square| square.is_finite())
        .fold((0.0, 0_usize), |(sum, n), square| (sum + square, n + 1));
    (n > 0).then(|| (sum / n as f64).sqrt())
}

/// The inverse normal matrix, and the variance that scales it to a covariance.
struct Scaled<'a> {
    inverse: &'a DMatrix<f64>,
    variance: f64,
}

/// Fit of one frame, from the finished joint fit.
fn frame_fit(
    given: &Given<'_>,
    fitter: &Fitter<'_>,
    system: &Reduced,
    index: usize,
    scaled: &Scaled<'_>,
) -> FrameFit {
    let Optics { camera, rig } = &fitter.state.shared;
    let frame = &fitter.problem.frames[index];
    let rejected = fitter.problem.rejections[index];
    let attitude = match given[..] {
        [(0, only)] if rejected.is_some() => only.attitude,
        _ => fitter.state.own[index],
    };
    let inliers: Vec<bool> = fitter.problem.weights[index].stars.iter().map(|&w| w > 0.0).collect();
    let stars = frame.points(rig).zip(&frame.sky);
    let residuals: Vec<Point> = stars.map(|(p, s)| reprojection(camera, &attitude, p, s)).collect();
    let used = inliers.iter().zip(&residuals).filter(|(used, _)| **used).map(|(_, r)| *r);
    let rmse_px = rms(used);
    let eliminated = system.groups[index].as_ref();
    let covariance = eliminated.map(|own| own.covariance(scaled.inverse) * scaled.variance);
    let cross = eliminated.map(|own| own.cross_covariance(scaled.inverse) * scaled.variance);
    FrameFit {
        attitude,
        attitude_covariance: covariance
            .map_or(Matrix3::repeat(f64::NAN), |c| c.fixed_view::<3, 3>(0, 0).into_owned()),
        rmse_px,
        residuals,
        inliers,
        rejected,
        cross_covariance: cross.unwrap_or_else(|| DMatrix::zeros(fitter.problem.parameters.len(), 3)),
    }
}

/// Residuals of the inliers with the cameras and attitudes with which they were matched.
fn solved_residuals(given: &Given<'_>, inliers: &[bool]) -> Vec<Point> {
    let stars =
        given.iter().flat_map(|(_, own)| own.pixels.iter().zip(&own.directions).map(move |star| (own, star)));
    let used = stars.zip(inliers).filter(|(_, used)| **used);
    used.map(|((own, (&pixel, star)), _)| {
        reprojection(&own.camera, &own.attitude, pixel, &apparent(star, &own.place))
    })
    .collect()
}

/// The result of a finished fit.
pub(super) fn summarize(
    given: &[Given<'_>],
    fitter: &Fitter<'_>,
    system: &Reduced,
) -> Result<CalibrationResult> {
    let Optics { camera, rig } = &fitter.state.shared;
    check_folds(given, fitter)?;
    let inverse = system.shared.covariance();
    let variance = fitter.variance(system, inverse.frozen.len());
    let scaled = Scaled { inverse: &inverse.matrix, variance };
    let mut frames = Vec::with_capacity(given.len());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (i, given) in given.iter().enumerate() {
        let fit = frame_fit(given, fitter, system, i, &scaled);
        let used = |(used, residual): (&bool, &Point)| used.then_some(*residual);
        after.extend(fit.inliers.iter().zip(&fit.residuals).filter_map(used));
        before.extend(solved_residuals(given, &fit.inliers));
        frames.push(fit);
    }
    let rmse_after_px = rms(after.iter().copied()).ok_or_else(|| {
        Error::Undetermined("the fitted model has no image of any of its stars; give other matches".into())
    })?;
    let misfit = fitter.known_errors().map(|errors| variance.sqrt() / errors);
    let all: usize = fitter.problem.frames.iter().map(|f| f.pixels.len()).sum();
    let names = fitter.problem.parameters.names();
    let whole = Parameters::of(fitter.problem.options.model).with_detectors(rig.placements().len()).names();
    let frozen = whole
        .into_iter()
        .filter(|name| names.iter().position(|n| n == name).is_none_or(|k| inverse.frozen.contains(&k)))
        .collect();
    Ok(CalibrationResult {
        rmse_before_px: rms(before.into_iter()),
        num_inliers: after.len(),
        num_outliers: all - after.len(),
        rmse_after_px,
        camera: camera.clone(),
        rig: rig.clone(),
        frames,
        iterations: fitter.iterations,
        converged: fitter.converged && misfit.is_none_or(|misfit| misfit <= MAX_MISFIT),
        noise: variance.sqrt(),
        misfit,
        parameter_names: names,
        frozen,
        covariance: inverse.matrix * variance,
        condition_number: inverse.condition_number,
        held_out: fitter.problem.options.held_out.then(|| held_out::residuals(fitter)),
    })
}

/// Fails if the distortion folds over within the image, because the stars there did not determine it. The
/// image of a fisheye is taken to end at its outermost inlier.
fn check_folds(given: &[Given<'_>], fitter: &Fitter<'_>) -> Result<()> {
    let Optics { camera, rig } = &fitter.state.shared;
    let [cx, cy] = camera.optical_center();
    let reach = if camera.projection() == Projection::Gnomonic {
        f64::INFINITY
    } else {
        let used = fitter.problem.frames.iter().zip(&fitter.problem.weights);
        let stars = used.flat_map(|(frame, weights)| frame.points(rig).zip(&weights.stars));
        let used = stars.filter(|(_, weight)| **weight > 0.0);
        used.map(|([x, y], _)| (x - cx).hypot(y - cy)).fold(0.0, f64::max)
    };
    let at = |i: u32, size: f64| (f64::from(i) / f64::from(FOLD_GRID - 1) - 0.5) * size;
    for detector in 0..rig.placements().len() {
        let Some((_, own)) = given.iter().flatten().find(|(d, _)| *d == detector) else { continue };
        let (placement, [width, height]) = (rig.in_camera(detector), own.camera.image_size().map(f64::from));
        let grid = (0..FOLD_GRID * FOLD_GRID).map(|k| [at(k / FOLD_GRID, width), at(k % FOLD_GRID, height)]);
        let points = grid.map(|pixel| placement.to_focal_plane(pixel)).map(|[x, y]| [x - cx, y - cy]);
        for point in points.filter(|[x, y]| x.hypot(*y) <= reach) {
            let det = determinant(&camera.distortion().undistort_with_jacobian(point).1);
            if det <= 0.0 || det.is_nan() {
                return Err(Error::Undetermined(
                    "the fitted distortion folds over within the image, where no stars constrain it; \
                     lower the order, or give frames whose stars cover the image"
                        .into(),
                ));
            }
        }
    }
    Ok(())
}
