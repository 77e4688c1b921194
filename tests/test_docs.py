"""The Python of the documentation's pages runs as it is written, and prints what they say."""

import contextlib
import inspect
import io
import re
import shutil
from pathlib import Path

import pytest

import boresight
from boresight import CameraModel, RadialDistortion, simulate_frame

DOCS = Path(__file__).resolve().parents[1] / "docs"

#: A block of Python and, if one follows at once, the block of text that it prints.
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL
)

PAGES = [
    "quickstart.md",
    "concepts/files.md",
    *(f"coming-from/{page.name}" for page in DOCS.glob("coming-from/*.md")),
]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder with what the pages call frame.fits and night/*.fits."""
    folder = tmp_path_factory.mktemp("docs")
    lens = RadialDistortion(-0.01, scale=512.0)
    camera = CameraModel.from_fov(12.0, (500, 640), distortion=lens)
    (folder / "night").mkdir()
    for number, (ra, dec) in enumerate([(83.8, -1.2), (250.0, 40.0), (10.0, 60.0)]):
        frame = simulate_frame(camera, ra, dec, 30.0 * number, seed=number)
        frame.write_fits(folder / "night" / f"frame{number}.fits")
    shutil.copy(folder / "night" / "frame0.fits", folder / "frame.fits")
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if page != "coming-from/index.md"])
def test_the_python_of_a_page_runs(page, frames, tmp_path, monkeypatch):
    shutil.copytree(frames, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    names = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        if expected:
            assert printed.getvalue().strip() == expected.strip()


def test_every_page_is_in_the_contents():
    listed = set()
    for page in DOCS.rglob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for entry in tree.splitlines():
                if entry and not entry.startswith(":"):
                    listed |= {page.with_suffix("") for page in page.parent.glob(f"{entry}.md")}
    pages = {page.with_suffix("") for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    assert pages - {DOCS / "index"} <= listed


def test_methods_that_texts_name_are_there():
    """Pages, docstrings and messages: a remedy that does not exist helps nobody."""
    package = DOCS.parent / "python" / "boresight"
    texts = [*DOCS.rglob("*.md"), *package.rglob("*.py"), DOCS.parent / "README.md"]
    missing = {
        f"{path.name}: {kind}.{name}"
        for path in texts
        for kind, name in re.findall(
            r"(?<!core\.)\b([A-Z]\w+)\.([a-z]\w+)\b", path.read_text("utf-8")
        )
        if isinstance(known := getattr(boresight, kind, None), type)
        and not hasattr(known, name)
        and name not in getattr(known, "__dataclass_fields__", ())
        and f"self.{name}" not in inspect.getsource(known)
    }
    assert missing == set()
