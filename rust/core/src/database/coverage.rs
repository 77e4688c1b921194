//! Determines which fields of the lattice can hold a pattern, so that fields without stars cost no time.

use std::ops::Range;

use super::lattice::lattice_ra;
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::SkyGrid;

/// Number of stars in a pattern; a field with fewer stars has no pattern.
const PATTERN_STARS: u8 = 4;

/// Number of cells along the radius of a field. More cells follow the edge of a catalogue more closely, but
/// take longer to mark.
const CELLS_PER_RADIUS: f64 = 2.0;

/// Number of fields processed between two checks of the monitor.
const FIELDS_PER_TASK: usize = 4096;

/// The cells of the sky in which the centres of fields with four stars can lie, for fields of one diameter.
pub(super) struct Coverage {
    grid: SkyGrid,
    occupied: Vec<bool>,
}

impl Coverage {
    /// Computes the coverage by `stars` (indices into `directions`) for fields of diameter `fov`.
    pub(super) fn new(directions: &[Direction], stars: &[u32], fov: f64) -> Self {
        let radius = fov / 2.0;
        let grid = SkyGrid::with_bands((CELLS_PER_RADIUS * std::f64::consts::PI / radius) as usize);
        let mut within_reach = vec![0_u8; grid.num_cells()];
        for star in stars {
            grid.runs(&directions[*star as usize], radius, |cells| {
                within_reach[cells].iter_mut().for_each(|count| *count = count.saturating_add(1));
            });
        }
        let occupied = within_reach.into_iter().map(|count| count >= PATTERN_STARS).collect();
        Self { grid, occupied }
    }

    /// Share of the sky that these cells cover.
    pub(super) fn share(&self) -> f64 {
        self.occupied.iter().filter(|occupied| **occupied).count() as f64 / self.occupied.len() as f64
    }

    /// Splits the lattice of `fields` points into tasks, in those bands of declination that have such cells.
    ///
    /// The points of the lattice are ordered from north to south, see [`super::lattice::lattice_point`].
    pub(super) fn tasks(&self, fields: usize) -> Vec<Task> {
        let first_below =
            |height: f64| ((fields as f64 * (1.0 - height) - 1.0) / 2.0).ceil().max(0.0) as usize;
        let mut tasks = Vec::new();
        for band in (0..self.grid.num_bands()).rev() {
            if !self.occupied[self.grid.cells_of(band)].contains(&true) {
                continue;
            }
            let [south, north] = self.grid.heights_of(band);
            let end = if band == 0 { fields } else { first_below(south).min(fields) };
            for begin in (first_below(north)..end).step_by(FIELDS_PER_TASK) {
                tasks.push(Task { band, fields: begin..(begin + FIELDS_PER_TASK).min(end) });
            }
        }
        tasks
    }

    /// The fields of a task that can hold four stars.
    pub(super) fn reached(&self, task: &Task) -> impl Iterator<Item = usize> {
        let band = task.band;
        task.fields.clone().filter(move |field| self.occupied[self.grid.cell_in(band, lattice_ra(*field))])
    }
}

/// Consecutive points of a lattice that are in one band of declination.
pub(super) struct Task {
    band: usize,
    fields: Range<usize>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lattice::lattice_point;
    use super::*;
    use crate::geometry::sphere::{direction, separation};

    proptest! {
        #[test]
        fn no_field_with_four_stars_is_left_out(
            ra in 0.0..std::f64::consts::TAU, dec in -1.57..1.57_f64, fov in 0.02..2.0_f64, spread in 0.01..1.0_f64, stars in 4_usize..40,
        ) {
            let place = |k: usize| direction(
                ra + spread * ((k * 7 % 11) as f64 / 11.0 - 0.5),
                (dec + spread * ((k * 5 % 13) as f64 / 13.0 - 0.5)).clamp(-1.57, 1.57),
            );
            let directions: Vec<Direction> = (0..stars).map(place).collect();
            let members: Vec<u32> = (0..stars as u32).collect();
            let coverage = Coverage::new(&directions, &members, fov);
            let fields = 5000;
            let reached: Vec<usize> =
                coverage.tasks(fields).iter().flat_map(|task| coverage.reached(task).collect::<Vec<_>>()).collect();
            prop_assert!(reached.is_sorted_by(|a, b| a < b));
            for field in 0..fields {
                let center = lattice_point(field, fields);
                let inside = directions.iter().filter(|v| separation(v, &center) <= fov / 2.0).count();
                if inside >= 4 {
                    prop_assert!(reached.binary_search(&field).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_small_catalogue_asks_for_a_small_part_of_the_lattice() {
        let place =
            |k: usize| direction(1.0 + 0.01 * (k % 10) as f64 / 10.0, 0.3 + 0.01 * (k / 10) as f64 / 10.0);
        let directions: Vec<Direction> = (0..100).map(place).collect();
        let members: Vec<u32> = (0..100).collect();
        let coverage = Coverage::new(&directions, &members, 0.01);
        let fields = 10_000_000;
        let points: usize = coverage.tasks(fields).iter().map(|task| task.fields.len()).sum();
        assert!(points < fields / 50, "{points} of {fields}");
        assert!(coverage.share() < 1e-4);
        let apart: Vec<u32> = vec![0, 99];
        assert!(Coverage::new(&directions, &apart, 0.01).tasks(fields).is_empty());
    }
}
