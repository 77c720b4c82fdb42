"""Image folders for tests: three classes of one color each."""

import warnings
from pathlib import Path

import numpy as np
import rasterio


def write_png(image: np.ndarray, path: Path) -> None:
    """Write an image (band, y, x) of uint8."""
    count, height, width = image.shape
    options = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as file:
            file.write(image)


def make_image_folder(root: Path) -> Path:
    """Write 20 images of 16 x 16 pixels of each of the classes Forest, Lake and Roof; every image differs."""
    rng = np.random.default_rng(0)
    for band, name in enumerate(("Forest", "Lake", "Roof")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            image = rng.integers(0, 90, (3, 16, 16), dtype=np.uint8)
            image[band] += 120
            write_png(image, root / name / f"{name}_{number}.png")
    return root
