//! Areas that polygons of the sphere share.

#![no_main]

#[path = "../../core/tests/fuzzed/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| targets::overlap(data));
