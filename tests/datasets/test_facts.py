"""Every spec is held to its sheet of facts; what a sheet does not say is listed, so that a newly empty fact fails."""

from __future__ import annotations

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
