"""Embeddings of pretrained models, published as images."""

from __future__ import annotations

from geoxt.layers.products.product import Band, Embedding, Product
from geoxt.template import Template

ALPHAEARTH = Product(
    name="alphaearth",
    title="AlphaEarth Foundations annual satellite embeddings",
    kind="image",
    bands=tuple(Band(name=f"A{axis:02}", resolution=10, index=axis + 1) for axis in range(64)),
    files=(Template(r"{date:%Y}/{zone:\d{1,2}[NS]}/{image:\w+}-{row:\d{10}}-{col:\d{10}}.{_ext:tiff|tif|vrt}"),),
    resolution=10,
    nodata=-128,
    dtypes=(("*", "int8"),),
    embedding=Embedding(
        model="https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL",
        version="1",
        quantization="signed square",
        unit_length=True,
    ),
    mission=("2017-01-01", None),
    license="CC-BY-4.0",
    cite="10.48550/arXiv.2507.22291",
)
PRODUCTS = (ALPHAEARTH,)
