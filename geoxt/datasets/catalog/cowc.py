"""COWC (cars overhead with context): aerial patches with or without a car, and patches with a count of cars."""

from __future__ import annotations

from collections.abc import Mapping

from geoxt.datasets.assets import Raster, Table
from geoxt.datasets.spec import RGB, Archive, FolderSplit, Spec, classes

_URL = "https://gdo152.llnl.gov/cowc/download/cowc/datasets/patch_sets"
_FOLDER = (
    "{place:Toronto_ISPRS|Selwyn_LINZ|Potsdam_ISPRS|Vaihingen_ISPRS|Columbus_CSUAV_AFRL|Utah_AGRC}/{split:train|test}"
)
_DETECTION = _FOLDER + "/{kind:car|neg}.{scene}.{top:5d}.{left:5d}.{angle:3d}.png"
_COUNTING = _FOLDER + "/{patch}.png"
_QUIRKS = (
    "Detection and counting have folders of the same names: use a separate root for each.",
    "Columbus is greyscale and Vaihingen colour-infrared, both stored as three bands.",
)


def _archives(task: str, lists: str, checksums: Mapping[str, str]) -> tuple[Archive, ...]:
    """Return the archives of a task, given the name of its lists, and MD5 by split of a list or by location."""
    archives = []
    for key, md5 in checksums.items():
        member = f"COWC_{key}_list_{lists}.txt" if key in ("train", "test") else f"{key}/"
        file = f"{member}.bz2" if key in ("train", "test") else f"COWC_{task.title()}_{key}.tbz"
        archives.append(Archive(file=file, url=f"{_URL}/{task}/{file}", md5=md5, members=(member,)))
    return tuple(archives)


COWC_DETECTION = Spec(
    name="cowc_detection",
    title="COWC detection",
    task="classification",
    source="CSUAV AFRL, ISPRS, LINZ, AGRC",
    classes=classes("not_car car"),
    assets={
        "image": Raster(_DETECTION, bands=RGB),
        "label": Table(
            "COWC_{split:train|test}_list_detection.txt",
            columns=(_DETECTION,),
            separator=" ",
            value=1,
            label_kind="class",
            class_names={"0": "not car", "1": "car"},
        ),
    },
    archives=_archives(
        "detection",
        "detection",
        {
            "train": "c954a5a3dac08c220b10cfbeec83893c",
            "test": "c6c2d0a78f12a2ad88b286b724a57c1a",
            "Toronto_ISPRS": "11af24f43b198b0f13c8e94814008a48",
            "Selwyn_LINZ": "22fd37a86961010f5d519a7da0e1fc72",
            "Potsdam_ISPRS": "bf053545cc1915d8b6597415b746fe48",
            "Vaihingen_ISPRS": "23945d5b22455450a938382ccc2a8b27",
            "Columbus_CSUAV_AFRL": "f40522dc97bea41b10117d4a5b946a6f",
            "Utah_AGRC": "195da7c9443a939a468c9f232fd86ee3",
        },
    ),
    splits=FolderSplit(),
    group=("place", "scene"),
    samples=388435,
    split_sizes={"train": 308988, "test": 79447},
    resolution=(0.15,),
    cite="10.1007/978-3-319-46487-9_48",
    license="AGPL-3.0-only",
    homepage="https://gdo152.llnl.gov/cowc/",
    quirks=(
        *_QUIRKS,
        "Rotated copies of a car share scene, top and left: keep them in one split.",
    ),
    unverified=("split sizes", "bands of Columbus and Vaihingen", "folders in the paths of the lists"),
    paper_row="COWC",
)

COWC_COUNTING = Spec(
    name="cowc_counting",
    title="COWC counting",
    task="regression",
    source="CSUAV AFRL, ISPRS, LINZ, AGRC",
    assets={
        "image": Raster(_COUNTING, bands=RGB),
        "label": Table(
            "COWC_{split:train|test}_list_64_class.txt",
            columns=(_COUNTING,),
            separator=" ",
            value=1,
            label_kind="number",
        ),
    },
    archives=_archives(
        "counting",
        "64_class",
        {
            "train": "187543d20fa6d591b8da51136e8ef8fb",
            "test": "930cfd6e160a7b36db03146282178807",
            "Toronto_ISPRS": "bc2613196dfa93e66d324ae43e7c1fdb",
            "Selwyn_LINZ": "ea842ae055f5c74d0d933d2194764545",
            "Potsdam_ISPRS": "19a77ab9932b722ef52b197d70e68ce7",
            "Vaihingen_ISPRS": "4009c1e420566390746f5b4db02afdb9",
            "Columbus_CSUAV_AFRL": "daf8033c4e8ceebbf2c3cac3fabb8b10",
            "Utah_AGRC": "777ec107ed2a3d54597a739ce74f95ad",
        },
    ),
    splits=FolderSplit(),
    group=("place",),
    samples=41346,
    split_sizes={"train": 37890, "test": 3456},
    resolution=(0.15,),
    cite="10.1007/978-3-319-46487-9_48",
    license="AGPL-3.0-only",
    homepage="https://gdo152.llnl.gov/cowc/",
    quirks=(*_QUIRKS, "Labels are counts of cars, 0 to 63.", "The outermost 32 pixels of a patch are grey."),
    unverified=("split sizes", "bands of Columbus and Vaihingen", "grey borders", "folders in the paths of the lists"),
    paper_differences="388,435 samples, which are the detection set; the counting set has 41,346 more",
    paper_row="COWC",
)
SPECS = (COWC_DETECTION, COWC_COUNTING)
