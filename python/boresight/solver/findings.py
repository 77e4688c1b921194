"""Findings about a frame, and their report."""

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
        Value needed to be accepted, given the number of candidates tested.
    probability : float
        Upper bound on the probability that such a match arises by chance, at most 1.
    solution : Solution or None
        The solution that the candidate implies: attitude, field of view and matched stars. None if
        fewer than three stars match.
    reason : str
        Reason for the rejection.
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
        The finding, and the action to take.
    changes : dict
        Arguments of `solve` with which the frame solves. Empty for a suspicion, and if the image or
        the list of stars must be changed.
    solution : Solution or None
        The solution with the change; None for a suspicion. If the image was binned or stretched,
        the solution refers to the pixels of the changed image.
    """

    cause: str
    text: str
    changes: dict[str, Any] = field(default_factory=dict)
    solution: Solution | None = None

    @property
    def is_certain(self) -> bool:
        """Whether the frame was solved with the change; other findings are suspicions."""
        return self.solution is not None


def _json_value(value: Any) -> Any:
    """Convert a value of a diagnosis to types of JSON."""
    if isinstance(value, RejectedCandidate | Finding):
        values = {f.name: _json_value(getattr(value, f.name)) for f in fields(value)}
        return values | ({"certain": value.is_certain} if isinstance(value, Finding) else {})
    if isinstance(value, tuple) and value and isinstance(value[0], Finding):
        return [_json_value(finding) for finding in value]
    return plain(value)


@named
@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Result of `diagnose`; prints as a report.

    Attributes
    ----------
    solution : Solution or None
        Solution with the given arguments.
    status : str
        ``"solved"``, ``"no match"``, ``"too few stars"``, ``"timeout"`` or ``"work bound"``.
    num_centroids : int
        Number of stars given or extracted.
    fov_bounds_deg : (float, float)
        Smallest and largest field of view that the arguments allow, degrees.
    num_expected : (float, float)
        Mean number of the database's stars in fields of these two sizes.
    patterns_checked, candidates_checked : int
        Number of patterns and of candidates checked.
    best_rejected : RejectedCandidate or None
        Best rejected candidate. None if the frame solved, if a remedy was found, or if there were
        no candidates.
    remedy : Finding or None
        The change with which the frame solves, if one was found.
    suspicions : tuple of Finding
        Suspected faults, from the shapes and number of the stars and from the header; the most
        significant first. A frame that solves may have some too.

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
        """Return the diagnosis as numbers, text and lists, for JSON.

        Returns
        -------
        dict
            The attributes; solutions are as `Solution.to_dict` gives them. Arguments to change that
            are neither numbers nor text are described in words.

        Examples
        --------
        >>> import boresight, json
        >>> camera = boresight.CameraModel.from_fov(12.0, (512, 512))
        >>> image = boresight.simulate_frame(camera, ra_deg=83.8, dec_deg=-1.2, seed=1).image
        >>> diagnosis = boresight.diagnose(image, fov_deg=25.0)
        >>> json.loads(json.dumps(diagnosis.to_dict()))["remedy"]["cause"]
        'field of view'
        """
        return {f.name: _json_value(getattr(self, f.name)) for f in fields(self)}

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
            f"{'Solved' if self.solution else f'Not solved: {self.status},'} after "
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
            lines.append("No cause found: inspect the image and the positions of its detections")
        return "\n".join(lines)
