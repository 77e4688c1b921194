//! Inputs that fuzzing kept, one for each way through the code that it found: they may not panic or hang.

#[path = "fuzzed/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

fn check(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzed").join(name);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).expect("inputs") {
        target(&fs::read(entry.expect("an input").path()).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 0);
}

#[test]
fn databases() {
    check("database", targets::database);
}

#[test]
fn images() {
    check("extract", targets::extraction);
}

#[test]
fn fields() {
    check("solve", targets::solving);
}

#[test]
fn polygons() {
    check("overlap", targets::overlap);
}
