//! What the targets share: a small database, and numbers out of bytes.

use std::sync::{Arc, LazyLock};

use boresight::database::Parameters;
use boresight::{Catalog, Database};

/// A sound database of bright stars.
pub static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let parameters = Parameters { max_fov: 1.0, star_max_magnitude: Some(3.0), ..Parameters::default() };
    let made = Database::generate(&Catalog::hipparcos(), &parameters, &()).expect("a sound database");
    made.as_bytes().to_vec()
});

/// Opens the bytes of a database.
pub fn open(bytes: Vec<u8>) -> boresight::Result<Database> {
    Database::from_bytes(Arc::new(bytes))
}

/// Any numbers, as they are in the bytes: infinite, not a number, denormal.
#[allow(dead_code)]
pub fn numbers(data: &[u8]) -> Vec<f64> {
    data.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().expect("eight bytes"))).collect()
}
