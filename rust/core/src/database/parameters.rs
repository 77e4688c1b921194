//! Parameters of the generation of a database.

use crate::error::{Error, Result, in_degrees};

/// Smallest tolerance of a look-up, because the ratios of patterns are kept to 16 bits. It limits the number
/// of focal lengths for which a solver must try every pattern.
const LEAST_PATTERN_ERROR: f32 = 2e-5;

/// Smallest ratio between two scales: smaller ones would make thousands of lattices of nearly the same fields.
const LEAST_STEP: f64 = 1.01;

/// Parameters of [`crate::Database::generate`]. Angles in radians.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Largest field of view to be solved.
    pub max_fov: f64,
    /// Smallest field of view to be solved; `None`: the same as the largest.
    pub min_fov: Option<f64>,
    /// Magnitude of the faintest stars taken; `None`: as required by `verification_stars_per_fov`.
    pub star_max_magnitude: Option<f32>,
    /// Usual tolerance of a look-up, as a difference of edge ratios.
    pub pattern_max_error: f32,
    /// Number of fields in the lattice over the sky, relative to the number that covers the sky once.
    pub lattice_field_oversampling: u32,
    /// Number of patterns made of the brightest stars in each of these fields. With more patterns, frames in
    /// which bright stars are missing are solved more often, and the file grows.
    pub patterns_per_lattice_field: u32,
    /// Number of stars kept per smallest field: the brightest, spread evenly.
    pub verification_stars_per_fov: u32,
    /// Ratio between the scales from `min_fov` to `max_fov`.
    pub multiscale_step: f64,
    /// Julian year to which the stars are moved; `None`: the catalogue's own.
    pub epoch: Option<f64>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            max_fov: 30_f64.to_radians(),
            min_fov: None,
            star_max_magnitude: None,
            pattern_max_error: 0.001,
            lattice_field_oversampling: 100,
            patterns_per_lattice_field: 75,
            verification_stars_per_fov: 150,
            multiscale_step: 1.5,
            epoch: Some(2025.0),
        }
    }
}

/// Smallest field of view accepted: 1 arcmin.
const SMALLEST_FOV: f64 = std::f64::consts::PI / 10_800.0;

/// Maximum oversampling of the lattice: neighbouring fields have all their stars in common far below it.
const MOST_OVERSAMPLING: u32 = 100_000;

/// Maximum number of patterns per lattice field: patterns of more than 70 stars per field add no information.
const MOST_PATTERNS_PER_FIELD: u32 = 1_000_000;

/// Minimum distance between the stars of a pattern, relative to the spacing of evenly spread verification
/// stars. A smaller value admits more stars of clusters; a larger value skips more stars of the ordinary
/// field.
const PATTERN_STAR_SEPARATION: f64 = 0.6;

impl Parameters {
    /// Returns an error if no database can be made with these parameters.
    pub fn check(&self) -> Result<()> {
        let fov = |name, value: f64| {
            if (SMALLEST_FOV..std::f64::consts::PI).contains(&value) {
                return Ok(());
            }
            let problem = format!("is {} degrees", in_degrees(value));
            Err(Error::argument(name, problem, "give a field of view from 1/60 to less than 180 degrees"))
        };
        fov("max_fov_deg", self.max_fov)?;
        if let Some(min_fov) = self.min_fov {
            fov("min_fov_deg", min_fov)?;
            if min_fov > self.max_fov {
                let problem = format!("is {} degrees, more than max_fov_deg", in_degrees(min_fov));
                return Err(Error::argument(
                    "min_fov_deg",
                    problem,
                    "give the smaller field here or leave it out",
                ));
            }
        }
        self.check_counts()?;
        self.check_numbers()
    }

    fn check_counts(&self) -> Result<()> {
        let counts = [
            ("lattice_field_oversampling", self.lattice_field_oversampling, 1, MOST_OVERSAMPLING),
            ("patterns_per_lattice_field", self.patterns_per_lattice_field, 1, MOST_PATTERNS_PER_FIELD),
            ("verification_stars_per_fov", self.verification_stars_per_fov, 4, 1_000_000),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return Err(Error::argument(name, format!("is {value}"), format!("give {least} to {most}")));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        if self.star_max_magnitude.is_some_and(f32::is_nan) {
            return Err(Error::argument(
                "star_max_magnitude",
                "is not a number",
                "give a magnitude or leave it out",
            ));
        }
        if !(self.pattern_max_error >= LEAST_PATTERN_ERROR && self.pattern_max_error < 0.1) {
            let problem = format!("is {}", self.pattern_max_error);
            let repair = format!("give a ratio from {LEAST_PATTERN_ERROR} to below 0.1, such as 0.001");
            return Err(Error::argument("pattern_max_error", problem, repair));
        }
        if !(self.multiscale_step >= LEAST_STEP && self.multiscale_step.is_finite()) {
            let problem = format!("is {}", self.multiscale_step);
            let repair = format!("give a ratio of at least {LEAST_STEP}, such as 1.5");
            return Err(Error::argument("multiscale_step", problem, repair));
        }
        if let Some(year) = self.epoch.filter(|year| !(-10_000.0..=10_000.0).contains(year)) {
            let problem = format!("is {year}");
            return Err(Error::argument(
                "epoch_proper_motion_year",
                problem,
                "give a Julian year, such as 2025.0",
            ));
        }
        Ok(())
    }

    /// Fields of view for which patterns are made, smallest first, in equal ratios.
    pub fn scales(&self) -> Vec<f64> {
        let min_fov = self.min_fov.unwrap_or(self.max_fov);
        let ratio = self.max_fov / min_fov;
        if ratio < self.multiscale_step.sqrt() {
            return vec![self.max_fov];
        }
        let steps = (ratio.ln() / self.multiscale_step.ln()).ceil().max(1.0);
        (0..=steps as usize).map(|k| min_fov * ratio.powf(k as f64 / steps)).collect()
    }

    /// Minimum distance between the stars of a pattern in a field of diameter `fov`, radians: fainter stars
    /// closer than this to a brighter one are skipped.
    pub fn pattern_star_separation(&self, fov: f64) -> f64 {
        PATTERN_STAR_SEPARATION * fov / f64::from(self.verification_stars_per_fov).sqrt()
    }

    /// Smallest field of view.
    pub(super) fn smallest_fov(&self) -> f64 {
        self.min_fov.unwrap_or(self.max_fov)
    }
}

/// Number of circular fields of this diameter that together have the area of the sky.
pub(super) fn fields_in_sky(fov: f64) -> f64 {
    (2.0 / (1.0 - (fov / 2.0).cos())).ceil()
}
