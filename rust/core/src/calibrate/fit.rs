//! The normal equations of frames, and the joint problem with the attitudes of all frames eliminated.

use nalgebra::{DMatrix, DVector, Vector3};

use super::frame::{Frame, Part};
use super::moments::{Moments, PLACED, UNPLACED};
use super::optics::Optics;
use super::parameters::Parameters;
use super::scale::Spread;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Jacobian, Point};
use crate::geometry::residual::{ATTITUDE, Residual};
use crate::geometry::rig::Placement;
use crate::lsq::NormalEquations;
use crate::lsq::groups::{GroupEquations, Grouped, Joint};
use crate::lsq::small::{inverse, multiply};

/// Derivatives of the point that a pixel sees by the intrinsics and the attitude, in detector pixels: a row
/// for x and one for y.
///
/// `None` where the distortion is folded over.
pub(super) fn sensitivity(
    parameters: &Parameters,
    camera: &CameraModel,
    pixel: Point,
) -> Option<DMatrix<f64>> {
    let seen = camera.pixel_to_direction(pixel);
    let upright = Attitude::from_quaternion([1.0, 0.0, 0.0, 0.0]).ok()?;
    let residual = Residual::new(camera, &Placement::default(), &upright, pixel, &seen)?;
    let mut derivatives = vec![[0.0; 2]; parameters.intrinsics() + ATTITUDE];
    super::frame::derivatives(&residual, parameters, camera, &mut derivatives);
    let inverse = inverse(&residual.jacobian);
    let rows = derivatives.iter().map(|&d| multiply(&inverse, d));
    Some(DMatrix::from_iterator(2, derivatives.len(), rows.flatten()))
}

/// A star with a weight above zero: its weight, metric and residual; the residual is `None` where the model
/// is not defined.
pub(super) type Counting<'a> = (f64, &'a Jacobian, Option<Residual>);

impl Frame {
    /// The stars of a part with a weight above zero.
    fn counting<'a>(
        &'a self,
        part: &'a Part,
        optics: &'a Optics,
        attitude: &'a Attitude,
        weights: &'a Weights,
    ) -> impl Iterator<Item = Counting<'a>> {
        let placement = optics.rig.in_camera(part.detector);
        let counts = weights.stars[part.stars.clone()].iter().zip(&weights.metrics[part.stars.clone()]);
        let stars = counts.zip(self.stars(part)).filter(|((weight, _), _)| **weight > 0.0);
        stars.map(move |((&weight, metric), (&pixel, sky))| {
            (weight, metric, Residual::new(&optics.camera, &placement, attitude, pixel, sky))
        })
    }

    /// Half the weighted sum of squares; infinite if the model is not defined for a star with a weight above
    /// zero.
    fn cost(&self, optics: &Optics, attitude: &Attitude, weights: &Weights) -> f64 {
        let cost = |(weight, metric, residual): Counting<'_>| {
            residual.map_or(f64::INFINITY, |residual| {
                let [x, y] = multiply(metric, residual.miss);
                0.5 * weight * (x * x + y * y)
            })
        };
        self.parts.iter().flat_map(|part| self.counting(part, optics, attitude, weights)).map(cost).sum()
    }

    /// Normal equations for the shared parameters on which the frame depends, followed by its attitude.
    ///
    /// Their cost is infinite if the model is not defined for a star with a weight above zero.
    pub(super) fn linearize(
        &self,
        parameters: &Parameters,
        optics: &Optics,
        attitude: &Attitude,
        weights: &Weights,
    ) -> GroupEquations {
        let intrinsics = parameters.intrinsics();
        let placements = self.parts.iter().flat_map(|part| parameters.placement(part.detector));
        let shared: Vec<usize> = (0..intrinsics).chain(placements).collect();
        let size = shared.len() + ATTITUDE;
        let mut sum = NormalEquations::new(size);
        let mut next = intrinsics;
        for part in &self.parts {
            let placement = parameters.placement(part.detector).len();
            let stars = self.counting(part, optics, attitude, weights);
            let own = part_equations(parameters, placement, &optics.camera, stars);
            let places = (0..intrinsics).chain(next..next + placement).chain(size - ATTITUDE..size);
            next += placement;
            if self.parts.len() == 1 {
                sum = own;
            } else {
                sum.merge_at(&own, &places.collect::<Vec<_>>());
            }
        }
        GroupEquations { equations: sum, shared: (shared.len() < parameters.len()).then_some(shared) }
    }

    /// Sums that measure the size of the residuals with a weight above zero.
    pub(super) fn spread(&self, optics: &Optics, attitude: &Attitude, weights: &Weights) -> Spread {
        let mut spread = Spread::default();
        let misses = self.misses(optics, attitude);
        for (length, &weight) in
            misses.lengths.iter().zip(&weights.stars).filter(|(_, weight)| **weight > 0.0)
        {
            let square_pull = (weight * length).powi(2);
            spread.add(&Spread { stars: 1, weight, square_pull });
        }
        spread
    }
}

/// Normal equations of the stars of one detector: for the intrinsics, `placement` parameters of the
/// detector's placement, and the attitude.
pub(super) fn part_equations<'a>(
    parameters: &Parameters,
    placement: usize,
    camera: &CameraModel,
    stars: impl Iterator<Item = Counting<'a>>,
) -> NormalEquations {
    match (parameters.degree(), camera.distortion()) {
        (Some(_), Distortion::Polynomial(model)) if placement == 0 => {
            sum_moments::<UNPLACED>(parameters, camera, model.scale(), stars)
        }
        (Some(_), Distortion::Polynomial(model)) => {
            sum_moments::<PLACED>(parameters, camera, model.scale(), stars)
        }
        _ => sum_rows(parameters, placement, camera, stars),
    }
}

/// Normal equations for the coefficients of a polynomial in pixels over `scale`, by moments.
fn sum_moments<'a, const N: usize>(
    parameters: &Parameters,
    camera: &CameraModel,
    scale: f64,
    stars: impl Iterator<Item = Counting<'a>>,
) -> NormalEquations {
    let degree = parameters.degree().unwrap_or(0);
    let mut moments = Moments::<N>::new(degree, camera.focal_length_px(), scale);
    for (weight, metric, residual) in stars {
        match residual {
            Some(residual) => moments.add(&residual, metric, weight),
            None => moments.add_cost(f64::INFINITY),
        }
    }
    moments.equations(parameters)
}

/// Number of residuals that are summed at a time. For few parameters, the innermost cache holds this many.
const ROWS: usize = 64;

/// Normal equations for any intrinsics, summed star by star.
fn sum_rows<'a>(
    parameters: &Parameters,
    placement: usize,
    camera: &CameraModel,
    stars: impl Iterator<Item = Counting<'a>>,
) -> NormalEquations {
    let columns = parameters.intrinsics() + placement + ATTITUDE;
    let mut equations = NormalEquations::new(columns);
    let mut ideal = vec![[0.0; 2]; columns];
    let mut rows = Vec::with_capacity((ROWS + 1) * columns);
    let (mut residuals, mut weights) = (Vec::new(), Vec::new());
    for (weight, metric, residual) in stars {
        let Some(residual) = residual else {
            equations.add_cost(f64::INFINITY);
            continue;
        };
        super::frame::derivatives(&residual, parameters, camera, &mut ideal);
        for axis in metric {
            rows.extend(ideal.iter().map(|[x, y]| axis[0] * x + axis[1] * y));
        }
        residuals.extend(multiply(metric, residual.miss));
        weights.extend([weight; 2]);
        if residuals.len() >= ROWS {
            equations.add_all(&rows, &residuals, &weights);
            rows.clear();
            residuals.clear();
            weights.clear();
        }
    }
    equations.add_all(&rows, &residuals, &weights);
    equations
}

/// The rotation that solves the equations of an attitude alone; `None` if they do not determine it.
pub(super) fn rotation(equations: &NormalEquations) -> Option<Vector3<f64>> {
    let (_, own) = equations.eliminate(ATTITUDE)?;
    let step = own.step(&DVector::zeros(0));
    Some(Vector3::new(step[0], step[1], step[2]))
}

/// Weights of the residuals of one frame's stars.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    /// Weight of each star, 0 to 1.
    pub(super) stars: Vec<f64>,
    /// See [`FrameResiduals::metrics`](super::frame::FrameResiduals::metrics). The metrics belong to the camera
    /// about which the fit is linearised, and stay fixed while the fit moves.
    pub(super) metrics: Vec<Jacobian>,
}

impl Weights {
    /// Number of stars with a weight above zero.
    pub(super) fn inliers(&self) -> usize {
        self.stars.iter().filter(|&&w| w > 0.0).count()
    }

    /// Largest difference from other weights; infinite if the set of inliers differs.
    pub(super) fn change(&self, other: &Self) -> f64 {
        let change =
            |(a, b): (&f64, &f64)| if (*a > 0.0) == (*b > 0.0) { (a - b).abs() } else { f64::INFINITY };
        self.stars.iter().zip(&other.stars).map(change).fold(0.0, f64::max)
    }
}

/// Optics and attitudes that are fitted together.
pub(super) type State = Joint<Optics, Attitude>;

/// The joint fit at given weights. A frame whose weights are all zero is ignored.
pub(super) struct JointFit<'a> {
    pub(super) frames: &'a [Frame],
    pub(super) weights: &'a [Weights],
    pub(super) parameters: &'a Parameters,
}

impl Grouped for JointFit<'_> {
    type Shared = Optics;
    type Own = Attitude;
    const OWN: usize = ATTITUDE;

    fn parameters(&self) -> usize {
        self.parameters.len()
    }

    fn group_cost(&self, frame: usize, optics: &Optics, attitude: &Attitude) -> f64 {
        self.frames[frame].cost(optics, attitude, &self.weights[frame])
    }

    fn group_equations(&self, frame: usize, optics: &Optics, attitude: &Attitude) -> GroupEquations {
        self.frames[frame].linearize(self.parameters, optics, attitude, &self.weights[frame])
    }

    fn step_shared(&self, optics: &Optics, delta: &DVector<f64>) -> Option<Optics> {
        self.parameters.stepped_optics(optics, delta)
    }

    fn step_own(&self, attitude: &Attitude, delta: &DVector<f64>) -> Attitude {
        attitude.rotated(&Vector3::new(delta[0], delta[1], delta[2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Model;
    use crate::geometry::camera::CameraModel;
    use crate::geometry::distortion::PolynomialDistortion;
    use crate::geometry::residual::PLACEMENT;
    use crate::geometry::rig::Rig;
    use crate::geometry::sphere::Direction;

    #[test]
    fn moments_give_the_equations_of_the_rows() {
        let a = (0..15).map(|k| f64::from(k % 4) - 1.5).collect();
        let b = (0..15).map(|k| f64::from(k % 5) - 2.0).collect();
        let distortion = Distortion::Polynomial(PolynomialDistortion::new(4, 500.0, a, b).unwrap());
        let camera = CameraModel::new(2000.0, [1000, 800])
            .unwrap()
            .with_optical_center([30.0, -20.0])
            .with_parity_flip(true)
            .with_distortion(distortion);
        let attitude = Attitude::from_pointing(1.0, 0.3, 2.0);
        let pixels: Vec<Point> =
            (0..40).map(|k| [f64::from(k % 7) * 140.0 - 420.0, f64::from(k % 6) * 150.0 - 375.0]).collect();
        let turned = attitude.rotated(&Vector3::new(1e-4, -2e-4, 1e-3));
        let seen = |p: &Point| turned.to_sky(&camera.pixel_to_direction(*p));
        let sky: Vec<Direction> = pixels.iter().map(seen).collect();
        let whitening = Some((0..40).map(|k| [1.0 + f64::from(k % 3), 0.5, 2.0]).collect());
        let weights = |frame: &Frame, optics: &Optics| Weights {
            stars: (0..40).map(|k| f64::from(k % 4) / 3.0).collect(),
            metrics: frame.misses(optics, &attitude).metrics,
        };
        let stages = Parameters::stages(Model::Polynomial { order: 4 });
        for (parameters, detector) in stages.into_iter().flat_map(|stage| [(stage.clone(), 0), (stage, 1)]) {
            let rig = Rig::new([Placement::new([20.0, -30.0], 0.1)], [5.0, 7.0]);
            let optics = Optics { camera: camera.clone(), rig };
            let parameters = parameters.with_detectors(2);
            let mut frame = Frame::new(pixels.clone(), sky.clone(), whitening.clone());
            frame.parts[0].detector = detector;
            let weights = weights(&frame, &optics);
            let stars = frame.counting(&frame.parts[0], &optics, &attitude, &weights);
            let rows = sum_rows(&parameters, PLACEMENT * detector, &camera, stars);
            let sums = frame.linearize(&parameters, &optics, &attitude, &weights).equations;
            assert_eq!(sums.count(), rows.count());
            assert!((sums.cost() / rows.cost() - 1.0).abs() < 1e-12);
            for i in 0..rows.parameters() {
                let size = |j: usize| rows.element(j, j).sqrt();
                let gradient = sums.gradient()[i] - rows.gradient()[i];
                assert!(gradient.abs() < 1e-10 * size(i) * rows.cost().sqrt());
                for j in i..rows.parameters() {
                    assert!((sums.element(i, j) - rows.element(i, j)).abs() < 1e-12 * size(i) * size(j));
                }
            }
        }
    }

    #[test]
    fn a_star_without_an_image_costs_infinitely_much() {
        let camera = CameraModel::new(2000.0, [1000, 800]).unwrap();
        let upright = Attitude::from_quaternion([1.0, 0.0, 0.0, 0.0]).unwrap();
        let frame = Frame::new(vec![[1.0, 2.0]], vec![Direction::new(0.0, 0.0, -1.0)], None);
        let weights = Weights { stars: vec![1.0], metrics: vec![[[1.0, 0.0], [0.0, 1.0]]] };
        assert_eq!(frame.cost(&camera.clone().into(), &upright, &weights), f64::INFINITY);
        for distortion in
            [Distortion::None, Distortion::Polynomial(PolynomialDistortion::zero(3, 1.0).unwrap())]
        {
            let camera = camera.clone().with_distortion(distortion);
            let parameters = Parameters::all(camera.distortion());
            let equations = frame.linearize(&parameters, &camera.into(), &upright, &weights).equations;
            assert_eq!(equations.cost(), f64::INFINITY);
        }
    }
}
