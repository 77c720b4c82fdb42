"""Checks of model files before they are loaded: torch would run code that a `.pt2` or TorchScript file holds."""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from geoxt.errors import InputError

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision)\.\w+\.\w+|torch\.sym_\w+|_operator\.\w+|math\.\w+")
"""Targets of `.pt2` graphs. `torch.export.load` resolves any path below `torch`, such as `torch.os.system`."""
_FILE_OPERATORS = {"save", "from_file", "PythonOp", "attrgetter", "methodcaller", "call", "itemgetter"}
"""Operators that read and write files, or call others."""
_PLAIN_TEXT = re.compile(r"[\w.:+<>/-]*")
"""Strings of a `.pt2` graph that are neither code nor one of the following fields."""
_UNUSED_FIELDS = {"as_string", "stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"}
"""Fields that torch never evaluates: texts are written into the graph's code by `repr`."""
_SYMPY = {
    "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv",
    "Integer", "Float", "Rational", "Symbol", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or",
    "Not", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan",
    "Identity", "TruncToInt", "TruncToFloat", "CeilToInt", "FloorToInt", "RoundToInt", "ToFloat", "Piecewise",
    "ITE", "Where", "PowByNatural",
}  # fmt: skip
"""Functions of symbolic sizes, as torch prints them."""
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_EXPRESSION = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
    ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword, ast.Tuple,
)  # fmt: skip
"""Nodes of arithmetic expressions."""


def check_pt2(content: bytes, title: str, *, trust: bool = False) -> None:
    """Raise if loading or running a `torch.export` archive could run code other than torch's tensor operators.

    `torch.export.load` unpickles objects of any type, evaluates the texts of symbolic sizes and guards as Python code,
    and calls functions by the names in the graph; an AOTInductor package holds a native library.

    Raises
    ------
    InputError
        If the archive holds such content, and it is not trusted.
    """
    if trust:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {name: name.partition("/")[2] for name in archive.namelist()}
        for full, name in names.items():
            if name.startswith(("data/aotinductor/", "data/executorch/")):
                raise _untrusted_error(title, f"it holds compiled code, {name!r}")
            if name.endswith("_config.json"):
                pickled = [v["path_name"] for v in json.loads(archive.read(full))["config"].values() if v["use_pickle"]]
                for path in pickled:
                    _check_pickle(archive.read(f"{full.rpartition('/')[0]}/{path}"), title, path)
            elif name.endswith(".pt"):
                _check_pickle(archive.read(full), title, name)
            elif name.startswith("models/") and name.endswith(".json"):
                _check_graph(json.loads(archive.read(full)), title)


def _check_pickle(content: bytes, title: str, name: str) -> None:
    """Raise if a part holds objects other than tensors, which torch would unpickle if `weights_only` fails."""
    if content:
        try:
            torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises a dozen types of errors
            raise _untrusted_error(title, f"{name!r} holds objects other than tensors") from error


def _check_graph(graph: Any, title: str) -> None:
    for key, text in _strings(graph):
        match key:
            case "target" | "as_operator":
                allowed = bool(_OPERATOR.fullmatch(text)) and not set(text.split(".")) & _FILE_OPERATORS
            case "expr_str":
                allowed = _is_arithmetic(text, guards=False)
            case "guards_code":
                allowed = _is_arithmetic(text, guards=True)
            case "in_spec" | "out_spec":
                allowed = {v for k, v in _strings(json.loads(text), of_null=True) if k == "type"} <= _TREE_TYPES
            case _:
                allowed = key in _UNUSED_FIELDS or bool(_PLAIN_TEXT.fullmatch(text))
        if not allowed:
            raise _untrusted_error(title, f"its field {key!r} is {text[:80]!r}")


def _strings(value: Any, key: str = "", *, of_null: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield each text of nested JSON with its key; keys are texts as well."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            yield from _strings(item, name, of_null=of_null)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key, of_null=of_null)
    elif isinstance(value, str) or (of_null and value is None):
        yield key, value


def _is_arithmetic(text: str, *, guards: bool) -> bool:
    """Whether a text is arithmetic of symbols; guards may also hold `L['image'].size()[0]` and `torch.sym_max`."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False
    further = (ast.Attribute, ast.Subscript) if guards else ()
    for node in nodes:
        if not isinstance(node, (*_EXPRESSION, *further)):
            return False
        if isinstance(node, ast.Attribute) and not re.fullmatch(r"size|stride|sym_\w+", node.attr):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"\w+", node.value):
            return False
        if isinstance(node, ast.Call):
            is_allowed = isinstance(node.func, ast.Attribute) if guards else getattr(node.func, "id", "") in _SYMPY
            if not is_allowed:
                return False
    return True


def check_torchscript(content: bytes, title: str, *, trust: bool = False) -> None:
    """Raise if a TorchScript archive uses operators on files: its code runs when it is loaded, as `__setstate__`.

    TorchScript itself has no other access to the system, and its objects are read by a restricted unpickler.

    Raises
    ------
    InputError
        If the archive uses such operators or native classes, and it is not trusted.
    """
    if trust:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if "/code/" in name and name.endswith(".py"):
                _check_script(archive.read(name).decode(), title)


def _check_script(text: str, title: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _untrusted_error(title, "its code cannot be checked") from error
    for node in nodes:
        if isinstance(node, ast.Attribute) and (node.attr in _FILE_OPERATORS or _is_native_class(node)):
            raise _untrusted_error(title, f"its code uses {ast.unparse(node)!r}")


def _is_native_class(node: ast.Attribute) -> bool:
    return node.attr == "classes" and ast.unparse(node.value).endswith("torch")


def _untrusted_error(title: str, reason: str) -> InputError:
    msg = f"Cannot load the model {title!r}, which could run code of its author: {reason}."
    return InputError(msg, remedy="Pass geoxt.models.from_file(…, trust=True) as the model if you trust its source.")
