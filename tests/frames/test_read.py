"""Reading frames: every format, layout and kind of damage."""

import bz2
import contextlib
import dataclasses
import gzip
import pickle

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from boresight import FileFormatError, Frame, InputError, extract_centroids, read_frame, solve

PIXELS = np.arange(20 * 30, dtype=np.int16).reshape(20, 30)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<u2", ">u4", ">i4", ">i8", ">f4", "<f8"])
def test_fits_of_every_type_in_native_byte_order(tmp_path, dtype):
    pixels = (PIXELS % 200).astype(dtype)
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    image = read_frame(tmp_path / "a.fits").image
    assert image.dtype.isnative
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_fits(tmp_path, compress):
    fits.PrimaryHDU(PIXELS).writeto(tmp_path / "a.fits")
    (tmp_path / "b.dat").write_bytes(compress((tmp_path / "a.fits").read_bytes()))
    np.testing.assert_array_equal(read_frame(tmp_path / "b.dat").image, PIXELS)


def test_tile_compressed_fits_and_first_image_after_tables(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])])
    cube = fits.ImageHDU(np.zeros((2, 3, 4)))
    hdus = fits.HDUList([fits.PrimaryHDU(), table, cube, fits.CompImageHDU(PIXELS)])
    hdus.writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(read_frame(tmp_path / "a.fits.fz").image, PIXELS)


def test_scaled_and_blank_pixels(tmp_path):
    hdu = fits.PrimaryHDU(PIXELS)
    hdu.header["BLANK"] = 7
    hdu.writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BSCALE"], hdus[0].header["BZERO"] = 0.5, 100.0
    frame = read_frame(tmp_path / "a.fits")
    assert frame.image[0, 8] == 104.0
    assert frame.mask is not None
    assert frame.mask.sum() == 1
    assert frame.mask[0, 7]
    assert np.isnan(frame.image[0, 7])


def test_a_clean_frame_has_no_mask(tmp_path):
    fits.PrimaryHDU(PIXELS.astype(np.float32)).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    assert frame.mask is None
    assert frame.image_shape == (20, 30)
    assert frame.time is None
    assert frame.wcs is None


def test_science_region_of_a_tess_frame(tmp_path):
    hdu = fits.ImageHDU(PIXELS)
    hdu.header.update(SCCSA=5, SCCED=28, SCRSA=1, SCRED=18)
    hdu.header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=10.0, CRVAL2=20.0)
    hdu.header.update(CRPIX1=15.0, CRPIX2=9.0, CD1_1=-0.01, CD1_2=0.0, CD2_1=0.0, CD2_2=0.01)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    np.testing.assert_array_equal(frame.image, PIXELS[0:18, 4:28])
    assert frame.origin == (0, 4)
    full = WCS(hdu.header)
    here = frame.wcs.pixel_to_world(3.0, 2.0)
    assert here.separation(full.pixel_to_world(7.0, 2.0)).arcsec < 1e-6
    np.testing.assert_array_equal(read_frame(tmp_path / "a.fits", region="full").image, PIXELS)
    part = read_frame(tmp_path / "a.fits", region=np.s_[2:4, -3:])
    np.testing.assert_array_equal(part.image, PIXELS[2:4, 27:])
    assert part.origin == (2, 27)


@pytest.mark.parametrize(
    "region",
    [
        "all",
        5,
        np.s_[0:10],
        np.s_[0:21, :],
        np.s_[0:5:2, :],
        np.s_[5:5, :],
        np.s_[0.5:3, :],
        (1, 2),
    ],
)
def test_a_region_outside_the_image_is_refused(tmp_path, region):
    fits.PrimaryHDU(PIXELS).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"region: .*give slices"):
        read_frame(tmp_path / "a.fits", region=region)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE-OBS": "2020-01-01T00:00:00", "DATE-END": "2020-01-01T00:30:00"}, "00:15:00"),
        ({"DATE-OBS": "2020-01-01T00:00:00Z", "EXPTIME": 60.0}, "00:00:30"),
        ({"DATE-OBS": "2020-01-01T00:00:00"}, "00:00:00"),
        ({"MJD-OBS": 58849.5, "EXPTIME": 2.0}, "12:00:01"),
        ({"DATE-AVG": "2020-01-01T06:00:00", "DATE-OBS": "2020-01-01T00:00:00"}, "06:00:00"),
        ({"DATE-OBS": "2020-01-01T00:01:09.184", "TIMESYS": "TT"}, "00:00:00"),
        ({"DATE-OBS": "last night"}, None),
        ({}, None),
    ],
)
def test_middle_of_the_exposure(tmp_path, cards, expected):
    primary = fits.PrimaryHDU()
    primary.header.update(cards)  # the image's own header wins, the primary one fills in
    fits.HDUList([primary, fits.ImageHDU(PIXELS)]).writeto(tmp_path / "a.fits")
    time = read_frame(tmp_path / "a.fits").time
    assert (time and time.utc.isot) == (expected and f"2020-01-01T{expected}.000")


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_grey_images_are_read_as_they_are(tmp_path, suffix):
    pixels = PIXELS.astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    frame = read_frame(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(frame.image, pixels)
    assert frame.header is None


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    pixels = (PIXELS * 100).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_frame(tmp_path / f"a.{suffix}").image, pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1", "CMYK"])
def test_colours_become_luminance(tmp_path, mode):
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[..., 1] = 200 if mode != "1" else 255
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.fromarray(colours).convert(mode).save(path)
    image = read_frame(path, region=np.s_[1:, 2:]).image
    assert image.shape == (3, 3)
    if mode not in ("1", "P", "LA"):  # those round the colour, or had made it grey before
        np.testing.assert_allclose(image, 0.7152 * 200, atol=1.0)


def test_no_such_file_and_a_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: .*does not exist"):
        read_frame(tmp_path / "none.fits")
    with pytest.raises(IsADirectoryError, match=r"path: .*is a directory"):
        read_frame(tmp_path)


def test_fits_without_image_names_its_hdus(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])], name="EVENTS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"a\.fits holds no 2-D image, .*EVENTS"):
        read_frame(tmp_path / "a.fits")


@pytest.mark.parametrize("content", [b"", b"hello", b"SIMPLE  = nonsense", b"\x1f\x8bxx", b"BZhhh"])
def test_files_of_no_known_format(tmp_path, content):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.fits"):
        read_frame(tmp_path / "a.fits")


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fits.PrimaryHDU(PIXELS).writeto(folder / "a.fits")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(PIXELS)])
    hdus.writeto(folder / "b.fits.fz")
    noise = np.random.default_rng(1).integers(0, 255, (40, 50), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "tiff"):
        Image.fromarray(noise).save(folder / f"c.{suffix}")
    (folder / "d.fits.gz").write_bytes(gzip.compress((folder / "a.fits").read_bytes()))
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


@given(st.data())
def test_a_file_cut_short_is_refused_or_whole(whole_files, tmp_path, data):
    name, content = data.draw(st.sampled_from(whole_files), label="file")
    end = data.draw(st.integers(0, len(content) - 1), label="length")
    path = tmp_path / name
    path.write_bytes(content)
    whole = read_frame(path).image
    path.write_bytes(content[:end])
    with contextlib.suppress(FileFormatError, InputError):
        # If it reads at all, what was cut off was padding, or a trailer without pixels.
        np.testing.assert_array_equal(read_frame(path).image, whole)


@given(st.data())
def test_a_damaged_file_gives_pixels_or_a_clear_error(whole_files, tmp_path, data):
    name, content = data.draw(st.sampled_from(whole_files), label="file")
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(FileFormatError, InputError):
        assert read_frame(path).image.ndim == 2


@pytest.mark.parametrize("form", ["path", "frame", "hdu", "hdus", "file", "picture"])
def test_whatever_holds_a_frame_is_taken_where_an_image_is(tmp_path, wide_frame, form):
    pixels = np.clip(wide_frame.image, 0, 65535).astype(np.uint16)
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(pixels).writeto(path)
    with path.open("rb") as file, fits.open(path) as hdus:
        given = {
            "path": path,
            "frame": read_frame(path),
            "hdu": hdus[0],
            "hdus": hdus,
            "file": file,
            "picture": Image.fromarray(pixels),
        }[form]
        stars = extract_centroids(given).centroids
        solution = solve(given, 12.0)
    expected = extract_centroids(pixels).centroids
    np.testing.assert_array_equal(stars.xy, expected.xy)
    assert abs(solution.ra_deg - 83.8) < 0.01


def test_hints_follow_a_header_that_was_changed(tmp_path):
    hdu = fits.PrimaryHDU(np.zeros((8, 9), np.float32))
    hdu.header.update({"SCALE": 2.0, "OBJECT": "M 42"})
    hdu.writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    again = pickle.loads(pickle.dumps(frame))
    assert frame.hints.scale_arcsec == again.hints.scale_arcsec == 2.0
    assert isinstance(frame.header, fits.Header)
    assert frame.header is frame.header
    frame.header["SCALE"] = 3.0
    assert (frame.hints.scale_arcsec, again.hints.scale_arcsec) == (3.0, 2.0)
    assert dataclasses.replace(frame, origin=(1, 1)).header is frame.header
    assert Frame(frame.image).header is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.header = None


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("https://example.org/a.fits", "is a URL; read it with boresight.batch"),
        ("a\0", "is no path"),
    ],
)
def test_what_is_no_path_is_told(path, told):
    for read in (read_frame, solve, extract_centroids):
        with pytest.raises(InputError, match=f"^path: .* {told}"):
            read(path)
