"""Star lists of other programs, as the first example of their documentation writes them.

The tables are written by hand from the pixels of a simulated frame, so none of the programs is
needed.
"""

import copy
import io
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given
from hypothesis import strategies as st

from boresight import (
    CameraModel,
    Centroid,
    Centroids,
    InputError,
    Tracker,
    calibrate,
    calibrate_camera,
    diagnose,
    extract_centroids,
    simulate_frame,
    solve,
    solve_from_centroids,
    solve_many,
)
from boresight.extraction.star_list import StarList

SHAPE = (480, 640)
RA, DEC = 83.8, -1.2


@pytest.fixture(scope="module")
def stars():
    """Centroids of a frame of 12 degrees that is wider than high."""
    frame = simulate_frame(CameraModel.from_fov(12.0, SHAPE), RA, DEC, 30.0, seed=1)
    return extract_centroids(frame.image).centroids


@pytest.fixture(scope="module")
def array_pixels(stars):
    """Columns, rows and fluxes, 0-based, in the order in which a detection scans the rows."""
    order = np.argsort(stars.y)
    column, row = stars.x + SHAPE[1] / 2, stars.y + SHAPE[0] / 2
    return column[order], row[order], stars.brightness[order]


def sep(column, row, flux):
    """`sep.extract(data, 1.5, err=bkg.globalrms)`: a structured array."""
    kinds = [("thresh", "f8"), ("npix", "i4"), ("tnpix", "i4"), ("xmin", "i4"), ("xmax", "i4"),
             ("ymin", "i4"), ("ymax", "i4"), ("x", "f8"), ("y", "f8"), ("x2", "f8"), ("y2", "f8"),
             ("a", "f8"), ("b", "f8"), ("theta", "f8"), ("cflux", "f8"), ("flux", "f8"),
             ("cpeak", "f8"), ("peak", "f8"), ("xcpeak", "i4"), ("ycpeak", "i4"), ("xpeak", "i4"),
             ("ypeak", "i4"), ("flag", "i4")]  # fmt: skip
    objects = np.zeros(len(column), dtype=kinds)
    objects["x"], objects["y"], objects["flux"] = column, row, flux
    return objects


def sextractor(column, row, flux):
    """`sex image.fits`, CATALOG_TYPE FITS_1.0, read by `Table.read`."""
    return Table({
        "NUMBER": np.arange(1, len(column) + 1), "FLAGS": np.zeros(len(column), int),
        "X_IMAGE": (column + 1.02) * u.pix, "Y_IMAGE": (row + 0.99) * u.pix,
        "XWIN_IMAGE": (column + 1) * u.pix, "YWIN_IMAGE": (row + 1) * u.pix,
        "MAG_AUTO": (25 - 2.5 * np.log10(flux)) * u.mag, "MAGERR_AUTO": np.full(len(column), 0.1),
    })  # fmt: skip


def photutils(column, row, flux):
    """`DAOStarFinder(...)(data - median)` of photutils 3."""
    n = len(column)
    return QTable({
        "id": np.arange(1, n + 1), "x_centroid": column, "y_centroid": row,
        "sharpness": np.full(n, 0.6), "roundness1": np.zeros(n), "n_pixels": np.full(n, 25),
        "peak": flux / 9, "flux": flux, "mag": -2.5 * np.log10(flux), "daofind_mag": np.zeros(n),
    })  # fmt: skip


def dao_star_finder(column, row, flux):
    """The same of photutils 1 and 2."""
    table = photutils(column, row, flux)
    table.rename_columns(["x_centroid", "y_centroid"], ["xcentroid", "ycentroid"])
    return table


def find_peaks(column, row, flux):
    """`photutils.detection.find_peaks`: whole pixels."""
    return QTable({"id": np.arange(len(row)), "x_peak": column.round().astype(int),
                   "y_peak": row.round().astype(int), "peak_value": flux})  # fmt: skip


def psf_photometry(column, row, flux):
    """`photutils.psf.PSFPhotometry`, whose flags are others than ours."""
    return QTable({"x_init": column.round(), "y_init": row.round(), "x_fit": column, "y_fit": row,
                   "flux_fit": flux, "flags": np.full(len(row), 64)})  # fmt: skip


def astrometry_net(column, row, flux):
    """`image.axy`, first extension: brightest first."""
    order = np.argsort(-flux)
    x, y, light = (values[order].astype(">f4") for values in (column + 1, row + 1, flux))
    columns = [fits.Column("X", "E", array=x), fits.Column("Y", "E", array=y),
               fits.Column("FLUX", "E", array=light)]  # fmt: skip
    file = io.BytesIO()
    hdu = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    file.seek(0)
    with fits.open(file) as read:
        return read[1].data


def astap(column, row, flux):
    """`astap -f image.fits -extract 10`, read by `Table.read(..., format="csv")`."""
    lines = ["x,y,hfd,snr,flux"]
    for x, y, f in zip(column + 1, row + 1, flux, strict=True):
        lines.append(f"{x:.4f},{y:.4f},2.5,{f / 10:.0f},{f:.0f}")
    return Table.read("\n".join(lines), format="csv")


PROGRAMS = [
    sep, sextractor, photutils, dao_star_finder, find_peaks, psf_photometry, astrometry_net, astap,
]  # fmt: skip


def separation_arcsec(solution):
    """Angle between a solution's centre and the truth."""
    ra, dec = np.radians([solution.ra_deg, RA]), np.radians([solution.dec_deg, DEC])
    cos = np.sin(dec).prod() + np.cos(dec).prod() * np.cos(ra[0] - ra[1])
    return np.degrees(np.arccos(min(cos, 1.0))) * 3600


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_programs_table_is_solved_as_it_is(program, array_pixels, stars, wide_database):
    table = program(*array_pixels)
    solution = solve(table, 12.0, database=wide_database, image_shape=SHAPE)
    assert separation_arcsec(solution) < 5.0
    # The rows are those of the table: what is matched is where our own extraction has it.
    read = Centroids.from_any(table, image_shape=SHAPE)
    x, y = solution.world_to_pixel(*_sky(solution))
    found = read.xy[solution.matched_centroids.astype(int)]
    assert np.median(np.hypot(x - found[:, 0], y - found[:, 1])) < 0.5
    tolerance = 0.5 if program is find_peaks else 1e-3
    ours = stars.xy[np.argsort(stars.y)]
    theirs = read.xy[np.argsort(read.y, kind="stable")] if program is astrometry_net else read.xy
    assert np.abs(theirs - ours).max() <= tolerance + 1e-9
    assert (read.flags == 0).all()
    with pytest.raises(InputError, match=r"image_shape: missing.*corner"):
        Centroids.from_any(table)


def _sky(solution):
    v = solution.matched_directions
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])), np.degrees(np.arcsin(v[:, 2]))


def test_a_table_hdu_and_a_data_frame_of_columns(array_pixels, wide_database):
    table = astrometry_net(*array_pixels)
    hdu = fits.BinTableHDU(table)
    mapping = {name: np.asarray(table[name], float) for name in table.names}
    for form in (hdu, mapping):
        assert Centroids.from_any(form, image_shape=SHAPE) == Centroids.from_any(
            table, image_shape=SHAPE
        )
    solution = solve(hdu, 12.0, database=wide_database, image_shape=SHAPE)
    assert separation_arcsec(solution) < 5.0


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_plain_arrays_from_the_corner_name_the_origin(array_pixels, wide_database, first):
    column, row, flux = array_pixels
    rows = np.column_stack([column + first, row + first, flux])
    arguments = {"database": wide_database, "image_shape": SHAPE}
    with pytest.raises(InputError, match=r"lie outside the image.*origin='corner'.*origin='fits'"):
        solve(rows, 12.0, **arguments)
    origin = "fits" if first else "corner"
    assert separation_arcsec(solve(rows, 12.0, origin=origin, **arguments)) < 5.0


def test_tetra3s_rows_and_columns(array_pixels, wide_database):
    # (y, x), brightest first, with the centre of the first pixel at (0.5, 0.5).
    column, row, flux = array_pixels
    yx = np.column_stack([row, column])[np.argsort(-flux)] + 0.5
    arguments = {"database": wide_database, "image_shape": SHAPE}
    with pytest.raises(InputError, match=r"origin"):
        solve(yx, 12.0, **arguments)
    with pytest.raises(InputError, match=r"look like \(y, x\).*::-1"):
        solve(yx, 12.0, origin="corner", **arguments)
    solution = solve(yx[:, ::-1] - 0.5, 12.0, origin="corner", **arguments)
    assert separation_arcsec(solution) < 5.0


def test_square_images_tell_rows_from_columns_no_better_than_their_reader():
    stars = np.random.default_rng(1).uniform(0, 512, (40, 2))
    with pytest.raises(InputError, match=r"origin='corner'.*tetra3.*stars\[:, ::-1\]"):
        Centroids.from_any(stars, image_shape=(512, 512))


def test_every_function_that_takes_a_list_takes_its_origin(array_pixels, stars, wide_database):
    rows = np.column_stack(array_pixels)
    camera = CameraModel.from_fov(12.0, SHAPE)
    known = {"image_shape": SHAPE, "origin": "corner"}
    one = solve_from_centroids(wide_database, rows, 12.0, **known)
    assert separation_arcsec(one) < 5.0
    (many,) = solve_many([rows], 12.0, database=wide_database, lens=None, **known)
    assert many.ra_deg == one.ra_deg
    assert diagnose(rows, 12.0, database=wide_database, **known).solution.ra_deg == one.ra_deg
    tracker = Tracker(wide_database, fov_deg=12.0, **known)
    assert tracker.solve(rows).ra_deg == one.ra_deg
    fitted = calibrate_camera([one], [rows], model="pinhole", origin="corner")
    centred = solve(stars, 12.0, database=wide_database, image_shape=SHAPE)
    same = calibrate_camera([centred], [Centroids.from_any(stars.xy)], model="pinhole")
    assert fitted.camera_model.fov_deg == pytest.approx(same.camera_model.fov_deg, rel=1e-9)
    whole = calibrate([rows], wide_database, fov_estimate_deg=12.0, model="pinhole", **known)
    assert whole.camera_model.fov_deg == pytest.approx(camera.fov_deg, rel=1e-4)
    for call in (
        lambda: solve_many([rows], 12.0, database=wide_database, image_shape=SHAPE),
        lambda: diagnose(rows, 12.0, database=wide_database, image_shape=SHAPE),
        lambda: Tracker(wide_database, image_shape=SHAPE).solve(rows),
        lambda: calibrate([rows], wide_database, image_shape=SHAPE),
        lambda: calibrate_camera([one], [rows], model="pinhole"),
        lambda: Centroids.from_any(rows, image_shape=SHAPE),
        lambda: solve(stars, 12.0, database=wide_database, image_shape=SHAPE, origin="top"),
        lambda: solve(stars, 12.0, database=wide_database, image_shape=SHAPE, origin="corner"),
    ):
        with pytest.raises(InputError, match="origin"):
            call()


def test_centred_positions_called_cornered_are_refused(stars):
    with pytest.raises(InputError, match="counted from the centre"):
        Centroids.from_any(stars.xy, origin="corner", image_shape=SHAPE)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    at=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
    origin=st.sampled_from(["corner", "fits"]),
)
def test_conversions_are_inverse(width, height, at, origin):
    shape = (height, width)
    first = {"corner": 0.0, "fits": 1.0}[origin]
    given = np.array(at) * (width - 1, height - 1) + first
    stars = Centroids.from_any(given, origin=origin, image_shape=shape)
    back = stars.to_corner(shape) if origin == "corner" else stars.to_fits(shape)
    np.testing.assert_allclose(back, given, atol=1e-9)
    np.testing.assert_allclose(stars.xy, given - first - (width / 2, height / 2), atol=1e-9)
    assert Centroids.from_corner(given - first, shape).xy == pytest.approx(stars.xy, abs=1e-9)


def test_masked_and_missing_stars_are_left_out_and_rows_stay(array_pixels, wide_database):
    rows = np.column_stack(array_pixels)
    complete = solve(rows, 12.0, database=wide_database, image_shape=SHAPE, origin="corner")
    gaps = np.insert(rows, [0, 7, len(rows)], np.nan, axis=0)
    masked = np.ma.masked_invalid(gaps)
    masked.data[masked.mask] = 100.0
    column = MaskedColumn(masked[:, 0].filled(5.0), mask=masked.mask[:, 0])
    forms = [
        gaps,
        masked,
        Table({"x": column, "y": gaps[:, 1], "flux": gaps[:, 2]}),
        Table({"x": masked.data[:, 0], "y": masked.data[:, 1], "flux": masked[:, 2]}),
    ]
    place = np.flatnonzero(np.isfinite(gaps[:, 0]))
    for form in forms:
        listed = StarList.read(form, "corner", SHAPE)
        assert listed.rows.tolist() == place.tolist()
        assert listed.length == len(gaps)
        solution = solve(form, 12.0, database=wide_database, image_shape=SHAPE, origin="corner")
        matched = place[complete.matched_centroids.astype(int)]
        assert solution.matched_centroids.tolist() == matched.tolist()
        fitted = calibrate_camera([solution], [form], model="pinhole", origin="corner")
        assert fitted.camera_model.fov_deg == pytest.approx(complete.fov_deg, rel=1e-3)
    result = calibrate(
        [gaps], wide_database, image_shape=SHAPE, origin="corner", fov_estimate_deg=12.0,
        model="pinhole",
    )  # fmt: skip
    assert set(result.solutions[0].matched_centroids.tolist()) <= set(place.tolist())


def test_all_rows_missing():
    assert len(Centroids.from_any(np.full((3, 2), np.nan))) == 0
    # Positions alone have no brightness, none of which is missing.
    assert len(Centroids.from_any(np.c_[np.ones((3, 2)), np.full(3, np.nan)])) == 3


@pytest.mark.parametrize("unit", [u.deg, u.mm, u.arcsec])
def test_other_units_than_pixels_are_refused(unit):
    for listed in (
        Table({"x": [1, 2] * unit, "y": [1, 2] * unit}),
        np.ones((3, 2)) * unit,
        {"x": [1, 2] * u.pix, "y": [1, 2] * unit},
    ):
        with pytest.raises(InputError, match=rf"{unit}.*give pixels"):
            Centroids.from_any(listed)
    with pytest.raises(InputError, match=r"^x: .*pixels"):
        CameraModel.from_fov(10, (100, 100)).pixel_to_direction(5 * unit, 0.0)
    table = QTable({"x": [1, 2] * u.pix, "y": [1, 2] * u.pix, "flux": [5, 4] * u.electron})
    assert Centroids.from_any(table).brightness.tolist() == [5, 4]


@pytest.mark.parametrize("name", ["mag", "MAG_AUTO", "Vmag", "magnitude", "instrumental_mag"])
def test_magnitudes_are_known_by_name(name):
    table = Table(
        {"x": [1.0, 2, 3], "y": [1.0, 2, 3], name: [5.0, 99.0, 2.5], "mag_err": [0, 0, 0]}
    )
    stars = Centroids.from_any(table)
    assert stars.x.tolist() == [1, 3]  # 99 is SExtractor's word for none
    assert stars.brightness == pytest.approx([0.01, 0.1])
    unit = Table({"x": [1.0, 2], "y": [1.0, 2], "brightness": [5.0, 2.5] * u.mag})
    assert Centroids.from_any(unit).brightness == pytest.approx([0.01, 0.1])


def test_light_that_is_negative_throughout_is_asked_for(stars, wide_database):
    magnitudes = -2.5 * np.log10(stars.brightness)
    arguments = {"database": wide_database, "image_shape": SHAPE}
    for light in (magnitudes, -stars.brightness):
        with pytest.raises(InputError, match=r"every brightness is negative.*magnitudes"):
            solve(np.column_stack([stars.x, stars.y, light]), 12.0, **arguments)
    named = Table({"x": stars.x, "y": stars.y, "mag": magnitudes})
    assert separation_arcsec(solve(named, 12.0, **arguments)) < 5.0


def test_a_centroid_is_made_by_hand_pickled_and_copied():
    star = Centroid(1.5, -2.0, 300.0, flags=1)
    for same in (star, pickle.loads(pickle.dumps(star)), copy.deepcopy(star), copy.copy(star)):
        assert (same.x, same.y, same.brightness, int(same.flags)) == (1.5, -2.0, 300.0, 1)
    assert np.isnan(Centroid(0, 0).brightness)
    assert Centroids.from_any([star, Centroid(0.0, 0.0, 5.0)]).brightness.tolist() == [300.0, 5.0]
    with pytest.raises(InputError, match="mass"):
        Centroid(0, 0, mass=1)
    with pytest.raises(InputError):
        Centroid(np.nan, 0)


def test_a_data_frame_with_missing_values():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"x": [1.0, np.nan, 3.0, 4.0], "y": [1, 2, 3, 4], "flux": [9.0, 8.0, 7.0, np.nan]}
    )
    frame["y"] = frame["y"].astype("Int64")
    frame.loc[2, "y"] = pandas.NA
    assert Centroids.from_any(frame).x.tolist() == [1.0]
