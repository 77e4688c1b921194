//! Freedom of the position of an image: the movements that are fitted.

use crate::error::{Error, Result};

/// Movements that are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freedom {
    /// No movement.
    #[default]
    Fixed,
    /// A shift.
    Shift,
    /// A shift and a rotation.
    Rshift,
    /// A shift, a rotation and one scale.
    Rscale,
    /// A shift and any matrix.
    General,
    /// The attitude and the focal length of a camera; allowed only where there is a camera.
    Attitude,
}

impl Freedom {
    /// The freedom of this name.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "fixed" => Self::Fixed,
            "shift" => Self::Shift,
            "rshift" => Self::Rshift,
            "rscale" => Self::Rscale,
            "general" => Self::General,
            "attitude" => Self::Attitude,
            other => {
                return Err(Error::argument(
                    "freedom",
                    format!("{other:?} is unknown"),
                    "give 'fixed', 'shift', 'rshift', 'rscale', 'general' or 'attitude'",
                ));
            }
        })
    }

    /// Number of parameters.
    pub fn parameters(self) -> usize {
        match self {
            Self::Fixed => 0,
            Self::Shift => 2,
            Self::Rshift => 3,
            Self::Rscale | Self::Attitude => 4,
            Self::General => 6,
        }
    }
}

/// An affine transformation, a 2 × 2 matrix followed by a shift: `M u + t`.
///
/// The parameters are the shift and, depending on the freedom, the angle φ of `M = R(φ)`, φ and the scale s
/// of `M = s R(φ)`, or the elements of `M - 1` by rows. `R(φ)` has the rows (cos φ, -sin φ) and
/// (sin φ, cos φ).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The matrix by rows.
    pub matrix: [[f64; 2]; 2],
    /// The shift.
    pub shift: [f64; 2],
}

impl Affine {
    /// The identity.
    pub const IDENTITY: Self = Self { matrix: [[1.0, 0.0], [0.0, 1.0]], shift: [0.0; 2] };

    /// Transformation with the parameters of a freedom.
    pub fn new(freedom: Freedom, parameters: &[f64]) -> Self {
        let matrix = match freedom {
            Freedom::Fixed | Freedom::Attitude => return Self::IDENTITY,
            Freedom::Shift => Self::IDENTITY.matrix,
            Freedom::Rshift => rotation(parameters[2], 1.0),
            Freedom::Rscale => rotation(parameters[2], parameters[3]),
            Freedom::General => [[1.0 + parameters[2], parameters[3]], [parameters[4], 1.0 + parameters[5]]],
        };
        Self { matrix, shift: [parameters[0], parameters[1]] }
    }

    /// Parameters of a freedom that give the identity.
    pub fn start(freedom: Freedom) -> Vec<f64> {
        match freedom {
            Freedom::Fixed => vec![],
            Freedom::Shift => vec![0.0; 2],
            Freedom::Rshift => vec![0.0; 3],
            Freedom::Rscale => vec![0.0, 0.0, 0.0, 1.0],
            Freedom::General => vec![0.0; 6],
            Freedom::Attitude => vec![0.0; 4],
        }
    }

    /// Transforms a point.
    #[inline]
    pub fn apply(&self, u: [f64; 2]) -> [f64; 2] {
        let [[a, b], [c, d]] = self.matrix;
        [a * u[0] + b * u[1] + self.shift[0], c * u[0] + d * u[1] + self.shift[1]]
    }

    /// Derivatives of [`Self::apply`] by the parameters, as many as the freedom has.
    #[inline]
    pub fn derivatives(&self, freedom: Freedom, [x, y]: [f64; 2]) -> [[f64; 2]; 6] {
        let [[a, b], [c, d]] = self.matrix;
        let mut by = [[1.0, 0.0], [0.0, 1.0], [0.0; 2], [0.0; 2], [0.0; 2], [0.0; 2]];
        match freedom {
            Freedom::Rshift | Freedom::Rscale => {
                // The matrix is s (cos, -sin; sin, cos).
                by[2] = [b * x - a * y, d * x - c * y];
                let scale = a.hypot(c);
                by[3] = [(a * x + b * y) / scale, (c * x + d * y) / scale];
            }
            Freedom::General => {
                by[2] = [x, 0.0];
                by[3] = [y, 0.0];
                by[4] = [0.0, x];
                by[5] = [0.0, y];
            }
            Freedom::Fixed | Freedom::Shift | Freedom::Attitude => {}
        }
        by
    }
}

fn rotation(phi: f64, scale: f64) -> [[f64; 2]; 2] {
    let (sin, cos) = phi.sin_cos();
    [[scale * cos, -scale * sin], [scale * sin, scale * cos]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_movement() {
        for (freedom, parameters) in [
            (Freedom::Shift, vec![0.5, -2.0]),
            (Freedom::Rshift, vec![0.5, -2.0, 0.3]),
            (Freedom::Rscale, vec![0.5, -2.0, 0.3, 1.2]),
            (Freedom::General, vec![0.5, -2.0, 0.1, 0.2, -0.3, 0.05]),
        ] {
            let at = [3.0, -7.0];
            let by = Affine::new(freedom, &parameters).derivatives(freedom, at);
            assert_eq!(parameters.len(), freedom.parameters());
            for k in 0..parameters.len() {
                let moved = |step: f64| {
                    let mut p = parameters.clone();
                    p[k] += step;
                    Affine::new(freedom, &p).apply(at)
                };
                let (high, low) = (moved(1e-6), moved(-1e-6));
                for axis in 0..2 {
                    assert!((by[k][axis] - (high[axis] - low[axis]) / 2e-6).abs() < 1e-7, "{freedom:?} {k}");
                }
            }
        }
        assert_eq!(Affine::new(Freedom::General, &Affine::start(Freedom::General)), Affine::IDENTITY);
        assert!(Freedom::from_name("rotate").is_err());
    }
}
