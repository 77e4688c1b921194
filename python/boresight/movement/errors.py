"""Exception for a movement that cannot be determined."""

from boresight.errors import UndeterminedError

__all__ = ["DetectionFailedError"]


class DetectionFailedError(UndeterminedError):
    """The movement between two images could not be determined with sufficient confidence."""
