from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import NetworkError
from pipeline.networks.capture import capture
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.load import load
from pipeline.networks.maximization import Maximized, _colour_mix, maximize
from pipeline.settings import Settings
from pipeline.sources.sklearn_digits import scans
from tests.helpers.networks import Frozen
from tests.helpers.settings import Compose


def best_inputs(
    settings: Settings, real: torch.Tensor, channels: list[int], seed: int = 0, steps: int = 256
) -> Maximized:
    network = load(settings.model, seed=0).requires_grad_(False)
    mean, std = Preprocessing(settings.model).normalization
    with torch.inference_mode(), capture(network, settings.layer) as captured:
        network((real - mean) / std)
        means = captured.take().mean(dim=(2, 3)).T.double().numpy()
    steps_done = []
    found = maximize(
        network, settings.layer, channels, real[:64], means[channels], lambda pixels: (pixels - mean) / std,
        steps=steps, seed=seed, progress=lambda done, total: steps_done.append((done, total)),
    )  # fmt: skip
    assert steps_done == [(step, steps) for step in range(1, steps + 1)]
    np.testing.assert_array_equal(found.best_real, means[channels].max(axis=1))
    shown = torch.from_numpy(found.pictures).float() / 255
    shown = shown.unsqueeze(1) if shown.ndim == 3 else shown.permute(0, 3, 1, 2)
    with torch.inference_mode(), capture(network, settings.layer) as captured:
        network((shown - mean) / std)
        reached = captured.take()[torch.arange(len(channels)), channels].mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(found.reached, reached, rtol=1e-4, atol=1e-5)  # the picture has the reported activation
    return found


def eights() -> torch.Tensor:
    images, digits = scans()
    return torch.from_numpy(images[digits == 8]).unsqueeze(1).float() / 255


def test_the_pictures_activate_channels_more_than_all_digits(compose: Compose) -> None:
    found = best_inputs(compose("layer=conv3"), eights(), [58, 44, 8, 23, 0, 3])
    assert found.pictures.shape == (6, 8, 8)
    assert (found.reached > found.best_real).all()


def test_the_pictures_activate_channels_more_than_all_photographs(
    compose: Compose, photographs: Path, resnet20_weights: Path
) -> None:
    settings = compose(
        "experiment=cifar10_resnet20", f"data.root={photographs}", f"model.checkpoint={resnet20_weights}",
        "layer=layer3.2.conv2",
    )  # fmt: skip
    paths = [path for name in ("cat", "ship") for path in sorted((photographs / name).glob("*.jpg"))[:200]]
    preprocessing = Preprocessing(settings.model)
    real = preprocessing.to_pixels(preprocessing.load(paths))
    found = best_inputs(settings, real, [59, 30, 57, 17])
    assert found.pictures.shape == (4, 32, 32, 3)
    assert (found.reached > found.best_real).all()
    # Neighbouring pixels are similar: the picture is a texture, and not noise.
    pixels = found.pictures.astype(float)
    right, left = pixels[:, :, 1:].ravel(), pixels[:, :, :-1].ravel()
    assert np.corrcoef(right, left)[0, 1] > 0.5


def test_the_pictures_are_determined_by_the_seed(compose: Compose) -> None:
    settings = compose("layer=conv3")
    one, again, other = (best_inputs(settings, eights(), [58, 44], seed, steps=20).pictures for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("n_colours", [1, 3])
def test_colours_have_the_covariance_of_the_images(n_colours: int) -> None:
    torch.manual_seed(0)
    plain = torch.randn(8, n_colours, 16, 16, dtype=torch.float64)
    mixing = torch.eye(n_colours, dtype=torch.float64) + 0.5
    real = torch.einsum("dc,nchw->ndhw", mixing, plain)
    mix = _colour_mix(real)
    assert mix.norm(dim=1).max() == pytest.approx(1)
    covariance = torch.cov(real.transpose(0, 1).flatten(1)).reshape(n_colours, n_colours)
    covariance += 0.1 * covariance.trace() / n_colours * torch.eye(n_colours)
    np.testing.assert_allclose(mix @ mix.T / mix.norm() ** 2, covariance / covariance.trace(), atol=1e-6)


class Rounded(nn.Module):
    """A network whose layer `maps` has one channel with a gradient, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(torch.cat([images.mean(1, keepdim=True), images.round().mean(1, keepdim=True)], 1)).mean(
            (2, 3)
        )


def maximized(network: nn.Module, layer: str) -> Maximized:
    real = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return maximize(
        network.eval().requires_grad_(False), layer, [0, 1], real, np.array([[0.0, 1.0], [0.0, 2.0]]),
        lambda pixels: pixels, steps=3, seed=0, progress=lambda done, total: None,
    )  # fmt: skip


def test_channels_whose_gradient_is_0_in_every_step_are_left_out() -> None:
    found = maximized(Rounded(), "maps")
    assert found.channels == (0,)
    assert found.pictures.shape == (1, 12, 12, 3)
    assert found.best_real.tolist() == [1.0]
    assert len(found.reached) == 1


def test_there_are_no_pictures_without_a_gradient() -> None:
    with pytest.raises(NetworkError, match=r"^layer must depend on the input by gradients; got none \(layer 'conv': "):
        maximized(Frozen(), "conv")
    constant = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Hardtanh(10, 11), nn.Flatten())
    with pytest.raises(NetworkError, match=r"^the gradient of layer '1' is 0 at the network's input in every step$"):
        maximized(constant, "1")
