//! Cuts the stamps of stars from a frame, and finds for each star the neighbours whose light reaches its
//! stamp.

// Inlined functions are parts of loops that `vectorized` compiles for several instruction sets.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::source::Source;
use crate::imaging::background::Background;
use crate::imaging::centroid::gaussian_neighbours;
use crate::imaging::image::Image;
use crate::imaging::sharp::Neighbours;
use crate::imaging::stamp::{self, BAD, Crop, Layout, is_good};
use crate::index::point_grid::PointGrid;

/// A neighbour is ignored if its light at the edge of a star's core is less than this fraction of the noise.
const FAINT_LIGHT: f32 = 0.2;
/// Radius of a star's core, whose pixels determine its position, in sigmas of its image.
const CORE_SIGMAS: f32 = 2.0;
/// Surface brightness of the far wings, in units of the peak; it falls with the square of the distance.
const WING_BRIGHTNESS: f32 = 0.01;
/// A star whose central pixel exceeds this many sigmas of the background is fitted on its whole stamp.
const BRIGHT_PEAK: f32 = 30.0;
/// Half width of the part of the stamp on which a fainter star is fitted, in sigmas of its image. There is
/// only background farther out.
const FAINT_REACH: f32 = 2.7;
/// Largest number of neighbours of a star. Those with the most light on its stamp are kept.
const MAX_NEIGHBOURS: usize = 12;
/// A pixel is lone if its neighbours are darker than those of a star of this fraction of the stars' width.
const LONE_WIDTH: f64 = 0.7;
/// Significance that this difference must have, in standard errors.
const LONE_SIGMAS: f32 = 4.0;
/// Number of the highest neighbours excluded from the test, because cosmic rays hit several pixels.
const LONE_SPARED: usize = 2;
/// Up to this distance (pixels along each axis) from the middle of a stamp, [`CORE_WIDTH`] replaces
/// [`LONE_WIDTH`].
const CORE_RADIUS: usize = 1;
/// Fraction of the stars' width for the test of pixels in a star's core.
const CORE_WIDTH: f64 = 0.5;
/// Number of stars per task.
const TASK_STARS: usize = 16;

/// Expected size of the stars' images, before they are fitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Half width of a stamp.
    pub half: usize,
    /// Standard deviation of a star's image, in pixels.
    pub sigma: f32,
    /// Whether lone pixels are marked as bad.
    pub refuse_lone: bool,
}

impl Shape {
    /// Mean of the six darkest neighbours of the central pixel of a star, as a fraction of that pixel's
    /// height. The star has this fraction of the stars' width.
    fn darkest(self, fraction: f64) -> f32 {
        let [beside, diagonally] = gaussian_neighbours(fraction * f64::from(self.sigma));
        ((2.0 * beside + 4.0 * diagonally) / 6.0) as f32
    }

    /// Mean of the eight neighbours of the central pixel, as a fraction of its height, for the narrowest
    /// possible star.
    fn beside(self) -> f32 {
        let [beside, diagonally] = gaussian_neighbours(LONE_WIDTH * f64::from(self.sigma));
        (0.5 * (beside + diagonally)) as f32
    }

    /// Surface brightness at the centre of a star of unit flux.
    fn peak(self) -> f32 {
        1.0 / (std::f32::consts::TAU * self.sigma * self.sigma)
    }

    /// Surface brightness of a star of unit flux at the nearest point of the core of another star. `apart` is
    /// the distance between both in columns and rows.
    fn brightness_near(self, apart: [isize; 2]) -> f32 {
        let distance = (apart[0] as f32).hypot(apart[1] as f32);
        let r = (distance / self.sigma - CORE_SIGMAS).max(0.0);
        self.peak() * (-0.5 * r * r).exp().max(WING_BRIGHTNESS / (1.0 + r * r))
    }
}

/// The stamps of stars and, for each star, its neighbours.
#[derive(Debug)]
pub(crate) struct Stamps {
    layout: Layout,
    shape: Shape,
    lone: Lone,
    /// Column and row of the middle pixel of each stamp.
    pixels: Vec<[isize; 2]>,
    /// Pixels of the stamps: frame minus background, or BAD if the pixel is bad, saturated, or outside the
    /// frame.
    data: Vec<f32>,
    /// Variance of the background at each star.
    variance: Vec<f32>,
    /// Factor of the noise for its correlation between pixels, which is in the variance.
    correlation: f32,
    /// Part of each stamp that is fitted. It is larger for bright stars, which show more of their wings.
    crops: Vec<Crop>,
    /// Neighbours of star i: `neighbours[starts[i]..starts[i + 1]]`.
    neighbours: Vec<u32>,
    starts: Vec<u32>,
}

impl Stamps {
    /// Cuts the stamps of `sources` from a frame. Pixels of `saturation` or more are bad. `correlation` scales
    /// the noise for its correlation between pixels.
    ///
    /// `before` holds stamps that were cut earlier, and the indices in them of the first of `sources`. Their
    /// pixels are reused for sources whose middle pixel has not changed.
    pub(crate) fn cut(
        image: &Image<'_>,
        background: &Background,
        sources: &[Source],
        shape: Shape,
        saturation: f32,
        correlation: f32,
        before: Option<(&Self, &[usize])>,
    ) -> Self {
        let half = shape.half;
        let layout = Layout::new(half);
        let pixels: Vec<[isize; 2]> = sources.iter().map(|source| source.pixel).collect();
        let ready = |i: usize| {
            let (stamps, kept) = before?;
            let k = *kept.get(i)?;
            (stamps.pixels[k] == pixels[i]).then(|| stamps.data(k))
        };
        let variance: Vec<f32> = sources
            .iter()
            .map(|s| {
                let noise = correlation * background.noise.at(s.pixel[0] as f32, s.pixel[1] as f32);
                (noise * noise).max(f32::MIN_POSITIVE)
            })
            .collect();
        let lone = Lone::new(shape);
        let mut data = vec![0.0; sources.len() * layout.len()];
        data.par_chunks_mut(layout.len()).with_min_len(TASK_STARS).enumerate().for_each(|(i, stamp)| {
            if let Some(data) = ready(i) {
                stamp.copy_from_slice(data);
            } else {
                stamp::cut(image, background, pixels[i], half, saturation, stamp);
                lone.mask(layout, variance[i].sqrt(), stamp);
            }
        });
        let (neighbours, starts) = neighbours(sources, &variance, shape);
        let crops = sources
            .iter()
            .zip(&variance)
            .map(|(s, &v)| {
                let faint = s.flux * shape.peak() < BRIGHT_PEAK * v.sqrt();
                let faint = faint && s.offset[0].abs().max(s.offset[1].abs()) <= 0.5;
                Crop::new(half, if faint { (FAINT_REACH * shape.sigma).ceil() as usize } else { half })
            })
            .collect();
        Self { layout, shape, lone, pixels, data, variance, correlation, crops, neighbours, starts }
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Standard deviation of a star's image, in pixels.
    pub(super) fn sigma(&self) -> f32 {
        self.shape.sigma
    }

    /// Least mean of the neighbours of a star's central pixel, as a fraction of its height.
    pub(super) fn least_beside(&self) -> f32 {
        self.shape.beside()
    }

    /// Indices of the lone pixels in a stamp of residuals, which are in units of their noise.
    pub(super) fn lone(&self, residual: &[f32]) -> Vec<usize> {
        self.lone.find(self.layout, 1.0, residual)
    }

    /// Marks pixels in the stamp of star `i` as bad.
    pub(crate) fn mask(&mut self, i: usize, pixels: &[usize]) {
        let first = i * self.layout.len();
        for &at in pixels {
            self.data[first + at] = BAD;
        }
    }

    #[inline(always)]
    pub(crate) fn data(&self, i: usize) -> &[f32] {
        &self.data[i * self.layout.len()..(i + 1) * self.layout.len()]
    }

    /// Rows of the stamp of star `i`, without their padding.
    pub(super) fn rows(&self, i: usize) -> impl Iterator<Item = &[f32]> {
        self.data(i).chunks_exact(self.layout.stride).map(|row| &row[..self.layout.side])
    }

    /// The part of the stamp of star `i` that is fitted.
    #[inline(always)]
    pub(crate) fn crop(&self, i: usize) -> Crop {
        self.crops[i]
    }

    #[inline(always)]
    pub(crate) fn variance(&self, i: usize) -> f32 {
        self.variance[i]
    }

    pub(super) fn correlation(&self) -> f32 {
        self.correlation
    }

    #[inline(always)]
    pub(crate) fn neighbours(&self, i: usize) -> &[u32] {
        &self.neighbours[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

/// Limits for finding lone pixels: pixels that stand out from their neighbours more than a star's pixel can.
#[derive(Debug, Clone, Copy)]
struct Lone {
    /// Least mean of the darkest neighbours of a pixel in a star's core, as a fraction of its height. Zero
    /// disables the test.
    core: f32,
    /// The same limit for pixels outside the core.
    wing: f32,
}

impl Lone {
    fn new(shape: Shape) -> Self {
        let [core, wing] = [CORE_WIDTH, LONE_WIDTH].map(|fraction| shape.darkest(fraction));
        if shape.refuse_lone { Self { core, wing } } else { Self { core: 0.0, wing: 0.0 } }
    }

    fn mask(self, layout: Layout, noise: f32, stamp: &mut [f32]) {
        for at in self.find(layout, noise, stamp) {
            stamp[at] = BAD;
        }
    }

    /// Indices of the good pixels of a stamp that are lone.
    fn find(self, Layout { half, side, stride }: Layout, noise: f32, stamp: &[f32]) -> Vec<usize> {
        let mut found = Vec::new();
        // Least height of a lone pixel, with neighbours that are one sigma darker than the background.
        let lowest = (LONE_SIGMAS * (1.0 / 6.0 + self.wing * self.wing).sqrt() - 1.0) * noise / self.wing;
        let is_core = |v: usize| v.abs_diff(half) <= CORE_RADIUS;
        for j in 0..side {
            let row = &stamp[j * stride..j * stride + side];
            for (i, &v) in row.iter().enumerate().filter(|&(_, &v)| v > lowest && is_good(v)) {
                let at = j * stride + i;
                let pixel = |dx: isize, dy: isize| {
                    let [x, y] = [i.wrapping_add_signed(dx), j.wrapping_add_signed(dy)];
                    (x < side && y < side).then(|| stamp[y * stride + x]).filter(|&v| is_good(v))
                };
                let inner = (1..side - 1).contains(&i) && (1..side - 1).contains(&j);
                let half_as_bright = |other: f32| is_good(other) && 2.0 * other > v;
                if inner
                    && [at - 1, at + 1, at - stride, at + stride].iter().all(|&k| half_as_bright(stamp[k]))
                {
                    continue;
                }
                let mut around = Neighbours::NONE;
                for [dx, dy] in [[-1, -1], [0, -1], [1, -1], [-1, 0], [1, 0], [-1, 1], [0, 1], [1, 1]] {
                    if let Some(other) = pixel(dx, dy) {
                        around.add(other);
                    }
                }
                // A missing neighbour counts as one of the highest, because saturated pixels are bright. A
                // pixel with too many missing neighbours is not lone.
                let Some(spared) = LONE_SPARED.checked_sub(around.missing()) else { continue };
                let least = if is_core(i) && is_core(j) { self.core } else { self.wing };
                if around.are_dark(v, noise, least, LONE_SIGMAS, spared) {
                    found.push(at);
                }
            }
        }
        found
    }
}

/// Finds for each star the other stars whose light matters on its stamp. The result is in compressed rows:
/// all neighbours, and the start of each star's part.
fn neighbours(sources: &[Source], variance: &[f32], shape: Shape) -> (Vec<u32>, Vec<u32>) {
    let reach = 2 * shape.half as isize;
    let points: Vec<[f64; 2]> = sources.iter().map(|s| s.pixel.map(|p| p as f64)).collect();
    let grid = PointGrid::new(&points, reach as f64);
    let of_star = |i: usize, found: &mut Vec<u32>| {
        let first = found.len();
        let threshold = FAINT_LIGHT * variance[i].sqrt();
        found.extend(grid.around(points[i], reach as f64).filter(|&j| {
            let other = &sources[j as usize];
            let apart = [0, 1].map(|k| other.pixel[k] - sources[i].pixel[k]);
            let near = apart.iter().all(|d| d.abs() <= reach);
            j as usize != i && near && other.flux * shape.brightness_near(apart) > threshold
        }));
        if found.len() - first > MAX_NEIGHBOURS {
            let light = |j: u32| {
                let other = &sources[j as usize];
                other.flux * shape.brightness_near([0, 1].map(|k| other.pixel[k] - sources[i].pixel[k]))
            };
            let brighter = |a: &u32, b: &u32| light(*b).total_cmp(&light(*a)).then_with(|| a.cmp(b));
            found[first..].select_nth_unstable_by(MAX_NEIGHBOURS, brighter);
            found.truncate(first + MAX_NEIGHBOURS);
        }
        found[first..].sort_unstable();
        found.len()
    };
    let tasks: Vec<(Vec<u32>, Vec<u32>)> = (0..sources.len().div_ceil(TASK_STARS))
        .into_par_iter()
        .map(|task| {
            let stars = task * TASK_STARS..((task + 1) * TASK_STARS).min(sources.len());
            let mut found = Vec::new();
            let ends = stars.map(|i| of_star(i, &mut found) as u32).collect();
            (found, ends)
        })
        .collect();
    let (mut all, mut starts) = (Vec::new(), vec![0]);
    for (found, ends) in tasks {
        let before = all.len() as u32;
        starts.extend(ends.iter().map(|end| before + end));
        all.extend(found);
    }
    (all, starts)
}
