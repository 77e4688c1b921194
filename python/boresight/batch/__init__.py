"""Extraction, solving and calibration of thousands of frames, with bounded memory, resumable.

Every function takes frames by path, glob or URL and processes them in processes of this machine or
on any executor (Dask's, too). It writes a row for each frame as soon as the frame is finished, and
returns a table. A batch whose output folder exists is continued, also after a kill.
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
