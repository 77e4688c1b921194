//! Measures the quantisation of pixel values: the lattice on which they lie, and flat areas that are rounded
//! to one value.

use rayon::prelude::*;

use crate::imaging::image::Image;

/// Least mean number of pixels per distinct value. If there are fewer, a lattice is too fine to matter.
const LATTICE_RECURRENCE: usize = 3;
/// Least number of distinct values from which the step is measured (that of integers is known).
const LATTICE_VALUES: usize = 4;
/// Gaps between values must be multiples of the step within this fraction of the step.
const LATTICE_TOLERANCE: f64 = 0.02;
/// Rounding error of the values, as a fraction of the largest value.
const ROUNDING: f64 = 4.0 * f32::EPSILON as f64;
/// Number of windows along each axis that are tested for flatness. In a frame without noise, most are flat.
const WINDOWS: usize = 16;
/// Side of a window, in pixels.
const WINDOW: usize = 4;
/// Flat windows are at several levels if more than this fraction of them is not at the most frequent level.
const OTHER_LEVELS: f64 = 0.02;

/// Flat areas are searched for only if the middle half of the values spans fewer steps than this.
const FEW_STEPS: f64 = 8.0;
/// Side of the blocks of JPEG, in pixels.
const BLOCK: usize = 8;
/// Number of lines along each axis in which edges of blocks are searched for.
const BLOCK_ROWS: usize = 128;
/// Lines per task.
const TASK_LINES: usize = 16;
/// Fraction of all differences between neighbours that one of the eight places in a block must exceed to be
/// its edge. Without blocks, each place has one eighth.
const EDGE_FRACTION: f64 = 0.2;
/// The same limit for the differences that are isolated.
const LONE_EDGE_FRACTION: f64 = 0.25;
/// Margin added to both fractions, in units of one over the root of the number of differences.
const EDGE_SIGMAS: f64 = 1.0;
/// Approximate number of blocks from which the step of the block means is measured.
const BLOCKS: usize = 1 << 14;
/// Neighbouring means that differ by less than this fraction of a step of the values are equal.
const LEVEL_TOLERANCE: f64 = 0.6;
/// Quantile of the other differences that gives the step of the means: most of these differences are one
/// step.
const STEP_QUANTILE: f64 = 0.3;

/// Quantisation step, and level difference between flat areas; each is zero if there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lattice {
    pub step: f64,
    pub plateau: f64,
}

impl Lattice {
    /// Measures the lattice of an image from its sorted sample `values`, their spread, and the distance
    /// between their quartiles.
    pub(super) fn new(image: &Image<'_>, values: &[f64], spread: Option<f64>, middle_half: f64) -> Self {
        let step = step(values, spread).or(image.step()).unwrap_or(0.0);
        // If the noise spans many steps, neither rounding nor blocks are visible.
        if step <= 0.0 || middle_half >= FEW_STEPS * step {
            return Self { step, plateau: 0.0 };
        }
        let edges = [first_edge(image, 0), first_edge(image, 1)];
        let blocks = match edges {
            [Some(x), Some(y)] => step.max(block_step(image, [x, y], step)),
            [None, None] => 0.0,
            _ => step,
        };
        Self { step, plateau: plateau(image).max(blocks) }
    }
}

/// The step of the lattice on which sorted values lie, if it is so coarse that many of them are equal.
fn step(values: &[f64], spread: Option<f64>) -> Option<f64> {
    // Larger values are not data: their rounding error alone would exceed the spread.
    let limit = spread? / ROUNDING;
    let values: Vec<f64> = values.iter().copied().filter(|v| v.abs() < limit).collect();
    let largest = values.first()?.abs().max(values.last()?.abs());
    let rounding = ROUNDING * largest;
    let gaps = || values.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > rounding);
    let count = gaps().count();
    if count + 1 < LATTICE_VALUES || count * LATTICE_RECURRENCE > values.len() {
        return None;
    }
    let step = gaps().fold(f64::INFINITY, f64::min);
    let multiple = |gap: f64| {
        let off = (gap / step - (gap / step).round()).abs();
        off * step <= LATTICE_TOLERANCE * step + rounding
    };
    gaps().all(multiple).then_some(step)
}

/// Least level difference between flat windows; zero unless most windows are flat and they are at several
/// levels.
///
/// Adjacent pixels are rounded to one value if the noise is far below a step, or if JPEG keeps only the mean
/// of each block.
fn plateau(image: &Image<'_>) -> f64 {
    let corner = |i: usize, size: usize| (2 * i + 1) * size.saturating_sub(WINDOW) / (2 * WINDOWS);
    let flat = |k: usize| {
        let [x, y] = [corner(k % WINDOWS, image.width()), corner(k / WINDOWS, image.height())];
        let rows = y..(y + WINDOW).min(image.height());
        let mut pixels =
            rows.flat_map(|y| (x..(x + WINDOW).min(image.width())).map(move |x| image.raw(x, y)));
        let first = pixels.next().filter(|v| v.is_finite())?;
        pixels.all(|v| v == first).then_some(first)
    };
    let mut levels: Vec<f64> = (0..WINDOWS * WINDOWS).filter_map(flat).collect();
    if 2 * levels.len() < WINDOWS * WINDOWS {
        return 0.0;
    }
    levels.sort_unstable_by(f64::total_cmp);
    let most = levels.chunk_by(|a, b| a == b).map(<[f64]>::len).max().unwrap_or(0);
    if (levels.len() - most) as f64 <= OTHER_LEVELS * levels.len() as f64 {
        return 0.0;
    }
    levels.windows(2).map(|pair| pair[1] - pair[0]).filter(|&gap| gap > 0.0).fold(f64::INFINITY, f64::min)
}

/// Position of the first edge of JPEG blocks along an axis; `None` if no blocks are visible.
///
/// Strong compression leaves steps at the edges of blocks. Then too many of all differences between
/// neighbours, or of the isolated ones, are at one of eight places. (Differences in stars are not isolated.)
fn first_edge(image: &Image<'_>, axis: usize) -> Option<usize> {
    let (length, across) = (image.size()[axis], image.size()[1 - axis]);
    let lines = BLOCK_ROWS.min(across);
    let counts = |buffers: &mut (Vec<f64>, Vec<u8>, Vec<u8>), k: usize| {
        let (line, differs, lone) = buffers;
        let mut from = [(2 * k + 1) * across / (2 * lines); 2];
        from[axis] = 0;
        line.resize(length, 0.0);
        image.line(from, [1 - axis, axis], line);
        // Whether each pixel differs from the one before it; false if either is bad.
        differs.clear();
        differs.push(0);
        differs.extend(line.windows(2).map(|pair| u8::from((pair[1] - pair[0]).abs() > 0.0)));
        lone.clear();
        lone.push(0);
        lone.extend(differs.windows(3).map(|three| three[1] & !(three[0] | three[2])));
        [by_place(differs), by_place(lone)]
    };
    let sum = |a: [[u32; BLOCK]; 2], b: [[u32; BLOCK]; 2]| {
        std::array::from_fn(|k| std::array::from_fn(|place| a[k][place] + b[k][place]))
    };
    let [all, alone] = (0..lines)
        .into_par_iter()
        .with_min_len(TASK_LINES)
        .map_init(Default::default, counts)
        .reduce(Default::default, sum);
    let crowded = |differences: [u32; BLOCK], fraction: f64| {
        let total = f64::from(differences.iter().sum::<u32>());
        let (place, most) = differences.into_iter().enumerate().max_by_key(|&(_, count)| count)?;
        let crowd = (fraction + EDGE_SIGMAS / total.sqrt()) * total;
        (total > 0.0 && f64::from(most) > crowd).then_some(place)
    };
    crowded(all, EDGE_FRACTION).or_else(|| crowded(alone, LONE_EDGE_FRACTION))
}

/// Number of set flags at each of the eight places in the blocks along a line.
fn by_place(flags: &[u8]) -> [u32; BLOCK] {
    let mut counts = [0; BLOCK];
    for block in flags.chunks(BLOCK) {
        for (count, &flag) in counts.iter_mut().zip(block) {
            *count += u32::from(flag);
        }
    }
    counts
}

/// Quantisation step of the means of JPEG blocks that begin at `first`. It is coarser than that of the pixel
/// values.
fn block_step(image: &Image<'_>, first: [usize; 2], step: f64) -> f64 {
    let [columns, rows] = [(image.width(), first[0]), (image.height(), first[1])]
        .map(|(size, first)| size.saturating_sub(first) / BLOCK);
    // No lines if the image has no whole block.
    let lines = (BLOCKS / columns.max(1)).max(1).min(rows);
    let differences = |(line, sums): &mut (Vec<f64>, Vec<f64>), k: usize| {
        line.resize(columns * BLOCK, 0.0);
        sums.clear();
        sums.resize(columns, 0.0);
        let top = first[1] + (2 * k + 1) * rows / (2 * lines) * BLOCK;
        for y in top..top + BLOCK {
            image.line([first[0], y], [1, 0], line);
            for (sum, pixels) in sums.iter_mut().zip(line.as_chunks::<BLOCK>().0) {
                *sum += pixels.iter().sum::<f64>();
            }
        }
        let pixels = (BLOCK * BLOCK) as f64;
        let pairs = sums.windows(2).map(|pair| ((pair[1] - pair[0]) / pixels).abs());
        pairs.filter(|&difference| difference > LEVEL_TOLERANCE * step).collect::<Vec<f64>>()
    };
    let mut steps =
        (0..lines).into_par_iter().map_init(Default::default, differences).collect::<Vec<_>>().concat();
    steps.sort_unstable_by(f64::total_cmp);
    steps.get((STEP_QUANTILE * steps.len() as f64) as usize).copied().unwrap_or(0.0)
}
