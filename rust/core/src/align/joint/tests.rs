//! Tests of the joint fit.

use super::*;
use crate::align::device::{Place, Product, Term};
use crate::align::objects::{Epoch, Motion, Motions};
use crate::align::testing::random;

fn noise(i: usize) -> f64 {
    random(i as u64) - 0.5
}

/// Positions of exposures along a line.
static LINE: [Point; 512] = {
    let mut line = [[0.0; 2]; 512];
    let mut k = 0;
    while k < line.len() {
        line[k][0] = k as f64;
        k += 1;
    }
    line
};

type Chain = (Vec<Detection>, Vec<usize>, Vec<f64>, Vec<(f64, Point)>);

/// Exposures in a chain, each shifted and rotated a little. Two neighbouring exposures see each object.
fn chain(exposures: usize) -> Chain {
    let truth: Vec<(f64, Point)> = (0..exposures)
        .map(|e| if e == 0 { (0.0, [0.0; 2]) } else { (1e-3 * noise(e), [noise(e + 31), noise(e + 57)]) })
        .collect();
    let (mut detections, mut starts) = (Vec::new(), vec![0]);
    for object in 0..40 * exposures {
        let first = object % exposures;
        let sky = [100.0 * noise(3 * object), 100.0 * noise(3 * object + 1)];
        let off = [0.3 * noise(object + 5), 0.3 * noise(object + 9)];
        for e in [first, (first + 1) % exposures] {
            let (turn, shift) = truth[e];
            // The map brings `at` to the position of the object.
            let x = [sky[0] + off[0] - shift[0], sky[1] + off[1] - shift[1]];
            let at = [x[0] + turn * x[1], x[1] - turn * x[0]].map(|c| c / (1.0 + turn * turn));
            detections.push(Detection {
                exposure: e as u32,
                at,
                expected: sky,
                jacobian: [[1.0, 0.0], [0.0, 1.0]],
                weight: 1.0,
            });
        }
        starts.push(detections.len());
    }
    let priors = vec![0.0; 4 * 40 * exposures];
    (detections, starts, priors, truth)
}

/// Priors of positions that a catalogue gives with an error of one pixel.
fn unit_priors(starts: &[usize]) -> Vec<f64> {
    [1.0, 0.0, 0.0, 1.0].repeat(starts.len() - 1)
}

/// A problem with objects without motion and exposures without a shared distortion.
fn still<'a>(
    detections: &'a [Detection],
    starts: &'a [usize],
    priors: &'a [f64],
    frozen: &'a [bool],
    geometry: Geometry,
) -> JointProblem<'a> {
    JointProblem {
        detections,
        starts,
        priors,
        frozen,
        places: LINE.get(..frozen.len()).unwrap(),
        geometry,
        lever: 50.0,
        device: Device::default(),
        motions: Motions::default(),
        colors: &[],
        with_covariances: true,
    }
}

#[test]
fn maps_and_objects_are_recovered_both_ways() {
    for exposures in [5, 500] {
        let (detections, starts, priors, truth) = chain(exposures);
        let mut frozen = vec![false; exposures];
        frozen[0] = true;
        let problem = still(&detections, &starts, &priors, &frozen, Geometry::Rscale);
        let found = problem.solve(&()).unwrap();
        assert!(found.undetermined.is_empty());
        for (map, (turn, shift)) in found.maps.iter().zip(&truth) {
            assert!((map.0[1][0] - turn).abs() < 1e-7, "{map:?} {turn}");
            assert!((map.1[0] - shift[0]).abs() < 1e-5, "{map:?} {shift:?}");
        }
        assert!(found.residuals.iter().flatten().all(|r| r.abs() < 1e-5));
    }
}

#[test]
fn without_anything_fixed_the_gauge_is_named() {
    let (detections, starts, priors, _) = chain(4);
    let problem = still(&detections, &starts, &priors, &[false; 4], Geometry::Shift);
    assert_eq!(problem.solve(&()).unwrap().undetermined.len(), 1);
    let catalogued = unit_priors(&starts);
    assert!(JointProblem { priors: &catalogued, ..problem }.solve(&()).unwrap().undetermined.is_empty());
}

#[test]
fn where_nothing_is_to_be_found_nothing_moves() {
    let (mut detections, starts, priors, _) = chain(4);
    let told = still(&detections, &starts, &priors, &[true; 4], Geometry::Shift).solve(&()).unwrap();
    assert!(told.maps.iter().all(|map| map.1 == [0.0; 2]) && told.undetermined.is_empty());
    for d in &mut detections {
        d.at = d.expected;
    }
    let frozen = [true, false, false, false];
    let told = still(&detections, &starts, &priors, &frozen, Geometry::Rscale).solve(&()).unwrap();
    assert!(told.maps.iter().all(|map| map.1 == [0.0; 2]) && told.covariances[1][(0, 0)] > 0.0);
}

/// Term of one axis by degrees.
fn term(axis: usize, degrees: [usize; 2]) -> Term {
    let product = |k| Product { degrees, factor: f64::from(u8::from(k == axis)) };
    Term { detector: 0, x: product(0), y: product(1) }
}

#[test]
fn a_shared_distortion_is_recovered_both_ways() {
    let terms: Vec<Term> = [[2, 0], [1, 1], [0, 2], [3, 0], [1, 2]]
        .into_iter()
        .flat_map(|degrees| [term(0, degrees), term(1, degrees)])
        .collect();
    let truth: Vec<f64> = (0..terms.len()).map(|k| 0.4 * noise(k + 1000)).collect();
    for exposures in [6, 400] {
        let (mut detections, starts, priors, _) = chain(exposures);
        let mut places = Vec::new();
        for (i, d) in detections.iter_mut().enumerate() {
            // Each exposure has another pointing, so an object falls on different pixels.
            let at = [d.at[0] / 50.0 * 0.7, d.at[1] / 50.0 * 0.7];
            let off = [0.6 * noise(d.exposure as usize + 77), 0.6 * noise(d.exposure as usize + 99)];
            let place = Place {
                detector: 0,
                at: [at[0] + off[0], at[1] + off[1]],
                gradient: [[1.0, 0.0], [0.0, 1.0]],
            };
            places.push(place);
            let device = Device { terms: &terms, places: &places, ..Device::default() };
            let mut bend = [0.0; 2];
            device.for_each(i, |k, step| bend = [0, 1].map(|c| bend[c] + truth[k] * step[c]));
            d.at = [d.at[0] - bend[0], d.at[1] - bend[1]];
        }
        let mut frozen = vec![false; exposures];
        frozen[0] = true;
        let problem = JointProblem {
            device: Device { terms: &terms, places: &places, ..Device::default() },
            ..still(&detections, &starts, &priors, &frozen, Geometry::Rshift)
        };
        let found = problem.solve(&()).unwrap();
        assert!(found.undetermined_terms.is_empty());
        for (found, true_value) in found.device.iter().zip(&truth) {
            // The maps are linear about positions that include the distortion.
            assert!((found - true_value).abs() < 2e-3, "{found} {true_value}");
        }
    }
}

#[test]
fn motions_and_colours_are_recovered_both_ways() {
    for exposures in [8, 210] {
        let (mut detections, starts, _, _) = chain(exposures);
        let objects = starts.len() - 1;
        let motion =
            |object: usize| [0.2 * noise(object + 3), 0.2 * noise(object + 7), 0.3 * noise(object + 11)];
        let refraction =
            |e: usize| if e == 0 { [0.0; 2] } else { [0.5 * noise(e + 200), 0.5 * noise(e + 300)] };
        let (mut epochs, mut colors) = (Vec::new(), Vec::new());
        // Each of the two exposures sees every object four times, over some years.
        let mut many = Vec::new();
        let mut ends = vec![0];
        for object in 0..objects {
            for k in 0..4 {
                for d in &mut detections[starts[object]..starts[object + 1]] {
                    let years = noise(17 * object + k) * 4.0;
                    let (s, c) = (years * std::f64::consts::TAU).sin_cos();
                    let color = noise(object + 900);
                    let [mx, my, parallax] = motion(object);
                    let bend = refraction(d.exposure as usize);
                    let off = [
                        years * mx + parallax * c - color * bend[0],
                        years * my + parallax * s - color * bend[1],
                    ];
                    many.push(Detection { at: [d.at[0] + off[0], d.at[1] + off[1]], ..*d });
                    epochs.push(Epoch { years, parallax: [c, s] });
                    colors.push(color);
                }
            }
            ends.push(many.len());
        }
        let frozen: Vec<bool> = (0..exposures).map(|e| e == 0).collect();
        let mut prior = [0.0; 25];
        (2..5).for_each(|k| prior[6 * k] = 1e-8);
        let priors = prior.repeat(objects);
        let problem = JointProblem {
            motions: Motions { motion: Motion::Parallax, epochs: &epochs },
            colors: &colors,
            ..still(&many, &ends, &priors, &frozen, Geometry::Rscale)
        };
        let found = problem.solve(&()).unwrap();
        for object in (0..objects).step_by(7) {
            let [mx, my, parallax] = motion(object);
            let of = &found.objects[5 * object..5 * object + 5];
            // The maps are linear about the positions of moved objects, and their rotations are 1e-3.
            assert!((of[2] - mx).abs() + (of[3] - my).abs() + (of[4] - parallax).abs() < 5e-3, "{of:?}");
        }
        for (e, bend) in found.chromatic.iter().enumerate() {
            let wanted = refraction(e);
            assert!((bend[0] - wanted[0]).abs() + (bend[1] - wanted[1]).abs() < 1e-2, "{bend:?} {wanted:?}");
        }
        assert!(found.variances.iter().all(|v| v.is_finite() && *v > 0.0));
    }
}

/// Two pointings half a field apart, each in some bands with small dithers; a fifth of the stars in a field
/// is missing.
fn bands(count: usize) -> Chain {
    let exposures = 2 * count;
    let truth: Vec<(f64, Point)> = (0..exposures)
        .map(|e| if e == 0 { (0.0, [0.0; 2]) } else { (1e-3 * noise(e), [noise(e + 31), noise(e + 57)]) })
        .collect();
    let (mut detections, mut starts) = (Vec::new(), vec![0]);
    for object in 0..300 {
        let sky = [150.0 * noise(3 * object), 100.0 * noise(3 * object + 1)];
        for (e, (turn, shift)) in truth.iter().enumerate() {
            let middle = [50.0 * (e / count) as f64 - 25.0 + 4.0 * noise(e + 7), 4.0 * noise(e + 9)];
            let off = [sky[0] - middle[0], sky[1] - middle[1]];
            let missing = noise(exposures * object + e + 4000) > 0.3;
            if off.iter().any(|c| c.abs() > 50.0) || missing {
                continue;
            }
            let x = [off[0] - shift[0], off[1] - shift[1]];
            let at = [x[0] + turn * x[1], x[1] - turn * x[0]].map(|c| c / (1.0 + turn * turn));
            let at = [0, 1].map(|k| at[k] + 0.02 * noise(2 * (exposures * object + e) + k + 9000));
            let jacobian = [[1.0, 0.0], [0.0, 1.0]];
            detections.push(Detection { exposure: e as u32, at, expected: off, jacobian, weight: 1e3 });
        }
        starts.push(detections.len());
    }
    (detections, starts, vec![0.0; 4 * 300], truth)
}

#[test]
fn groups_of_exposures_give_the_same_as_each_alone() {
    let terms: Vec<Term> = [[2, 0], [1, 1]].map(|degrees| term(0, degrees)).into();
    let own = [[0, 2], [2, 0]].map(|degrees| term(1, degrees));
    for (geometry, bent) in [(Geometry::Rscale, false), (Geometry::General, true)] {
        let (detections, starts, priors, _) = bands(10);
        let gradient = [[1.0, 0.0], [0.0, 1.0]];
        let place = |d: &Detection| Place { detector: 0, at: d.at.map(|c| c / 50.0), gradient };
        let places: Vec<Place> = detections.iter().map(place).collect();
        let frozen: Vec<bool> = (0..20).map(|e| e == 0).collect();
        let has_own_terms: Vec<bool> = (0..20).map(|e| e % 3 == 1).collect();
        let own = Device { own: &own, has_own_terms: &has_own_terms, own_prior: 0.01, ..Device::default() };
        let device = Device { terms: &terms, places: &places, ..if bent { own } else { Device::default() } };
        let problem = JointProblem { device, ..still(&detections, &starts, &priors, &frozen, geometry) };
        let found = problem.solve(&()).unwrap();
        assert!(found.undetermined.is_empty());
        let (layout, owns) = (Layout::new(&problem), problem.owns::<2>());
        let products = problem.products(&layout, &owns);
        let groups = problem.groups(&layout, &owns, 0.5);
        assert_eq!(groups.first.len(), if bent { 4 } else { 2 });
        let blocks = problem.blocks_of(&layout, &groups, f64::INFINITY).unwrap();
        let coarse = problem.factorised(&layout, &owns, &products, (groups, blocks), &()).unwrap();
        let descent = problem.descend(&layout, &owns, &coarse, &()).unwrap();
        let other = problem.solution(&layout, &owns, &descent.x);
        for (a, b) in found.maps.iter().zip(&other.maps) {
            let flat = |map: &([[f64; 2]; 2], Point)| [map.0.concat(), map.1.to_vec()].concat();
            assert!(flat(a).iter().zip(flat(b)).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
        }
        assert!(found.device.iter().zip(&other.device).all(|(a, b)| (a - b).abs() < 1e-6));
        for ((own, other), has_own_terms) in found.own.iter().zip(&other.own).zip(&has_own_terms) {
            let is_there = *has_own_terms && bent;
            assert!(own.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-6 && (*a != 0.0) == is_there));
        }
        let error = descent.spread().powi(2);
        let covariances = problem.covariances(&layout, &owns, &products, &coarse);
        for (a, b) in found.covariances.iter().zip(&covariances).skip(1) {
            let ratios = b.diagonal().component_div(&a.diagonal());
            assert!(ratios.iter().filter(|r| r.is_finite()).all(|r| *r < 1.0 + 1e-9 && *r > 1.0 - error));
        }
    }
}

#[test]
fn what_an_exposure_has_for_itself_is_recovered() {
    let own: Vec<Term> =
        [[2, 0], [1, 1], [0, 2]].into_iter().flat_map(|d| [term(0, d), term(1, d)]).collect();
    let (mut detections, starts, _, _) = chain(30);
    let priors = unit_priors(&starts);
    let has_own_terms: Vec<bool> = (0..30_usize).map(|e| e.is_multiple_of(2)).collect();
    let truth = |e: usize, k: usize| if e.is_multiple_of(2) { 0.4 * noise(50 * e + k) } else { 0.0 };
    let place =
        |d: &Detection| Place { detector: 0, at: d.at.map(|c| c / 50.0), gradient: [[1.0, 0.0], [0.0, 1.0]] };
    let places: Vec<Place> = detections.iter().map(place).collect();
    let device = Device { places: &places, own: &own, has_own_terms: &has_own_terms, ..Device::default() };
    for (i, d) in detections.iter_mut().enumerate() {
        let (e, mut bend) = (d.exposure as usize, [0.0; 2]);
        device.for_each_own(i, e, |k, step| bend = [0, 1].map(|c| bend[c] + truth(e, k) * step[c]));
        // Objects are at their catalogue positions.
        d.at = [d.expected[0] - bend[0], d.expected[1] - bend[1]];
    }
    let problem =
        JointProblem { device, ..still(&detections, &starts, &priors, &[false; 30], Geometry::General) };
    let found = problem.solve(&()).unwrap();
    assert!(found.undetermined.is_empty());
    for (e, own) in found.own.iter().enumerate() {
        assert!(own.iter().enumerate().all(|(k, v)| (v - truth(e, k)).abs() < 1e-6), "{e} {own:?}");
        let variances = found.covariances[e].diagonal();
        assert!((variances[6] > 0.0) == has_own_terms[e] && variances[0] > 0.0, "{variances}");
    }
}

#[test]
fn covariances_are_those_of_the_whole_inverse() {
    let (detections, starts, _, _) = chain(25);
    let priors = unit_priors(&starts);
    let problem = still(&detections, &starts, &priors, &[false; 25], Geometry::Shift);
    let found = problem.solve(&()).unwrap();
    // For shifts along x: an object with a prior that two exposures see couples them by -1/3 and adds 2/3 to
    // each.
    let mut matrix = DMatrix::<f64>::zeros(25, 25);
    for object in 0..starts.len() - 1 {
        let (a, b) = (object % 25, (object + 1) % 25);
        for (i, j, value) in [(a, a, 2.0), (b, b, 2.0), (a, b, -1.0), (b, a, -1.0)] {
            matrix[(i, j)] += value / 3.0;
        }
    }
    let inverse = matrix.try_inverse().unwrap();
    for (e, covariance) in found.covariances.iter().enumerate() {
        assert!((covariance[(0, 0)] / inverse[(e, e)] - 1.0).abs() < 1e-9);
    }
}

#[test]
fn priors_are_matrices() {
    // One catalogue object with correlated errors, seen by two fixed exposures.
    let jacobian = [[1.0, 0.0], [0.0, 1.0]];
    let at = [[0.6, 0.2], [0.4, -0.4]];
    let detection = |e: u32| Detection {
        exposure: e,
        at: at[e as usize],
        expected: [0.0; 2],
        jacobian,
        weight: 2.0 - f64::from(e),
    };
    let detections = [detection(0), detection(1)];
    let priors = [2.0, -1.5, -1.5, 3.0];
    let frozen = [true, true];
    let found = still(&detections, &[0, 2], &priors, &frozen, Geometry::Shift).solve(&()).unwrap();
    // (P + 3 I) b = 2 u + v, u and v being the detections.
    let normal = nalgebra::Matrix2::new(5.0, -1.5, -1.5, 6.0);
    let inverse = normal.try_inverse().unwrap();
    let b = inverse * nalgebra::Vector2::new(1.6, 0.0);
    for k in 0..2 {
        assert!((found.objects[k] - b[k]).abs() < 1e-12, "{:?} {b}", found.objects);
        assert!((found.variances[k] - inverse[(k, k)]).abs() < 1e-12);
        assert!((found.residuals[0][k] - (at[0][k] - b[k])).abs() < 1e-12);
    }
    assert!(still(&detections, &[0, 2], &priors[..3], &frozen, Geometry::Shift).solve(&()).is_err());
}
