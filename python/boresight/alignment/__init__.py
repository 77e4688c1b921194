"""Align images by their sources: match lists of stars, correct each image's WCS."""

from boresight.alignment.align import align as align
from boresight.alignment.files import read_head as read_head
from boresight.alignment.files import transfer as transfer
from boresight.alignment.files import write as write
from boresight.alignment.files import write_head as write_head
from boresight.alignment.fit import fit_wcs as fit_wcs
from boresight.alignment.images import ImageCatalog as ImageCatalog
from boresight.alignment.images import ImageGroup as ImageGroup
from boresight.alignment.match import ListMatch as ListMatch
from boresight.alignment.match import match_lists as match_lists
from boresight.alignment.overlap import max_overlap_image as max_overlap_image
from boresight.alignment.overlap import max_overlap_pair as max_overlap_pair
from boresight.alignment.overlap import overlap_matrix as overlap_matrix
from boresight.alignment.reference import ReferenceCatalog as ReferenceCatalog
from boresight.alignment.result import AlignmentResult as AlignmentResult
from boresight.alignment.result import ImageAlignment as ImageAlignment
from boresight.alignment.result import Reason as Reason
