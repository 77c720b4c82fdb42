"""Print TorchGeo's rates on the work of `work.py`, as `geoxt_rates.py` prints geoxt's.

    PYTHON benchmarks/torchgeo_rates.py DATA --into cdl --batch 32 --mix 2

It runs in an environment of its own, which has TorchGeo and not geoxt: Python 3.12, `pip install torchgeo==0.10.1`.
A mix is the number of workers; TorchGeo reads with one thread in each.
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


def opened(data: str, *, into: str, cache: bool) -> IntersectionDataset:
    """Return the scenes and the crop map, on the grid of one of them."""
    folder = f"{data}/aligned" if into == "aligned" else data
    if into == "landsat":
        scenes = Landsat8(f"{folder}/landsat", bands=BANDS, cache=cache)
        crops = CDL(f"{folder}/cdl", crs=scenes.crs, res=scenes.res, years=[2019], cache=cache)
    else:
        crops = CDL(f"{folder}/cdl", years=[2019], cache=cache)
        scenes = Landsat8(f"{folder}/landsat", crs=crops.crs, res=crops.res, bands=BANDS, cache=cache)
    return scenes & crops


def drawn(both: IntersectionDataset, sampler: str, *, count: int, batch: int) -> dict[str, Any]:
    """Return the sampler, as a DataLoader takes it."""
    generator = torch.Generator().manual_seed(0)
    match sampler:
        case "random":
            plan: Iterable[Any] = RandomGeoSampler(both, size=SIZE, length=count, generator=generator)
        case "random-batch":
            plan = RandomBatchGeoSampler(both, size=SIZE, batch_size=batch, length=count, generator=generator)
            return {"batch_sampler": plan}
        case "grid":
            found = list(GridGeoSampler(both, size=SIZE, stride=STRIDE))
            plan = found[3 * len(found) // 8 :][:count]
        case _:
            msg = f"Cannot draw windows by {sampler!r}: pass 'random', 'random-batch' or 'grid'."
            raise ValueError(msg)
    return {"sampler": plan, "batch_size": batch}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and masks, and nothing else."""
    return stack_samples([{key: sample[key] for key in KEYS} for sample in samples])


def measure(both: IntersectionDataset, sampler: str, batch: int, count: int, workers: int) -> float:
    """Return the rate of one epoch."""
    skip = max(workers, 1)
    plan = drawn(both, sampler, count=count + skip * batch, batch=batch)
    loader = DataLoader(both, num_workers=workers, collate_fn=collate, **plan)
    return rate(loader, lambda found: len(found["image"]), skip=skip)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--into", default="cdl", choices=("cdl", "landsat", "aligned"))
    parser.add_argument("--samplers", nargs="+", default=["random", "random-batch", "grid"])
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--count", type=int, default=256, help="patches, beside those before the clock starts")
    parser.add_argument("--mix", nargs="+", default=["2"], help="workers")
    parser.add_argument("--no-cache", action="store_true", help="open files for each read (cache=False)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    both = opened(args.data, into=args.into, cache=not args.no_cache)
    for mix in args.mix:
        for batch in args.batch:
            count = max(args.count // (2 * batch), 2) * 2 * batch
            for sampler in args.samplers:
                found = measure(both, sampler, batch, count, int(mix))
                print(json.dumps({"sampler": sampler, "batch": batch, "mix": mix, "rate": round(found, 1)}), flush=True)


if __name__ == "__main__":
    main()
