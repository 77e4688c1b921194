use super::*;
use crate::monitor::StopAfter;

/// Blobs of light at known positions, seen through a transformation: pixel p of the image shows the sky at
/// `see(p)`.
fn blobs(size: [usize; 2], see: &Affine, width: f64, gain: f64, noise: f64, seed: u64) -> Picture {
    let mut random = seed;
    let mut uniform = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    let spots = [
        (30.0, 22.0, 3.0, 80.0),
        (64.0, 70.0, 4.5, 120.0),
        (95.0, 31.0, 2.5, 60.0),
        (20.0, 88.0, 6.0, 90.0),
        (50.0, 45.0, 9.0, 70.0),
        (104.0, 90.0, 3.5, 50.0),
        (75.0, 15.0, 2.5, 55.0),
    ];
    let light = |k: usize| {
        let [x, y] = see.apply([(k % size[0]) as f64, (k / size[0]) as f64]);
        let spot = |&(u, v, s, peak): &(f64, f64, f64, f64)| {
            let variance = s * s + width;
            peak * s * s / variance * (-0.5 * ((x - u).powi(2) + (y - v).powi(2)) / variance).exp()
        };
        spots.iter().map(spot).sum::<f64>()
    };
    let pixels = (0..size[0] * size[1]).map(|k| {
        let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        gain * light(k) + noise * normal
    });
    Picture { pixels: pixels.collect(), size, variance: Some(vec![noise * noise; size[0] * size[1]]) }
}

fn about(center: [f64; 2], matrix: [[f64; 2]; 2], shift: [f64; 2]) -> Affine {
    let turned = Affine { matrix, shift: [0.0; 2] }.apply(center);
    Affine { matrix, shift: [0, 1].map(|i| center[i] - turned[i] + shift[i]) }
}

#[test]
fn every_freedom_is_found() {
    let (size, center) = ([128, 110], [63.5, 54.5]);
    let reference = blobs(size, &Affine::IDENTITY, 0.0, 1.0, 0.3, 1);
    let turned = Affine::new(Freedom::Rscale, &[0.0, 0.0, 0.06, 1.02]).matrix;
    for (freedom, matrix) in [
        (Freedom::Shift, Affine::IDENTITY.matrix),
        (Freedom::Rshift, Affine::new(Freedom::Rshift, &[0.0, 0.0, -0.08]).matrix),
        (Freedom::Rscale, turned),
        (Freedom::General, [[1.01, 0.03], [-0.02, 0.98]]),
    ] {
        let truth = about(center, matrix, [7.3, -4.8]);
        let image = blobs(size, &truth, 0.0, 0.7, 0.3, 2);
        let options = RegisterOptions { freedom, ..RegisterOptions::default() };
        let found = register(&image, &reference, &options, &()).unwrap();
        assert!(found.converged && found.agrees, "{freedom:?} {found:?}");
        for corner in [[0.0, 0.0], [127.0, 0.0], [127.0, 109.0]] {
            let (a, b) = (found.transform.apply(corner), truth.apply(corner));
            assert!((a[0] - b[0]).hypot(a[1] - b[1]) < 0.15, "{freedom:?} {a:?} {b:?}");
        }
        assert!((found.gain - 0.7).abs() < 0.01 && (found.chi2_dof - 1.0).abs() < 0.1, "{found:?}");
        assert!((found.parameters[0] - 7.3).abs() < 0.1, "{found:?}");
    }
}

#[test]
fn widths_are_matched_either_way() {
    let size = [128, 110];
    let (sharp, wide) = (
        blobs(size, &Affine::IDENTITY, 0.0, 1.0, 0.1, 3),
        blobs(size, &Affine { shift: [1.4, 0.3], ..Affine::IDENTITY }, 4.0, 1.0, 0.1, 4),
    );
    let options = RegisterOptions { freedom: Freedom::Shift, ..RegisterOptions::default() };
    let found = register(&wide, &sharp, &options, &()).unwrap();
    assert!((found.blur - 4.0).abs() < 0.3, "{}", found.blur);
    assert!((found.parameters[0] - 1.4).abs() < 0.02 && (found.parameters[1] - 0.3).abs() < 0.02);
    let back = register(&sharp, &wide, &options, &()).unwrap();
    assert!((back.blur + 4.0).abs() < 0.3 && (back.parameters[0] + 1.4).abs() < 0.02, "{back:?}");
}

#[test]
fn errors_are_what_the_covariance_says() {
    let size = [128, 110];
    let truth = Affine { shift: [0.4, -0.3], ..Affine::IDENTITY };
    let options = RegisterOptions { freedom: Freedom::Rshift, ..RegisterOptions::default() };
    let (mut squares, runs) = ([0.0; 3], 40);
    for run in 0..runs {
        let reference = blobs(size, &Affine::IDENTITY, 0.0, 1.0, 3.0, 100 + run);
        let image = blobs(size, &truth, 0.0, 1.0, 3.0, 500 + run);
        let found = register(&image, &reference, &options, &()).unwrap();
        for (i, truth) in [0.4, -0.3, 0.0].iter().enumerate() {
            squares[i] += (found.parameters[i] - truth).powi(2) / found.covariance[(i, i)] / runs as f64;
        }
    }
    for pull in squares.map(f64::sqrt) {
        assert!((0.75..1.25).contains(&pull), "{squares:?}");
    }
}

#[test]
fn images_of_nothing_in_common_do_not_agree() {
    let size = [64, 64];
    let noise = |seed| blobs(size, &Affine { shift: [1e6, 0.0], ..Affine::IDENTITY }, 0.0, 1.0, 1.0, seed);
    let found = register(&noise(5), &noise(6), &RegisterOptions::default(), &()).unwrap();
    assert!(!found.agrees, "{found:?}");
    let apart = RegisterOptions {
        start: Affine { shift: [500.0, 0.0], ..Affine::IDENTITY },
        ..RegisterOptions::default()
    };
    assert!(matches!(register(&noise(5), &noise(6), &apart, &()), Err(Error::Undetermined(_))));
    let tiny = Picture { pixels: vec![0.0; 4], size: [2, 2], variance: None };
    assert!(register(&tiny, &tiny, &RegisterOptions::default(), &()).is_err());
}

#[test]
fn it_stops_at_every_step() {
    let size = [128, 110];
    let (image, reference) = (
        blobs(size, &Affine { shift: [1.4, 0.3], ..Affine::IDENTITY }, 0.0, 1.0, 1.0, 3),
        blobs(size, &Affine::IDENTITY, 0.0, 1.0, 1.0, 4),
    );
    let never = StopAfter::new(usize::MAX);
    let found = register(&image, &reference, &RegisterOptions::default(), &never).unwrap();
    let asked = usize::MAX - never.left();
    assert!(asked > found.iterations, "{asked} {}", found.iterations);
    for after in [0, asked / 2, asked - 1] {
        let stop = StopAfter::new(after);
        let outcome = register(&image, &reference, &RegisterOptions::default(), &stop);
        assert!(matches!(outcome, Err(Error::Interrupted)));
    }
}
