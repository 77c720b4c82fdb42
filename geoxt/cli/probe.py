"""`geoxt probe`: scores of frozen encoders on labeled images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from geoxt.probes import ProbeOptions, open_images, run_probes
from geoxt.probes.probe_runs import TABLE

_OPTIONS = tuple(f.name for f in fields(ProbeOptions))


def probe_command(args: argparse.Namespace, *, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Score frozen encoders by the options of the command, and print the tables; see `geoxt.probes.run_probes`."""
    values = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name, None) is not None}
    hashable: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    options = ProbeOptions(**hashable)
    data = open_images(
        args.dataset,
        root=args.root,
        bands=args.bands,
        fractions=args.fractions,
        seed=options.seed,
        size=args.size,
        download=args.download,
    )
    report = run_probes(
        args.models, data, args.out, options=options, batch_size=args.batch_size, device=args.device, log=log
    )
    log(f"\n{(Path(args.out) / TABLE).read_text(encoding='utf-8')}")
    return report
