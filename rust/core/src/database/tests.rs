//! Tests the database against a slow method to make it, and against damage.

use std::collections::BTreeSet;

use super::*;
use crate::geometry::sphere::separation;
use crate::pattern::{PatternWindow, pattern_shape};
use proptest::prelude::*;

fn wide() -> Parameters {
    Parameters {
        max_fov: 40_f64.to_radians(),
        lattice_field_oversampling: 20,
        patterns_per_lattice_field: 20,
        verification_stars_per_fov: 50,
        ..Parameters::default()
    }
}

fn small() -> Database {
    Database::generate(&Catalog::hipparcos(), &wide(), &()).unwrap()
}

fn shared(bytes: Vec<u8>) -> SharedBytes {
    Arc::new(bytes)
}

/// All patterns by a slow method: every field's stars by brute force, combinations in a set.
fn reference(database: &Database, parameters: &Parameters) -> BTreeSet<[u32; 4]> {
    let directions: Vec<Direction> = database.directions().iter().map(|v| Direction::from(*v)).collect();
    let mut all = BTreeSet::new();
    for fov in parameters.scales() {
        let members = select::separated(&directions, parameters.pattern_star_separation(fov));
        let fields = parameters::fields_in_sky(fov) as usize * parameters.lattice_field_oversampling as usize;
        for field in 0..fields {
            let center = lattice_point(field, fields);
            let inside = |star: &u32| separation(&directions[*star as usize], &center) <= fov / 2.0;
            let stars: Vec<u32> = members.iter().copied().filter(inside).take(20).collect();
            let mut left = parameters.patterns_per_lattice_field;
            for d in 3..stars.len() {
                for c in 2..d {
                    for b in 1..c {
                        for a in 0..b {
                            if left > 0 {
                                left -= 1;
                                all.insert([stars[a], stars[b], stars[c], stars[d]]);
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn generation_equals_the_slow_way() {
    for min_fov in [None, Some(15_f64.to_radians())] {
        let parameters = Parameters { min_fov, lattice_field_oversampling: 5, ..wide() };
        let database = Database::generate(&Catalog::hipparcos(), &parameters, &()).unwrap();
        let sorted = |pattern: &Pattern| {
            let mut stars = pattern.stars;
            stars.sort_unstable();
            stars
        };
        let made: Vec<[u32; 4]> = database.patterns().iter().map(sorted).collect();
        let distinct: BTreeSet<[u32; 4]> = made.iter().copied().collect();
        assert_eq!(made.len(), distinct.len());
        assert_eq!(distinct, reference(&database, &parameters));
        database.verify().unwrap();
    }
}

#[test]
fn size_is_estimated() {
    let sizes = [(40.0, 40.0), (40.0, 10.0), (7.0, 7.0), (6.0, 3.0)];
    for (max_fov, min_fov) in sizes.map(|(max, min): (f64, f64)| (max.to_radians(), min.to_radians())) {
        let parameters = Parameters { max_fov, min_fov: Some(min_fov), ..wide() };
        let made = Database::generate(&Catalog::hipparcos(), &parameters, &()).unwrap();
        let told = Database::estimate_size(&Catalog::hipparcos(), &parameters, &()).unwrap();
        assert_eq!(told.stars, made.num_stars());
        let off = |told: usize, made: usize| (told as f64 / made as f64 - 1.0).abs();
        assert!(off(told.patterns, made.num_patterns()) < 0.1, "{told:?} {made:?}");
        assert!(off(told.bytes, made.as_bytes().len()) < 0.1, "{told:?} {made:?}");
    }
}

#[test]
fn threads_do_not_matter() {
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(small).to_bytes()
    };
    assert!(with_threads(1) == with_threads(3));
}

#[test]
fn progress_rises_and_cancelling_stops() {
    struct Watch(std::sync::Mutex<f64>, f64);
    impl Monitor for Watch {
        fn progress(&self, fraction: f64) {
            let mut seen = self.0.lock().unwrap();
            assert!((0.0..=1.0).contains(&fraction));
            *seen = seen.max(fraction);
        }
        fn cancelled(&self) -> bool {
            *self.0.lock().unwrap() > self.1
        }
    }
    let watch = Watch(0.0.into(), 2.0);
    let _ = Database::generate(&Catalog::hipparcos(), &wide(), &watch).unwrap();
    assert_eq!(*watch.0.lock().unwrap(), 1.0);
    for stop in [0.0, 0.4, 0.9] {
        let stopped = Database::generate(&Catalog::hipparcos(), &wide(), &Watch(0.0.into(), stop));
        assert_eq!(stopped.unwrap_err(), Error::Interrupted);
    }
}

#[test]
fn cone_and_identifiers_find_stars() {
    let database = small();
    let center = Direction::from(database.directions()[10]);
    let mut found = Vec::new();
    database.cone(&center, 0.2, &mut found);
    let inside = |star: &u32| separation(&center, &database.directions()[*star as usize].into()) <= 0.2;
    let expected: Vec<u32> = (0..database.num_stars() as u32).filter(inside).collect();
    assert_eq!(found, expected);
    for star in 0..database.num_stars() {
        assert_eq!(database.star_of_id(database.ids()[star]), Some(star));
    }
    assert_eq!(database.star_of_id(-1), None);
    assert_eq!(database.star_of_id(i64::MAX), None);
}

#[test]
fn look_up_equals_looking_at_all() {
    let database = small();
    for (k, pattern) in database.patterns().iter().enumerate().step_by(97) {
        let mut shape = pattern.shape();
        shape.ratios.iter_mut().for_each(|ratio| *ratio += 0.0007 * ((k % 5) as f32 - 2.0));
        for tolerance in [0.0, 0.001, 0.003, 0.01, 0.1, 2.0] {
            let longest = shape.longest * 0.9..=shape.longest * 1.1;
            let window = PatternWindow::new(&shape, tolerance, longest.clone());
            let near = |p: &&Pattern| window.contains(p);
            let mut expected: Vec<[u32; 4]> =
                database.patterns().iter().filter(near).map(|p| p.stars).collect();
            let mut found = Vec::new();
            database.patterns_near(&shape, tolerance, longest.clone(), |p| found.push(p.stars));
            let mut lookups = Lookups::default();
            lookups.push(&shape, tolerance, longest.clone());
            lookups.push(&shape, tolerance, 0.0..=0.0);
            lookups.push(&shape, tolerance, longest.clone());
            let mut together = Vec::new();
            database.look_up(&mut lookups, &mut together);
            let stars_of = |number| {
                let of = |(shape, p): &(usize, Pattern)| (*shape == number).then_some(p.stars);
                together.iter().filter_map(of).collect::<Vec<_>>()
            };
            assert_eq!([stars_of(0), stars_of(1), stars_of(2)], [found.clone(), Vec::new(), found.clone()]);
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{shape:?} {tolerance}");
        }
    }
}

#[test]
fn stars_of_hipparcos_are_known_to_move() {
    let parameters = Parameters { epoch: Some(2010.0), ..wide() };
    let moving = Database::generate(&Catalog::hipparcos(), &parameters, &()).unwrap();
    let motions = moving.motions().unwrap();
    let (id, there) = (moving.ids()[0], Direction::from(moving.directions()[0]));
    assert!((motions.direction_at(id, 2010.0).unwrap() - there).norm() < 1e-12);
    // Other stars with the same identifiers.
    let mut others = Catalog::hipparcos();
    others.ids.reverse();
    assert!(Database::generate(&others, &parameters, &()).unwrap().motions().is_none());
}

#[test]
fn a_pattern_is_found_by_its_stars() {
    let database = small();
    for pattern in database.patterns().iter().step_by(31) {
        let directions = pattern.stars.map(|star| Direction::from(database.directions()[star as usize]));
        let mut found = false;
        let shape = pattern_shape(directions.each_ref());
        database.patterns_near(&shape, 1e-4, 0.0..=2.0, |p| found |= p == pattern);
        assert!(found);
    }
}

#[test]
fn unaligned_bytes_are_read() {
    struct Shifted(Vec<u8>);
    impl AsRef<[u8]> for Shifted {
        fn as_ref(&self) -> &[u8] {
            &self.0[1..]
        }
    }
    let bytes = small().to_bytes();
    let shifted = Shifted([&[0], bytes.as_slice()].concat());
    assert!(Database::from_bytes(Arc::new(shifted)).unwrap().as_bytes() == bytes);
}

#[test]
fn too_few_stars_are_refused() {
    let stars = Catalog::hipparcos().select(&[0, 1, 2]);
    assert!(matches!(Database::generate(&stars, &wide(), &()), Err(Error::Argument { name: "stars", .. })));
    assert!(Database::generate(&Catalog::default(), &wide(), &()).is_err());
}

#[test]
fn another_version_is_named() {
    let mut bytes = small().to_bytes();
    bytes[8] = 9;
    let error = Database::from_bytes(shared(bytes)).unwrap_err().to_string();
    assert!(error.contains("format 9"), "{error}");
}

/// Makes all kinds of queries, which must not panic whatever the bytes.
fn ask_everything(database: &Database) {
    let mut found = Vec::new();
    database.cone(&Direction::z(), 0.5, &mut found);
    assert!(found.iter().all(|star| (*star as usize) < database.num_stars()));
    let _ = database.star_of_id(71_683);
    for pattern in database.patterns().iter().step_by(1000) {
        database.patterns_near(&pattern.shape(), 0.01, 0.0..=2.0, |p| {
            assert!(p.stars.iter().all(|star| (*star as usize) < database.num_stars()));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_is_found(seed in any::<u64>(), bit in 0_u8..8) {
        static BYTES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| small().to_bytes());
        // Half of the cases damage the header.
        let span = if seed & 1 == 0 { format::HEADER_BYTES } else { BYTES.len() };
        let place = (seed >> 1) as usize % span;
        prop_assert!(Database::from_bytes(shared(BYTES[..place].to_vec())).is_err());
        let mut flipped = BYTES.clone();
        flipped[place] ^= 1 << bit;
        match Database::from_bytes(shared(flipped)) {
            Err(error) => prop_assert!(matches!(error, Error::Format(_))),
            Ok(database) => {
                prop_assert!(place >= format::HEADER_BYTES);
                prop_assert!(database.verify().is_err());
                ask_everything(&database);
            }
        }
    }

    #[test]
    fn other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 12 {
            bytes[..12].copy_from_slice(b"BSIGHTDB\x01\0\0\0");
        }
        prop_assert!(Database::from_bytes(shared(bytes)).is_err());
    }
}
