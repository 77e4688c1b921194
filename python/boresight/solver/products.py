"""Writes a solution for other programs: tables of Astrometry.net, and regions of DS9.

Names, types and meaning of the columns are those of the files that `solve-field` writes next to a
frame. Pixel positions are FITS pixels, the first at (1, 1); row numbers start at 0. Units follow
the FITS standard (pix, deg), and star positions are doubles.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arrays import longitude_latitude
from boresight._utils.files import write_atomically
from boresight._utils.naming import named
from boresight._utils.origins import center_of
from boresight.extraction.centroids import Centroids
from boresight.solver.solution import Solution

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["correspondences", "write_axy", "write_corr", "write_rdls", "write_regions"]

PathLike = str | os.PathLike[str]

#: Radius in pixels of the circles about stars in a region file.
CIRCLE_PX = 6.0


@named
def correspondences(solution: Solution) -> Table:
    """Make the table of a ``.corr`` file: each matched star in the frame and in the catalogue.

    Parameters
    ----------
    solution : Solution
        The solution.

    Returns
    -------
    astropy.table.Table
        ``field_x``, ``field_y``, ``field_ra``, ``field_dec``: pixel position and sky position of
        the star in the frame; ``index_x``, ``index_y``, ``index_ra``, ``index_dec``: the same of
        the catalogue star, with the pixel position by the solution; ``index_id``: the star's row in
        the ``.rdls`` file; ``field_id``: the centroid's row in the list that was solved, and so in
        the ``.axy`` file if the list is brightest first, as extraction gives it; ``match_weight``:
        the probability that the match is correct; ``mag`` and ``id``: the star's magnitude and
        identifier in the catalogue; ``FLUX``: the brightness of the centroid.

    Examples
    --------
    >>> import boresight
    >>> from boresight.solver.products import correspondences
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> table = correspondences(boresight.solve(image, 15.0))
    >>> bool((abs(table["field_x"] - table["index_x"]) < 1.0).all())
    True
    """
    from astropy.table import Table

    stars = solution.matched_stars
    center = np.array(center_of("fits", solution.image_shape))
    field_ra, field_dec = solution.pixel_to_world(*stars.positions_px.T)
    index_ra, index_dec = np.degrees(longitude_latitude(stars.directions))
    index_x, index_y = solution.world_to_pixel(index_ra, index_dec)
    table = Table()
    table["field_x"], table["field_y"] = (stars.positions_px + center).T
    table["field_ra"], table["field_dec"] = field_ra, field_dec
    table["index_x"], table["index_y"] = index_x + center[0], index_y + center[1]
    table["index_ra"], table["index_dec"] = index_ra % 360.0, index_dec
    table["index_id"] = np.arange(len(stars), dtype=np.int32)
    table["field_id"] = stars.centroids.astype(np.int32)
    table["match_weight"] = stars.probability
    table["mag"] = stars.magnitudes
    table["id"] = stars.catalog_ids
    table["FLUX"] = stars.brightness
    _set_units(table)
    return table


@named
def write_corr(path: PathLike, solution: Solution) -> Path:
    """Write `correspondences` as a ``.corr`` file.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    solution : Solution
        The solution.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import boresight, pathlib, tempfile
    >>> from astropy.table import Table
    >>> from boresight.solver.products import write_corr
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> solution = boresight.solve(image, 15.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_corr(pathlib.Path(folder) / "frame.corr", solution)
    ...     print(len(Table.read(path, format="fits")) == solution.num_matches)
    True
    """
    return _write(path, correspondences(solution), solution.image_shape)


@named
def write_rdls(path: PathLike, solution: Solution) -> Path:
    """Write the matched catalogue stars as an ``.rdls`` file: RA, DEC, mag and id.

    `solve-field` also writes the stars of its index that lie in the frame and did not match.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    solution : Solution
        The solution.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    As `write_corr`.
    """
    from astropy.table import Table

    rows = correspondences(solution)
    table = Table()
    for name, other in {
        "RA": "index_ra",
        "DEC": "index_dec",
        "mag": "mag",
        "id": "id",
    }.items():
        table[name] = rows[other]
    return _write(path, table, solution.image_shape, "RDLS")


@named
def write_axy(path: PathLike, stars: Centroids, image_shape: tuple[int, int]) -> Path:
    """Write the stars of a frame as an ``.axy`` file: X, Y, FLUX and BACKGROUND, brightest first.

    `solve-field` can solve such a file in place of an image.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    stars : Centroids, or what `Centroids.from_any` takes
        The stars.
    image_shape : (int, int)
        (height, width) in pixels.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from astropy.table import Table
    >>> from boresight import Centroids
    >>> from boresight.solver.products import write_axy
    >>> stars = Centroids([-31.5], [-23.5], [100.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_axy(pathlib.Path(folder) / "frame.axy", stars, (48, 64))
    ...     print(Table.read(path, format="fits")["X"][0])
    1.5
    """
    from astropy.table import Table

    found = Centroids.from_any(stars)
    order = np.argsort(-np.nan_to_num(found.brightness), kind="stable")
    table = Table()
    table["X"], table["Y"] = found.to_fits(image_shape)[order].T
    table["FLUX"] = found.brightness[order]
    table["BACKGROUND"] = found.background[order]
    _set_units(table)
    table.meta["EXTNAME"] = "SOURCES"
    return _write(path, table, image_shape, "XYLS")


@named
def write_regions(path: PathLike, solution: Solution, stars: Centroids | None = None) -> Path:
    """Write a region file for DS9: circles around the stars, crosses at the catalogue positions.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    solution : Solution
        The solution. Its matched stars are drawn as green circles in pixels, the catalogue stars as
        crosses on the sky, labelled with their identifiers.
    stars : Centroids, optional
        All stars of the frame. Stars that did not match are drawn as yellow circles.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import boresight, pathlib, tempfile
    >>> from boresight.solver.products import write_regions
    >>> camera = boresight.CameraModel.from_fov(15.0, (512, 512))
    >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_regions(pathlib.Path(folder) / "frame.reg", boresight.solve(image, 15.0))
    ...     print(path.read_text().splitlines()[0])
    # Region file format: DS9 version 4.1
    """
    lines = "\n".join(_region_lines(solution, stars)) + "\n"
    write_atomically(path, lines.encode("ascii"))
    return Path(path)


def _region_lines(solution: Solution, stars: Centroids | None) -> Iterator[str]:
    table = correspondences(solution)
    yield "# Region file format: DS9 version 4.1"
    yield "global width=1 select=1"
    yield "image"
    for x, y in zip(table["field_x"], table["field_y"], strict=True):
        yield f"circle({x:.3f},{y:.3f},{CIRCLE_PX:g}) # color=green"
    if stars is not None:
        matched = set(table["field_id"].tolist())
        for index, (x, y) in enumerate(stars.to_fits(solution.image_shape)):
            if index not in matched:
                yield f"circle({x:.3f},{y:.3f},{CIRCLE_PX:g}) # color=yellow"
    yield "icrs"
    for ra, dec, number in zip(table["index_ra"], table["index_dec"], table["id"], strict=True):
        yield f"point({ra:.7f},{dec:.7f}) # point=cross color=cyan text={{{number}}}"


def _set_units(table: Table) -> None:
    for name in table.colnames:
        if name in ("X", "Y") or name.endswith(("_x", "_y")):
            table[name].unit = "pix"
        elif name.endswith(("_ra", "_dec")):
            table[name].unit = "deg"


def _write(
    path: PathLike, table: Table, image_shape: tuple[int, int], kind: str | None = None
) -> Path:
    """Write a table after a primary HDU that records the image's size and the kind of file."""
    import io

    from astropy.io import fits

    height, width = image_shape
    cards: dict[str, tuple[Any, str]] = {
        "IMAGEW": (width, "[pix] width of the image"),
        "IMAGEH": (height, "[pix] height of the image"),
    }
    if kind is not None:
        cards |= {"AN_FILE": (kind, "Astrometry.net file type")}
    primary = fits.PrimaryHDU(header=fits.Header([(k, *v) for k, v in cards.items()]))
    buffer = io.BytesIO()
    fits.HDUList([primary, fits.table_to_hdu(table)]).writeto(buffer)
    write_atomically(path, buffer.getvalue())
    return Path(path)
