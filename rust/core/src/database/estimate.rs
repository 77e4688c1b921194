//! Estimates the size of a database before it is made.
//!
//! Patterns are made as for the database itself, but only of the fields that reach into patches of the sky. A
//! pattern counts if its faintest star lies within a patch.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::format::layout;
use super::generate::{Chosen, PROGRESS, Plan, field_stars};
use super::grid::RatioGrid;
use super::lattice::lattice_point;
use super::stage::Stage;
use super::{Parameters, combine};
use crate::error::Result;
use crate::geometry::sphere::Direction;
use crate::index::sky_grid::CellIndex;
use crate::memory;
use crate::monitor::Monitor;
use crate::pattern::Pattern;

/// Number of patches, which are spread evenly over the sky. Fewer patches are faster; more patches sample the
/// unevenness of the sky better.
const PATCHES: usize = 60;

/// Radius of a patch in smallest fields of view. Larger patches lose a smaller part of the work at their
/// edges.
const PATCH_RADIUS: f64 = 1.5;

/// If the patches cover more than this share of the sky that has stars, all of it is counted: there are few
/// fields then.
const WHOLE_SKY: f64 = 0.3;

/// Number of copies of the patterns in memory while the database is made.
const COPIES: usize = 2;

/// Estimated size of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeEstimate {
    /// Number of stars; exact.
    pub stars: usize,
    /// Number of patterns.
    pub patterns: usize,
    /// Size of the file and in memory, bytes.
    pub bytes: usize,
}

/// Circular patches of the sky.
struct Patches {
    centers: Vec<Direction>,
    radius: f64,
}

impl Patches {
    /// Patches for a smallest field of view. There are none if they would fill the part of the sky that has
    /// stars; the whole sky is counted then.
    fn new(fov: f64, share_with_stars: f64) -> Self {
        let radius = (PATCH_RADIUS * fov).min(PI);
        let mut patches = Self { centers: (0..PATCHES).map(|i| lattice_point(i, PATCHES)).collect(), radius };
        if patches.share() > WHOLE_SKY * share_with_stars {
            patches.centers.clear();
        }
        patches
    }

    /// Share of the sky that is counted.
    fn share(&self) -> f64 {
        if self.centers.is_empty() {
            return 1.0;
        }
        self.centers.len() as f64 * (self.radius / 2.0).sin().powi(2)
    }

    /// Whether a direction is in a patch or within `margin` of one.
    fn contain(&self, place: &Direction, margin: f64) -> bool {
        let limit = (self.radius + margin).min(PI).cos();
        self.centers.is_empty() || self.centers.iter().any(|center| center.dot(place) >= limit)
    }
}

/// Returns an error if the fields of all lattices, or their patterns, need more memory than is available.
pub(super) fn check_memory(plan: &Plan, parameters: &Parameters, monitor: &dyn Monitor) -> Result<()> {
    let task = "a database of this size";
    let fields: f64 =
        plan.lattices.iter().map(|lattice| lattice.fields as f64 * lattice.coverage.share()).sum();
    let wanted = parameters.patterns_per_lattice_field;
    memory::check(task, (fields * combine::field_bytes(wanted) as f64) as usize)?;
    // Most patterns occur in several fields. Their number is estimated only if this upper limit exceeds the
    // memory.
    let most = fields * f64::from(wanted) * (COPIES * size_of::<Pattern>()) as f64;
    if memory::fits(most as usize) {
        return Ok(());
    }
    memory::check(task, COPIES * estimate_size(plan, parameters, monitor)?.bytes)
}

pub(super) fn estimate_size(
    plan: &Plan,
    parameters: &Parameters,
    monitor: &dyn Monitor,
) -> Result<SizeEstimate> {
    let Plan { chosen: Chosen { stars, directions, .. }, lattices } = plan;
    let share = lattices.iter().map(|lattice| lattice.coverage.share()).fold(0.0, f64::max);
    let patches = Patches::new(parameters.smallest_fov(), share);
    let near = |center: &Direction, fov: f64| patches.contain(center, fov / 2.0);
    let lists = field_stars(directions, lattices, parameters, monitor, near)?;
    let wanted = parameters.patterns_per_lattice_field;
    let patterns =
        combine::patterns(directions, &lists, wanted, &|steps| Stage::new(monitor, PROGRESS[0], 1.0, steps))?;
    let counted: usize = patterns
        .0
        .par_iter()
        .map(|batch| {
            let faintest = batch.patterns.iter().filter_map(|pattern| pattern.stars.iter().max());
            faintest.filter(|star| patches.contain(&directions[**star as usize], 0.0)).count()
        })
        .sum();
    let patterns = (counted as f64 / patches.share()).round() as usize;

    let stars = stars.len();
    let directions: Vec<[f64; 3]> = directions.iter().map(|v| (*v).into()).collect();
    let sky_cells = CellIndex::new(&directions).offsets.len();
    let ratio_cells = RatioGrid::for_patterns(patterns).num_cells() as usize + 1;
    let (_, bytes) = layout([stars, stars, stars, stars, sky_cells, stars, ratio_cells, patterns]);
    Ok(SizeEstimate { stars, patterns, bytes })
}
