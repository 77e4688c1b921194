//! Combines the brightest stars of every field into patterns of four; each pattern is made once.
//!
//! Neighbouring fields share most of their stars. All occurrences of a star as the faintest of a pattern are
//! processed together. The triples of brighter stars with which it forms patterns are then few enough to be
//! marked in a small table, and no pattern is made, compared or stored twice.

use rayon::prelude::*;

use super::fields::Fields;
use super::grid::BUCKETS;
use super::stage::Stage;
use crate::error::{Error, Result};
use crate::geometry::sphere::Direction;
use crate::pattern::Pattern;

/// Number of occurrences of stars processed between two checks of the monitor.
const OCCURRENCES_PER_TASK: usize = 4096;

/// Maximum number of brighter stars with which a star can form patterns; the table of triples then takes 560
/// MB.
const MOST_NEIGHBOURS: usize = 3000;

/// The patterns made by one task, bucket by bucket.
pub(super) struct Batch {
    pub(super) patterns: Vec<Pattern>,
    /// First index of each bucket, followed by the number of all patterns.
    pub(super) begins: [u32; BUCKETS + 1],
}

/// All patterns.
pub(super) struct Patterns(pub(super) Vec<Batch>);

impl Patterns {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|batch| batch.patterns.len()).sum()
    }
}

/// `n` choose `k`.
fn choose(n: usize, k: usize) -> usize {
    (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
}

/// Smallest number of stars that has at least this many combinations of four.
pub(super) fn stars_for(patterns: u32) -> usize {
    let mut stars = 4;
    while choose(stars, 4) < patterns as usize {
        stars += 1;
    }
    stars
}

/// Bytes that a field with this many patterns takes while the patterns are made.
pub(super) fn field_bytes(patterns: u32) -> usize {
    let stars = stars_for(patterns);
    (stars + 1) * size_of::<u32>() + (stars - 3) * size_of::<Occurrence>()
}

/// An occurrence of a star in a field in which it can be the faintest of patterns.
#[derive(Clone, Copy, Default)]
struct Occurrence {
    /// List that contains the field, and index in it at which the field's stars begin.
    list: u32,
    begin: u32,
    /// Number of stars of the field that are brighter.
    brighter: u32,
}

/// The patterns of all fields: the first `per_field` combinations of each field, those of the brightest stars
/// first.
pub(super) fn patterns<'a>(
    directions: &[Direction],
    lists: &[Fields],
    per_field: u32,
    stage: &dyn Fn(usize) -> Stage<'a>,
) -> Result<Patterns> {
    let (occurrences, begins) = occurrences(directions.len(), lists);
    let tasks = tasks(&begins);
    let stage = stage(tasks.len());
    let work = |scratch: &mut Scratch, stars: &std::ops::Range<usize>| {
        let mut found = Vec::new();
        for star in stars.clone() {
            let fields = &occurrences[begins[star] as usize..begins[star + 1] as usize];
            scratch.combine(fields, lists, per_field as usize)?;
            scratch.emit(star as u32, directions, &mut found);
        }
        stage.step()?;
        Ok(bucketed(&found))
    };
    let batches =
        tasks.par_iter().map_init(|| Scratch::new(directions.len()), work).collect::<Result<_>>()?;
    Ok(Patterns(batches))
}

/// All occurrences sorted by star, and the index of the first occurrence of each star.
fn occurrences(stars: usize, lists: &[Fields]) -> (Vec<Occurrence>, Vec<u32>) {
    let mut begins = vec![0_u32; stars + 1];
    for list in lists {
        list.each(|_, field| field[3..].iter().for_each(|star| begins[*star as usize + 1] += 1));
    }
    for star in 0..stars {
        begins[star + 1] += begins[star];
    }
    let mut next = begins.clone();
    let mut sorted = vec![Occurrence::default(); begins[stars] as usize];
    for (list, fields) in lists.iter().enumerate() {
        fields.each(|begin, field| {
            for (brighter, star) in field.iter().enumerate().skip(3) {
                let place = &mut next[*star as usize];
                sorted[*place as usize] = Occurrence { list: list as u32, begin, brighter: brighter as u32 };
                *place += 1;
            }
        });
    }
    (sorted, begins)
}

/// Splits the stars into ranges with about equal numbers of occurrences.
fn tasks(begins: &[u32]) -> Vec<std::ops::Range<usize>> {
    let mut tasks = Vec::new();
    let mut first = 0;
    for star in 1..begins.len() {
        if (begins[star] - begins[first]) as usize >= OCCURRENCES_PER_TASK || star == begins.len() - 1 {
            tasks.push(first..star);
            first = star;
        }
    }
    tasks
}

/// Sorts patterns stably by bucket.
fn bucketed(patterns: &[Pattern]) -> Batch {
    let mut begins = [0_u32; BUCKETS + 1];
    for pattern in patterns {
        begins[pattern.bucket() + 1] += 1;
    }
    for bucket in 0..BUCKETS {
        begins[bucket + 1] += begins[bucket];
    }
    let mut next = begins;
    let mut sorted = vec![bytemuck::Zeroable::zeroed(); patterns.len()];
    for pattern in patterns {
        let place = &mut next[pattern.bucket()];
        sorted[*place as usize] = *pattern;
        *place += 1;
    }
    Batch { patterns: sorted, begins }
}

/// Working memory of a thread.
struct Scratch {
    /// For every star, its index among the neighbours, or [`NO_PLACE`] if it is not a neighbour.
    place: Vec<u32>,
    /// Brighter stars that occur together with the current star, ascending.
    neighbours: Vec<u32>,
    /// One bit per triple of neighbours, in the order of [`rank`].
    marked: Vec<u64>,
    /// The marked triples, as indices of neighbours.
    triples: Vec<[u16; 3]>,
    /// Indices of one field's stars among the neighbours.
    local: Vec<u16>,
}

const NO_PLACE: u32 = u32::MAX;

/// Index of a triple a < b < c when triples are sorted by the greatest, then the middle, then the least
/// element.
fn rank([a, b, c]: [u16; 3]) -> usize {
    let (a, b, c) = (usize::from(a), usize::from(b), usize::from(c));
    c * (c - 1) * (c - 2) / 6 + b * (b - 1) / 2 + a
}

impl Scratch {
    fn new(stars: usize) -> Self {
        Self {
            place: vec![NO_PLACE; stars],
            neighbours: Vec::new(),
            marked: Vec::new(),
            triples: Vec::new(),
            local: Vec::new(),
        }
    }

    /// Collects the triples with which `star` forms patterns in any of the fields.
    fn combine(&mut self, fields: &[Occurrence], lists: &[Fields], per_field: usize) -> Result<()> {
        let brighter = |field: &Occurrence| {
            &lists[field.list as usize].stars[field.begin as usize..][..field.brighter as usize]
        };
        self.neighbours.clear();
        for other in fields.iter().flat_map(brighter) {
            if self.place[*other as usize] == NO_PLACE {
                self.place[*other as usize] = 0;
                self.neighbours.push(*other);
            }
        }
        if self.neighbours.len() > MOST_NEIGHBOURS {
            let problem = format!("a star occurs with {} others", self.neighbours.len());
            let repair = "lower it or lattice_field_oversampling";
            return Err(Error::argument("patterns_per_lattice_field", problem, repair));
        }
        self.neighbours.sort_unstable();
        for (place, other) in self.neighbours.iter().enumerate() {
            self.place[*other as usize] = place as u32;
        }
        self.triples.clear();
        self.marked.clear();
        self.marked.resize(choose(self.neighbours.len().max(3), 3).div_ceil(64), 0);
        for field in fields {
            self.local.clear();
            self.local.extend(brighter(field).iter().map(|other| self.place[*other as usize] as u16));
            let before = choose(field.brighter as usize, 4);
            self.mark(per_field.saturating_sub(before));
        }
        for other in &self.neighbours {
            self.place[*other as usize] = NO_PLACE;
        }
        Ok(())
    }

    /// Marks the first `limit` triples of the current field.
    fn mark(&mut self, limit: usize) {
        let mut left = limit;
        for c in 2..self.local.len() {
            for b in 1..c {
                for a in 0..b {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    let triple = [self.local[a], self.local[b], self.local[c]];
                    let rank = rank(triple);
                    let (word, bit) = (&mut self.marked[rank / 64], 1 << (rank % 64));
                    if *word & bit == 0 {
                        *word |= bit;
                        self.triples.push(triple);
                    }
                }
            }
        }
    }

    /// Makes the patterns of the collected triples.
    fn emit(&self, star: u32, directions: &[Direction], out: &mut Vec<Pattern>) {
        out.extend(self.triples.iter().map(|triple| {
            let [a, b, c] = triple.map(|place| self.neighbours[usize::from(place)]);
            let stars = [a, b, c, star];
            Pattern::new(stars, stars.map(|star| &directions[star as usize]))
        }));
    }
}
