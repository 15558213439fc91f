"""Class activation maps and activation maximisation of a ranking in memory: computed when needed, saved, left out."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from torch import nn

import pcace
from pcace import _views
from pcace._pictures import PixelScale
from pcace._views import PARTS
from pipeline.networks.attribution import class_activation
from pipeline.networks.maximization import maximize

IMAGES = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
QUICK: dict[str, Any] = {
    "ranker": "pearson", "bootstrap": 0, "progress": False,
    "settings": {"ablate.when": "never", "visualize.maximize_steps": 2, "visualize.n_maximized": 2},
}  # fmt: skip


class Normalize:
    """A transform with a known normalisation."""

    mean, std = MEAN, STD

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (MEAN, STD))
        return (image - mean) / std


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *pooled, nn.Linear(6, 3))


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


def rank(network: nn.Module, target: Any = 1, images: object = IMAGES, **options: Any) -> pcace.Ranking:
    return pcace.rank(network, images, "0", target, **{**QUICK, **options})


def test_the_views_are_those_of_the_network(network: nn.Module) -> None:
    ranking = rank(network, transform=Normalize())
    views = ranking._views
    chosen = torch.stack([Normalize()(IMAGES[index]) for index in (0, 10, 19, 29)])
    expected = class_activation(network.eval(), chosen, 1)
    assert views.activation is not None
    assert views.activation.method == "CAM"
    assert views.activation.target_maps is not None
    np.testing.assert_array_equal(views.activation.outputs, expected.outputs)
    np.testing.assert_array_equal(views.activation.target_maps, expected.target_maps)
    best = maximize(
        network, "0", ranking.channels[:2], IMAGES, ranking.activations.means()[ranking.channels[:2]], Normalize(),
        steps=2, seed=0, progress=lambda done, total: None,
    )  # fmt: skip
    assert views.maximized is not None
    assert views.maximized.channels == tuple(ranking.channels[:2])
    np.testing.assert_allclose(views.maximized.reached, best.reached, rtol=1e-4)
    assert np.abs(views.maximized.pictures.astype(int) - best.pictures).max() <= 1
    assert views.notes == ()


def test_they_are_saved_with_the_ranking(network: nn.Module, tmp_path: Path) -> None:
    ranking = rank(network)
    loaded = pcace.load(ranking.save(tmp_path / "saved"))
    assert isinstance(loaded, pcace.Ranking)
    pages = [each.report(tmp_path / f"{name}.html").read_text() for name, each in (("a", ranking), ("b", loaded))]
    assert pages[0] == pages[1]
    assert "Class activation maps: the contribution of each position" in pages[0]
    assert "Activation maximisation: for each of the best channels" in pages[0]
    assert '<th scope="row" class="text"><code>ranker</code></th><td class="text">pearson</td>' in pages[0]
    assert f'<code>torch</code></th><td class="text">{ranking.versions["torch"]}</td>' in pages[0]
    assert '<code>rank.by</code></th><td class="text">None</td>' in pages[0]
    assert loaded.versions == ranking.versions
    assert len(loaded.plot_cam()) == len(ranking.plot_cam()) > 4
    shown = [axes.images[0].get_array() for axes in loaded.plot_maximization() if axes.images]
    assert loaded._views.maximized is not None
    np.testing.assert_array_equal(np.asarray(shown[0]), loaded._views.maximized.pictures[0])


def test_they_are_computed_once_and_the_network_is_left_as_it_was_found(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(_views, "maximized", lambda *given: calls.append(given))
    ranking = rank(network.train())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert calls == []
    with torch.inference_mode():
        ranking.report(tmp_path / "report.html")
    ranking.save(tmp_path / "saved")
    ranking.plot_cam()
    assert len(calls) == 1
    assert network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


def test_no_gradient_of_the_parameters_is_left(network: nn.Module) -> None:
    views = rank(network)._views
    assert views.maximized is not None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_has_changed_is_noticed(network: nn.Module, tmp_path: Path) -> None:
    ranking = rank(network)
    with torch.no_grad():
        network.get_parameter("0.weight").mul_(1.2)
    changed = f"{PARTS}: the network has changed since the ranking"
    assert ranking._views.notes == (changed,)
    page = ranking.report(tmp_path / "report.html").read_text()
    assert f"N{changed[1:]}." in page
    assert "Class activation maps: the contribution" not in page
    with pytest.raises(pcace.PipelineError) as caught:
        ranking.plot_cam()
    assert str(caught.value) == f"the ranking must have class activation maps for this figure; got none ({changed})."


def test_a_network_that_cannot_be_run_again_is_reported(network: nn.Module) -> None:
    ranking = rank(network)
    network.set_submodule("0", nn.Conv2d(2, 6, 3))
    (note,) = ranking._views.notes
    assert note.startswith(f"{PARTS}: the network cannot be run again (NetworkCodeError: the network must process")


LEFT_OUT: dict[str, tuple[Callable[[nn.Module], pcace.Ranking], tuple[str, ...]]] = {
    "a function of the outputs": (
        lambda network: rank(network, lambda outputs: outputs[:, 1]),
        ("no predictions and no class activation maps: the class score is not the score of a class",),
    ),
    "a budget that is too small": (
        lambda network: rank(network, settings=QUICK["settings"] | {"visualize.maximize_tflop": 1e-9}),
        (
            "no activation maximisation: visualize.maximize_tflop=1e-09 does not allow it for one channel; "
            "visualize.maximize=always computes all, which may take minutes",
        ),
    ),
    "inputs of four channels": (
        lambda network: rank(
            nn.Sequential(nn.Conv2d(4, 3, 1), network), images=torch.cat([IMAGES, IMAGES[:, :1]], dim=1)
        ),
        ("no activation maximisation: the inputs are not grey or colour images",),
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_missing_is_stated(case: str, network: nn.Module) -> None:
    make, notes = LEFT_OUT[case]
    assert make(network)._views.notes == notes


def test_the_reason_names_the_arguments_of_python(network: nn.Module, tmp_path: Path) -> None:
    ranking = rank(network, settings=QUICK["settings"] | {"visualize.maximize_tflop": 1e-9})
    with pytest.raises(pcace.PipelineError) as caught:
        ranking.plot_maximization()
    assert str(caught.value) == (
        "the ranking must have activation maximisation for this figure; got none (no activation maximisation: "
        'settings={"visualize.maximize_tflop": 1e-09} does not allow it for one channel; '
        'settings={"visualize.maximize": "always"} computes all, which may take minutes).'
    )
    assert (
        "settings={&#34;visualize.maximize&#34;: &#34;always&#34;}" in ranking.report(tmp_path / "a.html").read_text()
    )


def test_networks_in_half_precision_have_them_too(network: nn.Module) -> None:
    views = rank(network.to(torch.bfloat16))._views
    assert views.activation is not None
    assert views.activation.method == "CAM"
    assert views.maximized is not None
    assert views.notes == ()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_do_not_contain_the_network(copied: Callable[[Any], Any], network: nn.Module) -> None:
    ranking = rank(network)
    assert copied(ranking)._views.notes == (f"{PARTS}: the ranking was copied before they were computed",)
    assert ranking._views.activation is not None
    assert copied(ranking)._views.activation is not None


def test_a_ranking_that_an_earlier_version_has_saved_is_read(network: nn.Module, tmp_path: Path) -> None:
    folder = rank(network).save(tmp_path / "saved")
    for name in ("views.npz", "views.json"):
        (folder / name).unlink()
    (path,) = (path for path in folder.glob("*.json") if "budget_tflop" in path.read_text())
    description = json.loads(path.read_text())
    del description["settings"]["ablate"]["budget_tflop"]
    del description["settings"]["visualize"]["maximize_tflop"]
    path.write_text(json.dumps(description))
    loaded = pcace.load(folder)
    assert isinstance(loaded, pcace.Ranking)
    assert loaded._views.notes == (f"{PARTS}: the ranking was saved by an earlier version of pcace",)


def test_channels_and_images_of_figures_are_checked_before_the_forward_passes(network: nn.Module) -> None:
    n_images = []
    network.register_forward_hook(lambda _module, inputs, _outputs: n_images.append(len(inputs[0])))
    cases: dict[str, tuple[list[Any], str]] = {
        "channels": ([6], "below 6; got 6 (layer '0'). Name channels that the layer has."),
        "image_ids": (["30"], "among the 30 images of the set; got '30'. Nearest: 3, 0, 23."),
    }
    for name, (value, message) in cases.items():
        with pytest.raises(pcace.PipelineError) as caught:
            rank(network, settings={f"visualize.{name}": value})
        assert str(caught.value) == f'settings["visualize.{name}"] must be {message}'
    assert set(n_images) == {2}  # the two images that show the layers


def test_pixels_and_inputs_are_converted_into_each_other() -> None:
    scale = PixelScale(MEAN, STD)
    torch.testing.assert_close(scale.to_inputs(IMAGES)[3], Normalize()(IMAGES[3]))
    torch.testing.assert_close(scale.to_pixels(scale.to_inputs(IMAGES)), IMAGES)
    assert scale.to_pixels(torch.full((1, 3, 2, 2), torch.nan)).tolist() == torch.zeros(1, 3, 2, 2).tolist()
