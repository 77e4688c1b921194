"""Thousands of frames: extracted and solved with bounded memory, resumable after a kill.

Every function takes frames by path, glob or URL, works through them in processes of this machine or
on any executor (Dask's too), writes a row for each frame as it ends, and returns a table. A folder
of output that is there already is continued.
"""

from boresight.batch.calibrate import BatchCalibration as BatchCalibration
from boresight.batch.calibrate import calibrate as calibrate
from boresight.batch.extract import extract as extract
from boresight.batch.parquet import write_parquet as write_parquet
from boresight.batch.solve import solve as solve
from boresight.batch.table import read_results as read_results
from boresight.batch.tess import tess_ffi as tess_ffi

__all__ = [
    "BatchCalibration",
    "calibrate",
    "extract",
    "read_results",
    "solve",
    "tess_ffi",
    "write_parquet",
]
