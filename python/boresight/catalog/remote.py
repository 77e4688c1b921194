"""Download of catalogues from VizieR and the Gaia archive, with a cache on disk."""

from __future__ import annotations

import contextlib
import io
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from boresight import cache
from boresight._utils import arguments
from boresight._utils.files import write_atomically
from boresight.catalog import tables
from boresight.errors import BoresightError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Arguments of `Catalog`, by name.
Columns = dict[str, Any]


class _TableInfo(NamedTuple):
    """Epoch and column names of a VizieR table, which VizieR itself does not state."""

    epoch: float
    columns: dict[str, str]


_KNOWN = {
    "I/311/hip2": _TableInfo(
        1991.25,
        {"id": "HIP", "ra": "RArad", "dec": "DErad", "magnitude": "Hpmag", "pmra": "pmRA",
         "pmdec": "pmDE", "parallax": "Plx"},
    ),
    "I/239/hip_main": _TableInfo(
        1991.25,
        {"id": "HIP", "ra": "RAICRS", "dec": "DEICRS", "magnitude": "Vmag", "pmra": "pmRA",
         "pmdec": "pmDE", "parallax": "Plx"},
    ),
    "I/259/tyc2": _TableInfo(
        2000.0,
        {"ra": "RAmdeg", "dec": "DEmdeg", "magnitude": "VTmag", "pmra": "pmRA", "pmdec": "pmDE"},
    ),
    "I/355/gaiadr3": _TableInfo(
        2016.0,
        {"id": "Source", "ra": "RA_ICRS", "dec": "DE_ICRS", "magnitude": "Gmag", "pmra": "pmRA",
         "pmdec": "pmDE", "parallax": "Plx"},
    ),
    "V/50/catalog": _TableInfo(
        2000.0,
        {"id": "HR", "ra": "RAJ2000", "dec": "DEJ2000", "magnitude": "Vmag", "pmra": "pmRA",
         "pmdec": "pmDE"},
    ),
}  # fmt: skip

#: Largest number of characters quoted from a client's error text, which may hold a whole answer.
MAX_QUOTED = 200

#: Seconds without a byte after which the request to VizieR is aborted.
_SILENCE_S = 600

Answer = TypeVar("Answer")


def vizier(
    catalog: str,
    max_magnitude: float | None,
    center_deg: tuple[float, float] | None,
    radius_deg: float | None,
    epoch: float | None,
    cached: bool,
    names: dict[str, str],
    timeout_s: float,
) -> Columns:
    """Columns for `Catalog.from_vizier`."""
    known = _KNOWN.get(catalog, _TableInfo(np.nan, {}))
    names = known.columns | names
    if max_magnitude is not None and "magnitude" not in names:
        raise InputError(
            "max_magnitude: the column of the magnitudes is unknown for this table; "
            "give its name as magnitude='...'"
        )
    center_deg, radius_deg = _region(center_deg, radius_deg)
    timeout_s = _seconds(timeout_s)
    if epoch is None and np.isfinite(known.epoch):
        epoch = known.epoch

    def ask() -> Columns:
        from astropy import units as u
        from astropy.coordinates import SkyCoord
        from astroquery.vizier import Vizier

        service = Vizier(columns=list(names.values()) or ["*"], row_limit=-1, timeout=_SILENCE_S)
        bright = {} if max_magnitude is None else {names["magnitude"]: f"<={max_magnitude}"}
        if center_deg is None:
            found = service.query_constraints(catalog=catalog, **bright)
        else:
            found = service.query_region(
                SkyCoord(*center_deg, unit="deg"),
                radius=radius_deg * u.deg,
                catalog=catalog,
                column_filters=bright,
            )
        if len(found) != 1 or not found[0].colnames or not len(found[0]):
            raise InputError(
                f"catalog: VizieR returned {len(found)} tables for {catalog!r}, or no star; "
                "give one table, such as 'I/311/hip2', and limits that stars are within"
            )
        return tables.columns(found[0], {**tables.NO_NAMES, **names}, epoch)

    key = (catalog, max_magnitude, center_deg, radius_deg, epoch, sorted(names.items()))
    return _from_cache(lambda: _answer("VizieR", ask, timeout_s), cached, "vizier", *key)


def gaia_archive(
    max_magnitude: float,
    center_deg: tuple[float, float] | None,
    radius_deg: float | None,
    cached: bool,
    timeout_s: float,
) -> Columns:
    """Columns for `Catalog.from_gaia_archive`."""
    max_magnitude = arguments.number("max_magnitude", max_magnitude, "give a G magnitude")
    if not np.isfinite(max_magnitude):
        raise InputError(f"max_magnitude: is {max_magnitude}; give a G magnitude, such as 10")
    center_deg, radius_deg = _region(center_deg, radius_deg)
    timeout_s = _seconds(timeout_s)

    def ask() -> Columns:
        from astroquery.gaia import Gaia

        query = (
            "SELECT source_id, ra, dec, pmra, pmdec, parallax, phot_g_mean_mag, ref_epoch "
            f"FROM gaiadr3.gaia_source WHERE phot_g_mean_mag <= {float(max_magnitude)}"
        )
        if center_deg is not None:
            ra, dec = center_deg
            query += f" AND 1 = CONTAINS(POINT(ra, dec), CIRCLE({ra}, {dec}, {radius_deg}))"
        table = Gaia.launch_job_async(f"{query} ORDER BY phot_g_mean_mag").get_results()
        if not len(table):
            raise InputError("max_magnitude: no Gaia star is within these limits; widen them")
        return tables.columns(table, tables.NO_NAMES, None)

    key = (float(max_magnitude), center_deg, radius_deg)
    return _from_cache(lambda: _answer("the Gaia archive", ask, timeout_s), cached, "gaia", *key)


def _answer(service: str, ask: Callable[[], Answer], timeout_s: float) -> Answer:
    """Return the answer of a service; any failure of the service becomes an `OSError`.

    The request runs in a thread, which is abandoned after the time limit, because the clients'
    own timeouts start again with each byte or do not exist.
    """
    future: Future[Answer] = Future()

    def work() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(timeout_s)
    except (BoresightError, MemoryError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:MAX_QUOTED] or type(error).__name__
        if not future.done():
            reason = f"it took more than {timeout_s:g} s"
        raise OSError(
            f"{service} did not answer correctly ({reason}); check whether the network works, try "
            "again later, or give stars that you have to Catalog.from_table"
        ) from error


def _seconds(timeout_s: Any) -> float:
    """Check the time limit for an answer and return it in seconds."""
    seconds = arguments.number("timeout_s", timeout_s, "give seconds")
    if not seconds > 0.0:
        raise InputError(f"timeout_s: is {timeout_s}; give a positive number of seconds")
    return min(seconds, threading.TIMEOUT_MAX)


def _region(
    center_deg: tuple[Any, Any] | None, radius_deg: Any
) -> tuple[tuple[float, float] | None, float | None]:
    """Check an optional cone on the sky and return its centre and radius in degrees."""
    if (center_deg is None) != (radius_deg is None):
        raise InputError("radius_deg: a region has a centre and a radius; give both or neither")
    if center_deg is None:
        return None, None
    try:
        ra, dec = center_deg
    except (TypeError, ValueError):
        raise InputError(
            f"center_deg: {center_deg!r} is not a pair; give right ascension and "
            "declination in degrees"
        ) from None
    ra, dec = (arguments.degrees("center_deg", angle) for angle in (ra, dec))
    arguments.cone(ra, dec, radius_deg)
    return (ra, dec), arguments.degrees("radius_deg", radius_deg)


def _from_cache(fetch: Callable[[], Columns], cached: bool, *key: object) -> Columns:
    """Return the result of `fetch`, from the disk cache if it is there."""
    if not cached:
        return fetch()
    try:
        path = cache.entry("catalog", ".npz", *key)
        if path.exists():
            cache.touch(path)
            with np.load(path) as file:
                return dict(file)
    except (OSError, ValueError, TypeError):
        # An unusable cache is ignored.
        return fetch()
    columns = fetch()
    content = io.BytesIO()
    np.savez_compressed(content, **{name: v for name, v in columns.items() if v is not None})
    with contextlib.suppress(OSError):
        write_atomically(path, content.getvalue())
        cache.prune(path)
    return columns
