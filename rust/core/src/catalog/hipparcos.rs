//! The packed Hipparcos catalogue: one column after another, little-endian, brightest first.

use std::f64::consts::{PI, TAU};

use super::Catalog;
use crate::geometry::sphere::ARCSEC;

/// `data/README.md` at the top of the repository says where it comes from and how to rebuild it. The crate reaches it
/// through a symbolic link, so that `cargo package` puts the file itself into the crate.
static PACKED: &[u8] = include_bytes!("../../data/hipparcos.bin");

const _: () = assert!(
    PACKED.len() > 1_000_000,
    "rust/core/data/hipparcos.bin is not the catalogue but a link that was checked out as text: \
     run `git config core.symlinks true` and check it out again"
);

/// Bytes of one star: identifier, right ascension, declination, two proper motions and parallax of 4 bytes
/// each, magnitude of 2.
const BYTES_PER_STAR: usize = 26;

/// Epoch of the catalogue, Julian year.
const EPOCH: f64 = 1991.25;

const RA_STEP: f64 = TAU / 4_294_967_296.0;
const DEC_STEP: f64 = PI / 4_294_967_296.0;
/// Of proper motion (per year) and parallax: the catalogue's own 0.01 mas.
const MOTION_STEP: f64 = 1e-5 * ARCSEC;
const MAGNITUDE_STEP: f64 = 1e-3;

/// Parallax of the stars that have neither parallax nor proper motion.
const UNKNOWN: i32 = i32::MIN;

pub(super) fn catalog() -> Catalog {
    let stars = PACKED.len() / BYTES_PER_STAR;
    let column = |k: usize| PACKED[k * stars * 4..][..stars * 4].as_chunks::<4>().0.iter();
    let unsigned = |k| column(k).map(|bytes| u32::from_le_bytes(*bytes));
    let signed = |k| column(k).map(|bytes| i32::from_le_bytes(*bytes));
    let motion = |k| {
        let known =
            |(value, parallax)| if parallax == UNKNOWN { f64::NAN } else { f64::from(value) * MOTION_STEP };
        signed(k).zip(signed(5)).map(known).collect()
    };
    let magnitudes = PACKED[stars * 24..].as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes));
    Catalog {
        ids: unsigned(0).map(i64::from).collect(),
        ra: unsigned(1).map(|value| f64::from(value) * RA_STEP).collect(),
        dec: signed(2).map(|value| f64::from(value) * DEC_STEP).collect(),
        pm_ra: motion(3),
        pm_dec: motion(4),
        parallax: motion(5),
        magnitude: magnitudes.map(|value| (f64::from(value) * MAGNITUDE_STEP) as f32).collect(),
        epoch: EPOCH,
    }
}
