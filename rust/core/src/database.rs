//! The pattern database: the stars of a catalogue, and the patterns of stars by which a frame is recognised.
//!
//! A database is one block of bytes, the same in memory and on disk (`database/format.rs` describes the
//! format). Opening a file therefore takes the same time whatever its size, and processes that map one file
//! share its memory.

use std::sync::{Arc, OnceLock};

use crate::catalog::{Catalog, Motions};
use crate::error::{Error, Result};
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::{CellStar, CellView, SkyGrid};
use crate::memory;
use crate::monitor::Monitor;
use crate::pattern::Pattern;

mod combine;
mod coverage;
mod estimate;
mod fields;
mod format;
mod generate;
mod grid;
mod lattice;
mod lookup;
mod parameters;
mod select;
mod sort;
mod stage;
#[cfg(test)]
mod tests;

pub use estimate::SizeEstimate;
use format::{Image, Section};
use grid::RatioGrid;
pub(crate) use lattice::lattice_point;
pub use lookup::Lookups;
pub use parameters::Parameters;

/// Revision of the generation. It changes whenever the same stars and parameters give another database than
/// before.
pub const REVISION: u32 = 1;

/// Number of stars searched per star wanted, for an even distribution of stars. It exceeds 1 because some
/// stars are not in the image. Where stars are twice as sparse as on average, a second, wider search is
/// needed.
const SEARCH_MARGIN: f64 = 1.8;
/// Factor by which every further search is wider.
const WIDENING: f64 = 3.0;

/// Memory needed to make even a small database, bytes.
const LEAST_BYTES: usize = 64 << 20;

/// Number of brightest stars by which a database of Hipparcos stars is recognised.
const RECOGNISED_BY: usize = 32;
/// Largest difference between the positions of these stars and those of Hipparcos at the database's epoch,
/// radians (0.2 mas).
const SAME_PLACE: f64 = 1e-9;

/// Bytes that may be owned, mapped or borrowed from elsewhere.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Stars, brightest first, and patterns of four stars, which can be looked up by shape.
///
/// All data are read in place. Damaged bytes after the header may give wrong answers, but neither a panic nor
/// stars or patterns that do not exist. [`Database::verify`] detects such damage beforehand.
pub struct Database {
    image: Image,
    parameters: Parameters,
    epoch: f64,
    sky: SkyGrid,
    ratios: RatioGrid,
    is_hipparcos: OnceLock<bool>,
}

impl Database {
    /// Makes a database from a catalogue. The result is the same for any number of threads.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Interrupted`], and [`Error::Memory`] if it needs more memory than there is.
    pub fn generate(stars: &Catalog, parameters: &Parameters, monitor: &dyn Monitor) -> Result<Self> {
        memory::check("making a database", LEAST_BYTES)?;
        let plan = generate::Plan::new(stars, parameters, monitor)?;
        estimate::check_memory(&plan, parameters, monitor)?;
        generate::generate(plan, parameters, monitor)
    }

    /// Estimates the size of a database in a fraction of the time needed to make it. The patterns are counted
    /// in patches of the sky; all other numbers are exact.
    pub fn estimate_size(
        stars: &Catalog,
        parameters: &Parameters,
        monitor: &dyn Monitor,
    ) -> Result<SizeEstimate> {
        estimate::estimate_size(&generate::Plan::new(stars, parameters, monitor)?, parameters, monitor)
    }

    /// Opens the bytes of a database. Only the header is read, so the cost does not grow with the size.
    pub fn from_bytes(bytes: SharedBytes) -> Result<Self> {
        let image = Image::open(bytes)?;
        let header = *image.header();
        let (parameters, epoch) = header.content();
        parameters.check().map_err(|error| Error::Format(format!("damaged database: {error}")))?;
        let sky = SkyGrid::with_bands(header.sky_bands as usize);
        let ratios = RatioGrid { coarse: header.ratio_coarse, fine: header.ratio_fine };
        let database = Self { image, parameters, epoch, sky, ratios, is_hipparcos: OnceLock::new() };
        database.check_sizes()?;
        Ok(database)
    }

    /// The bytes to write to a file.
    pub fn as_bytes(&self) -> &[u8] {
        self.image.bytes()
    }

    /// A copy of the bytes to write to a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// Checksum of the header, which includes the checksums of all other data. It identifies a database.
    pub fn checksum(&self) -> u32 {
        self.image.header().crc
    }

    /// Compares every byte with the checksums and every index with the number of stars.
    pub fn verify(&self) -> Result<()> {
        self.image.verify()?;
        let stars = self.num_stars();
        let sound = self.patterns().iter().all(|pattern| self.holds(pattern))
            && self.id_order().iter().all(|star| (*star as usize) < stars)
            && self.ratio_offsets().is_sorted()
            && self.cells().offsets.is_sorted();
        if sound { Ok(()) } else { Err(Error::Format("damaged database: an index is out of range".into())) }
    }

    /// Number of stars.
    pub fn num_stars(&self) -> usize {
        self.magnitudes().len()
    }

    /// Number of patterns.
    pub fn num_patterns(&self) -> usize {
        self.patterns().len()
    }

    /// Parameters of the generation, with automatically chosen values filled in.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Julian year of the stars' positions.
    pub fn epoch(&self) -> f64 {
        self.epoch
    }

    /// ICRS unit vectors at the database's epoch, brightest star first.
    pub fn directions(&self) -> &[[f64; 3]] {
        self.image.section(Section::Directions)
    }

    /// Motions of the stars, by their identifiers; `None` unless the stars are those of
    /// [`Catalog::hipparcos`].
    pub fn motions(&self) -> Option<&'static Motions> {
        let known = Motions::hipparcos();
        let same = |(id, listed): (&i64, &[f64; 3])| {
            let expected = known.direction_at(*id, self.epoch);
            expected.is_some_and(|there| (there - Direction::from(*listed)).norm() < SAME_PLACE)
        };
        let recognised = || self.ids().iter().zip(self.directions()).take(RECOGNISED_BY).all(same);
        self.is_hipparcos.get_or_init(recognised).then_some(known)
    }

    /// Magnitudes, ascending.
    pub fn magnitudes(&self) -> &[f32] {
        self.image.section(Section::Magnitudes)
    }

    /// Identifiers in the catalogue the stars come from.
    pub fn ids(&self) -> &[i64] {
        self.image.section(Section::Ids)
    }

    /// The star with an identifier (the brightest if several stars have it).
    pub fn star_of_id(&self, id: i64) -> Option<usize> {
        let (ids, order) = (self.ids(), self.id_order());
        let id_at = |star: &u32| ids.get(*star as usize).copied().unwrap_or(i64::MAX);
        let place = order.partition_point(|star| id_at(star) < id);
        let star = *order.get(place)?;
        (ids.get(star as usize) == Some(&id)).then_some(star as usize)
    }

    /// All patterns.
    pub fn patterns(&self) -> &[Pattern] {
        self.image.section(Section::Patterns)
    }

    /// Appends the numbers of the stars within `radius` of a direction in ascending order: brightest first.
    pub fn cone(&self, center: &Direction, radius: f64, out: &mut Vec<u32>) {
        self.cells().cone(self.directions(), center, radius, out);
    }

    /// Appends the brightest `limit` stars within `radius` of a direction for which `choose` returns a value,
    /// in any order. The arguments of `choose` are the number of a star, which rises with its magnitude, and
    /// its direction to single precision.
    pub fn brightest_in_cone<T>(
        &self,
        center: &Direction,
        radius: f64,
        limit: usize,
        choose: impl Fn(u32, Direction) -> Option<T>,
        out: &mut Vec<(u32, T)>,
    ) {
        let share = (radius.min(std::f64::consts::PI) / 2.0).sin().powi(2); // of the sky
        let mut end = SEARCH_MARGIN * limit as f64 / share;
        let (begin, stars) = (out.len(), self.num_stars() as u32);
        loop {
            out.truncate(begin);
            self.cells().visit_cone((end as u32).min(stars), center, radius, |entry, _| {
                if let Some(chosen) = choose(entry.star(), entry.direction()) {
                    out.push((entry.star(), chosen));
                }
            });
            if out.len() - begin >= limit || end >= f64::from(stars) {
                break;
            }
            end *= WIDENING;
        }
        if out.len() - begin > limit {
            out[begin..].select_nth_unstable_by_key(limit, |(star, _)| *star);
            out.truncate(begin + limit);
        }
    }

    /// The range of fields of view that the patterns are made for, radians.
    pub fn fov_range(&self) -> [f64; 2] {
        [self.parameters.min_fov.unwrap_or(self.parameters.max_fov), self.parameters.max_fov]
    }

    fn holds(&self, pattern: &Pattern) -> bool {
        let stars = self.num_stars() as u32;
        pattern.stars.iter().all(|star| *star < stars)
    }

    fn id_order(&self) -> &[u32] {
        self.image.section(Section::IdOrder)
    }

    fn ratio_offsets(&self) -> &[u32] {
        self.image.section(Section::RatioOffsets)
    }

    fn cells(&self) -> CellView<'_> {
        let stars: &[CellStar] = self.image.section(Section::CellStars);
        CellView { grid: &self.sky, offsets: self.image.section(Section::CellOffsets), stars }
    }

    /// Checks that the sections agree with each other about the numbers of stars and cells.
    fn check_sizes(&self) -> Result<()> {
        let stars = self.num_stars();
        let agree = self.ratios.is_sound()
            && self.directions().len() == stars
            && self.ids().len() == stars
            && self.id_order().len() == stars
            && self.cells().stars.len() == stars
            && self.cells().offsets.len() == self.sky.num_cells() + 1
            && self.ratio_offsets().len() as u64 == self.ratios.num_cells() + 1;
        if agree {
            Ok(())
        } else {
            Err(Error::Format("damaged database: its sections contradict each other".into()))
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("num_stars", &self.num_stars())
            .field("num_patterns", &self.num_patterns())
            .field("epoch", &self.epoch)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
