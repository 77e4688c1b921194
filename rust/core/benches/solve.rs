//! Time to solve a field of Hipparcos stars, and to give up on a random one.

use boresight::catalog::Catalog;
use boresight::database::{Database, Parameters};
use boresight::geometry::attitude::Attitude;
use boresight::geometry::camera::CameraModel;
use boresight::geometry::sphere::Direction;
use boresight::solve::{SolveOptions, solve};
use criterion::{Criterion, criterion_group, criterion_main};

const FOV_DEG: f64 = 10.0;
const FIELDS: usize = 64;

/// Low-discrepancy numbers in [0, 1): the same fields on every machine.
fn spread(index: usize, base: f64) -> f64 {
    (index as f64 * base).fract()
}

fn field(database: &Database, index: usize, stars: usize) -> Vec<[f64; 2]> {
    let camera = CameraModel::from_fov(FOV_DEG.to_radians(), [1024, 1024]).expect("a valid camera");
    let dec = (2.0 * spread(index, 0.754_877_666) - 1.0).asin();
    let attitude = Attitude::from_pointing(
        std::f64::consts::TAU * spread(index, 0.569_840_291),
        dec,
        std::f64::consts::TAU * spread(index, 0.618_033_989),
    );
    let project = |v: &[f64; 3]| camera.direction_to_pixel(&attitude.to_camera(&Direction::from(*v)));
    database.directions().iter().filter_map(project).filter(|p| camera.contains(*p)).take(stars).collect()
}

fn random_field(index: usize, stars: usize) -> Vec<[f64; 2]> {
    (1..=stars)
        .map(|i| {
            [
                1024.0 * (spread(i * (index + 7), 0.754_877_666) - 0.5),
                1024.0 * (spread(i * (index + 7), 0.569_840_291) - 0.5),
            ]
        })
        .collect()
}

fn solving(c: &mut Criterion) {
    let fov = FOV_DEG.to_radians();
    let parameters = Parameters { max_fov: fov, ..Parameters::default() };
    let database = Database::generate(&Catalog::hipparcos(), &parameters, &()).expect("a database");
    let camera = CameraModel::from_fov(fov, [1024, 1024]).expect("a valid camera");
    let options = SolveOptions {
        fov_estimate: Some(fov),
        fov_max_error: Some(0.01 * fov),
        ..SolveOptions::new(camera)
    };
    let mut group = c.benchmark_group("solve");
    for stars in [20, 200] {
        let fields: Vec<_> = (0..FIELDS).map(|i| field(&database, i, stars)).collect();
        let random: Vec<_> = (0..FIELDS).map(|i| random_field(i, stars)).collect();
        for (name, fields) in [("stars", &fields), ("random", &random)] {
            let mut next = 0;
            group.bench_function(format!("{name}/{stars}"), |b| {
                b.iter(|| {
                    next = (next + 1) % FIELDS;
                    solve(&database, &fields[next], &options, &()).expect("valid arguments")
                });
            });
        }
    }
}

criterion_group!(benches, solving);
criterion_main!(benches);
