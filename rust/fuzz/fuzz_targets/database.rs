//! Databases of which some bytes are changed and the header's checksum is right again.

#![no_main]

mod common;

use boresight::CameraModel;
use boresight::solve::{SolveOptions, solve};
use libfuzzer_sys::fuzz_target;

/// Place of the checksum in the header, and the header's size.
const CRC_AT: usize = 12;
const HEADER_BYTES: usize = 280;

fuzz_target!(|edits: &[u8]| {
    let mut bytes = common::BYTES.clone();
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
    let Ok(database) = common::open(bytes) else { return };
    let stars: Vec<[f64; 2]> =
        (0..12).map(|k: i32| [f64::from(k * 37 % 200 - 100), f64::from(k * 71 % 200 - 100)]).collect();
    let camera = CameraModel::from_fov(1.0, [256; 2]).expect("a camera");
    let options = SolveOptions { max_patterns_checked: 500, ..SolveOptions::new(camera) };
    let _ = solve(&database, &stars, &options, &());
    let _ = database.verify();
});
