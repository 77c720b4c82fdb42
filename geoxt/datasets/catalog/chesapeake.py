"""Chesapeake CVPR: 1 m land cover of aerial tiles in six US states, with Landsat, NLCD and building layers."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, FolderSplit, Spec, plain_bands
from geoxt.legend import Legend

_STATES = ("de_1m_2013", "md_1m_2013", "va_1m_2014", "wv_1m_2014", "pa_1m_2013", "ny_1m_2013")
_TILE = r"{tile:m_\d{7}_(?:ne|nw|se|sw)_1[78]}"
_FILE = f"{{state:{'|'.join(_STATES)}}}_extended-debuffered-{{split:train|val|test}}_tiles/{_TILE}_1_"
_AERIAL = plain_bands("red green blue nir")
_SHAPE = (7500, 6000)
_LANDSAT = plain_bands(" ".join(f"band{at}" for at in range(1, 10)))
_PRIOR = plain_bands(" ".join(f"prior{at}" for at in range(1, 5)))

CHESAPEAKE = Spec(
    name="chesapeake_cvpr",
    title="Chesapeake CVPR",
    task="segmentation",
    source="NAIP, Landsat 8",
    classes=Legend.from_rows(
        (
            (1, "water", "#00c5ff"),
            (2, "tree canopy / forest", "#267300"),
            (3, "low vegetation / field", "#a3ff73"),
            (4, "barren land", "#ffaa00"),
            (5, "impervious (other)", "#9c9c9c"),
            (6, "impervious (road)", "#000000"),
            (15, "no data", "#ffffff"),
        )
    ),
    assets={
        "image": Raster(_FILE + "naip-new.tif", bands=_AERIAL, shape=_SHAPE),
        "image_old": Raster(_FILE + "naip-old.tif", bands=_AERIAL, shape=_SHAPE),
        "leaf_on": Raster(_FILE + "landsat-leaf-on.tif", bands=_LANDSAT, dtype="float32", shape=_SHAPE),
        "leaf_off": Raster(_FILE + "landsat-leaf-off.tif", bands=_LANDSAT, dtype="float32", shape=_SHAPE),
        "nlcd": Raster(_FILE + "nlcd.tif", bands=plain_bands("nlcd"), shape=_SHAPE),
        "buildings": Raster(_FILE + "buildings.tif", bands=plain_bands("buildings"), shape=_SHAPE),
        "prior": Raster(
            _FILE + "prior_from_cooccurrences_101_31_no_osm_no_buildings.tif",
            bands=_PRIOR,
            shape=_SHAPE,
            optional=True,
        ),
        "mask": Raster(_FILE + "lc.tif", codes={}, ignore=(15, 0), shape=_SHAPE),
    },
    archives=(
        Archive(
            file="cvpr_chesapeake_landcover.zip",
            url="https://lilawildlife.blob.core.windows.net/lila-wildlife/lcmcvpr2019/cvpr_chesapeake_landcover.zip",
            md5="1225ccbb9590e9396875f221e5031514",
            members=("de_1m_2013_", "md_1m_2013_", "va_1m_2014_", "wv_1m_2014_", "pa_1m_2013_", "ny_1m_2013_"),
        ),
        Archive(
            file="cvpr_chesapeake_landcover_prior_extension.zip",
            url="https://zenodo.org/records/5866525/files/cvpr_chesapeake_landcover_prior_extension.zip?download=1",
            md5="402f41d07823c8faf7ea6960d7c4e17a",
            assets=("prior",),
        ),
    ),
    splits=FolderSplit(),
    split_sizes={"train": 600, "val": 30, "test": 120},
    image_size="about 7,500x6,000",
    resolution=(1,),
    georeferenced=True,
    modality="RGB, NIR, MSI",
    cite="10.1109/CVPR.2019.01301",
    license="CDLA-Permissive-1.0",
    homepage="https://lila.science/datasets/chesapeakelandcover",
    quirks=(
        "Tiles are in UTM zone 17 or 18: `layer()` needs a `crs`.",
        "All assets are on the 1 m grid; select some by `bridge.to_torch(dataset, keys=('image', 'mask'))`.",
        "Codes 0 and 15 both mean no label; both are read as 15.",
        "The authors' four classes merge barren and impervious land.",
        "The paper's experiments are per state, the field `state` of a sample.",
    ),
    unverified=("tiles of each split", "bands and data type of Landsat and the prior", "license"),
    examples={"tile": tuple(f"m_38075{at:02d}_ne_18" for at in range(18))},
)
SPECS = (CHESAPEAKE,)
