//! The brightest stars in each of a lattice of fields over the sky.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::coverage::{Coverage, Task};
use super::lattice::lattice_point;
use super::parameters::fields_in_sky;
use super::stage::Stage;
use crate::error::Result;
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::{CellIndex, SkyGrid};

/// Stars expected in a field among the first, brightest stars that are searched, relative to how many are wanted.
const FIRST_LEVEL: f64 = 2.0;

/// Each further level holds so many times the stars of all before it.
const LEVEL_RATIO: usize = 3;

/// For each of `fields` fields of diameter `fov` its brightest stars, at most `wanted`, one after another;
/// fields with fewer than four are left out.
pub(super) struct Fields {
    /// Stars of all fields, those of each ascending.
    pub(super) stars: Vec<u32>,
    /// End of each field's stars.
    pub(super) ends: Vec<u32>,
}

impl Fields {
    /// Visits every field: where its stars begin, and the stars.
    pub(super) fn each(&self, mut visit: impl FnMut(u32, &[u32])) {
        let mut begin = 0;
        for end in &self.ends {
            visit(begin, &self.stars[begin as usize..*end as usize]);
            begin = *end;
        }
    }
}

/// A lattice of fields, and which of them are to be looked at.
pub(super) struct Lattice {
    /// Diameter of a field.
    pub(super) fov: f64,
    /// Number of fields over the whole sky.
    pub(super) fields: usize,
    /// The stars of which patterns are made (indices into all, ascending: brightest first).
    pub(super) stars: Vec<u32>,
    /// Where there are enough of them.
    pub(super) coverage: Coverage,
    /// The fields there, in pieces.
    pub(super) tasks: Vec<Task>,
}

impl Lattice {
    pub(super) fn new(directions: &[Direction], stars: Vec<u32>, fov: f64, fields: usize) -> Self {
        let coverage = Coverage::new(directions, &stars, fov);
        let tasks = coverage.tasks(fields);
        Self { fov, fields, stars, coverage, tasks }
    }
}

/// Finds the brightest stars in every field of a lattice whose centre is to be `searched`.
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

/// The stars in levels of brightness: nearly all fields find enough in the first one or two.
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
