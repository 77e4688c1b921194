//! Makes a database: selects the stars, makes patterns of the brightest stars in every field of the sky, and
//! sorts the patterns by shape.

use super::fields::Lattice;
use super::format::{Draft, Header, Section};
use super::parameters::{Parameters, fields_in_sky};
use super::stage::Stage;
use super::{Database, combine, fields, select, sort};
use crate::catalog::Catalog;
use crate::error::{Error, Result, in_degrees};
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::CellIndex;
use crate::monitor::{Monitor, checkpoint};

/// Shares of the whole time at which the search for the fields' stars and their combination end.
pub(super) const PROGRESS: [f64; 2] = [0.3, 0.8];

/// The stars of a database, brightest first.
pub(super) struct Chosen {
    pub(super) stars: Catalog,
    /// Directions of the stars at the database's epoch.
    pub(super) directions: Vec<Direction>,
    epoch: f64,
}

fn choose(catalog: &Catalog, parameters: &Parameters) -> Result<Chosen> {
    parameters.check()?;
    catalog.check()?;
    let epoch = parameters.epoch.unwrap_or(catalog.epoch);
    let bright = catalog.select(&select::brightest(catalog, parameters));
    let directions = bright.directions_at(epoch);
    let per_fov = parameters.verification_stars_per_fov;
    let kept = select::cap_density(&directions, parameters.smallest_fov(), per_fov);
    if kept.len() < 4 {
        let problem = format!("{} are bright enough", kept.len());
        return Err(Error::argument(
            "stars",
            problem,
            "a pattern needs four: give more stars or a fainter limit",
        ));
    }
    let stars = bright.select(&kept);
    let directions = kept.iter().map(|star| directions[*star as usize]).collect();
    Ok(Chosen { stars, directions, epoch })
}

/// The stars and the fields of a database to be made.
pub(super) struct Plan {
    pub(super) chosen: Chosen,
    pub(super) lattices: Vec<Lattice>,
}

impl Plan {
    pub(super) fn new(catalog: &Catalog, parameters: &Parameters, monitor: &dyn Monitor) -> Result<Self> {
        let chosen = choose(catalog, parameters)?;
        let lattices = lattices(&chosen.directions, parameters, monitor)?;
        Ok(Self { chosen, lattices })
    }
}

pub(super) fn generate(plan: Plan, parameters: &Parameters, monitor: &dyn Monitor) -> Result<Database> {
    let Plan { chosen: Chosen { stars, directions, epoch }, lattices } = plan;
    let lists = field_stars(&directions, &lattices, parameters, monitor, |_, _| true)?;
    let wanted = parameters.patterns_per_lattice_field;
    let patterns = combine::patterns(&directions, &lists, wanted, &|steps| {
        Stage::new(monitor, PROGRESS[0], PROGRESS[1], steps)
    })?;
    if patterns.len() == 0 {
        return Err(no_pattern(stars.len(), parameters));
    }
    drop(lists);
    assemble(&stars, &directions, &patterns, parameters, epoch, monitor)
}

/// The lattices of all scales.
fn lattices(
    directions: &[Direction],
    parameters: &Parameters,
    monitor: &dyn Monitor,
) -> Result<Vec<Lattice>> {
    let lattice = |fov: f64| {
        checkpoint(monitor)?;
        let fields = fields_in_sky(fov) * f64::from(parameters.lattice_field_oversampling);
        let stars = select::separated(directions, parameters.pattern_star_separation(fov));
        Ok(Lattice::new(directions, stars, fov, fields.min(f64::from(u32::MAX)) as usize))
    };
    parameters.scales().into_iter().map(lattice).collect()
}

/// The brightest stars of the fields of all scales for which `searched(centre, fov)` is true.
pub(super) fn field_stars(
    directions: &[Direction],
    lattices: &[Lattice],
    parameters: &Parameters,
    monitor: &dyn Monitor,
    searched: impl Fn(&Direction, f64) -> bool + Sync,
) -> Result<Vec<fields::Fields>> {
    let tasks = lattices.iter().map(|lattice| lattice.tasks.len()).sum();
    let stage = Stage::new(monitor, 0.0, PROGRESS[0], tasks);
    let wanted = combine::stars_for(parameters.patterns_per_lattice_field);
    let mut lists = Vec::new();
    for lattice in lattices {
        let searched = |center: &Direction| searched(center, lattice.fov);
        lists.extend(fields::brightest_in_fields(directions, lattice, wanted, &searched, &stage)?);
    }
    Ok(lists)
}

/// Error for stars that give no pattern.
fn no_pattern(stars: usize, parameters: &Parameters) -> Error {
    let [low, high] = [parameters.smallest_fov(), parameters.max_fov].map(in_degrees);
    let fields = if low < high { format!("{low} to {high}") } else { high.to_string() };
    let problem =
        format!("no field of {fields} degrees holds four of the {stars} stars that are bright enough");
    Error::argument("stars", problem, "give more stars, a fainter star_max_magnitude or a larger max_fov_deg")
}

/// Writes the stars and patterns into the sections of a database.
fn assemble(
    stars: &Catalog,
    directions: &[Direction],
    patterns: &combine::Patterns,
    parameters: &Parameters,
    epoch: f64,
    monitor: &dyn Monitor,
) -> Result<Database> {
    let directions: Vec<[f64; 3]> = directions.iter().map(|v| (*v).into()).collect();
    let cells = CellIndex::new(&directions);
    let grid = sort::grid_for(patterns)?;
    let faintest = stars.magnitude.last().copied().unwrap_or_default();
    let mut header = Header::new(parameters, epoch, faintest);
    header.sky_bands = cells.grid.num_bands() as u32;
    (header.ratio_coarse, header.ratio_fine) = (grid.coarse, grid.fine);
    let n = stars.len();
    let ratio_cells = grid.num_cells() as usize + 1;
    let mut draft = Draft::new(header, [n, n, n, n, cells.offsets.len(), n, ratio_cells, patterns.len()]);

    draft.section(Section::Directions).copy_from_slice(&directions);
    draft.section(Section::Magnitudes).copy_from_slice(&stars.magnitude);
    draft.section(Section::Ids).copy_from_slice(&stars.ids);
    let mut id_order: Vec<u32> = (0..n as u32).collect();
    id_order.sort_by_key(|star| stars.ids[*star as usize]);
    draft.section(Section::IdOrder).copy_from_slice(&id_order);
    draft.section(Section::CellOffsets).copy_from_slice(&cells.offsets);
    draft.section(Section::CellStars).copy_from_slice(&cells.stars);
    let (offsets, sorted) = draft.pattern_sections();
    sort::sort(
        patterns,
        grid,
        offsets,
        sorted,
        &Stage::new(monitor, PROGRESS[1], 1.0, grid.coarse as usize),
    )?;
    Database::from_bytes(draft.finish())
}
