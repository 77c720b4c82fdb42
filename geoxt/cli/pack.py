"""`geoxt pack`: windows of images and labels, read and aligned once, as a Zarr store for training."""

from __future__ import annotations

import argparse
from pathlib import Path

from geoxt.bridge import pack
from geoxt.cli.image_and_labels import open_image_and_labels
from geoxt.samplers import GridSampler, RandomSampler, WindowSequence


def pack_command(args: argparse.Namespace) -> Path:
    """Write a pack of random windows, or of the windows of a grid; return its path."""
    data = open_image_and_labels(args.image, args.labels, product=args.product, crs=args.crs)
    windows: WindowSequence
    if args.count is None:
        windows = GridSampler(data, size=args.size, stride=args.stride)
    else:
        windows = RandomSampler(data, size=args.size, length=args.count, seed=args.seed)
    return pack(data, windows, args.out, compression="zstd" if args.compress else None)
