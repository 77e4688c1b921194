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
from boresight.alignment import ReferenceCatalog

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


ERRORS = {"ra": 3.0, "dec": 2.0, "pmra": 2.5, "pmdec": 2.0, "parallax": 3.0}
"""Errors of a catalogue, mas and years."""

GAIA = ["ra", "dec", "parallax", "pmra", "pmdec"]
"""Order of the parameters in the names of Gaia's columns."""

CATALOGUED = 2010.0
"""Epoch of its places."""


def correlated(sky):
    """A catalogue whose errors are correlated as they say."""
    n, names, rng = len(sky.ra), list(ERRORS), sky.rng
    root = rng.normal(size=(n, 5, 7)) + 1.5 * rng.normal(size=(n, 5, 1))
    covariance = root @ root.transpose(0, 2, 1)
    scale = np.array(list(ERRORS.values())) / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    covariance *= scale[:, :, None] * scale[:, None, :]
    off = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), rng.normal(size=(n, 5)))
    # The catalogue's places are of an epoch before that of the truth.
    years = CATALOGUED - YEARS.mean()
    place = SkyCoord(
        sky.ra * u.deg, sky.dec * u.deg, pm_ra_cosdec=sky.pmra * u.mas / u.yr,
        pm_dec=sky.pmdec * u.mas / u.yr, distance=1 * u.kpc, radial_velocity=0 * u.km / u.s,
        obstime=Time(YEARS.mean(), format="jyear", scale="tdb"),
    ).apply_space_motion(dt=years * u.yr)  # fmt: skip
    table = Table({
        "id": np.arange(n), "RA": place.ra.deg + off[:, 0] / 3.6e6 / np.cos(np.radians(sky.dec)),
        "DEC": place.dec.deg + off[:, 1] / 3.6e6, "ref_epoch": np.full(n, CATALOGUED),
        "pmra": sky.pmra + off[:, 2], "pmdec": sky.pmdec + off[:, 3],
        "parallax": sky.parallax + off[:, 4],
    })  # fmt: skip
    for k, name in enumerate(names):
        table[f"{name}_error"] = np.full(n, ERRORS[name])
        for other in range(k):
            pair = sorted([names[other], name], key=GAIA.index)
            value = covariance[:, other, k] / (ERRORS[names[other]] * ERRORS[name])
            table["_".join([*pair, "corr"])] = value
    return table, covariance


def without_correlations(table):
    """The same catalogue with errors alone."""
    return table[[name for name in table.colnames if not name.endswith("_corr")]]


def whole_fit(images, trues, stars, covariance):
    """Parameters of stars by the normal equations of a whole fit, and their errors for known maps.

    Of images that are shifted: `stars` are places, motions and parallaxes at the mean epoch.
    """
    from astropy.coordinates import get_body_barycentric

    n, free = len(stars[0]), 2 * len(images)
    normal, right = np.zeros((free + 5 * n,) * 2), np.zeros(free + 5 * n)
    prior = np.linalg.inv(covariance)
    for k in range(n):
        mine = slice(free + 5 * k, free + 5 * k + 5)
        normal[mine, mine] = prior[k]

    def seen(parameters, year, wcs):
        """Pixels of stars with these parameters in a year."""
        ra, dec = np.radians(parameters[:2])
        east = np.stack([-np.sin(ra), np.cos(ra), 0 * ra])
        north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
        there = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        earth = get_body_barycentric("earth", Time(year, format="jyear", scale="tdb"))
        mas, years = np.pi / 648e6, year - YEARS.mean()
        there = there + mas * years * (parameters[2] * east + parameters[3] * north)
        there -= mas * parameters[4] * earth.xyz.to_value("au")[:, None]
        spherical = SkyCoord(*there, representation_type="cartesian").spherical
        return np.column_stack(wcs.all_world2pix(spherical.lon.deg, spherical.lat.deg, 0))

    steps = np.array([1 / 3.6e6, 1 / 3.6e6, 1.0, 1.0, 1.0])[:, None] * np.ones(n)
    steps[0] /= np.cos(np.radians(stars[1]))
    for e, (image, wcs) in enumerate(zip(images, trues, strict=True)):
        expected = seen(stars, YEARS[e], wcs)
        by = [seen(stars + steps * (np.arange(5) == k)[:, None], YEARS[e], wcs) for k in range(5)]
        for k in range(n):
            row = np.zeros((2, len(right)))
            row[:, 2 * e : 2 * e + 2] = np.eye(2)
            row[:, free + 5 * k : free + 5 * k + 5] = np.stack([b[k] - expected[k] for b in by], 1)
            normal += NOISE**-2.0 * row.T @ row
            right += NOISE**-2.0 * row.T @ (image.pixels[k] - expected[k])
    blocks = normal[free:, free:].reshape(n, 5, n, 5)[range(n), :, range(n)]
    variances = np.diagonal(np.linalg.inv(blocks), axis1=1, axis2=2)
    return np.linalg.solve(normal, right)[free:].reshape(n, 5), np.sqrt(variances)


def test_correlated_errors_of_a_catalogue_are_priors():
    sky = Moving(11, count=25)
    table, covariance = correlated(sky)
    images, trues = sky.images()
    # Smaller errors than the weights tell, so that no floor is added to them.
    images = [
        ImageCatalog(
            image.wcs, Table({"x": x, "y": y, "weight": np.full(len(x), NOISE**-2.0)}),
            image_shape=(SIZE, SIZE), time=image.time,
        )
        for image, true in zip(images, trues, strict=True)
        for x, y in [np.transpose(0.6 * image.pixels + 0.4 * np.column_stack(
            true.all_world2pix(*sky.at(image.time.jyear), 0)))]
    ]  # fmt: skip
    options = OPTIONS | {"fitgeom": "shift", "reserve": 0.0, "motion": "parallax", "nclip": 0}
    result = align(images, table, **options)
    found = result.fit.objects
    assert result.fit.floor_px == 0.0
    years = YEARS.mean() - CATALOGUED
    place = SkyCoord(
        table["RA"] * u.deg, table["DEC"] * u.deg, pm_ra_cosdec=table["pmra"] * u.mas / u.yr,
        pm_dec=table["pmdec"] * u.mas / u.yr, distance=1 * u.kpc, radial_velocity=0 * u.km / u.s,
        obstime=Time(CATALOGUED, format="jyear", scale="tdb"),
    ).apply_space_motion(dt=years * u.yr)  # fmt: skip
    stars = np.stack(
        [place.ra.deg, place.dec.deg, table["pmra"], table["pmdec"], table["parallax"]]
    )
    step = np.eye(5)
    step[0, 2] = step[1, 3] = years
    wanted, errors = whole_fit(images, trues, stars, step @ covariance @ step.T)
    order = np.argsort(found["id"])
    told = np.column_stack([found[f"{name}_error"].value for name in ERRORS])[order]
    np.testing.assert_allclose(told, errors, rtol=2e-3)
    moved = np.column_stack(
        [
            (found["ra"].value[order] - stars[0]) * np.cos(np.radians(stars[1])) * 3.6e6,
            (found["dec"].value[order] - stars[1]) * 3.6e6,
            *(found[name].value[order] - table[name] for name in ("pmra", "pmdec", "parallax")),
        ]
    )
    np.testing.assert_allclose(moved, wanted, atol=0.02)
    assert np.abs(wanted).max() > 5.0


def test_errors_of_objects_are_as_told_and_correlations_lessen_them():
    pulls, scatter = [], []
    for seed in range(4):
        sky = Moving(20 + seed, motion=20.0, parallax=20.0)
        table, _ = correlated(sky)
        images, _ = sky.images()
        options = OPTIONS | {"motion": "parallax", "reserve": 0.0, "fitgeom": "shift"}
        for given in (table, without_correlations(table)):
            again = [ImageCatalog(i.original_wcs, Table({
                "x": i.pixels[:, 0], "y": i.pixels[:, 1], "weight": np.full(len(i), NOISE**-2.0),
            }), image_shape=(SIZE, SIZE), time=i.time) for i in images]  # fmt: skip
            found = align(again, given, **options).fit.objects
            off = np.column_stack(
                [
                    found[name].value - getattr(sky, name)[found["id"]]
                    for name in ("pmra", "pmdec", "parallax")
                ]
            )
            # Errors are those for known maps: what all stars have in common is of these.
            off -= off.mean(axis=0)
            error = [found[f"{name}_error"].value for name in ("pmra", "pmdec", "parallax")]
            pulls.append(off / np.transpose(error))
            scatter.append((off**2).mean(axis=0))
    pull = np.concatenate(pulls[::2])
    np.testing.assert_allclose((pull**2).mean(axis=0), 1.0, atol=0.15)
    np.testing.assert_array_less(
        np.mean(scatter[::2], axis=0), 0.9 * np.mean(scatter[1::2], axis=0)
    )


def test_correlations_of_zero_are_none():
    sky = Moving(12, count=40)
    table, _ = correlated(sky)
    zero = table.copy()
    for name in table.colnames:
        if name.endswith("_corr"):
            zero[name] = 0.0
    images, _ = sky.images()
    found = []
    for given in (zero, without_correlations(table)):
        again = [
            ImageCatalog(i.original_wcs, i.pixels, image_shape=(SIZE, SIZE), time=i.time)
            for i in images
        ]
        found.append(align(again, given, motion="parallax", **OPTIONS).fit.objects)
    for name in found[0].colnames:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_errors_of_places_at_another_epoch_are_those_of_many_draws():
    sky = Moving(13, count=1)
    table, covariance = correlated(sky)
    draws = sky.rng.multivariate_normal(np.zeros(5), covariance[0], 20_000)
    ra, dec = table["RA"][0], table["DEC"][0]

    def there(off):
        return SkyCoord(
            (ra + off[:, 0] / 3.6e6 / np.cos(np.radians(dec))) * u.deg,
            (dec + off[:, 1] / 3.6e6) * u.deg, distance=1 * u.kpc,
            pm_ra_cosdec=(table["pmra"][0] + off[:, 2]) * u.mas / u.yr,
            pm_dec=(table["pmdec"][0] + off[:, 3]) * u.mas / u.yr, radial_velocity=0 * u.km / u.s,
            obstime=Time(CATALOGUED, format="jyear", scale="tdb"),
        ).apply_space_motion(new_obstime=Time(2030.0, format="jyear", scale="tdb"))  # fmt: skip

    east, north = there(np.zeros((1, 5)))[0].spherical_offsets_to(there(draws))
    drawn = np.cov(east.mas, north.mas)
    moved = ReferenceCatalog.from_any(table, epoch=2030.0)
    np.testing.assert_allclose(moved.covariance[0, :2, :2], drawn, rtol=0.05, atol=30.0)
    assert moved.sigma[0] / (np.pi / 648e6) == pytest.approx(np.sqrt(drawn.trace() / 2), rel=0.02)
    # Correlations are a large part of it.
    alone = ReferenceCatalog.from_any(without_correlations(table), epoch=2030.0).covariance[0]
    assert abs(alone[0, 1]) < 1e-9 < 100 < abs(drawn[0, 1])


@pytest.mark.parametrize(
    ("column", "value"),
    [("ra_pmra_corr", 1.5), ("pmra_pmdec_corr", -1.01), ("dec_error", -1.0)],
)
def test_errors_that_cannot_be_are_named(column, value):
    table, _ = correlated(Moving(14, count=5))
    table[column][3] = value
    with pytest.raises(InputError, match=rf"^refcat: {column} of row 3 is {value}"):
        ReferenceCatalog.from_any(table)


def test_correlations_that_contradict_each_other_are_named():
    table, _ = correlated(Moving(14, count=5))
    for name in ("ra_dec_corr", "ra_pmra_corr", "dec_pmra_corr"):
        table[name][2] = -0.9
    with pytest.raises(InputError, match=r"^refcat: ra_dec_corr, .* of row 2 contradict"):
        ReferenceCatalog.from_any(table)


def test_correlations_that_are_not_known_are_zero():
    table, _ = correlated(Moving(15, count=5))
    for name in table.colnames:
        if name.endswith("_corr"):
            table[name][1] = np.nan
    table["pmra_error"][4] = np.nan
    found = ReferenceCatalog.from_any(table).covariance
    assert found[1, 0, 2] == found[4, 0, 2] == 0.0 < abs(found[0, 0, 2])
    assert np.isnan(found[4, 2, 2])
