//! One frame prepared for solving: its detections in the ideal plane, and the outline of the image in that
//! plane.

use std::f64::consts::TAU;

use crate::database::Database;
use crate::geometry::apparent::ApparentPlace;
use crate::geometry::attitude::Attitude;
use crate::geometry::camera::CameraModel;
use crate::geometry::distortion::Point;
use crate::geometry::projection::Projection;
use crate::geometry::sphere::Direction;

/// Fields that reach farther from the optical axis than this are enclosed in a cone about the axis, radians.
/// A cone about the image's centre could be too narrow, because its farthest point need not be on the
/// outline.
const WIDE_REACH: f64 = 1.0;
/// Largest solid angle in which chance detections are expected, steradians: few lenses show more of the sky
/// than a hemisphere.
const MOST_SKY: f64 = TAU;
/// Detections nearer than this to a brighter one cannot be distinguished from parts of it, px. Images of
/// stars have this width, and one star is listed more than once where its image was split or lists of several
/// exposures were merged.
const DISTINCT_PX: f64 = 3.0;
/// Number of catalogue stars tried per detection.
const STARS_PER_DETECTION: usize = 3;
/// Minimum number of catalogue stars tried where there are few detections.
const MIN_STARS: usize = 100;

/// Attitude, focal length, parity and projection of a candidate for a solution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pointing {
    pub(super) attitude: Attitude,
    pub(super) focal_length: f64,
    /// -1 when the image is mirrored, else 1.
    pub(super) parity: f64,
    /// Projection of the camera.
    pub(super) projection: Projection,
}

impl Pointing {
    /// Ideal point of a direction of the sky; `None` where the projection has no image.
    #[inline]
    pub(super) fn project(&self, sky: &Direction) -> Option<Point> {
        self.image(&self.attitude.to_camera(sky))
    }

    /// Ideal point of a direction in the camera frame; `None` where the projection has no image.
    #[inline]
    pub(super) fn image(&self, seen: &Direction) -> Option<Point> {
        let [x, y] = self.projection.point(seen)?;
        Some([self.parity * self.focal_length * x, self.focal_length * y])
    }

    /// Direction of the sky at an ideal point; `None` outside the projection's image.
    pub(super) fn unproject(&self, ideal: Point) -> Option<Direction> {
        Some(self.attitude.to_sky(&self.camera_direction(ideal)?))
    }

    /// Direction of the sky on the optical axis.
    pub(super) fn axis(&self) -> Direction {
        self.attitude.to_sky(&Direction::z())
    }

    /// Direction in the camera frame of an ideal point; `None` outside the projection's image.
    pub(super) fn camera_direction(&self, ideal: Point) -> Option<Direction> {
        direction_of(self.projection, ideal, self.focal_length, self.parity)
    }
}

/// Direction in the camera frame of an ideal point; `None` outside the projection's image.
pub(super) fn direction_of(
    projection: Projection,
    [u, v]: Point,
    focal_length: f64,
    parity: f64,
) -> Option<Direction> {
    if projection == Projection::Gnomonic {
        return Some(Direction::new(parity * u, v, focal_length).normalize());
    }
    projection.direction([parity * u / focal_length, v / focal_length])
}

/// Detections of one frame in the ideal plane of its camera. Isolated detections come first, then detections
/// in clusters, then detections that are not distinct from a brighter one. Each of these groups is sorted by
/// brightness.
///
/// The ideal plane does not depend on the focal length, so it is computed once per frame.
pub(super) struct Field {
    pub(super) camera: CameraModel,
    pub(super) ideal: Vec<Point>,
    /// Index of each detection in the list given to [`Field::new`].
    pub(super) order: Vec<usize>,
    /// See [`Field::distinct`].
    num_distinct: usize,
    /// Ideal points of the image's corners and edge midpoints, and of its centre last.
    outline: [Point; 9],
    low: Point,
    high: Point,
    /// See [`Field::reach`].
    reach: f64,
    /// See [`Field::chance_area`].
    chance_areas: Vec<f64>,
}

impl Field {
    /// Converts detections to the ideal plane and sorts them. Detections closer than `separation` (px) to a
    /// brighter one come after all isolated ones. `separation` is that of the database's pattern stars, so
    /// that image and database make patterns of the same stars. Clusters of detections, on a flare or a
    /// horizon, therefore do not fill the list of the brightest.
    pub(super) fn new(camera: CameraModel, pixels: &[Point], separation: f64) -> Self {
        let (order, num_distinct) = isolated_first(pixels, camera.image_size(), separation);
        let ideal: Vec<Point> = order.iter().map(|&i| camera.pixel_to_ideal(pixels[i])).collect();
        let [w, h] = camera.image_size().map(|n| f64::from(n) / 2.0);
        let pixels =
            [[-w, -h], [0.0, -h], [w, -h], [w, 0.0], [w, h], [0.0, h], [-w, h], [-w, 0.0], [0.0, 0.0]];
        let outline = pixels.map(|p| camera.pixel_to_ideal(p));
        let fold = |k: usize, f: fn(f64, f64) -> f64| outline.iter().map(|p| p[k]).reduce(f).unwrap_or(0.0);
        let (low, high) = ([fold(0, f64::min), fold(1, f64::min)], [fold(0, f64::max), fold(1, f64::max)]);
        let reach = outline.iter().map(|p| p[0].hypot(p[1])).fold(0.0, f64::max);
        let mut field =
            Self { camera, ideal, order, num_distinct, outline, low, high, reach, chance_areas: Vec::new() };
        field.chance_areas = field.ideal.iter().map(|&p| field.chance_area_at(p)).collect();
        field
    }

    /// Detections that are distinct from all brighter ones. Only these count as independent evidence.
    pub(super) fn distinct(&self) -> &[Point] {
        &self.ideal[..self.num_distinct]
    }

    /// Inverse density of chance detections at a detection, px². Chance detections are spread evenly over the
    /// detector or, in the image of a fisheye, evenly over the sky; the larger of both densities counts.
    pub(super) fn chance_area(&self, detection: usize) -> f64 {
        self.chance_areas[detection]
    }

    fn chance_area_at(&self, [u, v]: Point) -> f64 {
        let projection = self.camera.projection();
        if projection == Projection::Gnomonic {
            return self.area();
        }
        let focal_length = self.camera.focal_length_px();
        let sky = (TAU * (1.0 - self.angle(focal_length).cos())).min(MOST_SKY);
        let per_pixel = projection.solid_angle_density(u.hypot(v) / focal_length) / focal_length.powi(2);
        1.0 / (1.0 / self.area()).max(per_pixel / sky)
    }

    /// Largest angle between the outline and the optical axis for a focal length, radians.
    pub(super) fn angle(&self, focal_length: f64) -> f64 {
        let projection = self.camera.projection();
        projection.angle(self.reach() / focal_length).unwrap_or(projection.max_angle())
    }

    /// Whether an ideal point is on the detector, neglecting the curvature of the detector's edges.
    #[allow(clippy::needless_bitwise_bool)] // Faster than four branches, which the processor predicts badly.
    pub(super) fn contains(&self, p: Point) -> bool {
        (p[0] >= self.low[0]) & (p[0] <= self.high[0]) & (p[1] >= self.low[1]) & (p[1] <= self.high[1])
    }

    /// Smallest and largest coordinates for which [`Field::contains`] is true.
    pub(super) fn bounds(&self) -> [Point; 2] {
        [self.low, self.high]
    }

    /// A part of the field: the distinct detections within bounds, without the `first` ones of the whole
    /// field.
    pub(super) fn part(&self, [low, high]: [Point; 2], first: usize) -> Self {
        let mut part = Self {
            camera: self.camera.clone(),
            ideal: Vec::new(),
            order: Vec::new(),
            num_distinct: 0,
            chance_areas: Vec::new(),
            low,
            high,
            ..*self
        };
        for i in first..self.num_distinct {
            if part.contains(self.ideal[i]) {
                part.ideal.push(self.ideal[i]);
                part.order.push(self.order[i]);
            }
        }
        part.num_distinct = part.ideal.len();
        part.chance_areas = part.ideal.iter().map(|&p| part.chance_area_at(p)).collect();
        part
    }

    /// Half the image's width, px.
    pub(super) fn half_width(&self) -> f64 {
        f64::from(self.camera.image_size()[0]) / 2.0
    }

    /// Area in which [`Field::contains`] is true, px².
    pub(super) fn area(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Largest distance of the outline from the optical centre, px.
    pub(super) fn reach(&self) -> f64 {
        self.reach
    }

    /// Direction of the sky at the image's centre; `None` outside the projection's image.
    pub(super) fn center(&self, pointing: &Pointing) -> Option<Direction> {
        pointing.unproject(self.outline[8])
    }

    /// Centre and radius of a cone on the sky that encloses the whole image.
    pub(super) fn cone(&self, pointing: &Pointing) -> (Direction, f64) {
        let wide =
            pointing.projection != Projection::Gnomonic && self.angle(pointing.focal_length) > WIDE_REACH;
        match self.center(pointing) {
            Some(center) if !wide => {
                let edges = self.outline[..8].iter().map(|p| pointing.unproject(*p));
                let chord = |edge: Option<Direction>| edge.map_or(2.0, |edge| (edge - center).norm());
                let widest = edges.map(chord).fold(0.0, f64::max);
                (center, 2.0 * (widest / 2.0).min(1.0).asin())
            }
            _ => (pointing.axis(), self.angle(pointing.focal_length)),
        }
    }
}

/// Maximum number of cells per axis in the search for neighbours.
const MAX_CELLS_PER_AXIS: f64 = 128.0;
/// Number of cells per axis divided by the square root of the number of points. With this value, most cells
/// are empty.
const FINENESS: f64 = 4.0;
/// Up to this number of points, each is compared with all kept points directly, which is faster than any
/// cells.
const FEW_POINTS: usize = 64;

/// Sorts points into three groups: isolated points, farther than `separation` from every earlier isolated
/// one; the other distinct points; and points nearer than [`DISTINCT_PX`] to an earlier distinct one. Returns
/// their indices and the number of distinct points.
fn isolated_first(points: &[Point], image_size: [u32; 2], separation: f64) -> (Vec<usize>, usize) {
    let all: Vec<usize> = (0..points.len()).collect();
    let (distinct, mut rest) = set_apart(points, &all, image_size, DISTINCT_PX);
    let (mut order, mut crowded) = set_apart(points, &distinct, image_size, separation);
    order.append(&mut crowded);
    order.append(&mut rest);
    (order, distinct.len())
}

/// Splits indices of points into those farther than `separation` from every earlier kept point, and the rest.
fn set_apart(
    points: &[Point],
    indices: &[usize],
    image_size: [u32; 2],
    separation: f64,
) -> (Vec<usize>, Vec<usize>) {
    const END: u32 = u32::MAX;
    let is_close = |[x, y]: Point, [u, v]: Point| (x - u).powi(2) + (y - v).powi(2) < separation * separation;
    let (mut kept, mut others) = (Vec::with_capacity(indices.len()), Vec::new());
    if indices.len() <= FEW_POINTS {
        let mut kept_points = Vec::with_capacity(indices.len());
        for &i in indices {
            if kept_points.iter().any(|&point| is_close(points[i], point)) {
                others.push(i);
            } else {
                kept.push(i);
                kept_points.push(points[i]);
            }
        }
        return (kept, others);
    }
    let half = image_size.map(|n| f64::from(n) / 2.0);
    let per_axis = (FINENESS * (indices.len() as f64).sqrt()).clamp(1.0, MAX_CELLS_PER_AXIS);
    let cell = separation.max(half[0].max(half[1]) * 2.0 / per_axis);
    let cells = half.map(|h| (2.0 * h / cell) as usize + 1);
    let axis = |x: f64, k: usize| (((x + half[k]) / cell).max(0.0) as usize).min(cells[k] - 1);
    // Linked lists of the kept points of each cell.
    let mut newest = vec![END; cells[0] * cells[1]];
    let mut older = vec![END; points.len()];
    for &i in indices {
        let p = points[i];
        let (column, row) = (axis(p[0], 0), axis(p[1], 1));
        let is_near = |cell: usize| {
            let chain = std::iter::successors(Some(newest[cell]), |&j| older.get(j as usize).copied());
            chain.take_while(|&j| j != END).any(|j| is_close(p, points[j as usize]))
        };
        let mut rows = row.saturating_sub(1)..=(row + 1).min(cells[1] - 1);
        let columns = column.saturating_sub(1)..=(column + 1).min(cells[0] - 1);
        if rows.any(|r| columns.clone().any(|c| is_near(r * cells[0] + c))) {
            others.push(i);
        } else {
            let cell = row * cells[0] + column;
            older[i] = std::mem::replace(&mut newest[cell], i as u32);
            kept.push(i);
        }
    }
    (kept, others)
}

/// Number of catalogue stars tried for a number of detections.
pub(super) fn stars_wanted(detections: usize) -> usize {
    (STARS_PER_DETECTION * detections).max(MIN_STARS)
}

/// The catalogue as one observer sees it: the database's stars, displaced by aberration and refraction.
pub(super) struct Sky<'a> {
    pub(super) database: &'a Database,
    pub(super) place: ApparentPlace,
    /// Julian year to which stars with known motions are moved.
    pub(super) epoch: Option<f64>,
}

/// Index of a catalogue star and its position in the ideal plane of a frame.
pub(super) type ProjectedStar = (u32, Point);

impl Sky<'_> {
    /// Apparent direction of a star of the database.
    pub(super) fn direction(&self, star: u32) -> Option<Direction> {
        Some(self.apparent(self.catalogued(star)?))
    }

    /// Catalogue direction of a star of the database at the epoch.
    pub(super) fn catalogued(&self, star: u32) -> Option<Direction> {
        let moved = |year| {
            let id = *self.database.ids().get(star as usize)?;
            self.database.motions()?.direction_at(id, year)
        };
        let listed = || Some(Direction::from(*self.database.directions().get(star as usize)?));
        self.epoch.and_then(moved).or_else(listed)
    }

    fn apparent(&self, catalogued: Direction) -> Direction {
        self.place.apparent(&catalogued)
    }

    /// Replaces `out` by the brightest `limit` stars on the detector, brightest first. Positions are of
    /// single precision.
    pub(super) fn in_view(
        &self,
        field: &Field,
        pointing: &Pointing,
        limit: usize,
        out: &mut Vec<ProjectedStar>,
    ) {
        let (center, radius) = field.cone(pointing);
        let on_detector = |_: u32, direction: Direction| {
            pointing.project(&self.apparent(direction)).filter(|at| field.contains(*at))
        };
        out.clear();
        self.database.brightest_in_cone(
            &center,
            radius + self.place.largest_displacement(),
            limit,
            on_detector,
            out,
        );
        out.sort_unstable_by_key(|(star, _)| *star);
    }

    /// Projects the same stars with another pointing.
    pub(super) fn projected(&self, pointing: &Pointing, stars: &[ProjectedStar]) -> Vec<ProjectedStar> {
        let project = |&(star, _): &ProjectedStar| Some((star, pointing.project(&self.direction(star)?)?));
        stars.iter().filter_map(project).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn clusters_come_last_and_repetitions_after_them(
            points in prop::collection::vec([-60.0..60.0, -60.0..60.0], 0..80), separation in 0.1..40.0,
        ) {
            let (order, distinct) = isolated_first(&points, [100, 100], separation);
            let part = |indices: &[usize], separation: f64| {
                let (mut kept, mut others): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
                for &i in indices {
                    let near = |&k: &usize| {
                        (points[i][0] - points[k][0]).hypot(points[i][1] - points[k][1]) < separation
                    };
                    if kept.iter().any(near) { others.push(i) } else { kept.push(i) }
                }
                (kept, others)
            };
            let (apart, rest) = part(&(0..points.len()).collect::<Vec<_>>(), DISTINCT_PX);
            let (isolated, crowded) = part(&apart, separation);
            prop_assert_eq!(order, [isolated, crowded, rest].concat());
            prop_assert_eq!(distinct, apart.len());
        }
    }
}
