"""The stars of many frames, a file for each."""

import numpy as np
from astropy.io import fits
from astropy.table import QTable

import boresight
from boresight import batch


def test_stars_of_each_frame_are_in_its_file(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        image = np.random.default_rng(1).normal(100, 5, (64, 80))
        image[20:23, 30:33] += 500.0 if folder == "a" else 900.0
        fits.writeto(tmp_path / folder / "frame.fits", image)
    table = batch.extract(f"{tmp_path}/?/frame.fits", output=tmp_path / "out", jobs=1)
    assert list(table["status"]) == ["done", "done"]
    assert len(set(table["stars"])) == 2
    for row, folder in zip(table, ("a", "b"), strict=True):
        stars = QTable.read(tmp_path / "out" / row["stars"])
        expected = boresight.extract_centroids(
            boresight.read_frame(tmp_path / folder / "frame.fits")
        ).centroids
        assert len(stars) == row["num_stars"] == len(expected) == 1
        assert abs(row["noise"] - 5.0) < 0.5
    again = batch.extract(f"{tmp_path}/?/frame.fits", output=tmp_path / "out", jobs=1)
    assert list(again["seconds"]) == list(table["seconds"])
