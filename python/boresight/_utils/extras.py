"""Errors for optional packages, which extras of the installation provide."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["check_extra", "missing_extra"]


def missing_extra(package: str, extra: str, what: str = "") -> ModuleNotFoundError:
    """Make the error for a package that is not installed, with the extra that provides it.

    Parameters
    ----------
    package : str
        Name of the package.
    extra : str
        Name of the extra that installs the package.
    what : str
        Beginning of the message, such as ``"path: none is given and "``.
    """
    return ModuleNotFoundError(
        f"{what}the package {package} is not installed; "
        f"install it with pip install 'boresight[{extra}]'",
        name=package.replace("-", "_"),
    )


def check_extra(package: str, extra: str) -> None:
    """Raise the error of `missing_extra` if a package is not installed."""
    if find_spec(package) is None:
        raise missing_extra(package, extra)
