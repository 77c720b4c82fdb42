"""Sphinx configuration. The build needs no network: no intersphinx, no remote images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import geoxt

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]  # pictures.py, and tests/support that it draws from
from pictures import draw_all  # noqa: E402  (found on the path above)

project = "geoxt"
author = "geoxt developers"
copyright = "2026, geoxt developers"
version = release = geoxt.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints"]
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # pytest --nbmake --overwrite runs the notebooks; what it leaves in them is shown
nb_merge_streams = True
suppress_warnings = ["ref.python"]  # field names such as `band` occur in several classes

autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes that are annotated too would be described twice
napoleon_preprocess_types = False

html_theme = "pydata_sphinx_theme"
html_title = "geoxt"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "secondary_sidebar_items": ["page-toc"]}


def setup(app: Any) -> None:
    """Draw the datasets before pages are read."""
    app.connect("builder-inited", lambda app: draw_all(Path(app.srcdir) / "_static" / "datasets"))
