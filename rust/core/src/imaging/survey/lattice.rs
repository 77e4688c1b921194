//! The lattice that values lie on, and pixels that are rounded alike.

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
    let [mut all, mut alone] = [[0_usize; BLOCK]; 2];
    let (length, across) = (image.size()[axis], image.size()[1 - axis]);
    let lines = BLOCK_ROWS.min(across);
    let mut line = vec![0.0; length];
    for k in 0..lines {
        let mut from = [(2 * k + 1) * across / (2 * lines); 2];
        from[axis] = 0;
        image.line(from, [1 - axis, axis], &mut line);
        // Whether there was a difference at the pixel before, and at the one before that.
        let mut before = [false; 2];
        for (x, pair) in (1..).zip(line.windows(2)) {
            // False where either is bad.
            let differs = (pair[1] - pair[0]).abs() > 0.0;
            all[x % BLOCK] += usize::from(differs);
            alone[(x - 1) % BLOCK] += usize::from(before == [true, false] && !differs);
            before = [differs, before[0]];
        }
    }
    let crowded = |differences: [usize; BLOCK], fraction: f64| {
        let total = differences.iter().sum::<usize>() as f64;
        let (place, most) = differences.into_iter().enumerate().max_by_key(|&(_, count)| count)?;
        let crowd = (fraction + EDGE_SIGMAS / total.sqrt()) * total;
        (total > 0.0 && most as f64 > crowd).then_some(place)
    };
    crowded(all, EDGE_FRACTION).or_else(|| crowded(alone, LONE_EDGE_FRACTION))
}

/// Step of the means of blocks that begin at `first`: JPEG rounds them to a coarser lattice than that of the values.
fn block_step(image: &Image<'_>, first: [usize; 2], step: f64) -> f64 {
    let [columns, rows] = [(image.width(), first[0]), (image.height(), first[1])]
        .map(|(size, first)| size.saturating_sub(first) / BLOCK);
    let mean = |i: usize, j: usize| -> Option<f64> {
        let [x, y] = [first[0] + i * BLOCK, first[1] + j * BLOCK];
        let mut pixels = [0.0; BLOCK * BLOCK];
        for (y, row) in (y..).zip(pixels.chunks_exact_mut(BLOCK)) {
            image.line([x, y], [1, 0], row);
        }
        let sum: f64 = pixels.iter().sum();
        sum.is_finite().then_some(sum / (BLOCK * BLOCK) as f64)
    };
    // None of an image that has no whole block.
    let lines = (BLOCKS / columns.max(1)).max(1).min(rows);
    let mut steps = Vec::new();
    for j in (0..lines).map(|k| (2 * k + 1) * rows / (2 * lines)) {
        let means: Vec<Option<f64>> = (0..columns).map(|i| mean(i, j)).collect();
        let pairs = means.windows(2).filter_map(|pair| Some((pair[1]? - pair[0]?).abs()));
        steps.extend(pairs.filter(|&difference| difference > LEVEL_TOLERANCE * step));
    }
    steps.sort_unstable_by(f64::total_cmp);
    steps.get((STEP_QUANTILE * steps.len() as f64) as usize).copied().unwrap_or(0.0)
}
