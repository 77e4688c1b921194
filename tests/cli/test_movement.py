"""`boresight movement` and `boresight check`."""

import json

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from PIL import Image

import boresight
from boresight.cli import main
from boresight.cli.check import refusal
from boresight.movement import DriftLog, MountedCamera, MovementCorrection, Verdict

CAMERA = boresight.CameraModel.from_fov(12.0, (512, 512))


def run(*arguments):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def waves(x, y):
    return sum(np.sin((x * np.cos(k) + y * np.sin(k)) / (3 + k) + k) for k in range(9))


@pytest.fixture
def pictures(tmp_path):
    y, x = np.mgrid[:300, :400].astype(float)
    for name, dx, dy in (("ref", 0, 0), ("moved", 7.25, -3.5)):
        image = np.clip(120 + 12 * waves(x + dx, y + dy), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((300, 400), 9, np.uint8)).save(tmp_path / "blank.png")
    return tmp_path


def test_movement(pictures):
    arguments = [pictures / "ref.png", pictures / "moved.png"]
    done = run(
        "movement", *arguments, "--output", pictures / "m.cmc", "--warp", pictures / "w.fits"
    )
    assert done.exit_code == 0
    assert "phase: shift (7.2" in done.stdout
    found = MovementCorrection.load(pictures / "m.cmc")
    assert found.shift == pytest.approx((7.25, -3.5), abs=0.05)
    with fits.open(pictures / "w.fits") as hdus:
        assert hdus[0].data.shape == hdus["MASK"].data.shape == (300, 400)
    record = json.loads(run("movement", *arguments, "--json", "--transform", "shift").stdout)
    assert record["found"]
    assert record["shift_px"] == pytest.approx([7.25, -3.5], abs=0.05)


def test_movement_that_is_not_determined(pictures):
    done = run("movement", pictures / "ref.png", pictures / "blank.png")
    assert done.exit_code == 5
    assert "could not be determined" in done.stdout
    assert run("movement", pictures / "ref.png", pictures / "none.png").exit_code == 2


@pytest.fixture
def sky(tmp_path, wide_database):
    wide_database.save_to_file(tmp_path / "db.bin")
    for name, dec in (("a", -1.2), ("b", -1.2), ("c", -1.15)):
        image = boresight.simulate_frame(
            CAMERA, 83.8, dec, 30.0, seed=1 if name == "a" else 2
        ).image
        fits.PrimaryHDU(image).writeto(tmp_path / f"{name}.fits")
    noise = np.random.default_rng(0).normal(100, 5, (512, 512)).astype(np.float32)
    fits.PrimaryHDU(noise).writeto(tmp_path / "clouds.fits")
    solution = boresight.solve(tmp_path / "a.fits", database=wide_database, camera_model=CAMERA)
    MountedCamera.from_solution(solution).save(tmp_path / "cam.json")
    return tmp_path


def test_check(sky):
    common = ["--calibration", sky / "cam.json", "--database", sky / "db.bin"]
    done = run("check", sky / "a.fits", *common)
    assert done.exit_code == 0, done.output
    assert "nothing significant" in done.stdout
    log = sky / "drift.jsonl"
    done = run("check", sky / "c.fits", *common, "--log", log, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["kinds"] == ["pointing"]
    assert len(DriftLog(log)) == 1
    page = sky / "page.html"
    run("check", sky / "c.fits", *common, "--report", page)
    assert "The camera has moved: pointing" in page.read_text(encoding="utf-8")
    run("check", sky / "clouds.fits", *common, "--log", log, "--report", page)
    assert "2 frames: 1 of a camera that has moved" in page.read_text(encoding="utf-8")
    assert run("check", sky / "clouds.fits", *common).exit_code == 4
    assert run("check", sky / "c.fits", sky / "clouds.fits", *common).exit_code == 3
    assert run("check", sky / "a.fits", "--calibration", sky / "a.fits").exit_code == 2


def test_check_of_a_part_of_the_frame_cannot_tell(sky):
    image = fits.getdata(sky / "c.fits").astype(np.float32)
    image[:, 120:] = np.random.default_rng(0).normal(np.median(image), 1.0, image[:, 120:].shape)
    fits.PrimaryHDU(image).writeto(sky / "part.fits")
    common = ["--calibration", sky / "cam.json", "--database", sky / "db.bin"]
    done = run("check", sky / "part.fits", *common, "--json")
    assert done.exit_code == 5, done.output
    told = json.loads(done.stdout)
    assert told["solved"]
    assert told["moved"] is None
    assert "covered" in told["unknown"]
    assert run("check", sky / "a.fits", sky / "part.fits", *common).exit_code == 5


def test_check_goes_on_from_the_last_frames_of_the_log(sky):
    for name, seed in (("still", 1), ("roll3", 3), ("roll4", 4)):
        frame = boresight.simulate_frame(
            CAMERA, 83.8, -1.2, 30.0 if name == "still" else 30.008, seed=seed, epoch=2025.0,
            zero_point=12.0, faint_limit=6.5,
        )  # fmt: skip
        fits.PrimaryHDU(frame.image).writeto(sky / f"{name}.fits")
        if name == "still":
            turn = frame.rotation_icrs_to_camera.tolist()
            before = MountedCamera(CAMERA, boresight._core.quaternion_of_matrix(turn))
            before.save(sky / "true.json")
    common = ["--calibration", sky / "true.json", "--database", sky / "db.bin", "--json"]
    log = ["--log", sky / "drift.jsonl"]
    done = run("check", sky / "roll3.fits", *common, *log)
    assert done.exit_code == 5, done.output
    assert json.loads(done.stdout)["suspected"] == ["roll"]
    # The same frame does not confirm it; nor does another one that knows of none before.
    assert run("check", sky / "roll3.fits", *common, *log).exit_code == 5
    assert run("check", sky / "roll4.fits", *common).exit_code == 5
    page = sky / "page.html"
    done = run("check", sky / "roll4.fits", *common, *log, "--report", page)
    assert done.exit_code == 3, done.output
    assert json.loads(done.stdout)["kinds"] == ["roll"]
    assert "roll may have changed" in page.read_text(encoding="utf-8")
    # Also where all are given at once, or the frames before are lost.
    frames = [sky / f"{name}.fits" for name in ("still", "roll3", "clouds", "roll4")]
    assert run("check", *frames, *common, "--report", page).exit_code == 3
    assert "The camera has moved: roll" in page.read_text(encoding="utf-8")
    (sky / "roll3.fits").unlink()
    log = ["--log", sky / "other.jsonl"]
    DriftLog(log[1]).append(Verdict((), "?", True, CAMERA, 1e-3, suspected=("roll",)), frames[1])
    assert DriftLog(log[1]).suspects() == [str(frames[1])]
    assert run("check", sky / "roll4.fits", *common, *log).exit_code == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"num_stars": 12}, "12 stars are too few"),
        ({"coverage": 0.63}, "cover 63% of the frame"),
        ({"held_out_px": 0.5}, "held out"),
        ({"held_out_px": float("nan")}, "held out"),
    ],
)
def test_what_clouds_may_feign_is_no_new_calibration(changes, reason):
    given = {"num_stars": 40, "coverage": 0.9, "rms_px": 0.1, "held_out_px": 0.11} | changes
    verdict = Verdict(("roll",), None, True, CAMERA, 1e-3, **given)
    told = refusal(verdict)
    assert told is None if reason is None else reason in told


def test_check_updates_and_keeps_the_one_before(sky):
    common = ["--calibration", sky / "cam.json", "--database", sky / "db.bin"]
    before = (sky / "cam.json").read_text()
    done = run("check", sky / "c.fits", *common, "--update")
    assert done.exit_code == 3
    assert "kept in cam.before.json" in done.stdout
    assert (sky / "cam.before.json").read_text() == before
    assert run("check", sky / "c.fits", *common).exit_code == 0
    # What clouds hide changes nothing.
    now = (sky / "cam.json").read_text()
    assert run("check", sky / "clouds.fits", *common, "--update").exit_code == 4
    assert (sky / "cam.json").read_text() == now
