"""Sphinx configuration; `make docs` builds to docs/_build/html."""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Boresight"
author = "The Boresight developers"
copyright = "The Boresight developers"  # noqa: A001 - the name is Sphinx's
version = release = importlib.metadata.version("boresight")

extensions = [
    "mathml",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
# Links into other projects' pages need their indices, and so the network.
if not os.environ.get("BORESIGHT_OFFLINE"):
    extensions.append("sphinx.ext.intersphinx")

templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
default_role = "py:obj"
intersphinx_mapping = {
    "astropy": ("https://docs.astropy.org/en/stable/", None),
    "matplotlib": ("https://matplotlib.org/stable/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "python": ("https://docs.python.org/3/", None),
}

# The notebooks are pages. Tests run them, and so does a build with BORESIGHT_RUN_NOTEBOOKS=1, at
# reduced size and without network: then the pages show what they print and draw.
HERE = Path(__file__).parent
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", dirs_exist_ok=True)
nb_execution_mode = "off"
if os.environ.get("BORESIGHT_RUN_NOTEBOOKS"):
    nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "auto", 900, True
    nb_execution_in_temp = True
    os.environ |= {"BORESIGHT_OFFLINE": "1", "BORESIGHT_BINNING": "4"}
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# Formulas need no network when the pages are read.
html_math_renderer = "mathml"

html_theme = "pydata_sphinx_theme"
html_title = "Boresight"
html_theme_options = {
    "github_url": "https://github.com/boresight/boresight",
    # None beside the pages of the API, whose examples are wide.
    "secondary_sidebar_items": {
        pattern: ["page-toc"] for pattern in ("*", "concepts/*", "benchmarks/*", "coming-from/*")
    },
}
html_static_path = ["_static"]
html_css_files = ["page.css"]
# Pages that are no part of a section need no list of its pages.
html_sidebars = {
    page: [] for page in ("index", "quickstart", "conventions", "command-line", "scope", "design",
                          "contributing", "changelog", "notebooks",
                          "pyopensci")
}  # fmt: skip
