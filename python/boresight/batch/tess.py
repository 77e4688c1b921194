"""List of the full-frame images of TESS in the mission's public bucket."""

from __future__ import annotations

from boresight._utils import arguments
from boresight._utils.naming import named
from boresight.batch.frames import matching
from boresight.errors import InputError

__all__ = ["tess_ffi"]

#: The archive's public bucket, with files such as
#: ``s0001/2018/206/1-1/tess2018206045859-s0001-1-1-0120-s_ffic.fits``.
PUBLIC_BUCKET = "s3://stpubdata/tess/public/ffi"


@named
def tess_ffi(
    sector: int, camera: int | None = None, ccd: int | None = None, *, root: str = PUBLIC_BUCKET
) -> list[str]:
    """List the calibrated full-frame images of a sector of TESS, as URLs.

    Parameters
    ----------
    sector : int
        Number of the sector, from 1.
    camera, ccd : int, optional
        Camera and CCD, 1 to 4. Default: all.
    root : str
        Folder that contains the sectors. Default: the archive's public bucket, which is read
        without keys and needs s3fs (``boresight[distributed]``). A copy with the same subfolders
        may be a path or a URL of any kind.

    Returns
    -------
    list of str
        URLs in the order of time, to be given to `boresight.batch.solve`.

    Raises
    ------
    InputError
        If a number is out of range, there are no such images, or fsspec is not installed.
    OSError
        If the bucket cannot be reached.

    Notes
    -----
    The folders are sector, year, day of the year, and camera with CCD. One CCD has about 1,300
    images of 30 minutes per sector up to sector 26, 3,900 images of 10 minutes up to sector 55, and
    11,800 images of 200 seconds since then. Listing takes about 20 seconds. Each image has 35.5 MB.

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
            f"root: the images below {root} cannot be listed ({error}); check whether the network "
            "works, or give the folder of a copy"
        ) from error
    if not found:
        raise InputError(
            f"sector: there are no images of sector {sector}, detector {detector}, below {root}"
        )
    # File names begin with the time, so they are sorted without their folders.
    return sorted(found, key=lambda name: name.rpartition("/")[2])
