"""Monitoring of a camera frame by frame: later frames must confirm a change in one frame."""

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
    Observation,
    observe,
    reference_of,
    verdict_on,
)
from boresight.movement.verdict import Verdict

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["Watch"]

MOST_FRAMES = 5
"""Maximum number of frames that are judged together. With more frames, smaller changes are found,
but a change that is over is reported for longer."""


@named
class Watch:
    """Monitor a calibrated camera frame by frame.

    A real movement persists in later frames. A frame in which `compare` finds a change, at a
    false-alarm probability of `false_alarm`, makes the change suspected. The change is reported if
    this frame alone shows it at 1/2000 of that probability, or shows it at that level together with
    the following frames. So for an unmoved camera the probability of a false report is
    `false_alarm` in a thousand frames, whereas with `compare` it is `false_alarm` in each frame.

    Parameters
    ----------
    calibration : MountedCamera, Solution, CalibrationResult or CameraModel
        The camera before the change, as in `compare`.
    site : EarthLocation, optional
        Site of a camera that is fixed to the ground. Default: the site of the calibration.
    false_alarm : float
        Probability of a false alarm in a thousand frames of an unmoved camera. Default 1e-3.
    database : SolverDatabase, optional
        Database of stars and patterns. Default: that of `boresight.solve`.
    weather : mapping, optional
        Arguments of `Refraction.at`, used with a site.

    Raises
    ------
    InputError
        If an argument has a wrong type.

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
        """The camera before the change. Setting another one clears all suspected changes."""
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Any) -> None:
        self._reference = reference_of(calibration, self._site)
        self._calibration = calibration
        self._suspects: list[Observation] = []

    def look(self, frame: Any, time: Any = None) -> Verdict:
        """Return the verdict on the camera from a new frame and the frames before.

        Parameters
        ----------
        frame : image, Frame, path, centroids or Solution
            The new frame.
        time : Time, datetime or str, optional
            Middle of the exposure. Default: the time in the frame's header.

        Returns
        -------
        Verdict
            The verdict on all frames that together show a change, with the verdict on the new frame
            as its `alone`; or the verdict on the new frame if there is no change. A change that is
            not yet certain is not reported: `moved` is None and the kinds are `suspected`.

        Raises
        ------
        InputError
            If an argument has a wrong type, or a site is given without a time.
        """
        if isinstance(frame, list | tuple):
            raise InputError(
                "frame: a list is not valid; give one frame after another, or use compare"
            )
        observation = observe(self._reference, frame, time, self._database, self._weather)
        alone = self._judged([observation])
        if alone.moved is None and not alone.suspected:
            return alone  # clouds: the suspected changes are kept
        before, self._suspects = [s for s in self._suspects if not _is_same(s, observation)], []
        found = alone
        for observations in ([observation], [*before, observation])[: 1 + bool(before)]:
            verdict = alone if len(observations) == 1 else self._judged(observations)
            changed = verdict.kinds or verdict.suspected
            if changed and _agrees(alone, verdict):
                self._suspects = observations[-MOST_FRAMES:]
                found = verdict if verdict is alone else dataclasses.replace(verdict, alone=alone)
            if found.kinds:
                break
        return found

    def _judged(self, observations: list[Observation]) -> Verdict:
        return verdict_on(self._reference, observations, self._false_alarm, sure=True)

    def __repr__(self) -> str:
        return f"Watch({self._calibration!r}, false_alarm={self._false_alarm:g})"


def _is_same(first: Observation, second: Observation) -> bool:
    """Return whether both are the same frame, which is no confirmation."""
    assert first.stars is not None
    assert second.stars is not None
    return np.array_equal(first.stars.positions_px, second.stars.positions_px)


def _agrees(alone: Verdict, verdict: Verdict) -> bool:
    """Return whether the change of `verdict` explains a frame better than no change."""
    change = verdict.values
    return bool(change @ alone.information @ (2.0 * alone.all_values - change) > 0.0)
