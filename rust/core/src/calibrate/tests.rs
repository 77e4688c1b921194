use super::*;
use crate::sphere::ARCSEC;

/// Repeatable numbers in -1..1 (a linear congruential generator).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

struct Sky {
    camera: CameraModel,
    frames: Vec<(Attitude, Vec<Point>, Vec<[f64; 3]>)>,
}

/// Frames of a camera: stars all over the detector, their positions off by up to `noise` pixels.
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
    fn calibrate(&self, model: Model, monitor: &dyn Monitor) -> Result<Calibration> {
        let given = CameraModel::new(self.camera.focal_length_px() * 1.001, self.camera.image_size())?
            .with_mirrored(self.camera.mirrored())
            .with_projection(self.camera.projection());
        let matches: Vec<_> = self
            .frames
            .iter()
            .map(|(attitude, pixels, sky)| FrameMatches {
                pixels,
                sky,
                covariance: None,
                camera: &given,
                attitude: *attitude,
                solved_velocity: None,
                velocity: None,
            })
            .collect();
        calibrate(&matches, &Options { model, ..Options::default() }, monitor)
    }

    /// Largest angle between the true and the fitted direction of any star.
    fn error(&self, fit: &Calibration) -> f64 {
        let stars = self.frames.iter().zip(&fit.frames).flat_map(|((_, pixels, sky), frame)| {
            pixels.iter().zip(sky).map(|(&pixel, star)| {
                let seen = frame.attitude.to_sky(&fit.camera.pixel_to_direction(pixel));
                crate::sphere::separation(&seen, &Direction::from(*star))
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
            pinhole.clone().with_mirrored(true).with_distortion(Distortion::Polynomial(polynomial)),
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
        assert!(fit.converged && fit.n_outliers == 0 && fit.frozen.is_empty(), "{model:?}: {fit:?}");
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
            .with_mirrored(true)
            .with_distortion(Distortion::Radial(radial));
        let mut sky = observe(camera, 5, 150, 0.0);
        for (_, pixels, stars) in &mut sky.frames {
            // A lens has a circle.
            let inside = |p: &Point| p[0].hypot(p[1]) < 480.0;
            *stars = pixels.iter().zip(stars.iter()).filter(|(p, _)| inside(p)).map(|(_, s)| *s).collect();
            pixels.retain(inside);
        }
        let fit = sky.calibrate(Model::Radial, &()).unwrap();
        assert_eq!(fit.camera.projection(), projection);
        assert!(fit.converged && fit.n_outliers == 0, "{projection:?}: {fit:?}");
        assert!(sky.error(&fit) < 1e-2 * ARCSEC, "{projection:?}: {}", sky.error(&fit) / ARCSEC);
    }
}

#[test]
fn noise_is_measured() {
    let (model, camera) = cameras().remove(1);
    let sky = observe(camera, 6, 150, 0.1);
    let fit = sky.calibrate(model, &()).unwrap();
    // Uniform in ±0.1: standard deviation 0.0577, and no tail to correct for.
    assert!((fit.noise / 0.0577 - 1.0).abs() < 0.08, "{}", fit.noise);
    assert!(fit.rmse_after_px < 0.085 && fit.rmse_before_px > 10.0 * fit.rmse_after_px);
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
    struct Stop;
    impl Monitor for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let (model, camera) = cameras().remove(0);
    let outcome = observe(camera, 2, 20, 0.1).calibrate(model, &Stop);
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

#[test]
fn a_covariance_is_whitened() {
    // A covariance C = M Mᵀ makes noise M n; whitening gives unit variance back.
    let w = whiten(&[4.0, 1.0, 2.0]).unwrap();
    let product = [
        w[0] * w[0] * 4.0,
        w[0] * (w[1] * 4.0 + w[2] * 1.0),
        w[1] * (w[1] * 4.0 + w[2] * 1.0) + w[2] * (w[1] * 1.0 + w[2] * 2.0),
    ];
    assert!((product[0] - 1.0).abs() < 1e-14 && product[1].abs() < 1e-14 && (product[2] - 1.0).abs() < 1e-14);
    for bad in [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, f64::NAN, 1.0], [f64::INFINITY, 0.0, 1.0]] {
        assert!(whiten(&bad).is_err());
    }
}
