//! Sorts patterns into the cells of the ratio grid.

use rayon::prelude::*;

use super::combine::Patterns;
use super::grid::{BUCKETS, RatioGrid};
use super::stage::Stage;
use crate::error::{Error, Result};
use crate::pattern::Pattern;

/// The grid for these patterns.
pub(super) fn grid_for(patterns: &Patterns) -> Result<RatioGrid> {
    if u32::try_from(patterns.len()).is_err() {
        let problem = format!("with these parameters there are {} patterns", patterns.len());
        let repair = "lower it, or lattice_field_oversampling, until they are fewer than 4,294,967,296";
        return Err(Error::argument("patterns_per_lattice_field", problem, repair));
    }
    Ok(RatioGrid::for_patterns(patterns.len()))
}

/// Fills `sorted` with the patterns, cell by cell, and `offsets` with the first index of each cell, followed
/// by the number of all patterns.
///
/// Within a cell, patterns keep their order: patterns of brighter stars come first.
pub(super) fn sort(
    patterns: &Patterns,
    grid: RatioGrid,
    offsets: &mut [u32],
    sorted: &mut [Pattern],
    stage: &Stage<'_>,
) -> Result<()> {
    // Rows of the grid consist of whole buckets, so each row is gathered and sorted separately.
    let buckets_per_row = BUCKETS / grid.coarse as usize;
    let cells_per_row = (grid.coarse * grid.fine) as usize;
    let batches = &patterns.0;
    let bucket_len = |bucket: usize| -> usize {
        batches.iter().map(|batch| (batch.begins[bucket + 1] - batch.begins[bucket]) as usize).sum()
    };
    let mut rows = Vec::with_capacity(grid.coarse as usize);
    let mut rest = sorted;
    let mut begin = 0;
    for (row, offsets) in offsets.chunks_mut(cells_per_row).take(grid.coarse as usize).enumerate() {
        let buckets = row * buckets_per_row..(row + 1) * buckets_per_row;
        let length: usize = buckets.clone().map(bucket_len).sum();
        let (own, others) = std::mem::take(&mut rest).split_at_mut(length);
        rest = others;
        rows.push((buckets, begin as u32, offsets, own));
        begin += length;
    }
    rows.into_par_iter().try_for_each(|(buckets, begin, offsets, sorted)| {
        let members = || {
            batches.iter().flat_map(|batch| {
                &batch.patterns[batch.begins[buckets.start] as usize..batch.begins[buckets.end] as usize]
            })
        };
        let first_cell = grid.first_cell(buckets.start / buckets_per_row);
        let mut next = vec![0_u32; cells_per_row];
        members().for_each(|pattern| next[grid.cell(pattern) - first_cell] += 1);
        let mut sum = 0;
        for (count, offset) in next.iter_mut().zip(offsets) {
            *offset = begin + sum;
            sum += std::mem::replace(count, sum);
        }
        for pattern in members() {
            let place = &mut next[grid.cell(pattern) - first_cell];
            sorted[*place as usize] = *pattern;
            *place += 1;
        }
        stage.step()
    })?;
    if let Some(last) = offsets.last_mut() {
        *last = begin as u32;
    }
    Ok(())
}
