"""ZueriCrop: crop types and field instances of Sentinel-2 time series of one year."""

from __future__ import annotations

from geoxt.datasets.assets import HDF5Array
from geoxt.datasets.spec import Archive, Level, SequentialSplit, Spec, classes, sensor_bands

_URL = "https://hf.co/datasets/isaaccorley/zuericrop/resolve/8ac0f416fbaab032d8670cc55f984b9f079e86b2"
_CLASSES = classes(
    """
    unknown/background
    summer barley
    Winter barley
    oats
    triticale
    mixed fodder cereals
    Feed wheat according to the list of varieties swiss granum
    grain maize
    wild emmer, einkorn wheat
    summer wheat
    Winter wheat (without forage wheat of the variety list swiss granum)
    rye
    mixed cereals for bread production
    Spelt
    maize for seed production (by contract)
    Mads d'ensilage et mads vert
    Sugar beets
    fodder beet
    potatoes
    potatoes for planting (by contract)
    summer rapeseed for oil production
    Winter rape for cooking oil
    soy
    Sunflowers
    flax
    hemp
    Field beans for animal feed
    protein peas for animal fodder
    lupine for fodder
    oil pumpkins
    tobacco
    millet
    Ensiled grain
    false flax (camelina sativa)
    Annual free-range vegetables, without canned vegetables
    Ground-canned vegetables
    chicory roots
    buckwheat
    sorghum
    Annual berries (e.g., strawberries)
    single-year regrowing ressources (Kenaf and others)
    Annual spice and medicinal plants
    Annual horticultural outdoor crops (flowers, turf etc.)
    Conservation headlands
    fallow
    rotational set-aside
    Hem on arable land
    Poppy
    safflower
    lentils
    Mixtures of field beans, protein peas and lupines for animal feed with cereals, at least 30% legume content at harvest
    Bloom strips for pollinators and other beneficials
    mustard
    Winter rape as a renewable raw material
    Sunflowers as regrowing ressource
    open arable land, eligible for subsidies (region-specific biodiversity area)
    Other open arable land, eligible
    Other open arable land, not eligible
    Art meadows (without pastures)
    Other artificial meadow, eligible (eg pork pasture, poultry pasture)
    Extensively used meadows (without pastures)
    Little intensively used meadows (without pastures)
    Other permanent pastures (without pastures)
    Pastures (pastures, other pastures without summer pastures)
    Extensively used pastures
    Forest pastures (without wooded area)
    Hay meadows in the summering area, other meadows
    Hay meadows in the summering area, type extensively used meadow
    Forest pastures (without wooded area)
    fodder legumes (Fabaceae) for seed production (by contract)
    fodder grasses for seed production (by contract)
    Riverside meadows along rivers (without pastures)
    Other green area (permanent green area), entitled to contributions
    Remaining green area (permanent green areas), not eligible
    vines
    Fruit plants (apples)
    Fruit plants (pears)
    Fruit plants (Steinobs)
    Perennial berries
    Perennial spice and medicinal plants
    Perennial renewable resources (miscanthus, etc.)
    hop
    rhubarb
    asparagus
    Christmas trees
    Nursery of forest plants outside the forest zone
    Ornamental shrubs, ornamental shrubs and ornamental shrubs
    Other nurseries (roses, fruits, etc.)
    Vineyards with natural biodiversity
    Truffle plants (in production)
    Mulberry trees (feeding silkworms)
    Cultivated selven (chestnut trees)
    Perennial horticultural outdoor crops (not in the greenhouse)
    vines nursery
    Other fruit plants (kiwis, elderberries, etc.)
    vines (region-specific biodiversity area)
    Other areas with permanent crops, eligible
    Other areas with permanent crops, not eligible
    Vegetable crops in greenhouses with solid foundations
    Other specialized crops in greenhouses with solid foundations
    Horticultural crops in greenhouses with solid foundations
    Vegetable crops in protected cultivation without firm foundations
    Other special crops in protected cultivation without firm foundations
    Horticultural crops in protected cultivation without firm foundations
    Other crops in protected cultivation without a firm foundation
    other cultures in protected cultivation with solid foundation)
    Other crops in protected cultivation without firm foundations, not eligible
    Scattering areas in the LN
    Hedge, field and bank shrubs (with herbaceous area)
    Hedgerow, field and bank shrubs (with buffer strips)
    Hedgerow, field and bank shrubs (with buffer strips) (region-specific biodiversity production area)
    Other areas within the LN, entitled to contribute
    Other areas within the LN, not eligible
    Forest
    Other unproductive areas (eg mulched areas, heavily weedy areas, hedges without buffer strips)
    Areas without main agricultural purpose (developed building land, playground, riding, camping, golf, air and military spaces
    Ditches, ponds, ponds
    Ruderal areas, cairns and ramparts
    dry stone walls
    non-asphalted, natural paths
    Region-specific biodiversity promotion areas
    home gardens
    agricultural production in buildings (e.g. champignons, brussel sprouts)
    Summer pastures
    Other areas outside the LN and SF
    """  # noqa: E501 - names as in labels.csv
)
_TIERS = """
75: Apples < OrchardCrop < Orchards
17: Beets < BroadLeafRowCrop < Field crops
39 78: Berries < Berries < Special crops
43 51 120: Biodiversity encouragement area < BiodiversityArea < Grassland
37: Buckwheat < SmallGrainCereal < Field crops
91: Chestnut < OrchardCrop < Orchards
36: Chicory < VegetableCrop < Field crops
8: EinkornWheat < SmallGrainCereal < Field crops
44 45: Fallow < Fallow < Special crops
26: Field bean < BroadLeafRowCrop < Field crops
113: Forest < Forest < Forest
121: Gardens < Gardens < Special crops
5 12 32: Grain < SmallGrainCereal < Field crops
108 109 110: Hedge < Hedge < Special crops
25: Hemp < BroadLeafRowCrop < Field crops
81: Hops < OrchardCrop < Orchards
69: Legumes < BroadLeafRowCrop < Field crops
24 33: Linen < BroadLeafRowCrop < Field crops
28: Lupine < BroadLeafRowCrop < Field crops
7 14 15: Maize < LargeGrainCereal < Field crops
58 59 60 61 62 66 67 71: Meadow < Meadow < Grassland
50: MixedCrop < CropMix < Field crops
114: Multiple < Multiple < Special crops
52: Mustard < BroadLeafRowCrop < Field crops
3: Oat < SmallGrainCereal < Field crops
63 64 65 68 123: Pasture < Pasture < Grassland
76: Pears < OrchardCrop < Orchards
27: Peas < BroadLeafRowCrop < Field crops
18 19: Potatoes < BroadLeafRowCrop < Field crops
29: Pumpkin < VegetableCrop < Field crops
11: Rye < SmallGrainCereal < Field crops
31 38: Sorghum < LargeGrainCereal < Field crops
22: Soy < BroadLeafRowCrop < Field crops
13: Spelt < SmallGrainCereal < Field crops
77: StoneFruit < OrchardCrop < Orchards
16: Sugar beets < BroadLeafRowCrop < Field crops
1: SummerBarley < SmallGrainCereal < Field crops
20: SummerRapeseed < BroadLeafRowCrop < Field crops
9: SummerWheat < SmallGrainCereal < Field crops
23 54: Sunflowers < BroadLeafRowCrop < Field crops
30: Tobacco < BroadLeafRowCrop < Field crops
84 85: TreeCrop < TreeCrop < Orchards
34 35: Vegetables < VegetableCrop < Field crops
74 88 93 95: Vines < OrchardCrop < Orchards
4 6: Wheat < SmallGrainCereal < Field crops
2: WinterBarley < SmallGrainCereal < Field crops
21 53: WinterRapeseed < BroadLeafRowCrop < Field crops
10: WinterWheat < SmallGrainCereal < Field crops
"""
"""Codes of the 80 crop classes of the authors' hierarchy, with their names in tiers 4, 3 and 2."""


def _tier(column: int) -> Level:
    """Return the classes of a column of `_TIERS`, coded from 1 in alphabetical order; all other classes are 0."""
    rows = [line.split(": ") for line in _TIERS.strip().split("\n")]
    tier_names = {int(code): names.split(" < ")[column] for codes, names in rows for code in codes.split()}
    names = sorted(set(tier_names.values()))
    codes = {code: names.index(tier_names[code]) + 1 if code in tier_names else 0 for code in _CLASSES.codes}
    return Level(classes=classes("\n".join(["unknown/background", *names])), codes=codes)


ZUERICROP = Spec(
    name="zuericrop",
    title="ZueriCrop",
    task="instance-segmentation",
    source="Sentinel-2",
    classes=_CLASSES,
    levels={"tier4": _tier(0), "tier3": _tier(1), "tier2": _tier(2)},
    assets={
        "image": HDF5Array(
            "ZueriCrop.hdf5",
            key="data",
            axes="ntyxb",
            dtype="float64",
            shape=(142, 24, 24, 9),
            bands=sensor_bands("sentinel2", "B08 B03 B02 B04 B05 B06 B07 B11 B12"),
        ),
        "mask": HDF5Array(
            "ZueriCrop.hdf5", key="gt", axes="nyxb", dtype="int16", shape=(24, 24, 1), codes={}, ignore=(0,)
        ),
        "instances": HDF5Array(
            "ZueriCrop.hdf5", key="gt_instance", axes="nyxb", dtype="int32", shape=(24, 24, 1), instances=True
        ),
        "cloud": HDF5Array("ZueriCrop.hdf5", key="cloud_cover", axes="ntyx", dtype="float64", shape=(142, 24, 24)),
    },
    archives=(
        Archive(
            file="ZueriCrop.hdf5",
            url=f"{_URL}/ZueriCrop.hdf5",
            md5="1635231df67f3d25f4f1e62c98e221a4",
            sha256="738536d3a28154e9a47ab8431b325a0213e80e7b75e8df9f7f42cc815b322fde",
        ),
        Archive(
            file="labels.csv",
            url=f"{_URL}/labels.csv",
            md5="5118398c7a5bbc246f5f6bb35d8d529b",
            sha256="9bd634d09075e5a196a6b32ed81cb75dba50aa926644f1deb2a0a27f27af82ad",
        ),
    ),
    splits=SequentialSplit(fractions=dict.fromkeys(("fold1", "fold2", "fold3", "fold4", "fold5"), 0.2)),
    samples=27977,
    image_size="24x24",
    resolution=(10,),
    modality="MSI",
    cite="10.1016/j.rse.2021.112603",
    license="CC-BY-NC-4.0",
    homepage="https://github.com/0zgur0/multi-stage-convSTAR-network",
    quirks=(
        "Samples have 142 dates of 2019, in order; the file does not state the dates.",
        "The near-infrared band is first; reflectance is the pixel value x 0.0001.",
        "Fields are numbered within a sample.",
        "The folds are consecutive fifths of the file; the authors use samples with 90% labelled pixels.",
        "`level` merges the authors' 80 classes into 48 (tier4, as in the paper), 16 (tier3) or 5 (tier2).",
        "At these levels all other classes are unlabelled, though `instances` numbers their fields.",
    ),
    unverified=("27,977 samples", "data types", "order of the bands", "wording of the license"),
    paper_differences=(
        "116K samples, which are fields in 27,977 images; 48 classes, which are the level tier4, the masks have 124"
    ),
    paper_row="ZueriCrop",
)
SPECS = (ZUERICROP,)
