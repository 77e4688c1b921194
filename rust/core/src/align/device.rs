//! Distortion of a device that all exposures share, and own distortion of single exposures: products of
//! Legendre polynomials of the pixel.
//!
//! Legendre polynomials are nearly orthogonal over a detector, so that terms of different order are nearly
//! independent.

use crate::geometry::distortion::Point;

/// Highest degree of a polynomial along one axis.
pub const HIGHEST_DEGREE: usize = 9;

/// A factor times Legendre polynomials of both coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Degrees along x and y, up to [`HIGHEST_DEGREE`].
    pub degrees: [usize; 2],
    /// The factor; 0 if the term displaces nothing along this axis.
    pub factor: f64,
}

/// A displacement of the pixels of a detector, scaled by one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Number of the detector.
    pub detector: u32,
    /// Displacement along x.
    pub x: Product,
    /// Displacement along y.
    pub y: Product,
}

/// Position of a detection on its detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Number of the detector.
    pub detector: u32,
    /// Pixel relative to the centre of the detector, in units of half its size: about -1 to 1.
    pub at: Point,
    /// Derivatives of the position in the plane of the exposure with respect to the pixel, by rows.
    pub gradient: [[f64; 2]; 2],
}

/// Distortion in a joint fit: terms that all exposures share, and terms with separate parameters for each
/// exposure.
#[derive(Debug, Clone, Copy, Default)]
pub struct Device<'a> {
    /// Shared terms whose parameters are fitted. If empty, the exposures share nothing.
    pub terms: &'a [Term],
    /// Position of each detection on its detector; may be empty without terms.
    pub places: &'a [Place],
    /// Own terms, for which an exposure has separate parameters if `has_own_terms` is true for it.
    pub own: &'a [Term],
    /// Whether each exposure has own terms; may be empty if none does.
    pub has_own_terms: &'a [bool],
    /// Inverse variance of the parameters of own terms about 0. With it, distortion common to all exposures
    /// goes to the shared terms.
    pub own_prior: f64,
}

/// Maximum number of own terms of an exposure: those of second degree.
pub const MOST_OWN: usize = 6;

impl Device<'_> {
    /// Explains why the device does not fit the numbers of detections and exposures; `None` if it does.
    pub(super) fn problem(&self, detections: usize, exposures: usize) -> Option<&'static str> {
        let finite = |p: &Place| p.at.iter().chain(p.gradient.iter().flatten()).all(|x| x.is_finite());
        let degrees = |t: &Term| [t.x.degrees, t.y.degrees];
        let any = !(self.terms.is_empty() && self.own.is_empty());
        if any && self.places.len() != detections {
            Some("not every detection has a place on a detector")
        } else if self.own.len() > MOST_OWN || ![0, exposures].contains(&self.has_own_terms.len()) {
            Some("an exposure has more than 6 own terms, or `has_own_terms` is not one per exposure")
        } else if !(self.own_prior >= 0.0 && self.own_prior.is_finite()) {
            Some("the prior of the exposures' own terms is negative")
        } else if !self.places.iter().all(finite) {
            Some("a place on a detector is not finite")
        } else if self
            .terms
            .iter()
            .chain(self.own)
            .flat_map(degrees)
            .flatten()
            .any(|degree| degree > HIGHEST_DEGREE)
        {
            Some("a polynomial of the device is of too high a degree")
        } else {
            None
        }
    }

    /// Calls `call` with each shared term of a detection's detector, and the displacement in the plane per
    /// unit of its parameter.
    pub fn for_each(&self, detection: usize, call: impl FnMut(usize, Point)) {
        self.displace(self.terms, detection, call);
    }

    /// Calls `call` in the same way with the own terms of an exposure, if it has any.
    pub fn for_each_own(&self, detection: usize, exposure: usize, call: impl FnMut(usize, Point)) {
        if self.has_own_terms(exposure) {
            self.displace(self.own, detection, call);
        }
    }

    /// Whether an exposure has own terms.
    pub(super) fn has_own_terms(&self, exposure: usize) -> bool {
        self.has_own_terms.get(exposure).copied().unwrap_or(false)
    }

    fn displace(&self, terms: &[Term], detection: usize, mut call: impl FnMut(usize, Point)) {
        if terms.is_empty() {
            return;
        }
        let place = &self.places[detection];
        let [x, y] = place.at.map(legendre);
        let value = |p: &Product| p.factor * x[p.degrees[0]] * y[p.degrees[1]];
        for (k, term) in terms.iter().enumerate().filter(|(_, t)| t.detector == place.detector) {
            let step = [value(&term.x), value(&term.y)];
            call(k, place.gradient.map(|row| row[0] * step[0] + row[1] * step[1]));
        }
    }
}

/// Values of the Legendre polynomials of degree 0, 1, 2 ... by their recurrence.
fn legendre(x: f64) -> [f64; HIGHEST_DEGREE + 1] {
    let mut p = [1.0; HIGHEST_DEGREE + 1];
    p[1] = x;
    for n in 2..=HIGHEST_DEGREE {
        let k = n as f64;
        p[n] = ((2.0 * k - 1.0) * x * p[n - 1] - (k - 1.0) * p[n - 2]) / k;
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_have_their_values() {
        // Abramowitz & Stegun 1964, table 22.9.
        let p = legendre(0.5);
        assert!((p[2] + 0.125).abs() < 1e-15);
        assert!((p[3] + 0.4375).abs() < 1e-15);
        assert!((p[5] - 0.089_843_75).abs() < 1e-15);
        assert!(legendre(1.0).iter().all(|v| (v - 1.0).abs() < 1e-14));
    }

    #[test]
    fn terms_of_the_own_detector_displace() {
        let term = |detector| Term {
            detector,
            x: Product { degrees: [2, 0], factor: 1.0 },
            y: Product { degrees: [0, 1], factor: -2.0 },
        };
        let place = Place { detector: 1, at: [0.5, 0.25], gradient: [[0.0, 1.0], [1.0, 0.0]] };
        let own = [term(1)];
        let device = Device {
            terms: &[term(0), term(1)],
            places: &[place],
            own: &own,
            has_own_terms: &[false, true],
            own_prior: 0.0,
        };
        let mut found = Vec::new();
        device.for_each(0, |k, step| found.push((k, step)));
        device.for_each_own(0, 0, |k, step| found.push((k, step)));
        assert_eq!(found, [(1, [-0.5, -0.125])]);
        device.for_each_own(0, 1, |k, step| found.push((k, step)));
        assert_eq!(found[1], (0, [-0.5, -0.125]));
        assert!(device.problem(1, 2).is_none() && device.problem(1, 3).is_some());
    }
}
