"""The rates of `samplers.py` as tables and as a figure."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from report import machine, table

SAMPLERS = ("random", "random-batch", "grid")
WANTED = {"random": 20, "random-batch": 20, "grid": 10}
"""How many times TorchGeo's rate is asked for."""
GRIDS = {"cdl": "crop map's (7 bands warped)", "landsat": "scenes' (labels and half of the scenes warped)"}
COLORS = {"random": "#0072b2", "random-batch": "#d55e00", "grid": "#009e73"}
"""Told apart by those who are colour-blind (Okabe and Ito)."""
Middle = Mapping[tuple[str, ...], float]
"""Median rates by library, experiment, kind of files, sampler, batch size, mix."""
Every = Mapping[tuple[str, ...], list[float]]
"""The same of every run, in their order."""


def best(middle: Middle, *key: str) -> tuple[float, str]:
    """Return the best rate of some mixes of workers and threads, and that mix."""
    found = {k[-1]: rate for k, rate in middle.items() if k[: len(key)] == key}
    mix = max(found, key=lambda m: found[m], default="")
    return found.get(mix, float("nan")), mix


def against(middle: Middle, every: Every) -> str:
    """Return the table of rates and ratios on the two grids.

    The ratio is the median of those of each pair of runs, which took turns: the machine's own pace then falls out.
    """
    mixes = sorted({k[-1] for k in middle if k[:2] == ("geoxt", "main")})
    rows = []
    for into, title in GRIDS.items():
        for sampler in SAMPLERS:
            key = "main", into, sampler, "32"
            theirs, peer = best(middle, "torchgeo", *key)
            _, mix = best(middle, "geoxt", *key)
            pairs = zip(every["geoxt", *key, mix], every["torchgeo", *key, peer], strict=False)
            ratios = sorted(a / b for a, b in pairs)
            each = [f"{middle.get(('geoxt', *key, m), float('nan')):.0f}" for m in mixes]
            ratio = f"**{median(ratios):.1f}** ({ratios[0]:.1f} to {ratios[-1]:.1f}, {mix})"
            rows.append([title, sampler, f"{theirs:.1f}", *each, ratio, f"{WANTED[sampler]}"])
    return table(["grid", "sampler", "TorchGeo", *[f"geoxt {m}" for m in mixes], "ratio", "asked for"], rows)


def files(middle: Middle) -> str:
    """Return the table of kinds of files (Figure 3 b)."""
    kinds = {
        "raw, opened for each read": ("open", "cdl"),
        "raw, handles kept": ("main", "cdl"),
        "pre-aligned, opened for each read": ("open", "aligned"),
        "pre-aligned, handles kept": ("files", "aligned"),
        "in memory": ("files", "memory"),
    }
    rows = []
    for title, key in kinds.items():
        for library in ("torchgeo", "geoxt"):
            found = [best(middle, library, *key, s, "32")[0] for s in SAMPLERS]
            if found[0] == found[0]:
                rows.append([title, library, *[f"{rate:.0f}" for rate in found]])
    return table(["files", "library", *SAMPLERS], rows)


def bare(middle: Middle) -> str:
    """Return the table of shares of the rate of plain reads, where nothing needs warping."""
    rows = []
    for sampler in SAMPLERS:
        ours, mix = best(middle, "geoxt", "files", "aligned", sampler, "32")
        plain, threads = best(middle, "rasterio", "files", "aligned", sampler, "32")
        rows.append([sampler, f"{plain:.0f} ({threads})", f"{ours:.0f} ({mix})", f"**{ours / plain:.0%}**"])
    return table(["sampler", "rasterio reads (threads)", "geoxt (workers:threads)", "share"], rows)


def by_size(middle: Middle) -> str:
    """Return the table of rates by batch size (Figure 3 a)."""
    sizes = sorted({int(k[4]) for k in middle if k[1] == "sizes"})
    rows = [
        [library, sampler, *[f"{best(middle, library, 'sizes', 'cdl', sampler, str(n))[0]:.0f}" for n in sizes]]
        for library in ("torchgeo", "geoxt")
        for sampler in SAMPLERS
    ]
    return table(["library", "sampler", *[str(n) for n in sizes]], rows)


def pages(middle: Middle, every: Every, args: argparse.Namespace) -> list[str]:
    """Return the parts of samplers.md."""
    runs, mixes = (" or ".join(map(str, some)) for some in (args.counts, args.peer_mix))
    how = (
        f"Made by `work.py` and `samplers.py`; medians of {runs} alternating runs, files in the page cache. TorchGeo "
        f"0.10.1 reads with {mixes} workers, geoxt with workers:threads as given; the better median counts."
    )
    parts = [
        "# Patches a second, beside TorchGeo",
        f"Patches of 7 x 224 x 224 float32 and 224 x 224 int64, collated; the grid sampler's stride is 112. {how}",
        machine("torch", "rasterio", "numpy"),
        "## Batches of 32",
        against(middle, every),
    ]
    if any(k[1] == "files" for k in middle):
        parts += ["## Raw, pre-aligned, cached (Figure 3 b), batches of 32", files(middle)]
        parts += ["## Where nothing needs warping: the share of plain reads", bare(middle)]
    if any(k[1] == "sizes" for k in middle):
        parts += ["## By batch size (Figure 3 a), into the crop map's grid", by_size(middle), "![](samplers.png)"]
    return parts


def draw(middle: Middle, path: Path) -> None:
    """Draw rates against batch size: geoxt's in full lines, TorchGeo's dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for library, style in (("geoxt", "-"), ("torchgeo", "--")):
        for sampler in SAMPLERS:
            sizes = sorted({int(k[4]) for k in middle if k[:2] == (library, "sizes")})
            found = {n: best(middle, library, "sizes", "cdl", sampler, str(n))[0] for n in sizes}
            name = f"{'TorchGeo' if library == 'torchgeo' else library}, {sampler}"
            axes.plot(sizes, [found[n] for n in sizes], style, marker="o", color=COLORS[sampler], label=name)
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="patches a second")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.set_yticks([10, 20, 50, 100, 200, 500, 1000, 2000])
    axes.set_yticklabels([f"{n:.0f}" for n in axes.get_yticks()])
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
