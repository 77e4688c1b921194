//! The final match: detections to catalogue stars one to one, and attitude and focal length fitted to all of them.

use nalgebra::{Matrix3, Matrix4, Vector3, Vector4};

use super::field::{Field, Pointing, ProjectedStar, Sky};
use crate::distortion::Point;
use crate::grid::PointGrid;
use crate::sphere::Direction;

/// Matches farther out than this many standard deviations of the fit are dropped.
const CLIP_SIGMA: f64 = 5.0;
/// No match closer than this is dropped, px: catalogue errors and blends are of that size.
const MIN_CLIP_PX: f64 = 0.3;
/// Expected number of stray detections within the match radius of a star: only so many of the brightest detections
/// are matched that it is not exceeded, so a wide radius takes bright stars and a narrow one takes all.
const CROWDING_LIMIT: f64 = 0.3;
/// Detections that are matched whatever the radius.
const MIN_DETECTIONS: usize = 30;
/// Catalogue stars tried per detection.
const STARS_PER_DETECTION: usize = 3;
/// Catalogue stars tried where there are few detections.
const MIN_STARS: usize = 100;
/// Steps of the Gauss-Newton fit per set of matches; it converges quadratically from a good start.
const FIT_STEPS: usize = 3;
/// Residuals beyond this many standard deviations lose weight (Cauchy's loss: 95 % efficient for normal errors).
const CAUCHY_SIGMA: f64 = 2.385;
/// Median length of a two-dimensional normal deviate of unit variance per axis.
const RAYLEIGH_MEDIAN: f64 = 1.177_410_022_515_474_6;
/// Floor of the loss's scale, px: keeps perfect (simulated) data from dividing by zero.
const MIN_LOSS_SCALE_PX: f64 = 1e-6;
/// Fewest matches that determine attitude and focal length with something to spare.
const MIN_MATCHES: usize = 3;

/// A detection and its catalogue star.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub(super) detection: usize,
    pub(super) star: u32,
    /// Apparent direction of the star.
    pub(super) direction: Direction,
}

/// Outcome of [`refine`].
pub(super) struct Refined {
    pub(super) pointing: Pointing,
    pub(super) matches: Vec<Match>,
    /// Covariance of the attitude as a small rotation about the camera's axes, rad².
    pub(super) attitude_covariance: Matrix3<f64>,
}

/// Matches and fits in turn until the matches stay the same, at most `rounds` times.
///
/// `radius` is the match radius in px; it shrinks with the residuals. `None` if too few stars match.
pub(super) fn refine(
    field: &Field,
    sky: &Sky<'_>,
    start: Pointing,
    radius: f64,
    rounds: usize,
) -> Option<Refined> {
    let matcher = Matcher::new(field, sky, &start);
    let mut pointing = start;
    let mut matches = matcher.matches(&pointing, radius);
    let mut covariance = None;
    for _ in 0..rounds.max(1) {
        if matches.len() < MIN_MATCHES {
            return None;
        }
        let fit = fit(field, &matches, &pointing)?;
        pointing = fit.pointing;
        covariance = Some(fit.attitude_covariance);
        let clip = (CLIP_SIGMA * fit.sigma).clamp(MIN_CLIP_PX.min(radius), radius);
        let next = matcher.matches(&pointing, clip);
        let settled = next.len() == matches.len()
            && next.iter().zip(&matches).all(|(a, b)| a.detection == b.detection && a.star == b.star);
        matches = next;
        if settled {
            break;
        }
    }
    (matches.len() >= MIN_MATCHES).then_some(Refined { pointing, matches, attitude_covariance: covariance? })
}

/// Detections and the catalogue stars that may be theirs.
struct Matcher<'a> {
    field: &'a Field,
    sky: &'a Sky<'a>,
    stars: Vec<ProjectedStar>,
}

impl<'a> Matcher<'a> {
    fn new(field: &'a Field, sky: &'a Sky<'a>, start: &Pointing) -> Self {
        let limit = (STARS_PER_DETECTION * field.ideal.len()).max(MIN_STARS);
        let (mut scratch, mut stars) = (Vec::new(), Vec::new());
        sky.in_view(field, start, limit, &mut scratch, &mut stars);
        Self { field, sky, stars }
    }

    /// Every star with its nearest detection within `radius`; a detection keeps its nearest star. By detection.
    fn matches(&self, pointing: &Pointing, radius: f64) -> Vec<Match> {
        let crowd = CROWDING_LIMIT * self.field.area() / (std::f64::consts::PI * radius * radius);
        let faintest = (crowd as usize).max(MIN_DETECTIONS);
        let eligible: Vec<usize> =
            (0..self.field.ideal.len()).filter(|&i| self.field.order[i] < faintest).collect();
        let points: Vec<Point> = eligible.iter().map(|&i| self.field.ideal[i]).collect();
        let grid = PointGrid::new(&points, radius);
        let mut best: Vec<Option<(f64, Match)>> = vec![None; points.len()];
        for star in self.stars.iter().take((STARS_PER_DETECTION * points.len()).max(MIN_STARS)) {
            let Some(direction) = self.sky.direction(star.star) else { continue };
            let Some(at) = pointing.project(&direction) else { continue };
            if let Some((point, d2)) = grid.nearest(at, radius)
                && best[point].is_none_or(|(nearest, _)| d2 < nearest)
            {
                best[point] = Some((d2, Match { detection: eligible[point], star: star.star, direction }));
            }
        }
        best.into_iter().flatten().map(|(_, found)| found).collect()
    }
}

struct Fit {
    pointing: Pointing,
    /// Robust standard deviation of the residuals, px per axis.
    sigma: f64,
    attitude_covariance: Matrix3<f64>,
}

/// Robust least squares of attitude and focal length in the ideal plane.
fn fit(field: &Field, matches: &[Match], start: &Pointing) -> Option<Fit> {
    let mut pointing = *start;
    let mut lengths: Vec<f64> = Vec::with_capacity(matches.len());
    let mut covariance = Matrix3::zeros();
    for _ in 0..FIT_STEPS {
        let sigma = residual_sigma(field, matches, &pointing, &mut lengths);
        let (normal, gradient, chi2) = normal_equations(field, matches, &pointing, CAUCHY_SIGMA * sigma);
        let cholesky = normal.cholesky()?;
        let step = cholesky.solve(&gradient);
        pointing.attitude = pointing.attitude.rotated(&Vector3::new(step[0], step[1], step[2]));
        pointing.focal_length *= 1.0 + step[3];
        if !(pointing.focal_length.is_finite() && pointing.focal_length > 0.0) {
            return None;
        }
        let freedom = (2 * matches.len()).saturating_sub(4).max(1) as f64;
        covariance = cholesky.inverse().fixed_view::<3, 3>(0, 0) * (chi2 / freedom);
    }
    let sigma = residual_sigma(field, matches, &pointing, &mut lengths);
    Some(Fit { pointing, sigma, attitude_covariance: covariance })
}

fn residual(field: &Field, found: &Match, pointing: &Pointing) -> Point {
    let [u, v] = field.ideal[found.detection];
    let [pu, pv] = pointing.project(&found.direction).unwrap_or([u, v]);
    [u - pu, v - pv]
}

/// Standard deviation per axis from the median length of the residuals.
fn residual_sigma(field: &Field, matches: &[Match], pointing: &Pointing, lengths: &mut Vec<f64>) -> f64 {
    lengths.clear();
    lengths.extend(matches.iter().map(|m| {
        let [du, dv] = residual(field, m, pointing);
        du.hypot(dv)
    }));
    let middle = lengths.len() / 2;
    let (_, median, _) = lengths.select_nth_unstable_by(middle, f64::total_cmp);
    *median / RAYLEIGH_MEDIAN
}

/// `JᵀWJ`, `JᵀWr` and `Σwr²` for a small rotation about the camera's axes and the relative change of the focal length.
fn normal_equations(
    field: &Field,
    matches: &[Match],
    pointing: &Pointing,
    loss_scale: f64,
) -> (Matrix4<f64>, Vector4<f64>, f64) {
    let (mut normal, mut gradient, mut chi2) = (Matrix4::zeros(), Vector4::zeros(), 0.0);
    let (f, parity) = (pointing.focal_length, pointing.parity);
    let scale = 1.0 / loss_scale.max(MIN_LOSS_SCALE_PX).powi(2);
    for found in matches {
        let [du, dv] = residual(field, found, pointing);
        let c = pointing.attitude.to_camera(&found.direction);
        let Some(([x, y], [about_x, about_y, about_z])) = pointing.projection.point_and_rotations(&c) else {
            continue;
        };
        let by_u = Vector4::new(about_x[0], about_y[0], about_z[0], x) * (f * parity);
        let by_v = Vector4::new(about_x[1], about_y[1], about_z[1], y) * f;
        let r2 = du * du + dv * dv;
        let weight = 1.0 / (1.0 + r2 * scale);
        normal += (by_u * by_u.transpose() + by_v * by_v.transpose()) * weight;
        gradient += (by_u * du + by_v * dv) * weight;
        chi2 += weight * r2;
    }
    (normal, gradient, chi2)
}
