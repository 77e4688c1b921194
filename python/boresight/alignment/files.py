"""Output of alignments to files: corrected WCS, headers for SWarp, corrections of other files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boresight._utils.files import read_file, write_atomically
from boresight._utils.naming import named
from boresight.alignment.device import Distortions
from boresight.alignment.images import ImageCatalog
from boresight.alignment.mappings import Mapping, mapping_of
from boresight.alignment.register import difference, follow
from boresight.alignment.result import AlignmentResult, ImageAlignment
from boresight.errors import FileFormatError, InputError, UndeterminedError
from boresight.solver.solution import Solution
from boresight.wcs.fits import fit_tpv
from boresight.wcs.write import write_wcs

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from boresight.camera.distortion import PolynomialDistortion

__all__ = ["read_head", "transfer", "write", "write_head"]

Floats = NDArray[np.float64]
Paths = Sequence[str | os.PathLike[str]]


@named
def write(
    result: AlignmentResult,
    files: Paths,
    *,
    output_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    poor: bool = False,
) -> list[Path]:
    """Write the corrected WCS of aligned images into their FITS files.

    Only images with the verdict good are written, and among these only images whose WCS has
    changed, so the reference is not written. The old cards are kept in each file:
    `boresight.wcs.undo` restores them. All images are checked before the first file is written.

    Parameters
    ----------
    result : AlignmentResult
        Result of `align`.
    files : sequence of path-like
        One file for each image; the images of groups count separately, in their order.
    output_dir : path-like, optional
        Folder for copies under the same names. Default: write into the files.
    overwrite : bool
        Replace copies that exist. Default False.
    poor : bool
        Write images with the verdict poor as well. Default False.

    Returns
    -------
    list of pathlib.Path
        The files that were written.

    Raises
    ------
    InputError
        If there is not one file for each image, a file occurs twice, or a WCS is a gwcs, which
        FITS cannot hold.
    OSError
        If a file does not exist or cannot be written. The file is then unchanged.

    Examples
    --------
    >>> from boresight.alignment.files import write
    >>> write(result, ["a.fits", "b.fits"])  # doctest: +SKIP
    [PosixPath('b.fits')]
    """
    todo = [
        (Path(path), _fits_wcs(image), alignment)
        for image, path in _members(result, files)
        if (alignment := image.alignment) is not None
        and alignment.status != "failed"
        and image.wcs is not image.original.wcs
        and (alignment.verdict == "good" or poor)
    ]
    return _write_all("files", todo, output_dir, overwrite)


def _members(
    result: AlignmentResult, files: Paths
) -> list[tuple[ImageCatalog, str | os.PathLike[str]]]:
    images = [image for item in result.catalogs for image in item.members]
    if isinstance(files, str | os.PathLike) or len(files) != len(images):
        raise InputError(f"files: {len(images)} images; give a list with one file for each")
    if len({Path(path).resolve() for path in files}) != len(files):
        raise InputError("files: one occurs twice; give each image its own")
    return list(zip(images, files, strict=True))


def _fits_wcs(image: ImageCatalog) -> WCS:
    """Return the WCS of an image in a form that FITS can hold."""
    from astropy.wcs import WCS

    if isinstance(image.wcs, WCS):
        return image.wcs
    if isinstance(image.wcs, Solution):
        return image.wcs.wcs()
    raise InputError("result: FITS cannot store a gwcs; save the image's wcs as ASDF")


@named
def transfer(
    result: AlignmentResult,
    other_files: Sequence[str | os.PathLike[str] | Paths | None],
    *,
    output_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    poor: bool = False,
) -> list[Path]:
    """Apply the corrections of aligned images to other files with the same pointings.

    Each file keeps its own WCS, which may describe another section or binning, and gets the
    correction of its image on the sky. A fitted distortion is a function of pixels, so it can only
    be applied to files with the shape of their image; other files are then an error. As in `write`,
    files of images without the verdict good are not changed. Files of the reference image are
    changed only if the fit found a distortion. All files are read before the first is written.

    Parameters
    ----------
    result : AlignmentResult
        Result of `align`.
    other_files : sequence
        FITS files with a WCS, such as other products of the same exposures. One entry for each
        image (the images of groups count separately, in their order): a path, a list of paths, or
        None.
    output_dir : path-like, optional
        Folder for copies under the same names. Default: write into the files.
    overwrite : bool
        Replace copies that exist. Default False.
    poor : bool
        Write files of images with the verdict poor as well. Default False.

    Returns
    -------
    list of pathlib.Path
        The files that were written.

    Raises
    ------
    InputError
        If there is not one entry for each image, a file occurs twice, a file has no WCS, its WCS
        cannot hold the correction, or with a fitted distortion its shape is different.

    Examples
    --------
    >>> from boresight.alignment import transfer
    >>> transfer(result, ["a_mask.fits", ["b_mask.fits", "b_drz.fits"]])  # doctest: +SKIP
    [PosixPath('b_mask.fits'), PosixPath('b_drz.fits')]
    """
    corrections = [
        _Correction(item.members[0].original, alignment, member, lens)
        for number, (item, alignment) in enumerate(zip(result.catalogs, result.images, strict=True))
        for member, lens in zip(item.members, _lenses(result, number), strict=True)
    ]
    lists = _lists(other_files, len(corrections))
    todo = [
        (path, correction.of_file(path), correction.alignment)
        for correction, paths in zip(corrections, lists, strict=True)
        if correction.is_one and (correction.alignment.verdict == "good" or poor)
        for path in paths
    ]
    return _write_all("other_files", todo, output_dir, overwrite)


def _lenses(result: AlignmentResult, number: int) -> list[PolynomialDistortion | None]:
    """Return the distortion that was added to each image of an item."""
    members, fit = len(result.catalogs[number].members), result.fit
    if fit is None:
        return [None] * members
    return Distortions(fit.distortion, fit.exposure_distortion).of_image(number, members)


@dataclass(frozen=True)
class _Correction:
    """Correction of an image, in the plane of its original WCS."""

    plane: Mapping
    alignment: ImageAlignment
    image: ImageCatalog
    lens: PolynomialDistortion | None

    @property
    def is_one(self) -> bool:
        """Whether the correction changes a WCS; a reference can only get a shared distortion."""
        status = self.alignment.status
        return status == "success" or (status == "reference" and self.lens is not None)

    def of_file(self, path: Path) -> WCS:
        """Return the corrected WCS of a file."""
        from boresight.frames.read import read_frame

        frame = read_frame(path)
        if frame.wcs is None:
            raise InputError(f"other_files: {path} has no WCS on the sky; give files that have one")
        own = mapping_of(frame.wcs, frame.image_shape)
        if self.lens is not None and own.shape != self.image.image_shape:
            raise InputError(
                f"other_files: {path} is of shape {own.shape}; the fitted distortion is of pixels "
                f"of images of {self.image.image_shape}; give files of that shape"
            )
        try:
            wcs: WCS = self._corrected(own).wcs
        except UndeterminedError as error:
            raise InputError(f"other_files: {path}: {error}") from None
        return wcs

    def _corrected(self, own: Mapping) -> Mapping:
        alignment = self.alignment
        if self.lens is None:
            shift = alignment.shift + alignment.center - alignment.matrix @ alignment.center
            return follow(own, self.plane, alignment.matrix, shift)
        plane = self.image.original.distorted(self.lens)
        return follow(own.distorted(self.lens), plane, *difference(plane, self.image.mapping))


def _lists(other_files: Any, images: int) -> list[list[Path]]:
    """Return the list of other files of each image."""
    if isinstance(other_files, str | os.PathLike) or len(other_files) != images:
        raise InputError(
            f"other_files: {images} images; give for each a path, a list of paths or None"
        )
    lists = []
    for files in other_files:
        alone = isinstance(files, str | os.PathLike)
        lists.append([Path(path) for path in ([files] if alone else files or [])])
    paths = [path.resolve() for files in lists for path in files]
    if len(set(paths)) != len(paths):
        raise InputError("other_files: one occurs twice; give each once")
    return lists


def _write_all(
    argument: str,
    todo: list[tuple[Path, WCS, ImageAlignment]],
    output_dir: str | os.PathLike[str] | None,
    overwrite: bool,
) -> list[Path]:
    """Write a WCS into each file or its copy, after checking that all of them can be written."""
    names = [path.name for path, _, _ in todo]
    if output_dir is not None:
        if len(set(names)) != len(names):
            raise InputError(f"{argument}: two have one name; write them to different folders")
        Path(output_dir).mkdir(parents=True, exist_ok=True)
    for path, _, _ in todo:
        if not path.exists():
            raise FileNotFoundError(f"{argument}: {path} does not exist")
        if output_dir is None and not os.access(path, os.W_OK):
            raise PermissionError(f"{argument}: {path} is read-only; give output_dir for copies")
    written = []
    for path, wcs, alignment in todo:
        copy = None if output_dir is None else Path(output_dir) / path.name
        line = f"Aligned by boresight: {alignment.reason.value}"
        written.append(write_wcs(path, wcs, copy=copy, overwrite=overwrite, history=[line]))
    return written


@named
def write_head(result: AlignmentResult, files: Paths, *, tolerance_px: float = 0.01) -> list[Path]:
    """Write a ``.head`` file next to the file of every aligned image, as SCAMP does for SWarp.

    Parameters
    ----------
    result : AlignmentResult
        Result of `align`.
    files : sequence of path-like
        One file for each image; its suffix is replaced by ``.head``.
    tolerance_px : float
        Largest error of the TPV polynomials, px. Default 0.01.

    Returns
    -------
    list of pathlib.Path
        The files that were written, one for each image with the verdict good.

    Raises
    ------
    InputError
        If there is not one file for each image, or an image has no shape.

    Examples
    --------
    >>> from boresight.alignment.files import write_head
    >>> write_head(result, ["a.fits", "b.fits"])  # doctest: +SKIP
    [PosixPath('a.head'), PosixPath('b.head')]
    """
    written = []
    for image, path in _members(result, files):
        alignment = image.alignment
        if alignment is None or alignment.verdict != "good":
            continue
        if image.image_shape is None:
            raise InputError("result: an image has no shape; give ImageCatalog image_shape")
        height, width = image.image_shape
        half = np.array([width, height]) / 2

        def look(pixels: Floats, image: ImageCatalog = image, half: Floats = half) -> Floats:
            return image.mapping.to_sky(pixels + half)

        header, _ = fit_tpv(look, (height, width), tolerance_px=tolerance_px)
        cards = [str(card).rstrip() for card in header.cards]
        target = Path(path).with_suffix(".head")
        write_atomically(target, ("\n".join([*cards, "END"]) + "\n").encode("ascii"))
        written.append(target)
    return written


@named
def read_head(path: str | os.PathLike[str]) -> list[Header]:
    r"""Read the headers of a ``.head`` or ``.ahead`` file, one for each extension.

    Parameters
    ----------
    path : path-like
        Text file with one card per line, and a line END after each header.

    Returns
    -------
    list of astropy.io.fits.Header
        The headers; ``astropy.wcs.WCS(header)`` reads those of SCAMP.

    Raises
    ------
    FileFormatError
        If a line is no card, or the last header has no END.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from boresight.alignment.files import read_head
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "a.ahead"
    ...     _ = path.write_text("CRVAL1  = 10.5\nEND\n")
    ...     read_head(path)[0]["CRVAL1"]
    10.5
    """
    from astropy.io.fits import Card, Header

    headers: list[Header] = []
    cards: list[Card] = []
    for number, line in enumerate(read_file(path).decode("latin-1").splitlines(), 1):
        text = line.rstrip("\0 ")
        if text == "END":
            headers.append(Header(cards))
            cards = []
        elif text:
            if "=" not in text and text.split()[0] not in ("COMMENT", "HISTORY"):
                raise FileFormatError(f"{path}: line {number} is not a card: {text[:40]!r}")
            cards.append(Card.fromstring(text.ljust(80)[:80]))
    if cards:
        raise FileFormatError(f"{path}: the last header has no END")
    return headers
