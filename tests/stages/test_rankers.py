"""score=...: every ranker answers the embedded question, and is held against removal like PCACE."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from pipeline.artifacts import Activations, Figures
from pipeline.errors import NetworkError, SettingsError
from pipeline.observer import RunResult
from pipeline.rankers import RANKERS, ranking_statistic
from pipeline.report_writer import ReportWriter
from pipeline.runner import run
from pipeline.settings import RankSettings
from tests.helpers.project import ROOT
from tests.helpers.settings import Compose

OTHERS = sorted(kind for kind in RANKERS if kind != "ace")
FEW = ("score.bootstrap=20", "layer=conv2", "n_images=60", "n_components=2")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: images and activations are computed once."""
    return tmp_path_factory.mktemp("rankers")


def answered(compose: Compose, outputs: Path, kind: str, *overrides: str) -> RunResult:
    settings = compose(f"score={kind}", *FEW, f"paths.outputs={outputs}", *overrides)
    return run(settings, outputs / kind, [ReportWriter("x")])


def spearman(result: RunResult) -> float:
    """Return the rank correlation of a ranking with the effects of ablation, which must be measured."""
    value = result.effects.faithfulness.spearman
    assert value is not None
    return value


@pytest.mark.parametrize("kind", OTHERS)
def test_a_ranker_ranks_says_how_sure_it_is_and_is_drawn(kind: str, compose: Compose, outputs: Path) -> None:
    result = answered(compose, outputs, kind)
    table = result.ranking.table
    assert sorted(table.channel) == list(range(32))
    assert (table.by == kind).all()
    assert table.score[~table.dead].is_monotonic_decreasing
    assert (table.rank_low <= table.rank_high).all()
    assert result.ranking.trust.reliability is not None
    assert result.ranking.trust.reliability > 0.3
    assert result.ranking.trust.n_significant is None
    assert result.effects.faithfulness.spearman is not None
    assert not {"iterations", "score_maximal"} & set(table.columns)
    page = (outputs / kind / "report.html").read_text()
    assert "a ranker that PCACE is held against, not PCACE" in page
    assert ranking_statistic(kind) is RANKERS[kind].statistics[0]
    assert "transforms" not in {path.stem for path in result.artifacts[Figures].paths}


@pytest.mark.parametrize("kind", RANKERS)
def test_an_entry_of_the_table_is_complete(kind: str, compose: Compose) -> None:
    """The settings know the ranker, a config file selects it, and figures and reports can name its scores."""
    ranker = RANKERS[kind]
    assert ranker.kind == kind
    assert type(compose(f"score={kind}").score) is ranker.settings
    assert kind in get_args(get_type_hints(ranker.settings)["kind"])
    for statistic in ranker.statistics:
        assert ranking_statistic(statistic.name) is statistic
        assert statistic.label
    if kind != "ace":
        assert ranker.scorer is not None
        assert [statistic.name for statistic in ranker.statistics] == [kind]


def test_settings_files_and_the_table_name_the_same_rankers(compose: Compose) -> None:
    kinds = [get_args(get_type_hints(each)["kind"]) for each in {ranker.settings for ranker in RANKERS.values()}]
    assert sorted(kind for each in kinds for kind in each) == sorted(RANKERS)
    assert [path.stem for path in sorted((ROOT / "conf" / "score").glob("*.yaml"))] == sorted(RANKERS)
    for by in get_args(get_args(get_type_hints(RankSettings)["by"])[0]):
        assert ranking_statistic(by).name == by


def test_ablation_is_what_removal_measures(compose: Compose, outputs: Path) -> None:
    effects = answered(compose, outputs, "ablation").effects
    np.testing.assert_allclose(effects.table.score, effects.table.zero, rtol=1e-4, atol=1e-5)
    assert effects.faithfulness.spearman == pytest.approx(1, abs=1e-3)


def test_attributions_foretell_removal_better_than_what_never_sees_the_class(compose: Compose, outputs: Path) -> None:
    found = {
        kind: spearman(answered(compose, outputs, kind))
        for kind in ("conductance", "integrated_gradients", "deeplift", "weight_norm", "mean_activation")
    }
    blind = max(found.pop("weight_norm"), found.pop("mean_activation"))
    assert all(value > blind for value in found.values()), (found, blind)


def test_what_the_scores_are_is_what_they_say(compose: Compose, outputs: Path) -> None:
    result = answered(compose, outputs, "pearson")
    means, class_score = result.artifacts[Activations].means(), result.artifacts[Activations].class_score
    by_hand = [abs(np.corrcoef(values, class_score)[0, 1]) for values in means]
    table = result.ranking.table.set_index("channel").sort_index()
    np.testing.assert_allclose(table.score[~table.dead], np.array(by_hand)[~table.dead], rtol=1e-9)


def test_a_layer_without_weights_cannot_be_ranked_by_them(compose: Compose, outputs: Path) -> None:
    with pytest.raises(NetworkError, match=r"^layer must have weights for each of its 32 channels with score="):
        answered(compose, outputs, "weight_norm", "layer=relu2")


def test_what_belongs_to_ace_alone_is_refused_elsewhere(compose: Compose) -> None:
    with pytest.raises(SettingsError) as refused:
        compose("score=pearson", "rank.by=excess", "score.permutations=100", "score.bootstrap=5")
    assert str(refused.value).splitlines() == [
        "score.permutations must be a known setting; got 100. Known here: score.bootstrap, score.top_k, score.kind.",
    ]
    with pytest.raises(SettingsError) as refused:
        compose("score=pearson", "rank.by=excess", "score.bootstrap=5")
    assert str(refused.value).splitlines() == [
        "score.bootstrap must be even, halves come in pairs; got 5.",
        "rank.by must be null with score=pearson, which has one score; got excess.",
    ]
    with pytest.raises(SettingsError, match=r"^score must be one of ablation, ace, conductance, .*; got 'shap'\.$"):
        compose("score=shap")


def test_what_a_ranker_cannot_do_is_refused_before_any_work(compose: Compose, tmp_path: Path) -> None:
    own = (
        "model.factory=tests.helpers.networks:Deciding", "+model.arguments={n_inputs:1,n_outputs:10}",
        "model.weights=random", "layer=conv",
    )  # fmt: skip
    with pytest.raises(NetworkError, match=r"^score=deeplift must have a network that torch\.fx can trace; got one "):
        run(compose("score=deeplift", *own), tmp_path / "run")
    with pytest.raises(NetworkError, match=r"^layer must have weights for each of its 16 channels "):
        run(compose("score=weight_norm", "layer=relu1"), tmp_path / "run")
    assert list((tmp_path / "outputs" / "store").glob("*/*")) == []
    assert run(compose("score=conductance", "score.bootstrap=0", *own), tmp_path / "run").ranking.table.score.max() > 0
