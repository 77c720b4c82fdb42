"""Inference: whole scenes through a model, lazily; detections as features; tables and masks of plain images."""

from geoxt.inference.detections import detect
from geoxt.inference.image_tables import classify_images, segment_images
from geoxt.inference.scene import predict
from geoxt.inference.tiles import Blend
from geoxt.tasks import Output

__all__ = ["Blend", "Output", "classify_images", "detect", "predict", "segment_images"]
