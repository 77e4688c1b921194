//! Search near an expected pointing: compares triangles of detections with triangles of catalogue stars
//! around it.

use std::f64::consts::PI;

use super::field::{Field, Pointing, Sky, direction_of};
use super::patches::Plan;
use super::search::{Hypothesis, hypotheses};
use super::verify::{Accepted, Verifier};
use super::{Budget, SolveOptions, Status};
use crate::error::Result;
use crate::geometry::attitude::Attitude;
use crate::geometry::distortion::Point;
use crate::geometry::projection::Projection;
use crate::geometry::sphere::{Direction, chord};

/// Number of brightest detections from which triangles are made.
const TRIANGLE_DETECTIONS: usize = 15;
/// Maximum number of stars, however wide the search. With more, there would be more pairs than a search of
/// the whole sky looks up.
const MAX_STARS: usize = 1500;
/// Edges shorter than this fraction of the image's reach are not used, because they determine scale and roll
/// poorly.
const MIN_EDGE_FRACTION: f64 = 0.1;

/// One round of the search.
struct Widening {
    /// Tolerance of an edge for the noise of centroids, px.
    noise_px: f64,
    /// Tolerance of an edge for distortion, as a fraction of the edge.
    distortion: f64,
    /// Number of brightest catalogue stars per field of view with which triangles are compared. It refers to
    /// the widest field of view, so the true one holds fewer.
    stars: f64,
}

/// Rounds of the search, with growing tolerances.
const ROUNDS: [Widening; 2] = [
    Widening { noise_px: 2.0, distortion: 0.002, stars: 30.0 },
    Widening { noise_px: 4.0, distortion: 0.01, stars: 60.0 },
];
/// Lower limit of the sine of the angle at a triangle's third vertex when its chance matches are estimated.
const MIN_SINE: f64 = 0.1;

/// The search extends to this multiple of the stated uncertainty, because errors often exceed their stated
/// limit.
const MARGIN: f64 = 1.5;

/// Expected pointing of the camera.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// Attitude of the camera.
    Attitude(Attitude),
    /// Direction of the image's centre; the roll is unknown.
    Direction(Direction),
}

/// Expected pointing of the camera and its uncertainty.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    /// The expected attitude or direction.
    pub expected: Expected,
    /// Largest expected angle between `expected` and the true attitude or direction, radians. The search
    /// extends to 1.5 times this angle.
    pub uncertainty: f64,
    /// Whether to give up if the search near the hint fails, instead of searching the whole sky.
    pub strict: bool,
}

impl Hint {
    /// Largest angle searched, radians.
    fn reach(&self) -> f64 {
        MARGIN * self.uncertainty
    }

    fn allows(&self, field: &Field, pointing: &Pointing) -> bool {
        match &self.expected {
            Expected::Attitude(attitude) => attitude.angle_to(&pointing.attitude) <= self.reach(),
            Expected::Direction(direction) => {
                field.center(pointing).is_some_and(|center| direction.dot(&center) >= self.reach().cos())
            }
        }
    }

    /// Expected direction of the image's centre.
    fn center(&self, field: &Field, focal_length: f64) -> Direction {
        match self.expected {
            Expected::Attitude(attitude) => {
                let projection = field.camera.projection();
                let pointing = Pointing { attitude, focal_length, parity: 1.0, projection };
                field.center(&pointing).unwrap_or(pointing.axis())
            }
            Expected::Direction(direction) => direction,
        }
    }

    /// Share of allowed pointings among all pointings that put a given star somewhere on the detector.
    fn share(&self, field: &Field, focal_length: f64) -> f64 {
        let stretch = field.camera.projection().magnification(field.reach() / focal_length);
        let places = PI * (self.reach() * focal_length * stretch).powi(2) / field.area();
        let rolls = match self.expected {
            Expected::Attitude(_) => self.reach() / PI,
            Expected::Direction(_) => 1.0,
        };
        places.min(1.0) * rolls
    }
}

/// A catalogue star and the other stars that one image may show together with it.
struct Vertex {
    star: u32,
    direction: Direction,
    /// Distance (a chord) and index of each of the other stars, nearest first.
    others: Vec<(f64, usize)>,
}

impl Vertex {
    /// Other stars whose distance is in a range.
    fn within(&self, low: f64, high: f64) -> impl Iterator<Item = (f64, usize)> + '_ {
        let first = self.others.partition_point(|other| other.0 < low);
        self.others[first..].iter().copied().take_while(move |other| other.0 <= high)
    }
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
    let range = options.focal_range(field, sky.database);
    let field_radius = field.angle(range[0]);
    let center = hint.center(field, range[1]);
    let plan = Plan::brightest(field, TRIANGLE_DETECTIONS);
    for widening in &ROUNDS {
        let vertices = vertices(sky, &center, field_radius, hint.reach(), widening.stars);
        let hypotheses = hypotheses(field, &plan, [range[0], range[2]], range[1], widening.distortion);
        let mut round = Round {
            field,
            options,
            hint,
            range,
            share: hint.share(field, range[1]),
            vertices: &vertices,
            widening,
            verifier,
            budget,
        };
        match round.run(plan.end(), &hypotheses)? {
            Err(Status::NoMatch) => {}
            other => return Ok(other),
        }
    }
    Ok(Err(Status::NoMatch))
}

/// The brightest stars that may be in the field, given the expected pointing and its uncertainty.
fn vertices(
    sky: &Sky<'_>,
    center: &Direction,
    field_radius: f64,
    reach: f64,
    stars_per_field: f64,
) -> Vec<Vertex> {
    let radius = (field_radius + reach).min(PI);
    let fields = ((radius / 2.0).sin() / (field_radius / 2.0).sin()).powi(2);
    let limit = ((stars_per_field * fields) as usize).min(MAX_STARS);
    let mut stars = Vec::new();
    sky.database.brightest_in_cone(center, radius, limit, |star, _| sky.direction(star), &mut stars);
    stars.sort_unstable_by_key(|(star, _)| *star);
    let farthest = chord((2.0 * field_radius).min(PI));
    let vertex = |&(star, direction): &(u32, Direction)| {
        let mut others: Vec<(f64, usize)> = stars
            .iter()
            .enumerate()
            .map(|(other, (_, there))| ((there - direction).norm(), other))
            .filter(|&(distance, _)| distance > 0.0 && distance < farthest)
            .collect();
        others.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Vertex { star, direction, others }
    };
    stars.iter().map(vertex).collect()
}

/// A search with all triangles and one set of tolerances.
struct Round<'r, 'a, 'b> {
    field: &'r Field,
    options: &'r SolveOptions,
    hint: &'r Hint,
    /// Shortest, expected and longest focal length, px.
    range: [f64; 3],
    /// See [`Hint::share`].
    share: f64,
    vertices: &'r [Vertex],
    widening: &'r Widening,
    verifier: &'r mut Verifier<'a>,
    budget: &'r mut Budget<'b>,
}

impl Round<'_, '_, '_> {
    /// Tries the triangles of the brightest `count` detections, triangles of bright detections first.
    fn run(
        &mut self,
        count: usize,
        hypotheses: &[Hypothesis],
    ) -> Result<std::result::Result<Accepted, Status>> {
        for k in 2..count {
            for j in 1..k {
                for i in 0..j {
                    for hypothesis in hypotheses {
                        if let Some(status) = self.budget.spend()? {
                            return Ok(Err(status));
                        }
                        if let Some(accepted) = self.try_triangle([i, j, k], hypothesis) {
                            return Ok(Ok(accepted));
                        }
                    }
                }
            }
        }
        Ok(Err(Status::NoMatch))
    }

    fn try_triangle(&mut self, used: [usize; 3], hypothesis: &Hypothesis) -> Option<Accepted> {
        let ideal = used.map(|i| self.field.ideal[i]);
        let [Some(a), Some(b), Some(c)] = used.map(|i| hypothesis.directions[i]) else {
            return None;
        };
        let [ab, ac, bc] = edges([&a, &b, &c]);
        if ab.min(ac).min(bc) * hypothesis.focal_length < MIN_EDGE_FRACTION * self.field.reach() {
            return None;
        }
        let &Widening { noise_px, distortion, stars } = self.widening;
        let [ab_slack, ac_slack, bc_slack] =
            [ab, ac, bc].map(|edge| noise_px / hypothesis.focal_length + distortion * edge);
        // Area in which the third detection agrees with a star that chance put on the detector: a rhombus on
        // each side.
        let sine = ((a - c).cross(&(b - c)).norm() / (ac * bc)).max(MIN_SINE);
        let rhombus = 4.0 * ac_slack * bc_slack / sine * hypothesis.focal_length.powi(2);
        let sides = if self.options.parity_known { 1.0 } else { 2.0 };
        let share = (rhombus / self.field.chance_area(used[2])).min(1.0);
        let chance = self.share * sides * stars * share;
        let (low, high) = (ab * hypothesis.length_ratio.start(), ab * hypothesis.length_ratio.end());
        let vertices = self.vertices;
        for s in vertices {
            for (st, t) in s.within(low - ab_slack, high + ab_slack) {
                self.budget.chances += chance;
                // The first edge gives the scale, so the other edges must agree closely.
                let scale = st / ab;
                let t = &vertices[t];
                for (_, u) in s.within(scale * ac - ac_slack, scale * ac + ac_slack) {
                    let u = &vertices[u];
                    let tu = (t.direction - u.direction).norm();
                    if (tu - scale * bc).abs() < bc_slack
                        && let Some(accepted) = self.try_stars(&used, &ideal, [s, t, u])
                    {
                        return Some(accepted);
                    }
                }
            }
        }
        None
    }

    fn try_stars(&mut self, used: &[usize; 3], ideal: &[Point; 3], stars: [&Vertex; 3]) -> Option<Accepted> {
        let directions = stars.map(|star| &star.direction);
        let pointing = point_at(self.field.camera.projection(), ideal, directions, self.range[1])?;
        let allowed = self.options.parity().is_none_or(|parity| parity == pointing.parity)
            && pointing.focal_length > self.range[0] * (1.0 - self.widening.distortion)
            && pointing.focal_length < self.range[2] * (1.0 + self.widening.distortion)
            && self.hint.allows(self.field, &pointing);
        if !allowed {
            return None;
        }
        self.budget.candidates += 1;
        let log_ratio = self.verifier.log_ratio(&pointing, used, &stars.map(|star| star.star));
        let probability = self.budget.accept(log_ratio, self.options.match_threshold, || f64::INFINITY)?;
        Some(self.verifier.accepted(pointing, probability))
    }
}

/// Chords between three directions: first to second, first to third, second to third.
fn edges([a, b, c]: [&Direction; 3]) -> [f64; 3] {
    [(a - b).norm(), (a - c).norm(), (b - c).norm()]
}

/// The pointing that maps three stars to three ideal points; it is mirrored if their order requires it.
fn point_at(
    projection: Projection,
    ideal: &[Point; 3],
    stars: [&Direction; 3],
    supposed: f64,
) -> Option<Pointing> {
    let seen = |focal_length: f64, parity: f64| {
        let [a, b, c] = ideal.map(|point| direction_of(projection, point, focal_length, parity));
        Some([a?, b?, c?])
    };
    let perimeter: f64 = edges(stars).iter().sum();
    let mut focal_length = supposed;
    for _ in 0..3 {
        // Angles are not exactly proportional to 1/f: further steps correct the remaining error of the first.
        focal_length *= edges(seen(focal_length, 1.0)?.each_ref()).iter().sum::<f64>() / perimeter;
    }
    let volume = |[a, b, c]: [&Direction; 3]| a.dot(&b.cross(c));
    let handedness = volume(seen(focal_length, 1.0)?.each_ref()) * volume(stars);
    let parity = if handedness < 0.0 { -1.0 } else { 1.0 };
    let seen = seen(focal_length, parity)?;
    let attitude = Attitude::from_pairs(seen.iter().zip(stars).map(|(c, s)| (c, s, 1.0)))?;
    Some(Pointing { attitude, focal_length, parity, projection })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_triangle_gives_its_pointing_back(
            ra in 0.0..6.2, dec in -1.4..1.4, roll in -3.1..3.1, parity_flip: bool, scale in 0.8..1.25,
            projection in 0_usize..5,
        ) {
            let truth = Pointing {
                attitude: Attitude::from_pointing(ra, dec, roll),
                focal_length: 2000.0,
                parity: if parity_flip { -1.0 } else { 1.0 },
                projection: Projection::ALL[projection],
            };
            let ideal = [[-300.0, 20.0], [250.0, -110.0], [30.0, 330.0]];
            let [a, b, c] = ideal.map(|p| truth.unproject(p).unwrap());
            let found = point_at(truth.projection, &ideal, [&a, &b, &c], 2000.0 * scale).unwrap();
            prop_assert_eq!(found.parity, truth.parity);
            prop_assert!((found.focal_length / 2000.0 - 1.0).abs() < 1e-5);
            prop_assert!(found.attitude.angle_to(&truth.attitude) < 1e-4);
        }
    }
}
