//! The noise of pixels with stars on them.

/// Relative error of the point-spread function that is counted at most in the weights of pixels.
const MAX_WEIGHT_ERROR: f32 = 0.03;

/// Variance of a pixel: `σ² + photon · light + model · light²`, of the light of all stars on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Noise {
    /// Units of the image per electron.
    pub photon: f32,
    /// Square of the relative error of the point-spread function.
    pub model: f32,
}

impl Noise {
    #[inline]
    pub(crate) fn variance(self, background: f32, light: f32) -> f32 {
        let light = light.max(0.0);
        background + self.photon * light + self.model * light * light
    }

    /// The variance to weight pixels with, which grows with the light no more than is sure.
    ///
    /// Where the point-spread function is not known well, its error, and stars too faint to see, pass for photon noise.
    /// Counted in full they would leave a bright star to its faint wings, and to neighbouring stars.
    #[inline]
    pub(super) fn weighting(self) -> Self {
        let known = MAX_WEIGHT_ERROR * MAX_WEIGHT_ERROR;
        if self.model <= known {
            self
        } else {
            Self { photon: self.photon * known / self.model, model: known }
        }
    }
}
