"""`extract_centroids` against simulated truth."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    NDData,
)
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boresight import CentroidFlags, Extractor, InputError, TimeLimitError, extract_centroids
from helpers import field, match, pixel_gaussian


def test_finds_all_stars_and_nothing_else() -> None:
    image, x, y, flux = field(1)
    result = extract_centroids(image.astype(np.float32))
    found, true = match(result, x, y)
    assert len(result.centroids) == len(found) == len(x)
    assert sorted(true) == list(range(len(x)))
    ratio = result.centroids.brightness[found] / flux[true]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    assert np.all(np.diff(result.centroids.brightness) <= 0)
    assert result.background == pytest.approx(200, rel=0.02)
    assert result.noise == pytest.approx(np.sqrt(300), rel=0.05)
    assert result.num_blobs_raw >= len(x)


@pytest.mark.parametrize("fwhm", [2.0, 2.5, 4.0])
def test_positions_and_their_errors(fwhm: float) -> None:
    image, x, y, _ = field(2, fwhm=fwhm, low=3e3, high=3e4)
    result = extract_centroids(image.astype(np.float32), gain=1.0)
    found, true = match(result, x, y)
    stars = result.centroids[found]
    error = stars.xy + np.array([250, 200]) - np.column_stack([x, y])[true]
    sigma = np.sqrt(np.stack([stars.position_cov[:, 0, 0], stars.position_cov[:, 1, 1]], 1))
    assert abs(np.mean(error / sigma)) < 0.2
    assert np.std(error / sigma) == pytest.approx(1.0, abs=0.2)
    assert np.sqrt(np.mean(error**2)) < 0.06 * fwhm / 2


def test_shapes() -> None:
    y, x = np.mgrid[:80, :80]
    c, s = np.cos(0.5), np.sin(0.5)
    along, across = c * (x - 40.2) + s * (y - 39.6), -s * (x - 40.2) + c * (y - 39.6)
    image = 2000 * np.exp(-0.5 * (along**2 / 4 + across**2 / 2.25)) + np.random.default_rng(
        1
    ).normal(0, 2, x.shape)
    star = extract_centroids(image).centroids[0]
    rotation = np.array([[c, -s], [s, c]])
    expected = rotation @ np.diag([4.0, 2.25]) @ rotation.T
    assert np.allclose(star.cov, expected, atol=0.25)
    assert star.elongation == pytest.approx(4 / 3, rel=0.07)
    assert star.fwhm == pytest.approx(2.3548 * np.sqrt(3.0), rel=0.05)
    assert 0 < star.sharpness < 0.9


@pytest.mark.parametrize(
    "dtype",
    [
        np.bool_,
        np.int8,
        np.uint8,
        np.int16,
        np.uint16,
        np.int32,
        np.uint32,
        np.int64,
        np.uint64,
        np.float16,
        np.float32,
        np.float64,
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_type_and_byte_order(dtype: type, order: str) -> None:
    image = np.zeros((64, 80))
    for cx, cy in [(20, 20), (55, 40)]:
        image[cy - 1 : cy + 2, cx - 1 : cx + 2] = 1
        image[cy, cx] = 1
    image *= 1 if dtype is np.bool_ else 100
    typed = image.astype(np.dtype(dtype).newbyteorder(order))
    result = extract_centroids(typed, max_sharpness=None)
    assert sorted((round(c.x + 40), round(c.y + 32)) for c in result.centroids) == [
        (20, 20),
        (55, 40),
    ]


@pytest.mark.parametrize("options", [{}, {"method": "window"}, {"fast": True}])
def test_the_same_numbers_in_another_type_give_the_same_stars(options: dict[str, Any]) -> None:
    image, *_ = field(4, shape=(200, 260), n=40)
    image = np.clip(np.round(image / 4), 0, 255)
    expected = extract_centroids(image, **options).centroids
    assert len(expected) > 20
    for dtype in (np.uint8, np.int16, np.uint16, np.float32):
        assert extract_centroids(image.astype(dtype), **options).centroids == expected


def test_views_of_larger_arrays_are_read_as_they_are() -> None:
    image, *_ = field(3, shape=(150, 200), n=30)
    image = image.astype(np.float32)
    expected = extract_centroids(image).centroids
    large = np.full((300, 500), 1e6, np.float32)
    large[50:200, 100:300] = image
    assert extract_centroids(large[50:200, 100:300]).centroids == expected
    large[::2, ::2][:150, :200] = image
    assert extract_centroids(large[::2, ::2][:150, :200]).centroids == expected
    assert extract_centroids(np.asfortranarray(image)).centroids == expected
    assert extract_centroids(image[::-1][::-1]).centroids == expected
    flipped = extract_centroids(image[:, ::-1]).centroids
    assert np.allclose(flipped.x + 1, -expected.x, atol=0.02)
    image.flags.writeable = False
    assert extract_centroids(image).centroids == expected


def test_masks_of_every_kind_leave_pixels_out() -> None:
    image, *_ = field(4, shape=(150, 200), n=30)
    bad = np.zeros(image.shape, bool)
    bad[40:60, 50:120] = True
    holed = np.where(bad, np.nan, image)
    expected = extract_centroids(holed).centroids
    assert len(expected) < 30
    # A star may be seen by its wings alone; then it says so.
    covered = bad[np.rint(expected.y + 75).astype(int), np.rint(expected.x + 100).astype(int)]
    assert np.all(expected.flags[covered] & CentroidFlags.MASKED)
    wild = np.where(bad, 1e9, image)
    forms = [
        np.ma.MaskedArray(wild, bad),
        NDData(wild, mask=bad),
        CCDData(wild, mask=bad, unit="adu"),
        Masked(wild, mask=bad),
        Masked(u.Quantity(wild, "adu"), mask=bad),
    ]
    for form in forms:
        assert extract_centroids(form).centroids == expected
    assert extract_centroids(wild, mask=bad).centroids == expected
    assert extract_centroids(np.where(bad, -np.inf, image)).centroids == expected
    assert extract_centroids(image * u.adu).centroids == extract_centroids(image).centroids
    with pytest.raises(InputError, match="mask"):
        extract_centroids(image, mask=bad[1:])


def test_a_masked_pixel_is_flagged() -> None:
    image, *_ = field(5, shape=(60, 60), n=1, high=1e5, low=9e4)
    star = extract_centroids(image).centroids[0]
    assert not star.flags & CentroidFlags.MASKED
    image[round(star.y + 30) + 1, round(star.x + 30) + 1] = np.nan
    assert extract_centroids(image).centroids[0].flags & CentroidFlags.MASKED


def test_colour_needs_to_be_asked_for() -> None:
    image, *_ = field(6, shape=(100, 120), n=12)
    for channels in (3, 4):
        colour = np.repeat(image[..., None], channels, axis=2)
        with pytest.raises(InputError, match="luminance"):
            extract_centroids(colour)
        assert len(extract_centroids(colour, luminance=True).centroids) == 12


def test_saturated_stars_are_found_flagged_and_near() -> None:
    x, y = np.array([40.3, 100.0, 160.7]), np.array([50.2, 50.5, 50.9])
    image = pixel_gaussian((100, 200), x, y, np.array([8e5, 1.5e6, 3e6]), 2.0)
    rng = np.random.default_rng(1)
    image = np.minimum(rng.poisson(image + 200.0) + rng.normal(0, 10, image.shape), 60_000.0)
    for level in (60_000.0, None):
        result = extract_centroids(image, saturation_level=level)
        found, true = match(result, x, y)
        assert len(found) == len(result.centroids) == 3
        assert all(c.flags & CentroidFlags.SATURATED for c in result.centroids)
        error = result.centroids.xy[found] + np.array([100, 50]) - np.column_stack([x, y])[true]
        assert np.abs(error).max() < 0.05
    # The level, where it was not given, lies just below the flat tops.
    assert 0.98 * 60_000 < extract_centroids(image).saturation_level < 60_000  # type: ignore[operator]


def test_unsaturated_frames_have_no_saturation_level() -> None:
    image, *_ = field(7)
    assert extract_centroids(image).saturation_level is None


def test_bleeding_star_is_one_star() -> None:
    rng = np.random.default_rng(3)
    image = 100 + pixel_gaussian(
        (200, 200), np.array([100.2]), np.array([90.4]), np.array([1e6]), 2.5
    )
    image[60:121, 100] = 1e5
    image[75:106, 99:102] = 1e5
    image = np.minimum(image, 1e5) + rng.normal(0, 20, image.shape)
    result = extract_centroids(image, max_elongation=None)
    assert len(result.centroids) == 1
    star = result.centroids[0]
    assert star.flags & CentroidFlags.SATURATED
    assert np.hypot(star.x + 100 - 100.2, star.y + 100 - 90.4) < 1.0


def test_limits_reject_and_count() -> None:
    image, *_ = field(8, n=100)
    every = extract_centroids(image)
    few = extract_centroids(image, max_centroids=10)
    assert few.centroids == every.centroids[:10]
    assert few.rejected["surplus"] == 90
    assert extract_centroids(image, min_pixels=10_000).rejected["too_small"] == every.num_blobs_raw
    assert extract_centroids(image, max_pixels=3).rejected["too_large"] > 90
    inner = extract_centroids(image, border_margin=60)
    assert inner.rejected["border"] > 0
    assert np.all(np.abs(inner.centroids.x) < 192)
    image[200, 250] += 3000.0
    assert extract_centroids(image).rejected["sharp"] == 1
    assert len(extract_centroids(image, max_sharpness=None).centroids) == len(every.centroids) + 1


def test_threshold_is_in_sigmas_of_the_filtered_noise() -> None:
    noise = np.random.default_rng(1).normal(100, 7, (1000, 1000))
    assert len(extract_centroids(noise).centroids) == 0
    many = extract_centroids(
        noise, sigma_threshold=3.0, min_pixels=1, max_elongation=None
    ).num_blobs_raw
    # Density of maxima of a Gaussian field of correlation length 1.5 sqrt 2 (Adler 1981).
    expected = 1e6 * 3 * np.exp(-4.5) / ((2 * np.pi) ** 1.5 * 2 * 1.5**2)
    assert many == pytest.approx(expected, rel=0.25)


def test_a_gradient_is_no_star() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:400, :400]
    glow = 5000 / (1 + np.exp(-(y - 250) / 30)) + 2 * x
    assert len(extract_centroids(rng.normal(glow, 10)).centroids) <= 2


def test_crowding_and_a_fine_mesh_do_not_raise_the_noise() -> None:
    rng = np.random.default_rng(6)
    n = 2500
    x, y = rng.uniform(0, 500, (2, n))
    image = pixel_gaussian((500, 500), x, y, 200 * rng.pareto(1.0, n).clip(0, 1e3) + 200, 2.0)
    result = extract_centroids(rng.poisson(image + 100.0), local_bg_block_size=16)
    assert 8 < result.noise < 25
    assert 85 < result.background < 130


def test_background_maps_have_the_shape_of_the_image() -> None:
    image, *_ = field(9, shape=(130, 210), n=10)
    result = extract_centroids(image)
    assert result.background_map().shape == result.noise_map().shape == image.shape
    assert np.allclose(
        result.background_map()[65], 200 * (1 + 0.2 * np.linspace(-1, 1, 210)), atol=6
    )
    assert result.background_mesh.mean() == pytest.approx(result.background)


@pytest.mark.parametrize("value", [0, 1, 137.5, -4, 65535])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (100, 120)])
def test_a_constant_image_has_no_stars(value: float, shape: tuple[int, int]) -> None:
    for dtype in (np.float32, np.int32):
        assert len(extract_centroids(np.full(shape, value, dtype)).centroids) == 0


def test_noiseless_stars_are_found() -> None:
    x, y = np.array([20.2, 60.7]), np.array([30.5, 31.1])
    image = pixel_gaussian((64, 96), x, y, np.array([500.0, 300.0]), 2.5)
    found, _ = match(extract_centroids(image), x, y, 0.05)
    assert len(found) == 2


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(5),
        np.zeros(()),
        np.zeros((0, 5)),
        np.zeros((5, 0)),
        np.zeros((4, 5, 2)),
        np.zeros((2, 3, 4, 5)),
        np.zeros((4, 4), complex),
        np.full((4, 4), "a"),
        np.full((4, 4), None),
        np.full((4, 4), np.nan),
        None,
        b"image",
        [[1, 2], [3]],
        np.ma.MaskedArray(np.zeros((4, 4)), True),
    ],
)
def test_bad_images_are_refused(bad: object) -> None:
    with pytest.raises(InputError, match="image"):
        extract_centroids(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"sigma_threshold": 0},
        {"sigma_threshold": -1},
        {"sigma_threshold": np.nan},
        {"sigma_threshold": "high"},
        {"min_pixels": -1},
        {"min_pixels": 2.5},
        {"min_pixels": 9, "max_pixels": 3},
        {"local_bg_block_size": 0},
        {"max_elongation": 0.5},
        {"max_elongation": np.nan},
        {"matched_filter_sigma": 0.0},
        {"matched_filter_sigma": 1e9},
        {"saturation_level": np.nan},
        {"border_margin": -3},
        {"max_centroids": -1},
        {"gain": 0.0},
        {"gain": -2.0},
        {"gain": np.inf},
        {"max_sharpness": -1.0},
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object]) -> None:
    image, *_ = field(10, shape=(60, 60), n=4)
    with pytest.raises(InputError, match="|".join(options)):
        extract_centroids(image, **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    image=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int16, np.int32, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    ),
    block=st.integers(4, 100),
    sigma=st.one_of(st.none(), st.floats(0.3, 8)),
    threshold=st.floats(0.5, 20),
    level=st.one_of(st.none(), st.floats(allow_nan=False)),
)
def test_any_image_gives_stars_inside_it_or_a_clear_error(
    image, block, sigma, threshold, level
) -> None:
    try:
        result = extract_centroids(
            image,
            sigma_threshold=threshold,
            local_bg_block_size=block,
            matched_filter_sigma=sigma,
            min_pixels=1,
            max_elongation=None,
            max_sharpness=None,
            saturation_level=level,
        )
    except InputError:
        assert not (np.abs(image.astype(np.float64)) <= 1e15).any()
        return
    height, width = image.shape
    stars = result.centroids
    assert np.all(np.abs(stars.x + 0.5) <= width / 2)
    assert np.all(np.abs(stars.y + 0.5) <= height / 2)
    assert np.isfinite(stars.position_cov).all()
    assert np.isfinite(stars.brightness).all()


def test_results_pickle_and_do_not_depend_on_threads() -> None:
    image, *_ = field(11)
    expected = extract_centroids(image).centroids
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(extract_centroids(image))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result.centroids == expected for result in results)
    assert pickle.loads(pickle.dumps(expected)) == expected


def test_threads_share_an_extractor() -> None:
    frames = [field(seed, n=n)[0] for seed, n in ((12, 200), (13, 20), (14, 90), (15, 150))]
    extractor = Extractor()
    expected = [extract_centroids(frame).centroids for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(extractor, 3 * frames))
    assert [result.centroids for result in found] == 3 * expected


def test_an_extractor_gives_the_same_whatever_came_before() -> None:
    frames = [field(seed, n=n)[0].astype(np.float32) for seed, n in ((12, 200), (13, 20), (14, 90))]
    for options in ({}, {"fast": True}, {"method": "psf"}):
        extractor = Extractor(**options)  # type: ignore[arg-type]
        for frame in (*frames, frames[0][:100, :150], frames[1]):
            expected = extract_centroids(frame, **options)  # type: ignore[arg-type]
            found = extractor(frame)
            assert found.centroids == expected.centroids
            assert found.rejected == expected.rejected
    assert repr(Extractor(fast=True, max_centroids=5)) == "Extractor(max_centroids=5, fast=True)"
    with pytest.raises(InputError, match="treshold"):
        Extractor(treshold=3.0)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="gain"):
        Extractor(gain=-1.0)


def test_fast_positions_are_within_three_times_the_others() -> None:
    image, x, y, _ = field(30, fwhm=2.0, low=3e3, high=3e4)
    rms = []
    for fast in (True, False):
        result = extract_centroids(image.astype(np.float32), fast=fast, gain=1.0, method="window")
        found, true = match(result, x, y)
        assert len(found) == len(x)
        error = result.centroids.xy[found] + np.array([250, 200]) - np.column_stack([x, y])[true]
        variance = result.centroids.position_cov[found][:, [0, 1], [0, 1]]
        assert 0.8 < np.std(error / np.sqrt(variance)) < 1.3
        rms.append(np.sqrt(np.mean(error**2)))
    assert rms[0] < 1.3 * rms[1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"variance": np.ones((60, 59))}, "variance"),
        ({"weight": np.ones(60)}, "weight"),
        ({"variance": np.full((60, 60), -1.0)}, "variance"),
        ({"variance": np.zeros((60, 60))}, "variance"),
        ({"weight": np.full((60, 60), -1.0)}, "weight"),
        ({"weight": np.full((60, 60), np.inf)}, "weight"),
        ({"variance": "small"}, "variance"),
        ({"variance": np.ones((60, 60)), "weight": np.ones((60, 60))}, "weight"),
        ({"variance": np.full((60, 60), np.nan)}, "image"),
        ({"read_noise": 5.0}, "read_noise"),
        ({"read_noise": -5.0, "gain": 1.0}, "read_noise"),
        ({"read_noise": np.inf, "gain": 1.0}, "read_noise"),
        ({"read_noise": 5.0, "gain": -1.0}, "gain"),
        ({"read_noise": 5.0, "gain": 1.0, "variance": np.ones((60, 60))}, "read_noise"),
    ],
)
def test_bad_noise_is_refused_by_name(options: dict[str, object], named: str) -> None:
    image, *_ = field(10, shape=(60, 60), n=4)
    with pytest.raises(InputError, match=named):
        extract_centroids(image, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["window", "psf"])
def test_undersampled_stars_are_not_taken_for_hot_pixels(method: str) -> None:
    image, x, y, _ = field(34, shape=(500, 600), n=400, fwhm=1.2, low=1.5e3, high=3e4)
    result = extract_centroids(image.astype(np.float32), method=method)
    found, _ = match(result, x, y)
    assert len(found) >= 0.99 * len(x)
    assert result.rejected["sharp"] == 0
    assert not np.any(result.centroids.flags & CentroidFlags.HOT_PIXEL)


def test_hot_pixels_are_left_out_or_flagged() -> None:
    image, *_ = field(35, n=60, fwhm=2.5)
    hot = [(33, 47), (203, 251), (377, 402)]
    for row, column in hot:
        image[row, column] += 4000.0
    clean = extract_centroids(image)
    assert clean.rejected["sharp"] == 3
    assert not np.any(clean.centroids.flags & CentroidFlags.COSMIC_RAY)
    every = extract_centroids(image, max_sharpness=None)
    assert len(every.centroids) == len(clean.centroids) + 3
    flagged = every.centroids[(every.centroids.flags & CentroidFlags.HOT_PIXEL) != 0]
    assert sorted((round(s.y + 200), round(s.x + 250)) for s in flagged) == hot


@pytest.mark.parametrize("options", [{}, {"fast": True}])
def test_a_trailed_frame_says_so_and_keeps_its_stars(options: dict[str, bool]) -> None:
    steps = np.linspace(-3.5, 3.5, 15)
    rng = np.random.default_rng(36)
    gx, gy = np.meshgrid(np.arange(30, 480, 40), np.arange(30, 380, 40))
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, g.size) for g in (gx, gy))
    image = np.full((400, 500), 200.0)
    for step in steps:
        flux = np.full(x.size, 5e4 / len(steps))
        image += pixel_gaussian(image.shape, x + 0.9 * step, y + 0.4 * step, flux, 2.0)
    image = rng.poisson(image) + rng.normal(0, 10, image.shape)
    result = extract_centroids(image, method="window", **options)  # type: ignore[arg-type]
    found, true = match(result, x, y, 1.5)
    assert len(found) >= 0.95 * len(x)
    assert np.all(result.centroids.flags & CentroidFlags.TRAILED)
    error = result.centroids.xy[found] + np.array([250, 200]) - np.column_stack([x, y])[true]
    assert np.abs(np.median(error, axis=0)).max() < 0.1
    # Round stars are not trailed.
    round_ones = extract_centroids(field(37)[0], **options).centroids  # type: ignore[arg-type]
    assert not np.any(round_ones.flags & CentroidFlags.TRAILED)


def test_extraction_ends_with_the_time_allowed() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(100.0, 5.0, (64, 64))
    image[20:23, 30:33] += 500.0
    with pytest.raises(TimeoutError, match="timeout_ms") as raised:
        extract_centroids(image, timeout_ms=0)
    assert isinstance(raised.value, TimeLimitError)
    extractor = Extractor(timeout_ms=60_000)
    assert extractor(image).centroids == extract_centroids(image).centroids
    assert "timeout_ms=60000" in repr(pickle.loads(pickle.dumps(extractor)))
    with pytest.raises(InputError, match="timeout_ms"):
        Extractor(timeout_ms=0.5)
