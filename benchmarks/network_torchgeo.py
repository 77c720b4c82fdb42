"""Print TorchGeo's rate over /vsicurl on the windows of `network.py`, as JSON; run by it, in TorchGeo's environment."""

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
    """Files behind a server, one a band; TorchGeo lists folders, and a plain server has no list."""

    filename_regex = r"(?P<scene>[a-z])_(?P<band>B\d)\.tif"
    separate_files = True

    @property
    def files(self) -> list[str]:
        """The first band of each scene."""
        return sorted(str(path) for path in self.paths)


def main() -> None:
    """Measure what the arguments and standard input ask for."""
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
    when = slice(pd.Timestamp.min, pd.Timestamp.max)
    res = work["resolution"]
    plan = [(slice(left, right, res), slice(bottom, top, res), when) for left, bottom, right, top in work["bounds"]]
    loader = DataLoader(data, sampler=plan, batch_size=args.batch, num_workers=args.workers, collate_fn=stack_samples)
    seen, start = 0, time.perf_counter()
    for batch in loader:
        seen += len(batch["image"])
    print(
        json.dumps({"rate": seen / (time.perf_counter() - start), "open": opened, "sum": float(batch["image"].sum())})
    )


if __name__ == "__main__":
    main()
