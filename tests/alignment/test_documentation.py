"""The page about alignment explains every verdict."""

import re
from pathlib import Path

from boresight.alignment import Reason

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_reason_of_a_failure_is_explained():
    page = (DOCS / "concepts" / "alignment.md").read_text()
    told = set(re.findall(r"^\| `([A-Z_]+)`", page, flags=re.M))
    assert told | {"ALIGNED", "REFERENCE"} == {reason.name for reason in Reason}
