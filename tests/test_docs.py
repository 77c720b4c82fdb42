"""The API pages: every public module on its page, and every public name on one page."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import geoxt

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page.read_text() for page in sorted((ROOT / "docs" / "reference" / "api").glob("*.md"))}
PUBLIC = {
    "layers": ("layers", "layers.products", "alignment", "legend", "crs", "grid"),
    "datasets": ("datasets",),
    "samplers": ("windows", "samplers", "splits"),
    "tensors": ("accessor", "bridge", "tables"),
    "transforms": ("transforms", "indices"),
    "learning": (
        "tasks",
        "models",
        "trainers",
        "trainers.selfsup",
        "probes",
        "metrics.confusion",
        "metrics.multilabel",
        "metrics.scores",
    ),
    "maps": ("inference", "embeddings", "writers", "tiling", "metrics.maps", "plot"),
    "assessment": ("assess",),
    "foundations": ("errors", "types", "template", "source", "testing"),
}
"""Public modules by API page; all other modules are private, whatever their names."""
MODULES = [(page, f"geoxt.{name}") for page, names in PUBLIC.items() for name in names]


def public_names(name: str) -> dict[str, object]:
    """Return the public functions, classes and constants of a module: `__all__`, else the names that it defines."""
    module = import_module(name)
    if hasattr(module, "__all__"):
        return {attribute: getattr(module, attribute) for attribute in module.__all__}
    return {
        attribute: value
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and getattr(value, "__module__", None) == name
    }


@pytest.mark.parametrize("page", [page for page in PAGES if page != "index"])
def test_pages_document_the_public_modules(page):
    for directive in ("automodule", "public-names"):
        modules = set(re.findall(rf"{directive}:: (\S+)", PAGES[page]))
        assert modules == {name for on, name in MODULES if on == page}, directive


@pytest.mark.parametrize(("page", "module"), MODULES)
def test_public_modules_have_public_names(page, module):
    assert public_names(module)


def test_every_public_name_is_on_one_page():
    """A class that a second module exports too, as `geoxt.datasets` does `Band`, belongs to the page of the first."""
    pages = defaultdict(set)
    for page, module in MODULES:
        for name, value in public_names(module).items():
            if callable(value):
                defined = getattr(value, "__module__", "")
                homes = [home for home, public in MODULES if f"{defined}.".startswith(f"{public}.")]
                pages[defined, name].update(homes or [page])
    assert {name: on for name, on in pages.items() if len(on) > 1} == {}


@pytest.mark.parametrize(("page", "module"), MODULES)
def test_public_names_are_documented(page, module):
    values = public_names(module).values()
    package_values = [value for value in values if str(getattr(value, "__module__", "")).startswith("geoxt.")]
    assert [
        value.__name__
        for value in package_values
        if callable(value) and hasattr(value, "__name__") and not value.__doc__
    ] == []


@pytest.mark.parametrize(("page", "module"), MODULES)
def test_public_functions_have_an_example(page, module):
    functions = [value for value in public_names(module).values() if isinstance(inspect.unwrap(value), FunctionType)]
    assert [function.__name__ for function in functions if ">>>" not in (function.__doc__ or "")] == []


def test_modules_of_the_package_are_public():
    modules = {f"geoxt.{name}" for name in geoxt.__all__ if isinstance(getattr(geoxt, name), ModuleType)}
    public = {name for _, name in MODULES}
    assert {name for name in modules if not any(f"{other}.".startswith(f"{name}.") for other in public)} == set()


@pytest.mark.parametrize("name", sorted(set(geoxt.__all__) - {"__version__"}))
def test_names_of_the_package_are_on_the_index_page(name):
    assert re.search(rf"^   (~\S+\.)?{name}$", PAGES["index"], re.MULTILINE)


def test_every_page_is_in_the_table_of_contents():
    assert set(PAGES) - {"index"} == set(PAGES["index"].partition(":hidden:")[2].split()[:-1])
