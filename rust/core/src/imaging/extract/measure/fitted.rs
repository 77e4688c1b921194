//! Measures stars by a joint fit of the frame's own point-spread function.

use rayon::prelude::*;

use super::{FITTED_STARS, Measure, Measured, Refusal, TASK_STARS, Top, offset};
use crate::error::Result;
use crate::imaging::blobs::Blob;
use crate::imaging::centroid::{Moments, Seen, View};
use crate::imaging::detect::Peak;
use crate::imaging::extract::saturation::Candidate;
use crate::imaging::extract::select::keep_highest;
use crate::imaging::extract::{Star, flags};
use crate::imaging::psf::build::{Built, FIRST_NODES, MAX_NODES, build};
use crate::imaging::psf::cutouts::{Shape, Stamps};
use crate::imaging::psf::deblend::Hidden;
use crate::imaging::psf::field::{EffectivePsf, PsfKind};
use crate::imaging::psf::fit::{Effort, Work};
use crate::imaging::psf::noise::NoiseField;
use crate::imaging::psf::outliers::outliers;
use crate::imaging::psf::residuals::PositionNoise;
use crate::imaging::psf::source::{Fit, Source};
use crate::imaging::psf::{Psf, deblend};
use crate::imaging::stamp::is_good;
use crate::monitor::Monitor;

/// Number of pixels by which the stamp must extend beyond the saturated part of a star for the star to be
/// fitted.
const UNSATURATED_RIM: usize = 2;
/// Number of passes in which more stars are searched for next to stars that do not fit.
const DEBLEND_PASSES: usize = 2;
/// Maximum number of passes, in each of which stars that have moved get new stamps.
const MAX_PASSES: usize = 5;
/// Limit on the total number of stamp pixels that fitting processes, per pixel of the frame. The limit is
/// reached only if nothing fits, as in a lattice or a glow.
const EFFORT_PER_PIXEL: usize = 2;
/// The limit per star, enough for some iterations; it applies instead if it gives more in total. At most
/// [`FITTED_STARS`] stars count.
const EFFORT_PER_STAR: usize = 20_000;
/// Cost of a search for one star next to another, in steps of a fit.
const HIDDEN_COST: usize = 20;

/// Stars that were fitted together.
struct Field {
    /// Number of sources that were detected; they come first. The other sources were found next to them.
    detected: usize,
    stamps: Stamps,
    built: Built,
    /// Centroid of the point-spread function in each of its cells.
    centroids: Vec<[f64; 2]>,
    sources: Vec<Source>,
    /// For each source, index of the candidate that it is, or next to which it was found.
    owner: Vec<usize>,
}

impl Measure<'_> {
    /// Measures the candidates by a joint fit of the frame's own point-spread function, which is also
    /// returned. Candidates with too large a saturated part, and the faintest of very many, are measured
    /// without a fit.
    pub(super) fn fitted(
        &self,
        candidates: &[Candidate],
        monitor: &dyn Monitor,
    ) -> Result<(Vec<Measured>, EffectivePsf)> {
        let half = self.half();
        let bulky = |region: &Blob| region.size() > 2 * (half - UNSATURATED_RIM);
        let (mut to_fit, too_bulky): (Vec<&Candidate>, Vec<&Candidate>) =
            candidates.iter().partition(|c| !c.region.as_ref().is_some_and(bulky));
        let room = self.room(half);
        let faint = keep_highest(&mut to_fit, room, |c| c.peak.height);
        let faint: Vec<Candidate> = faint.into_iter().copied().collect();
        let field = self.fit_field(&to_fit, half, room, monitor)?;
        let mut stars: Vec<Measured> = (0..field.sources.len())
            .into_par_iter()
            .with_min_len(TASK_STARS)
            .map_init(Work::default, |work, i| self.fitted_star(&field, to_fit[field.owner[i]], i, work))
            .collect();
        stars.extend(too_bulky.iter().filter_map(|Candidate { peak, region }| {
            let region = region.as_ref()?;
            let top = Top { height: f64::from(self.saturation), sharpness: 0.0 };
            Some(self.judge(peak, Some(region), top, self.saturated(None, region), 0))
        }));
        let mut windowed = Vec::new();
        self.quick(&faint, &mut windowed);
        let factor = f64::from(field.built.position_noise.of_background());
        stars.extend(windowed.into_iter().map(|star| star.map(|star| star.with_position_errors(factor))));
        Ok((stars, field.built.psf.into_effective(field.built.kind)))
    }

    /// Fits all candidates together, then also stars that appear next to them in the residuals; at most
    /// `room` stars.
    fn fit_field(
        &self,
        candidates: &[&Candidate],
        half: usize,
        room: usize,
        monitor: &dyn Monitor,
    ) -> Result<Field> {
        let guesses: Vec<Source> =
            candidates.iter().map(|c| self.source(&c.peak, c.region.as_ref())).collect();
        let mut owner: Vec<usize> = (0..candidates.len()).collect();
        let mut stamps = self.cut(&guesses, half, None);
        let size = [self.image.width(), self.image.height()];
        let start = Psf::gaussian(half, self.sigma);
        // If only the brightest stars are measured, a coarse point-spread function is enough: finer ones
        // change the positions by a few thousandths of a pixel.
        let most_nodes = if self.detection.about.is_some() { FIRST_NODES } else { MAX_NODES };
        let mut built = build(&stamps, &start, size, &guesses, most_nodes, self.options.gain, monitor)?;
        let stars = candidates.len().min(FITTED_STARS);
        let mut effort = Effort((EFFORT_PER_PIXEL * size[0] * size[1]).max(EFFORT_PER_STAR * stars));
        let guesses = guesses.into_iter().map(Fit::guess).collect();
        let mut fits = stamps.fit(&built.psf, built.noise, guesses, &mut effort, monitor)?;
        if built.kind == PsfKind::Gaussian {
            built.position_noise = PositionNoise::white(built.noise.of_frame(&fits));
        }
        let (psf, noise) = (&built.psf, built.noise);
        let local = NoiseField::local(noise, size, &fits);
        self.mask_outliers(candidates, &mut stamps, &built, &mut fits, &mut effort);
        fits = stamps.fit(psf, noise, fits, &mut effort, monitor)?;
        for pass in 0..MAX_PASSES {
            // The later passes only remove false stars and renew stamps.
            let hidden = if pass < DEBLEND_PASSES {
                self.hidden(&stamps, &built, &local, &fits, room, &mut effort)
            } else {
                Vec::new()
            };
            let real = deblend::real(&stamps, &fits, candidates.len(), self.sigma as f32);
            let unchanged = real.iter().all(|&r| r) && !fits.iter().any(|fit| fit.source.is_astray());
            if hidden.is_empty() && unchanged {
                break;
            }
            let kept: Vec<usize> = (0..fits.len()).filter(|&i| real[i]).collect();
            let beside = hidden.iter().map(|h| owner[h.beside]);
            owner = kept.iter().map(|&i| owner[i]).chain(beside).collect();
            fits = kept
                .iter()
                .map(|&i| fits[i].recentred())
                .chain(hidden.iter().map(|h| Fit::guess(h.source)))
                .collect();
            let sources: Vec<Source> = fits.iter().map(|fit| fit.source).collect();
            stamps = self.cut(&sources, half, Some((&stamps, &kept)));
            fits = stamps.fit(psf, noise, fits, &mut effort, monitor)?;
        }
        let sources = fits.iter().map(|fit| fit.source).collect();
        let centroids = psf.cells().iter().map(Psf::centroid).collect();
        Ok(Field { detected: candidates.len(), stamps, built, centroids, sources, owner })
    }

    /// Masks isolated outliers among the residual pixels of stars that do not fit.
    fn mask_outliers(
        &self,
        candidates: &[&Candidate],
        stamps: &mut Stamps,
        built: &Built,
        fits: &mut [Fit],
        effort: &mut Effort,
    ) {
        // Saturated stars are excluded, because their residuals are steep and less well known.
        let whole: Vec<usize> =
            deblend::misfits(fits).into_iter().filter(|&i| candidates[i].region.is_none()).collect();
        let wanted = self.options.max_sharpness.is_some();
        if wanted && effort.spend(whole.iter().map(|&i| stamps.cost(i)).sum()) {
            for (i, pixels) in outliers(stamps, &built.psf, built.noise, fits, &whole) {
                stamps.mask(i, &pixels);
                fits[i] = fits[i].unsettled();
            }
        }
    }

    /// Finds stars in the residuals of stars that do not fit, as far as `room` and `effort` allow.
    fn hidden(
        &self,
        stamps: &Stamps,
        built: &Built,
        local: &NoiseField,
        fits: &[Fit],
        room: usize,
        effort: &mut Effort,
    ) -> Vec<Hidden> {
        let misfits = deblend::misfits(fits);
        // If most of very many sources do not fit, the sources are not stars.
        let no_stars = fits.len() > FITTED_STARS && 2 * misfits.len() > fits.len();
        if no_stars || !effort.spend(HIDDEN_COST * stamps.layout().len() * misfits.len()) {
            return Vec::new();
        }
        let noise = (built.noise, local);
        let mut found = deblend::hidden(stamps, &built.psf, noise, fits, &misfits, self.sigma as f32);
        found.truncate(room.saturating_sub(fits.len()));
        found
    }

    fn cut(&self, sources: &[Source], half: usize, before: Option<(&Stamps, &[usize])>) -> Stamps {
        let refuse_lone = self.options.max_sharpness.is_some();
        let shape = Shape { half, sigma: self.sigma as f32, refuse_lone };
        let (level, correlation) = (self.saturation, self.detection.correlation);
        Stamps::cut(self.image, self.background, sources, shape, level, correlation, before)
    }

    /// Measures source `i` of a fitted field; `candidate` is the candidate that the source is, or next to
    /// which it was found.
    fn fitted_star(&self, field: &Field, candidate: &Candidate, i: usize, work: &mut Work) -> Measured {
        let Field { stamps, built: Built { psf, noise, position_noise, .. }, sources, .. } = field;
        let pixel = sources[i].pixel;
        let found_beside = i >= field.detected;
        let fit = stamps.step(psf, *noise, sources, i, work);
        let fit = stamps.with_errors(fit, *noise, *position_noise, i, work);
        let unsure = self.background_uncertainty(pixel);
        let (fit, higher) = stamps.with_background(fit, *noise, i, work, unsure);
        let flux = fit.source.flux;
        if found_beside {
            let error = stamps.variance(i).sqrt() / psf.at(pixel).sharpness();
            if flux < self.detection.threshold * error {
                return Err(Refusal::Faint);
            }
        }
        let (peak, region) = if found_beside {
            let [x, y] = pixel.map(|p| p.max(0) as usize);
            (Peak { x, y, ..candidate.peak }, None)
        } else {
            (candidate.peak, candidate.region.as_ref())
        };
        let blended = work.light.iter().any(|&l| l * l > stamps.variance(i));
        let masked = region.is_none() && self.core_is_masked(&peak, pixel, stamps.data(i), stamps.layout());
        let moments = self.own_moments(stamps, i, fit.source, work);
        let top = Top::of(&peak, pixel, &work.light, stamps.layout());
        let centroid = field.centroids[psf.cell(pixel)];
        let fitted = (flux > 0.0 && fit.flux_error.is_finite()).then(|| Seen {
            position: [0, 1].map(|k| pixel[k] as f64 + f64::from(fit.source.offset[k]) + centroid[k]),
            covariance: fit.covariance,
            flux: f64::from(flux),
            flux_error: f64::from(fit.flux_error),
            moments,
        });
        let seen = match region {
            Some(region) => self.saturated(fitted, region),
            None => fitted,
        };
        let bits = if blended { flags::BLENDED } else { 0 } | if masked { flags::MASKED } else { 0 };
        let star = self.judge(&peak, region, top, seen, bits)?;
        // The residual of a hot pixel is not a star next to it.
        if found_beside && star.flags & flags::HOT_PIXEL != 0 {
            return Err(Refusal::Sharp);
        }
        Ok(Star { background: star.background + f64::from(higher), ..star })
    }

    /// Uncertainty of the background: twice the error of linear interpolation between the blocks in which it
    /// was measured. The factor of two is there because means over blocks underestimate the curvature.
    fn background_uncertainty(&self, pixel: [isize; 2]) -> f32 {
        let [x, y] = pixel.map(|p| p as f32);
        let step = self.options.local_bg_block_size as f32;
        let level = |dx: f32, dy: f32| self.background.level.at(x + dx * step, y + dy * step);
        let twice = 2.0 * level(0.0, 0.0);
        let bend = |dx: f32, dy: f32| level(dx, dy) + level(-dx, -dy) - twice;
        (bend(1.0, 0.0).abs() + bend(0.0, 1.0).abs()) / 4.0
    }

    /// Second moments of the star's own light. `work` holds the star's model and its neighbours' light, and
    /// is overwritten.
    fn own_moments(&self, stamps: &Stamps, i: usize, source: Source, work: &mut Work) -> Moments {
        for ((own, &d), &p) in work.light.iter_mut().zip(stamps.data(i)).zip(&work.own.value) {
            // The model replaces bad pixels.
            *own = if is_good(d) { d - *own } else { source.flux * p };
        }
        let (layout, crop) = (stamps.layout(), stamps.crop(i));
        let view = View { stamp: &work.light, layout, crop, variance: 0.0, photon: 0.0 };
        let round = [self.sigma * self.sigma, 0.0, self.sigma * self.sigma];
        view.moments(source.offset, self.sigma as f32).unwrap_or(round)
    }

    /// First guess of a star, from its peak and its saturated region, if it has one.
    fn source(&self, peak: &Peak, region: Option<&Blob>) -> Source {
        let start = region
            .and_then(|region| self.centre_of_light(region))
            .map_or(peak.vertex, |seen| seen.position.map(|p| p as f32));
        let pixel = if region.is_some() {
            start.map(|p| p.round() as isize)
        } else {
            [peak.x as isize, peak.y as isize]
        };
        let noise = self.background.noise.at(start[0], start[1]) * self.detection.correlation;
        // Response to a Gaussian star of unit flux of the filter with unit noise.
        let width = self.sigma * self.sigma;
        let response = match self.options.matched_filter_sigma {
            Some(filter) => filter / (std::f64::consts::PI.sqrt() * (filter * filter + width)),
            None => 1.0 / (std::f64::consts::TAU * width),
        };
        Source { pixel, offset: offset(start, pixel), flux: peak.height * noise / response as f32 }
    }
}
