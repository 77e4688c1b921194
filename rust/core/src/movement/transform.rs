//! Projective transforms of the plane, and the families of transforms by which movements are described.

use nalgebra::Matrix3;

use crate::error::{Error, Result};

/// A point in the plane.
pub(crate) type Point = [f64; 2];

/// Number of parameters of the largest family.
pub(crate) const MOST: usize = 8;

/// Families of transforms; each family includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A shift.
    Shift,
    /// A shift, a rotation and one scale.
    Similarity,
    /// Any linear transform and a shift.
    Affine,
    /// The transform between views of one plane from two places.
    Projective,
}

impl Kind {
    /// The family with this name.
    pub fn from_name(name: &str) -> Result<Self> {
        let all = [Self::Shift, Self::Similarity, Self::Affine, Self::Projective];
        all.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            Error::argument(
                "transform",
                format!("{name:?} is unknown"),
                "give 'shift', 'similarity', 'affine' or 'projective'",
            )
        })
    }

    /// Name of the family.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::Similarity => "similarity",
            Self::Affine => "affine",
            Self::Projective => "projective",
        }
    }

    /// Number of parameters: twice the number of pairs that determine the transform.
    pub fn parameters(self) -> usize {
        match self {
            Self::Shift => 2,
            Self::Similarity => 4,
            Self::Affine => 6,
            Self::Projective => MOST,
        }
    }

    /// Derivatives of the image of a point with respect to the parameters, given its image and its depth.
    ///
    /// With the reference point instead of the image, and depth 1, these are the rows of the linear equations
    /// for the parameters.
    pub(crate) fn derivatives(self, [x, y]: Point, [u, v]: Point, depth: f64) -> [[f64; MOST]; 2] {
        match self {
            Self::Shift => [pad([1.0, 0.0]), pad([0.0, 1.0])],
            Self::Similarity => [pad([x, -y, 1.0, 0.0]), pad([y, x, 0.0, 1.0])],
            Self::Affine => [pad([x, y, 1.0]), pad([0.0, 0.0, 0.0, x, y, 1.0])],
            Self::Projective => [
                [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y].map(|d| d / depth),
                [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y].map(|d| d / depth),
            ],
        }
    }

    /// The transform with these parameters.
    pub(crate) fn transform(self, p: &[f64]) -> Transform {
        let last = [0.0, 0.0, 1.0];
        Transform(match self {
            Self::Shift => [[1.0, 0.0, p[0]], [0.0, 1.0, p[1]], last],
            Self::Similarity => [[p[0], -p[1], p[2]], [p[1], p[0], p[3]], last],
            Self::Affine => [[p[0], p[1], p[2]], [p[3], p[4], p[5]], last],
            Self::Projective => [[p[0], p[1], p[2]], [p[3], p[4], p[5]], [p[6], p[7], 1.0]],
        })
    }

    /// Parameters of the identity transform.
    pub(crate) fn identity(self) -> Vec<f64> {
        match self {
            Self::Shift => vec![0.0; 2],
            Self::Similarity => vec![1.0, 0.0, 0.0, 0.0],
            Self::Affine => vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            Self::Projective => vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        }
    }
}

fn pad<const N: usize>(values: [f64; N]) -> [f64; MOST] {
    let mut row = [0.0; MOST];
    row[..N].copy_from_slice(&values);
    row
}

/// A projective transform, as the rows of its matrix for (x, y, 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform(pub [[f64; 3]; 3]);

impl Transform {
    /// The image of a point and its depth, which is zero or negative at and beyond the horizon.
    pub(crate) fn image_and_depth(&self, [x, y]: Point) -> (Point, f64) {
        let [u, v, w] = self.0.map(|[a, b, c]| a * x + b * y + c);
        ([u / w, v / w], w)
    }

    /// The image of a point; `None` at and beyond the horizon.
    pub fn apply(&self, point: [f64; 2]) -> Option<[f64; 2]> {
        let (image, depth) = self.image_and_depth(point);
        (depth > 0.0 && image.iter().all(|c| c.is_finite())).then_some(image)
    }

    /// The inverse transform; `None` if there is none.
    pub fn inverse(&self) -> Option<Self> {
        let inverse = Matrix3::from_fn(|i, j| self.0[i][j]).try_inverse()?;
        let inverse = Self::of(&inverse);
        inverse.0.iter().flatten().all(|v| v.is_finite()).then_some(inverse)
    }

    /// The product of this transform and `next`, which is applied second.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let [first, second] = [self, next].map(|t| Matrix3::from_fn(|i, j| t.0[i][j]));
        Self::of(&(second * first))
    }

    fn of(m: &Matrix3<f64>) -> Self {
        // The matrix of a projective transform is defined up to a factor; by convention, its last element is
        // one.
        let scale = if m[(2, 2)] > 0.0 { m[(2, 2)] } else { 1.0 };
        Self(std::array::from_fn(|i| std::array::from_fn(|j| m[(i, j)] / scale)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [Kind::Shift, Kind::Similarity, Kind::Affine, Kind::Projective];
    const SOME: [f64; MOST] = [1.1, 0.2, 0.3, -0.1, 0.9, 0.4, 0.05, -0.03];

    #[test]
    fn derivatives_are_those_of_the_image() {
        const STEP: f64 = 1e-6;
        let point = [0.7, -0.4];
        for kind in KINDS {
            let parameters = &SOME[..kind.parameters()];
            let (image, depth) = kind.transform(parameters).image_and_depth(point);
            let derivatives = kind.derivatives(point, image, depth);
            for k in 0..parameters.len() {
                let moved = |step: f64| {
                    let mut moved = parameters.to_vec();
                    moved[k] += step;
                    kind.transform(&moved).apply(point).unwrap()
                };
                let (a, b) = (moved(-STEP), moved(STEP));
                for axis in 0..2 {
                    let numeric = (b[axis] - a[axis]) / (2.0 * STEP);
                    assert!((numeric - derivatives[axis][k]).abs() < 1e-8, "{kind:?} {k}");
                }
            }
        }
    }

    #[test]
    fn inverses_undo_and_products_follow() {
        for kind in KINDS {
            let transform = kind.transform(&SOME[..kind.parameters()]);
            let there = transform.apply([0.3, 0.8]).unwrap();
            let back = transform.inverse().unwrap().apply(there).unwrap();
            assert!((back[0] - 0.3).abs() < 1e-12 && (back[1] - 0.8).abs() < 1e-12);
            let twice = transform.then(&transform).apply([0.3, 0.8]).unwrap();
            let again = transform.apply(there).unwrap();
            assert!((twice[0] - again[0]).abs() < 1e-12 && (twice[1] - again[1]).abs() < 1e-12);
            assert_eq!(Kind::from_name(kind.name()), Ok(kind));
            assert_eq!(kind.transform(&kind.identity()).apply([3.0, 4.0]), Some([3.0, 4.0]));
        }
        assert!(Kind::from_name("elastic").is_err());
        assert!(Transform([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]]).inverse().is_none());
    }

    #[test]
    fn nothing_is_seen_beyond_the_horizon() {
        let tilted = Kind::Projective.transform(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -0.5, 0.0]);
        assert!(tilted.apply([1.9, 0.0]).is_some());
        assert!(tilted.apply([2.0, 0.0]).is_none() && tilted.apply([3.0, 0.0]).is_none());
    }
}
