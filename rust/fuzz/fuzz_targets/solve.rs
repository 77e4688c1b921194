//! Solving of any numbers as positions, field of view and tolerances.

#![no_main]

#[path = "../../core/tests/fuzzed/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| targets::solving(data));
