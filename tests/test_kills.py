"""Writers that are killed at any moment: nothing lost, nothing unreadable, nothing left behind.

``BORESIGHT_KILLS=50`` kills each writer so many times.
"""

import multiprocessing
import os
import random
import signal
import time
from itertools import count

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from boresight import CameraModel, SolverDatabase
from boresight.movement import DriftLog, Verdict
from boresight.wcs import undo, write_wcs

KILLS = int(os.environ.get("BORESIGHT_KILLS", "3"))

#: A killed writer has worked for up to so many seconds since its first file.
LONGEST = 0.08

pytestmark = [
    pytest.mark.skipif(
        not hasattr(os, "O_TMPFILE"), reason="files without a name until they are complete"
    ),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def killed(write, delay):
    """Number of writes that had ended when a process that writes without end was killed."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def work():
        for number in count():
            write(number)
            sender.send(number)

    process = fork.Process(target=work)
    process.start()
    sender.close()
    assert receiver.poll(60)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    ended = -1
    while receiver.poll():
        try:
            ended = receiver.recv()
        except EOFError:
            break
    return ended + 1


@pytest.fixture
def delays():
    draw = random.Random(20261129)
    return [draw.uniform(0.0, LONGEST) for _ in range(KILLS)]


def check_left(path, write):
    """Check that a process that writes once more leaves one file alone."""
    process = multiprocessing.get_context("fork").Process(target=write, args=(0,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_cameras_are_the_old_or_the_new(tmp_path, delays):
    path = tmp_path / "camera.json"

    def save(number):
        CameraModel(1000.0 + number, (480, 640)).save(path)

    for delay in delays:
        ended = killed(save, delay)
        focal_length = CameraModel.load(path).focal_length_px
        assert focal_length - 1000.0 in (ended - 1, ended)
    check_left(path, save)


def test_databases_are_the_old_or_the_new(tmp_path, delays):
    path = tmp_path / "patterns.bsdb"
    made = [
        SolverDatabase.generate_from_hipparcos(
            max_fov_deg=30.0, min_fov_deg=30.0, star_max_magnitude=magnitude
        )
        for magnitude in (3.5, 4.0)
    ]
    counts = [database.num_stars for database in made]
    assert counts[0] != counts[1]

    def save(number):
        made[number % 2].save_to_file(path)

    for delay in delays:
        assert killed(save, delay) > 0
        assert SolverDatabase.load_from_file(path).num_stars in counts
    check_left(path, save)


def test_frames_keep_their_pixels_and_one_header(tmp_path, delays):
    path = tmp_path / "frame.fits"
    pixels = np.random.default_rng(1).integers(0, 60000, (300, 400)).astype(np.uint16)
    fits.writeto(path, pixels)
    original = path.read_bytes()

    def turn(number):
        if number % 2:
            undo(path)
        else:
            wcs = WCS(naxis=2)
            wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
            wcs.wcs.crval, wcs.wcs.crpix = [83.8, -5.4], [40.5, 30.5]
            wcs.wcs.cdelt = [-2e-3, 2e-3]
            write_wcs(path, wcs)

    for delay in delays:
        killed(turn, delay)
        with fits.open(path, checksum=True) as hdus:
            np.testing.assert_array_equal(hdus[0].data, pixels)
            is_solved = "CTYPE1" in hdus[0].header
        if is_solved:
            undo(path)
        assert path.read_bytes() == original
    check_left(path, turn)


def test_no_record_of_a_log_is_lost_or_repeated(tmp_path, delays):
    path = tmp_path / "drift.jsonl"
    camera = CameraModel(1000.0, (480, 640))
    verdict = Verdict((), "clouds", False, camera, 1e-3)
    kept = []
    for run, delay in enumerate(delays):
        before = len(kept)
        ended = killed(
            lambda number, run=run: DriftLog(path).append(verdict, f"{run}/{number}"), delay
        )
        kept = [record["frame"] for record in DriftLog(path).records()]
        new = kept[before:]
        assert new == [f"{run}/{number}" for number in range(len(new))]
        assert ended <= len(new) <= ended + 1
    assert list(tmp_path.iterdir()) == [path]
