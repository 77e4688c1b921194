//! Blobs: connected pixels above a level, joined from runs along the rows.

/// A run of pixels above a level: columns `start..end` of row `y`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub y: u32,
    pub start: u32,
    pub end: u32,
}

/// A set of connected pixels. Pixels that touch at a corner are connected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Blob {
    /// Number of pixels.
    pub pixels: usize,
    /// Number of peaks.
    pub peaks: usize,
    /// First and last column, and first and last row.
    pub bounds: [[usize; 2]; 2],
    /// Sums of x and of y over the pixels.
    first: [f64; 2],
    /// Sums of x², x y and y² over the pixels.
    second: [f64; 3],
}

impl Blob {
    fn of(run: Run) -> Self {
        let (x, y) = (run.start as usize, run.y as usize);
        Self { pixels: 0, peaks: 0, bounds: [[x, x], [y, y]], first: [0.0; 2], second: [0.0; 3] }
    }

    fn add(&mut self, run: Run) {
        let count = f64::from(run.end - run.start);
        let (first, last, y) = (f64::from(run.start), f64::from(run.end) - 1.0, f64::from(run.y));
        let sum = 0.5 * count * (first + last);
        // The sum of squares of n equidistant numbers: n times the square of their mean, plus n (n² - 1) /
        // 12.
        let squares = sum * sum / count + count * (count * count - 1.0) / 12.0;
        self.pixels += (run.end - run.start) as usize;
        self.bounds[0][0] = self.bounds[0][0].min(run.start as usize);
        self.bounds[0][1] = self.bounds[0][1].max(run.end as usize - 1);
        self.bounds[1][1] = run.y as usize;
        self.first[0] += sum;
        self.first[1] += y * count;
        self.second[0] += squares;
        self.second[1] += y * sum;
        self.second[2] += y * y * count;
    }

    /// Converts the blob from a frame binned by `bin` pixels along each axis to the frame itself.
    pub(crate) fn unbin(&mut self, bin: usize) {
        if bin == 1 {
            return;
        }
        let (b, n) = (bin as f64, self.pixels as f64);
        let (shift, area) = (0.5 * (b - 1.0), b * b);
        let ([x, y], [xx, xy, yy]) = (self.first, self.second);
        let square = |second: f64, first: f64| area * second + 2.0 * b * shift * first + shift * shift * n;
        let product = area * xy + b * shift * (x + y) + shift * shift * n;
        self.first = [area * (b * x + shift * n), area * (b * y + shift * n)];
        self.second = [area * square(xx, x), area * product, area * square(yy, y)];
        let wide = |[low, high]: [usize; 2]| [bin * low, bin * high + bin - 1];
        self.bounds = [wide(self.bounds[0]), wide(self.bounds[1])];
        self.pixels *= bin * bin;
    }

    /// Mean column and row of the pixels.
    pub(crate) fn centre(&self) -> [f64; 2] {
        self.first.map(|v| v / self.pixels as f64)
    }

    /// Second moments of the pixels about their mean: xx, xy, yy.
    pub(crate) fn moments(&self) -> [f64; 3] {
        let [x, y] = self.centre();
        let [xx, xy, yy] = self.second.map(|v| v / self.pixels as f64);
        [xx - x * x, xy - x * y, yy - y * y]
    }

    /// The larger of width and height.
    pub(crate) fn size(&self) -> usize {
        self.bounds.iter().map(|[low, high]| high - low + 1).max().unwrap_or(0)
    }
}

/// Union-find over runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    /// For each run, the run itself or an earlier one of the same blob.
    parent: Vec<u32>,
    /// Index of the blob of each run.
    blob_of: Vec<u32>,
}

impl Labels {
    /// Joins runs that touch into blobs; the runs are in reading order.
    pub(crate) fn label(&mut self, runs: &[Run], blobs: &mut Vec<Blob>) {
        let Self { parent, blob_of } = self;
        parent.clear();
        parent.extend(0..runs.len() as u32);
        let mut above = 0;
        for (k, run) in runs.iter().enumerate() {
            while above < k
                && (runs[above].y + 1 < run.y || (runs[above].y + 1 == run.y && runs[above].end < run.start))
            {
                above += 1;
            }
            let mut other = above;
            while other < k && runs[other].y + 1 == run.y && runs[other].start <= run.end {
                join(parent, other as u32, k as u32);
                other += 1;
            }
        }
        blob_of.clear();
        blobs.clear();
        for (k, (&run, &parent)) in runs.iter().zip(&*parent).enumerate() {
            let blob = if parent as usize == k {
                blobs.push(Blob::of(run));
                blobs.len() - 1
            } else {
                blob_of[parent as usize] as usize
            };
            blob_of.push(blob as u32);
            blobs[blob].add(run);
        }
    }

    /// Index of the blob of run `k`.
    pub(crate) fn blob_of(&self, k: usize) -> usize {
        self.blob_of[k] as usize
    }

    /// Index of the blob that contains a pixel, if the pixel is in one of the runs that were labelled.
    pub(crate) fn blob_at(&self, runs: &[Run], [x, y]: [usize; 2]) -> Option<usize> {
        let after = runs.partition_point(|run| (run.y as usize, run.start as usize) <= (y, x));
        let k = after.checked_sub(1)?;
        let inside = runs[k].y as usize == y && x < runs[k].end as usize;
        inside.then(|| self.blob_of[k] as usize)
    }
}

fn root(parent: &mut [u32], mut k: u32) -> u32 {
    while parent[k as usize] != k {
        let up = parent[parent[k as usize] as usize];
        parent[k as usize] = up;
        k = up;
    }
    k
}

fn join(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b) as usize] = a.min(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs_of(art: &[&str]) -> Vec<Blob> {
        let (mut runs, mut blobs, mut labels) = (Vec::new(), Vec::new(), Labels::default());
        for (y, line) in art.iter().enumerate() {
            let pixels: Vec<u32> =
                (0..).zip(line.bytes()).filter(|&(_, b)| b == b'#').map(|(x, _)| x).collect();
            for run in pixels.chunk_by(|a, b| a + 1 == *b) {
                runs.push(Run { y: y as u32, start: run[0], end: run[run.len() - 1] + 1 });
            }
        }
        labels.label(&runs, &mut blobs);
        for (y, line) in art.iter().enumerate() {
            for (x, b) in line.bytes().enumerate() {
                assert_eq!(labels.blob_at(&runs, [x, y]).is_some(), b == b'#');
            }
        }
        blobs
    }

    #[test]
    fn corners_connect() {
        let blobs = blobs_of(&["#  #", " ## ", "    ", "##  "]);
        assert_eq!(blobs.iter().map(|b| b.pixels).collect::<Vec<_>>(), [4, 2]);
        assert_eq!(blobs[1].bounds, [[0, 1], [3, 3]]);
    }

    #[test]
    fn a_cup_is_one_blob() {
        assert_eq!(blobs_of(&["# # #", "# # #", "#####"]).len(), 1);
        assert_eq!(blobs_of(&["###", "# #", "###"]).len(), 1);
    }

    #[test]
    fn moments_are_those_of_the_pixels() {
        let blob = blobs_of(&["##", "####", " ##"])[0];
        let pixels =
            [[0, 0], [1, 0], [0, 1], [1, 1], [2, 1], [3, 1], [1, 2], [2, 2]].map(|p| p.map(f64::from));
        let mean = |f: &dyn Fn([f64; 2]) -> f64| pixels.iter().map(|&p| f(p)).sum::<f64>() / 8.0;
        let [x, y] = [mean(&|p| p[0]), mean(&|p| p[1])];
        let expected =
            [mean(&|p| p[0] * p[0]) - x * x, mean(&|p| p[0] * p[1]) - x * y, mean(&|p| p[1] * p[1]) - y * y];
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(&blob.centre(), &[x, y]) && close(&blob.moments(), &expected));
        // The same shape with pixels of twice the size.
        let mut large = blob;
        large.unbin(2);
        let doubled = [4.0 * expected[0], 4.0 * expected[1], 4.0 * expected[2]];
        assert!(close(&large.centre(), &[2.0 * x + 0.5, 2.0 * y + 0.5]) && close(&large.moments(), &doubled));
        assert_eq!((large.pixels, large.bounds), (32, [[0, 7], [0, 5]]));
    }
}
