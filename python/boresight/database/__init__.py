"""Pattern databases: the star patterns with which frames are identified."""

from boresight.database.database import PatternDatabase as PatternDatabase
from boresight.database.parameters import DatabaseParameters as DatabaseParameters
from boresight.database.parameters import SizeEstimate as SizeEstimate
