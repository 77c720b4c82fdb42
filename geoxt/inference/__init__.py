"""Inference: whole scenes through a model, lazily; maps of rasters and detections as features."""

from geoxt.inference.detections import detect
from geoxt.inference.scene import predict
from geoxt.inference.tiles import Blend
from geoxt.tasks import Output

__all__ = ["Blend", "Output", "detect", "predict"]
