//! Selects the stars of a catalogue that a database contains.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::parameters::{Parameters, fields_in_sky};
use crate::catalog::Catalog;
use crate::geometry::sphere::{Direction, chord};
use crate::index::sky_grid::SkyGrid;

/// Share of the requested stars that is taken from the whole sky by brightness. The remaining share allows
/// for the Milky Way, which has more stars than average.
const EVEN_SHARE: f64 = 0.7;

/// Number of stars in the cells that limit density. A smaller number limits clusters more; a larger number
/// leaves ordinary clumps unchanged.
const STARS_PER_CELL: f64 = 32.0;

/// Rows of the stars that are bright enough, brightest first (equal magnitudes are in the order of the
/// catalogue).
pub(super) fn brightest(stars: &Catalog, parameters: &Parameters) -> Vec<u32> {
    let limit = parameters.star_max_magnitude.unwrap_or(f32::INFINITY);
    let mut rows: Vec<u32> =
        (0..stars.len() as u32).filter(|row| stars.magnitude[*row as usize] <= limit).collect();
    rows.sort_by(|a, b| stars.magnitude[*a as usize].total_cmp(&stars.magnitude[*b as usize]));
    if parameters.star_max_magnitude.is_none() {
        let all = fields_in_sky(parameters.smallest_fov()) * f64::from(parameters.verification_stars_per_fov);
        rows.truncate((EVEN_SHARE * all) as usize);
    }
    rows
}

/// Selects the brightest stars everywhere from stars sorted by brightness: nowhere more than `stars_per_fov`
/// in a field.
pub(super) fn cap_density(directions: &[Direction], fov: f64, stars_per_fov: u32) -> Vec<u32> {
    let per_steradian = f64::from(stars_per_fov) * fields_in_sky(fov) / (4.0 * PI);
    let grid = SkyGrid::with_bands((PI / (STARS_PER_CELL / per_steradian).sqrt()) as usize);
    let per_cell = (per_steradian * 4.0 * PI / grid.num_cells() as f64).ceil() as u32;
    let mut taken = vec![0; grid.num_cells()];
    let cells: Vec<u32> = directions.par_iter().map(|v| grid.cell(v) as u32).collect();
    let fits = |star: &u32| {
        let taken = &mut taken[cells[*star as usize] as usize];
        *taken += 1;
        *taken <= per_cell
    };
    (0..directions.len() as u32).filter(fits).collect()
}

/// Selects stars that have no brighter selected star within `separation`, from stars sorted by brightness.
///
/// Patterns of a cluster's stars would be small, hence badly determined, and would displace the patterns of
/// the field around the cluster.
pub(super) fn separated(directions: &[Direction], separation: f64) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let limit = chord(separation).powi(2);
    let grid = SkyGrid::with_bands((PI / separation) as usize);
    // Stars kept so far, as a linked list for each cell.
    let mut last_in_cell = vec![NONE; grid.num_cells()];
    let mut previous_in_cell = Vec::new();
    let mut kept: Vec<u32> = Vec::new();
    for (star, v) in directions.iter().enumerate() {
        let mut free = true;
        grid.runs(v, separation, |cells| {
            for cell in cells {
                let mut place = last_in_cell[cell];
                while free && place != NONE {
                    free = (directions[kept[place as usize] as usize] - v).norm_squared() >= limit;
                    place = previous_in_cell[place as usize];
                }
            }
        });
        if free {
            let cell = grid.cell(v);
            previous_in_cell.push(last_in_cell[cell]);
            last_in_cell[cell] = kept.len() as u32;
            kept.push(star as u32);
        }
    }
    kept
}
