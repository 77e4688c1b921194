"""World coordinate systems of FITS and gwcs, fitted to the pixel-to-sky mapping of a camera."""

from boresight.wcs.fits import WcsAccuracy as WcsAccuracy
from boresight.wcs.fits import fit_tpv as fit_tpv
from boresight.wcs.fits import fit_wcs as fit_wcs
from boresight.wcs.fits import from_fits_pixel as from_fits_pixel
from boresight.wcs.fits import to_fits_pixel as to_fits_pixel
from boresight.wcs.undo import undo as undo
from boresight.wcs.write import header_cards as header_cards
from boresight.wcs.write import write_header as write_header
from boresight.wcs.write import write_wcs as write_wcs
