//! Estimates the number of false detections from troughs, because the sky has no negative stars.
//!
//! Symmetric noise makes as many troughs as peaks, whatever its correlation and however long its tails
//! (blocks of JPEG, resampled frames). If there are too many troughs for the number of peaks, the threshold
//! is raised until there are few enough. Peaks and troughs of a foreground, which is in a part of the frame
//! only, do not raise the threshold.

use super::{Peak, Trough};
use crate::imaging::background::Background;
use crate::imaging::image::Image;

/// Tolerated troughs, as a multiple of the number that white noise has. One more is always tolerated.
const WHITE_FACTOR: f64 = 4.0;
/// Further tolerated troughs, as a fraction of the number of peaks.
const FRACTION: f64 = 0.1;
/// Tiles of the frame along each axis.
const TILES: usize = 8;
/// If the half of the tiles with fewer troughs has less than this fraction of the troughs, the other half is
/// foreground and is not counted.
const QUIET_FRACTION: f64 = 0.25;
/// Largest distance along each axis, in pixels of the filtered frame, between a bright star and a trough that
/// it causes (by sharpening, JPEG, or a background estimate that is too high).
const RING: usize = 12;
/// The peak of such a star is higher than this multiple of the trough's depth.
const RING_FACTOR: f32 = 3.0;
/// A trough is a dead pixel if its lowest pixel is deeper than the second lowest by more than this fraction
/// of its depth.
const DEAD: f32 = 0.75;
/// Half-width of the square around a trough that includes its lowest pixel, in pixels of the filtered frame.
const REACH: usize = 2;

pub(super) struct Mirror<'a> {
    pub image: &'a Image<'a>,
    pub background: &'a Background,
    /// Bin size along each axis: pixels of the frame per pixel of the filtered frame.
    pub bin: usize,
    /// Number of troughs expected from white noise.
    pub white: f64,
}

impl Mirror<'_> {
    /// The lowest threshold above `cut` at which few enough detections are false; `None` if `cut` itself is
    /// high enough.
    pub(super) fn threshold(&self, peaks: &[Peak], troughs: &[Trough], cut: f32) -> Option<f32> {
        let allowed = |peaks: usize| 1.0 + WHITE_FACTOR * self.white + FRACTION * peaks as f64;
        if troughs.len() as f64 <= allowed(peaks.len()) {
            return None;
        }
        let noisy = |t: &&Trough| !self.is_dead(t) && !is_ring(t, peaks);
        let troughs: Vec<Trough> = troughs.iter().filter(noisy).copied().collect();
        let counts = self.counts(&troughs);
        let mut depths: Vec<f32> = troughs.iter().filter(|t| counts(t.x, t.y)).map(|t| t.depth).collect();
        depths.sort_unstable_by(f32::total_cmp);
        let counted = peaks.iter().filter(|peak| counts(peak.x, peak.y));
        let mut heights: Vec<f32> = counted.map(|peak| peak.height).collect();
        heights.sort_unstable_by(f32::total_cmp);
        let left = |threshold: f32| heights.len() - heights.partition_point(|&h| h <= threshold);
        let few = |&k: &usize| {
            let threshold = if k == 0 { cut } else { depths[k - 1] };
            (depths.len() - k) as f64 <= allowed(left(threshold))
        };
        let first = (0..=depths.len()).find(few).filter(|&k| k > 0)?;
        Some(depths[first - 1].next_up())
    }

    /// A test of whether a trough at a column and row counts: always, or only in the half of the frame
    /// without foreground.
    fn counts(&self, troughs: &[Trough]) -> impl Fn(usize, usize) -> bool + use<> {
        let size = [self.image.width(), self.image.height()].map(|n| (n / self.bin).max(1));
        let tile = move |x: usize, y: usize| {
            let [i, j] = [x * TILES / size[0], y * TILES / size[1]].map(|k| k.min(TILES - 1));
            j * TILES + i
        };
        // One half of the troughs ranks the tiles and the other half is counted, so that chance in the
        // ranking causes no bias.
        let [mut rank, mut others] = [[0_usize; TILES * TILES]; 2];
        for pair in troughs.chunks(2) {
            for (count, t) in [&mut rank, &mut others].into_iter().zip(pair) {
                count[tile(t.x, t.y)] += 1;
            }
        }
        let mut order: [usize; TILES * TILES] = std::array::from_fn(|k| k);
        order.sort_by_key(|&k| rank[k]);
        let mut quiet = [false; TILES * TILES];
        for &k in &order[..order.len() / 2] {
            quiet[k] = true;
        }
        let inside: usize = (0..others.len()).filter(|&k| quiet[k]).map(|k| others[k]).sum();
        let clustered = (inside as f64) < QUIET_FRACTION * others.iter().sum::<usize>() as f64;
        move |x, y| !clustered || quiet[tile(x, y)]
    }

    /// Whether a trough is a single dark pixel of the frame.
    fn is_dead(&self, trough: &Trough) -> bool {
        let reach = REACH * self.bin;
        let [x, y] = [trough.x, trough.y].map(|v| v * self.bin + self.bin / 2);
        let level = self.background.level.at(x as f32, y as f32);
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(self.image.width());
        let rows = y.saturating_sub(reach)..(y + reach + 1).min(self.image.height());
        let mut pixels = vec![0.0; columns.len() * rows.len()];
        self.image.read_block([columns.start, rows.start], columns.len(), &mut pixels, columns.len());
        let mut depths: Vec<f32> = pixels.iter().map(|v| level - v).filter(|v| v.is_finite()).collect();
        depths.sort_unstable_by(|a, b| b.total_cmp(a));
        matches!(depths[..], [first, second, ..] if second < (1.0 - DEAD) * first)
    }
}

/// Whether a trough is caused by a bright star; the peaks are in reading order.
fn is_ring(trough: &Trough, peaks: &[Peak]) -> bool {
    let first = peaks.partition_point(|peak| peak.y + RING < trough.y);
    let near = peaks[first..].iter().take_while(|peak| peak.y <= trough.y + RING);
    near.filter(|peak| peak.x.abs_diff(trough.x) <= RING).any(|peak| peak.height > RING_FACTOR * trough.depth)
}
