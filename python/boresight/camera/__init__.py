"""Camera models: from pixels to directions and back."""

from boresight.camera.distortion import PolynomialDistortion as PolynomialDistortion
from boresight.camera.distortion import RadialDistortion as RadialDistortion
from boresight.camera.model import CameraModel as CameraModel
from boresight.camera.model import Projection as Projection
