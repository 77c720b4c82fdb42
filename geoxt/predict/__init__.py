"""From a scene to a map: whole scenes through a model, lazily, and into a COG."""

from geoxt.predict.cog import require_writable, to_cog
from geoxt.predict.scene import Output, predict
from geoxt.predict.score import score
from geoxt.predict.tiles import Blend

__all__ = ["Blend", "Output", "predict", "require_writable", "score", "to_cog"]
