"""Plain images: tables of classes and masks equal those of the network on the decoded pixels, without georeference."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from support.image_folders import write_png

from geoxt import cli
from geoxt.errors import InputError, ReadError
from geoxt.inference import classify_images, segment_images
from geoxt.models.card import Card
from geoxt.models.network import CARD, PREFIX, Network
from geoxt.trainers.datamodules.image_folder import read_image_folder, score_images

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def network(task, bands=("R", "G", "B"), **fields):
    model = {"classification": "resnet18", "segmentation": "fcn"}[task]
    options = {"width": 4} if model == "fcn" else {}
    count = len(bands)
    return Network(
        Card(
            task=task,
            model=model,
            options=options,
            bands=bands,
            mean=(100.0,) * count,
            std=(50.0,) * count,
            codes=(1, 7),
            names=("lake", "roof"),
            colors=("#0000ff", "#ff0000"),
            size=(16, 16),
            **fields,
        )
    ).eval()


class Brightness(torch.nn.Module):
    """Logits 0 and the mean of the first scaled band."""

    def forward(self, images):
        first = images[:, 0].mean((-2, -1))
        return torch.stack([torch.zeros_like(first), first], dim=1)


@pytest.fixture(scope="module")
def classifier():
    model = network("classification")
    model.body = Brightness()
    return model


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, level in {"lake/a": 0, "lake/b": 60, "roof/c": 150, "roof/d": 200}.items():
        path = tmp_path / "chips" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 50, (3, 16, 16), dtype=np.uint8)
        image[0] += level
        write_png(image, path)
    return tmp_path / "chips"


def save(model, path):
    state = {f"{PREFIX}{key}": value for key, value in model.state_dict().items()}
    torch.save({CARD: model.card.to_dict(), "state_dict": state}, path)
    return path


def test_table_has_the_probabilities_of_each_file(folder, classifier):
    table = classify_images(folder, classifier)
    images, labels, classes = read_image_folder(folder)
    with torch.no_grad():
        expected = classifier(images.float()).softmax(dim=1).numpy()
    assert [file.rsplit("/", 1)[1] for file in table["file"]] == ["a.png", "b.png", "c.png", "d.png"]
    assert table["class"].tolist() == [classes[k] for k in labels]
    np.testing.assert_allclose(table[["probability/lake", "probability/roof"]], expected, rtol=1e-5)
    np.testing.assert_allclose(table["probability"], expected.max(axis=1), rtol=1e-5)
    assert score_images(folder, classifier)["accuracy"] == 1
    plain = network("classification")
    scores = score_images(folder, save(plain, folder.parent / "chips.ckpt"), tta=False)
    assert scores.confusion_matrix.tolist() == score_images(folder, plain, tta=False).confusion_matrix.tolist()
    arrays = classify_images(images.numpy(), classifier)
    assert arrays["class"].tolist() == table["class"].tolist()


def test_files_of_several_sizes_and_kinds_are_decoded_to_the_bands_of_the_model(tmp_path, classifier):
    write_png(np.full((1, 9, 12), 200, "uint8"), tmp_path / "gray.png")
    write_png(np.concatenate([np.full((3, 8, 8), 10, "uint8"), np.zeros((1, 8, 8), "uint8")]), tmp_path / "rgba.png")
    options = {"driver": "PNG", "count": 1, "height": 8, "width": 8, "dtype": "uint8"}
    with rasterio.open(tmp_path / "palette.png", "w", **options) as file:
        file.write(np.ones((1, 8, 8), "uint8"))
        file.write_colormap(1, {1: (250, 0, 0, 255)})
    with rasterio.open(tmp_path / "z.tif", "w", **options | {"driver": "GTiff", "count": 3}) as file:
        file.write(np.stack([np.full((8, 8), level, "uint8") for level in (0, 0, 220)]))
        file.descriptions = ("blue", "green", "red")
    table = classify_images(tmp_path, classifier, batch_size=2).set_index("file")
    first = [float(np.log(p / (1 - p)) * 50 + 100) for p in table["probability/roof"]]
    names = [name.rsplit("/", 1)[1] for name in table.index]
    assert dict(zip(names, np.round(first).tolist(), strict=True)) == {
        "gray.png": 200,
        "palette.png": 250,
        "rgba.png": 10,
        "z.tif": 220,
    }


def test_images_that_do_not_fit_the_model_raise(tmp_path, folder, classifier):
    with pytest.raises(InputError, match="segmentation, not for classification"):
        classify_images(folder, network("segmentation"))
    with pytest.raises(InputError, match="classification, not for segmentation"):
        list(segment_images(folder, classifier))
    with pytest.raises(InputError, match=r"R, G, B, the model's nir, red"):
        classify_images(folder, network("classification", ("nir", "red")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no files of"):
        classify_images(tmp_path / "empty", classifier)
    (tmp_path / "named").mkdir()
    with rasterio.open(tmp_path / "named" / "a.tif", "w", width=8, height=8, count=2, dtype="uint8") as file:
        file.descriptions = ("red", "nir")
    with pytest.raises(InputError, match="its bands are red, nir, the model's B08, B04"):
        classify_images(tmp_path / "named", network("classification", ("B08", "B04")))
    with rasterio.open(tmp_path / "height.tif", "w", width=8, height=8, count=1, dtype="float32") as file:
        file.write(np.full((1, 8, 8), 200, "float32"))
    with pytest.raises(InputError, match=r"height\.tif': its bands are .*, the model's R, G, B"):
        classify_images(tmp_path / "height.tif", classifier)  # 8-bit images alone are repeated as gray
    with pytest.raises(InputError, match=r"a list of arrays as images\. Pass images= as one array"):
        classify_images([np.zeros((3, 8, 8))], classifier)
    with pytest.raises(InputError, match=r"shape \(2, 8, 8\)"):
        classify_images(np.zeros((1, 2, 8, 8)), classifier)
    content = (folder / "lake" / "a.png").read_bytes()
    (folder / "lake" / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ReadError, match=r"a\.png"):
        classify_images(folder, classifier)


def test_masks_have_the_pixels_of_the_image_and_no_georeference(tmp_path, folder):
    checkpoint = save(network("segmentation"), tmp_path / "model.ckpt")
    assert cli.main(["predict", str(folder), "--model", str(checkpoint), "--out", str(tmp_path / "masks")]) == 0
    model = network("segmentation")
    model.load_state_dict({k.removeprefix(PREFIX): v for k, v in torch.load(checkpoint)["state_dict"].items()})
    with rasterio.open(folder / "roof" / "c.png") as image, torch.no_grad():
        pixels = torch.from_numpy(image.read().astype("float32"))[None]
        expected = np.array([1, 7])[model(pixels).argmax(dim=1)[0].numpy()]
    with rasterio.open(tmp_path / "masks" / "roof" / "c.png") as mask:
        assert np.array_equal(mask.read(1), expected)
        assert mask.crs is None
        assert mask.transform.is_identity
        assert mask.colormap(1)[7][:3] == (255, 0, 0)
    assert sorted(p.name for p in (tmp_path / "masks").rglob("*.*")) == ["a.png", "b.png", "c.png", "d.png"]


@pytest.mark.parametrize("name", ["classes.csv", "classes.parquet"])
def test_command_writes_a_table(tmp_path, folder, name):
    checkpoint = save(network("classification"), tmp_path / "model.ckpt")
    assert cli.main(["predict", str(folder), "--model", str(checkpoint), "--out", str(tmp_path / name)]) == 0
    table = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert list(table) == ["file", "class", "probability", "probability/lake", "probability/roof"]
    np.testing.assert_allclose(table[["probability/lake", "probability/roof"]].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "out", "words"),
    [
        ("classification", "folder", "table"),
        ("segmentation", "a.csv", "masks"),
        ("segmentation", "chips", "one of the images"),
    ],
)
def test_outputs_that_do_not_fit_raise(tmp_path, folder, capsys, task, out, words):
    checkpoint = save(network(task), tmp_path / "model.ckpt")
    assert cli.main(["predict", str(folder), "--model", str(checkpoint), "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err


def test_image_folders_read_the_colors_of_palettes(tmp_path):
    (tmp_path / "lake").mkdir()
    options = {"driver": "PNG", "count": 1, "height": 2, "width": 2, "dtype": "uint8"}
    with rasterio.open(tmp_path / "lake" / "a.png", "w", **options) as file:
        file.write(np.array([[[0, 1], [1, 0]]], "uint8"))
        file.write_colormap(1, {0: (9, 8, 7, 255), 1: (250, 100, 0, 255)})
    images, _, _ = read_image_folder(tmp_path)
    assert images[0, :, 0].tolist() == [[9, 250], [8, 100], [7, 0]]


def test_images_are_scored_by_models_with_a_card_alone(tmp_path):
    with pytest.raises(InputError, match=r"Cannot score a model without a card .*Pass model="):
        score_images(tmp_path, torch.nn.Identity())
