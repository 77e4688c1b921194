"""Solve frames of the sky blind, calibrate the camera, align frames, notice when it moves."""

from boresight.centroids import Centroid as Centroid
from boresight.centroids import CentroidFlags as CentroidFlags
from boresight.centroids import Centroids as Centroids
from boresight.errors import BoresightError as BoresightError
from boresight.errors import FileFormatError as FileFormatError
from boresight.errors import InputError as InputError
from boresight.errors import UndeterminedError as UndeterminedError
from boresight.extract import ExtractionResult as ExtractionResult
from boresight.extract import extract_centroids as extract_centroids
