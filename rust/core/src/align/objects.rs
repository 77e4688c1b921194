//! Objects of a joint fit: where they are, and how that changes between exposures.
//!
//! An object has a displacement east and north from where it is expected, and perhaps a proper motion and a parallax
//! beyond those of its catalogue: D parameters, of which a detection sees the displacement `J T(t) b`.

use nalgebra::SMatrix;

use crate::geometry::distortion::Point;

/// One detection of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Number of the exposure.
    pub exposure: u32,
    /// Where it is, in the plane of the exposure.
    pub at: Point,
    /// Where the object is expected in that plane.
    pub expected: Point,
    /// Derivatives of that place by displacements of the object, by rows.
    pub jacobian: [[f64; 2]; 2],
    /// Inverse variance per axis; 0 leaves it out.
    pub weight: f64,
}

/// Parameters of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Motion {
    /// A place: 2 parameters.
    #[default]
    Still,
    /// And a proper motion: 4.
    Proper,
    /// And a parallax: 5.
    Parallax,
}

impl Motion {
    /// Number of parameters.
    pub fn parameters(self) -> usize {
        match self {
            Self::Still => 2,
            Self::Proper => 4,
            Self::Parallax => 5,
        }
    }
}

/// When a detection was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Years from the epoch of the places.
    pub years: f64,
    /// Displacement east and north by a unit of parallax.
    pub parallax: Point,
}

/// How objects move.
#[derive(Debug, Clone, Copy, Default)]
pub struct Motions<'a> {
    /// Parameters of each object.
    pub motion: Motion,
    /// When each detection was made; may be empty when objects are still.
    pub epochs: &'a [Epoch],
}

impl Motions<'_> {
    /// Tells why they do not fit this many detections.
    pub(super) fn problem(&self, detections: usize) -> Option<&'static str> {
        if self.motion == Motion::Still {
            return None;
        }
        let finite = |e: &Epoch| e.years.is_finite() && e.parallax.iter().all(|x| x.is_finite());
        if self.epochs.len() != detections {
            Some("they have not a time each")
        } else if !self.epochs.iter().all(finite) {
            Some("a time is not finite")
        } else {
            None
        }
    }

    /// Displacements of a detection in its plane by the parameters of its object, by rows.
    pub(super) fn basis<const D: usize>(&self, detection: usize, jacobian: &[[f64; 2]; 2]) -> [[f64; D]; 2] {
        let mut basis = [[0.0; D]; 2];
        for (row, j) in basis.iter_mut().zip(jacobian) {
            row[..2].copy_from_slice(j);
            if D > 2 {
                let epoch = &self.epochs[detection];
                row[2] = epoch.years * j[0];
                row[3] = epoch.years * j[1];
                if D > 4 {
                    row[4] = epoch.parallax[0] * j[0] + epoch.parallax[1] * j[1];
                }
            }
        }
        basis
    }

    /// Inverse of the equations of an object; `None` when they do not determine it.
    pub(super) fn own<const D: usize>(
        &self,
        start: usize,
        detections: &[Detection],
        prior: SMatrix<f64, D, D>,
    ) -> Option<SMatrix<f64, D, D>> {
        let mut h = prior;
        for (i, d) in detections.iter().enumerate().filter(|(_, d)| d.weight > 0.0) {
            let basis = self.basis::<D>(start + i, &d.jacobian);
            for r in 0..D {
                for c in 0..D {
                    h[(r, c)] += d.weight * (basis[0][r] * basis[0][c] + basis[1][r] * basis[1][c]);
                }
            }
        }
        let found = h.cholesky()?.inverse();
        found.iter().all(|x| x.is_finite()).then_some(found)
    }
}
