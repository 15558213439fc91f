from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.errors import InputError, NetworkError
from pipeline.networks import load as loading
from pipeline.networks.inputs import batch_slices
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.settings import ModelSettings, Settings
from pipeline.sources.sklearn_digits import scans
from pipeline.stages import activate, download
from tests.helpers.settings import Compose


class Constant(nn.Module):
    """A network that gives all images the same score."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images).mean(dim=(2, 3)) * 0 + self.value


class Large(Constant):
    """A network with large activations."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images * 1e6).mean(dim=(2, 3))


class TwoRows(nn.Module):
    """A network with a layer that returns two rows for any number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.first_two = FirstTwo()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv1(images)
        self.first_two(maps)
        return maps.mean(dim=(2, 3))


class Inconsistent(nn.Module):
    """A network with dropout that is always on, or that normalises over the batch. It counts its images."""

    n_images = 0

    def __init__(self, change: str) -> None:
        super().__init__()
        self.conv1, self.change = nn.Conv2d(1, 2, 3), change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not images.is_meta and images.any():
            Inconsistent.n_images += len(images)
        features = self.conv1(images).mean(dim=(2, 3))
        return functional.dropout(features) if self.change == "dropout" else features - features.mean(dim=0)


class FirstTwo(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps[:2]


def images(settings: Settings, folder: Path) -> ImageSet:
    folder.mkdir()
    return download.STAGE.compute(settings, {}, Workspace(folder), lambda done, total: None)


def activations(settings: Settings, folder: Path) -> Activations:
    found = images(settings, folder / "images")
    (folder / "maps").mkdir()
    return activate.STAGE.compute(settings, {"images": found}, Workspace(folder / "maps"), lambda done, total: None)


@given(st.integers(1, 2000), st.integers(1, 256))
def test_batches_contain_all_images_and_have_nearly_the_same_size(n_images: int, batch_size: int) -> None:
    found = batch_slices(n_images, batch_size)
    assert [index for batch in found for index in range(batch.start, batch.stop)] == list(range(n_images))
    sizes = [batch.stop - batch.start for batch in found]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(found) == -(-n_images // batch_size)


def test_maps_and_scores_equal_those_computed_with_the_modules_of_the_network(compose: Compose, tmp_path: Path) -> None:
    settings = resolve(compose("layer=conv2", "class_name=3"))
    found = activations(settings, tmp_path)
    pixels, digits = scans()
    network = load(settings.model, seed=0)
    inputs = torch.from_numpy(pixels[digits == 3][:20]).unsqueeze(1).float() / 255
    with torch.inference_mode():
        maps = network.conv2(network.relu1(network.conv1(inputs)))  # type: ignore[operator]
        logits = network(inputs)
    np.testing.assert_allclose(found.maps, maps.transpose(0, 1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.class_score, logits[:, 3].numpy(), atol=1e-4)
    assert (found.maps.dtype, found.class_score.dtype) == (np.dtype("float32"), np.dtype("float64"))


def test_all_hooks_are_removed_from_the_network(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[nn.Module] = []

    def recording_load(model: ModelSettings, seed: int) -> nn.Module:
        networks.append(built(model, seed))
        return networks[0]

    built = loading.load
    monkeypatch.setattr(loading, "load", recording_load)
    activations(resolve(compose()), tmp_path)
    (network,) = networks
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, "class scores must differ between images; got 3 for every image (class 1, 20 images). Check that the "
              "weights are trained, the images differ and the transform suits the network."),
        ("nan", "class scores must be finite; got 20 that are not finite (class 1, 20 images). Check the weights and "
                 "the transform."),
    ],
)  # fmt: skip
def test_scores_that_are_constant_or_not_finite_are_rejected(
    compose: Compose, tmp_path: Path, value: float | str, message: str
) -> None:
    settings = compose(
        "model.factory=tests.stages.test_activate:Constant", f"+model.arguments.value={value}",
        "model.weights=random", "model.class_names=null", "class_name=8", "target_class=1",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        activations(settings, tmp_path)
    assert str(caught.value) == message


def test_a_layer_that_does_not_return_one_row_per_image_is_rejected(compose: Compose, tmp_path: Path) -> None:
    settings = compose(
        "model.factory=tests.stages.test_activate:TwoRows", "model.weights=random", "model.class_names=null",
        "class_name=8", "target_class=1", "layer=first_two",
    )  # fmt: skip
    with pytest.raises(NetworkError) as caught:
        activations(settings, tmp_path)
    assert str(caught.value) == (
        "layer must return one row per image; got 2 rows for 20 images (layer 'first_two'). "
        "`python -m pipeline.layers` lists the layers that can be ranked."
    )


def test_images_of_different_sizes_must_be_resized(compose: Compose, tmp_path: Path) -> None:
    from PIL import Image

    for index in range(20):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.effect_noise((8, 8 + index % 2), 60).save(tmp_path / "photos" / f"{index:02d}.png")
    settings = compose("data=folder", f"data.root={tmp_path / 'photos'}", "class_name=null", "target_class=1")
    with pytest.raises(InputError) as caught:
        activations(settings, tmp_path)
    assert str(caught.value) == (
        "all images must have the same size with model.transform.kind=none; got 8 x 8, 9 x 8 pixels. "
        "Set model.transform.kind=resize, or use images of one size."
    )
    resized = compose(
        "data=folder", f"data.root={tmp_path / 'photos'}", "class_name=null", "target_class=1",
        "model.transform.kind=resize",
    )  # fmt: skip
    (tmp_path / "again").mkdir()
    assert activations(resized, tmp_path / "again").maps.shape == (16, 20, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dropout", "the network must give an image the same outputs in every pass; got outputs that differ by "),
        ("batch", "the network must compute an image's outputs independently of the other images in the batch; got "),
    ],
)
def test_networks_that_are_random_or_depend_on_the_batch_are_rejected_before_all_images_run(
    compose: Compose, tmp_path: Path, change: str, message: str
) -> None:
    Inconsistent.n_images = 0
    settings = compose(
        "model.factory=tests.stages.test_activate:Inconsistent", f"+model.arguments.change={change}",
        "model.weights=random", "model.class_names=null", "class_name=8", "target_class=1",
    )  # fmt: skip
    with pytest.raises(NetworkError) as caught:
        activations(settings, tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert Inconsistent.n_images < 8 * 3 + 3 * 3  # passes of three images, and each of them alone


def test_the_key_of_maps_in_single_precision_is_the_same_as_before_there_was_a_choice(compose: Compose) -> None:
    single, half = (activate.select(resolve(compose(*given))).identity() for given in ((), ("activate.dtype=float16",)))
    assert {name for name in single if single[name] != half[name]} == {"dtype"}
    assert single["dtype"] == "float32"


def test_activations_that_half_precision_does_not_have_are_refused(compose: Compose, tmp_path: Path) -> None:
    settings = compose(
        "model.factory=tests.stages.test_activate:Large", "model.weights=random", "model.class_names=null",
        "class_name=8", "target_class=1", "activate.dtype=float16",
    )  # fmt: skip
    with pytest.raises(NetworkError, match=r"^activate.dtype must be float32 for activations above 65504 in magn"):
        activations(settings, tmp_path)


class InPlace(nn.Module):
    """A network that overwrites the output of its layer, in batches of one image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images).mul_(0).mean(dim=(2, 3)) + images.mean(dim=(1, 2, 3))[:, None]


def test_maps_are_those_before_an_operation_in_place(compose: Compose, tmp_path: Path) -> None:
    settings = compose(
        "model.factory=tests.stages.test_activate:InPlace", "model.weights=random", "model.class_names=null",
        "class_name=8", "target_class=1", "model.batch_size=1",
    )  # fmt: skip
    assert np.ptp(activations(settings, tmp_path).maps, axis=1).min() > 0
