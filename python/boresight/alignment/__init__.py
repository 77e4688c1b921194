"""Align images by their sources: match lists of stars, correct each image's WCS."""

from boresight.alignment.match import ListMatch as ListMatch
from boresight.alignment.match import match_lists as match_lists
