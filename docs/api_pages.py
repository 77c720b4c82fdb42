"""API pages: the directive `public-names`, a table of the public names of a module with a page for each of them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from docutils.nodes import Node
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autosummary import Autosummary

import geoxt

FOLDER = Path(__file__).parent / "reference" / "api"
NAMES = FOLDER / "_names.rst"
"""All names, for autosummary, which writes their pages to the folder `generated` beside this file."""
HOME = {name: "geoxt" for name in geoxt.__all__ if not isinstance(getattr(geoxt, name), ModuleType)} | {
    "Band": "geoxt.layers.products",
    "Product": "geoxt.layers.products",
    "INDICES": "geoxt.indices",
    "ConfusionMatrix": "geoxt.metrics.confusion",
    "confusion_matrix": "geoxt.metrics.confusion",
    "classification_scores": "geoxt.metrics.confusion",
}
"""Module under which a name of several modules is documented; else the first of them."""
RELATED = (
    ("open_cogs", "open_stac", "open_zarr", "open_xarray", "open_vector"),
    ("align", "intersection", "union"),
    ("predict", "detect", "to_cog", "to_zarr", "to_tiles"),
    ("pack", "open_pack", "warm_cache"),
)
"""Functions of the package that refer to each other under "See also"."""


def public_names(module: str) -> dict[str, Any]:
    """Return the public names of a module and their values: `__all__`, else the names that it defines."""
    values = vars(import_module(module))
    if "__all__" in values:
        return {name: getattr(import_module(module), name) for name in values["__all__"]}
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    }


def has_page(module: str, value: Any) -> bool:
    """Whether a value is a function or a class; of tables and type aliases, only those of `geoxt.types` have pages."""
    return module == "geoxt.types" or isinstance(inspect.unwrap(value), FunctionType | type)


def has_public_base(path: str) -> bool:
    """Whether a path names a class that inherits from another class than `object` or a private one."""
    module, _, name = path.rpartition(".")
    value = getattr(import_module(module), name)
    bases = value.__bases__ if isinstance(value, type) else ()
    return any(base is not object and not base.__name__.startswith("_") for base in bases)


def documented() -> dict[str, list[str]]:
    """Return the paths of the names to document, by module; each name has one page."""
    pages = sorted(FOLDER.glob("*.md"))
    modules = [name for page in pages for name in re.findall(r"public-names:: (\S+)", page.read_text("utf-8"))]
    paths: dict[str, list[str]] = {}
    seen: set[tuple[str, int]] = set()
    for module in modules:
        values = {name: value for name, value in public_names(module).items() if has_page(module, value)}
        new = {
            name
            for name, value in values.items()
            if (name, id(value)) not in seen and HOME.get(name, module) in {module, "geoxt"}
        }
        seen |= {(name, id(values[name])) for name in new}
        paths[module] = [f"{HOME.get(name, module)}.{name}" for name in values if name in new]
    return paths


class PublicNames(Autosummary):
    """A table of the public names of a module."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the table, and the entries of the table of contents."""
        self.options |= {"toctree": "generated", "nosignatures": None}
        self.content = StringList(documented()[self.arguments[0]], source=self.arguments[0])
        self.env.ref_context["py:module"] = None  # the paths are absolute
        return super().run()


def write_names(app: Sphinx, config: Any) -> None:  # noqa: ARG001 (the signature of the event)
    """Write the list from which autosummary generates the pages, and remove pages of names that are gone."""
    paths = [path for names in documented().values() for path in names]
    text = ".. autosummary::\n   :toctree: generated\n\n" + "".join(f"   {path}\n" for path in paths)
    if not NAMES.is_file() or NAMES.read_text("utf-8") != text:
        NAMES.write_text(text, "utf-8")
    for page in (FOLDER / "generated").glob("*.rst"):
        if page.stem not in paths:
            page.unlink()
    config.autosummary_generate = [str(NAMES)]
    config.autosummary_context = {"with_bases": [path for path in paths if has_public_base(path)]}


def add_see_also(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Append the related functions to the docstring of a function of the package."""
    module, _, function = name.rpartition(".")
    if module == "geoxt" and not any("See Also" in line for line in lines):
        names = [other for group in RELATED if function in group for other in group if other != function]
        if names:
            lines += ["", ".. seealso::", "", "   " + ", ".join(f":func:`geoxt.{other}`" for other in names), ""]


def prepare_types(app: Sphinx, *_: Any) -> None:
    """Forget the types of results, which docstrings state, and the modules that Sphinx prints in nested literals."""
    for types in app.env.current_document.autodoc_annotations.values():
        types.pop("return", None)
        for name, text in types.items():
            types[name] = re.sub(r"~(collections\.abc|typing)\.", "", text)


def name_factories(app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str, result: str) -> Any:  # noqa: ARG001
    """Return a signature with an ellipsis for `<factory>`, with which Sphinx splits it at every comma."""
    return args and args.replace("=<factory>", "=..."), result


def setup(app: Sphinx) -> None:
    """Register the directive and the events."""
    app.add_directive("public-names", PublicNames)
    app.connect("config-inited", write_names)
    app.connect("autodoc-process-docstring", add_see_also)
    app.connect("autodoc-process-signature", name_factories)
    app.connect("object-description-transform", prepare_types, priority=400)  # before autodoc adds the types
