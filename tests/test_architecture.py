"""The floors of docs/architecture.md: imports only go down, without circles, and opening layers loads no torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import geoxt

PACKAGE = Path(__file__).parents[1] / "geoxt"
FLOORS = (
    "errors types storage retry tasks _version",
    "template grid footprints windows legend trees progress testing",
    "models transforms",
    "pixels",
    "source",
    "alignment plot indices",
    "layers",
    "regions",
    "samplers splits",
    "datasets metrics",
    "bridge",
    "writers",
    "inference",
    "trainers assess",
    "cli",
    "accessor",
    "geoxt",
)
"""Parts of the package from the lowest floor up; docs/architecture.md describes them."""
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
LIGHTNING = {"lightning", "pytorch_lightning"}
TORCH = LIGHTNING | {"torch", "torchvision", "torchmetrics", "timm", "kornia", "segmentation_models_pytorch"}
FORBIDDEN = {
    "errors types storage retry tasks _version": TORCH | {"matplotlib", "rasterio", "xarray", "dask"},
    "template grid footprints windows legend trees progress testing": TORCH | {"matplotlib"},
    "pixels source layers regions samplers splits datasets alignment writers": TORCH | {"matplotlib"},
    "models transforms": LIGHTNING | {"xarray", "dask", "rasterio"},
    "bridge metrics": LIGHTNING | {"matplotlib"},
    "trainers inference assess": {"matplotlib"},
}
"""Packages that parts must not import at the top of a file."""
OPTIONAL = {"pytorch_lightning", "segmentation_models_pytorch", "timm", "torchmetrics", "matplotlib"}
OPTIONAL |= {
    "aiohttp",
    "fsspec",
    "h5py",
    "jsonargparse",
    "kornia",
    "pooch",
    "safetensors",
    "scipy",
    "sklearn",
    "torchvision",
    "tqdm",
}
OPTIONAL |= {"pyogrio", "pyarrow", "geopandas", "pystac_client", "distributed", "hypothesis", "zarr", "obstore"}


ON_FIRST_USE = {"geoxt", "geoxt.accessor", "geoxt.cli"}
"""Entry points, which import their parts on first use, so that they start without torch."""
USE_TORCH_LATER = {"geoxt.pixels.torch_operations"}
"""Modules below `models` whose functions import torch when they are called, and not before."""
ROLES = {
    "__init__": "names that a package exports",
    "detection": "models, and scores, of object detection",
    "errors": "errors, and how the CLI shows them",
    "fit": "a training run, and its command",
    "module": "a LightningModule",
    "open": "the opener of a kind of source",
    "plot": "figures",
    "registry": "entries by name",
    "scenes": "scenes of a kind of source",
}
"""What files of the same name do, each in its folder."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def part(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def imports(module: str, nodes) -> set[str]:
    """Return the modules that statements import, and modules of geoxt that string constants name.

    The constants are those of imports on first use (`import_module("geoxt.bridge")`), which count like all others.
    """
    nodes = list(nodes)
    constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    modules = constants & set(FILES) - {"geoxt"}
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively: write the module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name if name in FILES else node.module for name in names}
    return modules


def nodes_in_functions(tree: ast.Module) -> list[ast.AST]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node for function in functions for node in ast.walk(function)]


def _torch_in_functions(module: str) -> set[str]:
    return {"torch"} if module in USE_TORCH_LATER else set()


@pytest.mark.parametrize("module", FILES)
def test_imports_only_go_down(module):
    assert part(module) in FLOOR, f"{module} stands on no floor: give it one here and in docs/architecture.md"
    package_imports = {name for name in imports(module, ast.walk(TREES[module])) if name.split(".")[0] == "geoxt"}
    assert {name for name in package_imports if FLOOR[part(name)] > FLOOR[part(module)]} == set()


@pytest.mark.parametrize("module", FILES)
def test_no_forbidden_imports(module):
    roots = {name.split(".")[0] for name in imports(module, ast.walk(TREES[module]))}
    forbidden = {name for parts, names in FORBIDDEN.items() if part(module) in parts.split() for name in names}
    assert roots & forbidden - _torch_in_functions(module) == set()


@pytest.mark.parametrize("module", sorted(set(FILES) - ON_FIRST_USE))
def test_only_optional_packages_are_imported_inside_functions(module):
    names = imports(module, nodes_in_functions(TREES[module]))
    roots = {name.split(".")[0] for name in names}
    assert roots - OPTIONAL - _torch_in_functions(module) == set()


@pytest.mark.parametrize("module", FILES)
def test_only_entry_points_import_by_name(module):
    assert ("importlib" in imports(module, ast.walk(TREES[module]))) == (module in ON_FIRST_USE)


def test_imports_have_no_circles():
    graph = {name: imports(name, ast.walk(tree)) & set(FILES) - {name} for name, tree in TREES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_files_share_a_name_only_in_the_same_role():
    names = Counter(path.stem for path in FILES.values())
    repeated = {name for name, count in names.items() if count > 1} - set(ROLES)
    assert repeated == set(), "rename one of the files, or state their common role in ROLES"


def test_tests_share_a_name_only_where_files_do():
    names = Counter(path.stem.removeprefix("test_") for path in Path(__file__).parent.rglob("test_*.py"))
    repeated = {name for name, count in names.items() if count > 1} - {*ROLES, "api", "statistics", "trees"}
    assert repeated == set(), "rename one of the test files"


IMPORTS = """
import sys, xarray
before = {*sys.modules}
import geoxt
print(*({*sys.modules} - before))
from geoxt import align, intersection, open_cogs, open_stac, open_vector, open_xarray, open_zarr, to_cog, to_zarr
from geoxt import assess, datasets, plot, samplers, splits, writers
from geoxt.cli import datasets, open_images
print(*sys.modules)
"""


def test_torch_is_not_loaded_to_open_layers():
    """`import geoxt` loads xarray and little else; counted in modules, as a duration depends on the machine."""
    run = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    package, openers = (set(line.split()) for line in run.stdout.splitlines())
    assert "geoxt" in package
    assert package & {*TORCH, "matplotlib", "rasterio"} == set()
    assert len(package) < 60
    assert "geoxt.source.mosaic" in openers
    assert openers & {*TORCH, "matplotlib"} == set()


def test_public_functions_and_modules_have_different_names():
    """Importing a module sets its name on the package, over any function of that name."""
    parts = {part(module) for module in FILES}
    assert {
        name for name in geoxt.__all__ if name in parts and not isinstance(getattr(geoxt, name), ModuleType)
    } == set()
