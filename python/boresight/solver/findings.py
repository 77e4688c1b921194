"""Findings about a frame, and the report of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from boresight._utils.arrays import plain
from boresight._utils.html import html_table
from boresight._utils.naming import named

if TYPE_CHECKING:
    from boresight.solver.solution import Solution

__all__ = ["Diagnosis", "Finding", "RejectedCandidate"]


@dataclass(frozen=True)
class RejectedCandidate:
    """The most likely of the candidates that were rejected.

    Attributes
    ----------
    log_ratio : float
        Natural logarithm of its likelihood ratio.
    log_ratio_needed : float
        What it would have needed, with so many candidates looked at.
    probability : float
        Bound on the probability that chance gives such a match, at most 1.
    solution : Solution or None
        What it would be: attitude, field of view and matched stars. None if fewer than three match.
    reason : str
        What rejected it.
    """

    log_ratio: float
    log_ratio_needed: float
    probability: float
    solution: Solution | None
    reason: str


@dataclass(frozen=True)
class Finding:
    """A cause found or suspected.

    Attributes
    ----------
    cause : str
        Arguments: ``"field of view"``, ``"parity"``, ``"camera"``, ``"projection"``, ``"hint"``,
        ``"header"``, ``"match radius"``, ``"database"``, ``"narrow field"``. The list of stars:
        ``"brightness"``, ``"few stars"``, ``"many stars"``. The time allowed: ``"time"``. The
        image: ``"negative"``, ``"non-square pixels"``, ``"defocus"``, ``"trailing"``,
        ``"foreground"``, ``"clouds"``, ``"hot pixels"``, ``"saturation"``, ``"blank"``.
    text : str
        What was found and what to do.
    changes : dict
        Arguments of `solve` with which the frame solves; empty for a suspicion, and where it is the
        image or the list of stars that has to change.
    solution : Solution or None
        The solution so; None for a suspicion. Of an image that was binned or stretched, it counts
        the pixels of that.
    """

    cause: str
    text: str
    changes: dict[str, Any] = field(default_factory=dict)
    solution: Solution | None = None

    @property
    def is_certain(self) -> bool:
        """Whether the frame was solved with the change: what else it says is suspected."""
        return self.solution is not None


def _told(value: Any) -> Any:
    """Turn a value of a diagnosis into what JSON knows."""
    if isinstance(value, RejectedCandidate | Finding):
        told = {f.name: _told(getattr(value, f.name)) for f in fields(value)}
        return told | ({"certain": value.is_certain} if isinstance(value, Finding) else {})
    if isinstance(value, tuple) and value and isinstance(value[0], Finding):
        return [_told(finding) for finding in value]
    return plain(value)


@named
@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Findings of `diagnose`; printed, a report.

    Attributes
    ----------
    solution : Solution or None
        With the arguments as given.
    status : str
        ``"solved"``, ``"no match"``, ``"too few stars"``, ``"timeout"`` or ``"work bound"``.
    num_centroids : int
        Stars given or extracted.
    fov_bounds_deg : (float, float)
        Fields of view that the arguments allow.
    num_expected : (float, float)
        Stars that the database has on average in fields of that size.
    patterns_checked, candidates_checked : int
        Work done.
    best_rejected : RejectedCandidate or None
        None if it solved, if a remedy was found, or if there were no candidates.
    remedy : Finding or None
        The change with which the frame solves, if one was found.
    suspicions : tuple of Finding
        What seems to be wrong, from the images and counts of the stars and from the header; the
        most telling first. Of a frame that solves too.

    Examples
    --------
    See `diagnose`.
    """

    solution: Solution | None
    status: str
    num_centroids: int
    fov_bounds_deg: tuple[float, float]
    num_expected: tuple[float, float]
    patterns_checked: int
    candidates_checked: int
    best_rejected: RejectedCandidate | None
    remedy: Finding | None
    suspicions: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The remedy, if there is one, and the suspicions."""
        return self.suspicions if self.remedy is None else (self.remedy, *self.suspicions)

    def to_dict(self) -> dict[str, Any]:
        """Give the diagnosis as numbers, text and lists, for JSON.

        Returns
        -------
        dict
            The attributes; solutions as `Solution.to_dict` gives them. Of the arguments to change,
            what is no number or text is told in words.

        Examples
        --------
        >>> import boresight, json
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> diagnosis = boresight.diagnose(image, fov_deg=25.0)
        >>> json.loads(json.dumps(diagnosis.to_dict()))["remedy"]["cause"]
        'field of view'
        """
        return {f.name: _told(getattr(self, f.name)) for f in fields(self)}

    def __repr__(self) -> str:
        remedy = f", remedy: {self.remedy.cause}" if self.remedy else ""
        causes = "".join(f", {finding.cause}" for finding in self.suspicions)
        return f"<Diagnosis: {self.status}, {self.num_centroids} stars{remedy}{causes}>"

    def _repr_html_(self) -> str:
        title, *lines = str(self).split("\n")
        return html_table(title, ((line[:12].strip(), line[12:].strip()) for line in lines))

    def __str__(self) -> str:
        low, high = self.fov_bounds_deg
        few, many = self.num_expected
        lines = [
            f"{'Solved' if self.solution else 'Not solved'}: {self.status}, after "
            f"{self.patterns_checked} patterns and {self.candidates_checked} candidates",
            f"Stars       {self.num_centroids}; the database has {few:.0f} to {many:.0f} in fields "
            f"of {low:.1f} to {high:.1f} degrees",
        ]
        if self.solution:
            lines.append(f"Solution    {self.solution}")
        if self.best_rejected:
            best = self.best_rejected
            lines.append(
                f"Best match  log likelihood ratio {best.log_ratio:.1f}, needed "
                f"{best.log_ratio_needed:.1f}: {best.reason}"
            )
            if best.solution:
                lines.append(
                    f"            it implies a field of {best.solution.fov_deg:.2f} degrees and "
                    f"matches {best.solution.num_matches} stars"
                )
        if self.remedy:
            lines.append(f"Remedy      {self.remedy.cause}: {self.remedy.text}")
        lines += [f"Suspicion   {finding.cause}: {finding.text}" for finding in self.suspicions]
        if not (self.solution or self.remedy or self.suspicions):
            lines.append("No cause found: look at the image and where the stars were found")
        return "\n".join(lines)
