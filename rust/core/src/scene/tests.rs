use super::fit::{FitOptions, Status, fit};
use super::profile::Kind;
use super::*;

const SIZE: [usize; 2] = [90, 80];
const SCALE: f64 = 0.262;

/// Generator of uniform and normal pseudo-random numbers.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Positions (arcsec relative to the centre) and fluxes.
const STARS: [([f64; 2], f64); 5] = [
    ([4.0, 3.0], 4000.0),
    ([-5.5, 6.0], 9000.0),
    ([-7.0, -6.5], 6000.0),
    ([7.5, -4.5], 3000.0),
    // Blended with the first star.
    ([5.2, 2.6], 3500.0),
];

/// Image of wide stars with noise, integrated over each pixel in fine steps.
fn image(noise: f64, rd: f64, turn: f64, shift: [f64; 2], seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    let (n, steps) = (2.2_f64, 4_u32);
    let mut data: Vec<f64> = (0..SIZE[0] * SIZE[1]).map(|_| noise * random.normal()).collect();
    for ([x, y], flux) in STARS {
        // plane = CD R(turn) u + shift
        let v = [(x - shift[0]) / -SCALE, (y - shift[1]) / SCALE];
        let (sin, cos) = turn.sin_cos();
        let center = [44.5 + cos * v[0] + sin * v[1], 39.5 - sin * v[0] + cos * v[1]];
        for (k, pixel) in data.iter_mut().enumerate() {
            for s in 0..steps * steps {
                let sub = [s % steps, s / steps].map(|i| (f64::from(i) + 0.5) / f64::from(steps) - 0.5);
                let (dx, dy) =
                    ((k % SIZE[0]) as f64 + sub[0] - center[0], (k / SIZE[0]) as f64 + sub[1] - center[1]);
                let density = (n - 1.0) / (std::f64::consts::PI * rd * rd)
                    * (1.0 + (dx * dx + dy * dy) / (rd * rd)).powf(-n);
                *pixel += flux * density / f64::from(steps * steps);
            }
        }
    }
    data
}

fn scene<'a>(data: &'a [Vec<f64>], variance: &'a [f64], freedoms: &[Freedom]) -> Scene<'a> {
    let place = |position: [f64; 2]| Place::Plane {
        plane: position,
        by_source: [[1.0, 0.0], [0.0, 1.0]],
        focal: [0.0; 2],
        pixel: [44.5, 39.5],
        by_focal: [[1.0, 0.0], [0.0, 1.0]],
    };
    // The starting positions are slightly wrong.
    let places: Vec<_> = STARS.iter().map(|(p, _)| Some(place([p[0] + 0.06, p[1] - 0.05]))).collect();
    let psf = Psf {
        profile: Profile { kind: Kind::Moffat, parameters: [0.0; 4] },
        free: [true, false, false, true],
        sampled: None,
    };
    let image = |(k, (data, &freedom)): (usize, (&'a Vec<f64>, &Freedom))| SceneImage {
        data,
        variance,
        size: SIZE,
        freedom,
        cd: [[-SCALE, 0.0], [0.0, SCALE]],
        places: places.clone(),
        tracks: Vec::new(),
        chromatic: None,
        psf: k,
        sky: Sky::None,
        windows: Windows::Chosen,
    };
    Scene {
        images: data.iter().zip(freedoms).enumerate().map(image).collect(),
        psfs: vec![psf; data.len()],
        sources: STARS
            .iter()
            .map(|(point, _)| Source { point: *point, prior: None, motion: None, color: 0.0, shape: None })
            .collect(),
    }
}

#[test]
fn shift_and_rotation_are_found_cold() {
    let (turn, shift) = (-0.08, [0.35, -0.2]);
    let data = [image(3.0, 2.4, 0.0, [0.0; 2], 1), image(3.0, 2.8, turn, shift, 2)];
    let variance = vec![9.0; SIZE[0] * SIZE[1]];
    let scene = scene(&data, &variance, &[Freedom::Fixed, Freedom::Rshift]);
    let found = fit(&scene, &FitOptions::default(), &()).unwrap();
    assert_eq!(found.status, Status::Converged, "{:?}", found.history);
    let covariance = found.covariance.as_ref().unwrap();
    let sigma = |i: usize| covariance[(i, i)].sqrt();
    let check = |i: usize, truth: f64| {
        let pull = (found.state[i] - truth) / sigma(i);
        assert!(pull.abs() < 4.5, "{i} {} {truth} {pull}", found.state[i]);
    };
    let wcs = found.layout.wcs[1];
    check(wcs, shift[0]);
    check(wcs + 1, shift[1]);
    check(wcs + 2, turn);
    for (source, (_, flux)) in STARS.iter().enumerate() {
        let first = found.layout.sources[source];
        check(first, -0.06);
        check(first + 1, 0.05);
        check(found.layout.fluxes[1][source].unwrap(), *flux);
        let own = &found.own_covariances[source];
        for i in 0..own.nrows() {
            assert!((own[(i, i)] / covariance[(first + i, first + i)] - 1.0).abs() < 1e-6);
        }
    }
    check(found.layout.psfs[1], 2.8_f64.ln());
    check(found.layout.psfs[1] + 3, 1.2_f64.ln());
    let pixels: usize = found.image_pixels.iter().sum();
    let dof = (pixels - found.parameters) as f64;
    assert!((found.chi2 / dof - 1.0).abs() < 4.0 * (2.0 / dof).sqrt(), "{} {dof}", found.chi2);
    assert!(found.frozen.is_empty() && found.reference.is_none());
}

#[test]
fn threads_change_nothing() {
    let data = [image(3.0, 2.4, 0.0, [0.0; 2], 1), image(3.0, 2.8, 0.0, [0.1; 2], 2)];
    let variance = vec![9.0; SIZE[0] * SIZE[1]];
    let scene = scene(&data, &variance, &[Freedom::Fixed, Freedom::Shift]);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(&scene, &FitOptions::default(), &()).unwrap())
    };
    assert_eq!(with(1).state, with(3).state);
}

#[test]
fn one_image_tells_nothing_of_its_wcs() {
    let data = [image(3.0, 2.4, 0.0, [0.0; 2], 1)];
    let variance = vec![9.0; SIZE[0] * SIZE[1]];
    let mut alone = scene(&data, &variance, &[Freedom::Rshift]);
    let found = fit(&alone, &FitOptions::default(), &()).unwrap();
    assert_eq!((found.status, found.reference), (Status::Converged, Some(0)));
    assert_eq!(found.state[found.layout.wcs[0]], 0.0);
    // Known positions determine the WCS.
    for source in &mut alone.sources {
        source.prior = Some([0.001; 2]);
    }
    let found = fit(&alone, &FitOptions::default(), &()).unwrap();
    assert_eq!((found.status, found.reference), (Status::Converged, None));
    assert!((found.state[found.layout.wcs[0]] - 0.06).abs() < 0.01, "{:?}", found.state);
}

#[test]
fn two_sources_at_one_place_are_named() {
    let data = [image(3.0, 2.4, 0.0, [0.0; 2], 1)];
    let variance = vec![9.0; SIZE[0] * SIZE[1]];
    let mut twice = scene(&data, &variance, &[Freedom::Fixed]);
    twice.sources.push(twice.sources[1]);
    let place = twice.images[0].places[1];
    twice.images[0].places.push(place);
    let found = fit(&twice, &FitOptions::default(), &()).unwrap();
    assert!(found.state.iter().all(|v| v.is_finite()));
    assert!(found.own_covariances.iter().all(|c| c.iter().all(|v| v.is_finite())));
}
