"""All rankers with the default network: their rankings, and their agreement with the effects of ablation."""

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
    """Return one folder for all tests, so that images and activations are computed once."""
    return tmp_path_factory.mktemp("rankers")


def ranked(compose: Compose, outputs: Path, kind: str, *overrides: str) -> RunResult:
    settings = compose(f"score={kind}", *FEW, f"paths.outputs={outputs}", *overrides)
    return run(settings, outputs / kind, [ReportWriter("x")])


def spearman(result: RunResult) -> float:
    """Return the rank correlation of a ranking with the effects of ablation, which must be measured."""
    value = result.effects.faithfulness.spearman
    assert value is not None
    return value


@pytest.mark.parametrize("kind", OTHERS)
def test_each_ranker_gives_a_ranking_with_its_reliability_and_figures(
    kind: str, compose: Compose, outputs: Path
) -> None:
    result = ranked(compose, outputs, kind)
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
    assert "This ranker is not PCACE; it is provided for comparison." in page
    assert ranking_statistic(kind) is RANKERS[kind].statistics[0]
    assert "transforms" not in {path.stem for path in result.artifacts[Figures].paths}


@pytest.mark.parametrize("kind", RANKERS)
def test_each_entry_of_the_table_has_settings_a_config_file_and_labels(kind: str, compose: Compose) -> None:
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


def test_the_settings_the_config_files_and_the_table_contain_the_same_rankers(compose: Compose) -> None:
    kinds = [get_args(get_type_hints(each)["kind"]) for each in {ranker.settings for ranker in RANKERS.values()}]
    assert sorted(kind for each in kinds for kind in each) == sorted(RANKERS)
    assert [path.stem for path in sorted((ROOT / "conf" / "score").glob("*.yaml"))] == sorted(RANKERS)
    for by in get_args(get_args(get_type_hints(RankSettings)["by"])[0]):
        assert ranking_statistic(by).name == by


def test_the_scores_of_the_ablation_ranker_are_the_effects_of_ablation(compose: Compose, outputs: Path) -> None:
    effects = ranked(compose, outputs, "ablation").effects
    np.testing.assert_allclose(effects.table.score, effects.table.zero, rtol=1e-4, atol=1e-5)
    assert effects.faithfulness.spearman == pytest.approx(1, abs=1e-3)


def test_attributions_agree_with_ablation_better_than_rankers_that_ignore_the_class(
    compose: Compose, outputs: Path
) -> None:
    found = {
        kind: spearman(ranked(compose, outputs, kind))
        for kind in ("conductance", "integrated_gradients", "deeplift", "weight_norm", "mean_activation")
    }
    ignoring_class = max(found.pop("weight_norm"), found.pop("mean_activation"))
    assert all(value > ignoring_class for value in found.values()), (found, ignoring_class)


def test_the_scores_of_pearson_equal_those_of_numpy(compose: Compose, outputs: Path) -> None:
    result = ranked(compose, outputs, "pearson")
    means, class_score = result.artifacts[Activations].means(), result.artifacts[Activations].class_score
    by_hand = [abs(np.corrcoef(values, class_score)[0, 1]) for values in means]
    table = result.ranking.table.set_index("channel").sort_index()
    np.testing.assert_allclose(table.score[~table.dead], np.array(by_hand)[~table.dead], rtol=1e-9)


def test_a_layer_without_weights_cannot_be_ranked_by_weight_norm(compose: Compose, outputs: Path) -> None:
    with pytest.raises(NetworkError, match=r"^layer must have weights for each of its 32 channels for score="):
        ranked(compose, outputs, "weight_norm", "layer=relu2")


def test_settings_of_ace_are_rejected_for_other_rankers(compose: Compose) -> None:
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
    with pytest.raises(SettingsError, match=r"^score must be one of ablation, ace, .*, weight_norm; got 'shap'\.$"):
        compose("score=shap")


def test_a_ranker_that_cannot_be_applied_is_rejected_before_anything_is_computed(
    compose: Compose, tmp_path: Path
) -> None:
    own = (
        "model.factory=tests.helpers.networks:Deciding", "+model.arguments={n_inputs:1,n_outputs:10}",
        "model.weights=random", "layer=conv",
    )  # fmt: skip
    with pytest.raises(NetworkError, match=r"^the network must be traceable by torch\.fx for score=deeplift; got one "):
        run(compose("score=deeplift", *own), tmp_path / "run")
    with pytest.raises(NetworkError, match=r"^layer must have weights for each of its 16 channels "):
        run(compose("score=weight_norm", "layer=relu1"), tmp_path / "run")
    assert list((tmp_path / "outputs" / "store").glob("*/*")) == []
    assert run(compose("score=conductance", "score.bootstrap=0", *own), tmp_path / "run").ranking.table.score.max() > 0
