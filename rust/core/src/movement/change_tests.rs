use super::*;
use crate::geometry::distortion::{Distortion, RadialDistortion};
use crate::geometry::projection::Projection;

const MOVED: Values = [2e-3, -1e-3, 3e-3, 1e-3, 0.7, -0.4, 0.5, -0.3];

fn camera() -> CameraModel {
    let radial = RadialDistortion::new([-0.01, 0.0, 0.0, 0.0], [0.0; 2], 700.0).unwrap();
    CameraModel::new(1200.0, [1400, 1000])
        .unwrap()
        .with_projection(Projection::Equidistant)
        .with_optical_center([8.0, -5.0])
        .with_distortion(Distortion::Radial(radial))
}

/// Stars on a grid at the pixels of a changed camera, with errors of up to `noise` pixels.
fn stars(values: &Values, noise: f64) -> Vec<MatchedStar> {
    let star = |k: u32| {
        let place = [f64::from(k % 14) * 100.0 - 650.0, f64::from(k / 14) * 90.0 - 400.0];
        let direction = camera().pixel_to_direction(place);
        let pixel = predicted(&camera(), &direction, values).unwrap();
        let off = [k * 37 % 19, k * 53 % 23].map(|k| noise * (f64::from(k) / 10.0 - 1.0));
        MatchedStar { direction, pixel: [pixel[0] + off[0], pixel[1] + off[1]], sigma: noise }
    };
    (0..140).map(star).collect()
}

#[test]
fn the_change_is_found_and_wrong_stars_are_left_out() {
    let mut stars = stars(&MOVED, 0.01);
    stars.iter_mut().step_by(9).for_each(|star| star.pixel[0] += 25.0);
    let change = fit_change(&camera(), &stars).unwrap();
    assert!(change.used.iter().enumerate().all(|(i, &used)| used != i.is_multiple_of(9)));
    let far = DVector::from_fn(PARAMETERS, |k, _| change.values[k] - MOVED[k]);
    let information = nalgebra::DMatrix::from_fn(PARAMETERS, PARAMETERS, |i, j| change.information[i][j]);
    assert!((information * &far).dot(&far) < 25.0, "{:?}", change.values);
    assert!(change.rms_px > 0.003 && change.rms_px < 0.015);
}

#[test]
fn derivatives_are_those_of_the_prediction() {
    let (camera, step) = (camera(), 1e-6);
    let values = [0.02, -0.03, 0.4, 1e-2, 0.7, -0.4, 3.0, -2.0];
    for star in stars(&values, 0.0).iter().step_by(13) {
        let (_, slopes) = Moved::new(&camera, &values).unwrap().linearize(&star.direction).unwrap();
        for (k, slope) in slopes.iter().enumerate() {
            let at = |sign: f64| {
                let mut moved = values;
                moved[k] += sign * step;
                predicted(&camera, &star.direction, &moved).unwrap()
            };
            let (plus, minus) = (at(1.0), at(-1.0));
            for axis in [0, 1] {
                let expected = (plus[axis] - minus[axis]) / (2.0 * step);
                assert!((slope[axis] - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{k} {axis}");
            }
        }
    }
}

#[test]
fn a_change_of_a_degree_is_followed() {
    let values = [0.017, 0.012, -0.02, 0.0, 0.0, 0.0, 0.0, 0.0];
    let change = fit_change(&camera(), &stars(&values, 0.0)).unwrap();
    assert!(change.values.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", change.values);
}

#[test]
fn nothing_tells_nothing() {
    let change = fit_change(&camera(), &[]).unwrap();
    assert!(change.used.is_empty() && change.rms_px.is_nan() && change.freedom == 1.0);
    assert!(held_out_px(&camera(), &stars(&MOVED, 0.01)[..3]).unwrap().is_nan());
    let mut bad = stars(&MOVED, 0.0);
    bad[3].pixel[1] = f64::NAN;
    assert!(matches!(fit_change(&camera(), &bad), Err(Error::Argument { .. })));
}

#[test]
fn stars_that_moved_by_themselves_are_not_predicted() {
    let mut stars = stars(&MOVED, 0.1);
    assert!((0.03..0.15).contains(&held_out_px(&camera(), &stars).unwrap()));
    stars.iter_mut().step_by(2).for_each(|star| star.pixel[0] += 3.0);
    assert!(held_out_px(&camera(), &stars).unwrap() > 1.0);
}
