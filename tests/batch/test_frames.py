"""Frames by URL, of servers that go on, or not."""

import io

import numpy as np
import pytest
from astropy.io import fits

from boresight import InputError, TimeLimitError, batch
from boresight.batch import frames
from boresight.batch.frames import read
from helpers import serving

pytest.importorskip("aiohttp")

PIXELS = np.arange(512 * 600, dtype=np.int16).reshape(512, 600)
CONTENT = io.BytesIO()
fits.HDUList([fits.PrimaryHDU(PIXELS), fits.ImageHDU(PIXELS + 1, name="SCI")]).writeto(CONTENT)


def test_a_frame_comes_from_a_server():
    with serving(CONTENT.getvalue()) as (url, asked):
        np.testing.assert_array_equal(read(url).image, PIXELS + 1)
    assert asked


@pytest.mark.parametrize("most", [0, 100, 40_000])
def test_a_server_that_says_nothing_more_is_left(most, tmp_path, monkeypatch):
    """Where the second image is missing, the first one is not taken for the frame."""
    monkeypatch.setattr(frames, "SILENCE_S", 0.3)
    with serving(CONTENT.getvalue(), most=most) as (url, _):
        with pytest.raises(OSError, match=r"frame\.fits: the server did not answer in time"):
            read(url)
        table = batch.solve([url], 15.0, output=tmp_path, jobs=1)
    assert list(table["status"]) == ["error"]
    assert "the server did not answer in time" in table["reason"][0]


def test_a_server_that_ends_early_is_told():
    with (
        serving(CONTENT.getvalue(), most=20_000, close=True) as (url, _),
        pytest.raises(OSError, match=r"frame\.fits: "),
    ):
        read(url)


def test_a_server_that_sends_byte_after_byte_is_left(tmp_path, monkeypatch):
    with serving(CONTENT.getvalue(), pause=0.05) as (url, _):
        table = batch.solve([url], 15.0, output=tmp_path / "a", jobs=1, solve_timeout_ms=500)
        assert list(table["status"]) == ["error"]
        table = batch.extract([url], output=tmp_path / "b", jobs=1, timeout_ms=500)
        assert list(table["status"]) == ["error"]
        monkeypatch.setattr(frames, "PIECE_S", 0.5)
        with pytest.raises(OSError, match="the server did not answer in time"):
            read(url)


def test_time_is_over_before_a_file_is_read(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(CONTENT.getvalue())
    with pytest.raises(TimeLimitError):
        read(str(path), 0)
    table = batch.solve([path], 15.0, output=tmp_path / "out", jobs=1, solve_timeout_ms=0)
    assert "not read in the time allowed" in table["reason"][0]
    for wrong in (-1, "a", 0.5):
        with pytest.raises(InputError, match=r"^solve_timeout_ms: "):
            batch.solve([path], 15.0, output=tmp_path / "no", jobs=1, solve_timeout_ms=wrong)
        with pytest.raises(InputError, match=r"^timeout_ms: "):
            batch.extract([path], output=tmp_path / "no", jobs=1, timeout_ms=wrong)
    table = batch.extract([path], output=tmp_path / "whole", jobs=1, timeout_ms=0.0)
    assert "not read in the time allowed" in table["reason"][0]


def test_a_bucket_that_does_not_answer_is_named(monkeypatch):
    memory = pytest.importorskip("fsspec").filesystem("memory")

    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(type(memory), "glob", fail)
    with pytest.raises(OSError, match=r"^root: the images below memory://ffi cannot .*no route"):
        batch.tess_ffi(1, root="memory://ffi")
