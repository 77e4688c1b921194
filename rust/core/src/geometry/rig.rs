//! A rig: several detectors behind one lens, at fixed places of its focal plane.
//!
//! The first detector is the reference: it lies at the origin and is not rotated. The others are placed
//! relative to the reference, as in the rigs of COLMAP. One [`CameraModel`](super::camera::CameraModel)
//! describes the lens for the whole focal plane; its pixels are counted from the rig's centre.

use super::distortion::{Jacobian, Point};

/// Placement of a detector in the focal plane: a shift and a rotation of its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    shift: Point,
    rotation: f64,
    cos: f64,
    sin: f64,
}

impl Default for Placement {
    /// The placement of the reference detector.
    fn default() -> Self {
        Self { shift: [0.0; 2], rotation: 0.0, cos: 1.0, sin: 0.0 }
    }
}

impl Placement {
    /// Placement of a detector whose centre is shifted by `shift` pixels, and which is rotated from x towards
    /// y, in radians.
    pub fn new(shift: Point, rotation: f64) -> Self {
        let (sin, cos) = rotation.sin_cos();
        Self { shift, rotation, cos, sin }
    }

    /// The placement that best maps pixels to points of the focal plane, in the least-squares sense.
    ///
    /// Each pair is (pixel, point). `None` if no two pixels differ, or a point is not finite.
    pub fn from_pairs(pairs: &[(Point, Point)]) -> Option<Self> {
        let count = pairs.len() as f64;
        let mean = |which: fn(&(Point, Point)) -> Point| {
            let sum = pairs.iter().map(which).fold([0.0; 2], |[x, y], [u, v]| [x + u, y + v]);
            sum.map(|c| c / count)
        };
        let (middle, target) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut along, mut across) = (0.0, 0.0);
        for (pixel, point) in pairs {
            let [x, y] = [pixel[0] - middle[0], pixel[1] - middle[1]];
            let [u, v] = [point[0] - target[0], point[1] - target[1]];
            along += x * u + y * v;
            across += x * v - y * u;
        }
        if !(along.hypot(across) > 0.0 && along.hypot(across).is_finite()) {
            return None;
        }
        let turned = Self::new([0.0; 2], across.atan2(along));
        let [x, y] = turned.to_focal_plane(middle);
        Some(Self { shift: [target[0] - x, target[1] - y], ..turned })
    }

    /// Position of the detector's centre, in pixels from the centre of the reference detector.
    pub fn shift(&self) -> Point {
        self.shift
    }

    /// Rotation of the detector from x towards y, radians.
    pub fn rotation(&self) -> f64 {
        self.rotation
    }

    /// Converts a pixel to a position in the focal plane.
    #[inline]
    pub fn to_focal_plane(&self, [x, y]: Point) -> Point {
        let [x, y] = self.turn([x, y]);
        [x + self.shift[0], y + self.shift[1]]
    }

    /// Converts a position in the focal plane to a pixel: the inverse of [`Self::to_focal_plane`].
    #[inline]
    pub fn from_focal_plane(&self, [x, y]: Point) -> Point {
        let [x, y] = [x - self.shift[0], y - self.shift[1]];
        [self.cos * x + self.sin * y, self.cos * y - self.sin * x]
    }

    /// Rotates a vector from the pixel axes of the detector to the axes of the focal plane.
    #[inline]
    pub fn turn(&self, [x, y]: Point) -> Point {
        [self.cos * x - self.sin * y, self.sin * x + self.cos * y]
    }

    /// Converts the Jacobian of a vector in the focal plane to that of the same vector in pixels of the
    /// detector.
    #[inline]
    pub(crate) fn back(&self, &[[a, b], [c, d]]: &Jacobian) -> Jacobian {
        let (cos, sin) = (self.cos, self.sin);
        [[cos * a + sin * c, cos * b + sin * d], [cos * c - sin * a, cos * d - sin * b]]
    }

    /// The same placement relative to another origin in the focal plane.
    #[must_use]
    pub fn from_origin(&self, origin: Point) -> Self {
        Self { shift: [self.shift[0] - origin[0], self.shift[1] - origin[1]], ..*self }
    }
}

/// Detectors behind one lens.
#[derive(Debug, Clone, PartialEq)]
pub struct Rig {
    placements: Vec<Placement>,
    center: Point,
}

impl Default for Rig {
    /// A single detector, as in a plain camera.
    fn default() -> Self {
        Self { placements: vec![Placement::default()], center: [0.0; 2] }
    }
}

impl Rig {
    /// Makes a rig of the reference detector and others. The pixels of the camera are counted from `center`,
    /// a position in the focal plane.
    pub fn new(others: impl IntoIterator<Item = Placement>, center: Point) -> Self {
        Self { placements: std::iter::once(Placement::default()).chain(others).collect(), center }
    }

    /// The placements of all detectors, the reference first.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Origin of the camera's pixels, in pixels from the centre of the reference detector.
    pub fn center(&self) -> Point {
        self.center
    }

    /// Placement of a detector in the pixels of the camera: the origin is the rig's centre.
    #[inline]
    pub fn in_camera(&self, detector: usize) -> Placement {
        self.placements[detector].from_origin(self.center)
    }
}

/// Centre and size of the smallest upright rectangle around detectors of these image sizes.
pub fn bounds(detectors: impl IntoIterator<Item = (Placement, [u32; 2])>) -> (Point, [u32; 2]) {
    // Rounding must not make a rectangle larger by a whole pixel.
    const ROUNDING_PX: f64 = 1e-6;
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for (placement, size) in detectors {
        let [width, height] = size.map(|side| 0.5 * f64::from(side));
        for corner in [[-width, -height], [width, -height], [-width, height], [width, height]] {
            let point = placement.to_focal_plane(corner);
            low = std::array::from_fn(|k| low[k].min(point[k]));
            high = std::array::from_fn(|k| high[k].max(point[k]));
        }
    }
    let center = std::array::from_fn(|k| 0.5 * (low[k] + high[k]));
    (center, std::array::from_fn(|k| (high[k] - low[k] - ROUNDING_PX).ceil().max(0.0) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apart(a: Point, b: Point) -> f64 {
        (a[0] - b[0]).hypot(a[1] - b[1])
    }

    proptest! {
        #[test]
        fn there_and_back(
            shift in prop::array::uniform2(-1e4..1e4f64),
            rotation in -7.0..7.0f64,
            pixel in prop::array::uniform2(-1e4..1e4f64),
        ) {
            let placement = Placement::new(shift, rotation);
            prop_assert!(apart(placement.from_focal_plane(placement.to_focal_plane(pixel)), pixel) < 1e-10);
            let origin = [12.0, -7.0];
            let seen = placement.from_origin(origin).to_focal_plane(pixel);
            let there = placement.to_focal_plane(pixel);
            prop_assert!(apart(seen, [there[0] - origin[0], there[1] - origin[1]]) < 1e-10);
            let pixels = [pixel, [pixel[0] + 100.0, pixel[1]], [pixel[0], pixel[1] + 50.0]];
            let found = Placement::from_pairs(&pixels.map(|p| (p, placement.to_focal_plane(p)))).unwrap();
            prop_assert!(apart(found.to_focal_plane([0.0; 2]), shift) < 1e-6);
            prop_assert!((found.rotation() - rotation).sin().abs() < 1e-10);
        }
    }

    #[test]
    fn the_reference_changes_nothing() {
        let pixel = [0.1 + 0.2, -1e5 / 3.0];
        assert_eq!(Rig::default().in_camera(0).to_focal_plane(pixel), pixel);
        assert!(Placement::from_pairs(&[(pixel, pixel)]).is_none());
    }

    #[test]
    fn bounds_hold_all_corners() {
        let turned = Placement::new([100.0, 0.0], std::f64::consts::FRAC_PI_2);
        let (center, size) = bounds([(Placement::default(), [100, 40]), (turned, [100, 40])]);
        assert!(apart(center, [35.0, 0.0]) < 1e-12);
        assert_eq!(size, [170, 100]);
    }
}
