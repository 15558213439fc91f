from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.networks.capture import capture
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.load import load
from pipeline.networks.maximization import Maximized, _colour_mix, maximize
from pipeline.settings import Settings
from pipeline.sources.sklearn_digits import scans
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
