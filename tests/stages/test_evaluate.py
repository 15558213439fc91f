"""The stages `ablate` and `evaluate`: the effects of ablation, and the faithfulness of the ranking."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.artifacts import Ablations, Activations, Effects, Faithfulness, Figures, ImageSet
from pipeline.networks.digits import digits_cnn
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.inputs import FileInputs, Preprocessing
from pipeline.networks.load import load
from pipeline.report_writer import ReportWriter
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.settings import AblateSettings
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
        ((*RESNET18, "n_images=5"), "no channel ablated: inputs are larger than 32 x 32 pixels; ablate.when=always "),
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


def test_layers_with_thousands_of_channels_are_ablated_only_on_demand(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(n_channels: int, *overrides: str) -> Ablations:
        rng = np.random.default_rng(0)
        maps = rng.random((n_channels, 20, 8, 8), dtype=np.float32)
        settings = resolve(compose("n_images=20", *overrides))
        return ablate.run(
            ablate.select(settings), images=ImageSet(tmp_path, ()), activations=Activations(maps, rng.random(20)),
            progress=lambda done, total: None,
        )  # fmt: skip

    monkeypatch.setattr(FileInputs, "read", lambda self, images: torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr(NetworkRequest, "open", lambda self: pytest.fail("the network must not be opened"))
    found = compute(10_000)
    assert not found.is_measured
    assert found.note == (
        "no channel ablated: 10,000 channels take 30,340 passes of each image through the layers behind them; "
        "ablate.when=always does it, in minutes to hours"
    )
    for n_channels, overrides in ((10_000, ("ablate.when=always",)), (2_000, ())):
        with pytest.raises(pytest.fail.Exception, match="the network must not be opened"):
            compute(n_channels, *overrides)
