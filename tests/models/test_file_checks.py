"""Model files that would run code when torch loads them raise, and the code does not run."""

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from geoxt.errors import InputError
from geoxt.models import from_file

SIGNS = "could run code of its author"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    dims = {"input": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}}
    program = torch.export.export(nn.Conv2d(2, 3, 3, padding=1), (torch.zeros(2, 2, 8, 8),), dynamic_shapes=dims)
    torch.export.save(program, path)
    return path


def changed(source, path, **parts):
    """Copy an archive with parts replaced by functions of their content, or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        names = {name.partition("/")[2]: name for name in old.namelist()}
        for name, full in names.items():
            content = old.read(full)
            new.writestr(full, parts.pop(name)(content) if name in parts else content)
        root = next(iter(names.values())).partition("/")[0]
        for name, make in parts.items():
            new.writestr(f"{root}/{name}", make(b""))
    return path


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edited(key, text):
    """Return a function that sets the first text of a key in a graph."""

    def edit(content):
        graph = json.loads(content)

        def walk(value):
            if isinstance(value, dict):
                for name, item in value.items():
                    if name == key and isinstance(item, (str, list)):
                        value[name] = text if isinstance(item, str) else [*item, text]
                        return True
                    if walk(item):
                        return True
            return isinstance(value, list) and any(map(walk, value))

        assert walk(graph)
        return json.dumps(graph).encode()

    return edit


HAND = {"bands": ("a", "b"), "mean": 0, "std": 1}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("target", "torch.os.system"),
        ("target", "torch.ops.aten.from_file.default"),
        ("target", "torch.ops.other.add.default"),
        ("target", "_operator.methodcaller"),
        ("expr_str", "__import__('pathlib').Path('{touched}').touch()"),
        ("expr_str", "s1.__class__"),
        ("guards_code", "__import__('pathlib').Path('{touched}').touch() is None"),
        ("guards_code", "L['input'].__class__ != 1"),
        ("in_spec", '[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'),
        ("fqn", "a\nimport os"),
    ],
)
def test_code_in_a_graph_does_not_run(archive, tmp_path, key, text):
    touched = tmp_path / "touched"
    edit = edited(key, text.replace("{touched}", str(touched)))
    path = changed(archive, tmp_path / "a.pt2", **{"models/model.json": edit})
    with pytest.raises(InputError, match=SIGNS):
        from_file(path, task="pixelwise-regression", **HAND)
    assert not touched.exists()


def test_symbolic_size_would_run_code(archive, tmp_path):
    """The check is needed: torch evaluates the text of a size, which is why the same file raises here."""
    touched = tmp_path / "touched"
    text = f"__import__('pathlib').Path('{touched}').touch()"
    path = changed(archive, tmp_path / "a.pt2", **{"models/model.json": edited("expr_str", text)})
    with pytest.raises(Exception):  # noqa: B017, PT011 (torch fails after the code has run)
        torch.export.load(path)
    assert touched.exists()


@pytest.mark.parametrize("part", ["data/sample_inputs/model.pt", "data/weights/model.pt"])
def test_pickled_objects_do_not_run(archive, tmp_path, part):
    touched = tmp_path / "touched"
    path = changed(archive, tmp_path / "a.pt2", **{part: lambda _: pickled((Touch(touched),))})
    with pytest.raises(InputError, match="objects other than tensors"):
        from_file(path, **HAND)
    assert not touched.exists()


def test_pickled_constant_does_not_run(archive, tmp_path):
    touched = tmp_path / "touched"
    config = {
        "config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    parts = {
        "data/constants/model_constants_config.json": lambda _: json.dumps(config).encode(),
        "data/constants/opaque_obj_0": lambda _: pickle.dumps(Touch(touched)),
    }
    with pytest.raises(InputError, match="opaque_obj_0"):
        from_file(changed(archive, tmp_path / "a.pt2", **parts), **HAND)
    assert not touched.exists()


def test_compiled_code_needs_trust(archive, tmp_path):
    path = changed(archive, tmp_path / "a.pt2", **{"data/aotinductor/model/m.so": lambda _: b"ELF"})
    with pytest.raises(InputError, match=r"compiled code.*trust=True"):
        from_file(path, **HAND)


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path)
    return path


class Saves(nn.Module):
    """Writes a file when it runs."""

    def forward(self, image):
        torch.save(image, "written.pt")
        return image


class Loads(nn.Module):
    """Maps a file into memory when it is loaded."""

    @torch.jit.export
    def __getstate__(self):
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool):  # noqa: FBT001
        self.training = state and torch.from_file("written.pt", shared=True, size=4).numel() > 0

    def forward(self, image):
        return image


@pytest.mark.parametrize("module", [Saves, Loads])
def test_torchscript_on_files_raises(tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    path = script(module(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"uses 'torch\.(save|from_file)'|uses 'ops"):
        from_file(path, **HAND)
    assert not (tmp_path / "written.pt").exists()
