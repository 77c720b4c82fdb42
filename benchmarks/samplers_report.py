"""Tables and figure of the rates of `samplers.py`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from report import machine, table

SAMPLERS = ("random", "random-batch", "grid")
REQUIRED = {"random": 20, "random-batch": 20, "grid": 10}
"""Required ratio to the rate of TorchGeo."""
GRIDS = {"cdl": "crop map's (7 bands warped)", "landsat": "scenes' (labels and half of the scenes warped)"}
COLORS = {"random": "#0072b2", "random-batch": "#d55e00", "grid": "#009e73"}
"""Palette for color-blind readers (Okabe and Ito)."""
Medians = Mapping[tuple[str, ...], float]
"""Median rates by library, experiment, file kind, sampler, batch size, mix."""
RatesByKey = Mapping[tuple[str, ...], list[float]]
"""Rates of all runs, in order, by the same keys."""


def best(medians: Medians, *key: str) -> tuple[float, str]:
    """Return the best rate over mixes of workers and threads, and its mix."""
    rates = {k[-1]: rate for k, rate in medians.items() if k[: len(key)] == key}
    mix = max(rates, key=lambda m: rates[m], default="")
    return rates.get(mix, float("nan")), mix


def against(medians: Medians, rates_by_key: RatesByKey) -> str:
    """Return the table of rates and ratios on the two grids.

    The ratio is the median over pairs of alternating runs, so that changes of machine speed cancel.
    """
    mixes = sorted({k[-1] for k in medians if k[:2] == ("geoxt", "main")})
    rows = []
    for into, title in GRIDS.items():
        for sampler in SAMPLERS:
            key = "main", into, sampler, "32"
            torchgeo_rate, torchgeo_mix = best(medians, "torchgeo", *key)
            _, mix = best(medians, "geoxt", *key)
            pairs = zip(rates_by_key["geoxt", *key, mix], rates_by_key["torchgeo", *key, torchgeo_mix], strict=False)
            ratios = sorted(a / b for a, b in pairs)
            each = [f"{medians.get(('geoxt', *key, m), float('nan')):.0f}" for m in mixes]
            ratio = f"**{median(ratios):.1f}** ({ratios[0]:.1f} to {ratios[-1]:.1f}, {mix})"
            rows.append([title, sampler, f"{torchgeo_rate:.1f}", *each, ratio, f"{REQUIRED[sampler]}"])
    return table(["grid", "sampler", "TorchGeo", *[f"geoxt {m}" for m in mixes], "ratio", "required"], rows)


def files(medians: Medians) -> str:
    """Return the table of rates by file kind (Figure 3 b)."""
    kinds = {
        "raw, reopened for each read": ("open", "cdl"),
        "raw, open handles": ("main", "cdl"),
        "pre-aligned, reopened for each read": ("open", "aligned"),
        "pre-aligned, open handles": ("files", "aligned"),
        "in memory": ("files", "memory"),
    }
    rows = []
    for title, key in kinds.items():
        for library in ("torchgeo", "geoxt"):
            rates = [best(medians, library, *key, s, "32")[0] for s in SAMPLERS]
            if rates[0] == rates[0]:
                rows.append([title, library, *[f"{rate:.0f}" for rate in rates]])
    return table(["files", "library", *SAMPLERS], rows)


def bare(medians: Medians) -> str:
    """Return the table of rates relative to rasterio reads, without warping."""
    rows = []
    for sampler in SAMPLERS:
        geoxt_rate, mix = best(medians, "geoxt", "files", "aligned", sampler, "32")
        plain, threads = best(medians, "rasterio", "files", "aligned", sampler, "32")
        rows.append([sampler, f"{plain:.0f} ({threads})", f"{geoxt_rate:.0f} ({mix})", f"**{geoxt_rate / plain:.0%}**"])
    return table(["sampler", "rasterio reads (threads)", "geoxt (workers:threads)", "ratio"], rows)


def by_size(medians: Medians) -> str:
    """Return the table of rates by batch size (Figure 3 a)."""
    sizes = sorted({int(k[4]) for k in medians if k[1] == "sizes"})
    rows = [
        [library, sampler, *[f"{best(medians, library, 'sizes', 'cdl', sampler, str(n))[0]:.0f}" for n in sizes]]
        for library in ("torchgeo", "geoxt")
        for sampler in SAMPLERS
    ]
    return table(["library", "sampler", *[str(n) for n in sizes]], rows)


def pages(medians: Medians, rates_by_key: RatesByKey, args: argparse.Namespace) -> list[str]:
    """Return the sections of samplers.md."""
    runs, mixes = (" or ".join(map(str, numbers)) for numbers in (args.counts, args.peer_mix))
    about = (
        f"Made by `make_data.py` and `samplers.py`; medians of {runs} alternating runs, files in the page cache. "
        f"TorchGeo 0.10.1 reads with {mixes} workers, geoxt with workers:threads as stated; the better median counts."
    )
    parts = [
        "# Patches per second of geoxt and TorchGeo",
        f"Patches of 7 x 224 x 224 float32 and 224 x 224 int64, collated; the grid sampler's stride is 112. {about}",
        machine("torch", "rasterio", "numpy"),
        "## Batches of 32",
        against(medians, rates_by_key),
    ]
    if any(k[1] == "files" for k in medians):
        parts += ["## Raw, pre-aligned, cached (Figure 3 b), batches of 32", files(medians)]
        parts += ["## Without warping, relative to rasterio reads", bare(medians)]
    if any(k[1] == "sizes" for k in medians):
        parts += ["## By batch size (Figure 3 a), into the crop map's grid", by_size(medians), "![](samplers.png)"]
    return parts


def draw(medians: Medians, path: Path) -> None:
    """Plot rates against batch size: geoxt solid, TorchGeo dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for library, style in (("geoxt", "-"), ("torchgeo", "--")):
        for sampler in SAMPLERS:
            sizes = sorted({int(k[4]) for k in medians if k[:2] == (library, "sizes")})
            rates = {n: best(medians, library, "sizes", "cdl", sampler, str(n))[0] for n in sizes}
            name = f"{'TorchGeo' if library == 'torchgeo' else library}, {sampler}"
            axes.plot(sizes, [rates[n] for n in sizes], style, marker="o", color=COLORS[sampler], label=name)
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="patches per second")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.set_yticks([10, 20, 50, 100, 200, 500, 1000, 2000])
    axes.set_yticklabels([f"{n:.0f}" for n in axes.get_yticks()])
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
