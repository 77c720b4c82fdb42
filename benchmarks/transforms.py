"""Time of augmentations per batch, relative to a copy: geoxt and kornia."""

from __future__ import annotations

import argparse

import kornia.augmentation as K
import torch
from clock import best

from geoxt.transforms import AppendIndices, Augment, Clouds, Lee, Normalize, RandomFlipRotate

BANDS = ("coastal", "blue", "green", "red", "nir", "swir16", "swir22")


def main() -> None:
    """Print a table of milliseconds per batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of each timed call")
    parser.add_argument("--device", default="cpu", help="torch device")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    image = torch.rand(32, len(BANDS), 224, 224, device=args.device)
    mask = torch.randint(9, (32, 224, 224), device=args.device)
    valid = torch.ones_like(mask, dtype=torch.bool)
    batch = {"image": image, "image_valid": valid, "mask": mask, "mask_valid": valid.clone()}
    flips = (K.RandomHorizontalFlip(), K.RandomVerticalFlip(), K.RandomRotation90((0, 3), p=1.0))
    kornia_flips = K.AugmentationSequential(*flips, data_keys=["input", "mask"])
    warp = K.RandomAffine(20.0, scale=(0.8, 1.2), p=1.0)
    kornia_affine = K.AugmentationSequential(warp, data_keys=["input", "mask"])
    mask_image = mask[:, None].float()

    def timed(name: str, call) -> None:
        def run() -> None:
            call()
            if args.device != "cpu":
                torch.cuda.synchronize()

        run()
        print(f"| {name} | {1000 * best(run, args.repeats):.1f} |")

    print(f"| batch of 32 x 7 x 224 x 224, {args.threads} threads | ms |\n|---|---|")
    timed("copy of the image (`clone`)", image.clone)
    timed("RandomFlipRotate(inplace=True), image, mask and valid masks", lambda: RandomFlipRotate(inplace=True)(batch))
    timed("RandomFlipRotate(), image, mask and valid masks", lambda: RandomFlipRotate()(batch))
    timed("kornia, flips and RandomRotation90, image and mask", lambda: kornia_flips(image, mask_image))
    timed("Augment(RandomAffine), image, mask and valid masks", lambda: Augment(warp)(batch))
    timed("kornia, RandomAffine, image and mask", lambda: kornia_affine(image, mask_image))
    timed("Normalize", lambda: Normalize([0.5] * 7, [0.2] * 7)(batch))
    timed("AppendIndices(ndvi, ndmi, nbr)", lambda: AppendIndices(["ndvi", "ndmi", "nbr"], bands=BANDS)(batch))
    timed("Clouds", lambda: Clouds(1.0)(batch))
    timed("Lee, window 7", lambda: Lee()(batch))


if __name__ == "__main__":
    main()
