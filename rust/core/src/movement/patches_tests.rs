use super::*;
use crate::movement::phase::phase_candidates;

/// A scene of waves in all directions, which has texture everywhere and a known value at every position.
fn scene([x, y]: Point, seed: f64) -> f32 {
    (1..14)
        .map(|k| {
            let k = f64::from(k) + seed;
            let (angle, length) = (2.399 * k, 9.0 + 37.0 * (0.618 * k).fract());
            (2.0 * std::f64::consts::PI * (x * angle.cos() + y * angle.sin()) / length + 7.0 * k).sin() as f32
        })
        .sum()
}

const SIZE: [usize; 2] = [400, 320];

fn shown(transform: &Transform, seed: f64) -> Plane {
    let pixels: Vec<f32> = (0..SIZE[0] * SIZE[1])
        .map(|i| scene(transform.apply([(i % SIZE[0]) as f64, (i / SIZE[0]) as f64]).unwrap(), seed))
        .collect();
    Plane::new(&pixels, SIZE).unwrap()
}

const STAY: Transform = Transform([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

fn farthest(a: &Transform, b: &Transform) -> f64 {
    [[0.0, 0.0], [399.0, 0.0], [0.0, 319.0], [399.0, 319.0]]
        .map(|p| {
            let (p, q) = (a.apply(p).unwrap(), b.apply(p).unwrap());
            (p[0] - q[0]).hypot(p[1] - q[1])
        })
        .into_iter()
        .fold(0.0, f64::max)
}

fn register(reference: &Plane, moved: &Plane, start: &Transform, kind: Kind) -> Result<Registration> {
    Registrar::new(reference.clone(), moved.clone()).register(start, kind)
}

#[test]
fn a_shift_a_turn_and_a_scale_are_found() {
    let turned = |degrees: f64, scale: f64, x: f64, y: f64| {
        let (s, c) = degrees.to_radians().sin_cos();
        Transform([[scale * c, -scale * s, x], [scale * s, scale * c, y], [0.0, 0.0, 1.0]])
    };
    for (truth, kind) in [
        (turned(0.0, 1.0, 13.3, -8.6), Kind::Shift),
        (turned(1.5, 1.0, 12.3, -8.6), Kind::Similarity),
        (turned(-9.0, 1.04, -20.0, 31.0), Kind::Similarity),
    ] {
        let (reference, moved) = (shown(&STAY, 0.0), shown(&truth, 0.0));
        let candidates = phase_candidates(&reference, &moved, kind != Kind::Shift);
        let found = candidates
            .iter()
            .take(3)
            .find_map(|c| register(&reference, &moved, &c.transform, kind).ok())
            .unwrap();
        assert!(farthest(&found.fit.transform, &truth) < 0.05, "{kind:?}: {:?}", found.fit.transform);
        assert!(found.fit.log_chance < -20.0 && found.reference.len() * 2 > found.expected);
    }
}

#[test]
fn another_scene_is_not_accepted() {
    let (reference, moved) = (shown(&STAY, 0.0), shown(&STAY, 0.37));
    for candidate in phase_candidates(&reference, &moved, true) {
        if let Ok(found) = register(&reference, &moved, &candidate.transform, Kind::Similarity) {
            let inliers = found.fit.inliers.iter().filter(|&&i| i).count();
            assert!(inliers * 4 < found.expected, "{inliers} of {}", found.expected);
        }
    }
}

#[test]
fn images_without_texture_or_of_a_few_pixels_give_nothing() {
    let blank = Plane::new(&vec![3.0; 400 * 320], SIZE).unwrap();
    assert!(phase_candidates(&blank, &blank, true).len() < 8);
    assert!(register(&blank, &blank, &STAY, Kind::Shift).is_err());
    let small = Plane::new(&[1.0], [1, 1]).unwrap();
    assert!(phase_candidates(&small, &small, true).is_empty());
    assert!(register(&small, &small, &STAY, Kind::Shift).is_err());
    assert!(phase_candidates(&blank, &small, true).is_empty());
}
