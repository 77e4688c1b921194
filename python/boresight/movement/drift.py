"""Append-only log of the verdicts on a camera, read as a table or as sudden changes."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arguments import probability
from boresight._utils.arrays import Floats
from boresight._utils.files import append_whole
from boresight._utils.naming import named
from boresight._utils.statistics import chi2_quantile
from boresight.errors import FileFormatError
from boresight.movement.mounted import PARAMETERS
from boresight.movement.verdict import ARCSEC, KINDS, Verdict
from boresight.movement.watch import MOST_FRAMES

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["ChangePoint", "DriftLog"]

SCHEMA = "boresight-drift/1"
"""Format name, written into each line."""

FOLLOWED = (0, 1, 2, 3)
"""Parameters in which change points are searched: pointing, roll and focus."""

LEAST_SEGMENT = 3
"""Minimum number of frames between two changes, so that one bad frame is no change."""

FALSE_ALARM = 1e-3
"""Default probability of a change point in a log without any."""


@named
@dataclass(frozen=True)
class ChangePoint:
    """A sudden change of the camera in a drift log.

    Attributes
    ----------
    index : int
        Index of the first frame after the change, among the frames that were used, sorted by time.
    time : str
        Time of that frame, UTC.
    about_x_arcsec, about_y_arcsec, roll_arcsec : float
        Rotation of the camera about its x axis, y axis and optical axis.
    focus : float
        Relative change of the focal length.
    chi2 : float
        Decrease of chi square by the change.

    Examples
    --------
    See `DriftLog`.
    """

    index: int
    time: str
    about_x_arcsec: float
    about_y_arcsec: float
    roll_arcsec: float
    focus: float
    chi2: float


@named
class DriftLog:
    """Log of verdicts, with one JSON document per line.

    Each line is appended as a whole and is on the disk when `append` returns. Readers skip an
    incomplete line left by a crash, and the next append starts a new line after it.

    Parameters
    ----------
    path : path-like
        The file, created by the first append.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from boresight import CameraModel
    >>> from boresight.movement import DriftLog, Verdict
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = DriftLog(pathlib.Path(folder.name) / "drift.jsonl")
    >>> camera = CameraModel.from_fov(12.0, (512, 512))
    >>> log.append(Verdict((), "the frame did not solve", False, camera, 1e-3), "one.fits")
    >>> len(log), log.records()[0]["unknown"]
    (1, 'the frame did not solve')
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def append(self, verdict: Verdict, frame: Any = None, note: str | None = None) -> None:
        """Append a verdict.

        Parameters
        ----------
        verdict : Verdict
            Verdict of `compare` or a `Watch`. For a verdict of a `Watch` on several frames, only
            the last frame is used for change points, because the earlier frames have their own
            lines.
        frame : path-like, optional
            Name of the frame.
        note : str, optional
            Remark, such as an action that was taken: a new calibration.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        record = {"schema": SCHEMA, "frame": None if frame is None else str(frame), "note": note}
        values, sigma = _followed(verdict.alone or verdict)
        record |= verdict.to_dict() | {"all_values": _plain(values), "all_sigma": _plain(sigma)}
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            with contextlib.suppress(ImportError, OSError):  # not everywhere
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX)  # lock until the file is closed
            end = os.lseek(descriptor, 0, os.SEEK_END)
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                line = b"\n" + line  # a line was cut off by a crash
            append_whole(descriptor, line, self.path)
        finally:
            os.close(descriptor)

    def records(self) -> list[dict[str, Any]]:
        """Read all complete records, in order; an empty list if the file does not exist.

        Raises
        ------
        FileFormatError
            If the file is no drift log.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue  # incomplete line left by a crash
            if isinstance(record, dict) and record.get("schema") == SCHEMA:
                found.append(record)
        if not found and any(line.strip() for line in lines):
            raise FileFormatError(f"{self.path} is not a drift log of Boresight; give another file")
        return found

    def __len__(self) -> int:
        return len(self.records())

    def suspects(self, most: int = MOST_FRAMES) -> list[str]:
        """Return the last frames with a change, certain or suspected, from which a `Watch` resumes.

        Parameters
        ----------
        most : int
            Maximum number of names.

        Returns
        -------
        list of str
            Names in order, since the last frame in which the camera was unmoved.
        """
        names: list[str] = []
        for record in reversed(self.records()):
            if record["kinds"] or record.get("suspected"):
                names.append(record["frame"])
            elif record["unknown"] is None or len(names) == most:
                break
        return [name for name in names[:most][::-1] if name is not None]

    def table(self) -> Table:
        """Return a table with one row per frame.

        Returns
        -------
        astropy.table.Table
            Columns ``time``, ``frame``, ``kinds`` and ``suspected`` (comma separated), ``unknown``
            (why there is no decision, or empty), ``about_x``, ``about_y``, ``roll`` (arcsec) and
            ``focus`` (relative) from a fit with fixed optical centre and distortion, their standard
            deviations with the suffix ``_sigma``, ``num_stars``, ``coverage``, ``rms_px`` and
            ``note``. Unknown values are NaN.
        """
        from astropy.table import Table

        records = self.records()
        table = Table()
        table["time"] = [r["time"] or "" for r in records]
        table["frame"] = [r["frame"] or "" for r in records]
        table["kinds"] = [", ".join(r["kinds"]) for r in records]
        table["suspected"] = [", ".join(r.get("suspected", ())) for r in records]
        table["unknown"] = [r["unknown"] or "" for r in records]
        units = (ARCSEC, ARCSEC, ARCSEC, 1.0)
        for k, (name, unit) in enumerate(
            zip(("about_x", "about_y", "roll", "focus"), units, strict=True)
        ):
            for key, suffix in (("all_values", ""), ("all_sigma", "_sigma")):
                values = [math.nan if r[key][k] is None else r[key][k] for r in records]
                table[name + suffix] = np.array(values, np.float64) * unit
        table["num_stars"] = [r["num_stars"] for r in records]
        table["coverage"] = [r["coverage"] for r in records]
        table["rms_px"] = [math.nan if r["rms_px"] is None else r["rms_px"] for r in records]
        table["note"] = [r["note"] or "" for r in records]
        return table

    def change_points(self, false_alarm: float = FALSE_ALARM) -> list[ChangePoint]:
        """Find sudden changes. Between them the camera may drift linearly.

        Parameters
        ----------
        false_alarm : float
            Probability of a change point in a log without any. Default 1e-3.

        Returns
        -------
        list of ChangePoint
            Changes in order of time. Frames without usable stars are excluded.

        Notes
        -----
        Binary segmentation: the split into two straight lines that lowers chi square most is
        accepted while it is significant. The scatter about the lines is estimated from the data.
        """
        false_alarm = probability("false_alarm", false_alarm)
        measured = [r for r in self.records() if _has_result(r) and r["time"] and _is_known(r)]
        if len(measured) < 2 * LEAST_SEGMENT:
            return []
        from astropy.time import Time

        days = np.asarray(Time([r["time"] for r in measured], scale="utc").jd, np.float64)
        order = np.argsort(days, kind="stable")
        measured = [measured[i] for i in order]
        days = days[order] - days[order[0]]
        values = np.array([[r["all_values"][k] for k in FOLLOWED] for r in measured])
        sigma = np.array([[r["all_sigma"][k] for k in FOLLOWED] for r in measured])
        scatter = np.maximum(_scatter(values / sigma), 1.0)
        limit = chi2_quantile(false_alarm / len(days), 2 * len(FOLLOWED))
        found = sorted(_splits(days, values, sigma * scatter, 0, len(days), limit))
        points = []
        for number, (index, drop) in enumerate(found):
            start = found[number - 1][0] if number else 0
            end = found[number + 1][0] if number + 1 < len(found) else len(days)
            at = (days[index - 1] + days[index]) / 2.0
            rows = slice(start, index), slice(index, end)
            before, after = (_line_at(days[r], values[r], sigma[r], at) for r in rows)
            step = after - before
            about_x, about_y, roll = (float(v) * ARCSEC for v in step[:3])
            time = measured[index]["time"]
            points.append(ChangePoint(index, time, about_x, about_y, roll, float(step[3]), drop))
        return points

    def __repr__(self) -> str:
        return f"DriftLog({str(self.path)!r})"


def _plain(values: Floats) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in values]


def _followed(verdict: Verdict) -> tuple[Floats, Floats]:
    """Return attitude and focal length with standard deviations, for otherwise fixed optics.

    The fit of all parameters measures pointing and optical centre separately less precisely than
    their sum.
    """
    values, sigma = np.full((2, len(PARAMETERS)), np.nan)
    rows = [i for kind in ("pointing", "roll", "focus") for i in KINDS[kind]]
    part = verdict.information[np.ix_(rows, rows)]
    if np.all(np.diag(part) > 0) and np.isfinite(verdict.all_values).all():
        inverse = np.linalg.pinv(part, hermitian=True)
        values[rows] = inverse @ (verdict.information @ verdict.all_values)[rows]
        sigma[rows] = np.sqrt(np.maximum(np.diag(inverse), 0.0))
    return values, sigma


def _has_result(record: dict[str, Any]) -> bool:
    """Return whether the stars of the frame gave a result, which may be a suspected change."""
    return record["unknown"] is None or bool(record.get("suspected"))


def _is_known(record: dict[str, Any]) -> bool:
    return all(record["all_values"][k] is not None and record["all_sigma"][k] for k in FOLLOWED)


def _scatter(scaled: Floats) -> Floats:
    """Measure the scatter of each column about a smooth trend, from second differences."""
    second = scaled[2:] - 2.0 * scaled[1:-1] + scaled[:-2]
    return np.asarray(1.4826 * np.median(np.abs(second), axis=0) / math.sqrt(6.0))


def _sums(days: Floats, values: Floats, sigma: Floats) -> Floats:
    """Return cumulative sums for straight-line fits, up to each frame, (n + 1, 6, columns)."""
    weight = 1.0 / sigma**2
    t = days[:, None]
    parts = [
        weight,
        weight * t,
        weight * t * t,
        weight * values,
        weight * values * t,
        weight * values**2,
    ]
    return np.concatenate(
        [np.zeros((1, 6, values.shape[1])), np.cumsum(np.stack(parts, 1), axis=0)]
    )


def _chi2(sums: Floats) -> Floats:
    """Return chi square about the best straight lines, from sums (..., 6, columns)."""
    w, wt, wtt, wy, wyt, wyy = np.moveaxis(sums, -2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = wtt - wt**2 / w
        cross = wyt - wt * wy / w
        slope = np.where(spread > 1e-12 * wtt, cross**2 / spread, 0.0)
        chi2: Floats = wyy - wy**2 / w - np.nan_to_num(slope)
    return np.asarray(chi2.sum(axis=-1))


def _splits(
    days: Floats, values: Floats, sigma: Floats, start: int, end: int, limit: float
) -> list[tuple[int, float]]:
    """Return the changes between two frames: first frame after each, and chi square drop."""
    if end - start < 2 * LEAST_SEGMENT:
        return []
    rows = slice(start, end)
    sums = _sums(days[rows] - days[start], values[rows] - values[start], sigma[rows])
    places = np.arange(LEAST_SEGMENT, end - start - LEAST_SEGMENT + 1)
    drops = _chi2(sums[-1]) - _chi2(sums[places]) - _chi2(sums[-1] - sums[places])
    best = int(np.argmax(drops))
    if drops[best] <= limit:
        return []
    middle = start + int(places[best])
    left = _splits(days, values, sigma, start, middle, limit)
    right = _splits(days, values, sigma, middle, end, limit)
    return [*left, (middle, float(drops[best])), *right]


def _line_at(days: Floats, values: Floats, sigma: Floats, at: float) -> Floats:
    """Return each column's value at a time, from a straight line, or the mean of few frames."""
    weights = 1.0 / sigma
    degree = 1 if len(days) >= 2 * LEAST_SEGMENT else 0
    lines = [
        np.polynomial.polynomial.polyfit(days - at, values[:, k], degree, w=weights[:, k])[0]
        for k in range(values.shape[1])
    ]
    return np.array(lines)
