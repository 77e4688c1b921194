use super::*;

/// Pseudo-random numbers from -1 to 1.
fn noise(k: usize) -> f64 {
    let mut z = (k as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

fn points(count: usize) -> Vec<Point> {
    (0..count).map(|k| [500.0 + 480.0 * noise(2 * k + 1), 400.0 + 380.0 * noise(2 * k + 2)]).collect()
}

fn truth(kind: Kind) -> Transform {
    Transform(match kind {
        Kind::Shift => [[1.0, 0.0, 12.5], [0.0, 1.0, -7.25], [0.0, 0.0, 1.0]],
        Kind::Similarity => [[0.98, -0.17, 30.0], [0.17, 0.98, -50.0], [0.0, 0.0, 1.0]],
        Kind::Affine => [[0.98, -0.1, 30.0], [0.2, 1.05, -50.0], [0.0, 0.0, 1.0]],
        Kind::Projective => [[0.98, -0.1, 30.0], [0.2, 1.05, -50.0], [1e-4, -5e-5, 1.0]],
    })
}

fn options(kind: Kind) -> FitOptions<'static> {
    FitOptions { kind, tolerance: 5.0, covariance: None, area: 1e6 }
}

const KINDS: [Kind; 4] = [Kind::Shift, Kind::Similarity, Kind::Affine, Kind::Projective];

#[test]
fn exact_pairs_give_the_transform_exactly_in_spite_of_wrong_ones() {
    for kind in KINDS {
        let (moved, truth) = (points(60), truth(kind));
        let reference: Vec<Point> = moved
            .iter()
            .enumerate()
            .map(|(i, &p)| if i % 3 == 0 { moved[(i + 7) % 60] } else { truth.apply(p).unwrap() })
            .collect();
        let found = fit(&moved, &reference, &options(kind)).unwrap();
        for (i, &p) in moved.iter().enumerate() {
            assert!(squared_distance(&found.transform, p, truth.apply(p).unwrap()) < 1e-16, "{kind:?}");
            assert_eq!(found.inliers[i], i % 3 != 0);
        }
        assert!(found.log_chance < -20.0);
    }
}

#[test]
fn pairs_that_are_chance_say_so() {
    for kind in KINDS {
        let (moved, mut reference) = (points(100), points(200));
        reference.drain(..100);
        let log_chance = fit(&moved, &reference, &options(kind)).map_or(0.0, |found| found.log_chance);
        assert!(log_chance > -3.0, "{kind:?} {log_chance}");
    }
}

#[test]
fn the_covariance_is_that_of_the_scatter() {
    // Simulates uncertainties of two sizes in skewed directions, and evaluates the error of the prediction in
    // one corner in units of its standard deviation.
    for kind in KINDS {
        let (moved, truth) = (points(80), truth(kind));
        let mut squares = 0.0;
        for trial in 0..200 {
            let cov: Vec<[f64; 3]> =
                (0..80).map(|i| if i % 2 == 0 { [0.04, 0.01, 0.01] } else { [0.25, -0.1, 0.09] }).collect();
            let normal = |k: usize| (0..12).map(|j| noise(trial * 7919 + 12 * k + j) * 0.5).sum::<f64>();
            let reference: Vec<Point> = moved
                .iter()
                .enumerate()
                .map(|(i, &p)| {
                    let ([xx, xy, yy], [u, v]) = (cov[i], truth.apply(p).unwrap());
                    let (a, g) = (xx.sqrt(), [normal(2 * i), normal(2 * i + 1)]);
                    [u + a * g[0], v + xy / a * g[0] + (yy - xy * xy / xx).sqrt() * g[1]]
                })
                .collect();
            let found =
                fit(&moved, &reference, &FitOptions { covariance: Some(&cov), ..options(kind) }).unwrap();
            let (image, depth) = found.transform.image_and_depth([900.0, 700.0]);
            let rows = Kind::Projective.derivatives([900.0, 700.0], image, depth)[0];
            let variance: f64 = (0..MOST)
                .flat_map(|i| (0..MOST).map(move |j| (i, j)))
                .map(|(i, j)| rows[i] * found.covariance[i][j] * rows[j])
                .sum();
            squares += (image[0] - truth.apply([900.0, 700.0]).unwrap()[0]).powi(2) / variance;
        }
        // The noise above has a variance of about 1 (twelve uniform numbers of -1 to 1, halved).
        assert!((squares / 200.0 - 1.0).abs() < 0.35, "{kind:?} {}", squares / 200.0);
    }
}

#[test]
fn what_is_not_determined_is_refused() {
    let line: Vec<Point> = (0..9).map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
    for (kind, count) in [(Kind::Affine, 9), (Kind::Projective, 9), (Kind::Similarity, 1), (Kind::Shift, 0)] {
        let error = fit(&line[..count], &line[..count], &options(kind)).unwrap_err();
        assert!(matches!(error, Error::Undetermined(_)), "{error}");
    }
    let two = fit(&line[..2], &line[..2], &options(Kind::Similarity)).unwrap();
    assert!(two.noise.is_nan() && two.covariance[0][0].is_nan() && two.rms < 1e-12);
}

#[test]
fn bad_arguments_are_refused() {
    let some = points(5);
    let mut bad = some.clone();
    bad[2][1] = f64::NAN;
    assert!(fit(&some, &some[..4], &options(Kind::Shift)).is_err());
    assert!(fit(&some, &bad, &options(Kind::Shift)).is_err());
    assert!(fit(&some, &some, &FitOptions { tolerance: 0.0, ..options(Kind::Shift) }).is_err());
    let cov = [[1.0, 0.0, 1.0]; 2];
    assert!(fit(&some, &some, &FitOptions { covariance: Some(&cov), ..options(Kind::Shift) }).is_err());
}
