//! Tests of the pixels of profiles against other methods of integration.

use super::*;

fn profile(kind: Kind, radius: f64, e: [f64; 2], n: f64) -> Profile {
    Profile { kind, parameters: [radius.ln(), e[0], e[1], (n - 1.0).ln()] }
}

fn rendered(profile: &Profile, [x, y]: [f64; 2], half: i32) -> [Vec<f64>; COLUMNS] {
    let runs: Vec<Run> = (-half..=half)
        .map(|row| Run { x: f64::from(-half) - x, y: f64::from(row) - y, len: 2 * half as usize + 1 })
        .collect();
    let mut columns = std::array::from_fn(|_| Vec::new());
    let nodes = profile.nodes().of(&runs, Accuracy::FINEST);
    profile.renderer().render(&runs, &nodes, [true; PARAMETERS], &mut columns);
    columns
}

/// The density as defined in the documentation of the module, with functions of the standard library.
fn density(profile: &Profile, x: f64, y: f64) -> f64 {
    let Shape { s, norm, n, kind, .. } = profile.shape();
    let q = s[0] * x * x + 2.0 * s[1] * x * y + s[2] * y * y;
    norm * match kind {
        Kind::Moffat => (1.0 + q).powf(-n),
        Kind::Gaussian => (-0.5 * q).exp(),
    }
}

const KINDS: [(Kind, f64, [f64; 2], f64); 7] = [
    // 1.2 px wide at half maximum: the sharpest stars.
    (Kind::Moffat, 0.932, [0.0, 0.0], 2.0),
    (Kind::Moffat, 1.378, [0.0, 0.0], 4.5),
    (Kind::Gaussian, 0.51, [0.0, 0.0], 2.0),
    (Kind::Gaussian, 0.7, [0.3, -0.4], 2.0),
    (Kind::Moffat, 3.8, [0.0, 0.0], 2.2),
    (Kind::Moffat, 3.0, [-0.2, 0.5], 3.0),
    (Kind::Gaussian, 2.5, [0.0, 0.0], 2.0),
];

#[test]
fn pixels_hold_the_integral_of_the_light() {
    const FINE: i32 = 24;
    for (kind, radius, e, n) in KINDS {
        let profile = profile(kind, radius, e, n);
        for center in [[0.0, 0.0], [0.31, -0.47], [0.5, 0.5]] {
            let columns = rendered(&profile, center, 6);
            for (k, light) in columns[0].iter().enumerate() {
                let (px, py) = ((k % 13) as f64 - 6.0 - center[0], (k / 13) as f64 - 6.0 - center[1]);
                // Simpson's rule on a fine grid.
                let weight = |i: i32| match i {
                    0 | FINE => 1.0,
                    i if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                let mut sum = 0.0;
                for i in 0..=FINE {
                    for j in 0..=FINE {
                        let [u, v] = [i, j].map(|i| f64::from(i) / f64::from(FINE) - 0.5);
                        sum += weight(i) * weight(j) * density(&profile, px + u, py + v);
                    }
                }
                let exact = sum / f64::from(3 * FINE).powi(2);
                assert!(
                    (light - exact).abs() < 1e-6 * profile.peak(),
                    "{profile:?} {px} {py}: {light} {exact}"
                );
            }
        }
    }
}

#[test]
fn derivatives_are_those_of_the_light() {
    for (kind, radius, e, n) in KINDS {
        let start = profile(kind, radius, e, n);
        let (center, step) = ([0.2, -0.35], 1e-5);
        let columns = rendered(&start, center, 5);
        for column in 1..COLUMNS - usize::from(kind == Kind::Gaussian) {
            let moved = |step: f64| {
                let (mut profile, mut center) = (start, center);
                if column < 3 {
                    center[column - 1] += step;
                } else {
                    profile.parameters[column - 3] += step;
                }
                rendered(&profile, center, 5).into_iter().next().unwrap()
            };
            let (high, low) = (moved(step), moved(-step));
            for (k, derivative) in columns[column].iter().enumerate() {
                let numeric = (high[k] - low[k]) / (2.0 * step);
                assert!(
                    (derivative - numeric).abs() < 3e-6 * start.peak(),
                    "{start:?} {column} {derivative} {numeric}"
                );
            }
        }
    }
}

#[test]
fn functions_are_those_of_the_standard_library() {
    for k in 0..4000 {
        let x = 1.0 + (f64::from(k) * 0.01).powi(4);
        assert!((ln(x) - x.ln()).abs() < 2e-15 * x.ln().max(1.0), "{x}");
        let x = -f64::from(k) * 0.05;
        assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "{x}");
    }
    assert!(exp(-1e9) < 1e-300);
}

#[test]
fn it_reaches_as_far_as_it_says() {
    for (kind, radius, e, n) in KINDS {
        let profile = profile(kind, radius, e, n);
        let angle = 0.5 * e[1].atan2(e[0]);
        let r = profile.reach(1e-3);
        let there = density(&profile, r * angle.cos(), r * angle.sin());
        assert!((there / profile.peak() - 1e-3).abs() < 1e-9);
        let half = 0.5 * profile.fwhm();
        if e == [0.0, 0.0] {
            assert!((density(&profile, half, 0.0) / profile.peak() - 0.5).abs() < 1e-12);
        }
    }
}
