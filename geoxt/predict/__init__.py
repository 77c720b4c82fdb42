"""Inference: whole scenes through a model, lazily; maps of rasters and detections as features."""

from geoxt.predict.outputs import Output
from geoxt.predict.scene import predict
from geoxt.predict.tiles import Blend
from geoxt.predict.vector import predict_vector

__all__ = ["Blend", "Output", "predict", "predict_vector"]
