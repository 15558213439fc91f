"""The stage `score`: what determines its result, and layers that cannot be scored."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import Activations, ChannelScores, ImageSet, Projections, Workspace
from pipeline.errors import InputError
from pipeline.numerics.ace import SplineAce
from pipeline.numerics.spline_smoothness import select_smoothness
from pipeline.numerics.spline_solver import Smoothness
from pipeline.rankers import RankerInputs
from pipeline.rankers.ace import score_by_ace
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.settings import AceSettings
from pipeline.stages import score
from tests.helpers.settings import Compose

WITHOUT_EVIDENCE = ("score.permutations=0", "score.folds=0", "score.bootstrap=0")


def test_a_layer_with_dead_channels_only_is_rejected(compose: Compose) -> None:
    projections = Projections(np.zeros((3, 20, 1)), np.zeros((3, 1)), np.ones(3, dtype=bool))
    activations = Activations(np.zeros((3, 20, 2, 2)), np.arange(20.0))
    with pytest.raises(InputError) as caught:
        score.run(
            score.select(resolve(compose())), images=ImageSet(Path(), ()), activations=activations,
            projections=projections, workspace=Workspace(), progress=lambda done, total: None,
        )  # fmt: skip
    assert str(caught.value) == (
        "layer must have a channel that varies over the images; got 3 dead channels (layer 'conv1'). "
        "Choose another layer."
    )


def test_the_result_depends_neither_on_the_number_of_threads_nor_on_the_statistic_to_rank_by(compose: Compose) -> None:
    supersmoother: dict[str, Any] = {"bass": 1.0, "spans": (0.05, 0.2, 0.6), "delrsq": 0.1, "nterm": 2, "maxit": 2}
    splines: dict[str, Any] = {"smoothness": (0.3, 0.2, 0.1)}
    for smoother, own, of_the_other in (
        ("spline", splines, supersmoother), ("supersmoother", supersmoother, splines),
    ):  # fmt: skip
        reads = score.select(resolve(compose(f"score.smoother={smoother}")))
        assert isinstance(reads.score, AceSettings)
        for name, value in {"n_jobs": 7, "statistic": "first", **of_the_other}.items():
            assert replace(reads, score=replace(reads.score, **{name: value})).identity() == reads.identity(), name
        for name, value in {"permutations": 3, "folds": 3, **own}.items():
            assert replace(reads, score=replace(reads.score, **{name: value})).identity() != reads.identity(), name


def scored_by_ace(settings: AceSettings, values: np.ndarray, response: np.ndarray) -> ChannelScores:
    """Score projections, (n_channels, n_images, n_components), without a network and images."""
    n_channels, n_images, n_components = values.shape
    inputs = RankerInputs(
        settings=settings,
        seed=0,
        activations=Activations(np.zeros((n_channels, n_images, 1, 1), np.float32), response),
        projections=Projections(
            values, np.ones((n_channels, n_components)), np.array([not each.any() for each in values])
        ),
        open_network=lambda: pytest.fail("the network is not needed"),
        images=None,  # type: ignore[arg-type]
        batch_size=1,
        progress=lambda done, total: None,
    )
    return score_by_ace(inputs)


def test_with_splines_activations_that_differ_by_3e_6_move_no_score_by_more_than_1e_4(compose: Compose) -> None:
    """Float32 activations on another processor differ by as much; the smoothness is chosen anew from each of them."""
    settings = compose("score=ace", "score.smoother=spline", *WITHOUT_EVIDENCE).score
    assert isinstance(settings, AceSettings)
    rng = np.random.default_rng(0)
    response = rng.normal(size=300)
    values = rng.normal(size=(100, 300, 10)) * np.geomspace(5, 0.5, 10)
    values[:, :, 0] += rng.normal(size=(100, 1)) * response
    values[:40] = np.maximum(values[:40], 0)  # many ties
    values[40:50] = np.round(values[40:50])
    moved = values + 3e-6 * rng.uniform(-1, 1, values.shape)
    moved[:40] = np.where(values[:40] > 0, moved[:40], 0)
    one, other = (scored_by_ace(settings, each, response) for each in (values, moved))
    assert one.smoothness != other.smoothness
    for name, scores in one.values.items():
        np.testing.assert_allclose(other.values[name], scores, atol=1e-4, rtol=0, err_msg=name)


def test_with_splines_scores_and_evidence_have_the_smoothness_that_the_varying_channels_choose(
    compose: Compose,
) -> None:
    settings = compose(
        "score=ace", "score.smoother=spline", "score.permutations=9", "score.folds=2", "score.bootstrap=8"
    ).score
    assert isinstance(settings, AceSettings)
    rng = np.random.default_rng(1)
    response = rng.normal(size=60)
    values = rng.normal(size=(6, 60, 3)) + rng.normal(size=(6, 1, 1)) * response[:, None]
    values[2] = 0
    varying = [0, 1, 3, 4, 5]
    found = scored_by_ace(settings, values, response)
    chosen = select_smoothness(values[varying], response, seed=0).smoothness
    assert found.smoothness is not None
    assert found.smoothness["smoothness"] == asdict(chosen)
    expected = SplineAce(chosen).fit(values[varying], response)
    assert list(found.values) == ["maximal", "first", "penalised"]
    for name, scores in found.values.items():
        np.testing.assert_array_equal(scores[varying], expected.statistics[name])
        assert scores[2] == 0
        evidence = found.evidence[name]
        assert evidence.loc[2].isna().all()
        assert evidence.loc[varying].notna().all(axis=None)
        assert found.curves[name][:, 0].tolist() == [15, 30]
    assert found.fit is not None
    assert found.fit.iterations is None
    assert found.fit.degrees_of_freedom is not None
    assert expected.degrees_of_freedom is not None
    np.testing.assert_array_equal(found.fit.degrees_of_freedom[varying], expected.degrees_of_freedom)
    assert found.fit.degrees_of_freedom[2] == 0


@pytest.mark.parametrize(
    ("n_images", "given", "expected"),
    [(60, "[0.9,0.5,0.1]", Smoothness(0.9, 0.5, 0.1)), (9, "null", Smoothness()), (9, "[0,0,0]", Smoothness(0, 0, 0))],
)
def test_a_given_smoothness_is_used_and_with_few_images_the_default(
    compose: Compose, n_images: int, given: str, expected: Smoothness
) -> None:
    settings = compose("score=ace", "score.smoother=spline", f"score.smoothness={given}", *WITHOUT_EVIDENCE).score
    assert isinstance(settings, AceSettings)
    rng = np.random.default_rng(2)
    values, response = rng.normal(size=(4, n_images, 2)), rng.normal(size=n_images)
    found = scored_by_ace(settings, values, response)
    assert found.smoothness is None
    np.testing.assert_array_equal(found.values["maximal"], SplineAce(expected).fit(values, response).maximal)


def test_the_number_of_components_is_the_one_that_predicts_best(compose: Compose, tmp_path: Path) -> None:
    """With auto, all evidence, the transforms and the column n_components are those of the chosen number."""
    automatic = run(compose("n_components=auto", "layer=conv1"), tmp_path / "auto")
    scores = automatic.artifacts[ChannelScores]
    values = automatic.artifacts[Projections].values[~scores.dead]
    response = automatic.artifacts[Activations].class_score
    assert values.shape[2] == 20
    chosen = select_smoothness(values, response, seed=0, choose_components=True)
    assert chosen.n_components in (1, 2, 3, 5, 7, 10, 15)
    assert scores.smoothness is not None
    assert scores.smoothness["n_components"] == chosen.n_components
    assert automatic.ranking.table.n_components.unique().tolist() == [chosen.n_components]
    assert scores.fit is not None
    assert scores.fit.phi.shape[2] == chosen.n_components
    smoothness = ",".join(str(value) for value in asdict(chosen.smoothness).values())
    given = compose(f"n_components={chosen.n_components}", f"score.smoothness=[{smoothness}]", "layer=conv1")
    pd.testing.assert_frame_equal(
        run(given, tmp_path / "given").ranking.table, automatic.ranking.table, check_exact=False, rtol=1e-9
    )
