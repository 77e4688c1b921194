"""Solve frames of the sky blind, calibrate the camera, align frames, notice when it moves."""

from typing import TYPE_CHECKING, Any

from boresight.calibrating import calibrate as calibrate
from boresight.calibration import CalibrateResult as CalibrateResult
from boresight.calibration import DetectorMap as DetectorMap
from boresight.calibration import FrameCalibration as FrameCalibration
from boresight.camera import CameraModel as CameraModel
from boresight.camera import PolynomialDistortion as PolynomialDistortion
from boresight.camera import RadialDistortion as RadialDistortion
from boresight.camera_fit import calibrate_camera as calibrate_camera
from boresight.catalog import Catalog as Catalog
from boresight.catalog import Star as Star
from boresight.centroids import Centroid as Centroid
from boresight.centroids import CentroidFlags as CentroidFlags
from boresight.centroids import Centroids as Centroids
from boresight.database import SolverDatabase as SolverDatabase
from boresight.errors import BoresightError as BoresightError
from boresight.errors import FileFormatError as FileFormatError
from boresight.errors import InputError as InputError
from boresight.errors import UndeterminedError as UndeterminedError
from boresight.extract import ExtractionResult as ExtractionResult
from boresight.extract import Extractor as Extractor
from boresight.extract import extract_centroids as extract_centroids
from boresight.frames import Frame as Frame
from boresight.frames import read_frame as read_frame
from boresight.parameters import DatabaseParameters as DatabaseParameters
from boresight.parameters import SizeEstimate as SizeEstimate
from boresight.refraction import Refraction as Refraction
from boresight.solution import Solution as Solution
from boresight.solving import solve as solve
from boresight.solving import solve_from_centroids as solve_from_centroids
from boresight.solving import solve_many as solve_many
from boresight.velocity import earth_barycentric_velocity as earth_barycentric_velocity

if TYPE_CHECKING:
    from boresight.blocks import CalibrationBlock as CalibrationBlock
    from boresight.blocks import CalibrationStep as CalibrationStep
    from boresight.blocks import calibration_block as calibration_block
    from boresight.diagnosis import Diagnosis as Diagnosis
    from boresight.diagnosis import diagnose as diagnose
    from boresight.mosaic import Detector as Detector
    from boresight.mosaic import MosaicResult as MosaicResult
    from boresight.mosaic import calibrate_mosaic as calibrate_mosaic
    from boresight.simulate import SimulatedFrame as SimulatedFrame
    from boresight.simulate import simulate_frame as simulate_frame
    from boresight.tracking import Tracker as Tracker

# What not every program needs is imported when it is first asked for.
_LATER = {
    "CalibrationBlock": "boresight.blocks",
    "CalibrationStep": "boresight.blocks",
    "calibration_block": "boresight.blocks",
    "Detector": "boresight.mosaic",
    "MosaicResult": "boresight.mosaic",
    "calibrate_mosaic": "boresight.mosaic",
    "Diagnosis": "boresight.diagnosis",
    "diagnose": "boresight.diagnosis",
    "SimulatedFrame": "boresight.simulate",
    "simulate_frame": "boresight.simulate",
    "Tracker": "boresight.tracking",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "simulate":
        return import_module("boresight.simulate")
    if name not in _LATER:
        raise AttributeError(f"module 'boresight' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, "simulate"})
