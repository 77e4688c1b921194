//! Solving synthetic all-sky frames of every fisheye projection.

mod common;

use std::sync::LazyLock;

use boresight::catalog::Catalog;
use boresight::database::{Database, Parameters};
use boresight::geometry::attitude::Attitude;
use boresight::geometry::camera::CameraModel;
use boresight::geometry::projection::Projection;
use boresight::geometry::sphere::Direction;
use boresight::solve::{Expected, Hint, Outcome, SolveOptions, Status, solve};
use proptest::prelude::*;

use common::Random;

const IMAGE_SIZE: [u32; 2] = [1500, 1500];
/// Radius of the circle that the lens images, px.
const CIRCLE: f64 = 750.0;
const STARS: usize = 300;

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    let parameters = Parameters {
        max_fov: 40_f64.to_radians(),
        min_fov: Some(25_f64.to_radians()),
        lattice_field_oversampling: 30,
        ..Parameters::default()
    };
    Database::generate(&Catalog::hipparcos(), &parameters, &())
        .expect("the embedded catalogue makes a database")
});

/// A place anywhere in the lens's circle.
fn pixel(random: &mut Random) -> [f64; 2] {
    let (radius, angle) = (CIRCLE * random.uniform().sqrt(), std::f64::consts::TAU * random.uniform());
    [radius * angle.cos(), radius * angle.sin()]
}

/// A hemisphere's bright stars with half a pixel of noise, a fifth missing and a quarter stray.
fn frame(random: &mut Random, camera: &CameraModel, attitude: &Attitude) -> Vec<[f64; 2]> {
    let mut pixels = Vec::new();
    for v in DATABASE.directions() {
        let seen = attitude.to_camera(&Direction::from(*v));
        let Some([x, y]) = camera.direction_to_pixel(&seen) else { continue };
        if seen.z < 0.0 || random.uniform() < 0.2 {
            continue;
        }
        pixels.push([x + 0.5 * random.normal(), y + 0.5 * random.normal()]);
        if random.uniform() < 0.33 {
            pixels.push(pixel(random));
        }
        if pixels.len() >= STARS {
            break;
        }
    }
    pixels
}

fn fisheye(projection: Projection) -> CameraModel {
    CameraModel::projected_from_fov(projection, std::f64::consts::PI, IMAGE_SIZE).unwrap()
}

fn options(camera: &CameraModel) -> SolveOptions {
    SolveOptions { fov_estimate: Some(camera.fov()), timeout: None, ..SolveOptions::new(camera.clone()) }
}

/// Whether attitude and focal length are right to a fraction of a pixel.
fn is_right(outcome: &Outcome, attitude: &Attitude, camera: &CameraModel) -> bool {
    outcome.solution.as_ref().is_some_and(|solution| {
        let scale = solution.matches.camera.focal_length_px() / camera.focal_length_px();
        solution.matches.attitude.angle_to(attitude) * camera.focal_length_px() < 0.5
            && (scale - 1.0).abs() < 1e-3
            && solution.matches.camera.parity_flip() == camera.parity_flip()
            && solution.matches.camera.projection() == camera.projection()
    })
}

#[test]
fn hemispheres_solve() {
    let mut random = Random(1);
    for projection in Projection::ALL.into_iter().skip(1) {
        for number in 0..20 {
            let camera = fisheye(projection).with_parity_flip(number % 2 == 1);
            let attitude = random.attitude();
            let pixels = frame(&mut random, &camera, &attitude);
            let outcome = solve(&DATABASE, &pixels, &options(&camera), &()).unwrap();
            assert!(is_right(&outcome, &attitude, &camera), "{projection:?} {number}: {outcome:?}");
        }
    }
}

#[test]
fn a_focal_length_known_to_a_fifth_is_enough() {
    let mut random = Random(2);
    for projection in Projection::ALL.into_iter().skip(1) {
        for factor in [0.83, 1.2] {
            let camera = fisheye(projection);
            let camera = camera.clone().with_focal_length(camera.focal_length_px() * 0.9);
            let attitude = random.attitude();
            let pixels = frame(&mut random, &camera, &attitude);
            let given = camera.clone().with_focal_length(camera.focal_length_px() * factor);
            let outcome = solve(&DATABASE, &pixels, &options(&given), &()).unwrap();
            assert!(is_right(&outcome, &attitude, &camera), "{projection:?} {factor}: {outcome:?}");
        }
    }
}

#[test]
fn a_hint_makes_it_quicker() {
    let mut random = Random(3);
    for projection in Projection::ALL.into_iter().skip(1) {
        let camera = fisheye(projection);
        let attitude = random.attitude();
        let pixels = frame(&mut random, &camera, &attitude);
        let near = attitude.rotated(&nalgebra::Vector3::new(0.01, -0.01, 0.01));
        let hint = Hint { expected: Expected::Attitude(near), uncertainty: 0.02, strict: true };
        let hinted = SolveOptions {
            hint: Some(hint),
            parity_known: true,
            fov_max_error: Some(0.05 * camera.fov()),
            ..options(&camera)
        };
        let outcome = solve(&DATABASE, &pixels, &hinted, &()).unwrap();
        assert!(is_right(&outcome, &attitude, &camera), "{projection:?}: {outcome:?}");
    }
}

#[test]
fn chance_does_not_solve() {
    let mut random = Random(4);
    for projection in Projection::ALL.into_iter().skip(1) {
        let pixels: Vec<_> = (0..60).map(|_| pixel(&mut random)).collect();
        let bounded = SolveOptions { max_patterns_checked: 100_000, ..options(&fisheye(projection)) };
        let outcome = solve(&DATABASE, &pixels, &bounded, &()).unwrap();
        assert_ne!(outcome.status, Status::Solved, "{projection:?}");
        assert!(outcome.candidates_checked > 0);
    }
}

#[test]
fn senseless_fields_of_view_are_refused() {
    let pixels = [[0.0, 0.0]; 5];
    for projection in Projection::ALL.into_iter().skip(1) {
        for fov in [0.0, -1.0, 7.0, f64::NAN] {
            let options = SolveOptions { fov_estimate: Some(fov), ..options(&fisheye(projection)) };
            assert!(solve(&DATABASE, &pixels, &options, &()).is_err(), "{projection:?} {fov}");
        }
    }
    // Wider than the whole circle: the focal length is the camera's.
    let wide = fisheye(Projection::Orthographic).with_focal_length(100.0);
    assert!(solve(&DATABASE, &pixels, &options(&wide), &()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn nothing_panics(
        pixels in prop::collection::vec([-1e4..1e4, -1e4..1e4], 0..20),
        number in 1_usize..5,
        focal_length in 1.0..1e4,
        error in 1e-3..10.0,
        radius in 1e-4..1.0,
        small: bool,
        hinted: bool,
    ) {
        let pixels: Vec<[f64; 2]> =
            if small { pixels.iter().map(|p| [p[0] / 20.0, p[1] / 20.0]).collect() } else { pixels };
        let camera = fisheye(Projection::ALL[number]).with_focal_length(focal_length);
        let attitude = Attitude::from_pointing(1.0, 0.5, 0.1);
        let options = SolveOptions {
            match_radius: radius,
            fov_max_error: Some(error),
            max_patterns_checked: 2000,
            hint: hinted.then_some(Hint { expected: Expected::Attitude(attitude), uncertainty: 0.5, strict: false }),
            ..options(&camera)
        };
        let _ = solve(&DATABASE, &pixels, &options, &()).unwrap();
    }
}
