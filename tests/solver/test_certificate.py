"""Fields that are no sky, what counts as false, and the interval of its rate."""

import numpy as np
import pytest
from scipy.stats import binomtest

import boresight
from boresight import CameraModel, InputError, certify
from boresight._utils.statistics import binomial_interval
from boresight.solver.fields import KINDS, FieldMaker

SHAPE = (512, 512)
CAMERA = CameraModel.from_fov(12.0, SHAPE)


@pytest.fixture(scope="module")
def certificate(wide_database):
    return certify(12.0, num_fields=6, image_shape=SHAPE, database=wide_database)


@pytest.mark.parametrize(
    ("count", "trials", "confidence"),
    [
        (0, 100, 0.95),
        (3, 100, 0.9),
        (57, 1000, 0.99),
        (100, 100, 0.95),
        (99, 100, 0.95),
        (0, 1, 0.5),
    ],
)
def test_the_interval_is_that_of_clopper_and_pearson(count, trials, confidence):
    found = binomial_interval(count, trials, confidence)
    expected = binomtest(count, trials).proportion_ci(confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_solution_is_false_and_the_sky_solves(certificate):
    assert [one.kind for one in certificate.kinds] == list(KINDS)
    assert certificate.total.num_fields == 30
    assert certificate.total.num_false == 0
    assert certificate.holds
    solved = {one.kind: one.num_solved for one in certificate.kinds}
    assert min(solved["sky"], solved["mirrored"]) >= 5
    assert solved["random"] == solved["scrambled"] == solved["structured"] == 0


def test_a_threshold_that_accepts_all_shows_false_solutions(wide_database):
    loose = certify(
        12.0, num_fields=6, image_shape=SHAPE, database=wide_database, match_threshold=1.0
    )
    for one in loose.kinds:
        if one.kind in ("random", "scrambled", "structured"):
            assert one.num_false >= 3
        assert one.low <= one.rate <= one.high
    assert loose.holds  # as many as that were asked for
    strict = boresight.Certificate(**{**vars(loose), "match_threshold": 1e-5})
    assert not strict.holds
    assert "exceeds" in str(strict)
    assert repr(strict).startswith(f"<Certificate: {loose.total.num_false} of 30 fields false")


def test_a_mirror_image_is_false_where_the_parity_is_known(wide_database):
    given = {"num_fields": 4, "database": wide_database, "camera_model": CAMERA}
    assert certify(kinds=["mirrored"], **given).total.num_solved == 0
    flipped = CAMERA.replace(parity_flip=True)
    known = certify(kinds=["sky"], **{**given, "camera_model": flipped})
    assert known.total.num_solved >= 3
    assert known.total.num_false == 0


def test_results_follow_from_the_seed(wide_database, certificate):
    again = certify(
        12.0, num_fields=6, image_shape=SHAPE, database=wide_database, kinds=["scrambled"]
    )
    assert again.kinds[0] == certificate.kinds[2]
    # More fields begin with the same ones.
    maker = FieldMaker(wide_database, 12.0, None, SHAPE, 30, seed=3)
    for kind in KINDS:
        first, second = (maker.make(kind, 5).detections for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == (30, 3)
        assert (np.abs(first[:, :2]) <= 255.5).all()
        assert not np.array_equal(first, maker.make(kind, 6).detections)


def test_fields_of_the_sky_are_what_their_camera_sees(wide_database):
    maker = FieldMaker(wide_database, None, CAMERA.replace(parity_flip=True), SHAPE, 40, seed=1)
    for number in range(5):
        field = maker.make("sky", number)
        solution = boresight.solve_from_centroids(
            wide_database, field.detections, camera_model=field.truth
        )
        center = solution.pixel_to_world(0.0, 0.0)
        ra, dec = np.radians(center)
        seen = [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)]
        assert np.degrees(np.arccos(min(1.0, seen @ field.center))) < 0.01


def test_progress_and_the_dictionary(wide_database):
    told = []
    found = certify(
        12.0, num_fields=40, image_shape=SHAPE, database=wide_database, kinds=["sky"],
        progress=told.append,
    )  # fmt: skip
    assert told == [0.8, 1.0]
    plain = found.to_dict()
    assert plain["kinds"][0] | {"kind": "all"} == plain["total"]
    assert plain["match_threshold"] == 1e-5
    assert plain["image_shape"] == [512, 512]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_fields": 0}, "num_fields"),
        ({"num_detections": 3}, "num_detections"),
        ({"num_detections": 10**9}, "num_detections"),
        ({"kinds": ["sky", "sea"]}, "kinds"),
        ({"kinds": []}, "kinds"),
        ({"confidence": 1.0}, "confidence"),
        ({"seed": -1}, "seed"),
        ({"image_shape": (0, 5)}, "image_shape"),
        ({"origin": "corner"}, "origin"),
        ({"match_radius": -1.0}, "match_radius"),
        ({"match_max_error": 0.1}, "match_max_error"),
        ({"attitude_hint": (1, 2)}, "attitude_hint"),
    ],
)
def test_wrong_arguments_are_named(wide_database, change, name):
    with pytest.raises(InputError, match=name):
        certify(12.0, **{"num_fields": 1, "database": wide_database} | change)
