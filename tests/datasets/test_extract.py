"""Extract archives: formats, multi-part archives, unsafe members and decompression bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest

from geoxt.datasets import extract as extraction
from geoxt.datasets.extract import extract, move_into
from geoxt.errors import ReadError

CONTENT = {"a/one.txt": b"one", "a/b/two.txt": b"two" * 1000}


def packed(name: str) -> bytes:
    out = io.BytesIO()
    if name.endswith("zip"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            for path, content in CONTENT.items():
                file.writestr(path, content)
        return out.getvalue()
    with tarfile.open(
        fileobj=out, mode={"tar": "w", "gz": "w:gz", "tbz": "w:bz2", "xz": "w:xz"}[name.rsplit(".", 1)[-1]]
    ) as file:
        for path, content in CONTENT.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def contents_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tbz", "x.tar.xz"])
@pytest.mark.parametrize("parts", [1, 3])
def test_all_members_are_extracted(tmp_path, name, parts):
    content = packed(name)
    cut = -(-len(content) // parts)
    paths = [tmp_path / f"{name}a{at}" for at in range(parts)]
    for at, path in enumerate(paths):
        path.write_bytes(content[at * cut : (at + 1) * cut])
    assert contents_of(extract(name, paths, tmp_path / "work")) == CONTENT


@pytest.mark.parametrize(("name", "pack"), [("list.txt.bz2", bz2.compress), ("list.txt.gz", gzip.compress)])
def test_single_compressed_file(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(b"lines"))
    assert contents_of(extract(name, [tmp_path / name], tmp_path / "work")) == {"list.txt": b"lines"}


@pytest.mark.parametrize("bad", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:/out.txt", "..\\out.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_member_path_outside_of_the_folder_raises(tmp_path, bad, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(bad, "x")
    else:
        with tarfile.open(path, "w") as file:
            file.addfile(tarfile.TarInfo(bad), io.BytesIO())
    with pytest.raises(ReadError, match="leaves the folder"):
        extract(path.name, [path], tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {path.name, "work"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_raise(tmp_path, kind):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.addfile(info)
    with pytest.raises(ReadError, match="is a link or a device"):
        extract("x.tar", [tmp_path / "x.tar"], tmp_path / "work")


def test_link_in_zip_raises(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ReadError, match="is a link"):
        extract("x.zip", [tmp_path / "x.zip"], tmp_path / "work")


def test_decompression_bomb_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "FLOOR", 1000)
    monkeypatch.setattr(extraction, "RATIO", 2)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(1_000_000))
    with pytest.raises(ReadError, match="exceeds the size limit"):
        extract("x.zip", [tmp_path / "x.zip"], tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_error_of_a_broken_archive_names_the_file(tmp_path, name):
    (tmp_path / name).write_bytes(packed(name)[:-40])
    with pytest.raises(ReadError, match=rf"Cannot extract .*{name}.*fetch it again"):
        extract(name, [tmp_path / name], tmp_path / "work")


def test_rar_raises_with_instructions(tmp_path):
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(ReadError, match="Extract it there manually"):
        extract("x.rar", [tmp_path / "x.rar"], tmp_path / "work")


def test_folders_of_the_same_name_are_merged(tmp_path):
    for root, name in (("old", "one"), ("new", "two")):
        (tmp_path / root / "a").mkdir(parents=True)
        (tmp_path / root / "a" / name).write_text(name)
    move_into(tmp_path / "new", tmp_path / "old")
    assert contents_of(tmp_path / "old") == {"a/one": b"one", "a/two": b"two"}
    assert not (tmp_path / "new").exists()


def test_encrypted_member_raises(tmp_path):
    content = bytearray(packed("x.zip"))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + flags] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ReadError, match=r"'a/one\.txt': it needs a password. Extract the archive manually"):
        extract("x.zip", [tmp_path / "x.zip"], tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("header", [{"path": "a/one\0.txt"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}])
def test_invalid_header_raises(tmp_path, header):
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        member = tarfile.TarInfo("a/one.txt")
        member.size, member.pax_headers = 1, header
        file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ReadError, match=r"Cannot extract '.*x\.tar': ValueError"):
        extract("x.tar", [tmp_path / "x.tar"], tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def noise(count: int) -> bytes:
    """Return bytes that no compressor shortens, such as those of PNG and JPEG files."""
    return np.random.default_rng(0).bytes(count)


def tarball(mode: str, members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(("name", "mode"), [("x.tar.gz", "w:gz"), ("x.tbz", "w:bz2"), ("x.tar.xz", "w:xz")])
def test_every_flipped_bit_of_a_compressed_archive_raises(tmp_path, name, mode):
    content = tarball(mode, {"a/one.bin": noise(20_000), "a/two.bin": noise(9_000)})
    for position in np.linspace(20, len(content) - 2, 40).astype(int):  # byte 4 to 9 of gzip are time stamp and system
        damaged = bytearray(content)
        damaged[position] ^= 1
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ReadError):
            extract(name, [tmp_path / name], tmp_path / "work")
    assert not [*(tmp_path / "work").iterdir()]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tbz", "x.tar.xz"])
def test_archive_cut_between_members_raises(tmp_path, name):
    members = {f"{n}.bin": noise(512 * 3) for n in range(4)}
    plain = tarball("w", members)[: 512 * 4 * 2]  # two members of one header and three blocks of content
    content = {"tar": bytes, "gz": gzip.compress, "tbz": bz2.compress, "xz": lzma.compress}[name.rpartition(".")[2]](
        plain
    )
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match="the header behind member 2 is damaged or missing"):
        extract(name, [tmp_path / name], tmp_path / "work")


def test_damaged_header_between_members_raises(tmp_path):
    content = bytearray(tarball("w", {f"{n}.bin": noise(512 * 3) for n in range(4)}))
    content[512 * 4 + 5] ^= 1  # the name in the second header: tarfile would end there, without an error
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ReadError, match="the header behind member 1 is damaged"):
        extract("x.tar", [tmp_path / "x.tar"], tmp_path / "work")


def test_flipped_bits_of_other_formats_raise(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a.bin", noise(5000))
    for name, content in (("x.zip", out.getvalue()), ("a.bin.gz", gzip.compress(noise(5000)))):
        damaged = bytearray(content)
        damaged[2500] ^= 1
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ReadError):
            extract(name, [tmp_path / name], tmp_path / "work")
