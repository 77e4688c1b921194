//! An index of directions in cubes of space: a look-up touches only nearby cubes, and directions can be added
//! and removed at any time.

use std::collections::HashMap;

use crate::geometry::sphere::chord;

/// Marks the end of a chain of entries.
const NONE: u32 = u32::MAX;

/// Numbered directions in cubes, for look-ups within about the side of a cube.
#[derive(Debug, Clone)]
pub struct SkyCells {
    cells_per_unit: f64,
    /// First entry of each cube.
    first: HashMap<[i32; 3], u32>,
    entries: Vec<Entry>,
    /// First entry in the chain of free entries.
    free: u32,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    direction: [f64; 3],
    number: u32,
    /// The next entry of the same cube or, for a free entry, the next free one.
    next: u32,
}

impl SkyCells {
    /// An empty index with cubes of this side (at least 1e-9), in units of the sphere's radius.
    pub fn new(side: f64) -> Self {
        Self {
            cells_per_unit: 1.0 / side.clamp(1e-9, 1.0),
            first: HashMap::new(),
            entries: Vec::new(),
            free: NONE,
            count: 0,
        }
    }

    /// Number of directions.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no directions.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn cell(&self, place: &[f64; 3]) -> [i32; 3] {
        place.map(|c| (c * self.cells_per_unit).floor() as i32)
    }

    /// Adds a direction.
    pub fn add(&mut self, number: u32, direction: &[f64; 3]) {
        let first = self.first.entry(self.cell(direction)).or_insert(NONE);
        let entry = Entry { direction: *direction, number, next: *first };
        *first = self.free;
        if *first == NONE {
            *first = self.entries.len() as u32;
            self.entries.push(entry);
        } else {
            let place = &mut self.entries[self.free as usize];
            self.free = place.next;
            *place = entry;
        }
        self.count += 1;
    }

    /// Removes a direction that was added with this number, if there is one.
    pub fn remove(&mut self, number: u32, direction: &[f64; 3]) {
        let cell = self.cell(direction);
        let (mut at, mut before) = (self.first.get(&cell).copied().unwrap_or(NONE), NONE);
        while at != NONE && self.entries[at as usize].number != number {
            (before, at) = (at, self.entries[at as usize].next);
        }
        if at == NONE {
            return;
        }
        let next = self.entries[at as usize].next;
        if before != NONE {
            self.entries[before as usize].next = next;
        } else if next != NONE {
            self.first.insert(cell, next);
        } else {
            self.first.remove(&cell);
        }
        self.entries[at as usize].next = self.free;
        self.free = at;
        self.count -= 1;
    }

    /// Numbers of the directions within an angle of at least one of `places`, ascending and without
    /// repetition.
    pub fn within(&self, places: &[[f64; 3]], angle: f64) -> Vec<u32> {
        let reach = chord(angle);
        let mut found = Vec::new();
        for place in places {
            let low = self.cell(&place.map(|c| c - reach));
            let high = self.cell(&place.map(|c| c + reach));
            let sides = [0, 1, 2].map(|k| f64::from(high[k]) - f64::from(low[k]) + 1.0);
            if sides.iter().product::<f64>() > self.first.len() as f64 {
                self.first.values().for_each(|&first| self.collect(first, place, reach, &mut found));
                continue;
            }
            for x in low[0]..=high[0] {
                for y in low[1]..=high[1] {
                    for z in low[2]..=high[2] {
                        if let Some(&first) = self.first.get(&[x, y, z]) {
                            self.collect(first, place, reach, &mut found);
                        }
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Appends the numbers of a cube's directions that are within a chord of a place.
    fn collect(&self, first: u32, place: &[f64; 3], reach: f64, found: &mut Vec<u32>) {
        let mut at = first;
        while at != NONE {
            let Entry { direction, number, next } = &self.entries[at as usize];
            let square: f64 = direction.iter().zip(place).map(|(a, b)| (a - b) * (a - b)).sum();
            if square <= reach * reach {
                found.push(*number);
            }
            at = *next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Directions near the x axis or all over the sky, depending on a random spread.
    fn directions(most: usize) -> impl Strategy<Value = Vec<[f64; 3]>> {
        let offsets = prop::collection::vec(prop::array::uniform3(-0.5..0.5_f64), 0..most);
        (offsets, 0.0..4.0_f64).prop_map(|(offsets, spread)| {
            let about = |[x, y, z]: [f64; 3]| [1.0 + spread * x, spread * y, spread * z];
            let unit = |v: [f64; 3]| v.map(|c| c / v.iter().map(|c| c * c).sum::<f64>().sqrt());
            offsets.into_iter().map(|offset| unit(about(offset))).collect()
        })
    }

    proptest! {
        #[test]
        fn those_within_an_angle_are_found(
            stars in directions(60), places in directions(4), gone in 0..30_usize, side in 1e-4..0.5_f64, angle in 0.0..0.3_f64,
        ) {
            let mut cells = SkyCells::new(side);
            stars.iter().enumerate().for_each(|(i, star)| cells.add(i as u32, star));
            let gone = gone.min(stars.len());
            (0..gone).for_each(|i| cells.remove(i as u32, &stars[i]));
            // Removing an unknown number changes nothing, and free entries are used again.
            cells.remove(1000, &[1.0, 0.0, 0.0]);
            (0..gone / 2).for_each(|i| cells.add(i as u32, &stars[i]));
            prop_assert_eq!(cells.len(), stars.len() - gone + gone / 2);
            let reach = 2.0 * (angle / 2.0).sin();
            let near = |star: &[f64; 3]| {
                let square = |p: &[f64; 3]| p.iter().zip(star).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                places.iter().any(|p| square(p) <= reach * reach)
            };
            let there = |i: &usize| *i < gone / 2 || *i >= gone;
            let wanted: Vec<u32> =
                (0..stars.len()).filter(|i| there(i) && near(&stars[*i])).map(|i| i as u32).collect();
            prop_assert_eq!(cells.within(&places, angle), wanted);
        }
    }
}
