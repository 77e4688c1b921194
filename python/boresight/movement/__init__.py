"""Movement of a camera: notice it, tell it, and mend the calibration."""

from boresight.movement.correction import MovementCorrection as MovementCorrection
from boresight.movement.errors import DetectionFailedError as DetectionFailedError
