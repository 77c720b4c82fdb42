"""Sphinx configuration. The build needs no network: no intersphinx, no remote images, fonts or scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import geoxt

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent / "tests"),
]  # the modules here, and tests/support of pictures.py
import gallery  # noqa: E402  (found on the path above)
import pictures  # noqa: E402

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
    "sphinx_copybutton",
    "sphinx_design",
    "api_pages",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints", "_*.md", "**/_*.md", "**/_*.rst"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # pytest --nbmake --overwrite runs the notebooks; the site shows the outputs in them
nb_merge_streams = True
suppress_warnings = ["ref.python"]  # field names such as `band` occur in several classes

autodoc_typehints = "description"  # signatures of names and defaults; the types stand beside the parameters
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"
maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes that are annotated too would be described twice
napoleon_preprocess_types = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "geoxt"
html_static_path = ["_static"]
html_css_files = ["geoxt.css"]
html_sidebars = {"gallery": []}  # it has no section
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {  # none beside notebooks and the table of datasets, which need the width
        "*": ["page-toc"],
        "[!nr]*/**": ["page-toc"],
        "reference/[!d]*": ["page-toc"],
        "reference/api/**": ["page-toc"],
        "reference/datasets": [],
        "notebooks/*": [],
    },
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
}
html_show_sourcelink = False
html_search_scorer = str(HERE / "scorer.js")

# autodoc prints the overloads of a function in place of its signature, which has all parameters
_analyze = ModuleAnalyzer.analyze


def _analyze_without_overloads(self: ModuleAnalyzer) -> None:
    _analyze(self)
    self.overloads.clear()


ModuleAnalyzer.analyze = _analyze_without_overloads


def _consume_attribute(self: GoogleDocstring) -> tuple[str, list[str]]:
    """Parse the sections of the docstring of an attribute; napoleon takes its text before a colon for the type."""
    lines = self._dedent(self._consume_to_end())
    return "", self.__class__(lines, self._config).lines()


GoogleDocstring._consume_inline_attribute = _consume_attribute  # noqa: SLF001


def setup(app: Any) -> None:
    """Draw the datasets and write the gallery before pages are read."""
    app.connect("builder-inited", lambda app: pictures.draw_all(Path(app.srcdir) / "_static" / "datasets"))
    app.connect("config-inited", lambda app, _: gallery.write(Path(app.srcdir)))
