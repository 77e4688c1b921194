//! Areas that polygons of the sphere share, whatever their corners.

#![no_main]

mod common;

use boresight::align::footprint::{Footprint, overlap_matrix};
use boresight::geometry::sphere::Direction;
use libfuzzer_sys::fuzz_target;

/// Rounding of areas, steradians.
const ROUNDING: f64 = 1e-9;

fuzz_target!(|data: &[u8]| {
    let numbers = common::numbers(data);
    let corner = |c: &[f64]| Direction::new(c[0], c[1], c[2]).normalize();
    let corners: Vec<Direction> = numbers.chunks_exact(3).map(corner).collect();
    let size = 3 + data.len() % 4;
    let footprints: Vec<Footprint> =
        corners.chunks(size).filter_map(|part| Footprint::polygon(part).ok()).take(8).collect();
    let union = Footprint::union(&footprints);
    assert!(union.area() >= -ROUNDING);
    // Polygons that cross themselves share more than their area; nothing else is to be wrong with them.
    for shared in overlap_matrix(&footprints).into_iter().flatten() {
        assert!(shared.is_finite() && shared >= -ROUNDING, "{shared}");
    }
});
