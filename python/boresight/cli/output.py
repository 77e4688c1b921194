"""Output of the commands: JSON records, text tables, figures and pages."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boresight._utils.arrays import plain
from boresight._utils.files import replacing
from boresight.cli.options import in_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from boresight.calibration.result import CalibrationResult
    from boresight.extraction.centroids import Centroids
    from boresight.frames.frame import Frame
    from boresight.report.page import Result
    from boresight.solver.findings import Diagnosis
    from boresight.solver.solution import Solution

Record = dict[str, Any]

#: Number of frames on a page of the figure.
PAGE_FRAMES = 20


def record_of(path: Path, num_centroids: int, solution: Solution | None) -> Record:
    """Return the result of one frame as a dict of plain values."""
    record: Record = {
        "file": str(path),
        "solved": solution is not None,
        "num_centroids": num_centroids,
    }
    if solution is not None:
        names = ("ra_deg", "dec_deg", "roll_deg", "fov_deg", "parity_flip", "num_matches",
                 "rmse_arcsec", "probability", "solve_time_ms")  # fmt: skip
        record |= {name: getattr(solution, name) for name in names}
        record["quaternion"] = [float(component) for component in solution.quaternion]
    return record


def calibration_record(result: CalibrationResult, records: list[Record]) -> Record:
    """Return the result of a calibration as a dict of plain values."""
    return {
        "camera_model": result.camera_model.to_dict(),
        "rmse_before_px": result.rmse_before_px,
        "rmse_after_px": result.rmse_after_px,
        "held_out_rmse_px": result.held_out_rmse_px,
        "num_inliers": result.num_inliers,
        "num_outliers": result.num_outliers,
        "converged": result.converged,
        "frames": records,
    }


def print_pass(number: int, result: CalibrationResult) -> None:
    """Print a line about one pass of a calibration."""
    solved = sum(solution is not None for solution in result.solutions)
    held_out = result.held_out_rmse_px
    before = "none" if result.rmse_before_px is None else f"{result.rmse_before_px:.3f}"
    click.echo(
        f"Pass {number}: {solved}/{len(result.solutions)} solved, "
        f"calibration RMSE {before} -> {result.rmse_after_px:.3f} px, "
        + ("" if held_out is None else f"{held_out:.3f} held out, ")
        + f"{result.num_inliers} inliers"
    )


HEADINGS = ("RA (deg)", "Dec (deg)", "Roll (deg)", "FOV (deg)", "Matches", 'RMSE (")', "ms")
"""Columns of the table before the frame's name, which is last: it may be long."""

WIDTHS = (10, 10, 9, 9, 8, 8, 8)


def print_headings() -> None:
    """Print the headings of the table."""
    click.echo("  ".join(f"{h:>{w}}" for h, w in zip(HEADINGS, WIDTHS, strict=True)) + "  Frame")


def print_record(record: Record, *, error: bool = True) -> None:
    """Print the table line of a frame and, below the line, the reasons for a failure.

    Without `error`, the error of the frame, which was printed before, is not repeated.
    """
    if record["solved"]:
        formats = (".5f", "+.5f", ".4f", ".4f", "d", ".2f", ".1f")
        names = ("ra_deg", "dec_deg", "roll_deg", "fov_deg", "num_matches", "rmse_arcsec",
                 "solve_time_ms")  # fmt: skip
        cells = [format(record[name], form) for name, form in zip(names, formats, strict=True)]
        line = "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, WIDTHS, strict=True))
    else:
        state = (
            "not read" if "error" in record else f"not solved, of {record['num_centroids']} stars"
        )
        line = state.ljust(sum(WIDTHS) + 2 * (len(WIDTHS) - 1))
    click.echo(f"{line}  {record['file']}")
    for finding in record.get("diagnosis", {}).get("findings", ()):
        word = "" if finding["certain"] else "perhaps "
        click.echo(f"    {word}{finding['cause']}: {finding['text']}")
    if error:
        print_error(record)


def print_error(record: Record) -> None:
    """Print the error of a frame, if there is one, to standard error."""
    if "error" in record:
        named = record["error"]
        named = named if record["file"] in named else f"{record['file']}: {named}"
        click.echo(f"boresight: {named}", err=True)


class JsonList:
    """A JSON list that is printed element by element, so that an error later loses no element."""

    def __init__(self) -> None:
        self._separator = "[\n"

    def add(self, record: Record) -> None:
        """Print one element."""
        click.echo(self._separator + textwrap.indent(json.dumps(record, indent=2), "  "), nl=False)
        self._separator = ",\n"

    def close(self) -> None:
        """Print the closing bracket of the list."""
        click.echo("[]" if self._separator == "[\n" else "\n]")


def diagnosis_record(diagnosis: Diagnosis) -> Record:
    """Diagnosis of an unsolved frame as a dict of plain values, with the names of options."""
    findings = [
        {
            "cause": finding.cause,
            "text": in_options(finding.text),
            "certain": finding.is_certain,
            "changes": {name: plain(value) for name, value in finding.changes.items()},
        }
        for finding in diagnosis.findings
    ]
    return {"status": diagnosis.status, "findings": findings}


def save_plot(path: Path, drawn: Sequence[tuple[Frame, Solution | None, Centroids]]) -> None:
    """Draw the frames with their matched stars, and save the figure.

    Each page has up to `PAGE_FRAMES` frames. Further pages are pages of the same PDF, or further
    pictures with numbered names.
    """
    from boresight.plot import plot_solutions

    if not drawn:
        return
    pages = [drawn[i : i + PAGE_FRAMES] for i in range(0, len(drawn), PAGE_FRAMES)]
    figures = (
        plot_solutions(
            [frame.image for frame, _, _ in page],
            [solution for _, solution, _ in page],
            [stars for _, _, stars in page],
            titles=[frame.path.name if frame.path else "" for frame, _, _ in page],
        )
        for page in pages
    )
    if path.suffix.lower() == ".pdf":
        _save_pages(path, figures)
        return
    for number, figure in enumerate(figures, 1):
        target = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        with replacing(target) as draft:
            figure.savefig(draft, dpi=150)
        _close(figure)


def _save_pages(path: Path, figures: Iterable[Figure]) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    with replacing(path) as draft, PdfPages(draft) as document:
        for figure in figures:
            document.savefig(figure, dpi=150)
            _close(figure)


def _close(figure: Figure) -> None:
    """Close a figure to free its memory, because a night of frames makes many figures."""
    import matplotlib.pyplot as plt

    plt.close(figure)


def save_report(
    path: Path,
    result: Result,
    frames: Sequence[Any],
    options: Mapping[str, Any],
) -> None:
    """Write the HTML page about the result; options with the value None are not listed."""
    from boresight.report.page import report

    given = {name: value for name, value in options.items() if value is not None}
    report(result, path, frames=frames, options=given)
