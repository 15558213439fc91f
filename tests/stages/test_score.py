"""The stage `score`: what determines its result, and layers that cannot be scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import Activations, ImageSet, Projections
from pipeline.errors import InputError
from pipeline.resolve import resolve
from pipeline.settings import AceSettings
from pipeline.stages import score
from tests.helpers.settings import Compose


def test_a_layer_with_dead_channels_only_is_rejected(compose: Compose) -> None:
    projections = Projections(np.zeros((3, 20, 1)), np.zeros((3, 1)), np.ones(3, dtype=bool))
    activations = Activations(np.zeros((3, 20, 2, 2)), np.arange(20.0))
    with pytest.raises(InputError) as caught:
        score.run(
            score.select(resolve(compose())), images=ImageSet(Path(), ()), activations=activations,
            projections=projections, progress=lambda done, total: None,
        )  # fmt: skip
    assert str(caught.value) == (
        "layer must have a channel that varies over the images; got 3 dead channels (layer 'conv1'). "
        "Choose another layer."
    )


def test_the_result_depends_neither_on_the_number_of_threads_nor_on_the_statistic_to_rank_by(compose: Compose) -> None:
    reads = score.select(resolve(compose()))
    assert isinstance(reads.score, AceSettings)
    ignored: list[dict[str, Any]] = [{"n_jobs": 7}, {"statistic": "first"}]
    determining: list[dict[str, Any]] = [{"bass": 1.0}, {"spans": (0.05, 0.2, 0.6)}, {"permutations": 3}]
    for change in ignored:
        assert replace(reads, score=replace(reads.score, **change)).identity() == reads.identity()
    for change in determining:
        assert replace(reads, score=replace(reads.score, **change)).identity() != reads.identity()
