"""Aligned images in files: written, undone, transferred, and as headers for SWarp."""

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from aligned_skies import SIZE, Sky
from boresight import FileFormatError, ImageCatalog, InputError, align, extract_centroids
from boresight.alignment import read_head, transfer, write, write_head
from boresight.cli import main
from boresight.wcs import undo


def aligned(sky, tmp_path, *, sip=False, bad=False):
    """A good image, a reference, and perhaps a failed one, with their files."""
    images = [sky.image(sip=sip), sky.image((20, 30), shift=(4.0, -3.0), roll=0.02, sip=sip)]
    if bad:
        lost = sky.image(sip=sip)
        noise = sky.rng.uniform(0, SIZE, (300, 2))
        lost.catalog = ImageCatalog(lost.catalog.wcs, noise)
        images.append(lost)
    files = []
    for k, image in enumerate(images):
        header = image.catalog.wcs.to_header(relax=True)
        header["OBJECT"] = "M 31"
        files.append(tmp_path / f"image{k}.fits")
        fits.writeto(files[-1], np.zeros((SIZE, SIZE), np.int16), header)
    result = align([i.catalog for i in images], searchrad=10, fitgeom="rscale")
    return images, files, result


@pytest.mark.parametrize("sip", [False, True])
def test_files_are_written_and_undone(tmp_path, sip):
    images, files, result = aligned(Sky(1), tmp_path, sip=sip, bad=True)
    before = [path.read_bytes() for path in files]
    assert write(result, files) == [files[1]]
    # The reference and the failed image are as they were.
    assert files[0].read_bytes() == before[0]
    assert files[2].read_bytes() == before[2]
    header = fits.getheader(files[1])
    assert header["OBJECT"] == "M 31"
    xy = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
    found, wanted = WCS(header).all_pix2world(xy, 0), images[1].catalog.wcs.all_pix2world(xy, 0)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    undo(files[1])
    assert files[1].read_bytes() == before[1]


TEXT = st.text(string.ascii_letters + string.digits + string.punctuation + " ", max_size=100)
CARDS = st.one_of(
    st.tuples(st.just("HISTORY"), TEXT), st.tuples(st.just("COMMENT"), TEXT), st.just(("", "")),
    st.tuples(st.integers(0, 99).map("KEY{}".format),
              st.one_of(TEXT, st.integers(), st.booleans(), st.floats(-1e30, 1e30))),
)  # fmt: skip
WAYS = st.sampled_from(["{:.10f}", "{:+.12E}", "{:.9E}", "{:18.10f}"])
"""Ways in which programs write numbers."""


@settings(deadline=None, max_examples=20)
@given(
    cards=st.lists(CARDS, max_size=8), ways=st.tuples(WAYS, WAYS), place=st.integers(0, 30),
    extensions=st.integers(0, 2),
)  # fmt: skip
def test_undo_restores_any_header_to_the_byte(cards, ways, place, extensions):
    with TemporaryDirectory() as folder:
        _, files, result = aligned(Sky(9), Path(folder))
        header = fits.getheader(files[1])
        for card in cards:
            header.insert(min(place, len(header)), fits.Card(*card))
        for keyword, way in zip(("CRPIX1", "CRVAL2"), ways, strict=True):
            raw = f"{keyword:8s}= {way.format(header[keyword]):>20s} / by hand"
            at = header.index(keyword)
            header.remove(keyword)
            header.insert(at, fits.Card.fromstring(raw))
        data = np.zeros((SIZE, SIZE), np.int16)
        more = [fits.ImageHDU(data, header, name=f"E{k}") for k in range(extensions)]
        fits.HDUList([fits.PrimaryHDU(data, header), *more]).writeto(files[1], overwrite=True)
        before = files[1].read_bytes()
        write(result, files)
        assert files[1].read_bytes() != before
        undo(files[1])
        assert files[1].read_bytes() == before


def test_copies_and_read_only_files(tmp_path):
    _, files, result = aligned(Sky(2), tmp_path)
    before = files[1].read_bytes()
    (copy,) = write(result, files, output_dir=tmp_path / "aligned")
    assert copy == tmp_path / "aligned" / "image1.fits"
    assert files[1].read_bytes() == before
    with pytest.raises(FileExistsError):
        write(result, files, output_dir=tmp_path / "aligned")
    write(result, files, output_dir=tmp_path / "aligned", overwrite=True)
    for wrong in (files[:1], [files[0], files[0]], str(files[0])):
        with pytest.raises(InputError, match=r"^files:"):
            write(result, wrong)
    with pytest.raises(FileNotFoundError):
        write(result, [files[0], tmp_path / "none.fits"])


def test_poor_images_are_written_when_asked(tmp_path):
    sky = Sky(3)
    images, files, _ = aligned(sky, tmp_path)
    noisy = images[1].catalog.pixels + sky.rng.normal(0, 0.5, images[1].catalog.pixels.shape)
    pair = [images[0].catalog, ImageCatalog(images[1].catalog.original_wcs, noisy)]
    result = align(pair, searchrad=10, fitgeom="rscale", tolerance=1.2, separation=0)
    assert result.images[1].verdict == "poor"
    assert write(result, files) == []
    assert write(result, files, poor=True) == [files[1]]


def test_other_files_get_the_correction(tmp_path):
    images, _, result = aligned(Sky(4), tmp_path, sip=True)
    start = images[1].catalog.original_wcs
    section = start.slice((slice(100, 600), slice(200, 900)))
    header = section.to_header(relax=True)
    path = tmp_path / "section.fits"
    fits.writeto(path, np.zeros((500, 700), np.int16), header)
    assert transfer(result, [None, [path]]) == [path]
    xy = np.random.default_rng(1).uniform(0, 500, (50, 2))
    found = WCS(fits.getheader(path)).all_pix2world(xy, 0)
    wanted = images[1].catalog.wcs.all_pix2world(np.add(xy, [200, 100]), 0)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    for wrong in ([path], [path, path], str(path)):
        with pytest.raises(InputError, match=r"^other_files:"):
            transfer(result, wrong)
    plain = tmp_path / "plain.fits"
    fits.writeto(plain, np.zeros((10, 10)))
    with pytest.raises(InputError, match=r"^other_files:.*no WCS"):
        transfer(result, [None, plain])


def test_a_shared_distortion_goes_along(tmp_path):
    sky = Sky(6, stars=500)
    images = []
    for k in range(4):
        image = sky.image((400 * (k % 2), 300 * (k // 2)), shift=(3.0, -2.0), roll=0.02, sip=True)
        wcs = image.catalog.wcs.deepcopy()
        wcs.sip = None
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        image.catalog = ImageCatalog(wcs, image.catalog.pixels, image_shape=(SIZE, SIZE))
        images.append(image)
    result = align(
        [image.catalog for image in images], sky.table(), method="global", fitgeom="rscale",
        distortion_order=3, searchrad=10, tolerance=4,
    )  # fmt: skip
    files, small = [tmp_path / f"mask{k}.fits" for k in range(4)], tmp_path / "small.fits"
    for path, image in zip(files, images, strict=True):
        header = image.catalog.original_wcs.to_header(relax=True)
        fits.writeto(path, np.zeros((SIZE, SIZE), np.int16), header)
    assert transfer(result, files) == files
    for path, image in zip(files, images, strict=True):
        assert image.error_px(WCS(fits.getheader(path))) < 0.03
    fits.writeto(small, np.zeros((10, 10), np.int16), images[0].catalog.original_wcs.to_header())
    with pytest.raises(InputError, match=r"^other_files:.*fitted distortion"):
        transfer(result, [small, None, None, None])


def bent_images(folder):
    """Images whose WCS but the first lack a part of their distortion, and files of each."""
    sky = Sky(8, stars=500)
    images, files = [], [folder / f"mask{k}.fits" for k in range(4)]
    for k, path in enumerate(files):
        image = sky.image((150 * (k % 2), 100 * (k // 2)), sip=True)
        wcs = image.catalog.wcs.deepcopy()
        a = wcs.sip.a.copy()
        a[0, 2] += 2e-6 * (k > 0)
        wcs.sip = type(wcs.sip)(a, wcs.sip.b, None, None, wcs.sip.crpix)
        image.catalog = ImageCatalog(wcs, image.catalog.pixels, image_shape=(SIZE, SIZE))
        images.append(image)
        header = wcs.to_header(relax=True)
        fits.writeto(path, np.zeros((SIZE, SIZE), np.int16), header, overwrite=True)
    return images, files


@pytest.mark.parametrize(
    ("options", "of_reference"),
    [({"exposure_order": 2}, False), ({"distortion_order": 3, "fitgeom": "rscale"}, True)],
)
def test_a_distortion_goes_along_to_files_of_the_reference(tmp_path, options, of_reference):
    """A shared one is of its pixels too; of its own the reference has none."""
    images, files = bent_images(tmp_path)
    result = align(
        [image.catalog for image in images], method="global", searchrad=10, tolerance=4, **options
    )
    assert result.images[0].status == "reference"
    assert transfer(result, files) == files[not of_reference :]
    xy = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
    for path, image in zip(files, images, strict=True):
        written, told = WCS(fits.getheader(path)), image.catalog.wcs
        off = written.all_pix2world(xy, 0) - told.all_pix2world(xy, 0)
        assert np.abs(off).max() < 0.02 * 1e-4


def test_heads_are_read_back(tmp_path):
    images, files, result = aligned(Sky(5), tmp_path, sip=True)
    heads = write_head(result, files)
    assert heads == [tmp_path / "image0.head", tmp_path / "image1.head"]
    (header,) = read_head(heads[1])
    assert header["CTYPE1"] == "RA---TPV"
    xy = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
    off = WCS(header).all_pix2world(xy, 0) - images[1].catalog.wcs.all_pix2world(xy, 0)
    assert np.abs(off).max() / 1e-4 < 0.01
    broken = tmp_path / "broken.head"
    for text in ("CRVAL1  = 1.0\n", "nonsense\nEND\n"):
        broken.write_text(text)
        with pytest.raises(FileFormatError):
            read_head(broken)


def frames(tmp_path):
    """Two frames with stars, the WCS of the second off by some pixels."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:300, :400]
    xy = rng.uniform(10, 290, (40, 2))
    flux = rng.uniform(500, 5000, 40)
    paths = []
    for k, (dx, off) in enumerate([(0.0, 0.0), (7.3, 3.0)]):
        image = rng.normal(100, 5, (300, 400))
        for (cx, cy), f in zip(xy, flux, strict=True):
            image += f * np.exp(-((x - cx - dx) ** 2 + (y - cy) ** 2) / 4.5)
        header = fits.Header(
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 40.0,
             "CRPIX1": 200.5 + dx + off, "CRPIX2": 150.5, "CDELT1": -1e-3, "CDELT2": 1e-3}
        )  # fmt: skip
        paths.append(tmp_path / f"frame{k}.fits")
        fits.writeto(paths[-1], image.astype(np.float32), header)
    return [str(path) for path in paths]


@pytest.mark.parametrize("method", ["sequential", "global"])
def test_the_command_aligns_and_writes(tmp_path, method):
    paths = frames(tmp_path)
    before = (tmp_path / "frame1.fits").read_bytes()
    options = ["--method", method, "--write", "--head", "--residuals", str(tmp_path / "r.ecsv")]
    plot = ["--plot", str(tmp_path / "r.png")]
    done = CliRunner().invoke(main, ["align", *paths, *options, *plot, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [image["verdict"] for image in told] == ["good", "good"]
    assert abs(told[1]["shift_px"][0] - 3.0) < 0.1
    first, second = (WCS(fits.getheader(path)) for path in paths)
    np.testing.assert_allclose(
        second.all_pix2world([[107.3, 100.0]], 0),
        first.all_pix2world([[100.0, 100.0]], 0),
        atol=1e-4,
    )
    assert (tmp_path / "frame1.head").exists()
    assert (tmp_path / "r.ecsv").exists()
    assert (tmp_path / "r.png").exists()
    assert CliRunner().invoke(main, ["undo", paths[1]]).exit_code == 0
    assert (tmp_path / "frame1.fits").read_bytes() == before


def test_the_command_takes_tables_of_sources(tmp_path):
    paths = frames(tmp_path)
    options = []
    for path in paths:
        xy = extract_centroids(fits.getdata(path)).centroids.xy + np.array([200, 150])
        table = f"{path}.ecsv"
        # Two pixels from where they are, in both frames.
        Table(xy[:40] + 2.0, names=["x", "y"]).write(table)
        options += ["--sources", table]
    done = CliRunner().invoke(main, ["align", *paths, *options, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)[1]
    assert told["num_matches"] <= 40
    assert abs(told["shift_px"][0] - 3.0) < 0.1
    done = CliRunner().invoke(main, ["align", *paths, *options[:2]])
    assert done.exit_code == 2
    assert "sources: 1 tables for 2 frames" in done.stderr


def test_the_command_tells_what_is_wrong(tmp_path):
    paths = frames(tmp_path)
    # A header beside the frame counts: this one points elsewhere.
    (tmp_path / "frame1.ahead").write_text("CRVAL1  = 50.0\nEND\n")
    done = CliRunner().invoke(main, ["align", *paths, "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)[1]["reason"] == "no overlap with the reference"
    assert CliRunner().invoke(main, ["align", *paths]).exit_code == 1
    plain = tmp_path / "plain.fits"
    fits.writeto(plain, np.random.default_rng(1).normal(100, 5, (100, 100)))
    done = CliRunner().invoke(main, ["align", paths[0], str(plain)])
    assert done.exit_code == 2
    assert "no WCS" in done.stderr
