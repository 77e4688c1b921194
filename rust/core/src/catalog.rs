//! Star catalogues: positions, motions and magnitudes at an explicit epoch.

use std::sync::OnceLock;

use nalgebra::Vector3;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::geometry::apparent::moved;
use crate::geometry::sphere::{Direction, direction, east_north, ra_dec};
use crate::index::sky_grid::CellIndex;

mod hipparcos;

/// Stars in columns, in any order. Angles in radians, ICRS.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// Identifiers of the stars in the catalogue.
    pub ids: Vec<i64>,
    /// Right ascension at the epoch.
    pub ra: Vec<f64>,
    /// Declination at the epoch.
    pub dec: Vec<f64>,
    /// Proper motion in right ascension times cos(declination), per Julian year; NaN where unknown.
    pub pm_ra: Vec<f64>,
    /// Proper motion in declination, per Julian year; NaN where unknown.
    pub pm_dec: Vec<f64>,
    /// Parallax; NaN where unknown.
    pub parallax: Vec<f64>,
    /// Magnitude in the catalogue's own band.
    pub magnitude: Vec<f32>,
    /// Julian year of the positions.
    pub epoch: f64,
}

impl Catalog {
    /// The Hipparcos catalogue, new reduction (van Leeuwen 2007, CDS I/311), brightest first.
    ///
    /// 117,955 stars at J1991.25 and four bright ones that it lacks; V magnitudes.
    pub fn hipparcos() -> Self {
        hipparcos::catalog()
    }

    /// Number of stars.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no star.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The catalogue of the given rows, in their given order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        fn take<T: Copy>(column: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|row| column[*row as usize]).collect()
        }
        Self {
            ids: take(&self.ids, rows),
            ra: take(&self.ra, rows),
            dec: take(&self.dec, rows),
            pm_ra: take(&self.pm_ra, rows),
            pm_dec: take(&self.pm_dec, rows),
            parallax: take(&self.parallax, rows),
            magnitude: take(&self.magnitude, rows),
            epoch: self.epoch,
        }
    }

    /// Returns an error if columns differ in length or a star has no position or magnitude.
    pub fn check(&self) -> Result<()> {
        let lengths = [
            ("ra", self.ra.len()),
            ("dec", self.dec.len()),
            ("pm_ra", self.pm_ra.len()),
            ("pm_dec", self.pm_dec.len()),
            ("parallax", self.parallax.len()),
            ("magnitude", self.magnitude.len()),
        ];
        for (name, length) in lengths {
            if length != self.len() {
                let problem = format!("{length} values for {} identifiers", self.len());
                return Err(Error::argument(name, problem, "give every column one value per star"));
            }
        }
        let refuse = |name, star: usize, value: f64, repair: &str| {
            let problem = format!("star {} (row {star}) has {value}", self.ids[star]);
            Err(Error::argument(name, problem, repair))
        };
        for star in 0..self.len() {
            if !self.ra[star].is_finite() {
                return refuse(
                    "ra_deg",
                    star,
                    self.ra[star].to_degrees(),
                    "leave out stars without position",
                );
            }
            // Slightly more than π/2 is accepted: degrees converted to radians may round up.
            if self.dec[star].is_nan() || self.dec[star].abs() > std::f64::consts::FRAC_PI_2 + 1e-12 {
                return refuse(
                    "dec_deg",
                    star,
                    self.dec[star].to_degrees(),
                    "give declinations from -90 to 90 degrees",
                );
            }
            if !self.magnitude[star].is_finite() {
                let value = f64::from(self.magnitude[star]);
                return refuse("magnitude", star, value, "leave out stars without magnitude");
            }
        }
        if !self.epoch.is_finite() {
            let problem = format!("{} is not a finite number", self.epoch);
            return Err(Error::argument(
                "epoch",
                problem,
                "give the Julian year of the positions, such as 2016.0",
            ));
        }
        Ok(())
    }

    /// Unit vectors of all stars at a Julian year.
    pub fn directions_at(&self, year: f64) -> Vec<Direction> {
        let years = year - self.epoch;
        let moved = |star| {
            if years == 0.0 {
                direction(self.ra[star], self.dec[star])
            } else {
                self.position_and_velocity(star, years).0.normalize()
            }
        };
        (0..self.len()).into_par_iter().map(moved).collect()
    }

    /// The catalogue at another Julian year: stars move uniformly on straight lines in space.
    ///
    /// Exact except for the change of distance, which would require parallax and radial velocity (less than 1
    /// mas in 50 years except for the very nearest stars). Stars without proper motion do not move.
    #[must_use]
    pub fn at_epoch(&self, year: f64) -> Self {
        let years = year - self.epoch;
        let moved: Vec<Option<[f64; 4]>> = (0..self.len())
            .into_par_iter()
            .map(|star| {
                let (position, velocity) = self.position_and_velocity(star, years);
                if velocity == Vector3::zeros() {
                    return None;
                }
                let distance = position.norm();
                let v = position / distance;
                let motion = (velocity - v * v.dot(&velocity)) / distance;
                let (east, north) = east_north(&v);
                let (ra, dec) = ra_dec(&v);
                Some([ra, dec, motion.dot(&east), motion.dot(&north)])
            })
            .collect();
        let mut out = Self { epoch: year, ..self.clone() };
        for (star, moved) in moved.into_iter().enumerate() {
            if let Some(columns) = moved {
                [out.ra[star], out.dec[star], out.pm_ra[star], out.pm_dec[star]] = columns;
            }
        }
        out
    }

    /// For every star, the index of the nearest star of `others` within `radius`; each catalogue is taken at
    /// its own epoch.
    pub fn cross_match(&self, others: &Self, radius: f64) -> Vec<Option<usize>> {
        let directions: Vec<[f64; 3]> =
            others.directions_at(others.epoch).into_iter().map(Into::into).collect();
        let index = CellIndex::new(&directions);
        let nearest = |v: Direction, found: &mut Vec<u32>| {
            found.clear();
            index.view().cone(&directions, &v, radius, found);
            let distance = |other: &u32| (v - Direction::from(directions[*other as usize])).norm_squared();
            found
                .iter()
                .copied()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
                .map(|other| other as usize)
        };
        self.directions_at(self.epoch)
            .into_par_iter()
            .map_init(Vec::new, |found, v| nearest(v, found))
            .collect()
    }

    /// The catalogue with the proper motions and parallaxes of `others`, for the stars that both have.
    ///
    /// Each star of `others` is matched with the nearest star here, at this catalogue's epoch, within
    /// `radius` and `magnitudes`.
    #[must_use]
    pub fn with_motions_of(&self, others: &Self, radius: f64, magnitudes: f32) -> Self {
        let others = others.at_epoch(self.epoch);
        let mut out = self.clone();
        for (other, star) in others.cross_match(self, radius).into_iter().enumerate() {
            let Some(star) = star else { continue };
            if (others.magnitude[other] - self.magnitude[star]).abs() < magnitudes {
                out.pm_ra[star] = others.pm_ra[other];
                out.pm_dec[star] = others.pm_dec[other];
                out.parallax[star] = others.parallax[other];
            }
        }
        out
    }

    /// Rows of the stars within `radius` of a direction, in the catalogue's order.
    pub fn cone(&self, center: &Direction, radius: f64) -> Vec<usize> {
        let limit = crate::geometry::sphere::chord(radius.clamp(0.0, std::f64::consts::PI)).powi(2);
        let inside =
            |star: &usize| (direction(self.ra[*star], self.dec[*star]) - center).norm_squared() <= limit;
        (0..self.len()).into_par_iter().filter(inside).collect()
    }

    /// Position after `years`, and the velocity per year, in units of the present distance.
    fn position_and_velocity(&self, star: usize, years: f64) -> (Vector3<f64>, Vector3<f64>) {
        moved(self.ra[star], self.dec[star], self.pm_ra[star], self.pm_dec[star], years)
    }
}

/// Positions of the stars of a catalogue at any epoch, looked up by identifier.
#[derive(Debug)]
pub struct Motions {
    /// Julian year of the positions.
    epoch: f64,
    /// Identifiers, ascending.
    ids: Vec<i64>,
    /// Position and velocity per year of each star, in units of its present distance, stored for repeated
    /// look-ups.
    courses: Vec<(Vector3<f64>, Vector3<f64>)>,
}

impl Motions {
    /// Prepares the motions of a catalogue whose identifiers are distinct.
    pub fn new(catalog: &Catalog) -> Self {
        let mut rows: Vec<usize> = (0..catalog.len()).collect();
        rows.sort_unstable_by_key(|&row| catalog.ids[row]);
        let course = |&row: &usize| catalog.position_and_velocity(row, 0.0);
        Self {
            epoch: catalog.epoch,
            ids: rows.iter().map(|&row| catalog.ids[row]).collect(),
            courses: rows.par_iter().map(course).collect(),
        }
    }

    /// The motions of [`Catalog::hipparcos`], prepared at the first call.
    pub fn hipparcos() -> &'static Self {
        static MOTIONS: OnceLock<Motions> = OnceLock::new();
        MOTIONS.get_or_init(|| Self::new(&Catalog::hipparcos()))
    }

    /// Direction of a star at a Julian year; `None` if the catalogue has no star of this identifier.
    pub fn direction_at(&self, id: i64, year: f64) -> Option<Direction> {
        let (position, velocity) = self.courses[self.row(id)?];
        Some((position + velocity * (year - self.epoch)).normalize())
    }

    /// Row of an identifier. Its range is limited by the distances from the first and the last identifier,
    /// because identifiers are distinct and ascending; with few gaps, as in Hipparcos, the range is short.
    fn row(&self, id: i64) -> Option<usize> {
        let (first, last) = (*self.ids.first()?, *self.ids.last()?);
        let [below, above] = [id.saturating_sub(first), last.saturating_sub(id)].map(usize::try_from);
        let most = self.ids.len() - 1;
        let (low, high) = (most.saturating_sub(above.ok()?), below.ok()?.min(most));
        Some(low + self.ids[low..=high].binary_search(&id).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::geometry::sphere::{ARCSEC, separation};
    use proptest::prelude::*;

    fn one_star(ra: f64, dec: f64, pm_ra: f64, pm_dec: f64) -> Catalog {
        Catalog {
            ids: vec![1],
            ra: vec![ra],
            dec: vec![dec],
            pm_ra: vec![pm_ra],
            pm_dec: vec![pm_dec],
            parallax: vec![f64::NAN],
            magnitude: vec![5.0],
            epoch: 2000.0,
        }
    }

    #[test]
    fn hipparcos_is_whole_and_brightest_first() {
        let stars = Catalog::hipparcos();
        assert_eq!(stars.len(), 117_959);
        assert!(stars.magnitude.is_sorted());
        assert_eq!(stars.epoch, 1991.25);
        stars.check().unwrap();
        // Sirius, from SIMBAD's J2000 position and motion.
        assert_eq!(stars.ids[0], 32349);
        let sirius = direction(101.287_155_33_f64.to_radians(), (-16.716_115_86_f64).to_radians());
        assert!(separation(&stars.at_epoch(2000.0).directions_at(2000.0)[0], &sirius) < 0.1 * ARCSEC);
    }

    #[test]
    fn motions_are_those_of_the_catalogue() {
        let stars = Catalog::hipparcos();
        let directions = stars.directions_at(2018.6);
        for row in (0..stars.len()).step_by(997) {
            let found = Motions::hipparcos().direction_at(stars.ids[row], 2018.6).unwrap();
            assert!(separation(&found, &directions[row]) < 1e-15);
        }
        for none in [i64::MIN, -1, 0, i64::MAX] {
            assert!(Motions::hipparcos().direction_at(none, 2018.6).is_none());
        }
        let rows = |ids: Vec<i64>| Motions { epoch: 2000.0, ids, courses: Vec::new() };
        for ids in [vec![i64::MIN, -3, 7, i64::MAX], vec![4], vec![2, 3, 4], vec![]] {
            let motions = rows(ids.clone());
            assert!(ids.iter().enumerate().all(|(row, &id)| motions.row(id) == Some(row)));
            assert!([-4, 5, 8].iter().all(|&id| motions.row(id).is_none()));
        }
    }

    #[test]
    fn crosses_the_pole_straight() {
        // 10 arcsec from the pole, moving 1 arcsec a year towards it: 20 years later 10 arcsec beyond.
        let star = one_star(1.0, std::f64::consts::FRAC_PI_2 - 10.0 * ARCSEC, 0.0, ARCSEC);
        let after = star.at_epoch(2020.0);
        assert!((after.ra[0] - 1.0 - std::f64::consts::PI).abs() < 1e-6);
        assert!((after.dec[0] - star.dec[0]).abs() < 1e-6 * ARCSEC);
        assert!((after.pm_dec[0] + ARCSEC).abs() < 1e-6 * ARCSEC);
    }

    #[test]
    fn stars_without_motion_stay() {
        let star = one_star(1.0, 0.3, f64::NAN, f64::NAN);
        let after = star.at_epoch(2050.0);
        assert_eq!((after.ra[0], after.dec[0]), (1.0, 0.3));
        assert!(after.pm_ra[0].is_nan());
    }

    proptest! {
        #[test]
        fn moving_there_and_back_changes_nothing(
            ra in 0.0..TAU, dec in -1.57..1.57, pm_ra in -10.0..10.0, pm_dec in -10.0..10.0, years in -100.0..100.0,
        ) {
            let star = one_star(ra, dec, pm_ra * ARCSEC, pm_dec * ARCSEC);
            let there = star.at_epoch(2000.0 + years);
            prop_assert!(separation(&there.directions_at(there.epoch)[0], &star.directions_at(there.epoch)[0]) < 1e-15);
            // The change of distance is lost on the way, so that the return is exact to second order only.
            let back = there.at_epoch(2000.0);
            let moved: f64 = f64::hypot(pm_ra, pm_dec) * years * ARCSEC;
            prop_assert!(separation(&direction(ra, dec), &direction(back.ra[0], back.dec[0])) < 1.01 * moved.abs().powi(3) + 1e-12);
        }

        #[test]
        fn cross_match_finds_the_nearest(seed in 0_u64..1000) {
            let stars = Catalog::hipparcos();
            let pick = |k: u64| ((seed * 7919 + k * 104_729) % stars.len() as u64) as usize;
            let rows: Vec<usize> = (0..20).map(pick).collect();
            let mut some = Catalog { epoch: stars.epoch, ..Catalog::default() };
            for &row in &rows {
                some.ids.push(stars.ids[row]);
                some.ra.push(stars.ra[row]);
                some.dec.push(stars.dec[row]);
                some.pm_ra.push(f64::NAN);
                some.pm_dec.push(f64::NAN);
                some.parallax.push(f64::NAN);
                some.magnitude.push(stars.magnitude[row]);
            }
            let found = some.cross_match(&some, ARCSEC);
            for (i, other) in found.into_iter().enumerate() {
                let other = other.unwrap();
                prop_assert!(separation(&direction(some.ra[i], some.dec[i]), &direction(some.ra[other], some.dec[other])) < 1e-12);
            }
        }
    }
}
