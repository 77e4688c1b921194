"""Print pip constraints that hold the dependencies of pyproject.toml at their lower bounds."""

import re
import tomllib
from pathlib import Path

pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
optional = project["optional-dependencies"]
for requirement in project["dependencies"] + [
    item for extra in ("gaia", "gwcs", "plot") for item in optional[extra]
]:
    name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
    print(f"{name}=={version}.*")
