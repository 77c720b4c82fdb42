"""Syntax trees of Python files, parsed once per process."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def syntax_tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    collects = gc.isenabled()
    gc.disable()  # it would go through all earlier trees several times
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if collects:
            gc.enable()


@cache
def syntax_nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return the nodes of the syntax tree of a file, breadth first."""
    return tuple(ast.walk(syntax_tree(path)))


def literal_text(node: ast.expr, interpolated: str = "") -> str:
    """Return the literal parts of a string expression, with a text instead of each interpolated value."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(
                literal_text(value, interpolated) if isinstance(value, ast.Constant) else interpolated
                for value in values
            )
        case ast.BinOp(left=left, right=right):
            return literal_text(left, interpolated) + literal_text(right, interpolated)
        case ast.IfExp(body=body, orelse=orelse):
            return f"{literal_text(body, interpolated)} {literal_text(orelse, interpolated)}"
        case _:
            return ""
