"""The report says what the result is, needs nothing from elsewhere, and runs in a browser."""

import base64
import dataclasses
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from click.testing import CliRunner
from PIL import Image

import boresight
from aligned_skies import SIZE, Sky
from boresight import (
    CameraModel,
    ImageCatalog,
    ImageGroup,
    InputError,
    movement,
    scene,
    simulate_frame,
)
from boresight.cli import main
from skies import CENTRES, SCALE, draw, header, observe

CAMERA = CameraModel.from_fov(12.0, (400, 512))


@pytest.fixture(scope="module")
def views():
    return [simulate_frame(CAMERA, ra, -1.2, 30.0, seed=1) for ra in (83.8, 86.0, 88.0)]


@pytest.fixture(scope="module")
def result(views, wide_database):
    return boresight.calibrate([view.image for view in views], wide_database, model="radial")


@pytest.fixture(scope="module")
def page(views, result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for number, view in enumerate(views):
        view.write_fits(folder / f"view{number}.fits")
    frames = [folder / f"view{number}.fits" for number in range(len(views))]
    return boresight.report(result, folder / "report.html", frames=frames, options={"model": "<b>"})


class Reader(HTMLParser):
    """Collects what the tests ask about, and checks that elements are closed in order."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.counts, self.links = [], [], {}, {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)
        for name in ("href", "src", "xlink:href"):
            if name in values:
                self.addresses.append(values[name])
        if "download" in values:
            self.links[values["download"]] = base64.b64decode(values["href"].split(",")[1])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def read(page):
    return Reader(page.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page, read):
    outside = [a for a in read.addresses if not a.startswith(("data:", "#"))]
    assert not outside
    assert "@import" not in page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1_500_000


def test_the_page_says_what_the_result_is(page, result, views):
    text = page.read_text(encoding="utf-8")
    assert f"3 of 3 frames, {result.num_inliers} stars" in text
    assert text.count('class="panel"') == len(views)
    assert "vs header WCS" in text
    assert "&lt;b&gt;" in text
    for solution in result.solutions:
        assert f"{solution.ra_deg:.5f}" in text


def test_files_are_those_of_the_result(read, result):
    camera = CameraModel.from_dict(json.loads(read.links["camera.json"]))
    assert camera == result.camera_model
    assert len(json.loads(read.links["solutions.json"])) == 3
    table = QTable.read(read.links["view0_matches.ecsv"].decode(), format="ascii.ecsv")
    assert len(table) == result.solutions[0].num_matches
    header = fits.Header.fromstring(read.links["view0_wcs.txt"].decode(), sep="\n")
    assert header["CTYPE1"].startswith("RA---TAN")


def test_marks_are_on_the_stars(page, views):
    """The picture's brightest pixels are in circles, to half a pixel."""
    text = page.read_text(encoding="utf-8")
    svg = text[text.index('class="panel"') :].split("</svg>")[0]
    circles = np.array(re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg), float)
    brightest = np.column_stack([views[0].stars.x, views[0].stars.y])[:5]
    inside = (np.abs(brightest) < (255, 199)).all(axis=1)
    for star in brightest[inside]:
        assert np.hypot(*(circles - star).T).min() < 0.5
    x, y = re.search(r'<image x="([-\d.]+)" y="([-\d.]+)"', svg).groups()
    assert (float(x), float(y)) == (-256.5, -200.5)


def test_frames_that_did_not_solve_are_named(result, views, tmp_path):
    page = boresight.report(
        [result.solutions[0], None], tmp_path / "page.html", frames=[views[0].image, views[1].image]
    )
    text = page.read_text(encoding="utf-8")
    assert "1 of 2 frames solved" in text
    assert "Not solved: Frame 2" in text
    Reader(text)
    nothing = boresight.report([None], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "boresight diagnose" in nothing
    Reader(boresight.report(result.solutions[0], tmp_path / "page.html").read_text("utf-8"))


@pytest.mark.parametrize("kind", ["colours", "CCDData", "nothing but NaN"])
def test_frames_of_every_kind_are_drawn(result, views, tmp_path, kind):
    image = views[0].image
    frame = {
        "colours": np.stack([image] * 3, axis=-1),
        "CCDData": CCDData(image, unit="adu"),
        "nothing but NaN": np.full_like(image, np.nan),
    }[kind]
    page = boresight.report(result.solutions[0], tmp_path / "page.html", frames=[frame])
    assert page.read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 1


def test_other_results_are_refused(result, tmp_path):
    with pytest.raises(InputError, match="result: an int"):
        boresight.report(3, tmp_path / "page.html")
    with pytest.raises(InputError, match="frames: 1 for 3"):
        boresight.report(result, tmp_path / "page.html", frames=[None])


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    sky = Sky(1, stars=200)
    images = [sky.image((x, 0), weight=True, name=f"<{x}>").catalog for x in (0, 200, 300)]
    images.append(ImageCatalog(images[0].wcs, np.zeros((0, 2)), name="empty"))
    result = boresight.align(images, method="global", searchrad=3, fitgeom="rscale")
    frame = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    page = tmp_path_factory.mktemp("aligned") / "page.html"
    return result, boresight.report(result, page, frames=[frame, None, None, None])


def test_the_page_of_an_alignment(aligned):
    result, page = aligned
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert "failed, no sources: empty" in text
    assert "&lt;200&gt;" in text
    assert text.count('class="panel"') == 4
    assert text.count("data:image/jpeg") == 1
    for name in ("Residuals of", "Footprints", "Closure", "Pulls"):
        assert name in text
    table = Table.read(read.links["residuals.ecsv"].decode(), format="ascii.ecsv")
    assert len(table) == len(result.residuals)
    header = fits.Header.fromstring(read.links["_300__wcs.txt"].decode(), sep="\n")
    assert header["CRVAL1"] == pytest.approx(result.catalogs[2].wcs.wcs.crval[0], abs=1e-9)


def is_shown(result, rows):
    """Whether a notebook shows a result as a table, with what files say escaped."""
    shown = result._repr_html_()
    return shown.count("<tr>") == rows and "<0>" not in shown


def test_an_alignment_as_numbers_and_in_a_notebook(aligned):
    result, _ = aligned
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["ok"] is False
    assert [image["reason"] for image in told["images"]][3] == "no sources"
    assert told["images"][1]["rmse_px"] == result.images[1].rmse_px
    assert is_shown(result, 4)


def test_matches_are_marked_in_pixels_from_the_middle(aligned):
    result, page = aligned
    svg = page.read_text(encoding="utf-8").split('class="panel"')[2].split("</svg>")[0]
    circles = np.array(re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg), float)
    matched = result.images[1].matched
    expected = np.column_stack([matched["x"], matched["y"]]) - SIZE / 2
    assert len(circles) == len(expected)
    np.testing.assert_allclose(np.sort(circles, axis=0), np.sort(expected, axis=0), atol=0.051)


def test_groups_are_shown_image_by_image(tmp_path):
    sky = Sky(2, stars=200)
    group = ImageGroup([sky.image((x, 0), name=f"chip {x}").catalog for x in (-300, 300)], "both")
    result = boresight.align([group], sky.table(), searchrad=3)
    text = boresight.report(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('class="panel"') == 2
    assert "Of 1 images: 1 good" in text
    with pytest.raises(InputError, match="frames: 1 for 2"):
        boresight.report(result, tmp_path / "page.html", frames=[None])


@pytest.fixture(scope="module")
def scene_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    for k, name in enumerate("rg"):
        data, _ = observe(draw(CENTRES, [6e3, 15e3, 30e3], 2.2, 1 / SCALE), k)
        off = header((75.5 + k, 75.5 + k)).to_header()
        fits.PrimaryHDU(data + 100.0, off).writeto(folder / f"{name}.fits")
    return [str(folder / "r.fits"), str(folder / "g.fits")]


def test_the_page_of_a_scene(scene_files, tmp_path):
    page = tmp_path / "page.html"
    command = ["scene", *scene_files, "--num-sources", "3", "--report", str(page)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert "3 sources in 2 images has converged" in text
    assert 'class="verdict good"' in text
    assert text.count("data:image/jpeg") == 6
    assert len(re.findall("<rect[^>]*><title>source", text)) == 6
    sources = Table.read(read.links["sources.ecsv"].decode(), format="ascii.ecsv")
    assert len(sources) == 3
    errors = json.loads(read.links["covariance.json"])["errors"]
    assert errors["2:g.fits.crtan_x"] == pytest.approx(0.0072, rel=0.1)
    assert "2_g_wcs.txt" in read.links
    assert "SHA-256" in text


def test_a_scene_with_a_wrong_wcs_is_doubtful(scene_files, tmp_path):
    images = [scene.Image(path, sky="constant", name=path[-6:]) for path in scene_files]
    result = scene.fit(images, 3)
    text = boresight.report(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'class="verdict check"' in text
    assert "its WCS needs more freedom" in text
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["images"][1]["chi2_dof"] == result.images[1].chi2_dof
    assert [source["ra"] for source in told["sources"]] == result.sources["ra"].value.tolist()
    assert is_shown(result, 2)


def test_the_page_of_a_movement(tmp_path):
    y, x = np.mgrid[:300, :400].astype(float)
    for name, dx, dy in (("ref", 0, 0), ("moved", 7.25, -3.5)):
        waves = sum(
            np.sin(((x + dx) * np.cos(k) + (y + dy) * np.sin(k)) / (3 + k) + k) for k in range(9)
        )
        picture = Image.fromarray(np.clip(120 + 12 * waves, 0, 255).astype(np.uint8))
        picture.save(tmp_path / f"{name}.png")
    page = tmp_path / "page.html"
    paths = [str(tmp_path / "ref.png"), str(tmp_path / "moved.png")]
    done = CliRunner().invoke(main, ["movement", *paths, "--report", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert "The image has moved by (+7.2" in text
    assert 'class="verdict good"' in text
    assert text.count('class="panel"') == 2
    assert text.count("data-layer=") == 4
    told = json.loads(read.links["movement.json"])
    assert told["shift_px"] == pytest.approx([7.25, -3.5], abs=0.05)
    worse = movement.MovementCorrection([[1, 0, -9], [0, 1, 9]], (300, 400), [], [], "by hand")
    text = boresight.report(worse, page, frames=paths).read_text(encoding="utf-8")
    assert "agree less after the correction" in text


@pytest.mark.parametrize("command", ["solve", "calibrate"])
def test_the_command_line_writes_a_report(command, page, tmp_path):
    target = tmp_path / "page.html"
    frames = [str(path) for path in sorted(page.parent.glob("*.fits"))]
    done = CliRunner().invoke(main, [command, *frames, "--fov", "12", "--report", str(target)])
    assert done.exit_code == 0, done.output
    text = target.read_text(encoding="utf-8")
    Reader(text)
    assert "view2.fits" in text


#: Windows of Chromium are at least 500 pixels wide; a frame in one is as wide as a telephone.
PHONE = """<!DOCTYPE html><link rel="icon" href="data:,">
<iframe src="page.html" width="400" height="900" onload='
  const page = this.contentDocument, panel = page.querySelector(".panel");
  const press = (name, value) => panel.querySelector(`[data-${name}="${value}"]`).click();
  const is = (element) => element.classList.contains("hidden");
  const hidden = (what) => [...panel.querySelectorAll(what)].map(is);
  document.title = [...PROBE, page.documentElement.scrollWidth <= 400].join();
'></iframe>"""


def seen_on_a_phone(page, probe, folder):
    """Run a script on a page 400 pixels wide, which asks for nothing but itself."""
    shutil.copy(page, folder / "page.html")
    (folder / "phone.html").write_text(PHONE.replace("PROBE", probe), encoding="utf-8")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/phone.html"
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom",
            address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        server.shutdown()
    assert asked == ["/phone.html", "/page.html"]
    assert "CONSOLE" not in done.stderr
    return re.search("<title>(.*)</title>", done.stdout)[1]


in_a_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")


@in_a_browser
def test_the_page_runs_in_a_browser(page, tmp_path):
    probe = """[press("do", "in"), press("do", "marks"),
      panel.querySelector("svg").getAttribute("viewBox").split(" ")[2] < 400, hidden(".marks")]"""
    assert seen_on_a_phone(page, probe, tmp_path) == ",,true,true,true"


@in_a_browser
@pytest.mark.parametrize("kind", ["alignment", "movement"])
def test_pages_of_every_kind_fit_a_phone(kind, aligned, scene_files, tmp_path):
    if kind == "alignment":
        assert seen_on_a_phone(aligned[1], "[]", tmp_path) == "true"
        return
    still = movement.MovementCorrection([[1, 0, 1], [0, 1, 1]], (150, 150), [], [], "by hand")
    page = boresight.report(still, tmp_path / "shown.html", frames=scene_files)
    probe = '[press("layer", 1), hidden(".layer")]'
    assert seen_on_a_phone(page, probe, tmp_path) == ",true,false,true"


@pytest.fixture(scope="module")
def knocked(views, wide_database):
    camera = boresight.solve(views[0].image, database=wide_database, camera_model=CAMERA)
    later = simulate_frame(CAMERA, 83.8, -1.1, 30.0, seed=2)
    before = movement.MountedCamera.from_solution(camera)
    return movement.compare(before, later.image, database=wide_database), later


def test_the_page_says_what_moved(knocked, tmp_path):
    verdict, frame = knocked
    page = boresight.report(verdict, tmp_path / "page.html", frames=[frame.image])
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert "The camera has moved: pointing" in text
    assert verdict.sentences()[0] in text
    assert text.count('class="panel"') == 1
    assert json.loads(read.links["verdict.json"])["kinds"] == ["pointing"]
    assert all(address.startswith(("data:", "#")) for address in read.addresses)


def test_the_page_of_a_log_has_its_frames_and_its_changes(knocked, tmp_path):
    log = movement.DriftLog(tmp_path / "drift.jsonl")
    still, moved = dataclasses.replace(knocked[0], kinds=()), knocked[0]
    for number in range(12):
        told = dataclasses.replace(
            moved if number >= 6 else still,
            time=f"2026-03-{number + 1:02d}T20:00:00",
            all_values=moved.all_values * (number >= 6) + 1e-7 * (number % 3),
        )
        log.append(told, f"night {number}")
    log.append(movement.Verdict((), "<clouds>", False, CAMERA, 1e-3), "night 12")
    text = boresight.report(log, tmp_path / "page.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert "13 frames: 6 of a camera that has moved, 1 without a decision" in text
    assert "2026-03-07T20:00:00: about x" in text
    assert "&lt;clouds&gt;" in text
    assert len(read.links["drift.jsonl"].splitlines()) == 13


def test_the_page_of_what_cannot_be_told(tmp_path):
    verdict = movement.Verdict((), "the frame did not solve", False, CAMERA, 1e-3)
    for result in (verdict, movement.DriftLog(tmp_path / "none.jsonl")):
        text = boresight.report(result, tmp_path / "page.html").read_text(encoding="utf-8")
        assert 'class="verdict bad"' in text
        Reader(text)


def test_the_database_of_a_result_is_told(views, result, tmp_path):
    solution = boresight.solve(views[0].image)
    page = boresight.report(solution, tmp_path / "page.html", frames=[views[0].image])
    assert "stars, " in solution.star_database
    assert solution.star_database in page.read_text(encoding="utf-8")
    page = boresight.report(result, tmp_path / "page.html")
    assert result.solutions[0].star_database in page.read_text(encoding="utf-8")
