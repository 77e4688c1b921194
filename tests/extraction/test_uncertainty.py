"""Noise that is given: variance maps, read noise and gain, CCDData."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)

from boresight import Extractor, InputError, extract_centroids
from helpers import field, match, pixel_gaussian


def test_a_variance_map_is_the_noise_of_each_pixel() -> None:
    rng = np.random.default_rng(31)
    sigma = np.where(np.arange(500) < 250, 5.0, 50.0) * np.ones((400, 1))
    x, y = np.array([100.3, 380.2]), np.array([200.1, 210.4])
    image = 100 + pixel_gaussian((400, 500), x, y, np.array([4e3, 4e3]), 2.0)
    image += rng.normal(0, sigma)
    expected = extract_centroids(image, variance=sigma**2, method="window")
    assert np.allclose(expected.noise_map(), sigma)
    found, _ = match(expected, x, y)
    assert len(found) == len(expected.centroids) == 2
    left, right = sorted(expected.centroids, key=lambda star: star.x)
    ratio = right.brightness_error / left.brightness_error
    assert ratio == pytest.approx(10, rel=0.1)
    for method in ("psf", "window"):
        options = {"method": method}
        stars = extract_centroids(image, variance=sigma**2, **options).centroids  # type: ignore[arg-type]
        assert extract_centroids(image, weight=1 / sigma**2, **options).centroids == stars  # type: ignore[arg-type]
    assert len(extract_centroids(image, variance=sigma**2, fast=True).centroids) == 2
    # No weight, or no known variance, is a mask.
    weight, variance = 1 / sigma**2, sigma**2
    weight[180:220, 80:120], variance[180:220, 80:120] = 0, np.nan
    masked = extract_centroids(image, weight=weight).centroids
    assert len(masked) == 1
    assert masked[0].x > 0
    assert extract_centroids(image, variance=variance).centroids == masked


def test_read_noise_and_gain_tell_the_noise() -> None:
    image, *_ = field(32, n=20, sky=200, read=10)
    image /= 2.0  # two electrons per unit
    measured = extract_centroids(image)
    modelled = extract_centroids(image, gain=2.0, read_noise=10.0)
    assert modelled.noise == pytest.approx(measured.noise, rel=0.05)
    assert modelled.noise == pytest.approx(np.sqrt(200 + 100) / 2, rel=0.02)
    assert len(modelled.centroids) == len(measured.centroids)


def test_ccddata_in_adu_and_in_electrons() -> None:
    image, *_ = field(33, n=30)
    variance = np.maximum(image, 1) + 100.0
    expected = extract_centroids(image, variance=variance).centroids
    for uncertainty in (
        StdDevUncertainty(np.sqrt(variance)),
        VarianceUncertainty(variance),
        InverseVariance(1 / variance),
        StdDevUncertainty(1e3 * np.sqrt(variance), unit=u.mV),
    ):
        unit = "V" if uncertainty.unit == u.mV else "adu"
        frame = CCDData(image, uncertainty=uncertainty, unit=unit)
        result = extract_centroids(frame)
        assert result.unit == unit
        assert np.allclose(result.centroids.xy, expected.xy, atol=1e-3)
        assert np.allclose(result.centroids.brightness_error, expected.brightness_error, rtol=1e-3)
    adu = extract_centroids(CCDData(image, unit="adu"))
    assert adu.unit == "adu"
    assert adu.centroids == extract_centroids(image).centroids
    electrons = extract_centroids(CCDData(image, unit="electron"))
    assert electrons.unit == "electron"
    assert electrons.centroids == extract_centroids(image, gain=1.0).centroids
    both = extract_centroids(CCDData(image, unit="electron"), read_noise=10.0)
    assert both.centroids == extract_centroids(image, gain=1.0, read_noise=10.0).centroids
    # An uncertainty holds the photon noise already.
    known = CCDData(image, uncertainty=VarianceUncertainty(variance), unit="electron")
    assert extract_centroids(known).centroids == expected
    with pytest.raises(InputError, match="uncertainty"):
        extract_centroids(NDData(image, uncertainty=UnknownUncertainty(variance)))
    with pytest.raises(InputError, match="gain"):
        Extractor(read_noise=3.0)(CCDData(image, unit="adu"))
