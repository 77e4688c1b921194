//! Solving synthetic fields of Hipparcos stars whose truth is known.

mod common;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use boresight::Monitor;
use boresight::calibrate::Form;
use boresight::catalog::Catalog;
use boresight::database::{Database, Parameters};
use boresight::geometry::apparent::{ApparentPlace, aberrate};
use boresight::geometry::attitude::Attitude;
use boresight::geometry::camera::CameraModel;
use boresight::geometry::distortion::{Distortion, RadialDistortion};
use boresight::geometry::sphere::{ARCSEC, Direction, separation};
use boresight::solve::{
    Expected, Hint, LensModel, Outcome, Solution, SolveOptions, Status, best_rejected, solve, solve_many,
};
use nalgebra::Vector3;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use common::Random;

const IMAGE_SIZE: [u32; 2] = [1024, 1024];

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    let parameters = Parameters {
        max_fov: 16_f64.to_radians(),
        min_fov: Some(8_f64.to_radians()),
        ..Parameters::default()
    };
    Database::generate(&Catalog::hipparcos(), &parameters, &())
        .expect("the embedded catalogue makes a database")
});

/// A place anywhere in the image.
fn pixel(random: &mut Random) -> [f64; 2] {
    [1024.0 * (random.uniform() - 0.5), 1024.0 * (random.uniform() - 0.5)]
}

struct Scene {
    camera: CameraModel,
    attitude: Attitude,
    pixels: Vec<[f64; 2]>,
}

/// How a field differs from a perfect one.
#[derive(Clone, Copy)]
struct Flaws {
    stars: usize,
    noise_px: f64,
    missing: f64,
    stray: f64,
    parity_flip: bool,
    beta: Option<Vector3<f64>>,
}

const CLEAN: Flaws =
    Flaws { stars: 30, noise_px: 0.3, missing: 0.0, stray: 0.0, parity_flip: false, beta: None };

fn scene(random: &mut Random, fov_deg: f64, flaws: Flaws) -> Scene {
    let camera =
        CameraModel::from_fov(fov_deg.to_radians(), IMAGE_SIZE).unwrap().with_parity_flip(flaws.parity_flip);
    let attitude = random.attitude();
    let mut pixels = Vec::new();
    // The database lists its stars brightest first.
    for v in DATABASE.directions() {
        let v = Direction::from(*v);
        let v = flaws.beta.map_or(v, |beta| aberrate(&v, &beta));
        let Some([x, y]) = camera.direction_to_pixel(&attitude.to_camera(&v)) else { continue };
        if !camera.contains([x, y]) || pixels.len() >= flaws.stars || random.uniform() < flaws.missing {
            continue;
        }
        pixels.push([x + flaws.noise_px * random.normal(), y + flaws.noise_px * random.normal()]);
        if random.uniform() < flaws.stray {
            pixels.push(pixel(random));
        }
    }
    Scene { camera, attitude, pixels }
}

fn options(fov_deg: f64) -> SolveOptions {
    let camera = CameraModel::from_fov(1.0, IMAGE_SIZE).unwrap();
    SolveOptions { fov_estimate: Some(fov_deg.to_radians()), timeout: None, ..SolveOptions::new(camera) }
}

fn pointing_error_px(scene: &Scene, outcome: &Outcome) -> f64 {
    let solution = outcome.solution.as_ref().expect("solved");
    let truth = scene.attitude.to_sky(&scene.camera.pixel_to_direction([0.0, 0.0]));
    separation(&truth, &solution.matches.pixel_to_sky([0.0, 0.0])) * scene.camera.focal_length_px()
}

#[test]
fn all_kinds_of_fields_solve() {
    let cases = [
        ("clean", CLEAN),
        ("parity_flip", Flaws { parity_flip: true, ..CLEAN }),
        ("noisy", Flaws { noise_px: 0.7, ..CLEAN }),
        ("a fifth missing", Flaws { missing: 0.2, ..CLEAN }),
        ("a quarter stray", Flaws { stray: 0.33, ..CLEAN }),
        ("many stars", Flaws { stars: 400, ..CLEAN }),
    ];
    let mut random = Random(1);
    for (name, flaws) in cases {
        for _ in 0..20 {
            let scene = scene(&mut random, 12.0, flaws);
            let outcome = solve(&DATABASE, &scene.pixels, &options(11.5), &()).unwrap();
            assert_eq!(outcome.status, Status::Solved, "{name}: {outcome:?}");
            assert!(pointing_error_px(&scene, &outcome) < 1.0, "{name}");
            let solution = outcome.solution.unwrap();
            assert_eq!(solution.matches.camera.parity_flip(), flaws.parity_flip, "{name}");
            assert!((solution.matches.camera.fov().to_degrees() - 12.0).abs() < 0.02, "{name}");
        }
    }
}

#[test]
fn five_stars_suffice_for_most_fields() {
    const FIELDS: usize = 200;
    let mut random = Random(4);
    let precise = SolveOptions { fov_max_error: Some(0.1_f64.to_radians()), ..options(12.0) };
    let solved = (0..FIELDS).filter(|_| {
        let scene = scene(&mut random, 12.0, Flaws { stars: 5, ..CLEAN });
        let outcome = solve(&DATABASE, &scene.pixels, &precise, &()).unwrap();
        outcome.solution.is_some() && pointing_error_px(&scene, &outcome) < 10.0
    });
    let solved = solved.count();
    assert!(solved > FIELDS * 8 / 10, "{solved} of {FIELDS}");
}

#[test]
fn the_field_of_view_may_be_unknown() {
    let mut random = Random(2);
    for fov in [8.5, 11.0, 15.5] {
        let scene = scene(&mut random, fov, CLEAN);
        let outcome =
            solve(&DATABASE, &scene.pixels, &SolveOptions { fov_estimate: None, ..options(1.0) }, &())
                .unwrap();
        assert!(pointing_error_px(&scene, &outcome) < 1.0);
    }
}

#[test]
fn random_fields_do_not_solve() {
    let mut random = Random(3);
    for _ in 0..40 {
        let pixels: Vec<_> = (0..40).map(|_| pixel(&mut random)).collect();
        let outcome = solve(&DATABASE, &pixels, &options(12.0), &()).unwrap();
        assert_eq!(outcome.status, Status::NoMatch);
    }
}

#[test]
fn chance_solves_no_more_often_than_asked() {
    let mut random = Random(8);
    // Six are expected at most; twelve happen in two of a hundred runs.
    for (stars, fields, threshold) in [(5, 6000, 0.001), (6, 600, 0.01), (25, 60, 0.1), (200, 60, 0.1)] {
        let lenient =
            SolveOptions { match_threshold: threshold, max_patterns_checked: 4000, ..options(12.0) };
        let solved = (0..fields).filter(|_| {
            let pixels: Vec<_> = (0..stars).map(|_| pixel(&mut random)).collect();
            solve(&DATABASE, &pixels, &lenient, &()).unwrap().solution.is_some()
        });
        let solved = solved.count();
        assert!(solved < 12, "{stars} stars: {solved} of {fields}");
    }
}

#[test]
fn places_listed_twice_are_no_evidence() {
    let mut random = Random(31);
    for (places, times, apart) in [(10, 2, 0.0), (15, 2, 0.1), (20, 3, 0.5), (12, 4, 1.0), (20, 3, 2.0)] {
        for _ in 0..30 {
            let mut pixels = Vec::new();
            for _ in 0..places {
                let [x, y] = pixel(&mut random);
                pixels.extend((0..times).map(|_| [x + apart * random.normal(), y + apart * random.normal()]));
            }
            let outcome = solve(&DATABASE, &pixels, &options(12.0), &()).unwrap();
            assert!(outcome.solution.is_none(), "{places} places, {times} times within {apart} px");
        }
    }
}

#[test]
fn repetitions_leave_the_solution_as_it_is() {
    let mut random = Random(32);
    let scene = scene(&mut random, 12.0, CLEAN);
    let single = solve(&DATABASE, &scene.pixels, &options(12.0), &()).unwrap();
    let twice: Vec<_> = scene.pixels.iter().chain(&scene.pixels).copied().collect();
    let repeated = solve(&DATABASE, &twice, &options(12.0), &()).unwrap();
    assert_eq!(repeated.best_log_ratio, single.best_log_ratio);
    let [single, repeated] = [single, repeated].map(|outcome| outcome.solution.unwrap());
    assert_eq!(repeated.matches.detections, single.matches.detections);
    assert_eq!(repeated.matches.ids, single.matches.ids);
}

#[test]
fn false_detections_are_no_matches() {
    let mut random = Random(33);
    for stray in [400, 1000] {
        for _ in 0..5 {
            let mut scene = scene(&mut random, 12.0, Flaws { stars: 50, ..CLEAN });
            let stars = scene.pixels.len();
            for _ in 0..stray {
                // Any brightness but that of the first: the solver wants some stars to begin with.
                let at = 20 + (random.uniform() * (scene.pixels.len() - 20) as f64) as usize;
                scene.pixels.insert(at, [f64::NAN; 2]);
            }
            let real: Vec<bool> = scene.pixels.iter().map(|p| p[0].is_finite()).collect();
            for place in scene.pixels.iter_mut().filter(|p| p[0].is_nan()) {
                *place = pixel(&mut random);
            }
            let solution =
                solve(&DATABASE, &scene.pixels, &options(12.0), &()).unwrap().solution.expect("solved");
            let right = solution.matches.detections.iter().filter(|&&i| real[i]).count();
            let wrong = solution.matches.len() - right;
            assert!(right > stars * 4 / 5 && wrong <= 3, "{right} of {stars} and {wrong} of {stray}");
            assert!(solution.matches.probability.iter().all(|p| (0.7..=1.0).contains(p)));
            let squares: f64 = solution.matches.residuals().iter().map(|r| r * r).sum();
            let rms = (squares / solution.matches.len() as f64).sqrt() * scene.camera.focal_length_px();
            assert!(rms < 0.6, "{rms} px");
        }
    }
}

#[test]
fn foreground_is_passed_over() {
    let mut random = Random(34);
    let [left, strip, everywhere] = [0, 1, 2];
    for kind in [left, strip, everywhere] {
        for (bright, false_ones) in if kind == everywhere { [(0, 50), (3, 80)] } else { [(0, 100), (3, 150)] }
        {
            let mut scene = scene(&mut random, 12.0, Flaws { stars: 80, ..CLEAN });
            let foreground = (0..false_ones).map(|_| {
                let [x, y] = pixel(&mut random);
                if kind == left {
                    [0.4 * x - 300.0, y]
                } else if kind == strip {
                    [0.1 * x + 60.0, y]
                } else {
                    [x, y]
                }
            });
            let foreground: Vec<_> = foreground.collect();
            scene.pixels.splice(bright..bright, foreground);
            let outcome = solve(&DATABASE, &scene.pixels, &options(12.0), &()).unwrap();
            assert_eq!(outcome.status, Status::Solved, "{kind}, after {bright}: {false_ones}");
            assert!(pointing_error_px(&scene, &outcome) < 1.0);
        }
    }
}

#[test]
fn aberration_is_taken_out() {
    let beta = Vector3::new(6e-5, -5e-5, 6e-5);
    let mut random = Random(4);
    let scene = scene(&mut random, 12.0, Flaws { noise_px: 0.0, beta: Some(beta), ..CLEAN });
    let moving = SolveOptions { place: ApparentPlace::moving(beta), ..options(12.0) };
    let solution = solve(&DATABASE, &scene.pixels, &moving, &()).unwrap().solution.unwrap();
    for (pixel, star) in solution.matches.detections.iter().zip(&solution.matches.directions) {
        let seen = solution.matches.pixel_to_sky(scene.pixels[*pixel]);
        assert!(separation(&seen, &Direction::from(*star)) < 1e-3 * ARCSEC);
    }
}

/// Frames of few stars that solve near their attitude or, at a looser threshold, near their direction alone.
fn solved_near(stars: usize, expected: impl Fn(&Scene, Vector3<f64>) -> Expected) -> usize {
    let mut random = Random(5);
    let mut solved = 0;
    for _ in 0..20 {
        let scene = scene(&mut random, 12.0, Flaws { stars, noise_px: 0.2, ..CLEAN });
        let nudge = Vector3::new(random.normal(), random.normal(), random.normal()) * 0.1_f64.to_radians();
        let hint =
            Hint { expected: expected(&scene, nudge), uncertainty: 0.3_f64.to_radians(), strict: true };
        let hinted =
            SolveOptions { hint: Some(hint), fov_max_error: Some(0.1_f64.to_radians()), ..options(12.0) };
        let outcome = solve(&DATABASE, &scene.pixels, &hinted, &()).unwrap();
        if outcome.status == Status::Solved {
            assert!(pointing_error_px(&scene, &outcome) < 1.5);
            solved += 1;
        }
    }
    solved
}

#[test]
fn three_stars_suffice_near_an_attitude() {
    let solved = solved_near(3, |scene, nudge| Expected::Attitude(scene.attitude.rotated(&nudge)));
    assert!(solved >= 16, "{solved} of 20");
}

#[test]
fn four_stars_suffice_near_a_direction() {
    let expected = |scene: &Scene, nudge| Expected::Direction(scene.attitude.rotated(&nudge).boresight());
    let solved = solved_near(4, expected);
    assert!(solved >= 18, "{solved} of 20");
}

#[test]
fn a_wrong_hint_finds_nothing() {
    let mut random = Random(15);
    for _ in 0..20 {
        let scene = scene(&mut random, 12.0, CLEAN);
        for expected in
            [Expected::Attitude(random.attitude()), Expected::Direction(random.attitude().boresight())]
        {
            let hint = Hint { expected, uncertainty: 1_f64.to_radians(), strict: true };
            let hinted = SolveOptions { hint: Some(hint), ..options(12.0) };
            assert!(solve(&DATABASE, &scene.pixels, &hinted, &()).unwrap().solution.is_none());
            let hinted = SolveOptions { hint: Some(Hint { strict: false, ..hint }), ..options(12.0) };
            assert!(solve(&DATABASE, &scene.pixels, &hinted, &()).unwrap().solution.is_some());
        }
    }
}

#[test]
fn distortion_is_fitted_where_there_is_some() {
    let mut random = Random(16);
    for k1 in [0.0, 0.014] {
        for _ in 0..5 {
            let mut scene = scene(&mut random, 12.0, Flaws { stars: 60, ..CLEAN });
            let lens = RadialDistortion::new([k1, 0.0, 0.0, 0.0], [0.0; 2], 512.0).unwrap();
            let distorted = scene.camera.clone().with_distortion(Distortion::Radial(lens));
            for pixel in &mut scene.pixels {
                let seen = scene.camera.pixel_to_direction(*pixel);
                *pixel = distorted.direction_to_pixel(&seen).unwrap();
            }
            let outcome = solve(&DATABASE, &scene.pixels, &options(12.0), &()).unwrap();
            let solution = outcome.solution.unwrap();
            assert_eq!(*solution.matches.camera.distortion() == Distortion::None, k1 == 0.0);
            assert_eq!(solution.covariance[4][4] > 0.0, k1 != 0.0);
            if let Distortion::Radial(found) = solution.matches.camera.distortion() {
                let error = solution.covariance[4][4].sqrt();
                assert!((found.k()[0] - k1).abs() < 5.0 * error, "{:?} +- {error}", found.k());
            }
            let corner = scene.attitude.to_sky(&distorted.pixel_to_direction([480.0, -480.0]));
            let miss = separation(&corner, &solution.matches.pixel_to_sky([480.0, -480.0]));
            assert!(miss * distorted.focal_length_px() < 1.0);
        }
    }
}

#[test]
fn work_is_bounded() {
    let mut random = Random(6);
    let pixels: Vec<_> = (0..30).map(|_| pixel(&mut random)).collect();
    let little = SolveOptions { max_patterns_checked: 10, ..options(12.0) };
    let outcome = solve(&DATABASE, &pixels, &little, &()).unwrap();
    assert_eq!((outcome.status, outcome.patterns_checked), (Status::WorkBound, 10));
    let outcome = solve(&DATABASE, &pixels[..3], &options(12.0), &()).unwrap();
    assert_eq!(outcome.status, Status::TooFew);
}

/// Counts how often it is asked whether to stop.
#[derive(Default)]
struct Asked(AtomicU64);

impl Monitor for Asked {
    fn cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[test]
fn time_is_looked_at_among_the_candidates_of_one_pattern() {
    let mut random = Random(6);
    let pixels: Vec<_> = (0..30).map(|_| pixel(&mut random)).collect();
    let wide = SolveOptions {
        match_max_error: Some(0.05),
        max_patterns_checked: 20,
        timeout: None,
        ..options(12.0)
    };
    let asked = Asked::default();
    let outcome = solve(&DATABASE, &pixels, &wide, &asked).unwrap();
    assert_eq!((outcome.status, outcome.patterns_checked), (Status::WorkBound, 20));
    let looks = asked.0.into_inner();
    assert!(
        outcome.candidates_checked > 10_000 && looks > outcome.candidates_checked / 100,
        "{outcome:?} {looks}"
    );
}

#[test]
fn bad_arguments_are_refused() {
    let pixels = [[0.0, 0.0]; 5];
    for fov in [0.0, -1.0, 180.0, f64::NAN] {
        assert!(solve(&DATABASE, &pixels, &options(fov), &()).is_err());
    }
    assert!(solve(&DATABASE, &[[f64::NAN, 0.0]; 5], &options(12.0), &()).is_err());
    for wrong in [
        SolveOptions { match_radius: 0.0, ..options(12.0) },
        SolveOptions { match_threshold: f64::NAN, ..options(12.0) },
        SolveOptions { place: ApparentPlace::moving(Vector3::repeat(1.0)), ..options(12.0) },
    ] {
        assert!(solve(&DATABASE, &pixels, &wrong, &()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn nothing_panics(
        pixels in prop::collection::vec([-1e4..1e4, -1e4..1e4], 0..20),
        fov in 0.01..179.0,
        radius in 1e-4..1.0,
        degenerate: bool,
    ) {
        let pixels: Vec<[f64; 2]> = if degenerate { pixels.iter().map(|p| [p[0], 0.0]).collect() } else { pixels };
        let options = SolveOptions { match_radius: radius, max_patterns_checked: 2000, ..options(fov) };
        let _ = solve(&DATABASE, &pixels, &options, &()).unwrap();
    }
}

/// All frames at once.
fn solve_all(frames: &[Vec<[f64; 2]>]) -> boresight::Result<Vec<Outcome>> {
    let pixels: Vec<&[[f64; 2]]> = frames.iter().map(Vec::as_slice).collect();
    solve_many(&DATABASE, &pixels, &vec![options(12.0); frames.len()], &())
}

#[test]
fn many_frames_are_solved_as_one_by_one() {
    let mut random = Random(21);
    let mut frames: Vec<Vec<[f64; 2]>> =
        (0..12).map(|_| scene(&mut random, 12.0, Flaws { stray: 0.2, ..CLEAN }).pixels).collect();
    frames[3].truncate(2);
    let alone: Vec<Outcome> =
        frames.iter().map(|pixels| solve(&DATABASE, pixels, &options(12.0), &()).unwrap()).collect();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let outcomes = pool.install(|| solve_all(&frames)).unwrap();
        for (outcome, alone) in outcomes.iter().zip(&alone) {
            let parts = |o: &Outcome| {
                let solution = o.solution.as_ref();
                (
                    o.status,
                    o.patterns_checked,
                    solution.map(|s| (s.matches.attitude.quaternion(), s.matches.residuals())),
                )
            };
            assert_eq!(parts(outcome), parts(alone));
        }
    }
    frames[5][1][0] = f64::NAN;
    frames[7][0][1] = f64::INFINITY;
    let error = solve_all(&frames).unwrap_err().to_string();
    assert!(error.contains("frame 5"), "{error}");
}

#[test]
fn the_best_rejected_candidate_is_told() {
    let mut random = Random(22);
    let scene = scene(&mut random, 12.0, Flaws { stars: 14, ..CLEAN });
    // A threshold that nothing passes.
    let options = SolveOptions { match_threshold: 1e-300, max_patterns_checked: 2000, ..options(12.0) };
    let outcome = solve(&DATABASE, &scene.pixels, &options, &()).unwrap();
    assert_eq!(outcome.solution.as_ref().map(|s| s.probability), None);
    let rejected = best_rejected(&DATABASE, &scene.pixels, &options, &outcome, &()).unwrap().unwrap();
    assert_eq!(rejected.log_ratio, outcome.best_log_ratio);
    assert!(rejected.probability > 1e-300 && rejected.probability < 1e-5);
    let outcome = Outcome { solution: rejected.solution, ..outcome };
    assert!(pointing_error_px(&scene, &outcome) < 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Repeated detections come after all others, as they do in a list of falling brightness; threads are those of a pool.
    #[test]
    fn repetitions_and_threads_change_nothing(seed in 0_u64..1000, repeated in 1_usize..20, threads in 1_usize..4) {
        let mut random = Random(seed);
        let scene = scene(&mut random, 12.0, CLEAN);
        let lens = LensModel::Fitted(Form::Auto, None);
        let options = SolveOptions { lens, ..options(12.0) };
        let alone = solve(&DATABASE, &scene.pixels, &options, &()).unwrap().solution.unwrap();
        let mut pixels = scene.pixels.clone();
        pixels.extend(scene.pixels.iter().take(repeated).map(|[x, y]| [x + 1e-9, *y]));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let frames: Vec<&[[f64; 2]]> = vec![&scene.pixels, &pixels];
        let outcomes = pool.install(|| solve_many(&DATABASE, &frames, &[options.clone(), options.clone()], &()));
        let solutions: Vec<_> = outcomes.unwrap().into_iter().map(|o| o.solution.unwrap()).collect();
        // Brightness is unknown, and no NaN is equal to another.
        let found = |s: &Solution| {
            let m = &s.matches;
            (m.detections.clone(), m.ids.clone(), m.probability.clone(), m.camera.clone(), m.attitude)
        };
        prop_assert_eq!(found(&solutions[0]), found(&alone));
        let turned = solutions[1].matches.attitude.angle_to(&alone.matches.attitude);
        prop_assert!(turned * alone.matches.camera.focal_length_px() < 0.2, "{}", turned);
    }
}
