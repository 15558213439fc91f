"""Layers with thousands of channels: the memory of the stages that compute grows in proportion to their number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.artifacts import Artifact, Workspace
from pipeline.resolve import resolve
from pipeline.runner import STAGES
from tests.helpers.settings import Compose


class Wide(nn.Module):
    """One convolution with many channels, and a linear layer."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(1, n_channels, 4, stride=4), nn.Linear(n_channels, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv1(images).relu().mean(dim=(2, 3)))


def peaks(compose: Compose, folder: Path, n_channels: int) -> dict[str, int]:
    """Return the largest number of bytes that Python and NumPy allocate in each stage that computes."""
    settings = resolve(compose(
        "model.factory=tests.stages.test_many_channels:Wide", f"+model.arguments.n_channels={n_channels}",
        "model.weights=random", "layer=conv1", "ablate.when=always", "ablate.n_draws=2",
        "score.permutations=2", "score.bootstrap=2", "score.folds=2",
    ))  # fmt: skip
    made: dict[str, Artifact] = {}
    found = {}
    for stage in STAGES[:-1]:
        own = folder / stage.name
        own.mkdir(parents=True)
        inputs = {name: made[name] for name in stage.upstream}
        tracemalloc.start()
        stage.compute(settings, inputs, Workspace(own), lambda done, total: None).save(own)
        found[stage.name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        made[stage.artifact.name] = stage.artifact.load(own)
    return found


@pytest.mark.slow
def test_memory_is_in_proportion_to_the_number_of_channels(compose: Compose, tmp_path: Path) -> None:
    peaks(compose, tmp_path / "imports", 20)  # imports and compilation need memory, too
    few, many = (peaks(compose, tmp_path / str(n_channels), n_channels) for n_channels in (500, 2000))
    for stage, peak in many.items():
        assert peak < 4.4 * few[stage] + 2**18, (stage, peak, few[stage])
    assert sum(many.values()) < 2**28
