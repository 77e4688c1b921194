//! Databases of which some bytes are changed and the header's checksum is right again.

#![no_main]

#[path = "../../core/tests/fuzzed/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| targets::database(data));
