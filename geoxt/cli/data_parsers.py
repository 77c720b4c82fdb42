"""Options of the commands for datasets, packs, cached blocks and reading speed."""

from __future__ import annotations

from typing import Any

from geoxt.cli.map_parsers import add_opening


def add_datasets(commands: Any) -> None:
    """Add the command `datasets`."""
    datasets = commands.add_parser("datasets", description="Benchmark datasets: list, describe, download and verify.")
    actions = datasets.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list all datasets")
    info = actions.add_parser("info", help="describe a dataset")
    fetch = actions.add_parser("fetch", help="download, verify and extract a dataset")
    fetch.add_argument("--no-checksum", dest="checksum", action="store_false", help="skip checksum verification")
    fetch.add_argument("--force", action="store_true", help="extract again over broken or missing files")
    fetch.add_argument(
        "--no-keep-archives",
        dest="keep_archives",
        action="store_false",
        help="remove downloaded archives after their extraction",
    )
    verify = actions.add_parser("verify", help="compare the files on disk with the release")
    verify.add_argument("--deep", action="store_true", help="also read every sample")
    for action in (info, fetch, verify):
        action.add_argument("name", metavar="NAME", help="name in `geoxt datasets list`")
    for action in (fetch, verify):
        action.add_argument("root", metavar="DIR", help="folder of the dataset")
        action.add_argument("--split", nargs="+", metavar="SPLIT", help="only archives of these splits")
        action.add_argument("--assets", nargs="+", metavar="KEY", help="only these assets, such as: image mask")
        action.add_argument(
            "--where", nargs="+", metavar="FIELD=VALUE", help="only these field values of the paths: state=de_1m_2013"
        )


def add_pack(commands: Any) -> None:
    """Add the command `pack`."""
    pack = commands.add_parser(
        "pack",
        description="Read windows of an image and labels once, aligned, and store them for training as a Zarr store "
        "that open_pack opens.",
    )
    pack.add_argument("image", nargs="+", metavar="IMAGE", help="raster files or patterns, all bands")
    pack.add_argument("--out", required=True, metavar="DIR", help="folder of the pack")
    pack.add_argument("--labels", metavar="FILE", help="raster of class codes, aligned to the image")
    add_opening(pack)
    pack.add_argument(
        "--size", type=int, default=256, metavar="PIXELS", help="height and width of a window (default: %(default)s)"
    )
    pack.add_argument("--count", type=int, metavar="N", help="number of random windows (default: a grid of windows)")
    pack.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random windows (default: %(default)s)")
    pack.add_argument("--stride", type=int, metavar="PIXELS", help="step of the grid of windows (default: the size)")
    pack.add_argument("--compress", action="store_true", help="compress samples with zstd: smaller, slower to load")


def add_cache(commands: Any) -> None:
    """Add the command `cache`."""
    cache = commands.add_parser(
        "cache",
        description="Show or remove the cache of decoded blocks, which open_cogs, open_stac and open_zarr fill if "
        "cache= or GEOXT_BLOCK_CACHE names a folder.",
    )
    cache.add_argument("action", choices=["info", "clear"], help="show size and files, or remove all of them")
    cache.add_argument(
        "--folder",
        metavar="DIR[:SIZE]",
        help="folder of the cache (default: GEOXT_BLOCK_CACHE, else a folder in the user's cache folder)",
    )


def add_bench(commands: Any) -> None:
    """Add the command `bench`."""
    bench = commands.add_parser(
        "bench",
        description="Read windows of your files through the loader, and time combinations of workers and threads.",
    )
    bench.add_argument("image", nargs="+", metavar="IMAGE", help="raster files or patterns, all bands")
    bench.add_argument("--labels", metavar="FILE", help="raster of class codes, aligned to the image")
    add_opening(bench)
    bench.add_argument(
        "--size", type=int, default=256, metavar="PIXELS", help="height and width of a window (default: %(default)s)"
    )
    bench.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="windows per batch (default: %(default)s)"
    )
    bench.add_argument("--batches", type=int, default=16, metavar="N", help="timed batches (default: %(default)s)")
    bench.add_argument("--grid", action="store_true", help="read adjacent windows instead of random ones")
    bench.add_argument(
        "--num-workers", type=int, nargs="+", metavar="N", help="worker counts to time (default: 0, 1, 2, 4, ...)"
    )
    bench.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="repeats, of which the median counts (default: %(default)s)"
    )
