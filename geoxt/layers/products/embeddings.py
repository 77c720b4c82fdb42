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
"""AlphaEarth: names of files as on Source Cooperative (https://source.coop/tge-labs/aef), such as
v1/annual/2024/10N/xcyo46pot2fg6a61t-0000008192-0000000000.tiff, and on Google Cloud Storage."""
TESSERA = Product(
    name="tessera",
    title="TESSERA annual satellite embeddings",
    kind="image",
    bands=tuple(
        Band(name=f"T{channel:03}", resolution=10, index=channel + 1, assets=(f"embeddings_{channel}",))
        for channel in range(128)
    ),
    files=(Template(r"grid_{lon:-?\d+\.\d+}_{lat:-?\d+\.\d+}_{date:%Y}.{_ext:tiff|tif}"),),
    resolution=10,
    dtypes=(("*", "float32"),),
    embedding=Embedding(model="https://geotessera.org/model", version_tag="TESSERA_DATASET_VERSION"),
    mission=("2017-01-01", None),
    license="CC-BY-4.0",
    cite="10.48550/arXiv.2506.20380",
)
"""TESSERA: names of files and metadata by geotessera 0.7.5 (`export_embedding_geotiff`), of the Zarr store by 0.11."""
PRODUCTS = (ALPHAEARTH, TESSERA)
