"""The sky over a frame: grid, names and constellations are where the stars are."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, get_constellation
from matplotlib import pyplot as plt

import boresight
from boresight import CameraModel, Catalog, simulate_frame
from boresight.plot import plot_sky
from boresight.plot.asterisms import LINES, STAR_NAMES


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def stars():
    return Catalog.hipparcos()


def places(stars, numbers):
    found = stars.get(numbers)
    return SkyCoord(found.ra_deg, found.dec_deg, unit="deg")


def test_named_stars_are_bright(stars):
    assert stars.get(list(STAR_NAMES)).magnitude.max() < 5.0  # Mira, at its mean
    assert len(set(STAR_NAMES.values())) == len(STAR_NAMES) > 120


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Polaris", "02h31m49s +89d15m51s"),
        ("Antares", "16h29m24s -26d25m55s"),
        ("Alkaid", "13h47m32s +49d18m48s"),
        ("Nunki", "18h55m16s -26d17m49s"),
        ("Enif", "21h44m11s +09d52m30s"),
    ],
)
def test_names_are_those_of_the_stars(stars, name, place):
    number = next(n for n, named in STAR_NAMES.items() if named == name)
    assert places(stars, [number])[0].separation(SkyCoord(place)).arcsec < 120.0


def test_lines_join_stars_that_are_near_and_of_one_constellation(stars):
    ends = [places(stars, list(numbers)) for numbers in zip(*LINES, strict=True)]
    assert ends[0].separation(ends[1]).deg.max() < 22.0
    first, second = (get_constellation(end) for end in ends)
    # Elnath belongs to Auriga's figure and to Taurus, Alpheratz to Pegasus' and to Andromeda.
    assert np.count_nonzero(first != second) == 4
    assert len(set(first)) > 40


@pytest.fixture(scope="module")
def orion(wide_database):
    camera = CameraModel.from_fov(15.0, (300, 400), parity_flip=True)
    frame = simulate_frame(camera, 83.8, 2.0, 40.0, seed=1)
    return frame, boresight.solve(frame.image, 15.0, database=wide_database)


def test_names_stand_beside_their_stars(orion):
    frame, solution = orion
    ax = plot_sky(frame.image, solution)
    written = {text.get_text(): text for text in ax.texts}
    assert {"Bellatrix", "Alnilam"} <= set(written)
    assert "Rigel" not in written
    row = np.flatnonzero(frame.stars.catalog_id == 25336)[0]
    np.testing.assert_allclose(
        written["Bellatrix"].xy, (frame.stars.x[row], frame.stars.y[row]), atol=1.0
    )


def test_grid_lines_are_of_one_coordinate(orion):
    frame, solution = orion
    ax = plot_sky(frame.image, solution, names=False, constellations=False)
    labels = [text.get_text() for text in ax.texts]
    assert any(label.endswith("°") for label in labels)
    assert any("h" in label for label in labels)
    constant = 0
    for line in ax.lines:
        x, y = (np.asarray(values)[np.isfinite(line.get_xdata())] for values in line.get_data())
        ra, dec = solution.pixel_to_world(x, y)
        constant += min(np.ptp(ra), np.ptp(dec)) < 1e-6
    assert constant == len(ax.lines) > 4
    assert not plot_sky(frame.image, solution, names=False, grid=False, constellations=False).texts


def test_a_frame_at_the_pole_has_a_grid():
    camera = CameraModel.from_fov(20.0, (300, 400))
    frame = simulate_frame(camera, 30.0, 89.0, seed=1)
    ax = plot_sky(frame.image, boresight.solve(frame.image, 20.0))
    assert "Polaris" in [text.get_text() for text in ax.texts]
    assert len(ax.lines) > 8
