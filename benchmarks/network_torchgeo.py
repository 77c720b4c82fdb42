"""Print the rate of TorchGeo over /vsicurl on the windows of `network.py` as JSON; run by `network.py`."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings

import pandas as pd
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples


class Served(RasterDataset):
    """Files on a server, one per band, listed explicitly because a plain server cannot list folders."""

    filename_regex = r"(?P<scene>[a-z])_(?P<band>B\d)\.tif"
    separate_files = True

    @property
    def files(self) -> list[str]:
        """Paths of the first band of each scene."""
        return sorted(str(path) for path in self.paths)


def main() -> None:
    """Read windows from standard input, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    work = json.load(sys.stdin)
    Served.all_bands = tuple(work["bands"])
    start = time.perf_counter()
    data = Served(work["files"], bands=work["bands"])
    opened = time.perf_counter() - start
    all_times = slice(pd.Timestamp.min, pd.Timestamp.max)
    res = work["resolution"]
    queries = [
        (slice(left, right, res), slice(bottom, top, res), all_times) for left, bottom, right, top in work["bounds"]
    ]
    loader = DataLoader(
        data, sampler=queries, batch_size=args.batch, num_workers=args.workers, collate_fn=stack_samples
    )
    count, start = 0, time.perf_counter()
    for batch in loader:
        count += len(batch["image"])
    print(
        json.dumps({"rate": count / (time.perf_counter() - start), "open": opened, "sum": float(batch["image"].sum())})
    )


if __name__ == "__main__":
    main()
