"""Every spec is held to its sheet of facts; what a sheet does not say is listed, so that a newly empty fact fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from geoxt import datasets
from geoxt.datasets.spec import FieldSplit

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "datasets"
NAMES = datasets.names()
SHEETS = {
    "eurosat_rgb": "eurosat",
    "bigearthnet_v2": "bigearthnet",
    "seasonal_contrast_100k": "seasonal_contrast",
    "cowc_detection": "cowc",
    "cowc_counting": "cowc",
    "landcoverai_scenes": "landcoverai",
}
"""Sheets of facts that are of more than one dataset."""
CSS = {"green": "#008000", "blue": "#0000ff", "orange": "#ffa500", "red": "#ff0000"}
"""Colours that the sheets name."""
UNKNOWN = {
    ("advance", "colours"),
    ("benin_cashews", "colours"),
    ("benin_cashews", "file imagery"),
    ("benin_cashews", "file labels/00.geojson"),
    ("chesapeake_cvpr", "colour of 15"),
    ("chesapeake_cvpr", "samples"),
    ("cowc_detection", "colours"),
    ("cv4a_kenya_crop_type", "colours"),
    ("cv4a_kenya_crop_type", "file FieldIds.csv"),
    ("cv4a_kenya_crop_type", "file data"),
    ("etci2021", "colours"),
    ("eurosat", "colours"),
    ("eurosat_rgb", "colours"),
    ("landcoverai", "colour of 0"),
    ("landcoverai_scenes", "colour of 0"),
    ("levircd_plus", "colours"),
    ("patternnet", "colours"),
    ("potsdam", "sums of 5_Labels_all.zip"),
    ("potsdam", "url of 4_Ortho_RGBIR.zip"),
    ("potsdam", "url of 5_Labels_all.zip"),
    ("resisc45", "colours"),
    ("spacenet1", "colours"),
    ("spacenet1", "samples"),
    ("spacenet2", "colours"),
    ("spacenet4", "colours"),
    ("spacenet7", "colours"),
    ("tropical_cyclone", "file test"),
    ("tropical_cyclone", "file test_set_features.csv"),
    ("tropical_cyclone", "file test_set_labels.csv"),
    ("tropical_cyclone", "file train"),
    ("tropical_cyclone", "file training_set_features.csv"),
    ("tropical_cyclone", "file training_set_labels.csv"),
    ("tropical_cyclone", "wavelength of lwir11"),
    ("ucmerced", "colours"),
    ("vaihingen", "url of ISPRS_semantic_labeling_Vaihingen.zip"),
    ("vaihingen", "url of ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip"),
    ("vhr10", "colours"),
    ("xview2", "colour of 0"),
    ("xview2", "file hold_images_labels_targets.tar.gz"),
    ("xview2", "file tier3.tar.gz"),
    ("xview2", "url of test_images_labels_targets.tar.gz"),
    ("xview2", "url of train_images_labels_targets.tar.gz"),
    ("zuericrop", "colours"),
}
"""What a sheet does not say of a dataset."""
OTHERWISE = {
    ("cowc_counting", "classes"): "it counts",
    ("etci2021", "url of test_without_ref_labels.zip"): "Google Drive needs a browser",
    ("etci2021", "url of train.zip"): "Google Drive needs a browser",
    ("etci2021", "url of val_with_ref_labels.zip"): "Google Drive needs a browser",
    ("eurosat_rgb", "georeferenced"): "the pictures are not",
    ("gid15", "url of gid-15.zip"): "Google Drive needs a browser",
    ("landcoverai", "georeferenced"): "its chips are not, the scenes are",
    ("vhr10", "size of negative"): "a kind of image, not a split",
    ("vhr10", "size of positive"): "a kind of image, not a split",
}
"""Where a spec differs from its sheet, and why."""


@pytest.mark.parametrize("name", NAMES)
def test_specs_agree_with_the_fact_sheet(name):
    spec, facts = datasets.get(name), facts_of(name)
    unknown = set()
    for field, in_spec, in_sheet in [
        *_counts(spec, facts),
        *_classes(spec, facts),
        *_files(spec, facts),
        *_other(spec, facts),
    ]:
        if in_sheet is None:
            unknown.add(field)
        elif (name, field) in OTHERWISE:
            assert in_spec != in_sheet, f"{field} agrees: take it out of OTHERWISE"
        else:
            assert in_spec == in_sheet, field
    assert unknown == {field for dataset, field in UNKNOWN if dataset == name}


def facts_of(name):
    """Return the facts of a dataset."""
    sheet = FACTS / f"{SHEETS.get(name, name)}.yaml"
    if not sheet.is_file():
        pytest.skip("the facts are not here")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there
    return _select_facts(name, yaml.load(sheet.read_text(encoding="utf-8"), loader))  # noqa: S506


def _select_facts(name, facts):
    """Return the facts of one dataset from a sheet of several: by variant, task, scenes, locations or tiles."""
    samples = facts["samples"]
    if variants := [v for v in facts["variants"] if v["id"] == name]:
        facts["archives"] = [a for v in variants for a in v.get("archives", [v.get("archive")])]
        facts["samples"] = next((v["samples"] for v in variants if "samples" in v), samples)
    task = name.removeprefix(f"{SHEETS.get(name, name)}_")
    if any(archive.get("task") == task for archive in facts["archives"]):
        facts["archives"] = [archive for archive in facts["archives"] if archive["task"] == task]
        splits = {k.removeprefix(f"{task}_"): n for k, n in samples["splits"].items() if k.startswith(task)}
        facts["samples"] = {"total": sum(splits.values()), "splits": splits}
    if task == "scenes":
        facts["samples"] = {"total": sum(scene["count"] for scene in facts["image"]["scenes"]), "splits": {}}
    if "locations" in samples:
        samples["total"] = samples["locations"]["100k" if name.endswith("100k") else "1m"]
    if "tiles" in samples:
        facts["samples"] = {"total": samples["tiles"], "splits": {}}
    return facts


def _counts(spec, facts):
    samples = facts["samples"]
    more = {**samples.get("extra", {}), **samples.get("unlabelled_or_extra", {})}
    total, counted = samples["total"], sum(v for k, v in more.items() if "(" in k and k != "unverified")
    yield "samples", spec.samples or sum(spec.split_sizes.values()), total and total + counted
    stated = {}
    for split, count in samples["splits"].items():
        if isinstance(count, int):
            stated[split.removesuffix("_public")] = count
        elif set(count) & set(spec.split_names):  # a place, with its splits
            stated |= {split_name: stated.get(split_name, 0) + number for split_name, number in count.items()}
        else:  # a split, with its places
            stated[split] = sum(count.values())
    stated |= {key.partition(" ")[0]: count for key, count in more.items() if key != "unverified"}
    for split in {*spec.split_sizes, *stated}:
        yield f"size of {split}", spec.split_sizes.get(split), stated.get(split)
    if isinstance(spec.splits, FieldSplit):
        for split, values in spec.splits.values.items():
            if stems := {Path(text).stem for text in facts["splits"].get(split, ())}:
                files = {Path(spec.first_asset.templates[0].fill({spec.splits.field: value})).stem for value in values}
                present = {stem for stem in stems for file in files if file == stem or file.startswith(f"{stem}_")}
                yield f"files of {split}", (present, len(files), len(values)), (stems, len(stems), len(stems))


def _classes(spec, facts):
    items = facts["classes"]["items"]
    if spec.classes is None or not items:
        yield "classes", spec.classes is not None, bool(items)
        return
    yield "classes", dict(zip(spec.classes.codes, spec.classes.names, strict=True)), _named(items)
    colors = {item["id"]: CSS.get(item.get("color"), item.get("color")) for item in items}
    for code, color in zip(spec.classes.codes, spec.classes.colors, strict=True):
        if any(colors.values()):
            yield f"colour of {code}", color, (colors[code] or "").lower() or None
    if not any(colors.values()):
        yield "colours", spec.classes.colors, None


def _named(items):
    return {item["id"]: " ".join(item["name"].replace("_", " ").split()) for item in items}


def _files(spec, facts):
    published = {a["file"]: a for a in [*facts["archives"], *facts["splits"].get("sources", [])] if a.get("file")}
    by_url = {a["url"]: a for a in facts["splits"].get("sources", []) if "url" in a}
    for archive in spec.archives:
        stated = published.get(archive.file) or by_url.get(archive.url)
        if stated is None:
            yield f"file {archive.file}", archive, None
            continue
        yield f"url of {archive.file}", archive.url, stated.get("url")
        sums = stated.get("md5"), stated.get("sha256")
        yield f"sums of {archive.file}", (archive.md5, archive.sha256), sums if any(sums) else None
        if archive.size is not None or stated.get("size_bytes") is not None:
            yield f"bytes of {archive.file}", archive.size, stated.get("size_bytes")
        if archive.members and "root" not in stated.get("extracts_to", "root"):
            start = re.split("[{<]", stated["extracts_to"])[0]
            members = [member.removeprefix(f"{archive.extract_to}/") for member in archive.members]
            fits = any(member.startswith(start) or start.startswith(member) for member in members)
            yield f"files of {archive.file}", fits, True


def _other(spec, facts):
    numbers = {pair for n in facts["normalization"] if "std" in n for pair in zip(n["mean"], n["std"], strict=True)}
    in_spec = {pair for statistics in spec.statistics for pair in zip(statistics.mean, statistics.std, strict=True)}
    yield "statistics", in_spec - numbers, set()
    waves = {
        str(band.get(key)).replace("B0", "B"): band.get("wavelength_um")
        for band in facts["bands"]
        for key in ("name", "alias")
    }
    for band in spec.bands:
        if band.wavelength is not None:
            stated = waves.get(band.name.replace("B0", "B"))
            yield f"wavelength of {band.name}", band.wavelength, stated and pytest.approx(stated, rel=1e-3)
    cited = {c.get(kind) for c in facts["citation"] for kind in ("doi", "url")} - {None}
    yield "citation", spec.cite in cited, True
    yield "license", (spec.license,), (facts["license"]["id"],)
    yield "georeferenced", spec.georeferenced, facts["georeferenced"]["value"]


@pytest.mark.parametrize(("level", "tier"), [("tier4", "tier4"), ("tier3", "tier3"), ("tier2", "tier2")])
def test_tiers_of_zuericrop_agree_with_the_fact_sheet(level, tier):
    items, spec = facts_of("zuericrop")["classes"]["items"], datasets.get("zuericrop")
    chosen = spec.levels[level]
    used = {item["id"]: item[tier].replace("_", " ") for item in items if item.get("used")}
    assert {stored: chosen.classes.name(code) for stored, code in chosen.codes.items() if code} == used
    assert set(chosen.codes) == set(spec.classes.codes)
    assert chosen.classes.codes == tuple(range(len(set(used.values())) + 1))
    assert len(spec.levels["tier4"].classes) == 1 + paper_count("zuericrop")


def paper_count(name):
    """Return how many classes the paper says that a dataset has."""
    return facts_of(name)["classes"]["paper_count"]


def test_classes_of_sen12ms_agree_with_the_fact_sheet():
    classes, levels = facts_of("sen12ms")["classes"], datasets.get("sen12ms").levels
    names = {1: "igbp", 2: "lccs_land_cover", 3: "lccs_land_use", 4: "lccs_surface_hydrology"}
    for layer in classes["lc_layers"]:
        level = levels[names[layer["band"]]]
        assert level.channel == layer["band"]
        names_by_code = dict(zip(level.classes.codes, level.classes.names, strict=True))
        assert names_by_code == (layer.get("classes") or _named(classes["items"]))
    simple = levels["simplified"]
    merged = [(item["id"], item["name"], item["color"]) for item in classes["simplified_items"]]
    assert list(zip(simple.classes.codes, simple.classes.names, simple.classes.colors, strict=True)) == merged
    assert simple.codes == {item["id"]: item["simplified"] for item in classes["items"]}
    assert len(levels["igbp"].classes) + len(levels["lccs_land_cover"].classes) == paper_count("sen12ms")


UNVERIFIED = {
    ("advance", "sampling rate and channels of the recordings"): ".data.audio.sample_rate_hz",
    ("bigearthnet_v2", "sample counts"): "variants[bigearthnet_v2].samples",
    ("bigearthnet_v2", "columns of metadata.parquet"): ".variants[].metadata_columns",
    ("ucmerced", "split sizes"): "split sizes 1,260/420/420 (60/20/20)",
    ("so2sat", "class colours"): "LCZ colours",
    ("so2sat", "sample counts of train and test"):
        "train/test row counts 352,366 and 24,188 (they add to 400,673 with 24,119)",
    ("tropical_cyclone", "file names of the images"): ".file_naming[]",
    ("tropical_cyclone", "units"): ".label.encoding",
    ("spacenet2", "file names in the archives"): "chip file names inside the tarballs",
    ("spacenet2", "data type"): "dtype",
    ("levircd_plus", "split sizes"): "split sizes",
    ("sen12ms", "class colours; those of the LCCS levels are geoxt's"): "class colours",
    ("sen12ms", "names of the LCCS classes"): "LCCS names",
    ("sen12ms", "codes of unlabelled pixels (0 and 255)"): ".label.ignore",
    ("sen12ms", "seasons as of the northern hemisphere"): "time.range",
    ("cv4a_kenya_crop_type", "scale"): "data.scaling",
    ("cv4a_kenya_crop_type", "georeferencing of the files"): "georeferenced",
    ("benin_cashews", "DOI"): "DOI",
    ("benin_cashews", "scale"): "data.scaling",
    ("etci2021", "sizes of val and test"): "val / test tile counts",
    ("etci2021", "value of nodata pixels"): "nodata appearance",
    ("spacenet1", "data type of the 8-band images"): "8band dtype",
    ("spacenet1", "nodata"): "nodata",
    ("spacenet4", "CRS"): "CRS",
    ("spacenet4", "file names of the tiles"): "chip names",
    ("spacenet4", "order of the pan-sharpened bands"): "Pan-Sharpen band order",
    ("spacenet4", "data types"): ".data.dtype",
    ("spacenet7", "CRS"): "CRS",
    ("spacenet7", "alpha as the fourth band"): "alpha band",
    ("spacenet7", "DOI"): ".citation[].doi",
    ("spacenet7", "split sizes"): "AOI counts",
    ("zuericrop", "27,977 samples"): "27,977 patches",
    ("zuericrop", "data types"): "dtypes",
    ("zuericrop", "order of the bands"): "band order beyond TorchGeo",
    ("zuericrop", "wording of the license"): None,
    ("seasonal_contrast", "DOI"): "DOI",
    ("seasonal_contrast", "acquisition years"): "time.range",
    ("seasonal_contrast_100k", "DOI"): "DOI",
    ("seasonal_contrast_100k", "acquisition years"): "time.range",
    ("chesapeake_cvpr", "tiles of each split"): "tiles per split",
    ("chesapeake_cvpr", "bands and data type of Landsat and the prior"): "Landsat layers",
    ("chesapeake_cvpr", "license"): "licence",
    ("patternnet", "license"): ".license",
    ("patternnet", "spelling of classes in file names"): ".quirks[]",
    ("patternnet", "range of resolutions"): "image.gsd_m exact bounds",
    ("resisc45", "split sizes"):
        "split sizes 18,900/6,300/6,300 (60/20/20 of 31,500; consistent with Neumann et al.)",
    ("resisc45", "classes coarser than 30 m"): "GSD exception classes",
    ("cowc_detection", "split sizes"): "samples.splits",
    ("cowc_detection", "bands of Columbus and Vaihingen"): ".quirks[]",
    ("cowc_detection", "folders in the paths of the lists"): None,
    ("cowc_counting", "split sizes"): "samples.splits",
    ("cowc_counting", "bands of Columbus and Vaihingen"): ".quirks[]",
    ("cowc_counting", "grey borders"): ".quirks[]",
    ("cowc_counting", "folders in the paths of the lists"): None,
    ("gid15", "split sizes"): "split sizes 100/10/40",
    ("potsdam", "tile 7_10"): "tile 7_10 remark",
    ("vaihingen", "other folders of the first archive"): "extra folders of the first archive",
    ("vaihingen", "typical size of a tile"): None,
    ("landcoverai", "split sizes"): "7,470 / 1,602 / 1,602 split (sums to 10,674)",
    ("xview2", "split sizes"): "pair counts 2,799/933/6,369/933 (train+test equals the paper table)",
    ("xview2", "archive names of hold and tier3"): None,
    ("xview2", "targets of tier3"): None,
}  # fmt: skip
"""Unverified facts of the specs, and the statement of the sheet on each; `None` if the sheet has none."""
ELSEWHERE = {
    "variants[bigearthnet_v2].samples": "of bigearthnet_v2 alone",
    "zenodo id of v2": "its files are addressed",
    "per-class sample counts (they sum to 27,000)": "not in the spec",
    "date": "not in the spec",
    "TorchGeo pairing remark (reading of the code, not run)": "not in the spec",
    "date range": "not in the spec",
    "7,470 / 1,602 / 1,602 split (sums to 10,674)": "of the chips, not of the scenes",
    "label JSON metadata keys": "not read",
}
"""Unverified facts of the sheets that specs do not state."""


def unverified_in(value, path=""):
    """Yield the paths of values that a sheet marks as unverified."""
    if isinstance(value, list):
        for each in value:
            yield from unverified_in(each, f"{path}[]")
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "unverified":
                yield from each if isinstance(each, list) else [path]
            elif str(key).endswith("_unverified"):
                yield f"{path}.{key.removesuffix('_unverified')}"
            else:
                yield from unverified_in(each, f"{path}.{key}")


@pytest.mark.parametrize("name", NAMES)
def test_unverified_facts_are_those_of_the_sheet(name):
    stated = set(unverified_in(facts_of(name)))
    entries = {entry: text for (dataset, entry), text in UNVERIFIED.items() if dataset == name}
    assert set(datasets.get(name).unverified) == set(entries)
    assert not {text for text in entries.values() if text is not None} - stated, "verified meanwhile"
    assert not {text for text in stated if text[:1] != "."} - set(entries.values()) - set(ELSEWHERE)


def test_files_and_folds_that_sheets_describe():
    for name, kind in (("cowc_detection", "detection"), ("cowc_counting", "64_class")):
        pattern = facts_of(name)["layout"][1]["pattern"].replace("{detection|64_class}", kind)
        assert datasets.get(name).assets["label"].path.replace("{split:train|test}", "{split}") == pattern
    folds = facts_of("zuericrop")["splits"]
    assert folds["official"]
    assert folds["defined_by"].startswith("five spatial folds")
    assert len(datasets.get("zuericrop").split_names) == 5
    sizes = datasets.get("sen12ms").split_sizes
    damaged = 1
    assert sum(sizes.values()) + damaged == datasets.get("sen12ms").samples == facts_of("sen12ms")["samples"]["total"]
