"""Extraction: finds the stars of an image and measures them."""

from boresight.extraction.centroids import Centroids as Centroids
from boresight.extraction.extract import ExtractionResult as ExtractionResult
from boresight.extraction.extract import Extractor as Extractor
from boresight.extraction.extract import extract_centroids as extract_centroids
from boresight.extraction.flags import CentroidFlags as CentroidFlags
from boresight.extraction.stars import Centroid as Centroid
