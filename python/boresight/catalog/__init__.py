"""Star catalogues: the embedded Hipparcos, Gaia, VizieR, and any table."""

from boresight.catalog.catalog import Catalog as Catalog
from boresight.catalog.columns import Star as Star
