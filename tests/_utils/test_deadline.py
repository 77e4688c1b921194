"""Time is heard while a frame is read, in every format, and says nothing where there is enough."""

import bz2
import gzip
import io
import itertools
import lzma
import time

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import boresight
from boresight import TimeLimitError, read_frame
from boresight._utils import deadline
from boresight._utils.deadline import until

PIXELS = np.random.default_rng(0).integers(0, 65536, (300, 400)).astype(np.uint16)
COLOURS = np.stack([(PIXELS >> 8).astype(np.uint8)] * 3, axis=-1)


def bytes_of(save, *args, **options):
    content = io.BytesIO()
    save(content, *args, **options)
    return content.getvalue()


def tiled(tiles):
    image = fits.CompImageHDU(PIXELS.astype(np.int32), tile_shape=tiles)
    return bytes_of(fits.HDUList([fits.PrimaryHDU(), image]).writeto)


PLAIN = bytes_of(fits.PrimaryHDU(PIXELS).writeto)
FILES = {
    "fits": PLAIN,
    "gzip": gzip.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "tiles": tiled((1, 400)),
    "large tiles": tiled((70, 400)),
    "png": bytes_of(Image.fromarray(PIXELS).save, format="png"),
    "colour png": bytes_of(Image.fromarray(COLOURS).save, format="png"),
    "jpeg": bytes_of(Image.fromarray(COLOURS).save, format="jpeg"),
    "bmp": bytes_of(Image.fromarray(COLOURS).save, format="bmp"),
    "lzw": bytes_of(Image.fromarray(PIXELS).save, format="tiff", compression="tiff_lzw"),
    "deflate": bytes_of(
        Image.fromarray(PIXELS).save, format="tiff", compression="tiff_adobe_deflate"
    ),
    "jpeg in tiff": bytes_of(Image.fromarray(COLOURS).save, format="tiff", compression="jpeg"),
}


@pytest.mark.parametrize("kind", FILES)
def test_time_that_is_over_is_heard_at_any_moment(kind, tmp_path, monkeypatch):
    path = tmp_path / "frame"
    path.write_bytes(FILES[kind])
    expected = read_frame(path).image
    clock = itertools.count()
    monkeypatch.setattr(deadline.time, "monotonic", lambda: next(clock))
    with until(1e9):
        np.testing.assert_array_equal(read_frame(path).image, expected)
    asked = next(clock)
    assert asked > 2
    for last in {0, 1, asked // 2, asked - 1}:
        clock = itertools.count()
        with pytest.raises(TimeLimitError, match="not read in the time"), until(last - 0.5):
            read_frame(path)


def test_a_shorter_time_within_another_ends_first():
    with pytest.raises(TimeLimitError), until(-1.0), until(time.monotonic() + 1000.0):
        deadline.check_time()
    deadline.check_time()
    assert not deadline.is_limited()


def test_a_frame_that_is_not_read_in_time_does_not_solve(tmp_path):
    path = tmp_path / "frame.fits"
    path.write_bytes(PLAIN)
    assert boresight.solve(path, 10.0, solve_timeout_ms=0) is None
    assert boresight.diagnose(path, 10.0, solve_timeout_ms=0).status == "timeout"
    with path.open("rb") as file, pytest.raises(TimeLimitError):
        boresight.extract_centroids(file, timeout_ms=0)
