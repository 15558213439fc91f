from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.errors import InputError
from pipeline.networks import examined
from pipeline.networks.inputs import batch_slices
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.settings import ModelSettings, Settings
from pipeline.sources.sklearn_digits import scans
from pipeline.stages import activate, download
from tests.helpers.settings import Compose


class Constant(nn.Module):
    """Scores every image alike."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images).mean(dim=(2, 3)) * 0 + self.value


def images(settings: Settings, folder: Path) -> ImageSet:
    folder.mkdir()
    return download.STAGE.compute(settings, {}, Workspace(folder), lambda done, total: None)


def activations(settings: Settings, folder: Path) -> Activations:
    found = images(settings, folder / "images")
    (folder / "maps").mkdir()
    return activate.STAGE.compute(settings, {"images": found}, Workspace(folder / "maps"), lambda done, total: None)


@given(st.integers(1, 2000), st.integers(1, 256))
def test_batches_cover_all_images_in_nearly_one_size(n_images: int, batch_size: int) -> None:
    found = batch_slices(n_images, batch_size)
    assert [index for batch in found for index in range(batch.start, batch.stop)] == list(range(n_images))
    sizes = [batch.stop - batch.start for batch in found]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(found) == -(-n_images // batch_size)


def test_maps_and_scores_are_what_the_network_computes(compose: Compose, tmp_path: Path) -> None:
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


def test_the_network_keeps_no_hook(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[nn.Module] = []

    def load_and_keep(settings: ModelSettings, seed: int) -> nn.Module:
        networks.append(load(settings, seed))
        return networks[-1]

    monkeypatch.setattr(examined, "load", load_and_keep)
    activations(resolve(compose()), tmp_path)
    assert [len(module._forward_hooks) for network in networks for module in network.modules()].count(0) >= 5
    assert sum(len(module._forward_hooks) for module in networks[0].modules()) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, "class scores must differ between images; got 3 for every one (class 1, 20 images). Check that the "
              "weights are trained, the images differ and the transform suits the network."),
        ("nan", "class scores must be finite; got 20 that are not (class 1, 20 images). Check the weights and the "
                 "transform."),
    ],
)  # fmt: skip
def test_scores_without_information_are_refused(
    compose: Compose, tmp_path: Path, value: float | str, message: str
) -> None:
    settings = compose(
        "model.factory=tests.stages.test_activate:Constant", f"+model.arguments.value={value}",
        "model.weights=random", "model.class_names=null", "class_name=8", "target_class=1",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        activations(settings, tmp_path)
    assert str(caught.value) == message


def test_images_of_several_sizes_need_a_resize(compose: Compose, tmp_path: Path) -> None:
    from PIL import Image

    for index in range(20):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.effect_noise((8, 8 + index % 2), 60).save(tmp_path / "photos" / f"{index:02d}.png")
    settings = compose("data=folder", f"data.root={tmp_path / 'photos'}", "class_name=null", "target_class=1")
    with pytest.raises(
        InputError, match=r"^images must have one size when model\.transform\.kind=none; got 8 x 8, 9 x"
    ):
        activations(settings, tmp_path)
    resized = compose(
        "data=folder", f"data.root={tmp_path / 'photos'}", "class_name=null", "target_class=1",
        "model.transform.kind=resize",
    )  # fmt: skip
    (tmp_path / "again").mkdir()
    assert activations(resized, tmp_path / "again").maps.shape == (16, 20, 8, 8)
