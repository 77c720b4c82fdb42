"""Errors carry fields, and every argument that a remedy names exists."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from support.syntax import literal_text, syntax_nodes

import geoxt
from geoxt import errors
from geoxt.errors import CRSError, GeoxtError, InputError, MissingDependency, OutputError, ReadError, arguments_of

PACKAGE = Path(geoxt.__file__).parent
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GeoxtError)]
NAMES = {kind.__name__ for kind in ERRORS}


@cache
def package_nodes() -> dict[str, tuple[ast.AST, ...]]:
    """Return the nodes of the syntax tree of every file of the package."""
    return {str(path.relative_to(PACKAGE)): syntax_nodes(path) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def raised_remedies():
    """Return the file, the enclosing functions and the literal text of every remedy in the package.

    Remedies are the arguments `remedy=` and the texts assigned to variables named `remedy`.
    """
    remedies = []
    for path, nodes in package_nodes().items():
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in nodes:
            match node:
                case ast.Call(keywords=keywords):
                    texts = [keyword.value for keyword in keywords if keyword.arg == "remedy"]
                case ast.Assign(targets=[ast.Name(id="remedy")], value=text):
                    texts = [text]
                case ast.AugAssign(target=ast.Name(id="remedy"), value=text):
                    texts = [text]
                case _:
                    continue
            around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            remedies += [(f"{path}:{node.lineno}", around, literal_text(text)) for text in texts]
    return remedies


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    arguments = function.args
    return {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def public_parameters() -> set[str]:
    """Return the parameter names of all public functions, and the fields of all public classes."""
    names: set[str] = set()
    for nodes in package_nodes().values():
        for node in nodes:
            if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                names |= parameters(node)
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names |= {
                    field.target.id
                    for field in node.body
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                }
    return names


def test_arguments_named_by_remedies_are_parameters():
    known = public_parameters()
    unknown = [
        f"{source}: {{{name}}}"
        for source, functions, remedy in raised_remedies()
        for name in arguments_of(remedy)
        if name not in known and not any(name in parameters(function) for function in functions)
    ]
    assert not unknown


CALL = re.compile(r"(?<![\w.])((?:\w+\.)*\w+)\(([^()]*)\)")
"""A call in a text, such as `open_cogs(…, categorical=True)`, without nested calls."""
FOREIGN = {"xarray", "xr", "torch", "np", "rasterio", "odc", "dask", "client", "series"}
KEYWORD = re.compile(r"(?:^|[,\s(…])([a-z_]\w*)=(?!=)")


def class_fields(node):
    return {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def callables():
    """Return the parameter names of the functions and classes of the package by their names; `None`: any keyword."""
    nodes = [node for nodes in package_nodes().values() for node in nodes]
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}

    def accepted(function):
        options = function.args.kwarg
        match options and options.annotation:
            case None if options is None:
                return parameters(function)
            case ast.Subscript(value=ast.Name(id="Unpack"), slice=ast.Name(id=name)) if name in classes:
                bases = {base.id for base in classes[name].bases if isinstance(base, ast.Name)}
                fields = [class_fields(classes[n]) for n in (name, *bases & classes.keys())]
                return parameters(function).union(*fields)
            case _:
                return None

    known = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            known.setdefault(node.name, []).append(accepted(node))
        elif isinstance(node, ast.ClassDef):
            inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            inherits = not inits and node.bases  # whose arguments are not looked up
            known.setdefault(node.name, []).append(
                None if inherits else accepted(inits[0]) if inits else class_fields(node)
            )
    return known


def texts():
    """Yield the source and the text of every string literal in the package, and of every page of the docs."""
    for name, nodes in package_nodes().items():
        for node in nodes:
            if isinstance(node, ast.Constant | ast.JoinedStr) and (text := literal_text(node)):
                yield f"{name}:{node.lineno}", text
    root = PACKAGE.parent
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        if path.is_file() and path.name != "changelog.md":
            yield path.name, path.read_text(encoding="utf-8")


def unknown_keywords(text, known):
    """Return the calls in a text that pass an argument which no function of that name has."""
    unknown = []
    for name, arguments in CALL.findall(text):
        signatures = known.get(name.rpartition(".")[2], [None])
        if None in signatures or name.split(".")[0] in FOREIGN:
            continue
        unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", arguments)
        unknown += [f"{name}({k}=)" for k in KEYWORD.findall(unquoted) if not any(k in names for names in signatures)]
    return unknown


def test_calls_in_messages_and_docs_pass_existing_arguments():
    known = callables()
    assert unknown_keywords("Pass open_cogs(…, categorical=True), align(resampling='a=b').", known) == []
    assert unknown_keywords("Pass open_cogs(…, classes=1), or min_covered= of by_block(min_covered=0).", known) == [
        "open_cogs(classes=)",
        "by_block(min_covered=)",
    ]
    assert not [f"{source}: {call}" for source, text in texts() for call in unknown_keywords(text, known)]


def test_remedies_name_no_cli_flag():
    assert not [source for source, _, remedy in raised_remedies() if "--" in remedy and not source.startswith("cli/")]


def test_str_shows_arguments_as_in_python():
    error = CRSError("Cannot choose one CRS.", remedy="Pass {crs:'native'}. Or pass {crs}.")
    assert str(error) == "Cannot choose one CRS. Pass crs='native'. Or pass crs=."


def test_render_shows_arguments_as_flags():
    error = CRSError("Cannot choose one CRS", remedy="Pass {crs:'native'}, or {crs} of a scene.")
    assert error.render({"crs": "--crs"}) == "Cannot choose one CRS. Pass --crs native, or --crs of a scene."


def test_render_leaves_out_sentences_with_arguments_that_have_no_flag():
    error = InputError("Cannot read.", remedy="Pass {bands}. Or pass {crs}, such as {crs:'native'}. See the docs.")
    assert error.render({"crs": "--crs"}) == "Cannot read. Pass --crs, such as --crs native. See the docs."
    assert error.render({}, otherwise="See --help.") == "Cannot read. See the docs."
    assert InputError("No.", remedy="Pass {bands}.").render({}, otherwise="See --help.") == "No. See --help."


def test_render_takes_a_function_of_the_argument():
    error = InputError("Cannot train.", remedy="Pass {max_epochs:10}.")
    assert error.render(lambda name: f"{name}:") == "Cannot train. Pass max_epochs: 10."


def test_braces_of_problems_and_doubled_braces_are_literal():
    error = InputError("Cannot find '{id}.tif'.", remedy="Write {{id}} once in {path}.")
    assert str(error) == "Cannot find '{id}.tif'. Write {id} once in path=."
    assert error.render({"path": "--path"}) == "Cannot find '{id}.tif'. Write {id} once in --path."


@pytest.mark.parametrize("kind", ERRORS)
def test_one_argument_is_the_message(kind):
    error = kind("Cannot read x: pass y")
    assert str(error) == "Cannot read x: pass y"
    assert error.args == ("Cannot read x: pass y",)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("duplicate", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_fields_survive_pickling(kind, duplicate):
    error = kind("Cannot read.", remedy="Pass {size}.", value=3, argument="size")
    error.add_note("In scene 'a'.")
    again = duplicate(error)
    assert type(again) is kind
    assert (again.problem, again.remedy, again.value, again.argument) == ("Cannot read.", "Pass {size}.", 3, "size")
    assert again.__notes__ == ["In scene 'a'."]


def test_errors_are_also_builtin_errors():
    assert issubclass(InputError, ValueError)
    assert issubclass(ReadError, OSError)
    assert issubclass(OutputError, OSError)
    assert issubclass(MissingDependency, ImportError)


def test_failed_optional_import_names_package_and_extra():
    with pytest.raises(errors.MissingDependency) as caught, errors.optional_import("absent", "zarr", "write a store"):
        import_module("geoxt_absent_package")
    assert str(caught.value) == "Cannot write a store without absent. Run: pip install 'geoxt[zarr]'."
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(KeyError), errors.optional_import("zarr", "zarr", "write a store"):
        raise KeyError
