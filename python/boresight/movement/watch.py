"""A camera that is watched frame by frame: what one frame shows, others have to confirm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from boresight._utils.arguments import probability
from boresight._utils.naming import named
from boresight.database.database import PatternDatabase
from boresight.errors import InputError
from boresight.movement.compare import (
    FALSE_ALARM,
    Look,
    look_at,
    reference_of,
    verdict_on,
)
from boresight.movement.verdict import Verdict

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["Watch"]

MOST_FRAMES = 5
"""Frames that are judged together at most. More tell a smaller change, and one that has passed for
longer."""


@named
class Watch:
    """A calibrated camera that is watched frame by frame.

    A movement lasts. A frame that shows a change as `compare` tells it, at a probability of a false
    alarm of `false_alarm`, makes it suspected; it is told when that frame alone shows it two
    thousand times more surely, or when it does so together with the frames that follow. So a
    camera that stays is said to have moved with the probability `false_alarm` in a thousand frames,
    where `compare` says so in each of them with that probability.

    Parameters
    ----------
    calibration : MountedCamera, Solution, CalibrationResult or CameraModel
        The camera before, as `compare` takes it.
    site : EarthLocation, optional
        Where the camera is fixed to the ground. Default: that of the calibration.
    false_alarm : float
        Probability that it is said to have moved in a thousand frames though it has not. Default
        1e-3.
    database : SolverDatabase, optional
        Stars and their patterns. Default: that of `boresight.solve`.
    weather : mapping, optional
        Arguments of `Refraction.at`, for a site.

    Raises
    ------
    InputError
        If an argument is none of these.

    Examples
    --------
    >>> import boresight
    >>> from boresight.movement import MountedCamera, Watch
    >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
    >>> frames = [boresight.simulate_frame(camera, 83.8, dec, 30.0, seed=1) for dec in (-1.2, -1.1)]
    >>> before = MountedCamera.from_solution(boresight.solve(frames[0].image, camera_model=camera))
    >>> watch = Watch(before)
    >>> [watch.look(frame.image).moved for frame in frames]
    [False, True]
    """

    def __init__(
        self,
        calibration: Any,
        *,
        site: EarthLocation | None = None,
        false_alarm: float = FALSE_ALARM,
        database: PatternDatabase | None = None,
        weather: Mapping[str, float] | None = None,
    ) -> None:
        self._false_alarm = probability("false_alarm", false_alarm)
        self._site, self._database, self._weather = site, database, weather
        self.calibration = calibration

    @property
    def calibration(self) -> Any:
        """The camera before. With another, what was suspected of the last one is forgotten."""
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Any) -> None:
        self._reference = reference_of(calibration, self._site)
        self._calibration = calibration
        self._suspects: list[Look] = []

    def look(self, frame: Any, time: Any = None) -> Verdict:
        """Tell what happened to the camera, by a new frame and those before.

        Parameters
        ----------
        frame : image, Frame, path, centroids or Solution
            The new frame.
        time : Time, datetime or str, optional
            Middle of its exposure. Default: that of the frame's header.

        Returns
        -------
        Verdict
            Of all frames that show a change together, with the verdict on the last one as its
            `alone`; of that alone, where there is no change. A change that is not sure yet cannot
            be told (`moved` is None), and its kinds are `suspected`.

        Raises
        ------
        InputError
            If an argument is none of these, or a site comes without a time.
        """
        if isinstance(frame, list | tuple):
            raise InputError("frame: a list is none; give one frame after another, or use compare")
        look = look_at(self._reference, frame, time, self._database, self._weather)
        alone = self._judged([look])
        if alone.moved is None and not alone.suspected:
            return alone  # clouds: what was suspected stays so
        before, self._suspects = [s for s in self._suspects if not _is_same(s, look)], []
        found = alone
        for looks in ([look], [*before, look])[: 1 + bool(before)]:
            verdict = alone if len(looks) == 1 else self._judged(looks)
            changed = verdict.kinds or verdict.suspected
            if changed and _agrees(alone, verdict):
                self._suspects = looks[-MOST_FRAMES:]
                found = verdict if verdict is alone else dataclasses.replace(verdict, alone=alone)
            if found.kinds:
                break
        return found

    def _judged(self, looks: list[Look]) -> Verdict:
        return verdict_on(self._reference, looks, self._false_alarm, sure=True)

    def __repr__(self) -> str:
        return f"Watch({self._calibration!r}, false_alarm={self._false_alarm:g})"


def _is_same(first: Look, second: Look) -> bool:
    """Whether these are one frame, given twice: that confirms nothing."""
    assert first.seen is not None
    assert second.seen is not None
    return np.array_equal(first.seen.positions_px, second.seen.positions_px)


def _agrees(alone: Verdict, verdict: Verdict) -> bool:
    """Whether a frame is better explained by a change than by none."""
    change = verdict.values
    return bool(change @ alone.information @ (2.0 * alone.all_values - change) > 0.0)
