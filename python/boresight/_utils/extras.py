"""Packages that only some functions need: each is brought by an extra of the installation."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["check_extra", "missing_extra"]


def missing_extra(package: str, extra: str, what: str = "") -> ModuleNotFoundError:
    """Make the error for a package that is not installed, which names the extra.

    Parameters
    ----------
    package : str
        The package.
    extra : str
        The extra that brings it.
    what : str
        Purpose, as the beginning of the message, such as ``"path: none is given and "``.
    """
    return ModuleNotFoundError(
        f"{what}the package {package} is not installed; "
        f"install it with pip install 'boresight[{extra}]'",
        name=package.replace("-", "_"),
    )


def check_extra(package: str, extra: str) -> None:
    """Raise that error if a package is not installed."""
    if find_spec(package) is None:
        raise missing_extra(package, extra)
