use super::fit::{Weights, rotation};
use super::frame::Frame;
use super::optics::Optics;
use super::*;
use crate::error::Error;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::{Distortion, Point, PolynomialDistortion, RadialDistortion};
use crate::geometry::sphere::{ARCSEC, Direction};
use crate::monitor::StopAfter;

/// Repeatable numbers in -1..1 (a linear congruential generator).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

fn refs(frames: &[MatchedStars]) -> Vec<&MatchedStars> {
    frames.iter().collect()
}

struct Sky {
    camera: CameraModel,
    frames: Vec<(Attitude, Vec<Point>, Vec<[f64; 3]>)>,
}

/// Frames of a camera: stars all over the detector, with position errors of up to `noise` pixels.
fn observe(camera: CameraModel, frames: usize, stars: usize, noise: f64) -> Sky {
    let mut random = Random(7);
    let [width, height] = camera.image_size().map(|side| f64::from(side) / 2.0);
    let frames = (0..frames)
        .map(|_| {
            let attitude = Attitude::from_pointing(3.0 * random.next(), random.next(), 3.0 * random.next());
            let (mut pixels, mut sky) = (vec![], vec![]);
            for _ in 0..stars {
                let pixel = [width * random.next(), height * random.next()];
                sky.push(attitude.to_sky(&camera.pixel_to_direction(pixel)).into());
                pixels.push([pixel[0] + noise * random.next(), pixel[1] + noise * random.next()]);
            }
            (attitude, pixels, sky)
        })
        .collect();
    Sky { camera, frames }
}

impl Sky {
    fn calibrate(&self, model: Model, monitor: &dyn Monitor) -> Result<CalibrationResult> {
        self.fit(&Options { model, ..Options::default() }, monitor)
    }

    fn fit(&self, options: &Options, monitor: &dyn Monitor) -> Result<CalibrationResult> {
        let given = CameraModel::new(self.camera.focal_length_px() * 1.001, self.camera.image_size())?
            .with_parity_flip(self.camera.parity_flip())
            .with_projection(self.camera.projection());
        calibrate(&refs(&self.matches(&given)), None, options, None, monitor)
    }

    fn matches(&self, camera: &CameraModel) -> Vec<MatchedStars> {
        let frame = |(attitude, pixels, sky): &(Attitude, Vec<Point>, Vec<[f64; 3]>)| {
            MatchedStars::new(pixels.clone(), sky.clone(), camera.clone(), *attitude)
        };
        self.frames.iter().map(frame).collect()
    }

    /// Largest angle between the true and the fitted direction of any star.
    fn error(&self, fit: &CalibrationResult) -> f64 {
        let stars = self.frames.iter().zip(&fit.frames).flat_map(|((_, pixels, sky), frame)| {
            pixels.iter().zip(sky).map(|(&pixel, star)| {
                let seen = frame.attitude.to_sky(&fit.camera.pixel_to_direction(pixel));
                crate::geometry::sphere::separation(&seen, &Direction::from(*star))
            })
        });
        stars.fold(0.0, f64::max)
    }
}

fn cameras() -> Vec<(Model, CameraModel)> {
    let pinhole = CameraModel::new(3000.0, [1000, 800]).unwrap();
    let mut random = Random(3);
    let mut coefficients = |first: usize| -> Vec<f64> {
        (0..15).map(|k| if k < first { 0.0 } else { 3.0 * random.next() }).collect()
    };
    let polynomial = PolynomialDistortion::new(4, 500.0, coefficients(3), coefficients(1)).unwrap();
    let radial = RadialDistortion::new([-0.02, 0.001, 0.0, 0.0], [1e-4, -2e-4], 500.0).unwrap();
    vec![
        (Model::Pinhole, pinhole.clone()),
        (
            Model::Polynomial { order: 4 },
            pinhole.clone().with_parity_flip(true).with_distortion(Distortion::Polynomial(polynomial)),
        ),
        (
            Model::Radial,
            pinhole.with_optical_center([700.0, 500.0]).with_distortion(Distortion::Radial(radial)),
        ),
    ]
}

#[test]
fn exact_positions_give_the_camera_back() {
    for (model, camera) in cameras() {
        let sky = observe(camera, 4, 80, 0.0);
        let fit = sky.calibrate(model, &()).unwrap();
        assert!(fit.converged && fit.num_outliers == 0 && fit.frozen.is_empty(), "{model:?}: {fit:?}");
        assert!(sky.error(&fit) < 1e-3 * ARCSEC, "{model:?}: {}", sky.error(&fit) / ARCSEC);
    }
}

#[test]
fn fisheyes_of_every_projection_are_given_back() {
    for projection in Projection::ALL.into_iter().skip(1) {
        let radial = RadialDistortion::new([0.02, -0.004, 0.0, 0.0], [2e-4, -1e-4], 500.0).unwrap();
        // Orthographic images end at the rim.
        let camera = CameraModel::projected_from_fov(projection, 2.2, [1000, 800])
            .unwrap()
            .with_optical_center([12.0, -8.0])
            .with_parity_flip(true)
            .with_distortion(Distortion::Radial(radial));
        let mut sky = observe(camera, 5, 150, 0.0);
        for (_, pixels, stars) in &mut sky.frames {
            // The image of a fisheye is a circle.
            let inside = |p: &Point| p[0].hypot(p[1]) < 480.0;
            *stars = pixels.iter().zip(stars.iter()).filter(|(p, _)| inside(p)).map(|(_, s)| *s).collect();
            pixels.retain(inside);
        }
        let fit = sky.calibrate(Model::Radial, &()).unwrap();
        assert_eq!(fit.camera.projection(), projection);
        assert!(fit.converged && fit.num_outliers == 0, "{projection:?}: {fit:?}");
        assert!(sky.error(&fit) < 1e-2 * ARCSEC, "{projection:?}: {}", sky.error(&fit) / ARCSEC);
    }
}

#[test]
fn noise_is_measured() {
    let (model, camera) = cameras().remove(1);
    let sky = observe(camera, 6, 150, 0.1);
    let fit = sky.calibrate(model, &()).unwrap();
    // Noise uniform in ±0.1 has the standard deviation 0.0577, and no tail to correct for.
    assert!((fit.noise / 0.0577 - 1.0).abs() < 0.08, "{}", fit.noise);
    assert!(fit.rmse_after_px < 0.085 && fit.rmse_before_px.unwrap() > 10.0 * fit.rmse_after_px);
    assert!(fit.condition_number > 1.0 && fit.condition_number < 1e3);
}

#[test]
fn threads_do_not_change_a_bit() {
    let (model, camera) = cameras().remove(1);
    let sky = observe(camera, 70, 20, 0.1);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sky.calibrate(model, &()).unwrap())
    };
    let (one, four) = (run(1), run(4));
    assert_eq!(one.camera, four.camera);
    assert_eq!(one.covariance, four.covariance);
}

#[test]
fn it_can_be_interrupted() {
    let (model, camera) = cameras().remove(0);
    let outcome = observe(camera, 2, 20, 0.1).calibrate(model, &StopAfter::new(0));
    assert_eq!(outcome.unwrap_err(), Error::Interrupted);
}

#[test]
fn too_little_is_undetermined() {
    let (_, camera) = cameras().remove(0);
    for (frames, stars) in [(0, 0), (1, 0), (1, 3), (1, 20)] {
        let outcome =
            observe(camera.clone(), frames, stars, 0.1).calibrate(Model::Polynomial { order: 6 }, &());
        assert!(matches!(outcome, Err(Error::Undetermined(_))), "{frames} frames of {stars} stars");
    }
}

/// Replaces every twentieth position by one with an error of some pixels.
fn spoil(sky: &mut Sky) {
    for (_, pixels, _) in &mut sky.frames {
        for pixel in pixels.iter_mut().step_by(20) {
            pixel[0] += 4.0;
        }
    }
}

#[test]
fn blocks_from_anywhere_end_where_the_joint_fit_does() {
    for (model, camera) in cameras() {
        let mut sky = observe(camera, 5, 80, 0.05);
        spoil(&mut sky);
        let options = Options { model, noise: Some(0.03), ..Options::default() };
        let joint = sky.fit(&options, &()).unwrap();
        // Start from a calibration of two frames.
        let mut few = observe(sky.camera.clone(), 2, 80, 0.05);
        spoil(&mut few);
        let mut camera = few.calibrate(model, &()).unwrap().camera;
        let mut last = f64::INFINITY;
        for _ in 0..40 {
            let matches = sky.matches(&camera);
            let matches = refs(&matches);
            let (here, there) = matches.split_at(2);
            let mut sum = CalibrationBlock::new(here, None, &camera, None, 0.03, 3.0).unwrap();
            sum.add(&CalibrationBlock::new(there, None, &camera, None, 0.03, 3.0).unwrap()).unwrap();
            assert_eq!((sum.frames, sum.rejected), (5, 0));
            let next = sum.solve().unwrap();
            last = next.change;
            let noise = joint.noise / next.noise;
            camera = next.camera;
            if last < 1e-10 {
                assert_eq!(sum.outliers, joint.num_outliers, "{model:?}");
                assert!((noise - 1.0).abs() < 1e-6, "{model:?}: {noise}");
                assert!((joint.covariance - next.covariance).abs().max() < 1e-6, "{model:?}");
                break;
            }
        }
        assert!(last < 1e-10, "{model:?}: {last}");
        for pixel in [[-500.0, -400.0], [0.0, 0.0], [499.0, 120.0], [-300.0, 399.0]] {
            let (a, b) = (joint.camera.pixel_to_direction(pixel), camera.pixel_to_direction(pixel));
            assert!((a - b).norm() * camera.focal_length_px() < 1e-6, "{model:?}: {}", (a - b).norm());
        }
    }
}

#[test]
fn blocks_of_different_cameras_are_not_added() {
    let (_, camera) = cameras().remove(0);
    let sky = observe(camera.clone(), 2, 30, 0.05);
    let other = camera.clone().with_focal_length(2999.0);
    let mut block =
        CalibrationBlock::new(&refs(&sky.matches(&camera)), None, &camera, None, 0.03, 3.0).unwrap();
    let wrong = CalibrationBlock::new(&refs(&sky.matches(&other)), None, &other, None, 0.03, 3.0).unwrap();
    assert!(matches!(block.add(&wrong), Err(Error::Argument { .. })));
    assert!(CalibrationBlock::new(&refs(&sky.matches(&camera)), None, &camera, None, 0.0, 3.0).is_err());
    let nothing = CalibrationBlock::new(&[], None, &camera, None, 0.03, 3.0).unwrap();
    assert!(matches!(nothing.solve(), Err(Error::Undetermined(_))));
    assert!(CalibrationBlock::new(&[], None, &camera, Some(&["k1".into()]), 0.03, 3.0).is_err());
}

#[test]
fn a_frame_that_does_not_fit_adds_nothing() {
    let (_, camera) = cameras().remove(0);
    let mut sky = observe(camera.clone(), 3, 40, 0.05);
    let mut random = Random(1);
    for pixel in &mut sky.frames[1].1 {
        *pixel = [400.0 * random.next(), 400.0 * random.next()];
    }
    let block = CalibrationBlock::new(&refs(&sky.matches(&camera)), None, &camera, None, 0.03, 3.0).unwrap();
    assert_eq!((block.frames, block.rejected, block.outliers), (2, 1, 40));
}

#[test]
fn stars_left_out_are_foretold_as_by_a_fit_without_them() {
    let (model, camera) = cameras().remove(1);
    let mut sky = observe(camera, 6, 60, 0.1);
    let options = Options { model, held_out: true, ..Options::default() };
    let held_out = sky.fit(&options, &()).unwrap().held_out.unwrap();
    let rms = |lengths: &[f64]| (lengths.iter().map(|l| l * l).sum::<f64>() / lengths.len() as f64).sqrt();
    // The fold of the second frame holds only that frame. Its attitude then comes from four fifths of its
    // stars.
    let (attitude, pixels, stars) = sky.frames.remove(1);
    let without = sky.fit(&Options { model, ..Options::default() }, &()).unwrap();
    let frame = Frame::new(pixels, stars.iter().map(|s| Direction::from(*s)).collect(), None);
    let optics = Optics::from(without.camera);
    let weights = Weights { stars: vec![1.0; 60], metrics: frame.misses(&optics, &attitude).metrics };
    let mut fitted = attitude;
    for _ in 0..10 {
        let equations = frame.linearize(&Parameters::none(), &optics, &fitted, &weights).equations;
        fitted = fitted.rotated(&rotation(&equations).unwrap());
    }
    let expected = rms(&frame.misses(&optics, &fitted).distances);
    let found = rms(&held_out[1]);
    assert!(found > expected && found < 1.1 * expected, "{found} {expected}");
    // With two frames, stars are held out rather than frames.
    sky.frames.truncate(2);
    let fit = sky.fit(&options, &()).unwrap();
    let all: Vec<f64> = fit.held_out.unwrap().concat();
    assert!(all.iter().all(|l| l.is_finite()) && rms(&all) > fit.rmse_after_px);
}

#[test]
fn a_warm_start_ends_at_the_same_place() {
    let (model, camera) = cameras().remove(1);
    let sky = observe(camera, 6, 100, 0.05);
    let cold = sky.calibrate(model, &()).unwrap();
    let lower = sky.calibrate(Model::Polynomial { order: 3 }, &()).unwrap();
    let matches = sky.matches(&lower.camera);
    let fit =
        |model, start| calibrate(&refs(&matches), None, &Options { model, ..Options::default() }, start, &());
    let warm = fit(model, Some(&lower)).unwrap();
    assert!((warm.rmse_after_px / cold.rmse_after_px - 1.0).abs() < 1e-6);
    assert!(warm.iterations < cold.iterations);
    assert!(fit(Model::Radial, Some(&lower)).is_err());
}
