"""Fetch datasets from a server on loopback: resume, checksums, locks and interrupted extractions."""

from __future__ import annotations

import bz2
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import run_code
from support.proxy import proxied

from geoxt.datasets import Archive, fetch, load
from geoxt.datasets.download import download
from geoxt.errors import InputError, ReadError
from geoxt.retry import RetryPolicy

download_module = sys.modules["geoxt.datasets.download"]
fetch_module = sys.modules["geoxt.datasets.fetch"]


def files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".geoxt" not in str(path)
    }


def test_load_downloads_a_missing_dataset(packed, tmp_path):
    spec, *_ = packed
    with pytest.raises(ReadError, match="Pass download=True"):
        load(spec, tmp_path / "new")
    dataset = load(spec, tmp_path / "new", download=True)
    assert len(dataset) == 2
    assert "ponds.zip" in files(tmp_path / "new")


@pytest.fixture(scope="module")
def proxied_file(served):
    """Return the bytes of a 300 kB file on a server behind a proxy, and the proxy."""
    folder, url = served
    content = os.urandom(300_000)
    (folder / "part.bin").write_bytes(content)
    with proxied(url) as proxy:
        yield content, proxy


@pytest.fixture
def big(proxied_file):
    proxied_file[1].forget()
    return proxied_file


def ask(archive, folder, **options):
    folder.mkdir(exist_ok=True)
    return download(archive, folder, **{"checksum": True, "progress": False, **options})


def sum_of(content):
    return hashlib.sha256(content).hexdigest()


def test_download_resumes_after_a_cut_connection(big, tmp_path):
    content, proxy = big
    proxy.fail(kind="cut", keep=0.6)
    archive = Archive(file="part.bin", url=f"{proxy.url}/part.bin", sha256=sum_of(content))
    path = ask(archive, tmp_path / "out")
    assert path.read_bytes() == content
    ranges = [request.headers.get("range") for request in proxy.requests if request.method == "GET"]
    assert ranges[0] is None
    assert ranges[1].startswith("bytes=")
    assert int(ranges[1][6:-1]) >= 100_000
    assert files(tmp_path / "out") == {"part.bin"}


def test_partial_download_resumes_in_the_next_call(big, tmp_path, monkeypatch):
    content, proxy = big
    monkeypatch.setattr(download_module, "POLICY", RetryPolicy(retries=0))
    archive = Archive(file="part.bin", url=f"{proxy.url}/part.bin", sha256=sum_of(content))
    proxy.fail(kind="cut", keep=0.5)
    proxy.fail(kind="status", status=503)
    with pytest.raises(ReadError, match="Fetch again to resume"):
        ask(archive, tmp_path / "out")
    half = (tmp_path / "out" / "part.bin.part").stat().st_size
    assert 0 < half < len(content)
    assert not (tmp_path / "out" / "part.bin").exists()
    assert ask(archive, tmp_path / "out").read_bytes() == content


def test_missing_file_on_the_server_raises(big, tmp_path):
    _, proxy = big
    archive = Archive(file="part.bin", url=f"{proxy.url}/none.bin")
    with pytest.raises(ReadError, match=r"none\.bin.*404"):
        ask(archive, tmp_path / "out")


def test_wrong_checksum_leaves_no_file(big, tmp_path):
    content, proxy = big
    archive = Archive(file="part.bin", url=f"{proxy.url}/part.bin", md5="0" * 32)
    with pytest.raises(ReadError, match="is not md5:0000"):
        ask(archive, tmp_path / "out")
    assert files(tmp_path / "out") == set()
    assert ask(archive, tmp_path / "out", checksum=False).read_bytes() == content


def test_checksum_of_a_manually_placed_archive_is_verified(packed, tmp_path):
    spec, folder, _ = packed
    root = tmp_path / "by-hand"
    root.mkdir()
    (root / "ponds.zip").write_bytes((folder / "ponds.zip").read_bytes()[:-7])
    with pytest.raises(ReadError, match=r"ponds\.zip.*its sha256 is .*Remove it"):
        fetch(spec, root)
    assert files(root) == {"ponds.zip"}


def test_interrupted_extraction_raises_and_is_repeated_by_download(packed, tmp_path, monkeypatch):
    spec, *_ = packed
    root = tmp_path / "root"

    def stop(folder, target):
        next(folder.iterdir()).replace(target / "ponds")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "move_into", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(spec, root)
    with pytest.raises(ReadError, match="was interrupted"):
        load(spec, root)
    assert len(load(spec, root, download=True)) == 2
    assert sorted(path.name for path in (root / ".geoxt").iterdir()) == ["lock", "ponds.zip.done"]


TWICE = """
import os, sys
from dataclasses import replace
import pooch
from geoxt.datasets import Archive, fetch, get

url, sha256, root = sys.argv[1:]
archive = Archive(file="ponds.zip", url=url, sha256=sha256, members=("ponds/",))
other = os.fork()
fetch(replace(get("levircd_plus"), archives=(archive,)), root)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0)
"""
"""Program that fetches in two processes at the same time."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_concurrent_fetches_are_serialized(packed, tmp_path):
    spec, _, url = packed
    root = tmp_path / "shared"
    done = run_code(TWICE, f"{url}/ponds.zip", spec.archives[0].sha256, str(root))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(load(replace(spec, archives=()), root)) == 2


def test_temporary_files_of_a_killed_fetch_are_removed_a_day_later(packed, tmp_path):
    spec, *_ = packed
    root = tmp_path / "new"
    (root / ".geoxt" / "extract-abc").mkdir(parents=True)
    for name in ("tmp0a_b1c2d", "tmpzzzzzzzz", "tmp0a_b1.tif"):
        (root / name).write_bytes(b"half")
    for name in ("tmp0a_b1c2d", "tmp0a_b1.tif"):
        os.utime(root / name, (0, 0))
    fetch(spec, root)
    assert {path for path in files(root) if path.startswith("tmp")} == {"tmpzzzzzzzz", "tmp0a_b1.tif"}
    assert not list((root / ".geoxt").glob("extract-*"))


def test_manual_archives_raise_with_instructions(ponds, tmp_path):
    ask = "Ask the kite club."
    manual = replace(ponds, archives=tuple(Archive(file=name, instructions=ask) for name in ("ponds.zip", "lists.zip")))
    instructions = r"Ask the kite club\. Put it at .*ponds\.zip' and .*lists\.zip'\. Then"
    with pytest.raises(ReadError, match=f"{instructions} fetch again"):
        fetch(manual, tmp_path / "root")
    with pytest.raises(ReadError, match=f"{instructions} pass download=True"):
        load(manual, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_downloads_precede_the_error_of_manual_archives(packed, tmp_path):
    spec, *_ = packed
    mixed = replace(spec, archives=(Archive(file="more.zip", instructions="Ask.", members=("more/",)), *spec.archives))
    with pytest.raises(ReadError, match=r"Ask\. Put it at .*more\.zip'\."):
        fetch(mixed, tmp_path / "root")
    assert len(load(spec, tmp_path / "root")) == 2


def test_archive_is_not_mistaken_for_its_content(ponds, tmp_path):
    content = b"a list"
    (tmp_path / "list.txt.bz2").write_bytes(bz2.compress(content))
    spec = replace(ponds, archives=(Archive(file="list.txt.bz2", members=("list.txt",), instructions="Ask."),))
    fetch(spec, tmp_path)
    assert (tmp_path / "list.txt").read_bytes() == content


def test_unsupported_url_scheme_raises(ponds, tmp_path):
    odd = replace(ponds, archives=(Archive(file="ponds.zip", url="gopher://ponds"),))
    with pytest.raises(InputError, match="scheme is not one of http"):
        fetch(odd, tmp_path / "root")


def test_s3_url_becomes_https_url():
    assert download_module.http_url("s3://spacenet-dataset/a/b.tar.gz") == (
        "https://spacenet-dataset.s3.amazonaws.com/a/b.tar.gz"
    )


def test_removed_files_are_fetched_again(packed, tmp_path):
    spec, *_ = packed
    root = fetch(spec, tmp_path / "root")
    (root / "ponds").rename(tmp_path / "away")
    with pytest.raises(ReadError, match="Pass download=True"):
        load(spec, root)
    assert load(spec, root, download=True).verify(deep=True).ok


def test_again_extracts_over_broken_files(packed, tmp_path):
    spec, *_ = packed
    root = fetch(spec, tmp_path / "root")
    broken = next((root / "ponds").rglob("*.png"))
    broken.write_bytes(b"")
    fetch(spec, root)
    assert not load(spec, root).verify(deep=True).ok
    fetch(replace(spec, archives=(replace(spec.archives[0], url="http://127.0.0.1:9/gone.zip"),)), root, force=True)
    assert load(spec, root).verify(deep=True).ok


def test_again_verifies_the_checksum_of_a_single_file(packed, tmp_path):
    spec, folder, url = packed
    (folder / "list.txt").write_bytes(b"a list")
    archive = Archive(file="list.txt", url=f"{url}/list.txt", sha256=sum_of(b"a list"))
    root = fetch(replace(spec, archives=(archive,)), tmp_path / "root")
    (root / "list.txt").write_bytes(b"no list")
    with pytest.raises(ReadError, match=r"list\.txt.*Remove it and fetch it again"):
        fetch(replace(spec, archives=(archive,)), root, force=True)
    (root / "list.txt").unlink()
    assert (fetch(replace(spec, archives=(archive,)), root) / "list.txt").read_bytes() == b"a list"


def test_interrupted_download_of_a_single_file_is_resumed(packed, tmp_path):
    spec, folder, url = packed
    (folder / "list.txt").write_bytes(b"a list")
    archive = Archive(file="list.txt", url=f"{url}/list.txt", sha256=sum_of(b"a list"))
    root = tmp_path / "root"
    root.mkdir()
    (root / "list.txt.part").write_bytes(b"a l")
    fetch(replace(spec, archives=(archive,)), root)
    assert (root / "list.txt").read_bytes() == b"a list"
    assert files(root) == {"list.txt"}
