//! Apparent places: converts catalogue directions of stars to the directions seen at the time of a frame, and
//! back.
//!
//! Three things displace a star: its own motion between the catalogue's epoch and the frame's ([`moved`]), the
//! observer's velocity (aberration), and the air above a site on the ground (refraction). The last two, which do not
//! depend on the star, are one value, [`ApparentPlace`].

use nalgebra::Vector3;

use crate::error::{Error, Result};
use crate::geometry::sphere::Direction;

/// Speed of light in km/s (exact by definition of the metre).
pub const SPEED_OF_LIGHT_KM_S: f64 = 299_792.458;

/// Lowest altitude of the refraction formula, radians. Lower stars are refracted as if they were at this
/// altitude, because the formula fails at the horizon.
pub const LOWEST_ALTITUDE: f64 = 5.0 * std::f64::consts::PI / 180.0;

/// Iterations to the refracted direction of a star; each makes the error a hundred times smaller.
pub const REFRACTION_ROUNDS: usize = 8;

/// Apparent direction of `v` for an observer moving at `beta` (velocity over the speed of light).
///
/// Exact special-relativistic formula (Urban & Seidelmann 2013, Explanatory Supplement, eq. 7.40).
/// `aberrate(aberrate(v, beta), -beta)` is `v` again.
///
/// ```
/// use boresight::geometry::apparent::aberrate;
/// use boresight::geometry::sphere::{direction, separation, ARCSEC};
/// let v = direction(1.0, 0.5);
/// let beta = nalgebra::Vector3::new(1e-4, 0.0, 0.0);
/// assert!(separation(&aberrate(&v, &beta), &v) < 20.7 * ARCSEC);
/// ```
pub fn aberrate(v: &Direction, beta: &Vector3<f64>) -> Direction {
    let gamma = 1.0 / (1.0 - beta.norm_squared()).sqrt();
    let vb = v.dot(beta);
    ((v / gamma + beta * (1.0 + vb * gamma / (1.0 + gamma))) / (1.0 + vb)).normalize()
}

/// Position of a star after `years`, and its velocity per year, in units of its present distance.
///
/// The star has a right ascension, a declination, and a proper motion (in right ascension times
/// cos(declination)), all in radians. Its motion is uniform, on a straight line in space; the change of
/// distance, which would require parallax and radial velocity, is neglected. A proper motion that is not
/// finite is unknown and taken as zero.
pub fn moved(ra: f64, dec: f64, pm_ra: f64, pm_dec: f64, years: f64) -> (Vector3<f64>, Vector3<f64>) {
    let (sin_ra, cos_ra) = ra.sin_cos();
    let (sin_dec, cos_dec) = dec.sin_cos();
    let east = Vector3::new(-sin_ra, cos_ra, 0.0);
    let north = Vector3::new(-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec);
    let known = |motion: f64| if motion.is_finite() { motion } else { 0.0 };
    let velocity = east * known(pm_ra) + north * known(pm_dec);
    (Vector3::new(cos_dec * cos_ra, cos_dec * sin_ra, sin_dec) + velocity * years, velocity)
}

/// Refraction by the air at one site and time. It lifts a star towards the zenith by `a tan z + b tan³ z`,
/// where z is the refracted distance from the zenith.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refraction {
    /// Unit vector to the zenith in ICRS.
    pub zenith: Direction,
    /// The constant a, radians.
    pub a: f64,
    /// The constant b, radians.
    pub b: f64,
}

impl Refraction {
    /// Refraction of a star that is seen at this distance from the zenith, radians.
    fn lift(&self, seen: f64) -> f64 {
        let tangent = seen.clamp(0.0, std::f64::consts::FRAC_PI_2 - LOWEST_ALTITUDE).tan();
        self.a * tangent + self.b * tangent.powi(3)
    }

    /// Distance from the zenith, and the unit vector from the zenith towards the star, at right angles to the
    /// zenith; it is zero for a star at the zenith itself.
    fn zenith_distance(&self, v: &Direction) -> (f64, Vector3<f64>) {
        let up = v.dot(&self.zenith);
        let across = v - self.zenith * up;
        let length = across.norm();
        (length.atan2(up), if length > 0.0 { across / length } else { Vector3::zeros() })
    }

    fn at(&self, z: f64, across: &Vector3<f64>) -> Direction {
        let (sin, cos) = z.sin_cos();
        self.zenith * cos + across * sin
    }

    /// The direction seen through the atmosphere, of a star at `v` outside it.
    pub fn refracted(&self, v: &Direction) -> Direction {
        let (z, across) = self.zenith_distance(v);
        let seen = (0..REFRACTION_ROUNDS).fold(z, |seen, _| z - self.lift(seen));
        self.at(seen, &across)
    }

    /// The direction outside the atmosphere, of a star that is seen at `seen` through it.
    pub fn unrefracted(&self, seen: &Direction) -> Direction {
        let (z, across) = self.zenith_distance(seen);
        self.at(z + self.lift(z), &across)
    }
}

/// Displacement of all stars of a frame for its observer. By default no star is displaced.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ApparentPlace {
    /// The observer's barycentric velocity over the speed of light, for stellar aberration.
    pub velocity: Option<Vector3<f64>>,
    /// Refraction by the air above the observer.
    pub refraction: Option<Refraction>,
}

impl ApparentPlace {
    /// An observer in space with this velocity over the speed of light.
    pub fn moving(velocity: Vector3<f64>) -> Self {
        Self { velocity: Some(velocity), refraction: None }
    }

    /// Returns an error if velocity or refraction are invalid; `name` is the caller's name of the velocity
    /// argument.
    pub fn check(&self, name: &'static str) -> Result<()> {
        if self.velocity.is_some_and(|beta| !beta.norm().is_finite() || beta.norm() >= 1.0) {
            return Err(Error::argument(
                name,
                "it is not finite or not below the speed of light",
                "give the barycentric velocity in km/s, see earth_barycentric_velocity",
            ));
        }
        let air = self.refraction.map(|r| r.zenith.norm_squared() + r.a + r.b);
        if air.is_some_and(|sum| !sum.is_finite()) {
            return Err(Error::argument("refraction", "it is not finite", "give what Refraction.at returns"));
        }
        Ok(())
    }

    /// Apparent direction of an ICRS direction at the epoch of the frame: aberration is applied first, then
    /// refraction.
    #[inline]
    pub fn apparent(&self, icrs: &Direction) -> Direction {
        // A fast path: in most searches, stars are not displaced.
        if self.velocity.is_none() && self.refraction.is_none() { *icrs } else { self.displaced(icrs) }
    }

    fn displaced(&self, icrs: &Direction) -> Direction {
        let outside = self.velocity.map_or(*icrs, |beta| aberrate(icrs, &beta));
        self.refraction.map_or(outside, |air| air.refracted(&outside))
    }

    /// ICRS direction of an apparent direction: the inverse of [`Self::apparent`].
    pub fn icrs(&self, apparent: &Direction) -> Direction {
        let outside = self.refraction.map_or(*apparent, |air| air.unrefracted(apparent));
        self.velocity.map_or(outside, |beta| aberrate(&outside, &-beta))
    }

    /// Upper limit of the displacement of any star, radians.
    pub fn largest_displacement(&self) -> f64 {
        let aberration = self.velocity.map_or(0.0, |beta| 1.1 * beta.norm());
        let refraction = self.refraction.map_or(0.0, |air| 1.1 * air.lift(std::f64::consts::FRAC_PI_2).abs());
        aberration + refraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::sphere::{direction, separation};
    use proptest::prelude::*;

    const AIR: Refraction = Refraction { zenith: Direction::new(0.36, 0.48, 0.8), a: 2.8e-4, b: -3e-7 };

    proptest! {
        #[test]
        fn aberration_inverts(ra in 0.0..6.2, dec in -1.57..1.57, x in -0.5..0.5, y in -0.5..0.5, z in -0.5..0.5) {
            let (v, beta) = (direction(ra, dec), Vector3::new(x, y, z));
            prop_assert!(separation(&aberrate(&aberrate(&v, &beta), &-beta), &v) < 1e-12);
        }

        #[test]
        fn a_place_inverts(ra in 0.0..6.2, dec in -1.57..1.57, x in -1e-4..1e-4, z in -1e-4..1e-4) {
            let place = ApparentPlace { velocity: Some(Vector3::new(x, 0.0, z)), refraction: Some(AIR) };
            let v = direction(ra, dec);
            let seen = place.apparent(&v);
            prop_assert!(separation(&seen, &v) <= place.largest_displacement());
            prop_assert!(separation(&place.icrs(&seen), &v) < 1e-12);
        }
    }

    #[test]
    fn the_air_lifts_and_leaves_the_zenith() {
        assert!(separation(&AIR.refracted(&AIR.zenith), &AIR.zenith) < 1e-15);
        let low = AIR.at(1.2, &Vector3::new(0.8, -0.6, 0.0));
        assert!(AIR.refracted(&low).dot(&AIR.zenith) > low.dot(&AIR.zenith));
        assert_eq!(ApparentPlace::default().apparent(&low), low);
    }
}
