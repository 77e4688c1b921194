//! Measures the change of a calibrated camera from the positions of its stars, by a robust fit of all
//! parameters that may have changed.
//!
//! The parameters are a rotation vector from the axes of the unmoved camera to those of the moved camera, the
//! logarithm of the ratio of focal lengths, the shift of the optical centre in pixels, and two coefficients k
//! of distortion in pixels. The distortion terms displace a pixel at r by k r (r/R)² / R and k r (r/R)⁴ / R,
//! with R half the diagonal, so each k is the displacement of the corners.
//!
//! Pixels are measured from the image's centre, as in the camera model.

use nalgebra::{DVector, Matrix3, Vector3};

use crate::error::{Error, Result};
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::geometry::residual::{ATTITUDE, Residual};
use crate::geometry::rig::Placement;
use crate::geometry::sphere::Direction;
use crate::lsq::robust::{clipped_scale, clipped_weight, median, planar_scale};
use crate::lsq::small::{inverse, multiply};
use crate::lsq::{NormalEquations, Problem, Robust, RobustFit, RobustOptions, Weighed, Weighting};

/// Number of parameters.
pub const PARAMETERS: usize = 8;

/// Index of the first of two parameters of the optical centre.
const CENTER: usize = 4;
/// Index of the first of two parameters of distortion.
const DISTORTION: usize = 6;
const FOCAL_LENGTH: usize = 3;

/// Standard deviation of the expected shift of the optical centre and of the expected displacement of the
/// corners, pixels. It has no effect where the stars determine these. A few stars of a narrow field do not
/// separate them from pointing and focus, and an unconstrained fit would leave the range in which its linear
/// form holds.
const EXPECTED_PX: f64 = 10.0;
/// Number of standard deviations beyond which a star's weight falls with the square of its residual.
const CLIP: f64 = 3.0;
/// Number of standard deviations beyond which a star has no weight. This excludes stars matched by chance, of
/// which a sparse frame under clouds has a few.
const REJECT: f64 = 4.0;
/// Efficiency of [`clipped_scale`]: the variance of the mean square length of normal residuals, divided by
/// the variance of its estimate. It reduces the degrees of freedom of the scatter accordingly.
const EFFICIENCY: f64 = 0.98;
/// Error of each position in addition to its uncertainty, pixels.
const FLOOR_PX: f64 = 0.01;
/// Error that all positions may have in common, pixels, due to effects that the camera model does not
/// describe. No measurement is better than this, however many stars there are.
const SYSTEMATIC_PX: f64 = 0.002;
/// Smallest scale of the residuals, in standard deviations: smaller ones are rounding errors.
const ROUNDING: f64 = 1e-9;
/// Minimum number of held-out stars for which a scatter is computed.
const LEAST_HELD_OUT: usize = 4;

/// Values of all parameters.
pub type Values = [f64; PARAMETERS];

/// A star of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchedStar {
    /// Direction of the star in the axes of the unmoved camera, a unit vector.
    pub direction: Direction,
    /// Measured position of the star, pixels.
    pub pixel: Point,
    /// Uncertainty of the position per axis, pixels; NaN if it is unknown.
    pub sigma: f64,
}

/// The fit of all parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The change of each parameter.
    pub values: Values,
    /// Inverse of the covariance of the changes; may be singular.
    pub information: [[f64; PARAMETERS]; PARAMETERS],
    /// Whether each star was used.
    pub used: Vec<bool>,
    /// Scatter of the residuals of the used stars per axis, pixels; NaN without stars.
    pub rms_px: f64,
    /// Degrees of freedom of the scatter `rms_px`.
    pub freedom: f64,
}

/// Pixel at which a changed camera sees a direction given in the axes of the unmoved camera; `None` if it
/// does not see it.
pub fn predicted(camera: &CameraModel, direction: &Direction, values: &Values) -> Option<Point> {
    Moved::new(camera, values)?.image(direction)
}

/// Fits all parameters to stars, robustly.
///
/// # Errors
/// If a direction or a pixel is not finite.
pub fn fit_change(camera: &CameraModel, stars: &[MatchedStar]) -> Result<Change> {
    let sound = |star: &MatchedStar| star.pixel.iter().chain(&star.direction).all(|c| c.is_finite());
    if !stars.iter().all(sound) {
        let repair = "leave out stars without a position";
        return Err(Error::argument("frames", "a position or a direction is not finite", repair));
    }
    let problem = Stars { camera, seen: stars, sigmas: sigmas(stars), weights: vec![], scale: 1.0 };
    let options = RobustOptions { smallest_scale: ROUNDING, ..RobustOptions::default() };
    let mut fit = RobustFit::new(problem, [0.0; PARAMETERS], options);
    fit.settle()?;
    fit.clip()?;
    Ok(fit.problem.result(fit.state))
}

/// Scatter of held-out stars per axis, pixels: the fit to the stars of even number predicts those of odd
/// number, and vice versa. NaN if there are too few stars.
///
/// # Errors
/// The same as for [`fit_change`].
pub fn held_out_px(camera: &CameraModel, stars: &[MatchedStar]) -> Result<f64> {
    let mut lengths = vec![];
    for half in [0, 1] {
        let part =
            |half: usize| -> Vec<MatchedStar> { stars.iter().skip(half).step_by(2).copied().collect() };
        let values = fit_change(camera, &part(half))?.values;
        let miss = |star: &MatchedStar| {
            let [x, y] = predicted(camera, &star.direction, &values)?;
            Some((x - star.pixel[0]).hypot(y - star.pixel[1]))
        };
        lengths.extend(part(1 - half).iter().filter_map(miss));
    }
    Ok(if lengths.len() < LEAST_HELD_OUT { f64::NAN } else { planar_scale(&mut lengths) })
}

fn sigmas(stars: &[MatchedStar]) -> Vec<f64> {
    stars.iter().map(|star| if star.sigma.is_nan() { 1.0 } else { star.sigma.hypot(FLOOR_PX) }).collect()
}

/// A changed camera.
struct Moved<'a> {
    before: &'a CameraModel,
    camera: CameraModel,
    attitude: Attitude,
    /// Matrix that converts a change of the rotation vector to the small rotation that it causes.
    rotation: Matrix3<f64>,
    values: &'a Values,
}

impl<'a> Moved<'a> {
    /// `None` if the values give no valid camera.
    fn new(before: &'a CameraModel, values: &'a Values) -> Option<Self> {
        let [x, y] = before.optical_center();
        let focal_length = before.focal_length_px() * values[FOCAL_LENGTH].exp();
        let sound = focal_length > 0.0 && focal_length.is_finite() && values.iter().all(|v| v.is_finite());
        let vector = Vector3::new(values[0], values[1], values[2]);
        sound.then(|| Self {
            before,
            camera: before
                .clone()
                .with_focal_length(focal_length)
                .with_optical_center([x + values[CENTER], y + values[CENTER + 1]]),
            attitude: Attitude::from_rotation_vector(&vector),
            rotation: left_jacobian(&vector),
            values,
        })
    }

    /// Pixel at which the camera sees a direction.
    fn image(&self, direction: &Direction) -> Option<Point> {
        let pixel = self.camera.direction_to_pixel(&self.attitude.to_camera(direction))?;
        Some(self.displacement(pixel).of(pixel))
    }

    /// Displacement of a pixel by the terms of distortion.
    fn displacement(&self, pixel: Point) -> Displacement {
        let (half, center) = (self.camera.half_diagonal(), self.before.optical_center());
        let offset = [0, 1].map(|k| (pixel[k] - center[k]) / half);
        let square = offset[0] * offset[0] + offset[1] * offset[1];
        let [first, second] = [self.values[DISTORTION], self.values[DISTORTION + 1]];
        Displacement { offset, square, factor: first * square + second * square * square }
    }

    /// Pixel at which the camera sees a direction, and its derivatives with respect to all parameters.
    fn linearize(&self, direction: &Direction) -> Option<(Point, [Point; PARAMETERS])> {
        let camera = &self.camera;
        let pixel = camera.direction_to_pixel(&self.attitude.to_camera(direction))?;
        let residual = Residual::new(camera, &Placement::default(), &self.attitude, pixel, direction)?;
        let to_detector = inverse(&residual.jacobian);
        let focal_length = camera.focal_length_px();
        let turned = residual.by_attitude(focal_length).map(|d| multiply(&to_detector, d));
        let mut slopes = [[0.0; 2]; PARAMETERS];
        for (k, slope) in slopes.iter_mut().take(ATTITUDE).enumerate() {
            // The derivative of the pixel has the opposite sign to that of the residual.
            *slope = [0, 1]
                .map(|axis| -(0..ATTITUDE).map(|j| turned[j][axis] * self.rotation[(j, k)]).sum::<f64>());
        }
        slopes[FOCAL_LENGTH] = multiply(&to_detector, residual.projected.map(|c| focal_length * c));
        (slopes[CENTER], slopes[CENTER + 1]) = ([1.0, 0.0], [0.0, 1.0]);
        let displacement = self.displacement(pixel);
        let Displacement { offset: [x, y], square, factor } = displacement;
        let slope = self.values[DISTORTION] + 2.0 * self.values[DISTORTION + 1] * square;
        let half = camera.half_diagonal();
        // The terms of distortion depend on the pixel that they displace.
        let displaced = [
            [1.0 + (factor + 2.0 * x * x * slope) / half, 2.0 * x * y * slope / half],
            [2.0 * x * y * slope / half, 1.0 + (factor + 2.0 * y * y * slope) / half],
        ];
        for slope in &mut slopes[..DISTORTION] {
            *slope = multiply(&displaced, *slope);
        }
        slopes[DISTORTION] = [x * square, y * square];
        slopes[DISTORTION + 1] = [x * square * square, y * square * square];
        Some((displacement.of(pixel), slopes))
    }
}

/// The terms of distortion at a pixel.
struct Displacement {
    /// Offset from the optical centre of the unmoved camera, in half diagonals, and the square of its length.
    offset: Point,
    square: f64,
    /// Displacement divided by `offset`, pixels.
    factor: f64,
}

impl Displacement {
    fn of(&self, pixel: Point) -> Point {
        [0, 1].map(|k| pixel[k] + self.offset[k] * self.factor)
    }
}

/// Left Jacobian of a rotation vector v: the small rotation exp(v + dv) exp(v)⁻¹ is this matrix times dv.
fn left_jacobian(vector: &Vector3<f64>) -> Matrix3<f64> {
    let angle = vector.norm();
    let cross = vector.cross_matrix();
    let [first, second] = if angle < 1e-3 {
        [0.5 - angle * angle / 24.0, 1.0 / 6.0 - angle * angle / 120.0]
    } else {
        [(1.0 - angle.cos()) / angle.powi(2), (angle - angle.sin()) / angle.powi(3)]
    };
    Matrix3::identity() + cross * first + cross * cross * second
}

/// The stars, and their weights.
struct Stars<'a> {
    camera: &'a CameraModel,
    seen: &'a [MatchedStar],
    sigmas: Vec<f64>,
    /// Weights by the loss: 1 for a small residual.
    weights: Vec<f64>,
    /// Standard deviation of the residuals in units of their `sigmas`.
    scale: f64,
}

impl Stars<'_> {
    /// The stars with a weight above zero, and these weights.
    fn weighted(&self) -> impl Iterator<Item = (&MatchedStar, f64)> {
        let weight = |i: usize| self.weights[i] / (self.sigmas[i] * self.scale).powi(2);
        let counts = |&(i, _): &(usize, _)| self.weights[i] > 0.0;
        self.seen.iter().enumerate().filter(counts).map(move |(i, star)| (star, weight(i)))
    }

    /// Half the weighted sum of squares, including the expected values of the parameters.
    fn cost(&self, values: &Values) -> f64 {
        let Some(moved) = Moved::new(self.camera, values) else { return f64::INFINITY };
        let squares = self.weighted().map(|(star, weight)| {
            let miss = |pixel: Point| {
                let [x, y] = [0, 1].map(|axis| pixel[axis] - star.pixel[axis]);
                x * x + y * y
            };
            weight * moved.image(&star.direction).map_or(f64::INFINITY, miss)
        });
        let expected: f64 = values[CENTER..].iter().map(|value| (value / EXPECTED_PX).powi(2)).sum();
        0.5 * (squares.sum::<f64>() + expected)
    }

    /// Normal equations of [`Self::cost`].
    fn linearize(&self, values: &Values) -> NormalEquations {
        let mut equations = NormalEquations::new(PARAMETERS);
        let Some(moved) = Moved::new(self.camera, values) else {
            equations.add_cost(f64::INFINITY);
            return equations;
        };
        for (star, weight) in self.weighted() {
            let Some((pixel, slopes)) = moved.linearize(&star.direction) else {
                equations.add_cost(f64::INFINITY);
                continue;
            };
            for axis in [0, 1] {
                equations.add(&slopes.map(|s| s[axis]), pixel[axis] - star.pixel[axis], weight);
            }
        }
        for k in CENTER..PARAMETERS {
            let mut unit = [0.0; PARAMETERS];
            unit[k] = 1.0 / EXPECTED_PX;
            equations.add(&unit, values[k] / EXPECTED_PX, 1.0);
        }
        equations
    }

    fn result(&self, values: Values) -> Change {
        let used: Vec<bool> = self.weights.iter().map(|&w| w > 0.0).collect();
        let mut sigmas: Vec<f64> =
            self.sigmas.iter().zip(&used).filter(|(_, used)| **used).map(|(s, _)| *s).collect();
        let number = sigmas.len() as f64;
        let freedom = (2.0 * number - PARAMETERS as f64).max(1.0);
        // Residuals are smaller than the noise, because the fitted parameters absorb a part of it.
        let taken = if sigmas.is_empty() { 1.0 } else { 2.0 * number / freedom };
        let rms_px = median(&mut sigmas) * self.scale * taken.sqrt();
        // An error that all stars have in common does not average out.
        let common = if sigmas.is_empty() { 1.0 } else { 1.0 + number * (SYSTEMATIC_PX / rms_px).powi(2) };
        let equations = self.linearize(&values);
        let element = |i: usize, j: usize| equations.element(i, j) / (common * taken);
        let information = std::array::from_fn(|i| std::array::from_fn(|j| element(i, j)));
        Change { values, information, used, rms_px, freedom: (EFFICIENCY * freedom).max(1.0) }
    }
}

struct Weighted<'a>(&'a Stars<'a>);

impl Problem for Weighted<'_> {
    type State = Values;
    type System = NormalEquations;

    fn cost(&self, state: &Values) -> f64 {
        self.0.cost(state)
    }

    fn linearize(&self, state: &Values) -> NormalEquations {
        self.0.linearize(state)
    }

    fn step(&self, state: &Values, _: &NormalEquations, delta: &DVector<f64>) -> Option<Values> {
        Some(std::array::from_fn(|k| state[k] + delta[k]))
    }
}

impl Robust for Stars<'_> {
    type State = Values;
    type Scales = f64;
    type Problem<'a>
        = Weighted<'a>
    where
        Self: 'a;
    type Error = Error;

    fn problem(&self) -> Weighted<'_> {
        Weighted(self)
    }

    fn weigh(&mut self, state: &Values, scales: Option<f64>, weighting: Weighting) -> Weighed<f64> {
        let moved = Moved::new(self.camera, state);
        let length = |(star, sigma): (&MatchedStar, &f64)| {
            let image = moved.as_ref().and_then(|moved| moved.image(&star.direction));
            image.map_or(f64::INFINITY, |[x, y]| (x - star.pixel[0]).hypot(y - star.pixel[1]) / sigma)
        };
        let lengths: Vec<f64> = self.seen.iter().zip(&self.sigmas).map(length).collect();
        let finite: Vec<f64> = lengths.iter().copied().filter(|l| l.is_finite()).collect();
        let measured = || clipped_scale(&finite, CLIP, REJECT);
        self.scale = scales.unwrap_or_else(measured).max(ROUNDING);
        let weight = |&length: &f64| match (length / self.scale, weighting) {
            (z, _) if !z.is_finite() => 0.0,
            (z, Weighting::Loss(loss)) => loss.weight(z),
            (z, Weighting::Clip) if z > REJECT => 0.0,
            (z, Weighting::Clip) => clipped_weight(z, CLIP),
        };
        let weights: Vec<f64> = lengths.iter().map(weight).collect();
        let same_set = self.weights.len() == weights.len()
            && weights.iter().zip(&self.weights).all(|(a, b)| (*a > 0.0) == (*b > 0.0));
        let largest = weights.iter().zip(&self.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        self.weights = weights;
        let change = if same_set { largest } else { f64::INFINITY };
        Weighed { scales: self.scale, overall: self.scale, change }
    }

    fn check(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
