//! Finds the brightest stars in each field of a lattice over the sky.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::coverage::{Coverage, Task};
use super::lattice::lattice_point;
use super::parameters::fields_in_sky;
use super::stage::Stage;
use crate::error::Result;
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::{CellIndex, SkyGrid};

/// Number of stars expected in a field within the first level of brightest stars, relative to the number
/// wanted.
const FIRST_LEVEL: f64 = 2.0;

/// Number of stars in each further level, relative to the stars of all levels before it.
const LEVEL_RATIO: usize = 3;

/// The brightest stars of each field, at most the number wanted, one field after another. Fields with fewer
/// than four stars are excluded.
pub(super) struct Fields {
    /// Stars of all fields, ascending within each field.
    pub(super) stars: Vec<u32>,
    /// End of each field's stars.
    pub(super) ends: Vec<u32>,
}

impl Fields {
    /// Visits every field; the arguments are the index at which its stars begin, and the stars.
    pub(super) fn each(&self, mut visit: impl FnMut(u32, &[u32])) {
        let mut begin = 0;
        for end in &self.ends {
            visit(begin, &self.stars[begin as usize..*end as usize]);
            begin = *end;
        }
    }
}

/// A lattice of fields, and the fields that must be searched.
pub(super) struct Lattice {
    /// Diameter of a field.
    pub(super) fov: f64,
    /// Number of fields over the whole sky.
    pub(super) fields: usize,
    /// The stars from which patterns are made (indices into all, ascending: brightest first).
    pub(super) stars: Vec<u32>,
    /// The part of the sky that has enough of these stars.
    pub(super) coverage: Coverage,
    /// The fields in that part, split into tasks.
    pub(super) tasks: Vec<Task>,
}

impl Lattice {
    pub(super) fn new(directions: &[Direction], stars: Vec<u32>, fov: f64, fields: usize) -> Self {
        let coverage = Coverage::new(directions, &stars, fov);
        let tasks = coverage.tasks(fields);
        Self { fov, fields, stars, coverage, tasks }
    }
}

/// Finds the brightest stars in every field of a lattice for whose centre `searched` is true.
pub(super) fn brightest_in_fields(
    directions: &[Direction],
    lattice: &Lattice,
    wanted: usize,
    searched: &(impl Fn(&Direction) -> bool + Sync),
    stage: &Stage<'_>,
) -> Result<Vec<Fields>> {
    let Lattice { fov, fields, stars, coverage, tasks } = lattice;
    let levels = levels(directions, stars, *fov, wanted);
    tasks
        .par_iter()
        .map(|task| {
            let mut out = Fields { stars: Vec::new(), ends: Vec::new() };
            let mut found = Vec::new();
            for field in coverage.reached(task) {
                let center = lattice_point(field, *fields);
                if !searched(&center) {
                    continue;
                }
                found.clear();
                for level in &levels {
                    let begin = found.len();
                    level.index.view().cone(&level.directions, &center, fov / 2.0, &mut found);
                    found[begin..].iter_mut().for_each(|star| *star = stars[level.first + *star as usize]);
                    if found.len() >= wanted {
                        break;
                    }
                }
                if found.len() >= 4 {
                    out.stars.extend_from_slice(&found[..wanted.min(found.len())]);
                    out.ends.push(out.stars.len() as u32);
                }
            }
            stage.step()?;
            Ok(out)
        })
        .collect()
}

/// Consecutive stars, searched together.
struct Level {
    first: usize,
    directions: Vec<[f64; 3]>,
    index: CellIndex,
}

/// Splits the stars into levels of brightness. Nearly all fields find enough stars in the first one or two.
fn levels(directions: &[Direction], stars: &[u32], fov: f64, wanted: usize) -> Vec<Level> {
    let first_level = (FIRST_LEVEL * wanted as f64 * fields_in_sky(fov)).min(4e9) as usize;
    let grid = SkyGrid::with_bands((4.0 * PI / fov) as usize);
    let mut levels = Vec::new();
    let (mut first, mut end) = (0, first_level);
    while first < stars.len() {
        let members = &stars[first..end.min(stars.len())];
        let directions: Vec<[f64; 3]> =
            members.iter().map(|star| directions[*star as usize].into()).collect();
        let index = CellIndex::with_grid(grid.clone(), &directions);
        levels.push(Level { first, directions, index });
        first = end;
        end *= 1 + LEVEL_RATIO;
    }
    levels
}
