"""The report: one self-contained HTML page about a solution, a calibration or another result.

The package itself can be called as the function `report`. So ``boresight.report(result, path)``
works also after an import of the package ``boresight.report``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from boresight.report.page import report as report

__all__ = ["report"]


class _Report(ModuleType):
    """A module that can be called like its function `report`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _Report
