//! The lattice that values lie on, and pixels that are rounded alike.

use rayon::prelude::*;

use crate::imaging::image::Image;

/// The values of one pixel in so many at least recur, where they lie on a lattice that matters.
const LATTICE_RECURRENCE: usize = 3;
/// Fewer different values tell no lattice of numbers that are not integers.
const LATTICE_VALUES: usize = 4;
/// Gaps between values are multiples of the step within this fraction of it.
const LATTICE_TOLERANCE: f64 = 0.02;
/// Rounding of the values, as a fraction of the largest.
const ROUNDING: f64 = 4.0 * f32::EPSILON as f64;
/// Windows along each axis, and pixels along each side of one, of which most are flat in a frame without noise ...
const WINDOWS: usize = 16;
const WINDOW: usize = 4;
/// ... and which are at several levels, if this fraction of them is not at that of most.
const OTHER_LEVELS: f64 = 0.02;

/// Frames of which the middle half of the values spreads over fewer steps are looked at for plateaus.
const FEW_STEPS: f64 = 8.0;
/// Side of the blocks of JPEG, and rows on which their edges are looked for.
const BLOCK: usize = 8;
const BLOCK_ROWS: usize = 128;
/// Lines that a task looks at.
const TASK_LINES: usize = 16;
/// Fraction of the differences of neighbours that are at the edges of blocks, where there are any (else one in eight), that
/// of those that stand alone, and what is added to both for their number, over its root.
const EDGE_FRACTION: f64 = 0.2;
const LONE_EDGE_FRACTION: f64 = 0.25;
const EDGE_SIGMAS: f64 = 1.0;
/// Blocks that are looked at for the step of their means. Means that differ by less than this fraction of a step of the
/// values are the same; of the other differences of neighbours most are one step, and this quantile tells it.
const BLOCKS: usize = 1 << 14;
const LEVEL_TOLERANCE: f64 = 0.6;
const STEP_QUANTILE: f64 = 0.3;

/// The step of a lattice and the difference of its plateaus, each zero where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lattice {
    pub step: f64,
    pub plateau: f64,
}

impl Lattice {
    /// Of sorted values of an image that have this spread, the middle half of them that other one.
    pub(super) fn new(image: &Image<'_>, values: &[f64], spread: Option<f64>, middle_half: f64) -> Self {
        let step = step(values, spread).or(image.step()).unwrap_or(0.0);
        // Where there are many steps of noise, neither rounding nor blocks are left to be seen.
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

/// The step of the lattice that sorted values lie on, if it is coarse enough for many of them to be the same.
fn step(values: &[f64], spread: Option<f64>) -> Option<f64> {
    // Larger ones are no data: they would not show such a spread.
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

/// Least difference of flat windows, if most are flat and not all of one level.
///
/// Noise far below a step, and blocks of JPEG that are a mean and nothing else, are rounded alike over many pixels.
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

/// First edge of blocks along the lines of pixels of an axis, as JPEG leaves them where it keeps little else: too many of all
/// differences of neighbours are at one place in eight, or of those that stand alone (stars have other differences beside them).
fn first_edge(image: &Image<'_>, axis: usize) -> Option<usize> {
    let (length, across) = (image.size()[axis], image.size()[1 - axis]);
    let lines = BLOCK_ROWS.min(across);
    let counts = |buffers: &mut (Vec<f64>, Vec<u8>, Vec<u8>), k: usize| {
        let (line, differs, lone) = buffers;
        let mut from = [(2 * k + 1) * across / (2 * lines); 2];
        from[axis] = 0;
        line.resize(length, 0.0);
        image.line(from, [1 - axis, axis], line);
        // From the one before each pixel; none where either is bad.
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

/// How many flags are set at each place of the blocks along a line.
fn by_place(flags: &[u8]) -> [u32; BLOCK] {
    let mut counts = [0; BLOCK];
    for block in flags.chunks(BLOCK) {
        for (count, &flag) in counts.iter_mut().zip(block) {
            *count += u32::from(flag);
        }
    }
    counts
}

/// Step of the means of blocks that begin at `first`: JPEG rounds them to a coarser lattice than that of the values.
fn block_step(image: &Image<'_>, first: [usize; 2], step: f64) -> f64 {
    let [columns, rows] = [(image.width(), first[0]), (image.height(), first[1])]
        .map(|(size, first)| size.saturating_sub(first) / BLOCK);
    // None of an image that has no whole block.
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
