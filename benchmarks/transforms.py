"""What augmentation of one batch costs beside the copy of it: geoxt's turns and warps, and kornia's own."""

from __future__ import annotations

import argparse

import kornia.augmentation as K
import torch
from clock import best

from geoxt.transforms import AppendIndices, Augment, Clouds, Lee, Normalize, RandomFlipRotate

BANDS = ("coastal", "blue", "green", "red", "nir", "swir16", "swir22")


def main() -> None:
    """Print a table of milliseconds a batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    image = torch.rand(32, len(BANDS), 224, 224, device=options.device)
    mask = torch.randint(9, (32, 224, 224), device=options.device)
    valid = torch.ones_like(mask, dtype=torch.bool)
    batch = {"image": image, "image_valid": valid, "mask": mask, "mask_valid": valid.clone()}
    flips = (K.RandomHorizontalFlip(), K.RandomVerticalFlip(), K.RandomRotation90((0, 3), p=1.0))
    theirs = K.AugmentationSequential(*flips, data_keys=["input", "mask"])
    warp = K.RandomAffine(20.0, scale=(0.8, 1.2), p=1.0)
    warped = K.AugmentationSequential(warp, data_keys=["input", "mask"])
    numbers = mask[:, None].float()

    def timed(name: str, call) -> None:
        def run() -> None:
            call()
            if options.device != "cpu":
                torch.cuda.synchronize()

        run()
        print(f"| {name} | {1000 * best(run, options.repeats):.1f} |")

    print(f"| batch of 32 x 7 x 224 x 224, {options.threads} threads | ms |\n|---|---|")
    timed("copy of the image (`clone`)", image.clone)
    timed("RandomFlipRotate(inplace=True), image, mask and validity", lambda: RandomFlipRotate(inplace=True)(batch))
    timed("RandomFlipRotate(), the same", lambda: RandomFlipRotate()(batch))
    timed("kornia, flips and RandomRotation90, image and mask", lambda: theirs(image, numbers))
    timed("Augment(RandomAffine), image, mask and validity", lambda: Augment(warp)(batch))
    timed("kornia, RandomAffine, image and mask", lambda: warped(image, numbers))
    timed("Normalize", lambda: Normalize([0.5] * 7, [0.2] * 7)(batch))
    timed("AppendIndices(ndvi, ndmi, nbr)", lambda: AppendIndices(["ndvi", "ndmi", "nbr"], bands=BANDS)(batch))
    timed("Clouds", lambda: Clouds(1.0)(batch))
    timed("Lee, window 7", lambda: Lee()(batch))


if __name__ == "__main__":
    main()
