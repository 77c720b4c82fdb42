"""Every public name stands on an API page: a part has its `automodule`, so have its modules if it has no `__all__`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import geoxt

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
LISTED = [name for page in PAGES for name in re.findall(r"automodule:: (\S+)", page.read_text())]
PARTS = sorted(
    f"geoxt.{path.stem}"
    for path in (ROOT / "geoxt").iterdir()
    if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
)


def source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exports(module: str) -> bool:
    """Tell whether a module has `__all__`."""
    targets = [
        target
        for node in ast.parse(source(module).read_text()).body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    ]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def public(module: str) -> list[str]:
    """Return what must be shown of a part: the part, and its modules where it exports nothing itself."""
    path = source(module)
    inner = [] if path.name != "__init__.py" or exports(module) else sorted(path.parent.glob("[!_]*.py"))
    return [module, *(f"{module}.{file.stem}" for file in inner)]


@pytest.mark.parametrize("module", [name for part in PARTS for name in public(part)])
def test_every_part_is_on_one_api_page(module):
    assert LISTED.count(module) == 1, f"{module}: give it an automodule on one page of docs/api"


@pytest.mark.parametrize("module", LISTED)
def test_api_pages_name_what_exists(module):
    assert source(module).is_file()


@pytest.mark.parametrize("name", sorted(set(geoxt.__all__) - {"__version__"}))
def test_every_name_of_the_facade_is_on_the_first_page(name):
    assert re.search(rf"^   (~\S+\.)?{name}$", (ROOT / "docs" / "api" / "index.md").read_text(), re.MULTILINE)


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "api" / "index.md").read_text()
    assert {page.stem for page in PAGES} - {"index"} == set(index.partition(":hidden:")[2].split()[:-1])
