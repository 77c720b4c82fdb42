"""Parts of releases: archives and members that are fetched, archives that are absent, and removal of archives."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import replace

import pytest
from support.dataset_trees import make_tree, pack

from geoxt import datasets
from geoxt.cli import main
from geoxt.datasets import Archive, fetch, load
from geoxt.errors import DatasetWarning, InputError, ReadError

fetch_module = sys.modules["geoxt.datasets.fetch"]
pytestmark = pytest.mark.filterwarnings("ignore::geoxt.errors.DatasetWarning")


def files(root):
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and ".geoxt" not in p.parts}


@pytest.fixture(scope="module")
def packed_release(tmp_path_factory, served):
    """Return the spec of a release whose archives are served, by name."""
    made = {}

    def release(name):
        if name not in made:
            tree = make_tree(datasets.get(name), tmp_path_factory.mktemp(name))
            spec = pack(tree, served[0] / f"part-{name}", f"{served[1]}/part-{name}")
            if name == "chesapeake_cvpr":
                spec = replace(spec, archives=spec.archives[:1])
            made[name] = spec, tree
        return made[name]

    return release


SPRING = "ROIs1158_spring"


@pytest.mark.parametrize(
    ("name", "part", "archives"),
    [
        ("sen12ms", {"assets": ["image", "mask"]}, {f"{s}_{k}.tar.gz" for k in ("s2", "lc") for s in (
            SPRING, "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")}),
        ("sen12ms", {"where": {"season": SPRING}}, {f"{SPRING}_{kind}.tar.gz" for kind in ("s1", "s2", "lc")}),
        ("sen12ms", {"where": {"season": [SPRING]}, "assets": ["sar"]}, {f"{SPRING}_s1.tar.gz"}),
        ("chesapeake_cvpr", {"where": {"state": ["de_1m_2013", "ny_1m_2013"]}}, {"cvpr_chesapeake_landcover.zip"}),
        ("advance", {"assets": ["image"]}, {"ADVANCE_vision.zip"}),
        ("spacenet1", {"split": "test"}, {f"SN1_buildings_test_AOI_1_Rio_{n}band.tar.gz" for n in (3, 8)}),
        ("spacenet2", {"where": {"aoi": "4_Shanghai"}, "split": "train"},
         {"SN2_buildings_train_AOI_4_Shanghai.tar.gz"}),
        ("cowc_counting", {"where": {"place": "Utah_AGRC"}}, {"COWC_Counting_Utah_AGRC.tbz"} | {
            f"COWC_{split}_list_64_class.txt.bz2" for split in ("train", "test")}),
        ("bigearthnet", {"assets": ["image", "label"]}, {"BigEarthNet-S2-v1.0.tar.gz"}),
    ],
)  # fmt: skip
def test_part_of_a_release(packed_release, tmp_path, name, part, archives):
    spec, tree = packed_release(name)
    fetch(spec, tmp_path, **part)
    suffixes = (".zip", ".gz", ".tbz", ".bz2")
    assert {path for path in files(tmp_path) if path.endswith(suffixes)} == archives
    complete, loaded = (
        load(tree.spec, tree.root, part.get("split"), assets=part.get("assets")),
        load(spec, tmp_path, **part),
    )
    where = {k: [v] if isinstance(v, str) else v for k, v in part.get("where", {}).items()}
    expected = [dict(complete.fields(i)) for i in range(len(complete))]
    expected = [fields for fields in expected if all(fields[name] in values for name, values in where.items())]
    assert [loaded.fields(i) for i in range(len(loaded))] == expected
    assert loaded.verify(deep=True).ok
    before = files(tmp_path)
    load(spec, tmp_path, download=True, **part)
    assert files(tmp_path) == before
    assert len(load(spec, tmp_path, download=True)) == len(load(tree.spec, tree.root))


def test_only_the_files_of_the_part_are_extracted(packed_release, tmp_path):
    spec, _ = packed_release("chesapeake_cvpr")
    fetch(spec, tmp_path, where={"state": "md_1m_2013"}, assets=["image", "mask"])
    fetch(spec, tmp_path, where={"state": "md_1m_2013"}, assets=["mask"])  # is there
    paths = {path for path in files(tmp_path) if path.endswith(".tif")}
    assert paths
    assert all(path.startswith("md_") and path.endswith(("naip-new.tif", "lc.tif")) for path in paths)
    fetch(spec, tmp_path, where={"state": "md_1m_2013"}, assets=["nlcd"])
    assert any(path.endswith("nlcd.tif") for path in files(tmp_path))
    assert not any(path.startswith("ny_") for path in files(tmp_path))


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ({"where": {"season": "monsoon"}}, "season='monsoon': its values are ROIs1158_spring, .* Pass where="),
        ({"where": {"state": "de"}}, "Cannot select samples of 'sen12ms' by 'state': its paths have season, scene"),
        ({"where": {"scene": "x"}}, "scene='x': its values are of the form 'd'"),
        ({"assets": ["s1"]}, "Cannot find asset 's1'"),
        ({"split": "val"}, "Cannot find split 'val'"),
    ],
)
def test_unknown_part_raises(tmp_path, part, match):
    with pytest.raises(InputError, match=match):
        fetch("sen12ms", tmp_path / "root", **part)
    with pytest.raises(InputError, match=match):
        load("sen12ms", tmp_path / "root", **part)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("name", "folders", "text", "part"),
    [
        ("sen12ms", f"{SPRING}/*", rf"{SPRING}_lc.tar.gz \(mask of season={SPRING}\).*Or pass assets=, where= of",
         {"where": {"season": ["ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter"]}}),
        ("spacenet2", "SN2_buildings/test/*", r"AOI_2_Vegas_Test_public\.tar\.gz .*split=test.*Or pass split=, ",
         {"split": "train"}),
        ("spacenet2", "SN2_buildings/*/AOI_2_*", r"2_Vegas\.tar\.gz \(all assets of split=train, aoi=2_Vegas\)",
         {"where": {"aoi": ["3_Paris", "4_Shanghai", "5_Khartoum"]}}),
        ("cowc_counting", "Utah_AGRC", r"COWC_Counting_Utah_AGRC\.tbz \(image of place=Utah_AGRC\)",
         {"where": {"place": ["Toronto_ISPRS", "Selwyn_LINZ"]}}),
        ("chesapeake_cvpr", "ny_1m_2013*", r"ny_1m_2013_ of cvpr_.*\.zip \(all assets of state=ny_1m_2013\)",
         {"where": {"state": "va_1m_2014"}}),
        ("so2sat", "testing.h5", r"testing\.h5 \(all assets of split=testing\)", {"split": ["train", "val"]}),
    ],
)  # fmt: skip
def test_absent_archives_raise(tmp_path, name, folders, text, part):
    if name == "so2sat":
        pytest.importorskip("h5py")
    tree = make_tree(datasets.get(name), tmp_path / "root")
    for path in tree.root.glob(folders):
        path.rename(tmp_path / path.name)
    with pytest.raises(ReadError, match=text):
        load(tree.spec, tree.root)
    remaining = load(tree.spec, tree.root, missing="skip")
    assert 0 < len(remaining) < tree.spec.samples
    assert any("are absent" in problem for problem in remaining.skipped)
    assert not remaining.verify().ok
    assert load(tree.spec, tree.root, **part).verify().ok


@pytest.mark.parametrize("name", ["sen12ms", "spacenet1", "cowc_detection", "bigearthnet_v2"])
def test_removed_archives_are_not_needed(packed_release, tmp_path, name):
    spec, tree = packed_release(name)
    fetch(spec, tmp_path, keep_archives=False)
    assert not [path for path in files(tmp_path) if path.endswith((".gz", ".gzaa", ".gzab", ".tbz", ".bz2"))]
    offline = replace(spec, archives=tuple(replace(a, url="http://127.0.0.1:9/gone") for a in spec.archives))
    loaded = load(offline, tmp_path, download=True)
    assert len(loaded) == len(load(tree.spec, tree.root))
    assert loaded.verify(deep=True).ok
    fetch(spec, tmp_path, force=True, keep_archives=False)
    assert load(offline, tmp_path).verify(deep=True).ok


def test_archives_are_removed_later_but_not_those_placed_by_hand(packed, tmp_path):
    spec, *_ = packed
    root = fetch(spec, tmp_path / "root")
    assert (root / "ponds.zip").is_file()
    fetch(spec, root, keep_archives=False)
    assert not (root / "ponds.zip").exists()
    other = tmp_path / "manual"
    fetch(spec, other)
    by_hand = replace(spec, archives=(replace(spec.archives[0], url=None, instructions="Ask."),))
    fetch(by_hand, other, keep_archives=False)
    assert (other / "ponds.zip").is_file()


def test_interrupted_part_is_repeated(packed_release, tmp_path, monkeypatch):
    spec, _ = packed_release("chesapeake_cvpr")
    part = {"where": {"state": "md_1m_2013"}}

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "move_into", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(spec, tmp_path, **part)
    with pytest.raises(ReadError, match="was interrupted"):
        load(spec, tmp_path, **part)
    assert load(spec, tmp_path, download=True, **part).verify(deep=True).ok


def test_archive_without_the_part_raises(packed, served, tmp_path):
    spec, folder, url = packed
    with zipfile.ZipFile(folder / "other.zip", "w") as file:
        file.writestr("Ponds/readme.txt", "another release")
        file.writestr("lakes/readme.txt", "another release")
    archive = Archive(file="other.zip", url=f"{url}/other.zip", members=("ponds/",))
    with pytest.raises(ReadError, match=r"other\.zip': it lacks ponds/\*\. It has Ponds/, lakes/\. Nothing was extr"):
        fetch(replace(spec, archives=(archive,)), tmp_path / "root")
    assert files(tmp_path / "root") == {"other.zip"}
    assert not list((tmp_path / "root" / ".geoxt").glob("extract-*"))


def test_part_by_command_line(packed_release, tmp_path, monkeypatch, capsys):
    spec, _ = packed_release("sen12ms")
    monkeypatch.setattr(fetch_module, "get", lambda _: spec)
    monkeypatch.setattr("geoxt.datasets.dataset.get", lambda _: spec)
    part = ["sen12ms", str(tmp_path), "--assets", "image", "--where", f"season={SPRING}"]
    assert main(["datasets", "fetch", *part, "--no-keep-archives"]) == 0
    assert {path.partition("/")[0] for path in files(tmp_path)} == {SPRING, "train_list.txt", "test_list.txt"}
    assert main(["datasets", "verify", *part]) == 0
    assert main(["datasets", "verify", "sen12ms", str(tmp_path)]) == 2
    assert f"{SPRING}_s1.tar.gz" in capsys.readouterr().out
    assert main(["datasets", "fetch", "sen12ms", str(tmp_path), "--where", "spring"]) == 2
    assert "Pass --where such as season=" in capsys.readouterr().err


def test_part_of_rule_based_splits_warns(packed_release, tmp_path):
    tree = make_tree(datasets.get("vhr10"), tmp_path)
    with pytest.warns(DatasetWarning, match="differ from those of the release"):
        load(tree.spec, tmp_path, "train", where={"set": "positive"})
