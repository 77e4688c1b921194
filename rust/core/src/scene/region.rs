//! The fitted pixels of an image: the union of windows, row after row, without bad pixels.

/// A box of columns x0 to x1 - 1 and rows y0 to y1 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub x0: usize,
    /// Column after the last.
    pub x1: usize,
    /// First row.
    pub y0: usize,
    /// Row after the last.
    pub y1: usize,
}

impl Window {
    /// Pixels of the image within a distance `half` of a position along either axis; `None` if there are
    /// none.
    pub fn about([x, y]: [f64; 2], half: f64, [width, height]: [usize; 2]) -> Option<Self> {
        let span = |v: f64, side: usize| {
            let first = (v - half).round().max(0.0);
            let last = (v + half).round().min(side as f64 - 1.0);
            (first <= last).then_some((first as usize, last as usize + 1))
        };
        let (x, y) = (span(x, width)?, span(y, height)?);
        Some(Self { x0: x.0, x1: x.1, y0: y.0, y1: y.1 })
    }

    /// Whether the two windows have a pixel in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.x0 < other.x1 && other.x0 < self.x1 && self.y0 < other.y1 && other.y0 < self.y1
    }

    /// Whether a position is inside the window.
    pub fn contains(&self, [x, y]: [f64; 2]) -> bool {
        let inside = |v: f64, a: usize, b: usize| v >= a as f64 - 0.5 && v < b as f64 - 0.5;
        inside(x, self.x0, self.x1) && inside(y, self.y0, self.y1)
    }
}

/// Consecutive pixels of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub y: usize,
    pub x: usize,
    pub len: usize,
    /// Index of the first pixel among all pixels of the region.
    pub at: usize,
}

/// The pixels that are fitted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Region {
    segments: Vec<Segment>,
    /// Index of the first segment of each row, and one after the last.
    rows: Vec<usize>,
    pub data: Vec<f64>,
    /// Inverse variances.
    pub weights: Vec<f64>,
}

impl Region {
    /// Collects the good pixels of windows.
    pub(super) fn new(
        data: &[f64],
        variance: &[f64],
        [width, height]: [usize; 2],
        windows: impl Iterator<Item = Window>,
    ) -> Self {
        let mut wanted = vec![Vec::new(); height];
        for w in windows {
            for row in &mut wanted[w.y0..w.y1] {
                row.push((w.x0, w.x1));
            }
        }
        let mut region = Self::default();
        for (y, spans) in wanted.iter_mut().enumerate() {
            region.rows.push(region.segments.len());
            spans.sort_unstable();
            let mut next = 0;
            for &(x0, x1) in spans.iter() {
                for x in x0.max(next)..x1 {
                    let k = y * width + x;
                    if data[k].is_finite() && variance[k] > 0.0 && variance[k].is_finite() {
                        region.push(x, y, data[k], 1.0 / variance[k]);
                    }
                }
                next = next.max(x1);
            }
        }
        region.rows.push(region.segments.len());
        region
    }

    fn push(&mut self, x: usize, y: usize, value: f64, weight: f64) {
        let at = self.data.len();
        self.data.push(value);
        self.weights.push(weight);
        match self.segments.last_mut() {
            Some(last) if last.y == y && last.x + last.len == x => last.len += 1,
            _ => self.segments.push(Segment { y, x, len: 1, at }),
        }
    }

    /// Number of pixels.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// All pixels of the region.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Pixels of the region in a window.
    pub(super) fn within(&self, window: &Window) -> Vec<Segment> {
        let mut inside = Vec::new();
        let last = window.y1.min(self.rows.len().saturating_sub(1));
        for y in window.y0..last {
            for s in &self.segments[self.rows[y]..self.rows[y + 1]] {
                let (x0, x1) = (s.x.max(window.x0), (s.x + s.len).min(window.x1));
                if x0 < x1 {
                    inside.push(Segment { y, x: x0, len: x1 - x0, at: s.at + x0 - s.x });
                }
            }
        }
        inside
    }
}

/// Overlaps of two lists of segments of one region: index in the region, offset in each list, and length.
pub(super) fn shared(a: &[Segment], b: &[Segment]) -> Vec<[usize; 4]> {
    let (mut i, mut j, mut before) = (0, 0, [0, 0]);
    let mut out = Vec::new();
    while i < a.len() && j < b.len() {
        let (s, t) = (&a[i], &b[j]);
        let (first, last) = (s.at.max(t.at), (s.at + s.len).min(t.at + t.len));
        if first < last {
            out.push([first, before[0] + first - s.at, before[1] + first - t.at, last - first]);
        }
        if s.at + s.len <= t.at + t.len {
            before[0] += s.len;
            i += 1;
        } else {
            before[1] += t.len;
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_good_pixel_once() {
        let (width, height) = (12, 9);
        let mut data: Vec<f64> = (0..width * height).map(|k| k as f64).collect();
        let mut variance = vec![2.0; width * height];
        (data[40], variance[41]) = (f64::NAN, f64::INFINITY);
        let windows = [
            Window { x0: 1, x1: 6, y0: 1, y1: 6 },
            Window { x0: 4, x1: 12, y0: 3, y1: 8 },
            Window { x0: 2, x1: 3, y0: 2, y1: 3 },
        ];
        let region = Region::new(&data, &variance, [width, height], windows.into_iter());
        let inside = |w: &Window, k: usize| w.contains([(k % width) as f64, (k / width) as f64]);
        let expected: Vec<f64> = (0..width * height)
            .filter(|k| windows.iter().any(|w| inside(w, *k)) && *k != 40 && *k != 41)
            .map(|k| k as f64)
            .collect();
        assert_eq!(region.data, expected);
        let (a, b) = (region.within(&windows[0]), region.within(&windows[1]));
        let common: usize = shared(&a, &b).iter().map(|s| s[3]).sum();
        let both = |k: &usize| inside(&windows[0], *k) && inside(&windows[1], *k) && *k != 40 && *k != 41;
        assert_eq!(common, (0..width * height).filter(both).count());
        for [at, i, j, _] in shared(&a, &b) {
            let value = |list: &[Segment], mut k: usize| {
                for s in list {
                    if k < s.len {
                        return region.data[s.at + k];
                    }
                    k -= s.len;
                }
                f64::NAN
            };
            assert_eq!(value(&a, i), region.data[at]);
            assert_eq!(value(&b, j), region.data[at]);
        }
    }

    #[test]
    fn windows_end_with_the_image() {
        assert_eq!(Window::about([1.0, 5.0], 3.0, [20, 7]), Some(Window { x0: 0, x1: 5, y0: 2, y1: 7 }));
        assert_eq!(Window::about([-9.0, 5.0], 3.0, [20, 7]), None);
    }
}
