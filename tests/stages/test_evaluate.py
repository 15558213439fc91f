"""The stages `ablate` and `evaluate`: the effects of ablation, and the faithfulness of the ranking."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.artifacts import Ablations, Activations, Effects, Faithfulness, Figures, ImageSet
from pipeline.console import ConsoleObserver
from pipeline.figures.effects import draw_association_effect
from pipeline.networks.digits import digits_cnn
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.load import load
from pipeline.report_writer import ReportWriter
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, run, store_of
from pipeline.settings import AblateSettings, Settings
from pipeline.stages import ablate
from tests.helpers.settings import Compose

RESNET18 = ("model=resnet18", "model.weights=random", "target_class=8", "layer=layer4.1.conv2", "model.device=cpu")


def test_the_effects_equal_those_of_ablation_by_hand(compose: Compose, tmp_path: Path) -> None:
    settings = compose("layer=conv2", "n_images=8")
    result = run(settings, tmp_path / "run")
    network = load(settings.model, 0).requires_grad_(False)
    inputs = Preprocessing(settings.model).load(result.artifacts[ImageSet].paths)
    maps = torch.from_numpy(np.array(result.artifacts[Activations].maps)).transpose(0, 1)
    assert isinstance(network, type(digits_cnn()))

    def score(maps: torch.Tensor) -> np.ndarray:
        behind = network.relu3(network.conv3(network.relu2(maps)))
        return network.classifier(network.pool(behind).flatten(1))[:, 8].double().numpy()

    table = result.effects.table.set_index("channel")
    assert len(inputs) == 8
    for channel in table.index[:4]:
        for mode, fill in (("zero", torch.tensor(0.0)), ("mean", maps[:, channel].mean())):
            edited = maps.clone()
            edited[:, channel] = fill
            change = score(edited) - score(maps)
            assert table[mode][channel] == pytest.approx(np.abs(change).mean(), abs=1e-5)
            assert table[f"{mode}_signed"][channel] == pytest.approx(change.mean(), abs=1e-5)
    everything = maps.clone()
    everything[:, list(table.index)] = 0
    assert score(everything).mean() != pytest.approx(score(maps).mean())
    assert result.effects.curves.deletion_top.iloc[[0, -1]].tolist() == pytest.approx([1, 0])


def test_a_run_contains_a_table_figures_and_a_sentence_about_the_effects(compose: Compose, tmp_path: Path) -> None:
    result = run(compose(), tmp_path / "run", [ReportWriter("x")])
    assert (tmp_path / "run" / "effects.csv").read_text().startswith("rank,channel,score,zero,zero_signed,mean,")
    assert {"association_effect", "faithfulness"} <= {path.stem for path in result.artifacts[Figures].paths}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Association and effect: the score of each channel" in page
    assert result.effects.faithfulness.sentence in result.sentences
    loaded = Effects.load(result.artifacts.folders[Effects])
    assert loaded.faithfulness == result.effects.faithfulness
    assert json.loads((result.artifacts.folders[Effects] / "faithfulness.json").read_text())["mode"] == "zero"
    assert set(AblateSettings.MODES) <= set(loaded.table.columns)


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (("ablate.when=never",), ""),
        ((*RESNET18, "n_images=5", "ablate.budget_tflop=1e-6"), "no channel ablated: ablate.budget_tflop=1e-06 does "),
    ],
)
def test_a_run_without_ablation_shows_no_effects(
    compose: Compose, tmp_path: Path, overrides: tuple[str, ...], note: str
) -> None:
    result = run(compose(*overrides), tmp_path / "run")
    assert not result.effects.is_measured
    assert result.effects.note.startswith(note)
    assert bool(result.effects.note) == bool(note)
    assert result.effects.faithfulness.sentence is None
    assert not (tmp_path / "run" / "effects.csv").exists()
    assert not {"association_effect", "faithfulness"} & {path.stem for path in result.artifacts[Figures].paths}


@pytest.mark.parametrize(
    ("spearman", "sentence"),
    [
        (0.74, "The faithfulness is high: the scores agree with the effects of ablation (Spearman .74)."),
        (0.3, "The faithfulness is moderate: the scores agree in part with the effects of ablation (Spearman .30)."),
        (-0.1, "The faithfulness is low: the scores hardly agree with the effects of ablation (Spearman -.10). A "
         "channel may be associated with the class score without influencing it."),
        (None, None),
    ],
)  # fmt: skip
def test_the_sentence_says_how_far_the_ranking_is_borne_out(spearman: float | None, sentence: str | None) -> None:
    assert Faithfulness(spearman=spearman).sentence == sentence


def evaluated(settings: Settings) -> tuple[Ablations, Effects]:
    """Return what the stages `ablate` and `evaluate` make, without drawing figures."""
    settings = resolve(settings)
    with store_of(settings) as store:
        execution = Execution(settings, store)
        for stage in STAGES[:-1]:
            execution.obtain(stage)
        return execution.artifacts[Ablations], execution.artifacts[Effects]


@pytest.fixture
def many(compose: Compose) -> Callable[..., Settings]:
    quick = ("score=pearson", "score.bootstrap=0", "layer=conv2", "n_images=80", "ablate.n_draws=2")
    return lambda *overrides: compose(*quick, *overrides)


def test_a_budget_that_allows_everything_changes_nothing(many: Callable[..., Settings]) -> None:
    (within, effects), (always, others) = evaluated(many()), evaluated(many("ablate.when=always"))
    assert within.note == effects.note == ""
    assert np.array_equal(within.changes, always.changes)
    assert np.array_equal(within.random, always.random)
    pd.testing.assert_frame_equal(effects.table, others.table, check_exact=True)
    pd.testing.assert_frame_equal(effects.curves, others.curves, check_exact=True)
    assert effects.faithfulness == others.faithfulness
    assert effects.faithfulness.extent is None


def test_a_budget_that_is_too_small_leaves_out_images_then_channels(many: Callable[..., Settings]) -> None:
    always, complete = evaluated(many("ablate.when=always"))
    fewer, effects = evaluated(many("ablate.budget_tflop=0.05"))
    n_images = fewer.changes.shape[2]
    assert 50 < n_images < 80
    chosen = np.linspace(0, 79, n_images).round().astype(int)
    np.testing.assert_allclose(fewer.changes[:2], always.changes[:2, :, chosen], atol=1e-4)
    assert effects.faithfulness.extent == f"{n_images} of 80 images"
    assert len(effects.curves) == len(complete.curves)
    assert fewer.note.startswith(
        f"ablation is limited to all 32 channels on {n_images} of 80 images (ablate.budget_tflop=0.05); "
        "ablate.when=always ablates all channels on all images, which takes "
    )
    sampled, effects = evaluated(many("ablate.budget_tflop=0.0045"))
    n_sampled = int(sampled.is_ablated.sum())
    found, table = effects.faithfulness, effects.table
    assert 5 <= n_sampled < 16
    assert np.isnan(sampled.changes[1:]).all()
    assert found.n_best == n_sampled
    assert (found.n_images, found.n_varying, found.n_channels) == (50, 32, table.zero.notna().sum())
    drawn = set(np.flatnonzero(sampled.is_ablated))
    assert set(table.channel[table.zero.notna()]) == drawn | set(table.channel[:n_sampled])
    assert table[["mean", "resample"]].isna().all(axis=None)
    chosen = np.linspace(0, 79, 50).round().astype(int)
    expected = np.abs(always.changes[0][:, chosen]).mean(axis=1)[table.channel]
    np.testing.assert_allclose(table.zero[table.zero.notna()], expected[table.zero.notna()], atol=1e-4)
    assert found.spearman is not None
    assert found.spearman_low is not None
    assert found.spearman_low < found.spearman
    extent = f"{found.n_channels} of 32 channels (the best {n_sampled}, others at random) and 50 of 80 images"
    assert f", as estimated for all channels from {extent} (Spearman " in str(found.sentence)
    assert str(found.sentence).endswith(f", 95 % confidence interval {found.interval}).")


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [(0.3, 0.45, "moderate"), (-0.2, 0.45, "between low and moderate"), (0.1, 0.7, "between low and high")],
)
def test_the_sentence_says_how_uncertain_an_estimate_is(low: float, high: float, level: str) -> None:
    found = Faithfulness(0.4, spearman_low=low, spearman_high=high, n_images=50, n_all_images=300)
    interval = f"{low:.2f} to {high:.2f}".replace("0.", ".")
    assert found.sentence == (
        f"The faithfulness is {level}, as estimated for all channels from 50 of 300 images (Spearman .40, 95 % "
        f"confidence interval {interval})."
    )


def test_an_estimate_without_interval_has_none_in_its_sentence() -> None:
    found = Faithfulness(0.4, n_images=50, n_all_images=300)
    assert found.sentence == (
        "The faithfulness is moderate, as estimated for all channels from 50 of 300 images (Spearman .40)."
    )


def test_a_run_shows_what_the_budget_has_left_out(
    many: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(many("ablate.budget_tflop=0.0045"), tmp_path / "run", [ConsoleObserver(), ReportWriter("x")])
    assert result.effects.note in result.notes
    drawn = {path.stem for path in result.artifacts[Figures].paths}
    assert "association_effect" in drawn
    assert ("faithfulness" in drawn) == (len(result.effects.curves) > 0)
    out = capsys.readouterr().out
    assert "  ablation: " in out
    assert f"Note: {result.effects.note}." in out
    assert result.effects.note[1:] in (tmp_path / "run" / "report.html").read_text()
    rows = (tmp_path / "run" / "effects.csv").read_text().splitlines()
    assert sum(row.endswith(",,,,,,") for row in rows) == 32 - result.effects.table.zero.notna().sum()


def test_a_budget_that_allows_next_to_nothing_says_what_would(many: Callable[..., Settings]) -> None:
    found, effects = evaluated(many("ablate.budget_tflop=1e-6"))
    assert not found.is_measured
    assert effects.note == found.note
    head = "no channel ablated: ablate.budget_tflop=1e-06 does not allow 10 channels on 50 images; ablate.budget_tflop="
    assert found.note.startswith(head)
    assert found.note.endswith(" x 10^12 operations")
    enough = found.note.removeprefix(head).split()[0]
    assert evaluated(many(f"ablate.budget_tflop={enough}"))[1].is_measured


def test_layers_share_the_budgets(compose: Compose) -> None:
    settings = compose("ablate.budget_tflop=5", "visualize.maximize_tflop=2")
    shared = settings.of_layer("conv2", 3)
    assert (shared.layer, shared.ablate.budget_tflop, shared.visualize.maximize_tflop) == ("conv2", 1.67, 0.667)
    assert settings.of_layer(settings.layer, 1) == settings
    assert shared.budgets == ["ablate.budget_tflop=1.67"]  # with visualize.maximize=never
    assert compose("ablate.budget_tflop=5", *shared.budgets).ablate == shared.ablate
    assert compose("ablate.when=never", "visualize.maximize=auto").budgets == ["visualize.maximize_tflop=5"]
    assert ablate.select(settings).identity() != ablate.select(shared).identity()
    always = compose("ablate.when=always")
    assert ablate.select(always).identity() == ablate.select(always.of_layer("conv2", 3)).identity()


@pytest.mark.parametrize(("n_images", "heading"), [
    (80, "Spearman correlation 0.99, 30 channels; lines: medians"),
    (50, "Spearman correlation 0.99 (95 %: .90 to 1.00), estimated for all channels\n"
         "20 of 30 channels, 50 of 80 images; lines: medians"),
])  # fmt: skip
def test_the_figure_shows_the_channels_that_were_measured(n_images: int, heading: str) -> None:
    score = np.linspace(1, 0, 30)
    table = pd.DataFrame({"rank": range(1, 31), "channel": range(30), "score": score, "zero": score**2})
    if n_images < 80:
        table.loc[::3, "zero"] = np.nan
    found = Faithfulness(
        0.99, spearman_low=0.9, spearman_high=0.999, n_images=n_images, n_all_images=80, n_varying=30,
        n_channels=int(table.zero.notna().sum()), n_best=10 if n_images < 80 else None,
    )  # fmt: skip
    ranking = pd.DataFrame({"by": ["pearson"]})
    (axes,) = draw_association_effect(Effects(table, faithfulness=found), ranking, "a question").axes
    assert axes.get_title("left") == heading
    assert sum(np.shape(points.get_offsets())[0] for points in axes.collections) == found.n_channels
