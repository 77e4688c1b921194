"""Calibration: one camera model from the stars of many frames."""

from boresight.calibration.calibrate import calibrate as calibrate
from boresight.calibration.fit import calibrate_camera as calibrate_camera
from boresight.calibration.point_pairs import PointPairCalibration as PointPairCalibration
from boresight.calibration.result import CalibrationResult as CalibrationResult
from boresight.calibration.result import DetectorMap as DetectorMap
from boresight.calibration.result import FrameCalibration as FrameCalibration
