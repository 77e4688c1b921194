"""Solve star fields blind, calibrate cameras, align frames, and detect camera movement."""

from typing import TYPE_CHECKING

from boresight._utils.thread_limit import limit_threads as limit_threads
from boresight.apparent.aberration import earth_barycentric_velocity as earth_barycentric_velocity
from boresight.apparent.place import ApparentPlace as ApparentPlace
from boresight.apparent.refraction import Refraction as Refraction
from boresight.calibration.calibrate import calibrate as calibrate
from boresight.calibration.fit import calibrate_camera as calibrate_camera
from boresight.calibration.result import CalibrationResult as CalibrationResult
from boresight.calibration.result import DetectorMap as DetectorMap
from boresight.calibration.result import FrameCalibration as FrameCalibration
from boresight.camera.distortion import PolynomialDistortion as PolynomialDistortion
from boresight.camera.distortion import RadialDistortion as RadialDistortion
from boresight.camera.model import CameraModel as CameraModel
from boresight.catalog.catalog import Catalog as Catalog
from boresight.catalog.columns import Star as Star
from boresight.database.parameters import DatabaseParameters as DatabaseParameters
from boresight.database.parameters import SizeEstimate as SizeEstimate
from boresight.errors import BoresightError as BoresightError
from boresight.errors import FileFormatError as FileFormatError
from boresight.errors import InputError as InputError
from boresight.errors import NarrowFieldError as NarrowFieldError
from boresight.errors import TimeLimitError as TimeLimitError
from boresight.errors import UndeterminedError as UndeterminedError
from boresight.extraction.centroids import Centroids as Centroids
from boresight.extraction.extract import ExtractionResult as ExtractionResult
from boresight.extraction.extract import Extractor as Extractor
from boresight.extraction.extract import extract_centroids as extract_centroids
from boresight.extraction.flags import CentroidFlags as CentroidFlags
from boresight.extraction.stars import Centroid as Centroid
from boresight.frames.frame import Frame as Frame
from boresight.frames.read import read_frame as read_frame
from boresight.solver.matches import MatchedStars as MatchedStars
from boresight.solver.solution import Solution as Solution
from boresight.solver.solve import solve as solve
from boresight.solver.solve import solve_from_centroids as solve_from_centroids
from boresight.solver.solve import solve_many as solve_many
from boresight.solver_database import SolverDatabase as SolverDatabase

if TYPE_CHECKING:
    from boresight import alignment as alignment
    from boresight import movement as movement
    from boresight import plot as plot
    from boresight import scene as scene
    from boresight import simulate as simulate
    from boresight import wcs as wcs
    from boresight.alignment.align import align as align
    from boresight.alignment.images import ImageCatalog as ImageCatalog
    from boresight.alignment.images import ImageGroup as ImageGroup
    from boresight.calibration.blocks import CalibrationBlock as CalibrationBlock
    from boresight.calibration.blocks import CalibrationStep as CalibrationStep
    from boresight.calibration.blocks import calibration_block as calibration_block
    from boresight.calibration.rig import Detector as Detector
    from boresight.calibration.rig import MosaicResult as MosaicResult
    from boresight.calibration.rig import calibrate_mosaic as calibrate_mosaic
    from boresight.report.page import report as report
    from boresight.simulate import SimulatedFrame as SimulatedFrame
    from boresight.simulate import simulate_frame as simulate_frame
    from boresight.solver.certificate import Certificate as Certificate
    from boresight.solver.certificate import FalseAlarms as FalseAlarms
    from boresight.solver.certificate import certify as certify
    from boresight.solver.diagnosis import Diagnosis as Diagnosis
    from boresight.solver.diagnosis import diagnose as diagnose
    from boresight.solver.tracker import Tracker as Tracker

    __version__: str
    """Version of the package."""

CalibrateResult = CalibrationResult
"""Name of `CalibrationResult` in version 0.1."""

# Packages that are imported when they are first used.
_PACKAGES = ("alignment", "batch", "movement", "plot", "report", "scene", "simulate", "wcs")

# Names that not every program needs; they are imported on first use.
_LATER = {
    "align": "boresight.alignment.align",
    "ImageCatalog": "boresight.alignment.images",
    "ImageGroup": "boresight.alignment.images",
    "CalibrationBlock": "boresight.calibration.blocks",
    "CalibrationStep": "boresight.calibration.blocks",
    "calibration_block": "boresight.calibration.blocks",
    "Detector": "boresight.calibration.rig",
    "MosaicResult": "boresight.calibration.rig",
    "calibrate_mosaic": "boresight.calibration.rig",
    "Certificate": "boresight.solver.certificate",
    "FalseAlarms": "boresight.solver.certificate",
    "certify": "boresight.solver.certificate",
    "Diagnosis": "boresight.solver.diagnosis",
    "diagnose": "boresight.solver.diagnosis",
    "SimulatedFrame": "boresight.simulate",
    "simulate_frame": "boresight.simulate",
    "Tracker": "boresight.solver.tracker",
}


if not TYPE_CHECKING:  # type checkers see all names above, and find misspelt ones

    def __getattr__(name: str) -> object:
        from importlib import import_module
        from importlib.metadata import version

        if name == "__version__":
            value = version("boresight")
        elif name in _PACKAGES:
            value = import_module(f"boresight.{name}")
        elif name in _LATER:
            value = getattr(import_module(_LATER[name]), name)
        else:
            from difflib import get_close_matches

            near = get_close_matches(name, __dir__(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttributeError(f"module 'boresight' has no attribute {name!r}{hint}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_PACKAGES, "__version__"})
