//! The free parameters of a camera and of a rig: their names, derivatives and steps.

use std::ops::Range;

use nalgebra::DVector;

use super::Model;
use super::optics::Optics;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{
    Distortion, Jacobian, MAX_ORDER, Point, PolynomialDistortion, RadialDistortion, exponents,
};
use crate::geometry::residual::PLACEMENT;
use crate::geometry::rig::{Placement, Rig};

/// One intrinsic parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    FocalLength,
    CenterX,
    CenterY,
    /// Coefficient of x^p y^q in u (A) or v (B): its number, p and q.
    A(usize, usize, usize),
    B(usize, usize, usize),
    /// Radial coefficient, k₁ to k₄.
    Radial(usize),
    /// Decentring coefficient, p₁ or p₂.
    Decentring(usize),
}

/// Kind of the derivative of a position by one parameter of a polynomial lens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// x^p y^q of the scaled pixel along one axis: the number of the axis, p and q.
    Power(usize, usize, usize),
    /// Any other derivative, by its number; the focal length has number 0.
    Other(usize),
}

/// The parameters that a fit is free to move: intrinsics, then the placements of detectors, [`PLACEMENT`] for each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    intrinsics: Vec<Parameter>,
    /// Number of detectors with a free placement, from detector 1 on. Detector 0 is the reference, and all
    /// others are placed relative to it.
    placed: usize,
}

impl Parameters {
    fn intrinsic(intrinsics: Vec<Parameter>) -> Self {
        Self { intrinsics, placed: 0 }
    }

    /// All parameters of a model, those of coarse features first.
    pub(super) fn of(model: Model) -> Self {
        let mut all = vec![Parameter::FocalLength];
        match model {
            Model::Pinhole => {}
            Model::Polynomial { order } => {
                for (k, (p, q)) in exponents(order).into_iter().enumerate() {
                    // Shift, scale and rotation belong to the attitude and the focal length.
                    if p + q >= 2 {
                        all.push(Parameter::A(k, p, q));
                    }
                    if p + q >= 1 {
                        all.push(Parameter::B(k, p, q));
                    }
                }
            }
            Model::Radial => {
                all.extend([Parameter::Radial(0), Parameter::CenterX, Parameter::CenterY]);
                all.extend([Parameter::Radial(1), Parameter::Radial(2), Parameter::Radial(3)]);
                all.extend([Parameter::Decentring(0), Parameter::Decentring(1)]);
            }
        }
        Self::intrinsic(all)
    }

    /// No parameters: everything but the attitudes is known.
    pub(super) fn none() -> Self {
        Self::intrinsic(Vec::new())
    }

    /// The same intrinsics, with the placements of all but the first of `detectors` detectors.
    pub(super) fn with_detectors(self, detectors: usize) -> Self {
        Self { placed: detectors - 1, ..self }
    }

    /// Growing subsets of a model's parameters, for a fit from a pinhole to the whole model. Each stage
    /// starts where the preceding one ended. Coarse terms come first, so that wrong matches are detected
    /// before the model is flexible enough to follow them.
    pub(super) fn stages(model: Model) -> Vec<Self> {
        let all = Self::of(model);
        let coarse = |parameter: &Parameter, degree: usize| match *parameter {
            Parameter::FocalLength => true,
            Parameter::A(_, p, q) | Parameter::B(_, p, q) => p + q <= degree,
            Parameter::Radial(i) => 2 * i + 3 <= degree,
            Parameter::CenterX | Parameter::CenterY => degree > 3,
            Parameter::Decentring(_) => false,
        };
        let up_to =
            |degree| Self::intrinsic(all.intrinsics.iter().copied().filter(|p| coarse(p, degree)).collect());
        let mut stages = vec![up_to(0), up_to(3), up_to(4), all.clone()];
        stages.dedup();
        stages
    }

    /// All parameters of a distortion model.
    pub(super) fn all(distortion: &Distortion) -> Self {
        Self::of(match distortion {
            Distortion::None => Model::Pinhole,
            Distortion::Polynomial(model) => Model::Polynomial { order: model.order() },
            Distortion::Radial(_) => Model::Radial,
        })
    }

    /// The parameters of a distortion model that have these names, in the order of [`Parameters::of`].
    pub(super) fn named(distortion: &Distortion, names: &[String]) -> Self {
        let all = Self::all(distortion);
        let known = all.intrinsics.iter().zip(all.names()).filter(|(_, name)| names.contains(name));
        Self::intrinsic(known.map(|(parameter, _)| *parameter).collect())
    }

    /// The same parameters without the optical centre.
    pub(super) fn without_center(&self) -> Self {
        let center = [Parameter::CenterX, Parameter::CenterY];
        let intrinsics = self.intrinsics.iter().copied().filter(|p| !center.contains(p)).collect();
        Self { intrinsics, placed: self.placed }
    }

    /// Highest degree of the polynomial terms; `None` if there are none, or if any other intrinsic besides
    /// the focal length is free.
    pub(super) fn degree(&self) -> Option<usize> {
        let columns = self.columns().map(|column| match column {
            Column::Power(_, p, q) => p + q,
            Column::Other(_) => 0,
        });
        let polynomial =
            |p: &Parameter| matches!(p, Parameter::FocalLength | Parameter::A(..) | Parameter::B(..));
        columns.max().filter(|&degree| degree > 0 && self.intrinsics.iter().all(polynomial))
    }

    /// Kinds of the derivatives by the intrinsics of a polynomial lens.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column> {
        self.intrinsics.iter().map(|parameter| match *parameter {
            Parameter::A(_, p, q) => Column::Power(0, p, q),
            Parameter::B(_, p, q) => Column::Power(1, p, q),
            _ => Column::Other(0),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.intrinsics.len() + PLACEMENT * self.placed
    }

    /// Number of the intrinsics.
    pub(super) fn intrinsics(&self) -> usize {
        self.intrinsics.len()
    }

    /// Indices of the parameters of a detector's placement; empty if the placement is not free.
    pub(super) fn placement(&self, detector: usize) -> Range<usize> {
        let free = (1..=self.placed).contains(&detector);
        let first = if free { self.intrinsics.len() + PLACEMENT * (detector - 1) } else { 0 };
        first..first + if free { PLACEMENT } else { 0 }
    }

    /// Names in the user interface: `focal_length_px`, `optical_center_x`, `A_20`, `k1`,
    /// `detector_1_shift_x_px`, …
    pub(super) fn names(&self) -> Vec<String> {
        let placement = ["shift_x_px", "shift_y_px", "rotation_rad"];
        let places = (1..=self.placed).flat_map(|d| placement.map(|name| format!("detector_{d}_{name}")));
        self.intrinsics
            .iter()
            .map(|parameter| match parameter {
                Parameter::FocalLength => "focal_length_px".into(),
                Parameter::CenterX => "optical_center_x".into(),
                Parameter::CenterY => "optical_center_y".into(),
                Parameter::A(_, p, q) => format!("A_{p}{q}"),
                Parameter::B(_, p, q) => format!("B_{p}{q}"),
                Parameter::Radial(i) => format!("k{}", i + 1),
                Parameter::Decentring(i) => format!("p{}", i + 1),
            })
            .chain(places)
            .collect()
    }

    /// Derivatives of `undistort(pixel - centre) - f · projected` in the ideal plane by every intrinsic.
    ///
    /// `point` is the pixel relative to the optical centre, `jacobian` is the Jacobian of `undistort` at
    /// `point`, and `projected` is the star's image in focal lengths with the parity applied.
    pub(super) fn derivatives(
        &self,
        camera: &CameraModel,
        point: Point,
        jacobian: &Jacobian,
        projected: Point,
        out: &mut [Point],
    ) {
        let scale = match camera.distortion() {
            Distortion::None => 1.0,
            Distortion::Polynomial(model) => model.scale(),
            Distortion::Radial(model) => model.scale(),
        };
        let [x, y] = [point[0] / scale, point[1] / scale];
        let r2 = x * x + y * y;
        let (powers_x, powers_y) = (powers(x), powers(y));
        for (parameter, d) in self.intrinsics.iter().zip(out) {
            *d = match *parameter {
                Parameter::FocalLength => [-projected[0], -projected[1]],
                Parameter::CenterX => [-jacobian[0][0], -jacobian[1][0]],
                Parameter::CenterY => [-jacobian[0][1], -jacobian[1][1]],
                Parameter::A(_, p, q) => [powers_x[p] * powers_y[q], 0.0],
                Parameter::B(_, p, q) => [0.0, powers_x[p] * powers_y[q]],
                Parameter::Radial(i) => {
                    let term = scale * r2.powi(i as i32 + 1);
                    [x * term, y * term]
                }
                Parameter::Decentring(0) => [scale * 2.0 * x * y, scale * (r2 + 2.0 * y * y)],
                Parameter::Decentring(_) => [scale * (r2 + 2.0 * x * x), scale * 2.0 * x * y],
            };
        }
    }

    /// Values of the intrinsics.
    pub(super) fn values(&self, camera: &CameraModel) -> Vec<f64> {
        let center = camera.optical_center();
        let Terms { a, b } = Terms::of(camera.distortion());
        let value = |parameter: &Parameter| match *parameter {
            Parameter::FocalLength => camera.focal_length_px(),
            Parameter::CenterX => center[0],
            Parameter::CenterY => center[1],
            Parameter::A(k, ..) | Parameter::Radial(k) => a[k],
            Parameter::B(k, ..) | Parameter::Decentring(k) => b[k],
        };
        self.intrinsics.iter().map(value).collect()
    }

    /// The optics moved by `delta`; `None` if the result is not valid.
    pub(super) fn stepped_optics(&self, optics: &Optics, delta: &DVector<f64>) -> Option<Optics> {
        let camera = self.stepped(&optics.camera, delta)?;
        let moved = |(detector, placement): (usize, &Placement)| {
            let place = self.placement(detector);
            if place.is_empty() {
                return *placement;
            }
            let ([x, y], step) = (placement.shift(), &delta.as_slice()[place]);
            Placement::new([x + step[0], y + step[1]], placement.rotation() + step[2])
        };
        let others = optics.rig.placements().iter().enumerate().skip(1).map(moved);
        let rig = Rig::new(others, optics.rig.center());
        let sound = rig.placements().iter().all(|p| p.shift().iter().all(|c| c.is_finite()));
        sound.then_some(Optics { camera, rig })
    }

    /// The camera moved by `delta`; `None` if the result is not valid.
    pub(super) fn stepped(&self, camera: &CameraModel, delta: &DVector<f64>) -> Option<CameraModel> {
        if self.intrinsics.is_empty() {
            return Some(camera.clone());
        }
        let mut focal_length = camera.focal_length_px();
        let mut center = camera.optical_center();
        let mut terms = Terms::of(camera.distortion());
        for (parameter, d) in self.intrinsics.iter().zip(delta) {
            *match *parameter {
                Parameter::FocalLength => &mut focal_length,
                Parameter::CenterX => &mut center[0],
                Parameter::CenterY => &mut center[1],
                Parameter::A(k, ..) => &mut terms.a[k],
                Parameter::B(k, ..) => &mut terms.b[k],
                Parameter::Radial(i) => &mut terms.a[i],
                Parameter::Decentring(i) => &mut terms.b[i],
            } += d;
        }
        let sound = focal_length > 0.0 && focal_length.is_finite() && center.iter().all(|c| c.is_finite());
        let distortion = terms.into_distortion(camera.distortion())?;
        sound.then(|| {
            camera
                .clone()
                .with_focal_length(focal_length)
                .with_optical_center(center)
                .with_distortion(distortion)
        })
    }
}

/// Coefficients of a distortion model: A and B, or k and p.
struct Terms {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Terms {
    fn of(distortion: &Distortion) -> Self {
        match distortion {
            Distortion::None => Self { a: vec![], b: vec![] },
            Distortion::Polynomial(model) => Self { a: model.a().to_vec(), b: model.b().to_vec() },
            Distortion::Radial(model) => Self { a: model.k().to_vec(), b: model.p().to_vec() },
        }
    }

    /// A model of the same kind with these coefficients; `None` if they are not finite.
    fn into_distortion(self, kind: &Distortion) -> Option<Distortion> {
        Some(match kind {
            Distortion::None => Distortion::None,
            Distortion::Polynomial(model) => Distortion::Polynomial(
                PolynomialDistortion::new(model.order(), model.scale(), self.a, self.b).ok()?,
            ),
            Distortion::Radial(model) => {
                let (k, p) = (self.a.try_into().ok()?, self.b.try_into().ok()?);
                Distortion::Radial(RadialDistortion::new(k, p, model.scale()).ok()?)
            }
        })
    }
}

/// 1, x, x², ...
fn powers(x: f64) -> [f64; MAX_ORDER + 1] {
    let mut powers = [1.0; MAX_ORDER + 1];
    for k in 1..powers.len() {
        powers[k] = powers[k - 1] * x;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cameras() -> Vec<(Model, CameraModel)> {
        let camera = CameraModel::new(2000.0, [1000, 800]).unwrap();
        let polynomial =
            PolynomialDistortion::new(3, 500.0, (0..10).map(f64::from).collect(), vec![-2.0; 10]).unwrap();
        let radial = RadialDistortion::new([-0.1, 0.02, 0.003, -0.001], [0.01, -0.02], 500.0).unwrap();
        vec![
            (Model::Pinhole, camera.clone()),
            (
                Model::Polynomial { order: 3 },
                camera.clone().with_distortion(Distortion::Polynomial(polynomial)),
            ),
            (
                Model::Radial,
                camera.with_optical_center([30.0, -40.0]).with_distortion(Distortion::Radial(radial)),
            ),
        ]
    }

    #[test]
    fn derivatives_are_those_of_the_step() {
        let (pixel, projected) = ([210.0, -330.0], [0.11, -0.17]);
        let residual = |camera: &CameraModel| {
            let [u, v] = camera.pixel_to_ideal(pixel);
            [u - camera.focal_length_px() * projected[0], v - camera.focal_length_px() * projected[1]]
        };
        for (model, camera) in cameras() {
            let parameters = Parameters::of(model);
            assert_eq!(parameters.names().len(), parameters.len());
            let point = [pixel[0] - camera.optical_center()[0], pixel[1] - camera.optical_center()[1]];
            let (_, jacobian) = camera.distortion().undistort_with_jacobian(point);
            let mut derivatives = vec![[0.0; 2]; parameters.len()];
            parameters.derivatives(&camera, point, &jacobian, projected, &mut derivatives);
            for (k, name) in parameters.names().iter().enumerate() {
                let h = 1e-4;
                let at = |sign: f64| {
                    let mut delta = DVector::zeros(parameters.len());
                    delta[k] = sign * h;
                    residual(&parameters.stepped(&camera, &delta).unwrap())
                };
                let (plus, minus) = (at(1.0), at(-1.0));
                for axis in 0..2 {
                    let expected = (plus[axis] - minus[axis]) / (2.0 * h);
                    let error = (derivatives[k][axis] - expected).abs();
                    assert!(error < 1e-6 * (1.0 + expected.abs()), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn steps_out_of_the_domain_are_none() {
        let (model, camera) = cameras().remove(2);
        let parameters = Parameters::of(model);
        for value in [f64::NAN, f64::NEG_INFINITY] {
            assert!(parameters.stepped(&camera, &DVector::repeat(parameters.len(), value)).is_none());
        }
    }

    #[test]
    fn the_gauge_is_fixed() {
        let names = Parameters::of(Model::Polynomial { order: 2 }).names();
        assert_eq!(
            names,
            ["focal_length_px", "B_10", "B_01", "A_20", "B_20", "A_11", "B_11", "A_02", "B_02"]
        );
        assert_eq!(
            Parameters::of(Model::Radial).without_center().len(),
            Parameters::of(Model::Radial).len() - 2
        );
    }
}
