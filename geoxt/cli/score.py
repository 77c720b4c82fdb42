"""`geoxt score`: scores of a classifier on a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoxt.inference.devices import SomeDevice
from geoxt.models import from_file
from geoxt.trainers.datamodules.image_folder import score_images
from geoxt.types import Precision


def score_command(
    model: str,
    images: str,
    *,
    size: int | None = None,
    tta: bool = True,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
    log: Callable[[str], None] = print,
) -> None:
    """Print the scores of a classifier on a folder of images.

    Parameters
    ----------
    model
        Checkpoint of a classifier.
    images
        Folder or zip file, as `read_image_folder` accepts it.
    size
        Height and width in pixels to which images are resized.
    tta
        Whether to average over the eight flips and rotations of an image (test-time augmentation).
    device, precision, compile
        Device and precision of the classifier, and whether to compile it, as for `geoxt.predict`.
    log
        Prints a line.
    """
    options: dict[str, Any] = {"device": device, "precision": precision, "compile": compile}
    log(str(score_images(from_file(model), images, size=size, tta=tta, **options)))
