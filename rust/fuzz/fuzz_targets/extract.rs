//! Extraction of any bytes as an image.

#![no_main]

#[path = "../../core/tests/fuzzed/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| targets::extraction(data));
