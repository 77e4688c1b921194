"""Movement of a camera: detect it, measure it on the sky, and update the calibration."""

from boresight.movement.compare import compare as compare
from boresight.movement.correction import MovementCorrection as MovementCorrection
from boresight.movement.detect import detect_movement as detect_movement
from boresight.movement.detect import phase_correlation_movement as phase_correlation_movement
from boresight.movement.drift import ChangePoint as ChangePoint
from boresight.movement.drift import DriftLog as DriftLog
from boresight.movement.errors import DetectionFailedError as DetectionFailedError
from boresight.movement.manual import manual_movement as manual_movement
from boresight.movement.mounted import PARAMETERS as PARAMETERS
from boresight.movement.mounted import MountedCamera as MountedCamera
from boresight.movement.mounted import place_at as place_at
from boresight.movement.platepar import Platepar as Platepar
from boresight.movement.platepar import read_platepar as read_platepar
from boresight.movement.platepar import write_platepar as write_platepar
from boresight.movement.update import update_calibration as update_calibration
from boresight.movement.verdict import Verdict as Verdict
from boresight.movement.watch import Watch as Watch
