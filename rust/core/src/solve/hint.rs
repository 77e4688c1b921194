//! Near a known attitude: pairs of detections against pairs of catalogue stars close to where they should be.

use super::field::{Field, Pointing, ProjectedStar, Sky};
use super::search::Accepted;
use super::verify::Verifier;
use super::{Budget, SolveOptions, Status};
use crate::attitude::Attitude;
use crate::error::Result;
use crate::projection::Projection;
use crate::sphere::Direction;

/// Brightest detections from which pairs are made.
const PAIR_DETECTIONS: usize = 10;
/// Brightest catalogue stars with which they are compared.
const PAIR_STARS: usize = 60;
/// Pairs closer than this fraction of the image's reach leave the roll too uncertain.
const MIN_PAIR_FRACTION: f64 = 0.2;
/// Two lengths agree when they differ by less than this fraction, the range of the focal length aside.
const LENGTH_TOLERANCE: f64 = 0.01;

/// A known attitude and how wrong it may be.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    /// Expected attitude.
    pub attitude: Attitude,
    /// Largest angle between the expected and the true attitude, radians.
    pub uncertainty: f64,
    /// Whether to give up, rather than search the whole sky, when the hint does not help.
    pub strict: bool,
}

/// Searches within the hint's uncertainty.
pub(super) fn search(
    field: &Field,
    sky: &Sky<'_>,
    options: &SolveOptions,
    hint: &Hint,
    verifier: &mut Verifier<'_>,
    budget: &mut Budget<'_>,
) -> Result<std::result::Result<Accepted, Status>> {
    let [shortest, expected, longest] = options.focal_range(field, sky.database);
    let parities: &[f64] = match options.parity() {
        Some(1.0) => &[1.0],
        Some(_) => &[-1.0],
        None => &[1.0, -1.0],
    };
    for &parity in parities {
        let projection = field.camera.projection();
        let start = Pointing { attitude: hint.attitude, focal_length: expected, parity, projection };
        // Stars just outside the expected image may be inside the true one; they only matter as second stars of a
        // pair, and other pairs do as well.
        let (mut scratch, mut stars) = (Vec::new(), Vec::new());
        sky.in_view(field, &start, PAIR_STARS, &mut scratch, &mut stars);
        let reach = field.reach();
        let slack = (longest / expected).max(expected / shortest) - 1.0;
        // A rotation about the boresight moves a star by its distance from the axis; a tilt by the focal length.
        let radius =
            hint.uncertainty.tan() * expected * projection.magnification(reach / expected) + reach * slack;
        let lengths =
            [expected / longest * (1.0 - LENGTH_TOLERANCE), expected / shortest * (1.0 + LENGTH_TOLERANCE)];
        let mut pairs =
            Pairs { field, sky, options, stars: &stars, start, radius, lengths, verifier, budget };
        match pairs.run()? {
            Err(Status::NoMatch) => {}
            other => return Ok(other),
        }
    }
    Ok(Err(Status::NoMatch))
}

struct Pairs<'r, 'a, 'b> {
    field: &'r Field,
    sky: &'r Sky<'r>,
    options: &'r SolveOptions,
    stars: &'r [ProjectedStar],
    start: Pointing,
    /// How far a detection may be from where its star is expected, px.
    radius: f64,
    /// Allowed ratio of catalogue to image lengths.
    lengths: [f64; 2],
    verifier: &'r mut Verifier<'a>,
    budget: &'r mut Budget<'b>,
}

impl Pairs<'_, '_, '_> {
    fn run(&mut self) -> Result<std::result::Result<Accepted, Status>> {
        let count = self.field.ideal.len().min(PAIR_DETECTIONS);
        let near: Vec<Vec<usize>> = (0..count).map(|i| self.stars_near(i)).collect();
        for j in 1..count {
            for i in 0..j {
                let (a, b) = (self.field.ideal[i], self.field.ideal[j]);
                let length = (a[0] - b[0]).hypot(a[1] - b[1]);
                if length < MIN_PAIR_FRACTION * self.field.reach() {
                    continue;
                }
                for &s in &near[i] {
                    for &t in &near[j] {
                        if let Some(status) = self.budget.spend()? {
                            return Ok(Err(status));
                        }
                        if s != t
                            && let Some(accepted) = self.try_pair([i, j], [s, t], length)
                        {
                            return Ok(Ok(accepted));
                        }
                    }
                }
            }
        }
        Ok(Err(Status::NoMatch))
    }

    /// Indices of the stars expected near a detection.
    fn stars_near(&self, detection: usize) -> Vec<usize> {
        let at = self.field.ideal[detection];
        let close = |s: &ProjectedStar| (s.at[0] - at[0]).hypot(s.at[1] - at[1]) < self.radius;
        self.stars.iter().enumerate().filter(|(_, s)| close(s)).map(|(i, _)| i).collect()
    }

    /// Directions in the camera frame of two detections.
    fn seen(&self, pointing: &Pointing, [i, j]: [usize; 2]) -> Option<[Direction; 2]> {
        let direction = |i: usize| pointing.camera_direction(self.field.ideal[i]);
        Some([direction(i)?, direction(j)?])
    }

    fn try_pair(&mut self, detections: [usize; 2], stars: [usize; 2], length: f64) -> Option<Accepted> {
        let [s, t] = stars.map(|i| self.stars[i]);
        let sky = [self.sky.direction(s.star)?, self.sky.direction(t.star)?];
        let ratio = if self.start.projection == Projection::Gnomonic {
            (s.at[0] - t.at[0]).hypot(s.at[1] - t.at[1]) / length
        } else {
            // Lengths in the image of a fisheye depend on where they are, angles do not.
            let [a, b] = self.seen(&self.start, detections)?;
            (sky[0] - sky[1]).norm() / (a - b).norm()
        };
        if ratio < self.lengths[0] || ratio > self.lengths[1] {
            return None;
        }
        let pointing = Pointing { focal_length: self.start.focal_length / ratio, ..self.start };
        let seen = self.seen(&pointing, detections)?;
        let attitude = Attitude::from_pairs(seen.iter().zip(&sky).map(|(c, s)| (c, s, 1.0)))?;
        self.budget.candidates += 1;
        let pointing = Pointing { attitude, ..pointing };
        let log_ratio = self.verifier.log_ratio(&pointing, &detections);
        let probability = self.budget.probability(log_ratio);
        (probability <= self.options.match_threshold).then_some(Accepted { pointing, probability })
    }
}
