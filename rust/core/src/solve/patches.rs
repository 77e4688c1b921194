//! Selects the detections from which patterns are made: the brightest of the image or, where the image shows
//! more of the sky than the database's patterns span, the brightest of each of many overlapping patches of
//! the image.

use std::f64::consts::PI;

use super::field::{Field, direction_of};
use crate::database::lattice_point;
use crate::geometry::projection::Projection;
use crate::geometry::sphere::Direction;

/// Error of an edge in the image, px: about two standard deviations for centroids with an error of half a
/// pixel. The tolerance grows by the ratio of this error to the longest edge.
pub(super) const EDGE_ERROR_PX: f64 = 1.0;
/// Fisheye images that are more than this many of the database's widest fields across are searched in
/// patches.
const MIN_FIELDS_ACROSS: f64 = 1.3;
/// Diameters of the patches, as factors of the database's widest field. Patches smaller than the narrowest
/// field are omitted.
const SHRINKAGES: [f64; 3] = [1.0, 0.7, 0.5];
/// Distance between the centres of neighbouring patches divided by the radius of a patch. A smaller value
/// gives more patches that overlap more.
const PATCH_SPACING: f64 = 0.8;
/// Share of the pattern-checking stars taken in each patch, because a patch shows only a part of the stars.
const STARS_SHARE: f64 = 0.4;
/// Largest angle to the axis up to which the shapes of patterns determine how finely focal lengths are
/// divided, radians. Shapes nearer to the rim change faster, but patches nearer to the axis are sufficient
/// for a solution.
const MAX_SPLIT_ANGLE: f64 = 1.0;

/// Groups of detections from which patterns are made, and the size of the groups.
pub(super) struct Plan {
    /// Indices of the detections in each group, ascending: brightest first.
    pub(super) groups: Vec<Vec<usize>>,
    /// Largest angle to the axis at which the shapes of patterns must be correct for any focal length,
    /// radians.
    pub(super) max_angle: f64,
    /// Error of an edge ratio due to the centroids. Differences of this size need no finer division of focal
    /// lengths.
    pub(super) edge_error: f64,
    /// Distance from the middle of a group to its edge, px.
    pub(super) reach: f64,
}

impl Plan {
    /// Plans the groups of a field. `narrowest` and `widest` are the limits of the fields of view that the
    /// database is made for, radians; `stars` is the number of detections from which patterns are made.
    pub(super) fn new(field: &Field, [narrowest, widest]: [f64; 2], focal_length: f64, stars: usize) -> Self {
        let projection = field.camera.projection();
        let across = 2.0 * field.angle(focal_length);
        if projection == Projection::Gnomonic || across < MIN_FIELDS_ACROSS * widest {
            return Self::brightest(field, stars);
        }
        let seen: Vec<_> =
            field.distinct().iter().map(|&p| direction_of(projection, p, focal_length, 1.0)).collect();
        let wanted = ((STARS_SHARE * stars as f64).ceil() as usize).max(4);
        let mut groups = Vec::new();
        for shrinkage in SHRINKAGES {
            let fov = shrinkage * widest;
            if groups.is_empty() || fov >= narrowest {
                groups.extend(patches(&seen, fov / 2.0, field.angle(focal_length), wanted));
            }
        }
        groups.sort();
        groups.dedup();
        let reach = widest / 2.0 * focal_length;
        Self { groups, max_angle: MAX_SPLIT_ANGLE, edge_error: EDGE_ERROR_PX / reach, reach }
    }

    /// A plan with a single group: the brightest detections of the image.
    pub(super) fn brightest(field: &Field, stars: usize) -> Self {
        let all = (0..stars.min(field.distinct().len())).collect();
        Self { groups: vec![all], max_angle: PI, edge_error: 0.0, reach: field.reach() }
    }

    /// One more than the highest index of a detection in any group.
    pub(super) fn end(&self) -> usize {
        self.groups.iter().filter_map(|group| group.last()).max().map_or(0, |last| last + 1)
    }
}

/// Groups of the first `wanted` detections within `radius` of each of many points, spread evenly over a cone
/// about the axis. Groups of fewer than four detections are omitted.
fn patches(
    seen: &[Option<Direction>],
    radius: f64,
    cone: f64,
    wanted: usize,
) -> impl Iterator<Item = Vec<usize>> {
    let centers = (4.0 * PI / (PATCH_SPACING * radius).powi(2)).ceil() as usize;
    let (inside, rim) = (radius.min(PI).cos(), cone.cos());
    let near = move |center: Direction| {
        let close = |d: &Option<Direction>| d.is_some_and(|d| d.dot(&center) >= inside);
        seen.iter().enumerate().filter(|(_, d)| close(d)).map(|(i, _)| i).take(wanted).collect::<Vec<_>>()
    };
    (0..centers)
        .map(move |i| lattice_point(i, centers))
        .filter(move |center| center.z >= rim)
        .map(near)
        .filter(|group| group.len() >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::camera::CameraModel;

    fn field(projection: Projection, focal_length: f64, points: usize) -> Field {
        let camera = CameraModel::new(focal_length, [1000, 1000]).unwrap().with_projection(projection);
        // Evenly over the disc, by the golden angle.
        let pixels: Vec<[f64; 2]> = (0..points)
            .map(|i| {
                let (r, angle) = (500.0 * ((i as f64 + 0.5) / points as f64).sqrt(), 2.4 * i as f64);
                [r * angle.cos(), r * angle.sin()]
            })
            .collect();
        Field::new(camera, &pixels, 0.0)
    }

    #[test]
    fn a_narrow_image_is_one_group() {
        let plan = Plan::new(&field(Projection::Gnomonic, 3000.0, 50), [0.1, 0.5], 3000.0, 24);
        assert_eq!(plan.groups, [(0..24).collect::<Vec<_>>()]);
        assert_eq!(plan.end(), 24);
    }

    #[test]
    fn patches_cover_a_fisheye_and_span_no_more_than_a_field() {
        for projection in Projection::ALL.into_iter().skip(1) {
            let f = 500.0 / projection.radius(1.5).unwrap();
            let field = field(projection, f, 300);
            let plan = Plan::new(&field, [0.3, 0.7], f, 24);
            assert!(plan.groups.len() > 20, "{}", plan.groups.len());
            let seen = |i: usize| direction_of(projection, field.ideal[i], f, 1.0).unwrap();
            for group in &plan.groups {
                assert!((4..=10).contains(&group.len()) && group.is_sorted());
                let spread = group.iter().flat_map(|&i| group.iter().map(move |&j| (i, j)));
                assert!(spread.into_iter().all(|(i, j)| seen(i).dot(&seen(j)) >= 0.7_f64.cos() - 1e-9));
            }
            // Bright stars are in groups wherever they are.
            assert!((0..20).all(|i| plan.groups.iter().any(|group| group.contains(&i))));
        }
    }

    #[test]
    fn few_or_far_detections_are_no_trouble() {
        let fisheye = field(Projection::Orthographic, 300.0, 3);
        let plan = Plan::new(&fisheye, [0.3, 0.7], 300.0, 24);
        assert!(plan.groups.is_empty() && plan.end() == 0);
    }
}
