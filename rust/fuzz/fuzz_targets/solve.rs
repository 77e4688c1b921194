//! Solving of any numbers as positions, field of view and tolerances.

#![no_main]

mod common;

use std::sync::LazyLock;

use boresight::solve::{SolveOptions, solve};
use boresight::{CameraModel, Database};
use libfuzzer_sys::fuzz_target;

static DATABASE: LazyLock<Database> =
    LazyLock::new(|| common::open(common::BYTES.clone()).expect("a sound database"));

fuzz_target!(|data: &[u8]| {
    let numbers = common::numbers(data);
    let (settings, positions) = numbers.split_at(numbers.len().min(4));
    let setting = |index: usize| settings.get(index).copied();
    // Exponents as in the image, most of the time: what is outside is refused at once.
    let inside = |value: f64| if data.len() % 3 == 0 { value } else { value % 128.0 };
    let stars: Vec<[f64; 2]> =
        positions.chunks_exact(2).map(|pair| [inside(pair[0]), inside(pair[1])]).collect();
    let camera = CameraModel::from_fov(1.0, [256; 2]).expect("a camera");
    let mut options = SolveOptions { max_patterns_checked: 2000, ..SolveOptions::new(camera) };
    if data.len() % 2 == 0 {
        options.fov_estimate = setting(0);
        options.fov_max_error = setting(1);
        options.match_radius = setting(2).unwrap_or(0.01);
        options.match_max_error = setting(3);
    }
    let _ = solve(&DATABASE, &stars, &options, &());
});
