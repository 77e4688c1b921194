//! Stamps of stars, with who is near whom.

// Parts of loops that are compiled for several kinds of machine: `vectorized`.
#![allow(clippy::inline_always)]

use rayon::prelude::*;

use super::source::Source;
use crate::imaging::background::Background;
use crate::imaging::centroid::gaussian_neighbours;
use crate::imaging::image::Image;
use crate::imaging::sharp::Neighbours;
use crate::imaging::stamp::{self, BAD, Crop, Layout, is_good};
use crate::index::point_grid::PointGrid;

/// A neighbour that casts less than this fraction of the noise on the nearest pixel that matters is left out.
const FAINT_LIGHT: f32 = 0.2;
/// The pixels of a star that matter for its position are within so many sigmas of it.
const CORE_SIGMAS: f32 = 2.0;
/// Surface brightness of the far wings, falling with the square of the distance, in units of the peak.
const WING_BRIGHTNESS: f32 = 0.01;
/// A star whose central pixel exceeds so many sigmas of the background is fitted on its whole stamp.
const BRIGHT_PEAK: f32 = 30.0;
/// A fainter one within so many sigmas of its image: there is nothing but background further out.
const FAINT_REACH: f32 = 2.7;
/// Neighbours of a star at most: those whose light matters most.
const MAX_NEIGHBOURS: usize = 12;
/// A pixel stands out alone if its neighbours are darker, by so many sigmas of their noise, than those of a star of this
/// fraction of the stars' width; without so many of the highest, as cosmic rays hit several pixels.
const LONE_WIDTH: f64 = 0.7;
const LONE_SIGMAS: f32 = 4.0;
const LONE_SPARED: usize = 2;
/// Within this distance (pixels) of a star it takes one of this fraction of their width.
const CORE_RADIUS: usize = 1;
const CORE_WIDTH: f64 = 0.5;
/// Stars worked on by one task.
const TASK_STARS: usize = 16;

/// Expected size of the stars' images before they are fitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Half width of a stamp.
    pub half: usize,
    /// Standard deviation of a star's image.
    pub sigma: f32,
    /// Whether pixels that stand out alone are bad.
    pub refuse_lone: bool,
}

impl Shape {
    /// Mean of so many darkest neighbours of a pixel, as fractions of its height, of a star of this fraction of the width.
    fn darkest(self, fraction: f64) -> f32 {
        let [beside, diagonally] = gaussian_neighbours(fraction * f64::from(self.sigma));
        ((2.0 * beside + 4.0 * diagonally) / 6.0) as f32
    }

    /// Mean of the neighbours of the middle of a star sharper than any.
    fn beside(self) -> f32 {
        let [beside, diagonally] = gaussian_neighbours(LONE_WIDTH * f64::from(self.sigma));
        (0.5 * (beside + diagonally)) as f32
    }

    /// Surface brightness at the centre of a star of unit flux.
    fn peak(self) -> f32 {
        1.0 / (std::f32::consts::TAU * self.sigma * self.sigma)
    }

    /// Surface brightness of a star of unit flux where it comes nearest to the core of another, `apart` from it.
    fn brightness_near(self, apart: [isize; 2]) -> f32 {
        let distance = (apart[0] as f32).hypot(apart[1] as f32);
        let r = (distance / self.sigma - CORE_SIGMAS).max(0.0);
        self.peak() * (-0.5 * r * r).exp().max(WING_BRIGHTNESS / (1.0 + r * r))
    }
}

/// Stamps of stars, with who is near whom.
#[derive(Debug)]
pub(crate) struct Stamps {
    layout: Layout,
    shape: Shape,
    lone: Lone,
    /// Column and row of the pixel in the middle of each.
    pixels: Vec<[isize; 2]>,
    /// Frame less background, BAD where bad, saturated, or outside the frame.
    data: Vec<f32>,
    /// Variance of the background at each star.
    variance: Vec<f32>,
    /// Part of each stamp that is worked on: bright stars tell something further out than faint ones.
    crops: Vec<Crop>,
    /// Neighbours of star i: `neighbours[starts[i]..starts[i + 1]]`.
    neighbours: Vec<u32>,
    starts: Vec<u32>,
}

impl Stamps {
    /// Cuts the stamps of `sources`; pixels from `saturation` on are bad. `excess` scales the noise for its correlation.
    ///
    /// Of stamps that were cut before, and the indices there of the first of `sources`, those that have not moved are
    /// taken over.
    pub(crate) fn cut(
        image: &Image<'_>,
        background: &Background,
        sources: &[Source],
        shape: Shape,
        saturation: f32,
        excess: f32,
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
                let noise = excess * background.noise.at(s.pixel[0] as f32, s.pixel[1] as f32);
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
        Self { layout, shape, lone, pixels, data, variance, crops, neighbours, starts }
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Standard deviation of a star's image.
    pub(super) fn sigma(&self) -> f32 {
        self.shape.sigma
    }

    /// Mean of the neighbours of the middle of a star sharper than any, as a fraction of its height.
    pub(super) fn least_beside(&self) -> f32 {
        self.shape.beside()
    }

    /// Pixels of a stamp of residuals, in units of their noise, that stand out alone.
    pub(super) fn lone(&self, residual: &[f32]) -> Vec<usize> {
        self.lone.find(self.layout, 1.0, residual)
    }

    /// Makes pixels of star `i` bad.
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

    /// Rows of a stamp, without their padding.
    pub(super) fn rows(&self, i: usize) -> impl Iterator<Item = &[f32]> {
        self.data(i).chunks_exact(self.layout.stride).map(|row| &row[..self.layout.side])
    }

    /// Part of the stamp that is worked on.
    #[inline(always)]
    pub(crate) fn crop(&self, i: usize) -> Crop {
        self.crops[i]
    }

    #[inline(always)]
    pub(crate) fn variance(&self, i: usize) -> f32 {
        self.variance[i]
    }

    #[inline(always)]
    pub(crate) fn neighbours(&self, i: usize) -> &[u32] {
        &self.neighbours[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

/// Limits that tell pixels that stand out alone from those of stars.
#[derive(Debug, Clone, Copy)]
struct Lone {
    /// Mean of the darkest neighbours of a star's pixel at least, as fractions of its height: in its core, and elsewhere.
    /// Zero where no pixel is alone.
    core: f32,
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

    /// Good pixels of a stamp that stand out alone.
    fn find(self, Layout { half, side, stride }: Layout, noise: f32, stamp: &[f32]) -> Vec<usize> {
        let mut found = Vec::new();
        // With neighbours as dark as the background, or a little darker, it is that high.
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
                // Beside what is bad nothing is alone: saturated pixels are the brighter ones.
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

/// For each star the others whose light matters on its stamp, as compressed rows.
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
