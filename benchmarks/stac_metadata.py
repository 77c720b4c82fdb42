"""Compare the band metadata that geoxt and odc-stac parse from STAC items, and time opening them.

    python benchmarks/stac_metadata.py compare shared/data/stac
    python benchmarks/stac_metadata.py time shared/data/stac --trees . ../before --runs 5

`compare` prints, per catalog and field, the number of bands whose values differ. `time` opens 1,000 Sentinel-2 items
(10 copies of 100) and 10,000 NAIP items, alternating between source trees, and prints the median CPU seconds of each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median

OPEN = """
import sys, time, warnings
warnings.simplefilter("ignore")
from geoxt.layers import open_stac
try:
    from geoxt.layers.stac.sources import read_items
except ImportError:  # former trees
    from geoxt.layers.search import read_items
items = read_items(sys.argv[1] + "/100-sentinel-2-items.parquet") * 10
bands = ["B04", "B03", "B02", "B08"]
naip = read_items(sys.argv[1] + "/naip.parquet")
for catalog_items, options in ((items, {"bands": bands, "crs": "EPSG:3857"}), (naip, {"crs": "EPSG:5070"})):
    start = time.process_time()
    open_stac(catalog_items, resolution=100, **options)
    print(time.process_time() - start)
"""


def catalogs(folder: Path) -> list[Path]:
    """Return the paths of the item files in a folder of sample catalogs."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in {".json", ".ndjson", ".parquet"}]
    return [path for path in files if "collection" not in path.name]


def compare(path: Path) -> Counter[str]:
    """Return the number of differing bands by field."""
    import odc.stac

    from geoxt.layers.stac.layouts import layouts_of
    from geoxt.layers.stac.match_products import match_products
    from geoxt.layers.stac.projection import grid_of_asset
    from geoxt.layers.stac.sources import read_items

    items = read_items(str(path))[:200]
    counts = Counter(items=len(items))
    try:
        parsed = list(odc.stac.parse_items(items, {"*": {"assets": {"*": {"data_type": None}}}}))
    except AttributeError:  # eo:bands as positions in a table of the item
        counts["items that odc-stac cannot parse"] = len(items)
        return counts
    for item, layout, odc_item in zip(items, layouts_of(items, match_products(items)), parsed, strict=True):
        geoxt_bands, odc_bands = {(b.key, b.index): b for b in layout.bands}, odc_item.bands
        counts["bands of geoxt only"] += len(set(geoxt_bands) - set(odc_bands))
        counts["bands of odc-stac only"] += len(set(odc_bands) - set(geoxt_bands))
        for key in geoxt_bands.keys() & odc_bands.keys():
            band, source = geoxt_bands[key], odc_bands[key]
            counts["bands of both"] += 1
            counts["grid"] += grid_of_asset(item, item.assets[key[0]]) != source.geobox
            counts["dtype"] += band.dtype != source.meta.data_type
            counts["nodata"] += not _equal(band.nodata, source.meta.nodata)
            counts["unit"] += (band.radiometry.unit if band.radiometry else source.meta.units) != source.meta.units
            counts["href"] += item.assets[key[0]].get_absolute_href() != source.uri
        for alias, keys in odc_item.collection.meta.aliases.items():
            counts["alias"] += any(key in geoxt_bands and alias not in geoxt_bands[key].names for key in keys)
    return +counts


def _equal(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and a != a and b != b)  # noqa: PLR0124 (NaN)


def time_trees(folder: Path, trees: list[Path], runs: int) -> None:
    """Print the median CPU seconds to open 1,000 and 10,000 items in each source tree."""
    seconds: dict[Path, list[list[float]]] = {tree: [] for tree in trees}
    for _ in range(runs):
        for tree in trees:
            env = {**os.environ, "PYTHONPATH": str(tree.resolve())}
            run = subprocess.run(  # noqa: S603 (this interpreter)
                [sys.executable, "-c", OPEN, str(folder)], env=env, capture_output=True, text=True, check=True
            )
            seconds[tree].append([float(line) for line in run.stdout.split()])
            print(tree, *(f"{s:.2f}" for s in seconds[tree][-1]), flush=True)
    for tree, rows in seconds.items():
        thousand, ten_thousand = (median(column) for column in zip(*rows, strict=True))
        print(f"{tree}: median of {runs}: 1,000 items {thousand:.2f} s, 10,000 items {ten_thousand:.2f} s")


def main() -> None:
    """Parse arguments, and compare or time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["compare", "time"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trees", type=Path, nargs="+", default=[Path()])
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.job == "time":
        time_trees(args.folder, args.trees, args.runs)
        return
    for path in catalogs(args.folder):
        print(path.relative_to(args.folder), dict(compare(path)))


if __name__ == "__main__":
    main()
