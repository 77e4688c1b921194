"""The report: one self-contained page about a solution, a calibration or a moved camera.

The package is itself the function `report`, so that ``boresight.report(result, path)`` works
whoever imported what before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from boresight.report.page import report as report

__all__ = ["report"]


class _Report(ModuleType):
    """A module that can be called as its function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _Report
