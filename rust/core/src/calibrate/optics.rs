//! The optics that the frames of a calibration share.

use crate::geometry::camera::CameraModel;
use crate::geometry::rig::Rig;

/// Optics that all frames share: the lens, and the detectors behind it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Optics {
    pub(super) camera: CameraModel,
    pub(super) rig: Rig,
}

impl From<CameraModel> for Optics {
    /// A camera with one detector.
    fn from(camera: CameraModel) -> Self {
        Self { camera, rig: Rig::default() }
    }
}
