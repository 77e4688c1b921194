//! Stars before and after their fit.

use crate::imaging::centroid::Moments;

/// A star farther than this from the middle of its stamp, in pixels along an axis, gets a new stamp.
const ASTRAY: f32 = 0.75;

/// A star to be fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Source {
    /// Column and row of the pixel in the middle of its stamp.
    pub pixel: [isize; 2],
    /// Position relative to the centre of that pixel, in pixels.
    pub offset: [f32; 2],
    /// Total light of the star on its stamp.
    pub flux: f32,
}

impl Source {
    /// Whether the star is too far from the middle of its stamp.
    pub(crate) fn is_astray(&self) -> bool {
        self.offset.iter().any(|o| o.abs() > ASTRAY)
    }

    /// The star with a stamp centred on its nearest pixel, if it is too far from the middle of the present
    /// one.
    pub(crate) fn recentred(self) -> Self {
        if !self.is_astray() {
            return self;
        }
        let whole = self.offset.map(f32::round);
        Self {
            pixel: [0, 1].map(|k| self.pixel[k] + whole[k] as isize),
            offset: [0, 1].map(|k| self.offset[k] - whole[k]),
            ..self
        }
    }

    /// Distance to another star, in pixels.
    pub(crate) fn distance(&self, other: &Self) -> f32 {
        let [x, y] =
            [0, 1].map(|k| (other.pixel[k] - self.pixel[k]) as f32 + other.offset[k] - self.offset[k]);
        x.hypot(y)
    }
}

/// The fit of a star.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub source: Source,
    /// Covariance of the position: xx, xy, yy.
    pub covariance: Moments,
    pub flux_error: f32,
    /// Sum of the squared residuals, each divided by its variance.
    pub chi2: f32,
    /// Number of pixels in that sum.
    pub pixels: f32,
    /// Covariance of x, y and flux: upper triangle.
    pub(super) inverse: [f32; 6],
    /// Whether further steps would not change the star.
    pub(super) settled: bool,
}

impl Fit {
    /// The state of a star that is not yet fitted.
    pub(crate) fn guess(source: Source) -> Self {
        Self {
            source,
            covariance: [1.0, 0.0, 1.0],
            flux_error: f32::INFINITY,
            chi2: 0.0,
            pixels: 0.0,
            inverse: [0.0; 6],
            settled: false,
        }
    }

    /// The fit with the star [recentred](Source::recentred). If its stamp changes, the star is no longer
    /// settled.
    pub(crate) fn recentred(self) -> Self {
        let source = self.source.recentred();
        if source == self.source { self } else { Self { settled: false, source, ..self } }
    }

    /// Signal-to-noise ratio: flux over its error.
    pub(super) fn snr(&self) -> f32 {
        self.source.flux / self.flux_error
    }

    /// The fit marked as not settled, so that it is continued.
    pub(crate) fn unsettled(self) -> Self {
        Self { settled: false, ..self }
    }

    /// Covariance of x, y and flux, as a full matrix.
    pub(crate) fn inverse(&self) -> [[f32; 3]; 3] {
        let [xx, xy, xf, yy, yf, ff] = self.inverse;
        [[xx, xy, xf], [xy, yy, yf], [xf, yf, ff]]
    }
}
