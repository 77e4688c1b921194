"""A sequence of frames, each with the help of the one before."""

import numpy as np
import pytest

from boresight import CameraModel, Catalog, InputError, Tracker

SHAPE = (512, 512)
SKY = Catalog.hipparcos()


def seen(ra, dec=10.0, roll=0.0, *, fov=12.0, mirrored=False, stars=30, seed=0):
    """Positions of the brightest stars in view, with noise of a third of a pixel."""
    camera = CameraModel.from_fov(fov, SHAPE)
    ra0, dec0, roll0 = np.radians([ra, dec, roll])
    a, d = np.radians(SKY.ra_deg), np.radians(SKY.dec_deg)
    v = np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    axis = np.array([np.cos(dec0) * np.cos(ra0), np.cos(dec0) * np.sin(ra0), np.sin(dec0)])
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    north = np.cross(axis, east)
    up = np.cos(roll0) * north + np.sin(roll0) * east
    right = np.cross(axis, up)
    depth = v @ axis
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = camera.focal_length_px * np.column_stack([v @ right, -(v @ up)]) / depth[:, None]
    inside = (depth > 0) & (np.abs(xy) < 256).all(axis=1)
    xy = xy[inside][np.argsort(SKY.magnitude[inside], kind="stable")[:stars]]
    xy = xy + np.random.default_rng(seed).normal(0.0, 0.3, xy.shape)
    return xy * [-1, 1] if mirrored else xy


@pytest.fixture
def tracker(wide_database):
    return Tracker(wide_database, image_shape=SHAPE, hint_uncertainty_deg=1.0)


def test_only_the_first_frame_is_searched_in_the_whole_sky(tracker):
    for step in range(8):
        solution = tracker.solve(seen(80.0 + 0.6 * step, roll=0.3 * step, seed=step))
        assert abs(solution.ra_deg - 80.0 - 0.6 * step) < 0.01
        assert abs(solution.roll_deg - 0.3 * step) < 0.05
    assert (tracker.num_blind, tracker.num_hinted, tracker.num_unsolved) == (1, 7, 0)


def test_what_was_learnt_is_carried(tracker):
    tracker.solve(seen(80.0, mirrored=True))
    assert tracker.camera_model.fov_deg == pytest.approx(12.0, abs=0.05)
    assert tracker.camera_model.parity_flip
    few = seen(80.3, mirrored=True, stars=6, seed=1)
    assert tracker.solve(few).parity_flip
    assert tracker.num_hinted == 1


def test_a_leap_is_found_in_the_whole_sky(tracker):
    tracker.solve(seen(80.0))
    leapt = tracker.solve(seen(200.0, -30.0))
    assert abs(leapt.ra_deg - 200.0) < 0.01
    assert (tracker.num_blind, tracker.num_hinted) == (2, 0)
    assert tracker.solve(seen(200.2, -30.0)) is not None
    assert tracker.num_hinted == 1


def test_a_zoom_is_noticed(tracker):
    tracker.solve(seen(80.0, fov=12.0))
    zoomed = tracker.solve(seen(80.0, fov=17.0))
    assert zoomed.fov_deg == pytest.approx(17.0, abs=0.05)
    assert tracker.camera_model.fov_deg == zoomed.fov_deg


def test_a_frame_without_stars_changes_nothing(tracker):
    tracker.solve(seen(80.0))
    before = tracker.last_solution
    noise = np.random.default_rng(5).uniform(-256, 256, (20, 2))
    for frame in ([], noise):
        assert tracker.solve(frame, max_patterns_checked=3000) is None
    assert tracker.last_solution is before
    assert tracker.num_unsolved == 2
    tracker.reset()
    assert tracker.last_solution is None
    assert tracker.num_unsolved == 0


def test_bad_arguments_are_named(wide_database):
    with pytest.raises(InputError, match="image_shape"):
        Tracker(wide_database).solve(seen(80.0))
    with pytest.raises(InputError, match="fov_deg"):
        Tracker(fov_deg=-1.0)
