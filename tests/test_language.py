"""Docstrings, errors, warnings, help texts, names and documentation pages are plain technical English."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from support.syntax import literal_text, syntax_nodes

import geoxt
from geoxt.cli import parser

PACKAGE = Path(geoxt.__file__).parent
ROOT = Path(__file__).parents[1]
IDIOMS = {
    # relative clauses without a noun
    r"\b(of|by|from|to|in|with|than|on|for|as|is|are|over) what\b": "name the object: 'the values', 'the files'",
    r"^what\b|^(return|tell|give|say|raise|know) what\b": "name the object",
    r"\b(those|ones) (that|which)\b": "name the object",
    r"\bone of (these|those)\b": "name the object",
    r"\bwhere there (is|are) (one|none|no|some|any)\b|\bwhere it (is|has) (one|none)\b": "write 'if …', 'or None'",
    r"\bnothing (is|where)\b|\bthere is none\b|\bthat is not there\b": "say what is absent, or 'empty'",
    r"\ball that (is|are|was|it|they|a|an|the)\b": "write 'all …' with a noun",
    r"\bas it (is|was|comes|stands)\b|\bas they (are|were|come|stand)\b": "write 'unchanged'",
    # words of this code base only
    r"\bthings?\b": "write 'detection', 'instance', 'object'",
    r"\bfinds\b(?! (a|an|the|its|no|every|each|all|paths|files)\b)": "write 'detections'",
    r"\b(its|their|his|your|of (its|their)) own\b|\bown\b(?! files)": "name the owner, or leave it out",
    r"\bgo(es)? on\b|\bgone on\b": "write 'resume', 'continue'",
    r"(?<!cannot )\bplaces?\b": "write 'position', 'location', 'grid', 'window'",
    r"^tells? (whether|which|if)\b|\b(told|tells)\b": "write 'Whether …', 'states', 'known'",
    r"^refuses?\b": "write 'Raise if …'",
    r"\bmend(s|ed)?\b": "write 'fix'",
    r"\bstrange(rs?)?\b": "write 'unknown'",
    r"\bsurest\b|\bhow sure\b": "write 'highest score', 'confidence'",
    r"\b(the|its|their|each|a|no|in|of) shares?\b|^shares?\b": "write 'fraction', 'weight'",
    r"\bat (most|least) \w+ (that|which)\b": "write 'maximum', 'minimum'",
    r"\bfor ever\b|\banew\b|\bto and fro\b": "write 'again', 'forever'",
    r"\bbut for\b": "write 'except'",
    r"\bif there (is|are) (one|any|none)\b": "write 'or `None`', or name the object",
    r"\b(the|a) last word\b|\bno fault of\b": "write 'takes precedence', 'error of'",
    r"\b(something|anything) else\b|\bwhatever\b|\bhowever (often|many)\b": "name the object, 'regardless of …'",
    r"\b(is|are|was|were) (asked|wanted|known|kept|put) (of|for|from|by|to|with)\b": "write 'requested', 'stored'",
}
"""Idioms, and what to write instead."""
ANY_IDIOM = re.compile("|".join(f"(?:{idiom})" for idiom in IDIOMS), re.IGNORECASE)
VAGUE_NAMES = {
    "asked", "found", "given", "got", "here", "it", "kept", "mine", "one", "own", "place", "places", "rest", "said",
    "says", "seen", "some", "thing", "things", "told", "wanted", "whole",
}  # fmt: skip
"""Names of variables, arguments, functions and classes that denote no object of the domain."""
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in {"changelog.md", "_gallery.md"}),
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]
"""Pages whose prose is checked."""
TESTS = sorted((ROOT / "tests").rglob("*.py"))
NAMED_PARTS = ["geoxt", "benchmarks", "tests"]
"""Folders and files whose names are checked."""


def first_lines(nodes: Sequence[ast.AST]):
    """Yield the line number and the summary of every docstring."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in nodes:
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), " ".join(text.partition("\n\n")[0].split())


def messages(nodes: Sequence[ast.AST]):
    """Yield the line number and the literal text of errors and warnings."""
    for node in nodes:
        match node:
            case ast.Raise(exc=ast.Call(args=arguments, keywords=keywords)):
                expressions = [*arguments, *(keyword.value for keyword in keywords if keyword.arg == "remedy")]
            case ast.Call(func=ast.Attribute(attr="warn"), args=[message, *_]):
                expressions = [message]
            case ast.Assign(targets=[ast.Name(id="msg" | "problem" | "remedy")], value=value):
                expressions = [value]
            case ast.AugAssign(target=ast.Name(id="msg" | "problem" | "remedy"), value=value):
                expressions = [value]
            case _:
                continue
        yield from ((expression.lineno, text) for expression in expressions if (text := literal_text(expression, "{}")))


def bound_names(nodes: Sequence[ast.AST]):
    """Yield the line number and the name of every variable, argument, function, class and import alias."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def idioms_of(text: str) -> list[str]:
    """Return the idioms in a text, without its quoted parts."""
    unquoted = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "x", text)
    if not ANY_IDIOM.search(unquoted):
        return []
    return [idiom for idiom in IDIOMS if re.search(idiom, unquoted, re.IGNORECASE)]


def printed_texts(nodes: Sequence[ast.AST]):
    """Yield the line number and the text of strings of four words or more, such as help texts and report prose."""
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr) and len((text := literal_text(node, "{}")).split()) >= 4:
            yield node.lineno, text


def paragraphs(page: str):
    """Yield the line number and the text of each paragraph, item and table row of a Markdown page, without code."""
    blank = re.sub(r"(?ms)^```.*?^```$|<!--.*?-->", lambda code: "\n" * code[0].count("\n"), page)
    for match in re.finditer(r"(?ms)^\S.*?(?=^\s*$|^[*#|]|^\d\.|\Z)", blank):
        yield blank.count("\n", 0, match.start()) + 1, " ".join(re.sub(r"\]\([^)]*\)", "]", match[0]).split())


@cache
def faults() -> dict[str, list[str]]:
    """Return the idioms of each folder of the package, with file, line and text."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE.parent)
        folder = "/".join(relative.parts[:2])
        nodes = syntax_nodes(path)
        for line, text in sorted({*first_lines(nodes), *messages(nodes)}):
            for idiom in idioms_of(text):
                by_folder.setdefault(folder, []).append(f"{relative}:{line}: {text!r} has {idiom!r}: {IDIOMS[idiom]}")
    return by_folder


FOLDERS = sorted({"/".join(path.relative_to(PACKAGE.parent).parts[:2]) for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_messages_avoid_idioms(folder):
    assert "\n".join(faults().get(folder, [])) == ""


@pytest.mark.parametrize("part", NAMED_PARTS)
def test_names_are_nouns_of_the_domain(part):
    path = ROOT / part
    names = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))
        for line, name in bound_names(syntax_nodes(file))
        if name.strip("_").lower() in VAGUE_NAMES
    ]
    assert names == []


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_avoid_idioms(script):
    nodes = syntax_nodes(script)
    texts = sorted({*first_lines(nodes), *printed_texts(nodes)})
    assert [(line, text, idioms) for line, text in texts if (idioms := idioms_of(text))] == []


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in TESTS}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_docstrings_and_names_of_tests_avoid_idioms(folder):
    idioms = []
    for path in (path for path in TESTS if path.parent == folder):
        nodes = syntax_nodes(path)
        functions = [(node.lineno, node.name) for node in nodes if isinstance(node, ast.FunctionDef)]
        texts = [*first_lines(nodes), *((line, name.replace("_", " ").strip()) for line, name in functions)]
        idioms += [f"{path.name}:{line}: {text} has {idiom}" for line, text in texts for idiom in idioms_of(text)]
    assert idioms == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documentation_avoids_idioms(page):
    texts = list(paragraphs(page.read_text()))
    assert texts
    assert [(line, text, idioms) for line, text in texts if (idioms := idioms_of(text))] == []


def test_help_texts_avoid_idioms():
    helps = [action.help for command in [parser()] for action in command._actions if action.help]
    for actions in parser()._subparsers._group_actions:
        for command in actions.choices.values():
            helps += [command.description or "", *(action.help or "" for action in command._actions)]
    assert [(text, idioms) for text in helps if (idioms := idioms_of(text))] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Return what each class is worth.", 1),
        ("Two finds are the same thing.", 2),
        ("Return the per-class IoU.", 0),
        ("Return paths, or an empty list.", 0),
    ],
)
def test_idioms_are_recognized(text, count):
    assert len(idioms_of(text)) == count


def test_paragraphs_leave_out_code():
    page = "# Title\n\nFirst line\nof [text](url).\n\n```python\nthings()\n```\n\n* an item\n* another\n| a | row |\n"
    assert list(paragraphs(page)) == [
        (1, "# Title"),
        (3, "First line of [text]."),
        (10, "* an item"),
        (11, "* another"),
        (12, "| a | row |"),
    ]
