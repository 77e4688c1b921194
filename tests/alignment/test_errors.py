"""Errors of the positions of a catalogue, beside those of sources, known or not."""

import numpy as np
import pytest

from aligned_skies import DEC, SCALE, Sky
from boresight import ImageCatalog, align


def stars_with_errors(sky, errors_px):
    """The stars as a catalogue that has them wrong by its own errors."""
    table, mas = sky.table(), SCALE * 3.6e6
    off = np.random.default_rng(1).normal(size=(2, len(table))) * errors_px * SCALE
    table["RA"] += off[0] / np.cos(np.radians(DEC))
    table["DEC"] += off[1]
    table["ra_error"] = table["dec_error"] = errors_px * mas
    return table


@pytest.mark.parametrize("method", ["sequential", "global"])
def test_errors_of_stars_alone_do_not_contradict_the_sources(method):
    sky = Sky(3)
    image = sky.image(shift=(2, 1), roll=0.02)
    precise = 10.0 ** sky.rng.uniform(-4, -2, len(sky.ra))
    plain = ImageCatalog(image.catalog.wcs, image.catalog.pixels)
    align([plain], sky.table(), searchrad=5, method=method)
    result = align([image.catalog], stars_with_errors(sky, precise), searchrad=5, method=method)
    assert result.images[0].verdict == "good"
    assert image.error_px() == pytest.approx(image.error_px(plain.wcs), rel=0.2)


@pytest.mark.parametrize("method", ["sequential", "global"])
def test_uncertain_stars_count_less_though_no_source_has_errors(method):
    sky = Sky(4)
    image = sky.image(shift=(2, 1), roll=0.02)
    errors = np.where(sky.rng.random(len(sky.ra)) < 0.7, 0.4, 0.001)
    table = stars_with_errors(sky, errors)
    bare = ImageCatalog(image.catalog.wcs, image.catalog.pixels)
    align([bare], table["RA", "DEC"], searchrad=5, tolerance=3, method=method)
    result = align([image.catalog], table, searchrad=5, tolerance=3, method=method)
    assert result.images[0].verdict == "good"
    assert image.error_px() < 0.6 * image.error_px(bare.wcs)


@pytest.mark.parametrize("weight", [True, False])
def test_errors_of_a_catalogue_are_those_of_the_stars_in_a_global_fit(weight):
    sky = Sky(5, half=900)
    table = stars_with_errors(sky, np.full(len(sky.ra), 0.15))
    images = [sky.image(shift=(2, 1), weight=weight) for _ in range(4)]
    result = align(
        [i.catalog for i in images], table, searchrad=5, method="global", fitgeom="rscale"
    )
    assert result.ok
    fit = result.fit
    # Four images tell where the stars are among each other: their scatter is that of the sources.
    assert fit.rmse_px < 0.1
    assert fit.floor_px < 0.02
    if weight:
        assert fit.chi2_dof == pytest.approx(1.0, abs=0.15)
