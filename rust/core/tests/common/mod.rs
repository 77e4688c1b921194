//! Shared by the tests of solving.

use boresight::geometry::attitude::Attitude;

/// Splitmix64: small, seeded and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn attitude(&mut self) -> Attitude {
        let dec = (2.0 * self.uniform() - 1.0).asin();
        Attitude::from_pointing(
            std::f64::consts::TAU * self.uniform(),
            dec,
            std::f64::consts::TAU * self.uniform(),
        )
    }
}
