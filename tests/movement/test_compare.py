"""The verdict on a camera, the drift log and updated calibrations, by simulated stars."""

import json
from collections import Counter

import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from astropy.time import Time, TimeDelta

import boresight
from boresight import CameraModel, FileFormatError, InputError, MatchedStars, UndeterminedError
from boresight._utils.arrays import rotation_about
from boresight.apparent.earth import local_rotation
from boresight.movement import (
    DriftLog,
    MountedCamera,
    compare,
    place_at,
    update_calibration,
)
from boresight.movement.change import FrameStars, fit_change, held_out_px, predicted
from boresight.movement.verdict import ARCSEC, KINDS, judge
from boresight.solver.solution import Solution

CAMERA = CameraModel.from_fov(
    60.0, (1000, 1400), projection="equidistant",
    distortion=boresight.RadialDistortion(-0.01, scale=700.0),
)  # fmt: skip
SITE = EarthLocation.from_geodetic(11.0, 48.0, 500.0)
BEFORE = MountedCamera(CAMERA, (1.0, 0.0, 0.0, 0.0))


def stars(values, rng, count=120, noise=0.05, part=1.0):
    pixels = rng.uniform(-1, 1, (count, 2)) * [690, 490]
    pixels[:, 0] = -690 + (pixels[:, 0] + 690) * part
    seen = CAMERA.pixel_to_direction(pixels[:, 0], pixels[:, 1])
    there = predicted(CAMERA, seen, np.array(values)) + rng.normal(0, noise, (count, 2))
    return FrameStars(seen, there, np.full(count, noise))


def sigma():
    change = fit_change(CAMERA, [stars(np.zeros(8), np.random.default_rng(0))])
    return np.linalg.inv(change.information)


def solution(values, rng, count=120, sky=None, place=None):
    """A solved frame of a changed camera: its attitude takes what the rotation is."""
    sky = np.eye(3) if sky is None else sky
    seen = stars(values, rng, count)
    directions = seen.directions @ sky
    if place is not None:
        directions = place.icrs(directions)
    attitude = rotation_about(values[:3]) @ sky
    matches = MatchedStars(
        seen.positions_px, directions, camera_model=CAMERA,
        quaternion=boresight._core.quaternion_of_matrix(attitude.tolist()),
        position_cov=np.tile(np.eye(2) * 0.05**2, (count, 1, 1)),
        **({} if place is None else {"place": place}),
    )  # fmt: skip
    return Solution.from_matches(matches)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_apart(kind):
    rng, rows = np.random.default_rng(1), list(KINDS[kind])
    cov = sigma()[np.ix_(rows, rows)]
    root, found, squares = np.linalg.cholesky(cov), Counter(), []
    for _ in range(12):
        along = rng.normal(size=len(rows))
        values = np.zeros(8)
        values[rows] = 5.0 * root @ (along / np.linalg.norm(along))
        change = fit_change(CAMERA, [stars(values, rng)])
        judged = judge(CAMERA, change, np.zeros((8, 8)), 1e-3)
        found[judged["kinds"]] += 1
        if judged["kinds"] == (kind,):
            miss = (judged["values"] - values)[rows]
            part = judged["covariance"][np.ix_(rows, rows)]
            squares.append(miss @ np.linalg.solve(part, miss) / len(rows))
    assert found[(kind,)] >= 10, found
    assert 0.2 < np.mean(squares) < 2.2


def test_unchanged_cameras_raise_no_alarm():
    rng = np.random.default_rng(2)
    judged = [
        judge(CAMERA, fit_change(CAMERA, [stars(np.zeros(8), rng)]), np.zeros((8, 8)), 1e-3)
        for _ in range(60)
    ]
    assert sum(bool(j["kinds"]) for j in judged) <= 1
    assert all(j["unknown"] is None for j in judged)


def test_the_false_alarm_rate_is_that_asked():
    rng = np.random.default_rng(12)
    changes = [fit_change(CAMERA, [stars(np.zeros(8), rng, 60)]) for _ in range(200)]
    for kinds in (tuple(KINDS), ("focus", "optical centre", "distortion")):
        found = [judge(CAMERA, c, np.zeros((8, 8)), 0.2, kinds)["kinds"] for c in changes]
        assert 10 <= sum(map(bool, found)) <= 50


def test_a_roll_at_five_sigma_is_noticed():
    rng = np.random.default_rng(13)
    unmoved = [fit_change(CAMERA, [stars(np.zeros(8), rng)]) for _ in range(20)]
    cov = np.linalg.inv(np.mean([change.information for change in unmoved], axis=0))
    turned = np.array([0, 0, 5.0 * np.sqrt(cov[2, 2]), 0, 0, 0, 0, 0])
    found = [
        judge(CAMERA, fit_change(CAMERA, [stars(turned, rng)]), np.zeros((8, 8)), 1e-3)["kinds"]
        for _ in range(100)
    ]
    assert found.count(("roll",)) >= 92


def test_an_uncertain_reference_raises_no_alarm():
    rng, cov = np.random.default_rng(3), np.zeros((8, 8))
    cov[:4, :4] = np.diag([1e-3, 1e-3, 1e-3, 1e-3]) ** 2
    for _ in range(20):
        values = np.zeros(8)
        values[:4] = rng.normal(0, 1e-3, 4)
        change = fit_change(CAMERA, [stars(values, rng)])
        assert judge(CAMERA, change, cov, 1e-3)["kinds"] == ()
        assert judge(CAMERA, change, np.zeros((8, 8)), 1e-3)["kinds"] != ()


def test_outliers_are_left_out():
    rng = np.random.default_rng(4)
    seen = stars(np.zeros(8), rng)
    seen.positions_px[::8] += rng.uniform(-30, 30, seen.positions_px[::8].shape)
    assert judge(CAMERA, fit_change(CAMERA, [seen]), np.zeros((8, 8)), 1e-3)["kinds"] == ()


def test_half_a_frame_tells_nothing():
    rng = np.random.default_rng(5)
    values = np.array([1e-3, 0, 0, 0, 0, 0, 0, 0])
    for seen, why in ((stars(values, rng, part=0.2), "covered"), (stars(values, rng, 9), "few")):
        judged = judge(CAMERA, fit_change(CAMERA, [seen]), np.zeros((8, 8)), 1e-3)
        assert judged["kinds"] == ()
        assert why in judged["unknown"]


def test_compare_with_solutions():
    rng = np.random.default_rng(6)
    same = compare(BEFORE, solution(np.zeros(8), rng))
    assert (same.moved, same.kinds) == (False, ())
    assert "nothing significant" in str(same)
    turned = compare(BEFORE, solution([1e-3, -2e-3, 0, 0, 0, 0, 0, 0], rng))
    assert turned.moved
    assert turned.kinds == ("pointing",)
    assert turned.pointing_arcsec == pytest.approx((206.26, -412.53), abs=4.0)
    assert json.loads(json.dumps(turned.to_dict()))["kinds"] == ["pointing"]
    # Of a camera without attitude only the optics are told.
    assert compare(CAMERA, solution([1e-3, -2e-3, 0, 0, 0, 0, 0, 0], rng)).kinds == ()
    assert compare(CAMERA, solution([1e-3, 0, 0, 3e-3, 0, 0, 0, 0], rng)).kinds == ("focus",)


def test_sparse_frames_count_together():
    rng = np.random.default_rng(7)
    values = [4e-4, 0, 0, 0, 0, 0, 0, 0]
    frames = [solution(values, rng, 8) for _ in range(20)]
    assert compare(BEFORE, frames[0]).moved is None
    assert compare(BEFORE, frames).kinds == ("pointing",)


def test_a_blank_frame_cannot_be_told(wide_database):
    verdict = compare(
        MountedCamera(CameraModel.from_fov(12.0, (512, 512)), (1, 0, 0, 0)),
        np.random.default_rng(0).normal(100, 10, (512, 512)),
        database=wide_database,
    )
    assert (verdict.moved, verdict.solved, verdict.kinds) == (None, False, ())
    assert str(verdict).startswith("cannot tell")


@pytest.mark.parametrize("year", [2000, 2013, 2026, 2040])
@pytest.mark.filterwarnings("ignore::erfa.ErfaWarning")
def test_the_local_frame_is_that_of_astropy(year):
    from astropy import units as u
    from astropy.coordinates import AltAz, SkyCoord

    time = Time(f"{year}-03-01T20:00:00", scale="utc")
    stars = SkyCoord([10.0, 150.0, 260.0] * u.deg, [80.0, 30.0, 50.0] * u.deg)
    seen = (
        place_at(SITE, time, {"pressure_hpa": 0.0}).apparent(stars.cartesian.xyz.value.T)
        @ local_rotation(SITE, time).T
    )
    import warnings

    from astropy.utils import iers

    with warnings.catch_warnings(), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        warnings.simplefilter("ignore")
        iers.conf.auto_max_age = None
        there = stars.transform_to(AltAz(obstime=time, location=SITE))
    az, alt = there.az.rad, there.alt.rad
    truth = np.column_stack([np.cos(alt) * np.sin(az), np.cos(alt) * np.cos(az), np.sin(alt)])
    miss = np.linalg.norm(np.cross(seen, truth), axis=1) * ARCSEC
    # The motion of the pole, and deflection by the Sun.
    assert miss.max() < 0.7
    # Within a night its motion is the same: what a fixed camera wanders.
    assert np.ptp(miss) < 0.5


@pytest.mark.filterwarnings("ignore::erfa.ErfaWarning")
def test_a_fixed_camera_does_not_move_with_the_sky():
    rng = np.random.default_rng(8)
    mounted = MountedCamera(CAMERA, (0.9, 0.1, 0.4, 0.1), site=SITE)
    start = Time("2031-05-01T21:00:00", scale="utc")
    for hour in (0.0, 4.0):
        time = start + TimeDelta(hour * 3600, format="sec")
        frame = solution(np.zeros(8), rng, sky=mounted.attitude(time), place=place_at(SITE, time))
        assert compare(mounted, frame, time=time).kinds == ()
        again = MountedCamera.from_solution(frame, site=SITE, time=time)
        assert np.abs(again.matrix - mounted.matrix).max() < 1e-9
        late = time + TimeDelta(20, format="sec")
        assert "pointing" in compare(mounted, frame, time=late).kinds


def test_mounted_cameras_are_saved(tmp_path):
    mounted = MountedCamera(CAMERA, (0.9, 0.1, 0.4, 0.1), np.eye(8), SITE)
    mounted.save(tmp_path / "cam.json")
    back = MountedCamera.load(tmp_path / "cam.json")
    assert back.camera_model == CAMERA
    assert np.array_equal(back.covariance, np.eye(8))
    assert back.site.lat.deg == pytest.approx(48.0)
    assert np.allclose(back.matrix, mounted.matrix)
    for text in ("", "{}", '{"format": "boresight-mounted-camera", "version": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileFormatError, match=r"bad\.json"):
            MountedCamera.load(tmp_path / "bad.json")


def test_stars_that_are_one_image_take_no_part(wide_database):
    camera, rng = CameraModel.from_fov(12.0, (512, 512)), np.random.default_rng(14)
    frame = boresight.simulate_frame(camera, 83.8, -1.2, 30.0, seed=1, epoch=2025.0)
    before = MountedCamera(
        camera, boresight._core.quaternion_of_matrix(frame.rotation_icrs_to_camera.tolist())
    )
    inside = (np.abs([frame.stars.x, frame.stars.y]) < 256).all(axis=0)
    places = np.column_stack([frame.stars.x, frame.stars.y])[inside][:60]
    found = boresight.Centroids(
        *(places + rng.normal(0, 0.05, (60, 2))).T, brightness=np.arange(60.0, 0.0, -1.0)
    )
    verdict = compare(before, found, database=wide_database)
    assert verdict.moved is False
    matched = verdict.solutions[0].matched_stars
    # Two of which either may have been matched, at a distance of 0.15 px.
    assert np.isin([26549, 26551], matched.catalog_ids).any()
    single = matched.blend_px(3.0) <= 0.02
    assert 20 < verdict.num_stars <= np.count_nonzero(single) < len(matched)
    # What they are drawn aside by is no movement.
    off = places + rng.normal(0, 0.05, (60, 2))
    off[matched.centroids[~single]] += [0.2, 0.0]
    found = boresight.Centroids(*off.T, brightness=np.arange(60.0, 0.0, -1.0))
    assert compare(before, found, database=wide_database).moved is False


def test_the_motion_of_stars_is_no_movement(wide_database):
    camera, time = CameraModel.from_fov(12.0, (512, 512)), "1900-01-01T00:00:00"
    place = place_at(None, time)
    frame = boresight.simulate_frame(
        camera, 83.8, -1.2, 30.0, seed=1, epoch=place.epoch, velocity_km_s=place.velocity_km_s
    )
    before = MountedCamera(
        camera, boresight._core.quaternion_of_matrix(frame.rotation_icrs_to_camera.tolist())
    )
    inside = (np.abs([frame.stars.x, frame.stars.y]) < 256).all(axis=0)
    places = np.column_stack([frame.stars.x, frame.stars.y])[inside][:80]
    places = places + np.random.default_rng(3).normal(0, 0.005, places.shape)
    found = boresight.Centroids(*places.T, brightness=np.arange(len(places), 0.0, -1.0))
    verdict = compare(before, found, time=time, database=wide_database)
    assert verdict.moved is False
    assert verdict.rms_px < 0.007


def test_bad_arguments():
    frame = solution(np.zeros(8), np.random.default_rng(9))
    with pytest.raises(InputError, match="calibration"):
        compare("camera", frame)
    with pytest.raises(InputError, match="false_alarm"):
        compare(BEFORE, frame, false_alarm=2.0)
    with pytest.raises(InputError, match="site"):
        compare(BEFORE, frame, site=SITE)
    with pytest.raises(InputError, match="local attitude"):
        compare(frame, frame, site=SITE)
    with pytest.raises(InputError, match="time"):
        compare(BEFORE, [frame, frame], time=["2020-01-01"])
    with pytest.raises(InputError, match="time"):
        compare(MountedCamera(CAMERA, (1, 0, 0, 0), site=SITE), frame)
    with pytest.raises(InputError, match="frame"):
        compare(BEFORE, np.zeros((20, 30)))
    with pytest.raises(InputError, match="quaternion"):
        MountedCamera(CAMERA, (0, 0, 0, 0))


def month(log, bump=0.0, cloudy=()):
    """A camera that drifts for a month, with one bump."""
    rng = np.random.default_rng(10)
    for day in range(26):
        values = np.zeros(8)
        values[0] = 2e-5 * day + (bump if day >= 18 else 0.0)
        time = Time("2026-01-01T22:00:00") + TimeDelta(day * 86400.0, format="sec")
        count = 4 if day in cloudy else 120
        verdict = compare(BEFORE, solution(values, rng, count), time=time)
        log.append(verdict, f"night{day:02d}.fits")


def test_a_bump_in_a_drift_is_found(tmp_path):
    log = DriftLog(tmp_path / "drift.jsonl")
    assert log.records() == []
    assert log.change_points() == []
    month(log, bump=1e-3, cloudy=(3, 9, 22))
    table = log.table()
    assert len(log) == len(table) == 26
    assert table["kinds"][25] == "pointing"
    assert "few" in table["unknown"][3]
    (point,) = log.change_points()
    assert point.time.startswith("2026-01-19")
    assert point.about_x_arcsec == pytest.approx(1e-3 * ARCSEC, rel=0.1)
    assert abs(point.about_y_arcsec) < 45.0


def test_a_steady_drift_has_no_change_point(tmp_path):
    log = DriftLog(tmp_path / "drift.jsonl")
    month(log)
    assert log.change_points() == []


def test_a_crash_spoils_one_line_only(tmp_path):
    log = DriftLog(tmp_path / "drift.jsonl")
    verdict = compare(BEFORE, solution(np.zeros(8), np.random.default_rng(0)))
    log.append(verdict)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[: len(whole) // 2])
    log.append(verdict)
    assert len(log) == 2
    other = tmp_path / "other.txt"
    other.write_text("something else\n")
    with pytest.raises(FileFormatError, match="drift log"):
        DriftLog(other).records()


def test_updated_cameras_have_not_moved():
    rng = np.random.default_rng(11)
    for values, freedom in (
        ([1e-3, -2e-3, 1e-3, 0, 0, 0, 0, 0], "verdict"),
        ([1e-3, -2e-3, 1e-3, 2e-3, 0, 0, 0, 0], "verdict"),
        ([1e-3, -2e-3, 1e-3, 0, 0, 0, 0, 0], "attitude"),
        ([1e-3, -2e-3, 1e-3, 2e-3, 6.0, -5.0, 0, 0], "optics"),
    ):
        verdict = compare(BEFORE, solution(values, rng))
        after = update_calibration(BEFORE, None, verdict, freedom=freedom)
        assert np.array_equal(BEFORE.quaternion, [1, 0, 0, 0])
        again = solution(values, rng)
        assert compare(after, again).kinds == ()
        assert compare(BEFORE, again).kinds != ()


def test_a_full_refit():
    rng = np.random.default_rng(12)
    values = [1e-3, 0, 0, 0, 0, 0, 2.0, 3.0]
    frames = [solution(values, rng, 400) for _ in range(3)]
    verdict = compare(BEFORE, frames)
    assert "distortion" in verdict.kinds
    after = update_calibration(BEFORE, None, verdict)
    assert after.camera_model.distortion != CAMERA.distortion
    x, _ = after.camera_model.direction_to_pixel(
        stars(np.zeros(8), rng).directions @ after.matrix.T
    )
    assert np.isfinite(x).all()


def test_what_cannot_be_told_updates_nothing():
    rng = np.random.default_rng(13)
    with pytest.raises(UndeterminedError, match="too few"):
        update_calibration(BEFORE, None, compare(BEFORE, solution(np.zeros(8), rng, 5)))
    few = compare(BEFORE, solution([1e-3, 0, 0, 0, 0, 0, 0, 0], rng, 30))
    with pytest.raises(UndeterminedError, match="full refit"):
        update_calibration(BEFORE, None, few, freedom="full")
    with pytest.raises(InputError, match="freedom"):
        update_calibration(BEFORE, None, few, freedom="all")


def test_the_figure_of_a_drift(tmp_path):
    import matplotlib.pyplot as plt

    from boresight.plot import plot_drift

    log = DriftLog(tmp_path / "drift.jsonl")
    month(log, bump=1e-3)
    ax = plot_drift(log)
    assert len(ax.containers) == 3
    assert sum(line.get_linestyle() == "--" for line in ax.lines) == 1
    plt.close(ax.figure)


def test_a_part_of_a_narrow_field_alarms_no_more_often_than_asked():
    camera, rng = CameraModel.from_fov(12.0, (512, 512)), np.random.default_rng(5)
    alarms = 0
    for _ in range(300):
        positions = rng.uniform([-230, -80], [60, 210], (24, 2))
        directions = camera.pixel_to_direction(*positions.T)
        positions += rng.normal(0, 0.1, positions.shape)
        positions[:2] += rng.uniform(-5, 5, (2, 2))  # stars matched by chance
        change = fit_change(camera, [FrameStars(directions, positions, None)])
        alarms += bool(judge(camera, change, np.zeros((8, 8)), 1e-3)["kinds"])
    assert alarms <= 2


def test_stars_held_out_of_the_fit_are_predicted_unless_they_moved_by_themselves():
    camera, rng = CameraModel.from_fov(12.0, (512, 512)), np.random.default_rng(5)
    positions = rng.uniform(-250, 250, (60, 2))
    directions = camera.pixel_to_direction(*positions.T)
    moved = predicted(camera, directions, np.array([1e-3, 2e-3, 1e-3, 1e-4, 0, 0, 0, 0]))
    noisy = moved + rng.normal(0, 0.1, moved.shape)
    assert 0.07 < held_out_px(camera, [FrameStars(directions, noisy, None)]) < 0.15
    noisy[::2] += [3.0, -2.0]
    assert held_out_px(camera, [FrameStars(directions, noisy, None)]) > 1.0
