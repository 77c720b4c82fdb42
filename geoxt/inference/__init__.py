"""Inference: whole scenes through a model, lazily; maps of rasters and detections as features."""

from geoxt.inference.detections import detect
from geoxt.inference.output_kinds import Output
from geoxt.inference.scene import predict
from geoxt.inference.tiles import Blend

__all__ = ["Blend", "Output", "detect", "predict"]
