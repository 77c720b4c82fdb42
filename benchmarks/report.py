"""Tables and machine facts for the results that the benchmarks write."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; numbers to the right, the first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(*packages: str) -> str:
    """Return a line that says what it ran on: cores, processor, Python and packages."""
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), Linux, Python {platform.python_version()}, {versions}."
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write(name: str, parts: Sequence[str]) -> Path:
    """Write a result in Markdown and print it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    path.write_text("\n\n".join(parts) + "\n")
    return path
