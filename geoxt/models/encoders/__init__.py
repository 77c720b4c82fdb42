"""Pretrained encoders of several libraries behind one interface: bands by name in, feature maps out."""

from geoxt.models.encoders.encoder_decoder import EncoderDecoder
from geoxt.models.encoders.load_encoder import encoder_names, load_encoder
from geoxt.models.encoders.pretrained_encoder import Encoder

__all__ = ["Encoder", "EncoderDecoder", "encoder_names", "load_encoder"]
