//! Work on any bytes: the fuzz targets, and what the tests do with the inputs that fuzzing kept.
//!
//! Nothing may panic, hang or take all memory, whatever the bytes are.

// Each fuzz target takes one of the functions.
#![allow(dead_code)]

use std::sync::{Arc, LazyLock};

use boresight::align::footprint::{Footprint, overlap_matrix};
use boresight::database::Parameters;
use boresight::geometry::sphere::Direction;
use boresight::imaging::extract::{ExtractOptions, extract};
use boresight::imaging::image::{Image, Pixel};
use boresight::solve::{SolveOptions, solve};
use boresight::{CameraModel, Catalog, Database};

/// A sound database of bright stars.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let parameters = Parameters { max_fov: 1.0, star_max_magnitude: Some(3.0), ..Parameters::default() };
    let made = Database::generate(&Catalog::hipparcos(), &parameters, &()).expect("a sound database");
    made.as_bytes().to_vec()
});
static DATABASE: LazyLock<Database> = LazyLock::new(|| open(BYTES.clone()).expect("a sound database"));

/// Place of the checksum in the header of a database, and the header's size.
const CRC_AT: usize = 12;
const HEADER_BYTES: usize = 280;

/// Rounding of areas, steradians.
const ROUNDING: f64 = 1e-9;

fn open(bytes: Vec<u8>) -> boresight::Result<Database> {
    Database::from_bytes(Arc::new(bytes))
}

/// Any numbers, as they are in the bytes: infinite, not a number, denormal.
fn numbers(data: &[u8]) -> Vec<f64> {
    data.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().expect("eight bytes"))).collect()
}

/// A database of which some bytes are changed and the header's checksum is right again.
pub(crate) fn database(edits: &[u8]) {
    let mut bytes = BYTES.clone();
    for edit in edits.chunks_exact(4) {
        // Half of the changes in the header, the others anywhere.
        let place = usize::from(edit[0]) << 16 | usize::from(edit[1]) << 8 | usize::from(edit[2]);
        let range = if edit[0] & 1 == 0 { HEADER_BYTES } else { bytes.len() };
        bytes[place % range] = edit[3];
    }
    if edits.len() % 4 == 3 {
        bytes.truncate(bytes.len() * usize::from(edits[0]) / 255);
    }
    if bytes.len() >= HEADER_BYTES {
        bytes[CRC_AT..CRC_AT + 4].fill(0);
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(database) = open(bytes) else { return };
    let stars: Vec<[f64; 2]> =
        (0..12).map(|k: i32| [f64::from(k * 37 % 200 - 100), f64::from(k * 71 % 200 - 100)]).collect();
    let camera = CameraModel::from_fov(1.0, [256; 2]).expect("a camera");
    let options = SolveOptions { max_patterns_checked: 500, ..SolveOptions::new(camera) };
    let _ = solve(&database, &stars, &options, &());
    let _ = database.verify();
}

/// Extraction of any bytes as an image, of integers or of floating-point numbers.
pub(crate) fn extraction(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let width = usize::from(first % 48) + 1;
    let floats: Vec<f32> =
        rest.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let shorts: Vec<u16> = rest.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
    // The same numbers, but of a size as cameras give them.
    let counts: Vec<f32> = shorts.iter().map(|&count| f32::from(count) * 0.1).collect();
    extracted(&floats, width);
    extracted(&shorts, width);
    extracted(&counts, width);
}

fn extracted<T: Pixel>(pixels: &[T], width: usize) {
    if let Ok(image) = Image::from_slice(&pixels[..pixels.len() / width * width], width) {
        let _ = extract(&image, &ExtractOptions::default());
    }
}

/// Solving of any numbers as positions, field of view and tolerances.
pub(crate) fn solving(data: &[u8]) {
    let numbers = numbers(data);
    let (settings, positions) = numbers.split_at(numbers.len().min(4));
    let setting = |index: usize| settings.get(index).copied();
    // Exponents as in the image, most of the time: what is outside is refused at once.
    let inside = |value: f64| if data.len().is_multiple_of(3) { value } else { value % 128.0 };
    let stars: Vec<[f64; 2]> =
        positions.chunks_exact(2).map(|pair| [inside(pair[0]), inside(pair[1])]).collect();
    let camera = CameraModel::from_fov(1.0, [256; 2]).expect("a camera");
    let mut options = SolveOptions { max_patterns_checked: 2000, ..SolveOptions::new(camera) };
    if data.len().is_multiple_of(2) {
        options.fov_estimate = setting(0);
        options.fov_max_error = setting(1);
        options.match_radius = setting(2).unwrap_or(0.01);
        options.match_max_error = setting(3);
    }
    let _ = solve(&DATABASE, &stars, &options, &());
}

/// Areas that polygons of the sphere share, whatever their corners.
pub(crate) fn overlap(data: &[u8]) {
    let numbers = numbers(data);
    let corner = |c: &[f64]| Direction::new(c[0], c[1], c[2]).normalize();
    let corners: Vec<Direction> = numbers.chunks_exact(3).map(corner).collect();
    let size = 3 + data.len() % 4;
    let footprints: Vec<Footprint> =
        corners.chunks(size).filter_map(|part| Footprint::polygon(part).ok()).take(8).collect();
    let union = Footprint::union(&footprints);
    assert!(union.area() >= -ROUNDING);
    // Outlines that touch themselves may share more than their area.
    for shared in overlap_matrix(&footprints).into_iter().flatten() {
        assert!(shared.is_finite() && shared >= -ROUNDING, "{shared}");
    }
}
