"""The floors of docs/architecture.md: imports go down without circles; opening layers loads no torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from support.syntax import syntax_nodes

import geoxt

PACKAGE = Path(__file__).parents[1] / "geoxt"
FLOORS = (
    "errors types storage retry tasks reprs _version",
    "template crs grid footprints windows legend trees progress testing",
    "models transforms torch_devices",
    "pixels",
    "source",
    "alignment plot indices",
    "layers",
    "regions",
    "samplers splits",
    "datasets metrics tables",
    "bridge",
    "writers",
    "inference",
    "trainers assess embeddings tiling",
    "probes",
    "cli",
    "accessor",
    "geoxt __main__",
)
"""Parts of the package from the lowest floor up; docs/architecture.md describes them."""
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
LIGHTNING = {"lightning", "pytorch_lightning"}
TORCH = LIGHTNING | {"torch", "torchvision", "torchmetrics", "timm", "kornia", "segmentation_models_pytorch"}
FORBIDDEN = {
    "errors types storage retry tasks reprs _version": TORCH | {"matplotlib", "rasterio", "xarray", "dask"},
    "template crs grid footprints windows legend trees progress testing": TORCH | {"matplotlib"},
    "pixels source layers regions samplers splits datasets tables alignment writers": TORCH | {"matplotlib"},
    "models transforms": LIGHTNING | {"xarray", "dask", "rasterio"},
    "bridge metrics": LIGHTNING | {"matplotlib"},
    "trainers inference assess tiling": {"matplotlib"},
}
"""Packages that parts must not import at the top of a file."""
OPTIONAL = {"pytorch_lightning", "segmentation_models_pytorch", "timm", "torchmetrics", "matplotlib"}
OPTIONAL |= {
    "aiohttp",
    "olmoearth_pretrain_minimal",
    "peft",
    "terratorch",
    "torchgeo",
    "fsspec",
    "h5py",
    "joblib",
    "jsonargparse",
    "kornia",
    "onnx",
    "onnxruntime",
    "pooch",
    "safetensors",
    "scipy",
    "sklearn",
    "torchvision",
    "tqdm",
}
OPTIONAL |= {
    "bokeh",
    "faiss",
    "pyogrio",
    "pyarrow",
    "geopandas",
    "pystac_client",
    "distributed",
    "hypothesis",
    "zarr",
    "obstore",
}


ON_FIRST_USE = {"geoxt", "geoxt.accessor", "geoxt.assess", "geoxt.cli"}
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


@cache
def all_imports(module: str) -> set[str]:
    """Return the modules that a module imports anywhere."""
    return imports(module, syntax_nodes(FILES[module]))


def part(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


PARTS = sorted({part(module) for module in FILES})


def roots(modules: set[str]) -> set[str]:
    """Return the packages that modules belong to."""
    return {module.split(".")[0] for module in modules}


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


def nodes_in_functions(module: str) -> list[ast.AST]:
    """Return the nodes in the functions of a module."""
    nodes = syntax_nodes(FILES[module])
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node for function in functions for node in ast.walk(function)]


def _torch_in_functions(module: str) -> set[str]:
    return {"torch"} if module in USE_TORCH_LATER else set()


def modules_of(name: str) -> list[str]:
    return [module for module in FILES if part(module) == name]


def test_every_part_stands_on_a_floor():
    assert set(PARTS) - set(FLOOR) == set(), "give each a floor here and in docs/architecture.md"


@pytest.mark.parametrize("name", PARTS)
def test_imports_only_go_down(name):
    upward = {
        f"{module} imports {other}"
        for module in modules_of(name)
        for other in all_imports(module)
        if other.split(".")[0] == "geoxt" and FLOOR[part(other)] > FLOOR[name]
    }
    assert upward == set()


@pytest.mark.parametrize("name", PARTS)
def test_no_forbidden_imports(name):
    forbidden = {package for parts, names in FORBIDDEN.items() if name in parts.split() for package in names}
    violations = {
        f"{module} imports {root}"
        for module in modules_of(name)
        for root in roots(all_imports(module)) & forbidden - _torch_in_functions(module)
    }
    assert violations == set()


@pytest.mark.parametrize("name", PARTS)
def test_only_optional_packages_are_imported_inside_functions(name):
    violations = {
        f"{module} imports {root}"
        for module in set(modules_of(name)) - ON_FIRST_USE
        for root in roots(imports(module, nodes_in_functions(module))) - OPTIONAL - _torch_in_functions(module)
    }
    assert violations == set()


def test_only_entry_points_import_by_name():
    assert {module for module in FILES if "importlib" in all_imports(module)} == ON_FIRST_USE


def test_imports_have_no_circles():
    graph = {name: all_imports(name) & set(FILES) - {name} for name in FILES}
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
import geoxt.inference, geoxt.cli.predict
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded() -> list[set[str]]:
    """Return the modules loaded by geoxt, by the openers, and by prediction, in a new interpreter."""
    run = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    return [set(line.split()) for line in run.stdout.splitlines()]


def test_torch_is_not_loaded_to_open_layers(loaded):
    """`import geoxt` loads xarray and little else; counted in modules, as a duration depends on the machine."""
    package, openers, _ = loaded
    assert "geoxt" in package
    assert package & {*TORCH, "matplotlib", "rasterio"} == set()
    assert len(package) < 60
    assert "geoxt.source.mosaic" in openers
    assert openers & {*TORCH, "matplotlib"} == set()


def test_prediction_does_not_load_lightning(loaded):
    """Workers of a cluster do not need it."""
    *_, modules = loaded
    assert "torch" in modules
    assert modules & {*LIGHTNING, "torchmetrics", "torchvision", "matplotlib"} == set()
    assert [name for name in modules if name.startswith("geoxt.trainers")] == []


def test_public_functions_and_modules_have_different_names():
    """Importing a module sets its name on the package, over any function of that name."""
    parts = {part(module) for module in FILES}
    assert {
        name for name in geoxt.__all__ if name in parts and not isinstance(getattr(geoxt, name), ModuleType)
    } == set()
