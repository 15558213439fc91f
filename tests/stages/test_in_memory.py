"""The stages between the images and the figures run in memory, and give the same artifacts as a run with a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import (
    Ablations,
    Activations,
    Artifact,
    ChannelScores,
    Effects,
    ImageSet,
    Projections,
    Ranking,
    Workspace,
)
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.stages import load_stage
from tests.helpers.settings import Compose

IN_MEMORY = ("activate", "reduce", "score", "rank", "ablate", "evaluate")


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@pytest.mark.parametrize(
    "overrides",
    [
        ("n_images=40", "score.permutations=10", "score.bootstrap=10", "score.folds=2", "n_components=2"),
        ("score=gradient_x_activation", "score.bootstrap=10", "layer=conv2"),
    ],
    ids=["ace", "gradient_x_activation"],
)
def test_ranking_in_memory_gives_the_same_tables_as_a_run(
    overrides: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    settings = compose(*overrides)
    result = run(settings, tmp_path / "run")
    files = sorted(tmp_path.rglob("*"))
    settings = resolve(settings)
    made: dict[str, Artifact] = {"images": result.artifacts[ImageSet]}
    for name in IN_MEMORY:
        stage = load_stage(name)
        upstream = {each: made[each] for each in stage.upstream}
        made[stage.artifact.name] = stage.compute(settings, upstream, Workspace(), ignore)
    assert sorted(tmp_path.rglob("*")) == files

    activations, saved_activations = made["activations"], result.artifacts[Activations]
    assert isinstance(activations, Activations)
    assert not isinstance(activations.maps, np.memmap)
    np.testing.assert_array_equal(activations.maps, saved_activations.maps)
    np.testing.assert_array_equal(activations.class_score, saved_activations.class_score)
    projections = made["projections"]
    assert isinstance(projections, Projections)
    np.testing.assert_array_equal(projections.values, result.artifacts[Projections].values)
    scores, saved_scores = made["scores"], result.artifacts[ChannelScores]
    assert isinstance(scores, ChannelScores)
    assert list(scores.values) == list(saved_scores.values)
    for statistic, evidence in saved_scores.evidence.items():
        np.testing.assert_array_equal(scores.values[statistic], saved_scores.values[statistic])
        np.testing.assert_array_equal(scores.curves[statistic], saved_scores.curves[statistic])
        pd.testing.assert_frame_equal(
            scores.evidence[statistic], evidence, check_exact=True, check_index_type=False, check_names=False
        )
    ranking, saved_ranking = made["ranking"], result.ranking
    assert isinstance(ranking, Ranking)
    assert ranking.trust == saved_ranking.trust
    pd.testing.assert_frame_equal(ranking.table, saved_ranking.table, check_exact=True)
    ablations = made["ablations"]
    assert isinstance(ablations, Ablations)
    np.testing.assert_array_equal(ablations.changes, result.artifacts[Ablations].changes)
    np.testing.assert_array_equal(ablations.random, result.artifacts[Ablations].random)
    effects = made["effects"]
    assert isinstance(effects, Effects)
    assert effects.is_measured
    assert effects.faithfulness == result.effects.faithfulness
    # These tables are saved as CSV, which pandas reads up to the last digit.
    pd.testing.assert_frame_equal(effects.table, result.effects.table, rtol=1e-14)
    pd.testing.assert_frame_equal(effects.curves, result.effects.curves, rtol=1e-14)


def test_the_stage_that_writes_images_needs_a_folder(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"^the workspace must have a folder for a stage that writes files; got "):
        load_stage("download").compute(resolve(compose()), {}, Workspace(), ignore)
