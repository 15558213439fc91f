"""From image files to the network's input, and back to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.networks.inputs import FileInputs, Inputs, Preprocessing, batches
from pipeline.settings import ModelSettings
from tests.helpers.settings import Compose

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def model(*overrides: str) -> ModelSettings:
    return compose_settings(["model=resnet18", *overrides]).model


@pytest.fixture
def photograph() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((300, 260), Image.Resampling.BICUBIC)


def normalised(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_the_transform_of_published_weights_is_that_of_torchvision(photograph: Image.Image) -> None:
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()(photograph)
    assert torch.equal(Preprocessing(model()).transform(photograph), expected)


def test_resize_ignores_the_aspect_ratio_as_the_original_scripts_do(photograph: Image.Image) -> None:
    found = Preprocessing(model("model.transform.kind=resize")).transform(photograph)
    torch.testing.assert_close(found, normalised(photograph.resize((224, 224), Image.Resampling.BILINEAR)))


def test_none_only_normalises_the_pixels(photograph: Image.Image) -> None:
    found = Preprocessing(model("model.transform.kind=none")).transform(photograph)
    torch.testing.assert_close(found, normalised(photograph))


@pytest.mark.parametrize(
    ("kind", "n_channels"), [("resize", 3), ("none", 3), ("weights", 3), ("resize", 1), ("none", 1)]
)
def test_the_pictures_are_what_the_network_receives(
    kind: str, n_channels: int, photograph: Image.Image, tmp_path: Path
) -> None:
    photograph.save(tmp_path / "photograph.jpg")
    grey = ["model.input_size=[1,224,224]", "model.transform.mean=[0.4]", "model.transform.std=[0.2]"]
    asked = Preprocessing(model(f"model.transform.kind={kind}", *(grey if n_channels == 1 else [])))
    paths = [tmp_path / "photograph.jpg"] * 2
    expected = asked.to_pictures(asked.load(paths))
    assert expected[0].ndim == (2 if n_channels == 1 else 3)
    for found, picture in zip(asked.pictures(paths), expected, strict=True):
        np.testing.assert_array_equal(found, picture)


def test_the_orientation_of_a_photograph_is_applied(photograph: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    settings = model("model.transform.kind=none")
    batch = Preprocessing(settings).load([tmp_path / "phone.jpg"])
    assert batch.shape == (1, 3, 300, 260)
    assert Preprocessing(replace(settings, input_size=(1, 8, 8))).open(tmp_path / "phone.jpg").mode == "L"


def test_pixels_are_recovered_from_the_networks_input(photograph: Image.Image) -> None:
    preprocessing = Preprocessing(model("model.transform.kind=none"))
    inputs = preprocessing.transform(photograph)[None]
    pixels = np.asarray(photograph)
    np.testing.assert_allclose(preprocessing.to_pixels(inputs)[0].permute(1, 2, 0).numpy() * 255, pixels, atol=1e-3)
    np.testing.assert_array_equal(preprocessing.to_pictures(inputs)[0], pixels)
    grey = Preprocessing(replace(model("model.transform.kind=none"), transform=replace(
        model("model.transform.kind=none").transform, mean=(0.5,), std=(0.25,))))  # fmt: skip
    (picture,) = grey.to_pictures(torch.tensor([[[[-2.0, 0.0, 2.0, 9.0]]]]))
    assert picture.tolist() == [[0, 128, 255, 255]]


def test_the_visible_part_is_the_centre_that_the_transform_of_published_weights_crops() -> None:
    assert Preprocessing(model("model.transform.kind=resize")).visible_box(300, 200) == (0, 0, 300, 200)
    left, top, right, bottom = Preprocessing(model()).visible_box(512, 256)  # resized to 256, cropped to 224
    assert (left, top, right, bottom) == (144, 16, 368, 240)


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Return the files of seven grey images of 8 x 8 pixels, each of one level."""
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for index, path in enumerate(paths):
        Image.new("L", (8, 8), 10 * index).save(path)
    return paths


def test_the_inputs_of_files_are_read_in_order_and_batches(scans: list[Path]) -> None:
    preprocessing = Preprocessing(compose_settings([]).model)
    inputs: Inputs = FileInputs(scans, preprocessing, torch.device("cpu"))
    everything = preprocessing.load(scans)
    assert len(inputs) == 7
    assert everything.shape == (7, 1, 8, 8)
    torch.testing.assert_close(everything[:, 0, 0, 0], torch.arange(7) * 10 / 255)
    assert torch.equal(inputs.read(slice(2, 4)), everything[2:4])
    found = list(batches(inputs, 3))
    assert [(batch.start, batch.stop) for batch, _ in found] == [(0, 2), (2, 5), (5, 7)]
    assert torch.equal(torch.cat([tensor for _, tensor in found]), everything)


def test_the_inputs_of_files_are_on_the_device(scans: list[Path]) -> None:
    inputs = FileInputs(scans, Preprocessing(compose_settings([]).model), torch.device("meta"))
    assert inputs.read(slice(1)).device.type == "meta"


def test_an_image_that_cannot_be_decoded_any_more_is_rejected(scans: list[Path]) -> None:
    scans[3].write_bytes(b"no image")
    inputs = FileInputs(scans, Preprocessing(compose_settings([]).model), torch.device("cpu"))
    assert len(inputs.read(slice(3))) == 3
    with pytest.raises(InputError) as caught:
        inputs.read(slice(3, 4))
    message = str(caught.value)
    assert message.startswith(f"every image in the store must be decodable; got {scans[3]} (")
    assert message.endswith("). Remove the folder that contains it.")


@pytest.mark.parametrize(
    "change",
    [
        "model.transform.kind=resize", "model.transform.mean=[0.1]", "model.transform.std=[0.5]", "layer=conv2",
        "model.transform.size=9", "model.channels=first", "target.score=margin", "target.score=probability",
        "model.batch_size=7", "class_name=3",
    ],
)  # fmt: skip
def test_all_settings_that_change_the_activations_are_in_the_key(compose: Compose, change: str) -> None:
    from pipeline.resolve import resolve
    from pipeline.stages import activate

    before = activate.select(resolve(compose())).identity()
    assert activate.select(resolve(compose(change))).identity() != before
