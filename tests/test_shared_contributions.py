"""Contributions that several layers share: the same bytes as for each layer alone, from fewer backward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pcace
from pipeline.artifacts import ChannelScores
from pipeline.config import compose_settings
from pipeline.networks import inputs as inputs_module
from pipeline.networks.contributed import Contributed, ContributionsOfLayers
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.inputs import TensorInputs
from pipeline.networks.layout_pass import layout
from pipeline.networks.remembered import remembered
from pipeline.observer import Observer, StageReport
from pipeline.rankers import RANKERS, shared
from pipeline.resolve import resolve
from pipeline.runner import LAYER_STAGES, Execution, store_of
from pipeline.settings import Settings
from pipeline.whole_network import NetworkExecution
from tests.helpers.project import ROOT
from tests.helpers.settings import Compose
from tests.helpers.stages import contents

TO_SCORES = tuple(stage for stage in LAYER_STAGES if stage.name in ("activate", "reduce", "score", "rank", "associate"))
SCORE = next(stage for stage in LAYER_STAGES if stage.artifact is ChannelScores)
SMALL = ("n_images=40", "model.batch_size=16", "score.bootstrap=4")


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Yield a list to which each backward pass adds the number of tensors that it computes the gradients of."""
    found: list[int] = []
    compute = torch.autograd.grad

    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(1 if isinstance(inputs, torch.Tensor) else len(inputs))
        return compute(outputs, inputs, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", grad)
        yield found


def executed(settings: Settings, folder: Path, observers: Sequence[Observer] = ()) -> tuple[NetworkExecution, int]:
    """Compute the scores of the layers, and return the number of backward passes."""
    with remembered():
        execution = NetworkExecution(resolve(settings), folder, observers, TO_SCORES)
        with counted_passes() as passes:
            execution.run()
    return execution, len(passes)


def alone(settings: Settings) -> tuple[Execution, int]:
    """Compute the scores of one layer, and return the number of backward passes."""
    settings = resolve(settings)
    with remembered(), store_of(settings) as store:
        execution = Execution(settings, store)
        with counted_passes() as passes:
            execution.obtain(SCORE)
    return execution, len(passes)


def inside(settings: Settings, outputs: Path) -> Settings:
    return replace(settings, paths=replace(settings.paths, outputs=str(outputs)))


def check_same_as_alone(layers: Sequence[str], overrides: Sequence[str], outputs: Path, compose: Compose) -> list[int]:
    """Compare the scores of layers with those of runs of each of them, and return the numbers of backward passes.

    They are the number of passes of the run of all layers, and then those of each layer alone.
    """
    settings = compose(*overrides, f"layer=[{','.join(layers)}]")
    execution, n_passes = executed(inside(settings, outputs / "together"), outputs / "run")
    counts = [n_passes]
    for layer in layers:
        single, n_own = alone(replace(inside(settings, outputs / "single"), layer=layer))
        key = execution.keys[layer]["score"]
        assert key == single.keys["score"]
        own = contents(outputs / "single" / "store" / str(key))
        assert contents(outputs / "together" / "store" / str(key)) == own
        counts.append(n_own)
    return counts


@pytest.mark.parametrize(
    ("score", "counts"),
    [
        (("score=gradient_x_activation",), [3, 3, 3]),  # 40 images in batches of at most 16
        (("score=conductance", "score.n_steps=8"), [27, 27, 27]),
        # The path of integrated gradients is one of each layer's own activations, so that nothing is shared.
        (("score=integrated_gradients", "score.n_steps=16"), [48, 24, 24]),
    ],
    ids=["gradient_x_activation", "conductance", "integrated_gradients"],
)
def test_the_scores_of_the_digits_are_those_of_single_runs(
    score: tuple[str, ...], counts: list[int], compose: Compose, tmp_path: Path
) -> None:
    assert check_same_as_alone(["conv1", "relu3"], [*SMALL, *score], tmp_path, compose) == counts


@pytest.mark.parametrize(
    "score",
    [
        ("score=gradient_x_activation",),
        ("score=conductance", "score.n_steps=20"),
        ("score=integrated_gradients", "score.n_steps=20"),
    ],
    ids=["gradient_x_activation", "conductance", "integrated_gradients"],
)
def test_the_scores_of_the_cifar10_resnet20_are_those_of_single_runs(
    score: tuple[str, ...], compose: Compose, photographs: Path, resnet20_weights: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)  # the network's code is in a folder of the project
    overrides = (
        "experiment=cifar10_resnet20", f"data.root={photographs}", f"model.checkpoint={resnet20_weights}",
        "n_images=20", "model.batch_size=10", "score.bootstrap=4", "class_name=cat",
    )  # fmt: skip
    layers = ["conv1", "layer3.1.conv2"]
    n_together, *of_each = check_same_as_alone(layers, [*overrides, *score], tmp_path, compose)
    assert n_together == (sum(of_each) if score[0] == "score=integrated_gradients" else of_each[0])


def test_an_interrupted_run_goes_on_with_the_layers_that_have_no_scores(compose: Compose, tmp_path: Path) -> None:
    class Interrupting(Observer):
        """Ends the run like Ctrl-C after the scores of the second layer."""

        n_scored = 0

        def stage_finished(self, report: StageReport) -> None:
            self.n_scored += report.stage is SCORE
            if self.n_scored == 2:
                raise KeyboardInterrupt

    overrides = [*SMALL, "score=conductance", "score.n_steps=8", "layer=[conv1,relu1,relu2,relu3]"]
    settings = compose(*overrides)
    with pytest.raises(KeyboardInterrupt):
        executed(inside(settings, tmp_path / "one"), tmp_path / "run", [Interrupting()])
    with counted_passes() as passes:
        execution, _ = executed(inside(settings, tmp_path / "one"), tmp_path / "run")
    assert max(passes) == 2  # the gradients at two layers; no value bypasses a layer of this network
    whole, _ = executed(inside(settings, tmp_path / "other"), tmp_path / "run")
    for layer in ("conv1", "relu1", "relu2", "relu3"):
        key = str(execution.keys[layer]["score"])
        assert key == str(whole.keys[layer]["score"])
        assert contents(tmp_path / "one" / "store" / key) == contents(tmp_path / "other" / "store" / key)


class TwoWays(nn.Module):
    """A network of which only one part decides about the class score with index 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.used, self.unused = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 1), nn.Conv2d(4, 3, 1)
        self.head, self.other = nn.Linear(5, 2), nn.Linear(3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.stem(images).relu()
        used, unused = self.used(maps).relu().mean(dim=(2, 3)), self.unused(maps).relu().mean(dim=(2, 3))
        return torch.cat([self.head(used), self.other(unused)], dim=1)


@pytest.mark.parametrize("ranker", ["gradient_x_activation", "conductance"])
def test_a_layer_without_contributions_is_listed_in_python_and_the_others_are_ranked(ranker: str) -> None:
    torch.manual_seed(0)
    network, images = TwoWays().eval(), torch.rand(30, 1, 6, 6)
    settings = {"ablate.when": "never"}
    given: dict[str, Any] = {
        "ranker": ranker,
        "n_components": 1,
        "bootstrap": 4,
        "progress": False,
        "settings": settings,
    }
    with counted_passes() as passes:
        found = pcace.rank(network, images, "*", 1, **given)
    assert list(found) == ["stem", "used", "head"]
    assert "unused" in found.not_ranked.layer.tolist()
    assert max(passes) >= 2
    for layer in found:
        single = pcace.rank(network, images, layer, 1, **given)
        assert single.to_frame().equals(found[layer].to_frame())


@pytest.fixture(scope="module")
def examined() -> ExaminedNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    ).eval()
    return ExaminedNetwork.of_module(network, "0", lambda outputs: outputs[:, 1].double(), torch.rand(2, 1, 6, 6))


def test_layers_share_a_pass_if_their_batches_have_one_size_and_fit_into_memory(
    examined: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, layers = TensorInputs([torch.rand(20, 1, 6, 6)]), [
        layout(examined.network, torch.rand(2, 1, 6, 6)).find(name) for name in "0123"
    ]  # fmt: skip
    settings = compose_settings(["score=gradient_x_activation"]).score
    attribution = RANKERS["gradient_x_activation"].attribution
    assert attribution is not None

    def groups() -> list[int]:
        with counted_passes() as passes:
            found = shared.contributions_of_layers(attribution, settings, examined, layers, images, 10, ignore)
        assert list(found) == list("0123")
        for layer in layers:
            of_one = shared.contributions_of_layers(attribution, settings, examined, [layer], images, 10, ignore)
            one, other = found[layer.name], of_one[layer.name]
            assert isinstance(one, shared.Attributed)
            assert isinstance(other, shared.Attributed)
            assert one.contributions.tobytes() == other.contributions.tobytes()
        return passes

    assert groups() == [4, 4]
    monkeypatch.setattr(shared, "MOST_VALUES", 10 * (64 + 64 + 16))
    assert groups() == [3, 3, 1, 1]
    monkeypatch.setattr(shared, "MOST_CONTRIBUTIONS", 20 * 8)
    assert groups() == [2, 2, 2, 2]
    monkeypatch.setattr(inputs_module, "VALUES_IN_BATCH", 64 * 5)  # layers of 64 values: 5 images; of 16: 10
    assert groups() == [2, 2, 2, 2, 2, 2]


def test_a_layer_that_fails_does_not_concern_the_others(examined: ExaminedNetwork) -> None:
    layers = [layout(examined.network, torch.rand(2, 1, 6, 6)).find(name) for name in "0123"]
    groups: list[str] = []

    def failing(of: Sequence[ExaminedNetwork], settings: object) -> ContributionsOfLayers:
        del settings
        names = "".join(each.layer.name for each in of)
        groups.append(names)
        if "2" in names:
            raise RuntimeError("no gradient")
        return lambda inputs: [Contributed(torch.ones(len(inputs), each.n_channels).double()) for each in of]

    settings = compose_settings(["score=gradient_x_activation"]).score
    images = TensorInputs([torch.rand(20, 1, 6, 6)])
    found = shared.contributions_of_layers(failing, settings, examined, layers, images, 10, ignore)
    assert (list(found), groups) == (["0", "1", "3"], ["0123", "01", "23", "2", "3"])
