"""Parser of `geoxt probe`."""

from __future__ import annotations

from typing import Any


def add_probe(commands: Any) -> None:
    """Add the parser of `geoxt probe`."""
    probe = commands.add_parser(
        "probe",
        description="Score frozen encoders on labeled images by k-nearest neighbors and linear probes: intervals, "
        "few-shot curves, random and spatially blocked splits, robustness. The same command resumes an interrupted "
        "run.",
    )
    probe.add_argument(
        "--model",
        dest="models",
        nargs="+",
        required=True,
        metavar="NAME",
        help="encoders: names of pretrained weights, checkpoints, architectures (random weights), or pixels",
    )
    probe.add_argument(
        "--dataset",
        required=True,
        metavar="NAME|PATH",
        help="name in `geoxt datasets list`, or folder or zip file with a folder of images per class",
    )
    probe.add_argument("--root", metavar="DIR", help="folder of the dataset (default: data/NAME)")
    probe.add_argument("--download", action="store_true", help="download missing files of the dataset")
    probe.add_argument("--bands", nargs="+", metavar="BAND", help="bands of the dataset to read (default: all)")
    probe.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=(0.8, 0.1, 0.1),
        metavar="X",
        help="training, validation and test fraction of a folder of images (default: 0.8 0.1 0.1)",
    )
    probe.add_argument("--out", default="geoxt-probe", metavar="DIR", help="output folder (default: %(default)s)")
    probe.add_argument("--size", type=int, metavar="PIXELS", help="height and width to which images are resized")
    protocols = probe.add_argument_group("protocols")
    protocols.add_argument("--n-neighbors", type=int, metavar="N", help="number of nearest neighbors (default: 5)")
    protocols.add_argument(
        "--C", dest="Cs", nargs="+", type=float, metavar="X", help="inverse strengths of regularization to choose from"
    )
    protocols.add_argument(
        "--shots", nargs="+", type=int, metavar="N", help="training images per class (default: 5 10 50 100, if present)"
    )
    protocols.add_argument(
        "--n-repeats", type=int, metavar="N", help="random draws of each number of images (default: 5)"
    )
    protocols.add_argument("--block", type=float, metavar="METRES", help="side of spatial blocks (default: 50000)")
    protocols.add_argument("--shift", type=int, metavar="PIXELS", help="shift of test images (default: 4)")
    protocols.add_argument("--n-resamples", type=int, metavar="N", help="bootstrap resamples (default: 1000)")
    protocols.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")
    probe.add_argument("--batch-size", type=int, default=128, metavar="N", help="images per batch (default: 128)")
    probe.add_argument(
        "--device", nargs="+", default=["auto"], metavar="DEVICE", help="auto, cpu, cuda or mps (default: auto)"
    )
