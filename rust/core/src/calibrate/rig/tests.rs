use nalgebra::DVector;

use super::super::fit::{JointFit, Weights};
use super::super::optics::Optics;
use super::super::tests::Random;
use super::*;
use crate::calibrate::Model;
use crate::geometry::attitude::Attitude;
use crate::geometry::distortion::{Distortion, PolynomialDistortion, RadialDistortion};
use crate::geometry::sphere::{ARCSEC, Direction, separation};
use crate::lsq::{Grouped, Problem};

const SIZE: [u32; 2] = [500, 400];

/// Three detectors, the last upside down, behind a lens.
fn rig() -> Rig {
    let others = [Placement::new([530.0, 4.0], 0.003), Placement::new([-6.0, 420.0], 3.13)];
    let (center, _) = bounds([Placement::default(), others[0], others[1]].map(|place| (place, SIZE)));
    Rig::new(others, center)
}

fn polynomial() -> CameraModel {
    let mut random = Random(3);
    let mut terms = |first: usize| (0..10).map(|k| if k < first { 0.0 } else { random.next() }).collect();
    let distortion = PolynomialDistortion::new(3, 500.0, terms(3), terms(1)).unwrap();
    let camera = CameraModel::new(3000.0, [1030, 820]).unwrap().with_parity_flip(true);
    camera.with_distortion(Distortion::Polynomial(distortion))
}

fn radial() -> CameraModel {
    let distortion = RadialDistortion::new([-0.01, 0.001, 0.0, 0.0], [0.0; 2], 500.0).unwrap();
    let camera = CameraModel::new(3000.0, [1030, 820]).unwrap().with_optical_center([20.0, -30.0]);
    camera.with_distortion(Distortion::Radial(distortion))
}

/// Exposures with stars all over the detectors, with position errors of up to `noise` pixels.
fn expose(lens: &CameraModel, exposures: usize, stars: usize, noise: f64) -> Vec<Vec<Option<MatchedStars>>> {
    let (rig, mut random) = (rig(), Random(11));
    let crude = CameraModel::new(3002.0, SIZE).unwrap().with_parity_flip(lens.parity_flip());
    let mut exposure = || {
        let attitude = Attitude::from_pointing(3.0 * random.next(), random.next(), 3.0 * random.next());
        let mut solve = |detector: usize| {
            let place = rig.in_camera(detector);
            let true_pixels: Vec<Point> =
                (0..stars).map(|_| [250.0 * random.next(), 200.0 * random.next()]).collect();
            let sky = |p: &Point| attitude.to_sky(&lens.pixel_to_direction(place.to_focal_plane(*p)));
            let sky: Vec<Direction> = true_pixels.iter().map(sky).collect();
            let seen: Vec<Direction> = true_pixels.iter().map(|p| crude.pixel_to_direction(*p)).collect();
            let own = Attitude::from_pairs(seen.iter().zip(&sky).map(|(c, s)| (c, s, 1.0)));
            let measured = |[x, y]: Point| [x + noise * random.next(), y + noise * random.next()];
            let pixels = true_pixels.into_iter().map(measured).collect();
            let sky = sky.into_iter().map(Into::into).collect();
            Some(MatchedStars::new(pixels, sky, crude.clone(), own.unwrap()))
        };
        (0..3).map(&mut solve).collect()
    };
    (0..exposures).map(|_| exposure()).collect()
}

fn exposures(solved: &[Vec<Option<MatchedStars>>]) -> Vec<Exposure<'_>> {
    solved.iter().map(|detectors| detectors.iter().map(Option::as_ref).collect()).collect()
}

/// Largest angle between the true and the fitted direction of any star.
fn error(solved: &[Vec<Option<MatchedStars>>], fit: &CalibrationResult) -> f64 {
    let mut largest = 0.0_f64;
    for (detectors, frame) in solved.iter().zip(&fit.frames) {
        for (detector, own) in detectors.iter().enumerate().filter_map(|(d, own)| Some((d, own.as_ref()?))) {
            let place = fit.rig.in_camera(detector);
            for (pixel, star) in own.pixels.iter().zip(&own.directions) {
                let seen = fit.camera.pixel_to_direction(place.to_focal_plane(*pixel));
                largest = largest.max(separation(&frame.attitude.to_sky(&seen), &Direction::from(*star)));
            }
        }
    }
    largest
}

#[test]
fn exact_positions_give_the_rig_back() {
    for (lens, model) in [(polynomial(), Model::Polynomial { order: 3 }), (radial(), Model::Radial)] {
        let mut solved = expose(&lens, 5, 80, 0.0);
        // The last detector shares no exposure with the reference, but shares one with the other detector.
        for (k, exposure) in solved.iter_mut().enumerate() {
            exposure[if k < 2 { 0 } else { 2 }] = None;
        }
        let options = Options { model, ..Options::default() };
        let fit = calibrate_rig(&exposures(&solved), None, &options, None, &()).unwrap();
        assert!(fit.converged && fit.num_outliers == 0 && fit.frozen.is_empty(), "{fit:?}");
        assert!(error(&solved, &fit) < 1e-2 * ARCSEC, "{model:?}: {}", error(&solved, &fit) / ARCSEC);
        for (found, truth) in fit.rig.placements().iter().zip(rig().placements()) {
            let apart = [0, 1].map(|k| found.shift()[k] - truth.shift()[k]);
            assert!(apart[0].hypot(apart[1]) < 1e-3, "{model:?}: {apart:?}");
            assert!((found.rotation() - truth.rotation()).sin().abs() < 1e-6, "{model:?}");
        }
        // The middle of the detectors is known to a pixel before the fit.
        let (center, size) = bounds(fit.rig.placements().iter().map(|p| (*p, SIZE)));
        assert!((center[0] - fit.rig.center()[0]).hypot(center[1] - fit.rig.center()[1]) < 1.0);
        assert!(size.iter().zip(fit.camera.image_size()).all(|(a, b)| a.abs_diff(b) <= 2));
    }
}

#[test]
fn derivatives_are_those_of_the_cost() {
    for (lens, model) in [(polynomial(), Model::Polynomial { order: 3 }), (radial(), Model::Radial)] {
        let solved = expose(&lens, 2, 30, 0.5);
        let given = exposures(&solved);
        let given: Vec<Given<'_>> =
            given.iter().map(|e| e.iter().copied().flatten().enumerate().collect()).collect();
        let frames = prepare_exposures(&given, None).unwrap();
        let optics = Optics { camera: lens, rig: rig() };
        let Start { optics: start, attitudes, .. } =
            placed(&given, &frames, &[SIZE; 3], &Options { model, ..Options::default() }, &()).unwrap();
        assert_eq!(start.rig.placements().len(), 3);
        let attitudes: Vec<Attitude> = attitudes.into_iter().flatten().collect();
        let weights: Vec<Weights> = frames
            .iter()
            .zip(&attitudes)
            .map(|(f, a)| Weights { stars: vec![0.7; 90], metrics: f.misses(&optics, a).metrics })
            .collect();
        let parameters = Parameters::of(model).with_detectors(3);
        assert_eq!(parameters.names().len(), parameters.len());
        let fit = JointFit { frames: &frames, weights: &weights, parameters: &parameters };
        let cost = |optics: &Optics| -> f64 {
            attitudes.iter().enumerate().map(|(i, own)| fit.group_cost(i, optics, own)).sum()
        };
        let mut gradient = vec![0.0; parameters.len()];
        for (i, own) in attitudes.iter().enumerate() {
            let group = fit.group_equations(i, &optics, own);
            assert!(group.shared.is_none());
            gradient.iter_mut().zip(group.equations.gradient()).for_each(|(sum, g)| *sum += g);
        }
        for (k, name) in parameters.names().iter().enumerate() {
            let h = if name.ends_with("rad") { 1e-7 } else { 1e-4 };
            let at = |sign: f64| {
                let mut delta = DVector::zeros(parameters.len());
                delta[k] = sign * h;
                cost(&parameters.stepped_optics(&optics, &delta).unwrap())
            };
            let expected = (at(1.0) - at(-1.0)) / (2.0 * h);
            let error = (gradient[k] - expected).abs() / (1.0 + expected.abs());
            assert!(error < 1e-4, "{name}: {} {expected}", gradient[k]);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let solved = expose(&polynomial(), 20, 20, 0.1);
    let options = Options { model: Model::Polynomial { order: 3 }, held_out: true, ..Options::default() };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| calibrate_rig(&exposures(&solved), None, &options, None, &()).unwrap())
    };
    let (one, four) = (run(1), run(4));
    assert_eq!(one.camera, four.camera);
    assert_eq!(one.covariance, four.covariance);
    assert!(one.held_out.unwrap().concat().iter().all(|length| *length < 0.5));
}

#[test]
fn a_start_leads_to_the_same_place() {
    let solved = expose(&polynomial(), 6, 60, 0.05);
    let fit = |order, start: Option<&CalibrationResult>| {
        let options = Options { model: Model::Polynomial { order }, ..Options::default() };
        calibrate_rig(&exposures(&solved), None, &options, start, &()).unwrap()
    };
    let (lower, cold) = (fit(2, None), fit(3, None));
    let warm = fit(3, Some(&lower));
    assert!((warm.rmse_after_px / cold.rmse_after_px - 1.0).abs() < 1e-4);
    assert!(warm.iterations < cold.iterations);
}

#[test]
fn a_detector_apart_is_named() {
    let fit = |solved: &[Vec<Option<MatchedStars>>]| {
        let outcome = calibrate_rig(&exposures(solved), None, &Options::default(), None, &());
        outcome.unwrap_err().to_string()
    };
    let mut solved = expose(&radial(), 4, 60, 0.05);
    for (k, exposure) in solved.iter_mut().enumerate() {
        let apart: &[usize] = if k < 2 { &[2] } else { &[0, 1] };
        for &detector in apart {
            exposure[detector] = None;
        }
    }
    assert!(fit(&solved).contains("detector 2 shares no solved exposure"), "{}", fit(&solved));
    for exposure in &mut solved {
        exposure[1] = None;
    }
    assert!(fit(&solved).contains("detector 1 shares no solved exposure"), "{}", fit(&solved));
    for own in solved.iter_mut().flatten() {
        *own = None;
    }
    assert!(fit(&solved).contains("no solved frame"), "{}", fit(&solved));
}

#[test]
fn equations_name_the_placements_of_the_exposure() {
    let mut solved = expose(&radial(), 1, 10, 0.1);
    solved[0][1] = None;
    let given = [vec![(0, solved[0][0].as_ref().unwrap()), (2, solved[0][2].as_ref().unwrap())]];
    let frames = prepare_exposures(&given, None).unwrap();
    let (optics, attitude) =
        (Optics { camera: radial(), rig: rig() }, solved[0][0].as_ref().unwrap().attitude);
    let weights = [Weights { stars: vec![1.0; 20], metrics: frames[0].misses(&optics, &attitude).metrics }];
    let parameters = Parameters::of(Model::Pinhole).with_detectors(3);
    let fit = JointFit { frames: &frames, weights: &weights, parameters: &parameters };
    let group = fit.group_equations(0, &optics, &attitude);
    assert_eq!(group.shared, Some(vec![0, 4, 5, 6]));
    let state = super::super::fit::State { shared: optics, own: vec![attitude] };
    let delta = fit.linearize(&state).shared.solve(0.0);
    assert!((1..4).all(|k| delta[k] == 0.0) && (4..7).all(|k| delta[k] != 0.0));
}
