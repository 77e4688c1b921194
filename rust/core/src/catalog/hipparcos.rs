//! The packed Hipparcos catalogue: columns of whole numbers in planes of bytes, so that archives can compress them.

use std::f64::consts::{PI, TAU};

use super::Catalog;
use crate::geometry::sphere::ARCSEC;

/// The packed catalogue. `data/README.md` at the top of the repository describes its origin and how to
/// rebuild it. The crate reaches the file through a symbolic link, so that `cargo package` puts the file
/// itself into the crate.
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
/// Step of proper motion (per year) and parallax: 0.01 mas, as in the original catalogue.
const MOTION_STEP: f64 = 1e-5 * ARCSEC;
const MAGNITUDE_STEP: f64 = 1e-3;

/// Value in the parallax column that marks stars with neither parallax nor proper motion.
const UNKNOWN: i32 = i32::MIN;

pub(super) fn catalog() -> Catalog {
    let stars = PACKED.len() / BYTES_PER_STAR;
    let ids = summed(column(stars, 0, 4));
    let ra = summed(column(stars, 4, 4));
    let [dec, pm_ra, pm_dec, parallax] = [8, 12, 16, 20].map(|first| column(stars, first, 4));
    let magnitude = column(stars, 24, 2);
    // Brightest first, then by number.
    let mut order: Vec<usize> = (0..stars).collect();
    order.sort_by_key(|&i| (magnitude[i], ids[i]));
    let motion = |values: &[i32]| {
        let known = |&i: &usize| {
            if parallax[i] == UNKNOWN { f64::NAN } else { f64::from(values[i]) * MOTION_STEP }
        };
        order.iter().map(known).collect()
    };
    Catalog {
        ids: order.iter().map(|&i| i64::from(ids[i])).collect(),
        ra: order.iter().map(|&i| f64::from(ra[i].cast_unsigned()) * RA_STEP).collect(),
        dec: order.iter().map(|&i| f64::from(dec[i]) * DEC_STEP).collect(),
        pm_ra: motion(&pm_ra),
        pm_dec: motion(&pm_dec),
        parallax: motion(&parallax),
        magnitude: order.iter().map(|&i| (f64::from(magnitude[i]) * MAGNITUDE_STEP) as f32).collect(),
        epoch: EPOCH,
    }
}

/// A column of numbers of `width` bytes, after `first` bytes of each star: all lowest bytes, then all next, and so on.
/// The sign is in the lowest bit.
fn column(stars: usize, first: usize, width: usize) -> Vec<i32> {
    let plane = |k: usize| &PACKED[(first + k) * stars..][..stars];
    let bits = |i: usize| (0..width).fold(0, |bits: u32, k| bits | u32::from(plane(k)[i]) << (8 * k));
    (0..stars).map(|i| (bits(i) >> 1).cast_signed() ^ -(bits(i) & 1).cast_signed()).collect()
}

/// Sums of successive differences: the numbers that have these differences.
fn summed(mut differences: Vec<i32>) -> Vec<i32> {
    let mut sum = 0_i32;
    for value in &mut differences {
        sum = sum.wrapping_add(*value);
        *value = sum;
    }
    differences
}
