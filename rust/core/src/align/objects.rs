//! Objects of a joint fit: their positions, and how these change between exposures.
//!
//! An object has a displacement east and north from its expected position, and optionally a proper motion and
//! a parallax relative to those of its catalogue. These D parameters b displace a detection by `J T(t) b`.

use nalgebra::SMatrix;

use crate::geometry::distortion::Point;

/// One detection of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Number of the exposure.
    pub exposure: u32,
    /// Position in the plane of the exposure.
    pub at: Point,
    /// Expected position of the object in that plane.
    pub expected: Point,
    /// Derivatives of the expected position with respect to displacements of the object, by rows.
    pub jacobian: [[f64; 2]; 2],
    /// Inverse variance per axis; 0 excludes the detection.
    pub weight: f64,
}

/// Motion model of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Motion {
    /// Position: 2 parameters.
    #[default]
    Still,
    /// Position and proper motion: 4 parameters.
    Proper,
    /// Position, proper motion and parallax: 5 parameters.
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

/// Time of a detection and its parallax factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Years since the reference epoch of the positions.
    pub years: f64,
    /// Displacement east and north per unit of parallax.
    pub parallax: Point,
}

/// Motion model of the objects and the times of their detections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Motions<'a> {
    /// Motion model, common to all objects.
    pub motion: Motion,
    /// Time of each detection; may be empty for objects without motion.
    pub epochs: &'a [Epoch],
}

impl Motions<'_> {
    /// Explains why the epochs do not fit this number of detections; `None` if they do.
    pub(super) fn problem(&self, detections: usize) -> Option<&'static str> {
        if self.motion == Motion::Still {
            return None;
        }
        let finite = |e: &Epoch| e.years.is_finite() && e.parallax.iter().all(|x| x.is_finite());
        if self.epochs.len() != detections {
            Some("not every detection has a time")
        } else if !self.epochs.iter().all(finite) {
            Some("a time is not finite")
        } else {
            None
        }
    }

    /// Derivatives of a detection's position in its plane with respect to the parameters of its object, by
    /// rows.
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

    /// Inverse of the normal equations of an object; `None` if they do not determine its parameters.
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
