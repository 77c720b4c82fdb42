"""Holds the floors of docs/architecture.md: imports only go down, none go round, and `import geoxt` stays light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import geoxt

PACKAGE = Path(__file__).parents[1] / "geoxt"
FLOORS = (
    "errors types storage retry tasks",
    "windows grid footprints legend template trees models transforms",
    "pixels",
    "source",
    "regions",
    "layers samplers splits alignment plot indices metrics",
    "bridge datasets",
    "writers",
    "trainers inference",
    "accessor testing",
    "geoxt cli __main__",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
LIGHTNING = {"lightning", "pytorch_lightning"}
TORCH = LIGHTNING | {"torch", "torchvision", "torchmetrics", "timm", "kornia", "segmentation_models_pytorch"}
FORBIDDEN = {
    "errors types storage retry tasks windows grid footprints legend template trees": TORCH | {"matplotlib"},
    "errors types storage retry tasks": {"rasterio", "xarray", "dask"},
    "layers samplers splits datasets alignment testing regions": TORCH | {"matplotlib"},
    "models transforms": LIGHTNING | {"xarray", "dask", "rasterio"},
    "pixels source bridge metrics": LIGHTNING | {"matplotlib"},
    "trainers inference": {"matplotlib"},
    "writers": TORCH | {"matplotlib"},
}
OPTIONAL = {"pytorch_lightning", "segmentation_models_pytorch", "timm", "torchmetrics", "matplotlib"}
OPTIONAL |= {"h5py", "jsonargparse", "kornia", "pooch", "safetensors", "torchvision", "tqdm"}
OPTIONAL |= {"pyogrio", "pyarrow", "geopandas", "pystac_client", "distributed", "hypothesis", "zarr"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def part(module: str) -> str:
    """Return the part of the package that a module belongs to; the package itself is the façade."""
    return module.split(".")[1] if "." in module else module


def imports(module: str, nodes) -> set[str]:
    """Return the absolute names that import statements among the nodes ask for; of geoxt's own, the modules."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively: write the module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found


def hidden(tree: ast.Module) -> list[ast.stmt]:
    """Return the imports that stand inside functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node for function in functions for node in ast.walk(function)]


@pytest.mark.parametrize("module", FILES)
def test_imports_only_go_down(module):
    assert part(module) in FLOOR, f"{module} stands on no floor: give it one here and in docs/architecture.md"
    own = {name for name in imports(module, ast.walk(TREES[module])) if name.split(".")[0] == "geoxt"}
    assert {name for name in own if FLOOR[part(name)] > FLOOR[part(module)]} == set()


@pytest.mark.parametrize("module", FILES)
def test_no_forbidden_imports(module):
    roots = {name.split(".")[0] for name in imports(module, ast.walk(TREES[module]))}
    forbidden = {name for parts, names in FORBIDDEN.items() if part(module) in parts.split() for name in names}
    assert roots & forbidden == set()


@pytest.mark.parametrize("module", FILES)
def test_only_optional_packages_are_imported_inside_functions(module):
    assert {name for name in imports(module, hidden(TREES[module])) if name.split(".")[0] not in OPTIONAL} == set()


def test_only_the_doors_import_by_name():
    doors = {name for name, tree in TREES.items() if "importlib" in imports(name, ast.walk(tree))}
    # what they bind is loaded on first use
    assert doors <= {"geoxt", "geoxt.accessor", "geoxt.cli", "geoxt.datasets.dataset"}


def test_no_import_goes_round():
    graph = {name: imports(name, ast.walk(tree)) & set(FILES) - {name} for name, tree in TREES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_importing_geoxt_is_light():
    code = "import sys, geoxt; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert "geoxt" in loaded
    assert loaded & {"torch", "pytorch_lightning", "lightning", "matplotlib"} == set()


def test_no_function_of_the_facade_has_the_name_of_a_module():
    """Importing a module sets its name on the package, over any function of that name."""
    parts = {part(module) for module in FILES}
    assert {
        name for name in geoxt.__all__ if name in parts and not isinstance(getattr(geoxt, name), ModuleType)
    } == set()
