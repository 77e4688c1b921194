//! Position and flux of stars by weighted least squares with the point-spread function, neighbours included.

use rayon::prelude::*;

use super::field::PsfField;
use super::noise::Noise;
use super::normal::{JointNormal, MAX_TOUCHING, Normal};
use super::{MAX_OFFSET, Rendering};
use crate::imaging::background::Background;
use crate::imaging::centroid::Moments;
use crate::imaging::image::{Image, Pixel};
use crate::imaging::stamp::{self, BAD, Crop, Layout, is_good};
use crate::index::point_grid::PointGrid;
use crate::simd::{LANES, Lanes};

/// Longest step of a position in one round, in pixels: the model is linear over not much more.
const MAX_STEP: f32 = 0.4;
/// A star further than this from the middle of its stamp, in pixels along an axis, gets a new stamp.
const ASTRAY: f32 = 0.75;
/// Rounds at most. Stars alone need three, close pairs more.
const MAX_ROUNDS: usize = 8;
/// In so many rounds at first all neighbours of a star that moves follow it, later only those it touches.
const FIRST_ROUNDS: usize = 2;
/// A star is settled after a step of less than this fraction of its error, and less than [`SETTLED_PIXELS`]: the one
/// more that all stars get, being of second order, is then the last that counts.
const SETTLED_SIGMAS: f32 = 0.3;
const SETTLED_PIXELS: f32 = 0.05;
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
/// Neighbours within so many sigmas of a star's image touch it: its fit leaves them free too, as what is given to one is
/// taken from the other. The first [`MAX_TOUCHING`] of them, that is; the others stay as they are for a round.
const TOUCHING_SIGMAS: f32 = 2.5;
/// Stars fitted by one task.
const TASK_STARS: usize = 128;

/// What is known of a star.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Source {
    /// Column and row of the pixel in the middle of its stamp.
    pub pixel: [isize; 2],
    /// Position from there.
    pub offset: [f32; 2],
    /// Light on its stamp.
    pub flux: f32,
}

impl Source {
    /// Whether it has left the middle of its stamp.
    pub(crate) fn is_astray(&self) -> bool {
        self.offset.iter().any(|o| o.abs() > ASTRAY)
    }

    /// The same star on a stamp about the pixel it is on.
    pub(crate) fn recentred(self) -> Self {
        if !self.is_astray() {
            return self;
        }
        let whole = self.offset.map(f32::round);
        Self {
            pixel: [0, 1].map(|k| self.pixel[k] + whole[k] as isize),
            offset: [0, 1].map(|k| self.offset[k] - whole[k]),
            ..self
        }
    }

    /// Distance to another in pixels.
    pub(crate) fn distance(&self, other: &Self) -> f32 {
        let [x, y] =
            [0, 1].map(|k| (other.pixel[k] - self.pixel[k]) as f32 + other.offset[k] - self.offset[k]);
        x.hypot(y)
    }
}

/// A star fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub source: Source,
    /// Covariance of x, y: xx, xy, yy.
    pub covariance: Moments,
    pub flux_error: f32,
    /// Sum of squared residuals over their variance, and their number.
    pub chi2: f32,
    pub pixels: f32,
    /// Covariance of x, y and flux.
    pub(super) inverse: [f32; 6],
    pub(super) settled: bool,
}

impl Fit {
    /// A star yet to be fitted.
    pub(crate) fn guess(source: Source) -> Self {
        Self {
            source,
            covariance: [1.0, 0.0, 1.0],
            flux_error: f32::INFINITY,
            chi2: 0.0,
            pixels: 0.0,
            inverse: [0.0; 6],
            settled: false,
        }
    }

    /// The same star on a stamp about the pixel it is on, to be fitted anew if that is another one.
    pub(crate) fn recentred(self) -> Self {
        let source = self.source.recentred();
        if source == self.source { self } else { Self { settled: false, source, ..self } }
    }

    /// Covariance of x, y and flux, in full.
    pub(crate) fn inverse(&self) -> [[f32; 3]; 3] {
        let [xx, xy, xf, yy, yf, ff] = self.inverse;
        [[xx, xy, xf], [xy, yy, yf], [xf, yf, ff]]
    }
}

/// What is known of the stars' images before they are fitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Half width of a stamp.
    pub half: usize,
    /// Standard deviation of a star's image.
    pub sigma: f32,
}

impl Shape {
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
    /// Standard deviation of a star's image.
    sigma: f32,
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

/// Scratch space of a task.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub own: Rendering,
    other: Rendering,
    /// Light of the neighbours on the stamp.
    pub light: Vec<f32>,
    /// Of the first so many neighbours that touch the star, what x, y and flux of each do to the stamp.
    touching: usize,
    gradients: Vec<f32>,
    scratch: Vec<f32>,
}

impl Stamps {
    /// Cuts the stamps of `sources`; pixels from `saturation` on are bad. `excess` scales the noise for its correlation.
    ///
    /// Of stamps that were cut before, and the indices there of the first of `sources`, those that have not moved are
    /// taken over.
    pub(crate) fn cut<T: Pixel>(
        image: &Image<'_, T>,
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
        let mut data = vec![0.0; sources.len() * layout.len()];
        data.par_chunks_mut(layout.len()).with_min_len(TASK_STARS).enumerate().for_each(|(i, stamp)| {
            match ready(i) {
                Some(data) => stamp.copy_from_slice(data),
                None => stamp::cut(image, background, pixels[i], half, saturation, stamp),
            }
        });
        let variance: Vec<f32> = sources
            .iter()
            .map(|s| {
                let noise = excess * background.noise.at(s.pixel[0] as f32, s.pixel[1] as f32);
                (noise * noise).max(f32::MIN_POSITIVE)
            })
            .collect();
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
        Self { layout, sigma: shape.sigma, pixels, data, variance, crops, neighbours, starts }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn data(&self, i: usize) -> &[f32] {
        &self.data[i * self.layout.len()..(i + 1) * self.layout.len()]
    }

    /// Rows of a stamp, without their padding.
    pub(super) fn rows(&self, i: usize) -> impl Iterator<Item = &[f32]> {
        self.data(i).chunks_exact(self.layout.stride).map(|row| &row[..self.layout.side])
    }

    /// Part of the stamp that is worked on.
    pub(crate) fn crop(&self, i: usize) -> Crop {
        self.crops[i]
    }

    pub(crate) fn variance(&self, i: usize) -> f32 {
        self.variance[i]
    }

    pub(crate) fn neighbours(&self, i: usize) -> &[u32] {
        &self.neighbours[self.starts[i] as usize..self.starts[i + 1] as usize]
    }

    /// Fits all the stars together: each round, each star to what its neighbours of the round before leave.
    ///
    /// Stars that are settled stay as they are unless a neighbour moves, after the first rounds one that they touch.
    pub(crate) fn fit(&self, psf: &PsfField, noise: Noise, mut fits: Vec<Fit>) -> Vec<Fit> {
        let mut sources: Vec<Source> = fits.iter().map(|fit| fit.source).collect();
        for round in 0..MAX_ROUNDS {
            if fits.iter().all(|fit| fit.settled) {
                break;
            }
            let disturbed = |i: usize| {
                let mut others = self.neighbours(i).iter().map(|&j| j as usize);
                others.any(|j| {
                    !fits[j].settled && (round < FIRST_ROUNDS || self.touch(&sources[i], &sources[j]))
                })
            };
            let moving: Vec<usize> = (0..fits.len()).filter(|&i| !fits[i].settled || disturbed(i)).collect();
            let steps: Vec<Fit> = moving
                .par_iter()
                .with_min_len(TASK_STARS)
                .map_init(Work::default, |work, &i| self.step(psf, noise, &sources, i, work))
                .collect();
            for (&i, step) in moving.iter().zip(steps) {
                sources[i] = step.source;
                fits[i] = step;
            }
        }
        fits
    }

    /// One Gauss-Newton step of star `i`; `work` keeps its model and its neighbours' light.
    pub(crate) fn step(
        &self,
        psf: &PsfField,
        noise: Noise,
        sources: &[Source],
        i: usize,
        work: &mut Work,
    ) -> Fit {
        let source = sources[i];
        psf.at(source.pixel).render(source.offset, self.crops[i], &mut work.own);
        self.shine(psf, sources, i, work);
        let normal = if work.touching > 0 {
            self.joint_normal(i, source.flux, noise, work)
        } else {
            self.normal(i, source.flux, noise, work)
        };
        let Some(inverse) = normal.inverse() else {
            let fit = Fit::guess(Source { flux: 0.0, ..source });
            return Fit { pixels: normal.pixels, settled: true, ..fit };
        };
        let [xx, xy, xf, yy, yf, ff] = inverse;
        let [bx, by, bf] = normal.right;
        let step = [xx * bx + xy * by + xf * bf, xy * bx + yy * by + yf * bf];
        let length = step[0].hypot(step[1]);
        let shorten = if length > MAX_STEP { MAX_STEP / length } else { 1.0 };
        let [x, y] = [0, 1].map(|k| (source.offset[k] + shorten * step[k]).clamp(-MAX_OFFSET, MAX_OFFSET));
        let sigma = (0.5 * (xx + yy)).sqrt();
        // A step of the position that was cut short leaves the flux to the position it has.
        let flux =
            source.flux + if shorten < 1.0 { bf / normal.left[5] } else { xf * bx + yf * by + ff * bf };
        Fit {
            source: Source { offset: [x, y], flux, ..source },
            covariance: [f64::from(xx), f64::from(xy), f64::from(yy)],
            flux_error: ff.sqrt(),
            chi2: normal.chi2,
            pixels: normal.pixels,
            inverse,
            // Where there is no light there is no position to be settled.
            settled: length < (SETTLED_SIGMAS * sigma).min(SETTLED_PIXELS) || flux * flux < ff,
        }
    }

    /// Adds up the neighbours' light on the stamp of star `i`, and what the nearest of them could do to it.
    pub(crate) fn shine(&self, psf: &PsfField, sources: &[Source], i: usize, work: &mut Work) {
        let Work { other, light, touching, gradients, .. } = work;
        let whole = Crop::whole(self.layout.half);
        light.clear();
        light.resize(self.layout.len(), 0.0);
        *touching = 0;
        for &j in self.neighbours(i) {
            let neighbour = sources[j as usize];
            if neighbour.flux <= 0.0 {
                continue;
            }
            let psf = psf.at(neighbour.pixel);
            let apart = [0, 1].map(|k| neighbour.pixel[k] - sources[i].pixel[k]);
            if self.touch(&sources[i], &neighbour) && *touching < MAX_TOUCHING {
                psf.render(neighbour.offset, whole, other);
                let first = 3 * *touching * self.layout.len();
                *touching += 1;
                gradients.resize(first + 3 * self.layout.len(), 0.0);
                let flux = neighbour.flux;
                let parts = [(&other.by_x, flux), (&other.by_y, flux), (&other.value, 1.0)];
                for ((part, scale), to) in
                    parts.into_iter().zip(gradients[first..].chunks_exact_mut(self.layout.len()))
                {
                    to.fill(0.0);
                    self.add_shifted(part, apart, scale, to);
                }
            } else {
                psf.render_value(neighbour.offset, whole, other);
            }
            self.add_shifted(&other.value, apart, neighbour.flux, light);
        }
    }

    /// Whether two stars have to be fitted together.
    fn touch(&self, a: &Source, b: &Source) -> bool {
        a.distance(b) < TOUCHING_SIGMAS * self.sigma
    }

    /// Adds `scale` times a stamp whose middle is `apart` from that of another to the other.
    fn add_shifted(&self, stamp: &[f32], apart: [isize; 2], scale: f32, to: &mut [f32]) {
        let Layout { side, stride, .. } = self.layout;
        let [dx, dy] = apart;
        let columns = dx.max(0)..(side as isize + dx).min(side as isize);
        for row in dy.max(0)..(side as isize + dy).min(side as isize) {
            let target = row as usize * stride;
            let from = (row - dy) as usize * stride;
            let to = &mut to[target + columns.start as usize..target + columns.end as usize];
            for (t, &p) in to.iter_mut().zip(&stamp[from + (columns.start - dx) as usize..]) {
                *t += scale * p;
            }
        }
    }

    /// The normal equations of star `i` when the neighbours that touch it are free as well: theirs are eliminated.
    fn joint_normal(&self, i: usize, flux: f32, noise: Noise, work: &mut Work) -> Normal {
        let noise = noise.weighting();
        let n = self.layout.len();
        let Work { own, light, touching, gradients, scratch, .. } = work;
        scratch.clear();
        scratch.resize(6 * n, 0.0);
        let (weight, rest) = scratch.split_at_mut(n);
        let (residual, rest) = rest.split_at_mut(n);
        let (weighted, own_gradients) = rest.split_at_mut(n);
        let (mut chi2, mut pixels) = (0.0, 0.0);
        for at in self.crops[i].spans(self.layout).flatten().filter(|&at| is_good(self.data(i)[at])) {
            let model = light[at] + flux * own.value[at];
            weight[at] = 1.0 / noise.variance(self.variance[i], model);
            residual[at] = self.data(i)[at] - model;
            chi2 += weight[at] * residual[at] * residual[at];
            pixels += 1.0;
            own_gradients[at] = flux * own.by_x[at];
            own_gradients[n + at] = flux * own.by_y[at];
            own_gradients[2 * n + at] = own.value[at];
        }
        let others = gradients.chunks_exact(n).take(3 * *touching);
        let columns = own_gradients.chunks_exact(n).chain(others);
        let (left, right) = JointNormal::new(columns, weight, residual, weighted).eliminated();
        Normal { left, right, chi2, pixels }
    }

    fn normal(&self, i: usize, flux: f32, noise: Noise, work: &Work) -> Normal {
        let (background, flux) = (Lanes::splat(self.variance[i]), Lanes::splat(flux));
        let Noise { photon, model } = noise.weighting();
        let (photon, model_error) = (Lanes::splat(photon), Lanes::splat(model));
        let (zero, one) = (Lanes::splat(0.0), Lanes::splat(1.0));
        let [mut xx, mut xy, mut xf, mut yy, mut yf, mut ff, mut bx, mut by, mut bf, mut chi2, mut pixels] =
            [zero; 11];
        let (data, own) = (self.data(i), &work.own);
        for at in self.crops[i].spans(self.layout).flat_map(|span| span.step_by(LANES)) {
            let load = |stamp: &[f32]| Lanes::load(&stamp[at..at + LANES]);
            let gf = load(&own.value);
            let model = load(&work.light) + flux * gf;
            let light = model.max(zero);
            let difference = load(data) - model;
            let weight = one / (background + light * (photon + model_error * light));
            let good = difference.within(BAD / 2.0);
            let (weight, residual) = (weight * good, difference * good);
            let (gx, gy) = (flux * load(&own.by_x), flux * load(&own.by_y));
            let (wx, wy, wf) = (weight * gx, weight * gy, weight * gf);
            xx = xx + wx * gx;
            xy = xy + wx * gy;
            xf = xf + wx * gf;
            yy = yy + wy * gy;
            yf = yf + wy * gf;
            ff = ff + wf * gf;
            bx = bx + wx * residual;
            by = by + wy * residual;
            bf = bf + wf * residual;
            chi2 = chi2 + weight * residual * residual;
            pixels = pixels + good;
        }
        let left = [xx.sum(), xy.sum(), xf.sum(), yy.sum(), yf.sum(), ff.sum()];
        Normal { left, right: [bx.sum(), by.sum(), bf.sum()], chi2: chi2.sum(), pixels: pixels.sum() }
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
