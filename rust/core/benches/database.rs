//! Generation, opening, look-up of patterns and cone search, on databases made of Hipparcos.

use std::hint::black_box;
use std::sync::Arc;

use boresight::database::Parameters;
use boresight::geometry::sphere::direction;
use boresight::pattern::{PatternShape, pattern_shape};
use boresight::{Catalog, Database};
use criterion::{Criterion, criterion_group, criterion_main};

/// Three million patterns.
fn calibration() -> Parameters {
    Parameters {
        max_fov: 14_f64.to_radians(),
        patterns_per_lattice_field: 500,
        verification_stars_per_fov: 3000,
        ..Parameters::default()
    }
}

/// Numbers from 0 to 1 (multiplicative congruential generator).
fn random(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Shapes of stars at random places of a square field of 11.8 degrees, as a frame that shows no stars asks for.
fn random_shapes(number: usize) -> Vec<PatternShape> {
    let mut seed = 1;
    let side = 11.8_f64.to_radians();
    let mut star = || direction(random(&mut seed) * side, (random(&mut seed) - 0.5) * side);
    (0..number).map(|_| pattern_shape([&star(), &star(), &star(), &star()])).collect()
}

fn benches(c: &mut Criterion) {
    let stars = Catalog::hipparcos();
    let mut group = c.benchmark_group("generate");
    group.sample_size(10);
    for (name, max_fov) in [("30 degrees", 30_f64), ("10 degrees", 10.0)] {
        let parameters = Parameters { max_fov: max_fov.to_radians(), ..Parameters::default() };
        group.bench_function(name, |b| b.iter(|| Database::generate(&stars, &parameters, &()).unwrap()));
    }
    group.bench_function("calibration", |b| {
        b.iter(|| Database::generate(&stars, &calibration(), &()).unwrap());
    });
    group.finish();

    let database = Database::generate(&stars, &calibration(), &()).unwrap();
    let bytes = Arc::new(database.to_bytes());
    c.bench_function("open", |b| b.iter(|| Database::from_bytes(bytes.clone()).unwrap()));
    c.bench_function("verify", |b| b.iter(|| database.verify().unwrap()));

    let shapes = random_shapes(10_000);
    let mut group = c.benchmark_group("10,000 look-ups");
    for tolerance in [0.001, 0.003, 0.01] {
        group.bench_function(tolerance.to_string(), |b| {
            b.iter(|| {
                let mut found = 0;
                for shape in &shapes {
                    let longest = shape.longest * 0.9..=shape.longest * 1.1;
                    database.patterns_near(shape, tolerance, longest, |pattern| {
                        found += pattern.stars[0] as usize;
                    });
                }
                black_box(found)
            });
        });
    }
    group.finish();

    let mut found = Vec::new();
    let mut group = c.benchmark_group("cone");
    for radius in [1_f64, 8.0, 30.0] {
        group.bench_function(format!("{radius} degrees"), |b| {
            b.iter(|| {
                found.clear();
                database.cone(&direction(1.0, 0.5), radius.to_radians(), &mut found);
                black_box(found.len())
            });
        });
    }
    group.finish();
}

criterion_group!(database, benches);
criterion_main!(database);
