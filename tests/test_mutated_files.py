"""Files of every format, damaged at random: refused in words or read, soon, and nothing else.

The long version is told of in docs/reliability.md.
"""

import json
import os
import random
import re
import signal
import struct
import time
import zlib

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

import boresight
from boresight import BoresightError, CalibrationBlock, CameraModel, SolverDatabase, movement
from boresight.batch.matched import read_matches, write_matches
from boresight.cli.frames import Reading, load_frame
from boresight.solver.products import write_axy
from fuzz_formats import PLATEPAR

#: Damaged files of each format.
COUNT = int(os.environ.get("BORESIGHT_MUTATIONS", "40"))

#: Seconds after which one is taken to hang.
SECONDS = 20

#: Place of the checksum in a database's header, and the header's size.
CRC_AT, HEADER_BYTES = 12, 280

#: What stands instead of a number in a text.
NUMBERS = (
    b"0", b"-1", b"1e308", b"-1e308", b"1e-308", b"NaN", b"Infinity", b"null", b"true", b'"a"',
    b"99999999999999999999", b"[]", b"{}", b"1e999",
)  # fmt: skip


def read_image(path):
    boresight.extract_centroids(boresight.read_frame(path).image)


def read_database(path):
    database = SolverDatabase.load_from_file(path)
    database.cone_search(10.0, 20.0, 5.0)
    database.get_star(0)
    stars = np.random.default_rng(0).uniform(-250, 250, (12, 2))
    database.solve_from_centroids(stars, 60.0, image_shape=(512, 512), max_patterns_checked=2000)
    database.verify()


READERS = {
    ".fits": read_image,
    ".fits.fz": read_image,
    ".png": read_image,
    ".tif": read_image,
    ".db": read_database,
    ".block": lambda path: CalibrationBlock.from_bytes(path.read_bytes()).solve(),
    ".json": lambda path: CameraModel.load(path).pixel_to_direction(1.0, 2.0),
    ".cmc": lambda path: movement.MovementCorrection.load(path).moved_to_ref_coords(1.0, 2.0),
    ".cal": lambda path: movement.read_platepar(path).pixel_to_world(1.0, 2.0),
    ".npz": read_matches,
    ".ecsv": lambda path: load_frame(path, Reading(None, None, (512, 512))),
    ".axy": lambda path: load_frame(path, Reading(None, None, (512, 512))),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory, wide_database):
    """Give the sound bytes of every format, by the ends of their names."""
    folder = tmp_path_factory.mktemp("sound")
    frame = boresight.simulate_frame(CameraModel.from_fov(12.0, (512, 512)), 83.8, -1.2, seed=1)
    stars = boresight.extract_centroids(frame.image)
    solution = boresight.solve(stars, 12.0, database=wide_database)
    pixels = np.round(frame.image[:64, :64]).astype(np.int16)
    fits.PrimaryHDU(pixels).writeto(folder / "a.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels)]).writeto(folder / "a.fits.fz")
    for suffix in (".png", ".tif"):
        Image.fromarray(np.clip(pixels / 8, 0, 255).astype(np.uint8)).save(folder / f"a{suffix}")
    SolverDatabase.generate_from_stars(
        boresight.Catalog.hipparcos()[:300], max_fov_deg=60.0, cache=False
    ).save_to_file(folder / "a.db")
    block = boresight.calibration_block(solution, stars, solution.camera_model, noise=1.0)
    (folder / "a.block").write_bytes(block.to_bytes())
    solution.camera_model.save(folder / "a.json")
    moved = [[1.0, 2.0], [30.0, 5.0], [-20.0, 9.0]]
    movement.MovementCorrection(np.eye(3), (64, 64), moved, moved, "by hand").save(folder / "a.cmc")
    (folder / "a.cal").write_text(json.dumps(PLATEPAR))
    write_matches(folder / "a.npz", solution.matched_stars)
    stars.centroids[:20].table().write(folder / "a.ecsv", format="ascii.ecsv")
    write_axy(folder / "a.axy", stars.centroids[:20], (512, 512))
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in READERS}


def mutated(data, rng):
    """Some bytes changed, cut, doubled or moved, or a number of a text replaced."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(max(1, min(len(damaged), rng.choice((400, 4000, len(damaged) + 1)))))
        kind = rng.randrange(7)
        if kind == 0 and damaged:
            at = min(at, len(damaged) - 1)
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at : at + rng.choice((1, 4, 8))] = rng.randbytes(rng.choice((1, 4, 8)))
        elif kind == 2:
            del damaged[at : at + rng.choice((1, 16, 3000))]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + rng.choice((1, 80, 2880))]
        elif kind == 4:
            del damaged[at:]
        elif kind == 5:
            extreme = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80"))
            damaged[at : at + 8] = extreme * len(damaged[at : at + 8])
        else:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e[+-]?\d+)?", bytes(damaged[:20_000])))
            if numbers:
                start, end = rng.choice(numbers).span()
                damaged[start:end] = rng.choice(NUMBERS)
    return bytes(damaged)


def sealed(data):
    """Give a database's header the checksum that goes with it, so that what it says is believed."""
    header = bytearray(data[:HEADER_BYTES])
    if len(header) < HEADER_BYTES:
        return data
    header[CRC_AT : CRC_AT + 4] = bytes(4)
    header[CRC_AT : CRC_AT + 4] = struct.pack("<I", zlib.crc32(header))
    return bytes(header) + data[HEADER_BYTES:]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs alarms")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", READERS)
def test_damaged_files_are_refused_or_read(sound, suffix, tmp_path):
    read, path = READERS[suffix], tmp_path / f"damaged{suffix}"
    path.write_bytes(sound[suffix])
    read(path)
    rng = random.Random(suffix)

    def late(*_):
        raise AssertionError("late")

    before = signal.signal(signal.SIGALRM, late)
    faults, longest = [], 0.0
    try:
        for number in range(COUNT):
            data = mutated(sound[suffix], rng)
            if suffix == ".db" and number % 2:
                data = sealed(data)
            path.write_bytes(data)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                read(path)
            except BoresightError as error:
                if not str(error):
                    faults.append((number, "no words"))
            except OSError as error:
                if str(path) not in str(error):
                    faults.append((number, repr(error)))
            except BaseException as error:
                faults.append((number, repr(error)))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            longest = max(longest, time.perf_counter() - start)
    finally:
        signal.signal(signal.SIGALRM, before)
    print(f"{suffix}: {COUNT} damaged files, the longest took {longest:.2f} s")
    assert not faults, faults[:5]
