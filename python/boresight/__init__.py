"""Solve frames of the sky blind, calibrate the camera, align frames, notice when it moves."""

from boresight.catalog import Catalog as Catalog
from boresight.catalog import Star as Star
from boresight.database import DatabaseParameters as DatabaseParameters
from boresight.database import SolverDatabase as SolverDatabase
from boresight.errors import BoresightError as BoresightError
from boresight.errors import FileFormatError as FileFormatError
from boresight.errors import InputError as InputError
from boresight.errors import UndeterminedError as UndeterminedError
