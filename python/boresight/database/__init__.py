"""Pattern databases: the star patterns by which frames are recognised."""

from boresight.database.database import PatternDatabase as PatternDatabase
from boresight.database.parameters import DatabaseParameters as DatabaseParameters
from boresight.database.parameters import SizeEstimate as SizeEstimate
