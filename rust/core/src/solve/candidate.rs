//! Computes a pointing from a pattern of four detections and a pattern of four catalogue stars.

use super::field::{Pointing, direction_of};
use crate::geometry::attitude::Attitude;
use crate::geometry::distortion::Point;
use crate::geometry::projection::Projection;
use crate::geometry::sphere::Direction;

/// The two of four stars joined by each edge.
const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// All orders of four stars.
const ORDERS: [[usize; 4]; 24] = [
    [0, 1, 2, 3],
    [0, 1, 3, 2],
    [0, 2, 1, 3],
    [0, 2, 3, 1],
    [0, 3, 1, 2],
    [0, 3, 2, 1],
    [1, 0, 2, 3],
    [1, 0, 3, 2],
    [1, 2, 0, 3],
    [1, 2, 3, 0],
    [1, 3, 0, 2],
    [1, 3, 2, 0],
    [2, 0, 1, 3],
    [2, 0, 3, 1],
    [2, 1, 0, 3],
    [2, 1, 3, 0],
    [2, 3, 0, 1],
    [2, 3, 1, 0],
    [3, 0, 1, 2],
    [3, 0, 2, 1],
    [3, 1, 0, 2],
    [3, 1, 2, 0],
    [3, 2, 0, 1],
    [3, 2, 1, 0],
];

/// Edge lengths (chords) of four directions, in the order of [`EDGES`].
fn edges(stars: &[Direction; 4]) -> [f64; 6] {
    EDGES.map(|(i, j)| (stars[i] - stars[j]).norm())
}

fn edge_index(i: usize, j: usize) -> usize {
    let (i, j) = (i.min(j), i.max(j));
    if i == 0 { j - 1 } else { i + j }
}

/// The order of the catalogue's stars that fits the image's best, if every edge relative to the longest
/// agrees within `tolerance`.
fn best_order(image: &[f64; 6], catalog: &[f64; 6], tolerance: f64) -> Option<[usize; 4]> {
    let longest = |edges: &[f64; 6]| edges.iter().copied().fold(0.0, f64::max);
    let (image_scale, catalog_scale) = (1.0 / longest(image), 1.0 / longest(catalog));
    let mut best = (None, f64::INFINITY);
    'orders: for order in &ORDERS {
        let mut sum = 0.0;
        for (edge, &(i, j)) in image.iter().zip(&EDGES) {
            let other = catalog[edge_index(order[i], order[j])];
            let miss = (edge * image_scale - other * catalog_scale).abs();
            sum += miss * miss;
            if miss > tolerance || sum >= best.1 {
                continue 'orders;
            }
        }
        best = (Some(*order), sum);
    }
    best.0
}

/// Whether the image's stars have the opposite orientation to the catalogue's, judged by the largest
/// triangle.
fn is_mirrored(image: &[Direction; 4], catalog: &[Direction; 4]) -> bool {
    let volume = |s: &[Direction; 4], t: [usize; 3]| s[t[0]].dot(&s[t[1]].cross(&s[t[2]]));
    let triangles = [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]];
    let (from_image, from_catalog) = triangles
        .map(|t| (volume(image, t), volume(catalog, t)))
        .into_iter()
        .max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))
        .unwrap_or_default();
    from_image * from_catalog < 0.0
}

/// Four detections in the ideal plane, and an assumed focal length.
pub(super) struct ImagePattern {
    pub(super) ideal: [Point; 4],
    pub(super) focal_length: f64,
    pub(super) projection: Projection,
}

impl ImagePattern {
    /// Directions of the detections in the camera frame; `None` when one is outside the projection's image.
    fn directions(&self, focal_length: f64, parity: f64) -> Option<[Direction; 4]> {
        let [a, b, c, d] = self.ideal.map(|point| direction_of(self.projection, point, focal_length, parity));
        Some([a?, b?, c?, d?])
    }

    /// The pointing that maps the catalogue's stars to the detections, with the focal length fitted to the
    /// edges.
    ///
    /// `parity` restricts the answer to 1 (as the sky is) or -1 (mirrored). `None` when the shapes differ by more
    /// than `tolerance` (relative to the longest edge).
    pub(super) fn point_at(
        &self,
        catalog: &[Direction; 4],
        parity: Option<f64>,
        tolerance: f64,
    ) -> Option<Pointing> {
        let seen = self.directions(self.focal_length, 1.0)?;
        let catalog_edges = edges(catalog);
        let order = best_order(&edges(&seen), &catalog_edges, tolerance)?;
        let catalog = order.map(|i| catalog[i]);
        let found = if is_mirrored(&seen, &catalog) { -1.0 } else { 1.0 };
        if parity.is_some_and(|p| p != found) {
            return None;
        }
        let catalog_length: f64 = catalog_edges.iter().sum();
        let mut focal_length = self.focal_length;
        for _ in 0..2 {
            // Angles are not exactly proportional to 1/f: the second step corrects the remaining error of the
            // first.
            let seen = edges(&self.directions(focal_length, found)?);
            focal_length *= seen.iter().sum::<f64>() / catalog_length;
        }
        let seen = self.directions(focal_length, found)?;
        let attitude = Attitude::from_pairs(seen.iter().zip(&catalog).map(|(c, s)| (c, s, 1.0)))?;
        Some(Pointing { attitude, focal_length, parity: found, projection: self.projection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_numbered_as_listed() {
        for (n, (i, j)) in EDGES.into_iter().enumerate() {
            assert_eq!((edge_index(i, j), edge_index(j, i)), (n, n));
        }
    }

    proptest! {
        #[test]
        fn a_pattern_gives_its_pointing_back(
            ra in 0.0..6.2, dec in -1.4..1.4, roll in -3.1..3.1, parity_flip: bool, scale in 0.8..1.25, order in 0_usize..24,
            projection in 0_usize..5,
        ) {
            let truth = Pointing {
                attitude: Attitude::from_pointing(ra, dec, roll),
                focal_length: 2000.0,
                parity: if parity_flip { -1.0 } else { 1.0 },
                projection: Projection::ALL[projection],
            };
            let ideal = [[-300.0, 20.0], [250.0, -110.0], [30.0, 330.0], [-40.0, -200.0]];
            let sky = ideal.map(|p| truth.unproject(p).unwrap());
            let catalog = ORDERS[order].map(|i| sky[i]);
            let pattern =
                ImagePattern { ideal, focal_length: 2000.0 * scale, projection: truth.projection };
            let found = pattern.point_at(&catalog, None, 0.02).unwrap();
            prop_assert_eq!(found.parity, truth.parity);
            prop_assert!((found.focal_length / 2000.0 - 1.0).abs() < 1e-3);
            prop_assert!(found.attitude.angle_to(&truth.attitude) < 1e-3);
            prop_assert!(pattern.point_at(&catalog, Some(-truth.parity), 0.02).is_none());
        }
    }
}
