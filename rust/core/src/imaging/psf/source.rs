//! Stars that are fitted.

use crate::imaging::centroid::Moments;

/// A star further than this from the middle of its stamp, in pixels along an axis, gets a new stamp.
const ASTRAY: f32 = 0.75;

/// A star to be fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Source {
    /// Column and row of the pixel in the middle of its stamp.
    pub pixel: [isize; 2],
    /// Position from there.
    pub offset: [f32; 2],
    /// Light on its stamp.
    pub flux: f32,
}

impl Source {
    /// Whether it has left the middle of its stamp.
    pub(crate) fn is_astray(&self) -> bool {
        self.offset.iter().any(|o| o.abs() > ASTRAY)
    }

    /// The same star on a stamp about the pixel it is on.
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

    /// Distance to another in pixels.
    pub(crate) fn distance(&self, other: &Self) -> f32 {
        let [x, y] =
            [0, 1].map(|k| (other.pixel[k] - self.pixel[k]) as f32 + other.offset[k] - self.offset[k]);
        x.hypot(y)
    }
}

/// A star fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub source: Source,
    /// Covariance of x, y: xx, xy, yy.
    pub covariance: Moments,
    pub flux_error: f32,
    /// Sum of squared residuals over their variance, and their number.
    pub chi2: f32,
    pub pixels: f32,
    /// Covariance of x, y and flux.
    pub(super) inverse: [f32; 6],
    pub(super) settled: bool,
}

impl Fit {
    /// A star yet to be fitted.
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

    /// The same star on a stamp about the pixel it is on, to be fitted anew if that is another one.
    pub(crate) fn recentred(self) -> Self {
        let source = self.source.recentred();
        if source == self.source { self } else { Self { settled: false, source, ..self } }
    }

    /// Light over its error.
    pub(super) fn snr(&self) -> f32 {
        self.source.flux / self.flux_error
    }

    /// The same star, to be fitted further.
    pub(crate) fn unsettled(self) -> Self {
        Self { settled: false, ..self }
    }

    /// Covariance of x, y and flux, in full.
    pub(crate) fn inverse(&self) -> [[f32; 3]; 3] {
        let [xx, xy, xf, yy, yf, ff] = self.inverse;
        [[xx, xy, xf], [xy, yy, yf], [xf, yf, ff]]
    }
}
