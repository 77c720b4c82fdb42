"""GPU rates: loader to device, training, inference against the bare forward pass, memory and correctness.

    python benchmarks/gpu.py                          # at most 8 minutes on one H100; writes results/gpu.md
    python benchmarks/gpu.py --device cpu --quick     # all steps on small data, writes nothing

Needs no network: data are generated, and weights are random, which does not change rates. A part that fails, or has no
time left, is reported, and the next one runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import report
import torch

from geoxt.bridge import loader
from geoxt.inference import predict
from geoxt.inference.device_model import is_out_of_memory
from geoxt.layers import open_cogs
from geoxt.models import create
from geoxt.samplers import RandomSampler
from geoxt.torch_devices import ieee_float32, open_device, resolve

BANDS, CLASSES, OVERLAP = 6, 10, 64
TOLERANCES = {"32": 1e-4, "bf16": 0.05}
"""Largest difference of probabilities from the CPU's in float32, by precision."""
SECONDS = 470
"""Time for all parts; measurements that would start in the last third are left out, except the tests."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Sizes of the data and the device."""

    device: str
    side: int
    size: int
    batch: int
    batches: int
    folder: Path
    start: float

    @property
    def remaining(self) -> float:
        """Return the remaining seconds of the time for all parts."""
        return self.start + SECONDS - time.perf_counter()

    def require_time(self) -> None:
        """Raise if no further measurement should start."""
        if self.remaining < SECONDS / 3:
            raise TimeoutError("no time is left")

    def synchronize(self) -> None:
        """Wait for the device."""
        open_device(self.device).synchronize()


def write_scenes(setup: Setup) -> None:
    """Write the scene uncompressed and by DEFLATE; smooth fields with noise compress about as imagery does."""
    rng, side = np.random.default_rng(0), setup.side
    ramp = np.linspace(0, 6, side, dtype="float32")
    field = 3000 + 1500 * np.sin(ramp)[:, None] * np.cos(2 * ramp)[None]
    profile = {"driver": "GTiff", "height": side, "width": side, "count": BANDS, "dtype": "uint16", "nodata": 0,
               "tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "pixel", "crs": "EPSG:32632",
               "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), "num_threads": "all_cpus"}  # fmt: skip
    bands = [(field + 400 * band + rng.normal(0, 40, field.shape)).astype("uint16") for band in range(BANDS)]
    for name, options in (("uncompressed", {}), ("deflate", {"compress": "deflate", "predictor": 2, "zlevel": 6})):
        with rasterio.open(setup.folder / f"{name}.tif", "w", **profile, **options) as file:
            file.write(np.stack(bands))


class Scaled(torch.nn.Module):
    """A model that standardizes stored numbers, and whose random weights still prefer some classes.

    Parameters
    ----------
    network
        Returns logits.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images."""
        return 5 * self.network((images - 3000) / 1000)


def unet(setup: Setup) -> torch.nn.Module:
    """Return a U-Net (ResNet-18) with random weights on the device, in channels-last order."""
    torch.manual_seed(0)
    network = Scaled(create("unet", in_chans=BANDS, num_classes=CLASSES))
    return network.to(setup.device, memory_format=torch.channels_last)


def batches_of(setup: Setup, path: Path, batches: int, *, cached: bool = False) -> Any:
    """Return a loader to the device of random windows of a file, or of the same pixels in memory."""
    layer = open_cogs(path).rename("image")
    layer = layer.load() if cached else layer
    sampler = RandomSampler(layer, size=setup.size, length=batches * setup.batch, seed=0)
    return loader(layer, sampler, batch_size=setup.batch, device=setup.device)


def timed(setup: Setup, call: Callable[[], Any]) -> float:
    """Return the seconds of a call, including its work on the device."""
    setup.synchronize()
    start = time.perf_counter()
    call()
    setup.synchronize()
    return time.perf_counter() - start


def loading(setup: Setup) -> list[list[str]]:
    """Return images per second from files to the device."""
    rows = []
    for name, file, cached in (("uncompressed", "uncompressed", False), ("in memory", "uncompressed", True),
                               ("DEFLATE", "deflate", False)):  # fmt: skip
        batches = iter(batches_of(setup, setup.folder / f"{file}.tif", setup.batches + 1, cached=cached))
        next(batches)
        seconds = timed(setup, lambda batches=batches: deque(batches, maxlen=0))
        rows.append([f"loader to device, {name}", f"{setup.batches * setup.batch / seconds:.0f} images/s"])
    return rows


def autocast(setup: Setup) -> Any:
    """Return the context of mixed precision with bfloat16."""
    return torch.autocast(torch.device(setup.device).type, dtype=torch.bfloat16)


def training(setup: Setup) -> list[list[str]]:
    """Return training rates from files and of one tensor on the device; the device waits for the difference."""
    network, rows = unet(setup).train(), []
    optimizer = torch.optim.AdamW(network.parameters())
    labels = torch.randint(0, CLASSES, (setup.batch, setup.size, setup.size), device=setup.device)

    def step(images: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(setup):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()

    images = 6000 * torch.rand(setup.batch, BANDS, setup.size, setup.size, device=setup.device)
    step(images)
    synthetic = timed(setup, lambda: [step(images) for _ in range(setup.batches)])
    rows.append(["training, synthetic, bf16", f"{setup.batches * setup.batch / synthetic:.0f} images/s"])
    for name in ("uncompressed", "deflate"):
        batches = iter(batches_of(setup, setup.folder / f"{name}.tif", setup.batches + 1))
        step(next(batches)["image"])
        seconds = timed(setup, lambda batches=batches: [step(batch["image"]) for batch in batches])
        waits = max(1 - synthetic / seconds, 0)
        rate = f"{setup.batches * setup.batch / seconds:.0f} images/s; the device waits {waits:.0%}"
        rows.append([f"training, {name}, bf16", rate])
    return rows


def forward_rate(setup: Setup, precision: str, *, compiled: bool) -> float:
    """Return Mpx/s of the forward pass alone, on tiles on the device."""
    network = unet(setup).eval()
    network = torch.compile(network, dynamic=False) if compiled else network
    images = 6000 * torch.rand(setup.batch, BANDS, setup.size, setup.size, device=setup.device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(setup) if precision == "bf16" else ieee_float32():
        for _ in range(2):
            network(images)
        seconds = timed(setup, lambda: [network(images) for _ in range(setup.batches)])
    return setup.batches * images[:, 0].numel() / 1e6 / seconds


def inference(setup: Setup) -> list[list[str]]:
    """Return rates of prediction and the bare forward pass, in pixels of tiles."""
    rows = []
    network = unet(setup).eval()
    step = setup.size - OVERLAP * setup.size // 256
    tile_pixels = (-(-(setup.side - setup.size) // step) + 1) ** 2 * setup.size**2 / 1e6
    options = {"size": setup.size, "overlap": setup.size - step, "batch_size": setup.batch, "device": setup.device}
    for precision, compiled in (("32", False), ("bf16", False), ("bf16", True)):
        title = f"{precision}{', compiled' if compiled else ''}"
        try:
            setup.require_time()
            bare = forward_rate(setup, precision, compiled=compiled)
            rows.append([f"forward pass alone, {title}", f"{bare:.1f} Mpx/s"])
            for name in ("uncompressed", "in memory", "deflate"):
                layer = open_cogs(setup.folder / f"{'deflate' if name == 'deflate' else 'uncompressed'}.tif")
                layer = layer.load() if name == "in memory" else layer
                run = partial(predict, layer, network, precision=precision, compile=compiled, **options)
                run().isel(x=slice(0, setup.size), y=slice(0, setup.size)).compute()  # warm-up
                seconds = timed(setup, lambda run=run: run().compute())
                rate = tile_pixels / seconds
                rows.append([f"predict, {name}, {title}", f"{rate:.1f} Mpx/s, {rate / bare:.0%} of the forward pass"])
        except Exception as error:  # noqa: BLE001 (the next part runs)
            if is_out_of_memory(error):
                open_device(setup.device).release_memory()
            rows.append([f"inference, {title}", f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"])
    return rows


def correctness(setup: Setup) -> list[list[str]]:
    """Return the largest difference from the CPU's probabilities, and whether classes of clear pixels are equal."""
    layer = open_cogs(setup.folder / "uncompressed.tif").isel(x=slice(0, 2 * setup.size), y=slice(0, 2 * setup.size))
    network, rows = unet(setup).eval().cpu(), []
    options: dict[str, Any] = {"size": setup.size, "batch_size": 4, "output": "probabilities"}
    expected = predict(layer, network, device="cpu", **options).to_numpy()
    margins = np.ptp(np.sort(expected, axis=0)[-2:], axis=0)
    for precision, tolerance in TOLERANCES.items():
        values = predict(layer, network, device=setup.device, precision=precision, **options).to_numpy()
        difference, clear = float(np.abs(values - expected).max()), margins > 2 * tolerance
        different = int((values.argmax(axis=0) != expected.argmax(axis=0))[clear].sum())
        passes = difference <= tolerance and not different and bool(clear.any())
        text = f"{'passed' if passes else 'FAILED'}: largest difference {difference:.1e} (tolerance {tolerance:g}); "
        text += f"{different} other classes in the {clear.mean():.0%} of pixels with a margin above {2 * tolerance:g}"
        rows.append([f"probabilities, {precision}, against the CPU", text])
    return rows


def gpu_tests(setup: Setup) -> list[list[str]]:
    """Return the summary of the tests marked `gpu`."""
    root = Path(__file__).parents[1]
    tests = [str(path) for path in sorted((root / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *tests]
    seconds = max(setup.remaining, 1)
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    lines = run.stdout.strip().splitlines() or run.stderr.strip().splitlines() or ["no output"]
    failed = [["pytest -m gpu", line] for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = ("" if run.returncode == 0 else f"failed, exit status {run.returncode}: ") + lines[-1].strip("= ")
    return [["pytest -m gpu", summary], *failed]


PARTS = {
    "correctness": correctness,
    "inference": inference,
    "training": training,
    "loading": loading,
    "tests": gpu_tests,
}


def peak(setup: Setup) -> str:
    """Return the peak memory of torch on the device."""
    if not setup.device.startswith("cuda"):
        return "not measured"
    return f"{torch.cuda.max_memory_allocated(setup.device) / 1e9:.2f} GB"


def card(device: str) -> str:
    """Return the name of the device, and the number of cores."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{name}, {os.cpu_count()} cores"


def main() -> int:
    """Run all parts, write the results, and return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="device (default: CUDA, else MPS, else the CPU)")
    parser.add_argument("--quick", action="store_true", help="small data, no file of results")
    parser.add_argument("--out", type=Path, help="folder that also gets results.json, part by part")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args()
    start, device = time.perf_counter(), resolve(args.device)
    results: dict[str, list[list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes = (96, 32, 2, 2) if args.quick else (8192, 256, 32, 60)
        setup = Setup(
            device=device,
            folder=Path(folder),
            start=start,
            **dict(zip(("side", "size", "batch", "batches"), sizes, strict=True)),
        )
        write_scenes(setup)
        print(f"{card(device)}: scenes written after {time.perf_counter() - start:.0f} s", flush=True)
        for name in args.parts:
            if device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats(device)
            try:
                if name != "tests":
                    setup.require_time()
                rows = PARTS[name](setup)
            except Exception as error:  # noqa: BLE001 (the next part runs)
                traceback.print_exc()
                rows = [[name, f"failed: {type(error).__name__}: {error}"]]
            rows.append([f"{name}: peak device memory", peak(setup)])
            results[name] = rows
            for row in rows:
                print(f"{time.perf_counter() - start:5.0f} s  {row[0]:<48} {row[1]}", flush=True)
            if args.out:
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / "results.json").write_text(json.dumps({"card": card(device), "results": results}, indent=1))
    if not args.quick:
        about = f"`python benchmarks/gpu.py` on {card(device)}. " + report.machine("torch")
        rows = [row for part in results.values() for row in part]
        print(report.write("gpu.md", ["# GPU", about, report.table(["measurement", "result"], rows)]))
    texts = [text for part in results.values() for name, text in part]
    return int(any(text.lower().startswith("failed") for text in texts))


if __name__ == "__main__":
    sys.exit(main())
