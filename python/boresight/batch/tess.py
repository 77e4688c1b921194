"""Full-frame images of TESS in the mission's public bucket."""

from __future__ import annotations

from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.batch.frames import matching
from boresight.errors import InputError

__all__ = ["tess_ffi"]

#: The archive's open bucket: ``s0001/2018/206/1-1/tess2018206045859-s0001-1-1-0120-s_ffic.fits``.
PUBLIC_BUCKET = "s3://stpubdata/tess/public/ffi"


@named
def tess_ffi(
    sector: int, camera: int | None = None, ccd: int | None = None, *, root: str = PUBLIC_BUCKET
) -> list[str]:
    """List the calibrated full-frame images of a sector of TESS, as URLs.

    Parameters
    ----------
    sector : int
        Sector, from 1.
    camera, ccd : int, optional
        Camera and CCD, 1 to 4. Default: all.
    root : str
        Folder of the sectors. Default: the archive's public bucket, which is read without keys and
        needs s3fs (``boresight[distributed]``); a copy of it with the same folders may be a path or
        a URL of any kind.

    Returns
    -------
    list of str
        In the order of time; frames for `boresight.batch.solve`.

    Raises
    ------
    InputError
        For a number out of range, if there are no such images, or without fsspec.
    OSError
        If the bucket cannot be reached.

    Notes
    -----
    Folders are those of sector, year, day of the year, camera and CCD. One CCD has about 1,300
    images of half an hour in the sectors to 26, 3,900 of ten minutes to 55, and 11,800 of 200
    seconds since; listing takes some 20 seconds, and each image has 35.5 MB.

    Examples
    --------
    >>> import fsspec
    >>> from boresight import batch
    >>> copy = fsspec.filesystem("memory")
    >>> copy.pipe("/ffi/s0001/2018/206/1-2/tess2018206045859-s0001-1-2-0120-s_ffic.fits", b"")
    >>> batch.tess_ffi(1, 1, 2, root="memory://ffi")
    ['memory:///ffi/s0001/2018/206/1-2/tess2018206045859-s0001-1-2-0120-s_ffic.fits']
    >>> copy.rm("/ffi", recursive=True)
    """
    arguments.whole("sector", sector, 1, 9999)
    for name, value in (("camera", camera), ("ccd", ccd)):
        if value is not None:
            arguments.whole(name, value, 1, 4)
    detector = f"{'*' if camera is None else camera}-{'*' if ccd is None else ccd}"
    pattern = f"s{sector:04d}/*/*/{detector}/tess*-s{sector:04d}-{detector}-*_ffic.fits"
    try:
        found = matching(f"{root.rstrip('/')}/{pattern}")
    except OSError as error:
        raise OSError(
            f"root: the images below {root} cannot be listed ({error}); look whether the network "
            "is there, or give the folder of a copy"
        ) from error
    if not found:
        raise InputError(
            f"sector: there are no images of sector {sector}, detector {detector}, below {root}"
        )
    # The names begin with the time, the folders do not.
    return sorted(found, key=lambda name: name.rpartition("/")[2])
