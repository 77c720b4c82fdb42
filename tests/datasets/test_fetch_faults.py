"""Fetch into folders without permissions and full disks, from busy servers, and of archives that overwrite state."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import signal
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest
from support.dataset_trees import make_tree
from support.permissions import open_folder, unprivileged
from support.proxy import proxied
from support.servers import FileServer
from support.wire import Answer

from geoxt.datasets import Archive, fetch, load
from geoxt.datasets import disk_space as space
from geoxt.datasets.download import download
from geoxt.errors import OutputError, ReadError
from geoxt.retry import RetryPolicy

download_module = sys.modules["geoxt.datasets.download"]
fetch_module = sys.modules["geoxt.datasets.fetch"]
needs_modes = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")


@pytest.fixture
def shared_root():
    with open_folder() as folder:
        yield folder / "root"


def mode_of_folders(root, mode):
    for path in sorted((root, *root.rglob("*")), reverse=True):
        if path.is_dir():
            path.chmod(mode)


@needs_modes
@pytest.mark.parametrize("record", [True, False])
def test_complete_read_only_folder_opens(packed, shared_root, record):
    spec, *_ = packed
    fetch(spec, shared_root)
    if not record:  # extracted by hand
        shutil.rmtree(shared_root / ".geoxt")
    offline = replace(spec, archives=(replace(spec.archives[0], url="http://127.0.0.1:9/gone"),))
    mode_of_folders(shared_root, 0o555)
    before = {path: path.stat().st_mtime_ns for path in shared_root.rglob("*")}
    with unprivileged():
        assert load(offline, shared_root, download=True).verify(deep=True).ok
    assert {path: path.stat().st_mtime_ns for path in shared_root.rglob("*")} == before


@needs_modes
def test_incomplete_read_only_folder_raises(packed, shared_root):
    spec, *_ = packed
    shutil.rmtree(fetch(spec, shared_root) / "ponds")
    mode_of_folders(shared_root, 0o555)
    with unprivileged(), pytest.raises(OutputError, match=r"Cannot write 'ponds' .*Pass root= of a folder that can"):
        load(spec, shared_root, download=True)


@needs_modes
def test_checksum_is_verified_in_a_read_only_folder(packed, served, shared_root):
    spec, folder, url = packed
    (folder / "list.txt").write_bytes(b"a list")
    archive = Archive(file="list.txt", url=f"{url}/list.txt", sha256=hashlib.sha256(b"a list").hexdigest())
    listed = replace(spec, archives=(archive,))
    fetch(listed, shared_root)
    shutil.rmtree(shared_root / ".geoxt")
    shared_root.chmod(0o555)
    with unprivileged():
        assert fetch(listed, shared_root) == shared_root
    (shared_root / "list.txt").write_bytes(b"no list")
    with unprivileged(), pytest.raises(ReadError, match=r"list\.txt.*its sha256 is"):
        fetch(listed, shared_root)


OPEN = {("ponds/train", 0o111)}
"""Folders that are entered, but not listed, as the template has the names of their folders."""


@needs_modes
@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444])
@pytest.mark.parametrize("folder", ["ponds", "ponds/train", "ponds/test/mask"])
def test_unreadable_folder_raises(ponds, shared_root, folder, mode):
    tree = make_tree(ponds, shared_root)
    mode_of_folders(shared_root, 0o755)
    (shared_root / folder).chmod(mode)
    with unprivileged():
        if (folder, mode) in OPEN:
            assert load(tree.spec, shared_root).verify(deep=True).ok
        else:
            with pytest.raises(ReadError, match=f"{folder}.*Permission denied"):
                _ = [load(tree.spec, shared_root).read(i) for i in range(2)]
        with pytest.raises((ReadError, OutputError), match=r"[Pp]ermission"):
            fetch(tree.spec, shared_root, force=True)


@needs_modes
def test_unreadable_root_raises(packed, shared_root):
    spec, *_ = packed
    fetch(spec, shared_root)
    shared_root.chmod(0o000)
    with unprivileged():
        with pytest.raises(ReadError, match="Permission denied"):
            load(spec, shared_root)
        with pytest.raises(OutputError, match="Permission denied"):
            load(spec, shared_root, download=True)


@needs_modes
def test_unreadable_image_is_named(ponds, shared_root):
    tree = make_tree(ponds, shared_root)
    path = next(shared_root.rglob("test/image/*.png"))
    path.chmod(0o000)
    with unprivileged():
        dataset = load(tree.spec, shared_root, "test")
        with pytest.raises(ReadError, match=path.name):
            dataset.read(0)
        assert len(dataset.verify(deep=True).problems) == 1


@pytest.fixture(scope="module")
def proxied_file(served):
    content = os.urandom(200_000)
    (served[0] / "busy.bin").write_bytes(content)
    with proxied(served[1]) as proxy:
        yield content, proxy


@pytest.fixture
def busy(proxied_file, monkeypatch):
    """Return the content of a file, a proxy before its server, and the waits, none of which is waited for."""
    waits = []
    monkeypatch.setattr(download_module.time, "sleep", waits.append)
    proxied_file[1].forget()
    return *proxied_file, waits


def get_file(proxy, content, folder, **options):
    archive = Archive(file="busy.bin", url=f"{proxy.url}/busy.bin", sha256=hashlib.sha256(content).hexdigest())
    folder.mkdir(exist_ok=True)
    return download(replace(archive, **options), folder, checksum=True, progress=False)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", [None, "7", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"])
def test_busy_server_is_asked_again(busy, tmp_path, status, after):
    content, proxy, waits = busy
    proxy.fail("status", status=status, retry_after=after, times=3)
    assert get_file(proxy, content, tmp_path).read_bytes() == content
    assert len(proxy.requests) == 4
    if after == "7":
        assert waits == [7, 7, 7]
    else:
        assert [round(wait * 2) / 2 <= limit for wait, limit in zip(waits, (1, 2, 3), strict=True)] == [True] * 3


@pytest.mark.parametrize("status", [429, 503])
def test_retries_of_a_busy_server_are_limited(busy, tmp_path, status):
    content, proxy, waits = busy
    proxy.fail("status", status=status, times=99)
    with pytest.raises(ReadError, match=rf"busy\.bin.*{status}.*Fetch again to resume"):
        get_file(proxy, content, tmp_path)
    assert len(proxy.requests) == len(waits) + 1 == download_module.POLICY.retries + 1


def test_long_waits_are_left_to_the_user(busy, tmp_path):
    content, proxy, waits = busy
    proxy.fail("status", status=429, retry_after="3600")
    with pytest.raises(ReadError, match=r"429.*the server asks to wait 3,600 seconds\. Fetch again after that time"):
        get_file(proxy, content, tmp_path)
    assert (len(proxy.requests), waits) == (1, [])


def test_busy_in_the_middle_of_a_file(busy, tmp_path):
    content, proxy, _ = busy
    proxy.fail("cut", keep=0.5)
    proxy.fail("status", status=503, retry_after="1", beyond=1, times=2)
    assert get_file(proxy, content, tmp_path).read_bytes() == content


def test_complete_part_of_a_killed_process_is_not_downloaded_again(busy, tmp_path):
    content, proxy, _ = busy
    (tmp_path / "busy.bin.part").write_bytes(content)
    assert get_file(proxy, content, tmp_path).read_bytes() == content
    assert [request.range for request in proxy.requests] == [(len(content), None)]


def test_part_longer_than_the_file_is_replaced(busy, tmp_path):
    content, proxy, _ = busy
    (tmp_path / "busy.bin.part").write_bytes(content + b"more")
    assert get_file(proxy, content, tmp_path).read_bytes() == content


class WrongRange(FileServer):
    """Sends the first bytes for any range."""

    async def answer(self, request):
        answer = await super().answer(request)
        if answer is not None and answer.status == 206:
            size = len(answer.body)
            return Answer(status=206, headers={"content-range": f"bytes 0-{size - 1}/{size}"}, body=answer.body)
        return answer


def test_another_range_than_requested_is_not_appended(served, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module.time, "sleep", lambda _: None)
    content = bytes(range(256)) * 50
    (served[0] / "range.bin").write_bytes(content)
    (tmp_path / "range.bin.part").write_bytes(content[:1000])
    with WrongRange(served[0]) as server:
        archive = Archive(file="range.bin", url=f"{server.url}/range.bin")
        assert download(archive, tmp_path, checksum=False, progress=False).read_bytes() == content


def usage(free):
    return lambda _: shutil._ntuple_diskusage(10**12, 10**12 - free, free)


def test_download_says_how_much_room_it_needs(busy, tmp_path, monkeypatch):
    content, proxy, _ = busy
    monkeypatch.setattr(space.shutil, "disk_usage", usage(150_000))
    text = (
        r"busy\.bin: the disk of .* is full: 200\.00 kB are needed and 150\.00 kB are free\. Free disk space, or pass"
    )
    with pytest.raises(OutputError, match=text):
        get_file(proxy, content, tmp_path)
    (tmp_path / "busy.bin.part").write_bytes(content[:60_000])  # the rest fits
    assert get_file(proxy, content, tmp_path).read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_disk_that_fills_up_during_a_download(busy, tmp_path):
    content, proxy, _ = busy
    (tmp_path / "busy.bin.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"busy\.bin: the disk of .* is full: 200\.00 kB are needed"):
        get_file(proxy, content, tmp_path, size=200_000)
    with pytest.raises(OutputError, match=r"the disk of .* is full: .* are free\. Free disk space"):
        fetch_module.fetch(spec_of(Archive(file="busy.bin", url=f"{proxy.url}/busy.bin")), tmp_path)


def spec_of(*archives):
    from geoxt.datasets import get

    return replace(get("levircd_plus"), archives=archives)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_extraction_says_how_much_room_it_needs(tmp_path, monkeypatch, kind):
    root = tmp_path / "root"
    root.mkdir()
    make_archive(root / f"a.{kind}", {"LEVIR-CD+/train/A/1.png": bytes(5_000_000)})
    monkeypatch.setattr(space.shutil, "disk_usage", usage(2_000_000))
    spec = spec_of(Archive(file=f"a.{kind}", members=("LEVIR-CD+/",)))
    with pytest.raises(OutputError, match=r"Cannot extract .*: the disk .* is full: 5\.00 MB are needed and 2\.00 MB"):
        fetch(spec, root)
    assert left(root) == {f"a.{kind}", ".geoxt/lock"}
    monkeypatch.undo()
    fetch(spec, root)
    assert (root / "LEVIR-CD+/train/A/1.png").stat().st_size == 5_000_000


def test_disk_that_fills_up_during_an_extraction(tmp_path, monkeypatch):
    make_archive(tmp_path / "a.zip", {"LEVIR-CD+/train/A/1.png": bytes(1000)})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geoxt.datasets.extract._Target.write", full)
    with pytest.raises(OutputError, match=r"Cannot extract .*a\.zip.*: the disk of .* is full"):
        fetch(spec_of(Archive(file="a.zip", members=("LEVIR-CD+/",))), tmp_path)
    assert left(tmp_path) == {"a.zip", ".geoxt/lock"}


def make_archive(path, members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def left(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "member", [".geoxt/lock", ".geoxt/a.zip.done", ".GEOXT/lock", "./.geoxt/x", "a.zip", "b.zip", ".geoxt", ".geoxt./x"]
)
def test_member_that_overwrites_the_state_raises(tmp_path, member, kind):
    for name in ("a", "b"):
        make_archive(tmp_path / f"{name}.{kind}", {"LEVIR-CD+/x.png": b"x"} | ({member.replace("zip", kind): b""}))
    before = {name: (tmp_path / name).read_bytes() for name in (f"a.{kind}", f"b.{kind}")}
    spec = spec_of(*(Archive(file=f"{name}.{kind}", members=("LEVIR-CD+/",)) for name in ("a", "b")))
    with pytest.raises(ReadError, match=r"Cannot extract the member .*: it would overwrite a file of the download"):
        fetch(spec, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert left(tmp_path) == {*before, ".geoxt/lock"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_folders_of_a_killed_fetch_are_removed(tmp_path, monkeypatch):
    make_archive(tmp_path / "a.zip", {"LEVIR-CD+/train/A/1.png": b"x"})
    spec = spec_of(Archive(file="a.zip", members=("LEVIR-CD+/",)))
    child = os.fork()
    if not child:  # killed between the extraction and the move
        monkeypatch.setattr(fetch_module, "require_members", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        fetch(spec, tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list((tmp_path / ".geoxt").glob("extract-*"))) == 1
    fetch(spec, tmp_path)
    assert left(tmp_path) == {"a.zip", "LEVIR-CD+/train/A/1.png", ".geoxt/lock", ".geoxt/a.zip.done"}
    (tmp_path / ".geoxt" / "extract-abc").mkdir()  # beside a complete dataset
    fetch(spec, tmp_path)
    assert not list((tmp_path / ".geoxt").glob("extract-*"))


def test_folders_of_a_live_fetch_are_kept(tmp_path, monkeypatch):
    from filelock import FileLock, Timeout

    make_archive(tmp_path / "a.zip", {"LEVIR-CD+/train/A/1.png": b"x"})
    (tmp_path / ".geoxt" / "extract-live").mkdir(parents=True)
    monkeypatch.setattr(fetch_module, "FileLock", lambda path: FileLock(path, timeout=0))
    with FileLock(tmp_path / ".geoxt" / "lock"), pytest.raises(OutputError, match="lock"):
        fetch(spec_of(Archive(file="a.zip", members=("LEVIR-CD+/",))), tmp_path)
    assert issubclass(Timeout, OSError)
    assert (tmp_path / ".geoxt" / "extract-live").is_dir()


def test_retries_follow_the_policy():
    assert isinstance(download_module.POLICY, RetryPolicy)
    assert download_module.POLICY.wait(1, retry_after=61) is None
