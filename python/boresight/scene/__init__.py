"""Fit and alignment of images by their pixels: sources, PSF and WCS in one model."""

from boresight.scene.fit import fit as fit
from boresight.scene.images import Image as Image
from boresight.scene.psf import EffectivePSF as EffectivePSF
from boresight.scene.psf import Gaussian as Gaussian
from boresight.scene.psf import Moffat as Moffat
from boresight.scene.register import Registration as Registration
from boresight.scene.register import register as register
from boresight.scene.result import FittedImage as FittedImage
from boresight.scene.result import SceneResult as SceneResult
from boresight.scene.sources import PointSource as PointSource
from boresight.scene.sources import SersicSource as SersicSource
