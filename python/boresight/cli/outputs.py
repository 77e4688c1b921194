"""Files that `boresight solve` writes for each frame, with the options of solve-field."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from boresight._utils.files import write_atomically
from boresight.cli.frames import LoadedFrame
from boresight.errors import InputError
from boresight.frames.frame import Frame
from boresight.solver.exports import SipChoice
from boresight.solver.products import write_axy, write_corr, write_rdls, write_regions
from boresight.solver.solution import Solution

__all__ = ["Outputs", "check_outputs", "output_options", "write_outputs"]

Outputs = Mapping[str, Any]
"""Values of the options, by name."""

#: Options that give the name of an output file per frame, and their help texts.
_FILES = {
    "new_fits": "Copy of the frame with the WCS in its header.",
    "wcs": "FITS header with the WCS, also of pictures.",
    "corr": "FITS table of the matched stars, in the frame and in the catalogue.",
    "rdls": "FITS table of the matched stars of the catalogue.",
    "axy": "FITS table of the stars found.",
    "regions": "Regions of DS9 with the stars.",
}

#: Placeholder, as in solve-field, for the frame's name without extension.
BASE = "%s"

#: Extensions of compressed files, which follow the extension of the frame.
COMPRESSED = (".gz", ".fz", ".bz2", ".xz")


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for output files; the command gets their values in a mapping `outputs`."""
    names = ["write", "sip", "overwrite", "skip_solved", "keep", "folder", *_FILES]

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        outputs = {name: kwargs.pop(name) for name in names}
        return command(*args, outputs=outputs, **kwargs)

    options = [
        click.option(
            "--write", is_flag=True, help="Write the WCS into the FITS files themselves; undo it "
            "with `boresight undo`."
        ),
        *(
            click.option(
                f"--{name.replace('_', '-')}", metavar="FILE",
                help=f"{text} {BASE} in FILE is the frame's name without its extension."
            )
            for name, text in _FILES.items()
        ),
        click.option(
            "--sip", type=click.Choice(["auto", "none", "tpv"]), default="auto", show_default=True,
            help="Distortion in the WCS: SIP where it is needed, none, or TPV."
        ),
        click.option(
            "-D", "--dir", "folder", type=click.Path(path_type=Path, file_okay=False),
            help="Folder for these files. [default: as named]"
        ),
        click.option("-O", "--overwrite", is_flag=True, help="Replace files that exist."),
        click.option(
            "-J", "--skip-solved", is_flag=True,
            help="Skip frames for which all these files exist."
        ),
        click.option(
            "-K", "--continue", "keep", is_flag=True,
            help="Keep files that exist, and write those that are missing."
        ),
    ]  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), run)


def check_outputs(outputs: Outputs, paths: Sequence[Path]) -> list[Path]:
    """Check the output files before solving, and return the frames to solve.

    Raises an error for files that exist already, or that several frames would share. With
    --skip-solved, frames whose output files all exist are not returned.
    """
    if outputs["skip_solved"] and all(outputs[name] in (None, "none") for name in _FILES):
        raise InputError("--skip-solved: needs an option that names an output file; give one")
    taken: dict[Path, Path] = {}
    left = []
    for path in paths:
        targets = {name: _target(outputs, name, path) for name in _FILES}
        wanted = {name: target for name, target in targets.items() if target is not None}
        if outputs["skip_solved"] and all(target.exists() for target in wanted.values()):
            continue
        left.append(path)
        for name, target in wanted.items():
            option = f"--{name.replace('_', '-')}"
            if target in taken:
                raise InputError(
                    f"{option}: {target} would be written for {taken[target]} and for {path}; "
                    f"put {BASE} into its name"
                )
            if target.exists() and not (outputs["overwrite"] or outputs["keep"]):
                raise InputError(
                    f"{option}: {target} exists; add --overwrite to replace it, or --continue to "
                    "keep it"
                )
            taken[target] = path
    return left


def write_outputs(outputs: Outputs, loaded: LoadedFrame, solution: Solution | None) -> list[Path]:
    """Write the requested files of a frame, and return their paths.

    For an unsolved frame only the table of detected stars is written.
    """
    path, frame, stars = loaded.path, loaded.frame, loaded.stars
    targets = {name: _target(outputs, name, path) for name in _FILES}
    if outputs["keep"]:
        targets = {n: None if t is not None and t.exists() else t for n, t in targets.items()}
    done: list[Path] = []
    if frame is None and (outputs["write"] or targets["new_fits"] is not None):
        raise InputError("--write: a list of stars has no image; give --wcs FILE")
    if (axy := targets["axy"]) is not None:
        done.append(write_axy(_in_folder(axy), stars, loaded.image_shape))
    if solution is None:
        return done
    sip = outputs["sip"]
    writers: dict[str, Callable[[Path], Path]] = {
        "new_fits": lambda file: _new_fits(file, path, frame, solution, sip),
        "wcs": lambda file: solution.save_wcs(file, sip=sip),
        "corr": lambda file: write_corr(file, solution),
        "rdls": lambda file: write_rdls(file, solution),
        "regions": lambda file: write_regions(file, solution, stars),
    }
    for name, write in writers.items():
        target = targets[name]
        if target is not None:
            done.append(write(_in_folder(target)))
    if outputs["write"]:
        if frame is None or frame.header is None:
            raise InputError("--write: it is not a FITS file; give --new-fits FILE or --wcs FILE")
        done.append(solution.write_wcs(path, sip=sip))
    return done


def _new_fits(
    file: Path, path: Path, frame: Frame | None, solution: Solution, sip: SipChoice
) -> Path:
    """Write a FITS copy with the WCS: of the FITS file, or of the pixels of a picture."""
    assert frame is not None
    if frame.header is not None:
        return solution.write_wcs(path, copy=file, sip=sip, overwrite=True)
    from astropy.io import fits

    data = io.BytesIO()
    fits.PrimaryHDU(frame.image).writeto(data)
    write_atomically(file, data.getvalue())
    return solution.write_wcs(file, sip=sip)


def _target(outputs: Outputs, name: str, path: Path) -> Path | None:
    """Output file of an option for a frame; None without the option or with the value "none"."""
    named = outputs[name]
    if named is None or named == "none":
        return None
    target = Path(named.replace(BASE, _base(path)))
    folder = outputs["folder"]
    return target if folder is None or target.is_absolute() else Path(folder) / target


def _base(path: Path) -> str:
    """Name of a file without its extension and without the extension of its compression."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).stem


def _in_folder(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
