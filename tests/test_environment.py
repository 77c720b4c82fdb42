"""Imports of geoxt equal the dependencies in pyproject.toml and in the conda environments."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.syntax import syntax_nodes

import geoxt

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[.*\])?\s*(?P<bound>.*)")
CONDA_NAME = {
    "dask": "dask-core",
    "geopandas": "geopandas-base",
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
}
PIP_NAME = {"faiss": "faiss-cpu", "odc": "odc-geo", "sklearn": "scikit-learn", "yaml": "pyyaml"}
ENVIRONMENTS = {"environment.yml": "pytorch-cpu", "environment-gpu.yml": "pytorch-gpu"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement: str) -> tuple[str, str]:
    """Return a requirement's name and its bound."""
    match = REQUIREMENT.fullmatch(requirement)
    assert match, requirement
    return match["name"].lower(), match["bound"]


def pip_packages(torch: str) -> dict[str, str]:
    """Return the bound of each package of pyproject.toml, extras included, under conda's name."""
    declared = project()
    extras = [item for group in declared["optional-dependencies"].values() for item in group]
    packages = [split(item) for item in [*declared["dependencies"], *extras] if not item.startswith("geoxt")]
    names = CONDA_NAME | {"torch": torch}
    return {names.get(name, name): bound for name, bound in packages}


def conda_packages(path: Path) -> dict[str, str]:
    """Return the bound of each package of an environment file: its lists are flat, so lines suffice."""
    lines = path.read_text().partition("dependencies:")[2].splitlines()
    items = [line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")]
    packages = dict(split(item) for item in items if item != "pip:")
    del packages["pip"], packages["python"]
    return packages


@pytest.mark.parametrize(("name", "torch"), ENVIRONMENTS.items())
def test_environment_names_the_packages_of_pyproject(name, torch):
    assert conda_packages(ROOT / name) == pip_packages(torch)


def test_recipe_has_the_core_packages_of_pyproject():
    recipe = yaml.safe_load((ROOT / "recipe.yaml").read_text())
    packages = dict(split(item) for item in recipe["requirements"]["run"])
    assert packages.pop("python") == project()["requires-python"]
    names = CONDA_NAME | {"torch": "pytorch"}
    core = dict(split(item) for item in project()["dependencies"])
    assert packages == {names.get(name, name): bound for name, bound in core.items()}
    assert recipe["context"]["version"] == geoxt.__version__
    assert recipe["build"]["python"]["entry_points"] == [f"geoxt = {project()['scripts']['geoxt']}"]
    assert recipe["requirements"]["host"][-1].replace(" ", "") in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_takes_conda_forge_only(name):
    channels = (ROOT / name).read_text().partition("channels:")[2].partition("dependencies:")[0].split()
    assert channels == ["-", "conda-forge", "-", "nodefaults"]


def test_extras_have_one_bound_per_package():
    bounds: dict[str, set[str]] = {}
    for group in project()["optional-dependencies"].values():
        for name, bound in map(split, group):
            bounds.setdefault(name, set()).add(bound)
    assert {name: versions for name, versions in bounds.items() if len(versions) > 1} == {}


def test_all_extra_includes_every_user_extra():
    extras = project()["optional-dependencies"]
    users = set(extras) - {"all", "test", "docs", "dev", "foundation", "lora"}  # the last two bring many packages
    assert set(extras["all"][0].removeprefix("geoxt[").removesuffix("]").split(",")) == users


def test_imports_are_declared():
    declared = project()
    known = {split(item)[0] for group in declared["optional-dependencies"].values() for item in group}
    known |= {split(item)[0] for item in declared["dependencies"]}
    nodes = [node for path in (ROOT / "geoxt").rglob("*.py") for node in syntax_nodes(path)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"geoxt"}
    assert {PIP_NAME.get(name, name.replace("_", "-")) for name in roots} - known == set()
