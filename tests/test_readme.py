"""The README's Python runs, and prints what the README says."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: A block of Python and, if one follows at once, the block of text that it prints.
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def test_the_first_block_runs_and_prints_what_is_written():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, expected = BLOCK.search(text).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().strip()
    if expected is not None:
        assert printed.getvalue().strip() == expected.strip()


def test_the_readme_shows_output_and_its_example_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == 1, "every block of Python in the README is to be tested"
    assert blocks[0][1]
    assert len(blocks[0][0].split("\n\n")) <= 3
    assert text.index("```text") < text.index("## ")


def test_the_links_of_the_readme_lead_somewhere():
    """They are absolute, for the package index shows it too; those into the project are checked."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    own = (
        r"https://(?:github|raw\.githubusercontent)\.com/boresight/boresight/(?:blob/)?main/([^#]+)"
    )
    paths = [re.match(own, target) for target in targets if "boresight/boresight" in target]
    assert all(target.startswith("https://") for target in targets)
    assert len(paths) > 4
    for path in paths:
        assert (ROOT / path[1]).exists(), path[1]
