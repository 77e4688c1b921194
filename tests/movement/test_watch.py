"""A camera that is watched: what one frame shows has to be confirmed, by simulated stars."""

import json

import numpy as np
import pytest

import boresight
from boresight import CameraModel, InputError, MatchedStars
from boresight._utils.arrays import rotation_about
from boresight.movement import DriftLog, MountedCamera, Watch, compare
from boresight.movement.change import FrameStars, fit_change, predicted
from boresight.movement.verdict import ARCSEC, judge
from boresight.solver.solution import Solution

CAMERA = CameraModel.from_fov(60.0, (1000, 1400), projection="equidistant")
BEFORE = MountedCamera(CAMERA, (1.0, 0.0, 0.0, 0.0))
NOISE = 0.05


def frame(rng, turn=(0.0, 0.0, 0.0), count=120, part=1.0):
    """Draw a solved frame of a camera that is turned, with stars in a part of it."""
    places = rng.uniform(-1, 1, (count, 2)) * [690, 490]
    places[:, 0] = -690 + (places[:, 0] + 690) * part
    directions = CAMERA.pixel_to_direction(*places.T)
    pixels = predicted(CAMERA, directions, [*turn, 0, 0, 0, 0, 0])
    attitude = boresight._core.quaternion_of_matrix(rotation_about(np.array(turn)).tolist())
    matches = MatchedStars(
        pixels + rng.normal(0, NOISE, (count, 2)), directions, CAMERA, attitude,
        position_cov=np.tile(np.eye(2) * NOISE**2, (count, 1, 1)),
    )  # fmt: skip
    return Solution.from_matches(matches)


def roll(sigmas, rng):
    """Turn about the axis by some standard deviations of a frame."""
    change = fit_change(CAMERA, [seen(frame(rng))])
    return (0.0, 0.0, sigmas / np.sqrt(change.information[2, 2]))


def seen(solution):
    stars = solution.matched_stars
    return FrameStars(stars.directions, stars.positions_px, np.full(len(stars), NOISE))


def test_chance_is_suspected_but_not_told():
    rng, suspected = np.random.default_rng(1), 0
    watch = Watch(BEFORE, false_alarm=0.3)
    for _ in range(150):
        verdict = watch.look(frame(rng, count=40))
        assert not verdict.moved, verdict
        suspected += bool((verdict.alone or verdict).suspected)
    assert 15 <= suspected <= 80


def test_a_roll_of_five_sigma_is_confirmed_by_the_next_frames():
    rng = np.random.default_rng(2)
    turn, after = roll(5.0, rng), []
    for _ in range(40):
        watch = Watch(BEFORE)
        assert not watch.look(frame(rng)).moved
        verdicts = [watch.look(frame(rng, turn)) for _ in range(4)]
        after.append([v.moved is True for v in verdicts].index(True) if verdicts[-1].moved else 9)
        assert verdicts[-1].kinds in ((), ("roll",))
        assert all("not certain" in v.unknown for v in verdicts if v.suspected)
    assert np.mean(np.array(after) <= 1) >= 0.75
    assert np.mean(np.array(after) <= 3) >= 0.95


def test_frames_together_tell_the_change_better():
    rng, together = np.random.default_rng(3), []
    for _ in range(5):
        turn, watch = roll(5.0, rng), Watch(BEFORE)
        together += [(watch.look(frame(rng, turn)), turn) for _ in range(4)]
    together = [(v, turn) for v, turn in together if v.moved and v.alone is not None]
    assert len(together) >= 5
    for verdict, turn in together:
        alone = compare(BEFORE, verdict.solutions[-1])
        assert verdict.alone.all_values == pytest.approx(alone.all_values)
        assert verdict.sigma[2] < 0.8 / np.sqrt(alone.information[2, 2])
        assert abs(verdict.values[2] - turn[2]) < 4.0 * verdict.sigma[2]


def test_a_large_change_is_told_at_once_and_when_it_is_set_right_again():
    rng, watch = np.random.default_rng(4), Watch(BEFORE)
    moved = [0.0, 0.0, 0.0, 1e-3, 1e-3, 1e-3, 0.0, 0.0]
    told = [watch.look(frame(rng, (turn, 0.0, 0.0))).moved for turn in moved]
    assert told == [bool(turn) for turn in moved]


def test_clouds_between_do_not_make_it_forgotten():
    rng = np.random.default_rng(5)
    for _ in range(20):
        turn, watch = roll(5.0, rng), Watch(BEFORE)
        if watch.look(frame(rng, turn)).suspected:
            break
    assert watch.look(frame(rng, count=4)).moved is None
    assert watch.look(np.zeros((1000, 1400))).solved is False
    later = [watch.look(frame(rng, turn)).moved for _ in range(3)]
    assert later[-1]
    # Of another calibration nothing was suspected.
    watch.calibration = MountedCamera(CAMERA, boresight._core.quaternion_of_matrix(
        rotation_about(np.array(turn)).tolist()
    ))  # fmt: skip
    assert watch.look(frame(rng, turn)).moved is False


def test_a_frame_does_not_confirm_itself():
    rng, watch = np.random.default_rng(6), Watch(BEFORE)
    turn = roll(5.0, rng)
    once = next(f for f in (frame(rng, turn) for _ in range(50)) if Watch(BEFORE).look(f).suspected)
    assert [watch.look(once).moved for _ in range(6)] == [None] * 6
    assert any(watch.look(frame(rng, turn)).moved for _ in range(3))


def test_where_stars_cover_a_part_a_change_has_to_be_sure():
    rng, told = np.random.default_rng(7), {False: 0, True: 0}
    for _ in range(400):
        change = fit_change(CAMERA, [seen(frame(rng, count=40, part=0.5))])
        judged = judge(CAMERA, change, np.zeros((8, 8)), 0.2)
        assert judged["kinds"] == ()
        assert (judged["unknown"] is None) == (judged.get("suspected", ()) == ())
        told[judged["unknown"] is not None] += 1
    assert 40 <= told[True] <= 110
    verdict = compare(BEFORE, frame(rng, (0.0, 0.0, 2e-3), 40, 0.5))
    assert verdict.kinds == ("roll",)


def test_the_log_of_a_watch_and_how_it_goes_on(tmp_path):
    rng, log, watch = np.random.default_rng(8), DriftLog(tmp_path / "log.jsonl"), Watch(BEFORE)
    turn, verdicts = roll(6.0, rng), []
    for night in range(15):
        when = f"2026-01-{night + 1:02d}T22:00:00"
        verdicts.append(watch.look(frame(rng, turn if night >= 7 else (0.0,) * 3), when))
        log.append(verdicts[-1], f"{night}.fits")
        record = json.loads(log.path.read_text().splitlines()[-1])
        assert record["time"].startswith(when)
        # Each line tells of its own frame.
        own = (verdicts[-1].alone or verdicts[-1]).information
        part = np.linalg.inv(own[:4, :4])
        assert record["all_sigma"][2] == pytest.approx(np.sqrt(part[2, 2]))
    assert any(v.suspected for v in verdicts) or verdicts[7].moved
    assert verdicts[-1].kinds == ("roll",)
    assert log.suspects() == [f"{night}.fits" for night in range(10, 15)]
    assert log.suspects(2) == ["13.fits", "14.fits"]
    assert log.suspects(9) == [f"{night}.fits" for night in range(7, 15)]
    (point,) = log.change_points()
    assert point.index == 7
    assert point.roll_arcsec == pytest.approx(turn[2] * ARCSEC, rel=0.4)


def test_bad_arguments():
    with pytest.raises(InputError, match="calibration"):
        Watch("camera")
    with pytest.raises(InputError, match="false_alarm"):
        Watch(BEFORE, false_alarm=1.0)
    with pytest.raises(InputError, match="frame"):
        Watch(BEFORE).look([frame(np.random.default_rng(9))])
    assert "false_alarm=0.001" in repr(Watch(BEFORE))
