"""Solve frames of the sky blind, calibrate the camera, align frames, notice when it moves."""

from boresight.calibrate import CalibrateResult as CalibrateResult
from boresight.calibrate import FrameCalibration as FrameCalibration
from boresight.calibrate import calibrate_camera as calibrate_camera
from boresight.camera import CameraModel as CameraModel
from boresight.camera import PolynomialDistortion as PolynomialDistortion
from boresight.camera import RadialDistortion as RadialDistortion
from boresight.catalog import Catalog as Catalog
from boresight.catalog import Star as Star
from boresight.centroids import Centroid as Centroid
from boresight.centroids import CentroidFlags as CentroidFlags
from boresight.centroids import Centroids as Centroids
from boresight.database import DatabaseParameters as DatabaseParameters
from boresight.database import SolverDatabase as SolverDatabase
from boresight.errors import BoresightError as BoresightError
from boresight.errors import FileFormatError as FileFormatError
from boresight.errors import InputError as InputError
from boresight.errors import UndeterminedError as UndeterminedError
from boresight.extract import ExtractionResult as ExtractionResult
from boresight.extract import extract_centroids as extract_centroids
from boresight.frames import Frame as Frame
from boresight.frames import read_frame as read_frame
from boresight.simulate import SimulatedFrame as SimulatedFrame
from boresight.simulate import simulate_frame as simulate_frame
from boresight.solution import Solution as Solution
from boresight.solve import solve_from_centroids as solve_from_centroids
from boresight.velocity import earth_barycentric_velocity as earth_barycentric_velocity
