//! Calibrates in pieces: reduces some frames to a block of information about the intrinsics. Blocks can be
//! added.
//!
//! For a given camera, the best attitude of every frame follows from its own stars. With the attitude
//! eliminated, the frame's part of the normal equations depends on the intrinsics only. The parts of all
//! frames are simply added, wherever they were computed. One round of a calibration on many machines has
//! these steps: send out the camera, add the returned blocks, and step ([`CalibrationBlock::solve`]) to the
//! next camera. The rounds lead to the result of the joint fit with the same
//! [`Options::noise`](super::Options::noise).

use std::slice;

use nalgebra::{DMatrix, DVector};

use super::Options;
use super::fit::Weights;
use super::fitter::Fitter;
use super::frame::Frame;
use super::given::{check_one_camera, check_positive, prepare_all};
use super::optics::Optics;
use super::parameters::Parameters;
use super::scale::Spread;
use crate::error::{Error, Result};
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::residual::ATTITUDE;
use crate::geometry::sphere::Direction;
use crate::lsq::NormalEquations;
use crate::lsq::groups::{GroupEquations, in_chunks};
use crate::matches::MatchedStars;

/// Normal equations of some frames for the intrinsics, linearised about one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationBlock {
    /// The camera about which the equations are linearised.
    pub camera: CameraModel,
    /// The intrinsics, in the order of the equations.
    pub parameter_names: Vec<String>,
    /// Standard deviation of the residuals by which matches are weighted, see [`super::Options::noise`].
    pub noise: f64,
    /// See [`super::Options::sigma_clip`].
    pub sigma_clip: f64,
    /// Normal equations with the attitudes eliminated.
    pub equations: NormalEquations,
    /// Sums that measure the size of the residuals.
    pub spread: Spread,
    /// Number of frames that the block uses.
    pub frames: usize,
    /// Number of frames that did not fit.
    pub rejected: usize,
    /// Number of excluded matches, including those of rejected frames.
    pub outliers: usize,
}

/// Result of one step with the equations of a [`CalibrationBlock`].
#[derive(Debug, Clone, PartialEq)]
pub struct Reduction {
    /// The next camera.
    pub camera: CameraModel,
    /// Covariance of the parameters, scaled to the residuals.
    pub covariance: DMatrix<f64>,
    /// Names of parameters that the data do not determine.
    pub frozen: Vec<String>,
    /// Condition number of the problem with all parameters scaled to the same information.
    pub condition_number: f64,
    /// Standard deviation of the residuals per axis, for the weights of the next round.
    pub noise: f64,
    /// RMS distance by which the step moves the stars, in the units of the noise.
    pub change: f64,
}

impl CalibrationBlock {
    /// The block of some frames about a camera.
    ///
    /// The intrinsics are those named, or all of the camera's model. `places` is as for
    /// [`calibrate`](super::calibrate()).
    pub fn new(
        frames: &[&MatchedStars],
        places: Option<&[ApparentPlace]>,
        camera: &CameraModel,
        parameter_names: Option<&[String]>,
        noise: f64,
        sigma_clip: f64,
    ) -> Result<Self> {
        check_positive("noise", noise, "give the standard deviation of the residuals, such as 0.02")?;
        check_positive("sigma_clip", sigma_clip, "give a number of standard deviations, such as 3")?;
        check_one_camera(frames, camera)?;
        let parameters = match parameter_names {
            Some(names) => named(camera, names)?,
            None => Parameters::all(camera.distortion()),
        };
        let empty = || Self {
            camera: camera.clone(),
            parameter_names: parameters.names(),
            noise,
            sigma_clip,
            equations: NormalEquations::new(parameters.len()),
            spread: Spread::default(),
            frames: 0,
            rejected: 0,
            outliers: 0,
        };
        let chunks = in_chunks(&prepare_all(frames, places)?, |chunk| {
            let mut sum = empty();
            for frame in chunk {
                sum.include(&parameters, frame);
            }
            sum
        });
        let mut total = empty();
        for chunk in chunks {
            total.add(&chunk)?;
        }
        Ok(total)
    }

    /// Adds the equations of one frame.
    fn include(&mut self, parameters: &Parameters, frame: &Frame) {
        let optics = Optics::from(self.camera.clone());
        let fitted = settle(frame, &optics, self.noise, self.sigma_clip);
        let part = fitted.and_then(|(attitude, weights)| {
            let GroupEquations { equations, .. } = frame.linearize(parameters, &optics, &attitude, &weights);
            let (equations, _) = equations.eliminate(ATTITUDE)?;
            Some((equations, frame.spread(&optics, &attitude, &weights)))
        });
        let Some((equations, spread)) = part else {
            self.rejected += 1;
            self.outliers += frame.pixels.len();
            return;
        };
        self.equations.merge(&equations);
        self.frames += 1;
        self.outliers += frame.pixels.len() - spread.stars;
        self.spread.add(&spread);
    }

    /// Adds another block about the same camera.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        let same = self.camera == other.camera
            && self.parameter_names == other.parameter_names
            && self.noise.to_bits() == other.noise.to_bits()
            && self.sigma_clip.to_bits() == other.sigma_clip.to_bits();
        if !same {
            return Err(Error::argument(
                "blocks",
                "they differ in camera, parameters, noise or sigma_clip",
                "add blocks that were computed about the same camera with the same arguments",
            ));
        }
        self.equations.merge(&other.equations);
        self.spread.add(&other.spread);
        self.frames += other.frames;
        self.rejected += other.rejected;
        self.outliers += other.outliers;
        Ok(())
    }

    /// Takes one Gauss-Newton step; [`Error::Undetermined`] if there are too few stars, or if the stepped
    /// camera is not valid.
    pub fn solve(&self) -> Result<Reduction> {
        let parameters = named(&self.camera, &self.parameter_names)?;
        let unknowns = parameters.len() + 3 * self.frames;
        let inliers = self.spread.stars;
        if 2 * inliers <= unknowns {
            return Err(Error::Undetermined(format!(
                "{inliers} stars in {} frames do not determine {unknowns} parameters; give more frames or stars",
                self.frames
            )));
        }
        let inverse = self.equations.covariance();
        let delta: DVector<f64> = self.equations.solve(0.0);
        let Some(camera) = parameters.stepped(&self.camera, &delta) else {
            return Err(Error::Undetermined(
                "the step gives no valid camera; start from a camera that is nearly right".into(),
            ));
        };
        let variance = self.spread.variance(unknowns - inverse.frozen.len(), self.sigma_clip);
        let square_step = 2.0 * self.equations.decrease(&delta).max(0.0);
        Ok(Reduction {
            camera,
            frozen: inverse.frozen.iter().map(|&k| self.parameter_names[k].clone()).collect(),
            covariance: inverse.matrix * variance,
            condition_number: inverse.condition_number,
            noise: variance.sqrt(),
            change: (square_step / self.spread.weight).sqrt(),
        })
    }
}

/// The parameters of a camera that have these names.
fn named(camera: &CameraModel, names: &[String]) -> Result<Parameters> {
    let parameters = Parameters::named(camera.distortion(), names);
    if parameters.names() == names {
        return Ok(parameters);
    }
    Err(Error::argument(
        "parameter_names",
        "they differ from the names of the camera's parameters, or in their order",
        "give those of a calibration with the same model",
    ))
}

/// A frame's attitude with known optics, and the weights of its stars; `None` if the frame does not fit.
fn settle(frame: &Frame, optics: &Optics, noise: f64, sigma_clip: f64) -> Option<(Attitude, Weights)> {
    let seen: Vec<Direction> = frame.pixels.iter().map(|&p| optics.camera.pixel_to_direction(p)).collect();
    let attitude = Attitude::from_pairs(seen.iter().zip(&frame.sky).map(|(c, s)| (c, s, 1.0)))?;
    let options = Options { noise: Some(noise), sigma_clip, ..Options::default() };
    let mut fitter = Fitter::start(slice::from_ref(frame), optics.clone(), &[Some(attitude)], &options, &());
    // The optics have no free parameters.
    fitter.settle().and_then(|()| fitter.clip()).ok()?;
    Some((fitter.state.own[0], fitter.problem.weights.pop()?))
}
