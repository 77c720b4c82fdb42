"""Random turns of detection targets: boxes and masks follow the image."""

import pytest
import torch
from torchvision.ops import masks_to_boxes

from geoxt.trainers.tasks.detection_targets import flip_instances


@pytest.mark.parametrize("size", [(20, 20), (12, 20)])
def test_boxes_and_masks_turn_with_image(size):
    masks = torch.zeros(2, *size, dtype=torch.uint8)
    masks[0, 2:5, 3:9] = 1
    masks[1, 8:12, 10:20] = 1
    edge = torch.tensor([0, 0, 1, 1])  # masks_to_boxes gives the last pixel, not the edge after it
    instances = {"boxes": masks_to_boxes(masks) + edge, "labels": torch.tensor([1, 2]), "masks": masks}
    images = masks.sum(0)[None].repeat(40, 3, 1, 1).float()
    torch.manual_seed(0)
    turned, moved = flip_instances(images, [instances] * 40)
    assert len({tuple(image.flatten().tolist()) for image in turned}) == (8 if size[0] == size[1] else 4)
    for image, target in zip(turned, moved, strict=True):
        assert torch.equal(image[0], target["masks"].sum(0).float())
        torch.testing.assert_close(target["boxes"], masks_to_boxes(target["masks"]) + edge)
    torch.manual_seed(0)
    plain = flip_instances(images, [{name: instances[name] for name in ("boxes", "labels")}] * 40)
    assert torch.equal(plain[0], turned)
