"""The local page: its server, and the page in a browser."""

import json
import shutil
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from boresight import InputError
from boresight.movement import MovementCorrection, manual_movement
from boresight.movement import manual as module

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHAPE = (200, 260)
TRUTH = (6.0, -4.0)


def scene(x, y):
    return 125 + 80 * np.sin(x / 7.0) * np.cos(y / 6.0) + 45 * np.sin((x + 2 * y) / 17.0)


def images():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    moved = scene(x + TRUTH[0], y + TRUTH[1])
    return tuple(np.clip(i, 0, 255).astype(np.uint8) for i in (scene(x, y), moved))


class Page:
    """A page that is being served, and what comes back."""

    def __init__(self, monkeypatch, **arguments):
        self.addresses = []
        self.opened = threading.Event()

        def opened(address):
            self.addresses.append(address)
            self.opened.set()

        monkeypatch.setattr(module.webbrowser, "open", opened)
        self.result = "nothing"
        self.thread = threading.Thread(target=self.run, kwargs=arguments, daemon=True)
        self.thread.start()
        assert self.opened.wait(20)
        self.address = self.addresses[0]
        self.base, self.token = self.address.split("/?token=")

    def run(self, **arguments):
        self.result = manual_movement(*images(), **arguments)

    def ask(self, name, document=None, **headers):
        headers = {"X-Token": self.token, **headers}
        request = urllib.request.Request(
            f"{self.base}/{name}", json.dumps(document or {}).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.result


PAIRS = [
    [x + TRUTH[0], y + TRUTH[1], x, y] for x, y in ((30, 40), (200, 60), (120, 150), (60, 160))
]


def status(request):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    error.value.close()
    return error.value.code


def test_the_server_answers_our_page_alone(monkeypatch, capsys):
    page = Page(monkeypatch)
    assert page.base.startswith("http://127.0.0.1:")
    assert status(page.base + "/") == 403
    assert status(page.base + "/?token=" + "x" * 32) == 403
    assert status(page.address.replace("/?", "/nothing?")) == 404
    assert status(page.address.replace("/?", "/../manual.py?")) == 404
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert status(urllib.request.Request(page.address, headers=headers)) == 403
    for headers in ({"Origin": "http://evil.example"}, {"X-Token": "wrong"}):
        with pytest.raises(urllib.error.HTTPError, match="403") as error:
            page.ask("cancel", **headers)
        error.value.close()
    with pytest.raises(urllib.error.HTTPError, match="400") as error:
        page.ask("format-disk")
    error.value.close()
    with urllib.request.urlopen(page.address, timeout=10) as answer:
        assert page.token in answer.read().decode()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert page.ask("cancel") == {"done": True}
    assert page.end() is None


def test_pairs_are_fitted_and_accepted(monkeypatch, capsys):
    page = Page(monkeypatch)
    assert page.ask("start") == {"width": 260, "height": 200, "pairs": []}
    assert page.ask("fit", {"pairs": PAIRS[:2]}) == {"fit": None}
    fit = page.ask("fit", {"pairs": PAIRS})["fit"]
    assert fit["shift"] == pytest.approx(TRUTH)
    assert fit["ddscore"] > 0
    assert "error" in page.ask("fit", {"pairs": "none"})
    assert "error" in page.ask("accept", {"pairs": []})
    assert len(page.ask("detect")["pairs"]) >= 3
    assert len(page.ask("load", fit["file"])["pairs"]) == 4
    assert "error" in page.ask("load", {**fit["file"], "im_array_shape": [3, 3]})
    assert page.ask("accept", {"pairs": PAIRS, "transform": "shift"}) == {"done": True}
    found = page.end()
    assert found.method == "manual"
    assert found.shift == pytest.approx(TRUTH)


def test_a_browser_that_never_comes_or_goes_away(monkeypatch, capsys):
    page = Page(monkeypatch, timeout=0.3)
    assert page.end() is None
    monkeypatch.setattr("boresight.movement.server.SILENCE_S", 0.4)
    page = Page(monkeypatch)
    page.ask("alive")
    assert page.end() is None


def test_bad_arguments(monkeypatch):
    monkeypatch.setattr(module.webbrowser, "open", lambda _: None)
    first, second = images()
    with pytest.raises(InputError, match="correction"):
        manual_movement(first, second, MovementCorrection(np.eye(3), (5, 5), [], [], ""))
    with pytest.raises(InputError, match="moved"):
        manual_movement(first, second[1:])
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            manual_movement(first, second, port=taken.getsockname()[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("size", [(1280, 760), (390, 800)], ids=["desktop", "phone"])
def test_the_page_in_a_browser(monkeypatch, capsys, size, tmp_path, request):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page = Page(monkeypatch)
    width, height = size
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height}, bypass_csp=True)
        problems = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        tab.goto(page.address)
        tab.wait_for_selector("body[data-ready=yes]")
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

        def click(side, x, y):
            place = tab.evaluate(
                "([side, x, y]) => toScreen(document.getElementById(side), x, y)", [side, x, y]
            )
            tab.locator(f"#{side}").click(position={"x": place[0], "y": place[1]})

        for x, y, u, v in PAIRS:
            click("ref", x, y)
            click("moved", u, v)
        tab.wait_for_function("state.fit !== null && state.pairs.length === 4")
        assert tab.locator("#ddscore").get_attribute("class") == "good"
        tab.screenshot(path=tmp_path / f"{request.node.callspec.id}.png")
        before = tab.evaluate("state.fit.rms")

        # Drag the first point away and see the fit worsen.
        tab.locator("#ref").scroll_into_view_if_needed()
        box = tab.locator("#ref").bounding_box()
        start = tab.evaluate("toScreen(document.getElementById('ref'), ...state.pairs[0])")
        tab.mouse.move(box["x"] + start[0], box["y"] + start[1])
        tab.mouse.down()
        tab.mouse.move(box["x"] + start[0] + 15, box["y"] + start[1] + 9, steps=4)
        tab.mouse.up()
        tab.wait_for_function("before => state.fit && state.fit.rms > before + 1", arg=before)

        # Blink while the key is held.
        tab.locator("#ref").focus()
        tab.keyboard.down("b")
        assert tab.evaluate("document.body.dataset.blink") == "moved"
        tab.keyboard.up("b")
        assert tab.evaluate("document.body.dataset.blink") == ""

        # Delete it by keyboard; zoom and pan are linked; then accept.
        tab.evaluate("state.chosen = 0")
        tab.keyboard.press("Delete")
        tab.wait_for_function("state.pairs.length === 3 && state.fit && state.fit.rms < 2")
        zoom = tab.evaluate("state.view.zoom")
        tab.keyboard.press("+")
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("state.view.zoom") > zoom
        tab.locator("#accept").click()
        tab.wait_for_selector(".over")
        browser.close()
    found = page.end()
    assert found.method == "manual"
    assert found.shift == pytest.approx(TRUTH, abs=1.5)
    assert not problems


@pytest.mark.parametrize(("name", "value"), [("port", 99_999), ("correction", "file.cmc")])
def test_what_is_no_port_or_correction_is_refused(name, value):
    image = np.zeros((10, 12))
    with pytest.raises(InputError, match=name):
        manual_movement(image, image, open_browser=False, timeout=0.1, **{name: value})
