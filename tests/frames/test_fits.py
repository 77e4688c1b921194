"""Reading FITS: which HDU is the frame, its axes and numbers, and headers that are not sound."""

import bz2
import gzip
import io
import lzma
import warnings
from pathlib import Path

import astropy
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from boresight import BoresightError, FileFormatError, InputError, read_frame
from boresight.frames.pixels import LUMINANCE

PIXELS = np.random.default_rng(1).integers(0, 65536, (20, 30)).astype(np.uint16)
COLOURS = np.random.default_rng(2).integers(0, 65536, (3, 20, 30)).astype(np.uint16)
MASK = np.zeros(PIXELS.shape, np.uint8)


def written(*hdus):
    """A file of HDUs, in memory."""
    file = io.BytesIO()
    fits.HDUList([hdus[0], *hdus[1:]]).writeto(file)
    return file


def raw_file(pixels, *cards):
    """A file with cards as they are, sound or not."""
    hdu = fits.PrimaryHDU(pixels)
    head = b"".join(card.image.encode() for card in hdu.header.cards)
    head += b"".join(card.ljust(80) for card in cards) + b"END".ljust(80)
    # What follows the cards END of a plain file, except the cards themselves.
    plain = written(hdu).getvalue()
    data = plain[2880:]
    return io.BytesIO(head.ljust(-(-len(head) // 2880) * 2880) + data)


class TestAxes:
    @pytest.mark.parametrize("order", ["first", "last"])
    @pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8"])
    def test_colours_become_luminance(self, order, dtype):
        planes = COLOURS.astype(dtype)
        data = planes if order == "first" else np.moveaxis(planes, 0, -1).copy()
        image = read_frame(written(fits.PrimaryHDU(data))).image
        expected = np.tensordot(LUMINANCE, COLOURS.astype(float), 1)
        np.testing.assert_allclose(image, expected, rtol=1e-6)
        part = read_frame(written(fits.PrimaryHDU(data)), region=np.s_[3:, 4:9]).image
        np.testing.assert_array_equal(part, image[3:, 4:9])

    @pytest.mark.parametrize("shape", [(1, 20, 30), (1, 1, 20, 30), (20, 30, 1), (20, 1, 30)])
    def test_axes_of_length_one_are_left_out(self, shape):
        frame = read_frame(written(fits.PrimaryHDU(PIXELS.reshape(shape))))
        np.testing.assert_array_equal(frame.image, PIXELS)
        header = fits.PrimaryHDU(PIXELS.reshape(shape)).header
        assert [header[f"NAXIS{axis}"] for axis in frame.axes] == [30, 20]

    @pytest.mark.parametrize("shape", [(10, 20, 3, 3), (4, 5, 6), (600,), (1, 600), (0, 5)])
    def test_other_arrays_are_no_frames(self, shape):
        with pytest.raises(InputError, match=r"holds no 2-D image, only the HDUs 0 PRIMARY"):
            read_frame(written(fits.PrimaryHDU(np.zeros(shape, np.int16))))

    def test_colours_of_a_compressed_cube(self):
        file = written(fits.PrimaryHDU(), fits.CompImageHDU(COLOURS))
        plain = read_frame(written(fits.PrimaryHDU(COLOURS)))
        np.testing.assert_array_equal(read_frame(file).image, plain.image)
        part = np.s_[2:7, 3:]
        np.testing.assert_array_equal(read_frame(file, region=part).image, plain.image[part])


class TestChoice:
    @pytest.mark.parametrize(
        "hdus",
        [
            [fits.PrimaryHDU(), fits.ImageHDU(MASK, name="DQ"), fits.ImageHDU(PIXELS, name="SCI")],
            [fits.PrimaryHDU(MASK), fits.ImageHDU(PIXELS)],
            [fits.PrimaryHDU(), fits.ImageHDU(MASK + 1.0, name="sci_err"), fits.ImageHDU(PIXELS)],
            [fits.PrimaryHDU(MASK[:4, :5] * 1.0), fits.ImageHDU(PIXELS)],
            [fits.PrimaryHDU(PIXELS), fits.ImageHDU(np.zeros((40, 60), ">f4"), name="WEIGHT")],
            [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((64, 32), ">f4"), name="WCSDVARR"),
             fits.ImageHDU(np.zeros((64, 32), ">f4"), name="D2IMARR"), fits.ImageHDU(PIXELS)],
            [fits.PrimaryHDU(PIXELS), fits.CompImageHDU(MASK)],
            [fits.PrimaryHDU(PIXELS + 0.5, fits.Header()), fits.ImageHDU(PIXELS, name="SCI")],
        ],
        ids=["sci", "8 bits", "error", "preview", "weight", "lookup", "compressed mask", "name"],
    )  # fmt: skip
    def test_the_exposure_is_taken(self, hdus):
        frame = read_frame(written(*(hdu.copy() for hdu in hdus)))
        np.testing.assert_array_equal(frame.image, PIXELS)
        assert frame.notes == ()

    def test_a_celestial_wcs_decides_among_equals(self):
        hdus = fits.PrimaryHDU(), fits.ImageHDU(PIXELS // 2), fits.ImageHDU(PIXELS)
        hdus[2].header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN")
        np.testing.assert_array_equal(read_frame(written(*hdus)).image, PIXELS)

    def test_a_choice_among_equals_is_said_and_can_be_made(self):
        hdus = [fits.ImageHDU(PIXELS // k, name="SCI", ver=k) for k in (1, 2)]
        file = written(fits.PrimaryHDU(), *hdus, fits.ImageHDU(MASK, name="MASK"))
        frame = read_frame(file)
        np.testing.assert_array_equal(frame.image, PIXELS)
        assert "HDU 1 was taken, choose another with hdu=" in frame.notes[0]
        np.testing.assert_array_equal(read_frame(file, hdu=2).image, PIXELS // 2)
        np.testing.assert_array_equal(read_frame(file, hdu="mask").image, MASK)
        np.testing.assert_array_equal(read_frame(file, hdu=-1).image, MASK)
        for second in (("SCI", 2), "sci,2", "2", np.int64(2)):
            np.testing.assert_array_equal(read_frame(file, hdu=second).image, PIXELS // 2)

    @pytest.mark.parametrize("hdu", [0, 5, -9, "NONE", 1.5, True, "SCI,1", ("SCI", 1), ",1", ""])
    def test_an_hdu_that_is_none(self, hdu):
        file = written(fits.PrimaryHDU(), fits.ImageHDU(PIXELS))
        with pytest.raises(InputError, match=r"hdu: "):
            read_frame(file, hdu=hdu)

    def test_masks_alone_and_tables_are_no_frame(self):
        table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])], name="EVENTS")
        mask = fits.ImageHDU(MASK, name="MASK")
        with pytest.raises(InputError, match=r"2 IMAGE MASK 20 x 30; .*only if hdu= names them"):
            read_frame(written(fits.PrimaryHDU(), table, mask))
        with pytest.raises(InputError, match=r"Table\.read"):
            read_frame(written(fits.PrimaryHDU(), table))
        with pytest.raises(InputError, match=r"a plane of the cube"):
            read_frame(written(fits.PrimaryHDU(np.zeros((9, 20, 30)))))


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
    def test_every_type(self, dtype):
        pixels = (PIXELS % 200 - (100 if dtype[0] != "u" else 0)).astype(dtype)
        frame = read_frame(written(fits.PrimaryHDU(pixels)))
        assert frame.image.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(frame.image, pixels)

    @pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
    def test_scaled_as_astropy_does(self, dtype):
        hdu = fits.PrimaryHDU((PIXELS % 200).astype(dtype))
        plain = written(hdu).getvalue()
        cards = b"BSCALE  =                  0.5".ljust(
            80
        ) + b"BZERO   =                100.0".ljust(80)
        content = plain.replace(b"END".ljust(80), cards + b"END".ljust(80), 1)
        content = content[:2880] + content[3040:]
        with fits.open(io.BytesIO(content)) as hdus:
            np.testing.assert_array_equal(read_frame(io.BytesIO(content)).image, hdus[0].data)

    def test_not_a_number_is_masked(self):
        pixels = PIXELS.astype(np.float32)
        pixels[3, 4], pixels[5, 6] = np.nan, np.inf
        mask = read_frame(written(fits.PrimaryHDU(pixels))).mask
        assert np.argwhere(mask).tolist() == [[3, 4], [5, 6]]

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
    def test_compressed_as_a_whole(self, pack):
        content = written(fits.PrimaryHDU(MASK), fits.ImageHDU(PIXELS)).getvalue()
        np.testing.assert_array_equal(read_frame(io.BytesIO(pack(content))).image, PIXELS)

    def test_a_last_block_without_padding_and_one_cut_short(self):
        content = written(fits.PrimaryHDU(PIXELS)).getvalue()[: 2880 + PIXELS.nbytes]
        np.testing.assert_array_equal(read_frame(io.BytesIO(content)).image, PIXELS)
        with pytest.raises(FileFormatError, match="cut short"):
            read_frame(io.BytesIO(content[:-1]))

    def test_damage_behind_the_frame_is_noted(self):
        whole = written(fits.PrimaryHDU(PIXELS), fits.ImageHDU(PIXELS)).getvalue()
        frame = read_frame(io.BytesIO(whole[: 2 * 2880 + 100]))
        np.testing.assert_array_equal(frame.image, PIXELS)
        assert "damaged after HDU 0" in frame.notes[0]

    def test_a_header_that_claims_more_than_the_file_holds(self):
        content = written(fits.PrimaryHDU(PIXELS)).getvalue()
        for claim in (b"99999", b"99999999999"):
            claimed = content.replace(b"NAXIS2  =                   20",
                                      b"NAXIS2  =" + claim.rjust(21))  # fmt: skip
            with pytest.raises(FileFormatError):
                read_frame(io.BytesIO(claimed))


class TestCards:
    @pytest.mark.parametrize(
        ("card", "seconds"),
        [
            (b"EXPTIME =                 30,5", 15.25),
            (b"EXPTIME =                 30.5 s", 15.25),
            (b"EXPTIME = 30.5E0", 15.25),
            (b"EXPTIME = '30.5    '", 15.25),
            (b"EXPTIME = thirty", None),
            (b"EXPTIME =                 30.5\0", 15.25),
            (b"exptime =                 30.5", 15.25),
        ],
    )
    def test_a_card_that_is_no_fits(self, card, seconds):
        frame = read_frame(raw_file(PIXELS, b"DATE-OBS= 2021-03-04T05:06:07\0", card))
        np.testing.assert_array_equal(frame.image, PIXELS)
        if seconds is None:
            assert frame.time is None
        else:
            assert abs((frame.time - Time("2021-03-04T05:06:07")).sec - seconds) < 1e-6
        assert any("DATE-OBS = 2021-03-04T05:06:07 is not of FITS' form" in n for n in frame.notes)

    def test_a_comma_in_a_wcs(self):
        cards = [
            b"CTYPE1  = 'RA---TAN'", b"CTYPE2  = 'DEC--TAN'", b"CRVAL1  =  83,8", b"CRVAL2  = -1,2",
            b"CRPIX1  = 15.5", b"CRPIX2  = 10.5", b"CDELT1  = -0,01", b"CDELT2  =  0,01",
        ]  # fmt: skip
        frame = read_frame(raw_file(PIXELS, *cards))
        position = frame.wcs.pixel_to_world(14.5, 9.5)
        assert abs(position.ra.deg - 83.8) < 1e-9
        assert abs(position.dec.deg + 1.2) < 1e-9

    @pytest.mark.parametrize(
        "card",
        [b"BSCALE  = one", b"BSCALE  =                  0.0", b"BLANK   = none"],
    )
    def test_scaling_that_is_none_is_noted_and_left_out(self, card):
        frame = read_frame(raw_file(PIXELS.astype(np.int16), card))
        np.testing.assert_array_equal(frame.image, PIXELS.astype(np.int16))
        assert any("not applied" in note for note in frame.notes)

    def test_stale_region_cards_are_noted(self):
        for cards in ((1, 2048, 45, 2092), (1, 20, 1, "x"), (5, 4, 1, 30), (1, 2, 1, 30)):
            hdu = fits.PrimaryHDU(PIXELS)
            hdu.header.update(zip(("SCRSA", "SCRED", "SCCSA", "SCCED"), cards, strict=True))
            frame = read_frame(written(hdu))
            np.testing.assert_array_equal(frame.image, PIXELS)
            assert "name no region" in frame.notes[0]

    def test_a_continued_text_survives(self):
        hdu = fits.PrimaryHDU(PIXELS)
        hdu.header["LONGTEXT"] = "x" * 150
        assert read_frame(written(hdu)).header["LONGTEXT"] == "x" * 150


class TestWcs:
    def test_of_a_cube_whose_colours_come_first(self):
        wcs = WCS(naxis=3)
        wcs.wcs.ctype = ["", "RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.crpix = [0, 83.8, -1.2], [1, 15.5, 10.5]
        wcs.wcs.cdelt = [1, -0.01, 0.01]
        hdu = fits.PrimaryHDU(np.moveaxis(COLOURS, 0, -1).copy(), wcs.to_header())
        frame = read_frame(written(hdu), region=np.s_[2:, 4:])
        assert abs(frame.wcs.pixel_to_world(14.5 - 4, 9.5 - 2).ra.deg - 83.8) < 1e-9

    @pytest.mark.parametrize(
        "cards",
        [
            {"CTYPE1": "LINEAR"},
            {"CTYPE1": "RA---TAN", "CTYPE2": "RA---TAN"},
            {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_1": 0.0, "CD2_2": 0.0},
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": "x"},
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "NONE"},
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CPDIS1": "LOOKUP", "DP1": "NAXES: 2"},
            {"CTYPE1": 5, "CTYPE2": True},
        ],
    )
    def test_none_where_there_is_none(self, cards):
        hdu = fits.PrimaryHDU(PIXELS)
        hdu.header.update(cards)
        assert read_frame(written(hdu)).wcs is None


class TestObjects:
    def test_hdus_lists_and_open_files(self, tmp_path):
        path = tmp_path / "a.fits"
        sci = fits.ImageHDU(PIXELS, name="SCI")
        sci.header["DATE-OBS"] = "2021-03-04T05:06:07"
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(MASK, name="DQ"), sci])
        hdus.writeto(path)
        with path.open("rb") as file, fits.open(path) as opened:
            for given in (hdus, sci, opened, opened["SCI"], file, io.BytesIO(path.read_bytes())):
                frame = read_frame(given)
                np.testing.assert_array_equal(frame.image, PIXELS)
                assert frame.image.dtype.isnative
                assert frame.time.isot == "2021-03-04T05:06:07.000"
            assert read_frame(file).path == path
        assert read_frame(sci).path is None

    @pytest.mark.parametrize("given", [5, None, b"SIMPLE", io.StringIO("SIMPLE"), [[1, 2]]])
    def test_what_is_no_file(self, given):
        with pytest.raises(InputError, match=r"path: "):
            read_frame(given)


def test_files_of_astropy_are_read_or_refused_in_one_sentence():
    folder = Path(astropy.__file__).parent
    paths = [
        *folder.glob("io/fits/tests/data/**/*.fits*"),
        *folder.glob("wcs/tests/data/**/*.fits*"),
        *folder.glob("io/fits/hdu/compressed/tests/data/*.fits*"),
    ]
    if not paths:
        pytest.skip("this astropy came without its test files")
    for path in paths:
        images = images_of(path)
        if not images:
            with pytest.raises(BoresightError, match=r"\A[^\n]+\Z"):
                read_frame(path)
        else:
            frame = read_frame(path, region="full")
            assert any(np.array_equal(frame.image, i, equal_nan=True) for i in images), path
            assert frame.wcs is None or frame.wcs.has_celestial


def images_of(path):
    """Images of two axes that astropy finds in a file, lookup arrays excepted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(path) as hdus:
                arrays = [np.squeeze(h.data) for h in hdus
                          if h.is_image and h.shape and 0 not in h.shape
                          and h.name != "D2IMARR"]  # fmt: skip
        except (OSError, TypeError, ModuleNotFoundError):
            return []
    return [array for array in arrays if array.ndim == 2]


TRUE_TIME = Time("2021-03-04T05:06:22.25")


def header_to_mutate():
    hdu = fits.PrimaryHDU(PIXELS)
    hdu.header.update({
        "DATE-OBS": ("2021-03-04T05:06:07", "UTC"), "EXPTIME": (30.5, "[s]"), "TIMESYS": "UTC",
        "DATE-END": "2021-03-04T05:06:37.5", "MJD-OBS": 59277.2125810, "FOCALLEN": 530.0,
        "XPIXSZ": 3.76, "OBJCTRA": "05 35 17", "OBJCTDEC": "-05 23 28", "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN", "CRVAL1": 83.8, "CRVAL2": -1.2, "CRPIX1": 15.0, "CRPIX2": 10.0,
        "CD1_1": -0.01, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.01, "RADESYS": "ICRS",
        "EQUINOX": 2000.0, "OBJECT": "M42", "LONGTEXT": "x" * 150,
    })  # fmt: skip
    hdu.header["HIERARCH ESO DET X"] = 3
    content = written(hdu).getvalue()
    end = content.index(b"END".ljust(80))
    return [content[i : i + 80] for i in range(0, end, 80)], content[-(-end // 2880) * 2880 :]


CARDS, DATA = header_to_mutate()
OPTIONAL = [i for i, card in enumerate(CARDS) if card[:6] not in (b"SIMPLE", b"BITPIX")
            and card[:5] not in (b"NAXIS", b"BZERO", b"BSCAL")]  # fmt: skip
VALUES = [b"", b"T", b"nan", b"1e400", b"-1", b"0", b"1E300", b"'", b"''", b"'LOCAL'", b"(1,2)",
          b"30,5", b"'9999-99-99'", b"2021-03-04", b"\0\0\0", b"'a&'", b"/"]  # fmt: skip


@st.composite
def mutated(draw):
    cards = list(CARDS)
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.sampled_from(OPTIONAL))
        card = bytearray(cards[index])
        if draw(st.booleans()):
            card[10:] = draw(st.sampled_from(VALUES)).ljust(70)
        else:
            for _ in range(draw(st.integers(1, 4))):
                # Keywords stay: another card's name would tell another truth.
                card[draw(st.integers(8, 79))] = draw(st.integers(0, 255))
        cards[index] = bytes(card)
    head = b"".join(cards) + b"END".ljust(80)
    return head.ljust(-(-len(head) // 2880) * 2880) + DATA


@given(mutated())
def test_mutated_headers_give_the_pixels_and_the_time_or_none(content):
    frame = read_frame(io.BytesIO(content))
    np.testing.assert_array_equal(frame.image, PIXELS)
    # Digits that change within what the other cards allow cannot be told from the truth.
    assert frame.time is None or abs((frame.time - TRUE_TIME).sec) < 200
    assert frame.wcs is None or frame.wcs.has_celestial
    assert all("\n" not in note for note in (*frame.notes, *frame.hints.notes))
