//! Which stars of a catalogue a database takes.

use super::parameters::{Parameters, fields_in_sky};
use crate::catalog::Catalog;
use crate::cells::SkyGrid;
use crate::sphere::{Direction, chord};

/// Distance to the nearest brighter star that is kept, relative to the spacing of an even spread: smaller keeps
/// more of the clusters, larger thins the ordinary field.
const SEPARATION: f64 = 0.6;

/// Rows of the stars that are bright enough, brightest first (equal magnitudes: in the catalogue's order).
pub(super) fn brightest(stars: &Catalog, parameters: &Parameters) -> Vec<u32> {
    let limit = parameters.star_max_magnitude.unwrap_or(f32::INFINITY);
    let mut rows: Vec<u32> =
        (0..stars.len() as u32).filter(|row| stars.magnitude[*row as usize] <= limit).collect();
    if !rows.is_sorted_by_key(|row| OrderedMagnitude(stars.magnitude[*row as usize])) {
        rows.sort_by_key(|row| OrderedMagnitude(stars.magnitude[*row as usize]));
    }
    if parameters.star_max_magnitude.is_none() {
        let fields = fields_in_sky(parameters.smallest_fov());
        let enough = fields * f64::from(parameters.verification_stars_per_fov);
        rows.truncate(enough as usize);
    }
    rows
}

#[derive(PartialEq)]
struct OrderedMagnitude(f32);

impl Eq for OrderedMagnitude {}

impl PartialOrd for OrderedMagnitude {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedMagnitude {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Of stars given brightest first, those that have no brighter one of them too near: the brightest of every
/// cluster, as many per field of view as asked for, everywhere.
pub(super) fn thin(directions: &[Direction], fov: f64, stars_per_fov: u32) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let separation = SEPARATION * fov / f64::from(stars_per_fov).sqrt();
    let limit = chord(separation).powi(2);
    let grid = SkyGrid::with_bands((std::f64::consts::PI / separation) as usize);
    // Stars kept so far, as a chain through each cell.
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
