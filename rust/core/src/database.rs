//! The pattern database: the stars of a catalogue and the patterns by which a frame of them is recognised.
//!
//! A database is one run of bytes, the same in memory and on disk (`database/format.rs` says how),
//! so opening a file costs the same whatever its size, and processes that map one file share its memory.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::{CellStar, CellView, SkyGrid};
use crate::monitor::Monitor;
use crate::pattern::Pattern;

mod combine;
mod estimate;
mod fields;
mod format;
mod generate;
mod grid;
mod lookup;
mod parameters;
mod select;
mod sort;
mod stage;

pub use estimate::SizeEstimate;
pub(crate) use fields::lattice_point;
use format::{Image, Section};
use grid::RatioGrid;
pub use lookup::Lookups;
pub use parameters::Parameters;

/// Changes whenever the same stars and parameters give another database than before.
pub const REVISION: u32 = 1;

/// So many stars per star wanted are looked at, where they lie evenly: some of them are not in the image, and where
/// stars are twice as sparse as on average a second, wider look is needed.
const LOOK: f64 = 1.8;
/// Every further look is so much wider.
const LOOK_FURTHER: f64 = 3.0;

/// Bytes that may be owned, mapped or borrowed from elsewhere.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Stars, brightest first, and patterns of four of them, to be looked up by shape.
///
/// Everything is read in place. Bytes damaged after the header was written may give wrong answers, which
/// [`Database::verify`] finds beforehand, but no panic and no stars or patterns that are not there.
pub struct Database {
    image: Image,
    parameters: Parameters,
    epoch: f64,
    sky: SkyGrid,
    ratios: RatioGrid,
}

impl Database {
    /// Makes a database of a catalogue; the same for any number of threads.
    pub fn generate(stars: &Catalog, parameters: &Parameters, monitor: &dyn Monitor) -> Result<Self> {
        generate::generate(stars, parameters, monitor)
    }

    /// Tells how large a database will be, in a fraction of the time it takes to make it: the patterns are counted in
    /// patches of the sky, everything else is exact.
    pub fn estimate_size(
        stars: &Catalog,
        parameters: &Parameters,
        monitor: &dyn Monitor,
    ) -> Result<SizeEstimate> {
        estimate::estimate_size(stars, parameters, monitor)
    }

    /// Opens the bytes of a database: looks at the header alone, so the cost does not grow with the size.
    pub fn from_bytes(bytes: SharedBytes) -> Result<Self> {
        let image = Image::open(bytes)?;
        let header = *image.header();
        let (parameters, epoch) = header.content();
        parameters.check().map_err(|error| Error::Format(format!("damaged database: {error}")))?;
        let sky = SkyGrid::with_bands(header.sky_bands as usize);
        let ratios = RatioGrid { coarse: header.ratio_coarse, fine: header.ratio_fine };
        let database = Self { image, parameters, epoch, sky, ratios };
        database.check_sizes()?;
        Ok(database)
    }

    /// The bytes to write to a file.
    pub fn as_bytes(&self) -> &[u8] {
        self.image.bytes()
    }

    /// The bytes to write to a file, in a vector of their own.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// Checksum of the header, which covers the checksums of everything else: it tells databases apart.
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

    /// The parameters of generation, with what was left to choose filled in.
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

    /// Magnitudes, ascending.
    pub fn magnitudes(&self) -> &[f32] {
        self.image.section(Section::Magnitudes)
    }

    /// Identifiers in the catalogue the stars come from.
    pub fn ids(&self) -> &[i64] {
        self.image.section(Section::Ids)
    }

    /// The star of an identifier (the brightest, should several have it).
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

    /// Appends the stars within `radius` of a direction, ascending: brightest first.
    pub fn cone(&self, center: &Direction, radius: f64, out: &mut Vec<u32>) {
        self.cells().cone(self.directions(), center, radius, out);
    }

    /// Appends the brightest `limit` stars within `radius` of a direction that `choose` makes something of, in any
    /// order. It is given their numbers, which rise with their magnitudes, and directions to single precision.
    pub fn brightest_in_cone<T>(
        &self,
        center: &Direction,
        radius: f64,
        limit: usize,
        choose: impl Fn(u32, Direction) -> Option<T>,
        out: &mut Vec<(u32, T)>,
    ) {
        let share = (radius.min(std::f64::consts::PI) / 2.0).sin().powi(2); // of the sky
        let mut end = LOOK * limit as f64 / share;
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
            end *= LOOK_FURTHER;
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

    /// The sections must agree with each other about how many stars and cells there are.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::geometry::sphere::separation;
    use crate::pattern::{PatternWindow, pattern_shape};
    use proptest::prelude::*;

    fn wide() -> Parameters {
        Parameters {
            max_fov: 40_f64.to_radians(),
            lattice_field_oversampling: 20,
            patterns_per_lattice_field: 20,
            verification_stars_per_fov: 50,
            ..Parameters::default()
        }
    }

    fn small() -> Database {
        Database::generate(&Catalog::hipparcos(), &wide(), &()).unwrap()
    }

    fn shared(bytes: Vec<u8>) -> SharedBytes {
        Arc::new(bytes)
    }

    /// All patterns the slow way: every field's stars by brute force, combinations in a set.
    fn reference(database: &Database, parameters: &Parameters) -> BTreeSet<[u32; 4]> {
        let directions: Vec<Direction> = database.directions().iter().map(|v| Direction::from(*v)).collect();
        let mut all = BTreeSet::new();
        for fov in parameters.scales() {
            let members = select::separated(&directions, parameters.pattern_star_separation(fov));
            let fields =
                parameters::fields_in_sky(fov) as usize * parameters.lattice_field_oversampling as usize;
            for field in 0..fields {
                let center = fields::lattice_point(field, fields);
                let inside = |star: &u32| separation(&directions[*star as usize], &center) <= fov / 2.0;
                let stars: Vec<u32> = members.iter().copied().filter(inside).take(20).collect();
                let mut left = parameters.patterns_per_lattice_field;
                for d in 3..stars.len() {
                    for c in 2..d {
                        for b in 1..c {
                            for a in 0..b {
                                if left > 0 {
                                    left -= 1;
                                    all.insert([stars[a], stars[b], stars[c], stars[d]]);
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn generation_equals_the_slow_way() {
        for min_fov in [None, Some(15_f64.to_radians())] {
            let parameters = Parameters { min_fov, lattice_field_oversampling: 5, ..wide() };
            let database = Database::generate(&Catalog::hipparcos(), &parameters, &()).unwrap();
            let sorted = |pattern: &Pattern| {
                let mut stars = pattern.stars;
                stars.sort_unstable();
                stars
            };
            let made: Vec<[u32; 4]> = database.patterns().iter().map(sorted).collect();
            let distinct: BTreeSet<[u32; 4]> = made.iter().copied().collect();
            assert_eq!(made.len(), distinct.len());
            assert_eq!(distinct, reference(&database, &parameters));
            database.verify().unwrap();
        }
    }

    #[test]
    fn size_is_estimated() {
        let sizes = [(40.0, 40.0), (40.0, 10.0), (7.0, 7.0), (6.0, 3.0)];
        for (max_fov, min_fov) in sizes.map(|(max, min): (f64, f64)| (max.to_radians(), min.to_radians())) {
            let parameters = Parameters { max_fov, min_fov: Some(min_fov), ..wide() };
            let made = Database::generate(&Catalog::hipparcos(), &parameters, &()).unwrap();
            let told = Database::estimate_size(&Catalog::hipparcos(), &parameters, &()).unwrap();
            assert_eq!(told.stars, made.num_stars());
            let off = |told: usize, made: usize| (told as f64 / made as f64 - 1.0).abs();
            assert!(off(told.patterns, made.num_patterns()) < 0.1, "{told:?} {made:?}");
            assert!(off(told.bytes, made.as_bytes().len()) < 0.1, "{told:?} {made:?}");
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(small).to_bytes()
        };
        assert!(with_threads(1) == with_threads(3));
    }

    #[test]
    fn progress_rises_and_cancelling_stops() {
        struct Watch(std::sync::Mutex<f64>, f64);
        impl Monitor for Watch {
            fn progress(&self, fraction: f64) {
                let mut seen = self.0.lock().unwrap();
                assert!((0.0..=1.0).contains(&fraction));
                *seen = seen.max(fraction);
            }
            fn cancelled(&self) -> bool {
                *self.0.lock().unwrap() > self.1
            }
        }
        let watch = Watch(0.0.into(), 2.0);
        let _ = Database::generate(&Catalog::hipparcos(), &wide(), &watch).unwrap();
        assert_eq!(*watch.0.lock().unwrap(), 1.0);
        for stop in [0.0, 0.4, 0.9] {
            let stopped = Database::generate(&Catalog::hipparcos(), &wide(), &Watch(0.0.into(), stop));
            assert_eq!(stopped.unwrap_err(), Error::Interrupted);
        }
    }

    #[test]
    fn cone_and_identifiers_find_stars() {
        let database = small();
        let center = Direction::from(database.directions()[10]);
        let mut found = Vec::new();
        database.cone(&center, 0.2, &mut found);
        let inside = |star: &u32| separation(&center, &database.directions()[*star as usize].into()) <= 0.2;
        let expected: Vec<u32> = (0..database.num_stars() as u32).filter(inside).collect();
        assert_eq!(found, expected);
        for star in 0..database.num_stars() {
            assert_eq!(database.star_of_id(database.ids()[star]), Some(star));
        }
        assert_eq!(database.star_of_id(-1), None);
        assert_eq!(database.star_of_id(i64::MAX), None);
    }

    #[test]
    fn look_up_equals_looking_at_all() {
        let database = small();
        for (k, pattern) in database.patterns().iter().enumerate().step_by(97) {
            let mut shape = pattern.shape();
            shape.ratios.iter_mut().for_each(|ratio| *ratio += 0.0007 * ((k % 5) as f32 - 2.0));
            for tolerance in [0.0, 0.001, 0.003, 0.01, 0.1, 2.0] {
                let longest = shape.longest * 0.9..=shape.longest * 1.1;
                let window = PatternWindow::new(&shape, tolerance, longest.clone());
                let near = |p: &&Pattern| window.contains(p);
                let mut expected: Vec<[u32; 4]> =
                    database.patterns().iter().filter(near).map(|p| p.stars).collect();
                let mut found = Vec::new();
                database.patterns_near(&shape, tolerance, longest.clone(), |p| found.push(p.stars));
                let mut lookups = Lookups::default();
                lookups.push(&shape, tolerance, longest.clone());
                lookups.push(&shape, tolerance, 0.0..=0.0);
                lookups.push(&shape, tolerance, longest.clone());
                let mut together = Vec::new();
                database.look_up(&mut lookups, &mut together);
                let stars_of = |number| {
                    let of = |(shape, p): &(usize, Pattern)| (*shape == number).then_some(p.stars);
                    together.iter().filter_map(of).collect::<Vec<_>>()
                };
                assert_eq!(
                    [stars_of(0), stars_of(1), stars_of(2)],
                    [found.clone(), Vec::new(), found.clone()]
                );
                expected.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, expected, "{shape:?} {tolerance}");
            }
        }
    }

    #[test]
    fn a_pattern_is_found_by_its_stars() {
        let database = small();
        for pattern in database.patterns().iter().step_by(31) {
            let directions = pattern.stars.map(|star| Direction::from(database.directions()[star as usize]));
            let mut found = false;
            let shape = pattern_shape(directions.each_ref());
            database.patterns_near(&shape, 1e-4, 0.0..=2.0, |p| found |= p == pattern);
            assert!(found);
        }
    }

    #[test]
    fn unaligned_bytes_are_read() {
        struct Shifted(Vec<u8>);
        impl AsRef<[u8]> for Shifted {
            fn as_ref(&self) -> &[u8] {
                &self.0[1..]
            }
        }
        let bytes = small().to_bytes();
        let shifted = Shifted([&[0], bytes.as_slice()].concat());
        assert!(Database::from_bytes(Arc::new(shifted)).unwrap().as_bytes() == bytes);
    }

    #[test]
    fn too_few_stars_are_refused() {
        let stars = Catalog::hipparcos().select(&[0, 1, 2]);
        assert!(matches!(
            Database::generate(&stars, &wide(), &()),
            Err(Error::Argument { name: "stars", .. })
        ));
        assert!(Database::generate(&Catalog::default(), &wide(), &()).is_err());
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = small().to_bytes();
        bytes[8] = 9;
        let error = Database::from_bytes(shared(bytes)).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    /// Whatever the bytes, every question is answered without a panic.
    fn ask_everything(database: &Database) {
        let mut found = Vec::new();
        database.cone(&Direction::z(), 0.5, &mut found);
        assert!(found.iter().all(|star| (*star as usize) < database.num_stars()));
        let _ = database.star_of_id(71_683);
        for pattern in database.patterns().iter().step_by(1000) {
            database.patterns_near(&pattern.shape(), 0.01, 0.0..=2.0, |p| {
                assert!(p.stars.iter().all(|star| (*star as usize) < database.num_stars()));
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damage_is_found(seed in any::<u64>(), bit in 0_u8..8) {
            static BYTES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| small().to_bytes());
            // As often in the header as in the body.
            let span = if seed & 1 == 0 { format::HEADER_BYTES } else { BYTES.len() };
            let place = (seed >> 1) as usize % span;
            prop_assert!(Database::from_bytes(shared(BYTES[..place].to_vec())).is_err());
            let mut flipped = BYTES.clone();
            flipped[place] ^= 1 << bit;
            match Database::from_bytes(shared(flipped)) {
                Err(error) => prop_assert!(matches!(error, Error::Format(_))),
                Ok(database) => {
                    prop_assert!(place >= format::HEADER_BYTES);
                    prop_assert!(database.verify().is_err());
                    ask_everything(&database);
                }
            }
        }

        #[test]
        fn other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in any::<bool>()) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 12 {
                bytes[..12].copy_from_slice(b"BSIGHTDB\x01\0\0\0");
            }
            prop_assert!(Database::from_bytes(shared(bytes)).is_err());
        }
    }
}
