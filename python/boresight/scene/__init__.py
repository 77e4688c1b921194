"""Images fitted and aligned by their pixels."""

from boresight.scene.images import Image as Image
from boresight.scene.psf import Gaussian as Gaussian
from boresight.scene.psf import Moffat as Moffat
from boresight.scene.register import Registration as Registration
from boresight.scene.register import register as register
