from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.reproduce import main
from pipeline.reproduction import compare_networks, compare_rankings, differences, differences_of_layers
from pipeline.runner import run
from pipeline.tracking.mlflow import MlflowTracker
from tests.helpers.settings import Compose
from tests.helpers.tracking import logged_runs


def csv(scores: np.ndarray, by: str = "penalised", **columns: int) -> bytes:
    table = pd.DataFrame({"channel": range(len(scores)), "score": scores, "by": by, **columns})
    return table.sort_values("score", ascending=False).to_csv(index=False).encode()


SCORES = np.linspace(0.2, 1.0, 64)


def test_equal_files_are_identical_to_the_byte() -> None:
    assert compare_rankings(csv(SCORES), csv(SCORES)).verdict == "identical to the byte"


@pytest.mark.parametrize("scale", [0.5, 1.0, 40.0])
def test_small_differences_as_between_machines_are_within_the_sensitivity(scale: float) -> None:
    changed = SCORES.copy()
    changed[:5] += [9e-5, -5e-5, 3e-5, 3e-5, 3e-5]
    difference = compare_rankings(csv(scale * SCORES), csv(scale * changed))
    assert difference.verdict == "equal within the method's sensitivity"
    assert difference.largest == pytest.approx(9e-5 * min(scale, 1))
    assert difference.share_small == 59 / 64


@pytest.mark.parametrize(("by", "columns"), [("maximal", {"iterations": 3}), ("mutual_information", {})])
def test_where_small_changes_can_have_large_effects_the_largest_difference_may_be_larger(
    by: str, columns: dict[str, int]
) -> None:
    changed = SCORES.copy()
    changed[:5] += [0.01, -0.005, 0.002, 1e-4, 1e-4]
    difference = compare_rankings(csv(SCORES, by, **columns), csv(changed, by, **columns))
    assert difference.verdict == "equal within the method's sensitivity"
    assert difference.largest == pytest.approx(0.01)
    assert compare_rankings(csv(SCORES), csv(changed)).verdict == "different"
    changed[0] += 0.011
    assert compare_rankings(csv(SCORES, by, **columns), csv(changed, by, **columns)).verdict == "different"


@pytest.mark.parametrize(
    "changed",
    [SCORES + np.eye(64)[3] * 1.1e-4, SCORES + 2e-5, SCORES[::-1], SCORES[:-1]],
    ids=["one large difference", "many small differences", "another order", "a missing channel"],
)
def test_larger_differences_are_different(changed: np.ndarray) -> None:
    assert compare_rankings(csv(SCORES), csv(changed)).verdict == "different"


def test_equal_scores_without_variation_are_equal() -> None:
    constant, renamed = np.full(8, 0.5), csv(np.full(8, 0.5)).replace(b"0.5", b"0.50")
    assert compare_rankings(csv(constant), renamed).verdict == "equal within the method's sensitivity"


def test_a_network_is_as_different_as_its_layers() -> None:
    def tables(*associations: float) -> dict[str, bytes]:
        layers = pd.DataFrame({"layer": ["0", "1"][: len(associations)], "association": associations})
        return {"layers.csv": layers.to_csv(index=False).encode(), "network.csv": b""}

    near, far = csv(SCORES + 9e-6), csv(SCORES + 1e-3)
    old, own = {"0": csv(SCORES), "1": csv(SCORES / 2)}, tables(0.5, 0.7)
    assert compare_networks(old, old, own, own).verdict == "identical to the byte"
    assert compare_networks(old, old, own, own).sentences == []
    unknown = tables(0.5, float("nan"))
    assert compare_networks(old, old, unknown, dict(unknown)).verdict == "identical to the byte"
    for new, associations, verdict, sentences in (
        (
            {**old, "1": csv(SCORES / 2 + 9e-6)}, (0.5, 0.70001), "equal within the method's sensitivity",
            ["1 of the rankings of 2 layers are identical to the byte.",
             "1 is equal within the method's sensitivity. Scores differ by at most 9e-06, 100% of them by less than "
             "1e-5; Spearman correlation 1.00000.",
             "The associations of whole layers differ by at most 1e-05."],
        ),
        ({**old, "0": near}, (0.5, 0.7), "equal within the method's sensitivity", None),
        ({**old, "0": far}, (0.5, 0.7), "different", None),
        (old, (0.5, 0.701), "different", None),
        (old, (0.5, float("nan")), "different", None),
        (
            {"0": old["0"]}, (0.5,), "different",
            ["1 of the rankings of 1 layers are identical to the byte.",
             "The layers that were ranked are not the same."],
        ),
    ):  # fmt: skip
        found = compare_networks(old, new, own, tables(*associations))
        assert found.verdict == verdict
        assert sentences is None or found.sentences == sentences
    other = {**own, "network.csv": b"another"}
    found = compare_networks(old, old, own, other)
    assert found.verdict == "equal within the method's sensitivity"
    assert found.sentences[1:] == ["The tables of the network are not the same."]


def test_differences_of_several_layers_are_listed_once() -> None:
    old, new = ({layer: {"reads": {"weights": value}} for layer in "ab"} for value in (1, 2))
    assert differences_of_layers(old, new) == ["reads.weights: 1 -> 2"]
    assert differences_of_layers(old, old) == []


def test_differences_have_the_dotted_name_of_each_value() -> None:
    old = {"a": {"b": 1, "c": 2}, "d": "0" * 64, "gone": True}
    new = {"a": {"b": 1, "c": 3}, "d": "1" * 64}
    assert list(differences(old, new)) == ["a.c: 2 -> 3", "d: 000000000000... -> 111111111111...", "gone: True -> none"]


def call_reproduce(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str], list[str]]:
    monkeypatch.setattr(sys, "argv", ["reproduce", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out.splitlines(), captured.err.splitlines()


def logged(outputs: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    return logged_runs(client)


@pytest.mark.usefixtures("blank_figures")
def test_a_run_is_reproduced_until_its_weights_change(
    compose: Compose, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    from pipeline.resources import shipped_weights

    weights = tmp_path / "weights.safetensors"
    state = load_file(shipped_weights("digits_cnn"))
    save_file(state, weights)
    run(compose(f"model.checkpoint={weights}", "tracking.enabled=true"), tmp_path / "run", [MlflowTracker()])
    (original,) = logged(tracked)
    here = f"paths.outputs={tracked}"

    code, out, err = call_reproduce(monkeypatch, capsys, original.info.run_id[:8], here)
    assert (code, err) == (0, [])
    assert out[0].startswith(f"Run {original.info.run_id}, logged 20")
    assert not any("from the store" in line for line in out)  # all artifacts are computed again
    assert out[-1] == "The ranking is identical to the byte."
    again = logged(tracked)[0]
    assert again.data.tags["reproduces"] == original.info.run_id
    assert again.data.tags["reproduced"] == "identical to the byte"

    state["conv1.weight"][3] *= 2
    save_file(state, weights)
    code, out, err = call_reproduce(monkeypatch, capsys, original.info.run_id, here)
    assert (code, err) == (1, [])
    assert "The ranking is different." in out
    differing = out[out.index("Differences between the logged run and this one:") + 1 :]
    assert any("activate.reads.network.weights.fingerprint: " in line for line in differing)

    code, _, err = call_reproduce(monkeypatch, capsys, "0123abcd", here)
    assert code == 1
    assert err == [
        f"error: RUN_ID must be a run logged to sqlite:///{tracked / 'mlflow.db'}; got '0123abcd' (none). "
        "`pcace ui` shows the runs."
    ]
    code, _, err = call_reproduce(monkeypatch, capsys, original.info.run_id, here, "model.nonsense.more=3")
    assert code == 1
    assert err == ["error: model.nonsense.more must be one of the run's settings; got model.nonsense.more=3."]


def test_a_run_id_must_be_given(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call_reproduce(monkeypatch, capsys)
    assert code == 1
    assert err == ["error: RUN_ID must be given; got nothing. `pcace ui` shows the runs."]
