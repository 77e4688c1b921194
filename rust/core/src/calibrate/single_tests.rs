//! Tests of the lens of one frame.

use super::*;
use crate::calibrate::tests::Random;
use crate::geometry::distortion::{PolynomialDistortion, RadialDistortion};

/// A lens of third order and stars that it sees, with position errors of up to `noise` px.
fn seen(noise: f64) -> (View, SingleFrame) {
    let mut random = Random(7);
    let mut terms =
        |first: usize| (0..10).map(|k| if k < first { 0.0 } else { 8.0 * random.next() }).collect();
    let distortion = PolynomialDistortion::new(3, 500.0, terms(3), terms(1)).unwrap();
    let camera = CameraModel::new(3000.0, [1000, 800]).unwrap();
    let camera = camera.with_distortion(Distortion::Polynomial(distortion));
    let attitude = Attitude::from_pointing(1.0, 0.3, 2.0);
    let pixels: Vec<Point> = (0..300).map(|_| [500.0 * random.next(), 400.0 * random.next()]).collect();
    let sky = pixels.iter().map(|&p| attitude.to_sky(&camera.pixel_to_direction(p))).collect();
    let moved = pixels.iter().map(|[x, y]| [x + noise * random.next(), y + noise * random.next()]);
    let stars = SingleFrame::new(moved.collect(), sky, vec![1.0; 300]);
    (View { camera, attitude }, stars)
}

fn pinhole(view: &View) -> View {
    let camera = CameraModel::new(view.camera.focal_length_px(), view.camera.image_size()).unwrap();
    View { camera, attitude: view.attitude }
}

#[test]
fn a_lens_is_found_from_a_pinhole() {
    let (truth, stars) = seen(0.0);
    let fit = stars.finish(Model::Polynomial { order: 3 }, &pinhole(&truth)).unwrap();
    assert!(fit.sigma < 1e-6);
    for pixel in [[-500.0, -400.0], [0.0, 0.0], [499.0, 399.0]] {
        let [found, expected] =
            [&fit.view, &truth].map(|view| view.attitude.to_sky(&view.camera.pixel_to_direction(pixel)));
        assert!((found - expected).norm() * 3000.0 < 1e-6);
    }
}

#[test]
fn a_lens_of_one_form_is_fitted_to_one_of_another() {
    let (truth, stars) = seen(0.0);
    let lens = RadialDistortion::new([-0.02, 0.002, 0.0, 0.0], [0.0; 2], 500.0).unwrap();
    let camera = pinhole(&truth).camera.with_optical_center([560.0, 400.0]);
    let radial = View { camera: camera.with_distortion(Distortion::Radial(lens)), ..truth };
    let polynomial = stars.approximated(Model::Polynomial { order: 5 }, &radial).unwrap();
    let back = stars.approximated(Model::Radial, &polynomial).unwrap();
    for &pixel in &stars.frame.pixels {
        let [expected, there, back] = [&radial, &polynomial, &back]
            .map(|view| view.attitude.to_sky(&view.camera.pixel_to_direction(pixel)));
        assert!((there - expected).norm() * 3000.0 < 0.1);
        assert!((back - expected).norm() * 3000.0 < 0.5);
    }
}

#[test]
fn all_orders_are_judged_from_the_equations_of_one() {
    let (truth, stars) = seen(0.1);
    let polynomials: Vec<Model> = (2..=7).map(|order| Model::Polynomial { order }).collect();
    let groups = [vec![Model::Pinhole], vec![Model::Radial], polynomials];
    let (model, near) = stars.choose(&groups, &pinhole(&truth)).unwrap();
    assert_eq!(model, Model::Polynomial { order: 3 });
    // A following fit changes hardly anything.
    assert!(Linear::new(&stars, &Parameters::of(model), near.clone(), 1).stepped().unwrap().1 < CHOOSING);
    // The residuals predicted for a fifth of the stars equal those of a fit without these stars.
    let view = stars.fit(Model::Polynomial { order: 5 }, &near, CONVERGED).unwrap();
    let (order, kept) = (Parameters::of(Model::Polynomial { order: 5 }), Parameters::of(model).len());
    let held_out = Choice::new(&stars, &order, view).candidate(kept).held_out;
    let others: Vec<usize> = (0..300).filter(|star| star % FOLDS != 1).collect();
    let without = SingleFrame::new(
        others.iter().map(|&star| stars.frame.pixels[star]).collect(),
        others.iter().map(|&star| stars.frame.sky[star]).collect(),
        vec![1.0; others.len()],
    );
    let view = without.fit(model, &near, CONVERGED).unwrap();
    let whole = Parameters::of(model);
    let of_others = Linear::new(&stars, &whole, view, 1);
    for star in (1..300).step_by(FOLDS) {
        let (residual, metric) = &of_others.residuals[star];
        let length = norm(multiply(metric, residual.unwrap().miss));
        assert!((length - held_out[star]).abs() < 0.01, "{star}: {length} {}", held_out[star]);
    }
}

#[test]
fn a_lens_that_half_a_frame_leaves_free_is_none() {
    let (truth, stars) = seen(0.1);
    let left: Vec<usize> = (0..300).filter(|&star| stars.frame.pixels[star][0] < -100.0).collect();
    let half = SingleFrame::new(
        left.iter().map(|&star| stars.frame.pixels[star]).collect(),
        left.iter().map(|&star| stars.frame.sky[star]).collect(),
        vec![1.0; left.len()],
    );
    assert!(half.finish(Model::Polynomial { order: 6 }, &pinhole(&truth)).is_none());
    assert!(half.finish(Model::Pinhole, &pinhole(&truth)).is_some());
    assert!(stars.finish(Model::Polynomial { order: 6 }, &pinhole(&truth)).is_some());
}
