"""Frames: images read from files, with the time and the WCS from their headers."""

from boresight.frames.frame import Frame as Frame
from boresight.frames.read import read_frame as read_frame
