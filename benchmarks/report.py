"""Markdown tables, and a description of the machine, for the benchmark results."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(*packages: str) -> str:
    """Return a line with cores, processor, and versions of Python and packages."""
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), Linux, Python {platform.python_version()}, {versions}."
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write(name: str, parts: Sequence[str]) -> Path:
    """Write a Markdown file to the results folder, and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    path.write_text("\n\n".join(parts) + "\n")
    return path
