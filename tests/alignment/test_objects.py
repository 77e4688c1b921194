"""Objects that move, and colours, in the fit of all images at once."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from aligned_skies import DEC, RA, SCALE, SIZE, make_wcs
from boresight import ImageCatalog, InputError, align

NOISE = 0.02
YEARS = 2016.0 + np.array([0.0, 0.3, 0.55, 1.1, 1.75, 2.4, 3.15, 3.8, 4.5, 5.0])
MAS_PX = SCALE * 3.6e6
"""Milliarcseconds in a pixel."""


class Moving:
    """Stars with proper motions, parallaxes and colours, moved by astropy."""

    def __init__(self, seed, count=150, motion=60.0, parallax=80.0):
        rng = np.random.default_rng(seed)
        self.rng = rng
        off = rng.uniform(-0.04, 0.04, (2, count))
        self.ra, self.dec = RA + off[0] / np.cos(np.radians(DEC)), DEC + off[1]
        self.pmra, self.pmdec = rng.normal(0, motion, (2, count))
        self.parallax = rng.uniform(0.2, 1.0, count) * parallax
        self.color = rng.uniform(0.0, 2.0, count)

    def at(self, year):
        """Directions from the earth in a year."""
        start = Time(YEARS.mean(), format="jyear", scale="tdb")
        when = Time(year, format="jyear", scale="tdb")
        stars = SkyCoord(
            self.ra * u.deg, self.dec * u.deg, pm_ra_cosdec=self.pmra * u.mas / u.yr,
            pm_dec=self.pmdec * u.mas / u.yr, distance=1000.0 / self.parallax * u.pc,
            radial_velocity=0 * u.km / u.s, obstime=start,
        )  # fmt: skip
        from astropy.coordinates import get_body_barycentric

        there = stars.apply_space_motion(new_obstime=when).cartesian.xyz.to_value("pc")
        seen = there - get_body_barycentric("earth", when).xyz.to_value("pc")[:, None]
        unit = SkyCoord(*seen, unit="pc", representation_type="cartesian").spherical
        return unit.lon.deg, unit.lat.deg

    def images(self, bend=0.0):
        """An image in each year, shifted a little; stars are displaced along y by their colour."""
        images, trues = [], []
        for k, year in enumerate(YEARS):
            true = make_wcs(tuple(self.rng.uniform(-40, 40, 2)))
            xy = np.column_stack(true.all_world2pix(*self.at(year), 0))
            xy[:, 1] += bend * k * (self.color - np.median(self.color))
            xy += self.rng.normal(0, NOISE, xy.shape)
            wrong = true.deepcopy()
            wrong.wcs.crpix = wrong.wcs.crpix + self.rng.uniform(-2, 2, 2)
            table = Table({"x": xy[:, 0], "y": xy[:, 1], "color": self.color})
            table["weight"] = NOISE**-2.0
            time = Time(year, format="jyear", scale="tdb")
            images.append(ImageCatalog(wrong, table, image_shape=(SIZE, SIZE), time=time))
            trues.append(true)
        return images, trues

    def catalogue(self, error=0.5):
        """Places at the mean epoch, as a catalogue without motions has them."""
        off = self.rng.normal(0, error / 3.6e6, (2, len(self.ra)))
        return Table({
            "RA": self.ra + off[0] / np.cos(np.radians(DEC)), "DEC": self.dec + off[1],
            "id": np.arange(len(self.ra)),
            "ra_error": np.full(len(self.ra), error), "dec_error": np.full(len(self.ra), error),
        })  # fmt: skip


OPTIONS = {"method": "global", "fitgeom": "rscale", "searchrad": 8, "tolerance": 2, "sigma": 5.0}


def apart(found, truth):
    """Errors less a linear map, for which a steady change of the images' maps can stand."""
    design = np.column_stack(
        [np.ones(len(found)), found["ra"].value - RA, found["dec"].value - DEC]
    )
    return truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]


def test_proper_motions_and_parallaxes_are_found():
    sky = Moving(1)
    images, _ = sky.images()
    result = align(images, sky.catalogue(), motion="parallax", **OPTIONS)
    found = result.fit.objects
    assert len(found) >= 140
    for name, truth in (("pmra", sky.pmra), ("pmdec", sky.pmdec), ("parallax", sky.parallax)):
        off = apart(found, found[name].value - truth[found["id"]])
        pull = off / found[f"{name}_error"].value
        assert 0.8 < pull.std() < 1.25, name
        assert off.std() < 0.2 * truth.std(), name


def test_motions_of_a_catalogue_are_priors():
    sky = Moving(2)
    table = sky.catalogue()
    table["pmra"], table["pmdec"] = sky.pmra, sky.pmdec
    table["pmra_error"], table["pmdec_error"] = np.full((2, len(table)), 0.05)
    table["ref_epoch"] = YEARS.mean()
    table["parallax"], table["parallax_error"] = sky.parallax, np.full(len(table), 0.05)
    images, trues = sky.images()
    result = align(images, table, motion="parallax", **OPTIONS)
    off = result.fit.objects["pmra"].value - sky.pmra[result.fit.objects["id"]]
    assert np.abs(off).max() < 0.3
    for image, true in zip(images, trues, strict=True):
        xy = np.array([[100.0, 200.0], [900.0, 700.0]])
        apart = image.wcs.all_pix2world(xy, 0) - true.all_pix2world(xy, 0)
        assert np.abs(apart).max() / SCALE < 0.02


def test_still_objects_do_not_fit_those_that_move():
    sky = Moving(3)
    still = align(sky.images()[0], sky.catalogue(), **OPTIONS).fit
    moving = align(sky.images()[0], sky.catalogue(), motion="proper", **OPTIONS).fit
    assert still.rmse_px > 3 * moving.rmse_px
    assert "pmra" not in still.objects.colnames
    assert "parallax" not in moving.objects.colnames


def test_shifts_by_colour_are_found():
    sky = Moving(4, motion=0.0, parallax=5.0)
    result = align(sky.images(bend=0.05)[0], sky.catalogue(), chromatic=True, **OPTIONS)
    wanted = 0.05 * np.arange(len(YEARS))
    # The fit's own displacement undoes that of the images.
    np.testing.assert_allclose(result.fit.chromatic[:, 1], -wanted, atol=0.01)
    np.testing.assert_allclose(result.fit.chromatic[:, 0], 0.0, atol=0.01)
    assert result.fit.rmse_px < 1.6 * NOISE


def test_images_alone_tell_motions_relative_to_each_other():
    sky = Moving(5, motion=20.0, parallax=5.0)
    images, _ = sky.images()
    found = align(images, motion="proper", **OPTIONS).fit.objects
    xy = np.column_stack([found["ra"].value, found["dec"].value])
    star = [np.argmin(np.hypot((sky.ra - r) * np.cos(np.radians(DEC)), sky.dec - d)) for r, d in xy]
    off = apart(found, found["pmra"].value - sky.pmra[star])
    assert np.median(np.abs(off)) < 3 * NOISE * MAS_PX / 5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("motion", {"motion": "fast"}),
        ("motion", {"motion": "proper", "method": "sequential"}),
        ("chromatic", {"chromatic": True, "method": "sequential"}),
    ],
)
def test_what_cannot_be_fitted_is_named(name, change):
    sky = Moving(6)
    with pytest.raises(InputError, match=rf"^{name}:"):
        align(sky.images()[0], sky.catalogue(), **(OPTIONS | change))


def test_times_and_colours_that_are_missing_are_named():
    sky = Moving(7)
    images, _ = sky.images()
    bare = [ImageCatalog(i.wcs, i.pixels, image_shape=(SIZE, SIZE)) for i in images]
    with pytest.raises(InputError, match=r"^imcat: image 0 has no time"):
        align(bare, sky.catalogue(), motion="proper", **OPTIONS)
    with pytest.raises(InputError, match=r"^chromatic:"):
        align(bare, sky.catalogue(), chromatic=True, **OPTIONS)
    with pytest.raises(InputError, match=r"^time:"):
        ImageCatalog(WCS(naxis=2), [[1.0, 2.0]], time="yesterday")
