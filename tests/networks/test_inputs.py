"""From files to the network's input: what each transform does to the pixels, and what an image file means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

from pipeline.config import compose_settings
from pipeline.networks.inputs import Preprocessing
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


def test_the_weights_own_transform_is_torchvisions(photograph: Image.Image) -> None:
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()(photograph)
    assert torch.equal(Preprocessing(model()).transform(photograph), expected)


def test_resize_is_the_originals_straight_to_224(photograph: Image.Image) -> None:
    found = Preprocessing(model("model.transform.kind=resize")).transform(photograph)
    torch.testing.assert_close(found, normalised(photograph.resize((224, 224), Image.Resampling.BILINEAR)))


def test_none_leaves_the_pixels_alone(photograph: Image.Image) -> None:
    found = Preprocessing(model("model.transform.kind=none")).transform(photograph)
    torch.testing.assert_close(found, normalised(photograph))


def test_a_photograph_reaches_the_network_upright(photograph: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    settings = model("model.transform.kind=none")
    batch = Preprocessing(settings).load([tmp_path / "phone.jpg"])
    assert batch.shape == (1, 3, 300, 260)
    assert Preprocessing(replace(settings, input_size=(1, 8, 8))).open(tmp_path / "phone.jpg").mode == "L"


@pytest.mark.parametrize(
    "change",
    [
        "model.transform.kind=resize", "model.transform.mean=[0.1]", "model.transform.std=[0.5]", "layer=conv2",
        "model.transform.size=9", "model.channels=first", "target.score=margin", "target.score=probability",
        "model.batch_size=7", "class_name=3",
    ],
)  # fmt: skip
def test_all_that_moves_the_numbers_is_in_the_key(compose: Compose, change: str) -> None:
    from pipeline.resolve import resolve
    from pipeline.stages import activate

    before = activate.select(resolve(compose())).identity()
    assert activate.select(resolve(compose(change))).identity() != before
