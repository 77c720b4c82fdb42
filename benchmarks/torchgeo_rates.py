"""Print the rates of TorchGeo on the data of `make_data.py`, in the format of `geoxt_rates.py`.

    PYTHON benchmarks/torchgeo_rates.py DATA --into cdl --batch 32 --mix 2

Runs in a separate environment with TorchGeo and without geoxt: Python 3.12, `pip install torchgeo==0.10.1`.
A mix is the number of workers; each reads with one thread.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from clock import rate
from torch.utils.data import DataLoader
from torchgeo.datasets import CDL, IntersectionDataset, Landsat8, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomBatchGeoSampler, RandomGeoSampler

BANDS = [f"SR_B{n}" for n in range(1, 8)]
SIZE, STRIDE = 224, 112
KEYS = ("image", "mask")


def open_dataset(data: str, *, into: str, cache: bool) -> IntersectionDataset:
    """Return the intersection of scenes and crop map on the grid of either."""
    folder = f"{data}/aligned" if into == "aligned" else data
    if into == "landsat":
        scenes = Landsat8(f"{folder}/landsat", bands=BANDS, cache=cache)
        crops = CDL(f"{folder}/cdl", crs=scenes.crs, res=scenes.res, years=[2019], cache=cache)
    else:
        crops = CDL(f"{folder}/cdl", years=[2019], cache=cache)
        scenes = Landsat8(f"{folder}/landsat", crs=crops.crs, res=crops.res, bands=BANDS, cache=cache)
    return scenes & crops


def sampler_options(dataset: IntersectionDataset, sampler: str, *, count: int, batch: int) -> dict[str, Any]:
    """Return the sampler as keyword arguments of `DataLoader`."""
    generator = torch.Generator().manual_seed(0)
    match sampler:
        case "random":
            queries: Iterable[Any] = RandomGeoSampler(dataset, size=SIZE, length=count, generator=generator)
        case "random-batch":
            queries = RandomBatchGeoSampler(dataset, size=SIZE, batch_size=batch, length=count, generator=generator)
            return {"batch_sampler": queries}
        case "grid":
            windows = list(GridGeoSampler(dataset, size=SIZE, stride=STRIDE))
            queries = windows[3 * len(windows) // 8 :][:count]
        case _:
            msg = f"Cannot draw windows by {sampler!r}: pass 'random', 'random-batch' or 'grid'."
            raise ValueError(msg)
    return {"sampler": queries, "batch_size": batch}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and masks only."""
    return stack_samples([{key: sample[key] for key in KEYS} for sample in samples])


def measure(dataset: IntersectionDataset, sampler: str, batch: int, count: int, workers: int) -> float:
    """Return the rate of one epoch in patches per second."""
    skip = max(workers, 1)
    options = sampler_options(dataset, sampler, count=count + skip * batch, batch=batch)
    loader = DataLoader(dataset, num_workers=workers, collate_fn=collate, **options)
    return rate(loader, lambda samples: len(samples["image"]), skip=skip)


def main() -> None:
    """Parse arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--into", default="cdl", choices=("cdl", "landsat", "aligned"))
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--count", type=int, default=256, help="timed patches, after warm-up")
    parser.add_argument("--mix", nargs="+", default=["2"], help="workers")
    parser.add_argument("--no-cache", action="store_true", help="open files for each read (cache=False)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    dataset = open_dataset(args.data, into=args.into, cache=not args.no_cache)
    for mix in args.mix:
        for batch in args.batch:
            count = max(args.count // (2 * batch), 2) * 2 * batch
            for sampler in args.samplers:
                measured_rate = measure(dataset, sampler, batch, count, int(mix))
                print(
                    json.dumps({"sampler": sampler, "batch": batch, "mix": mix, "rate": round(measured_rate, 1)}),
                    flush=True,
                )


if __name__ == "__main__":
    main()
