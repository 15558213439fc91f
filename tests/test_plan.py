"""`pcace plan`: what a question would take, before it is asked, and the model behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import plan
from pipeline.artifacts import Activations
from pipeline.cost import BASE_MEMORY, SECONDS_PER_BYTE, Cost, ablation_plan, costs_of, scoring, text_of
from pipeline.network_budget import GIB
from pipeline.networks.layout import LayerInfo
from pipeline.networks.timing import Timing
from pipeline.numerics.ablation_plan import AblationWork
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, store_of
from pipeline.settings import AceSettings, Settings
from tests.helpers.cli import Cli, command_line
from tests.helpers.settings import SMALL, Compose

LAYER = LayerInfo("layer", "Conv2d", (64, 10, 10), 1, "first")
WORK = AblationWork(1e9, 1e9, 100, 64, 64, 3, 20)
TIMING = Timing(0.02, 0.01, 0.06, 4e9, WORK, 3 * 224 * 224, 800_000)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    with command_line(tmp_path, monkeypatch, capsys) as call:
        yield call


def cells(lines: list[str], name: str) -> list[str]:
    """Return the cells of the row that begins with a name."""
    (line,) = (line for line in lines if line.split()[:1] == [name])
    return line.split()


def test_the_plan_lists_the_stages_and_computes_nothing(cli: Cli, tmp_path: Path) -> None:
    code, out, errors = cli(*SMALL, main=plan.main)
    assert (code, errors) == (0, [])
    assert out[0] == "conv1 of digits_cnn: 16 channels of 8 x 8; 20 images"
    for stage in STAGES:
        assert cells(out, stage.name)[2] in ("s", "min")
    assert cells(out, "activate")[-2:] == ["0.1", "MiB"]
    assert out[-2].endswith(" of disk; 1 pass of the images through the network.")
    assert out[-1] == "Ablation: all channels on 20 of 20 images."
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_what_is_in_the_store_costs_nothing(cli: Cli, tmp_path: Path, compose: Compose) -> None:
    settings = resolve(compose(f"paths.outputs={tmp_path}"))
    with store_of(settings) as store:
        execution = Execution(settings, store)
        execution.obtain(STAGES[1])
        size = (execution.artifacts.folders[Activations] / "maps.npy").stat().st_size
    out = cli(*SMALL, main=plan.main)[1]
    assert cells(out, "activate") == ["activate", "in", "the", "store"]
    assert cells(out, "reduce")[2] == "s"
    assert out[-2].endswith("no passes of the images through the network.")
    (cost,) = (
        each for each in costs_of(settings, replace(LAYER, shape=(16, 8, 8)), TIMING) if each.stage == "activate"
    )
    assert cost.disk == pytest.approx(size, rel=0.01)


def test_several_layers_are_planned_together(cli: Cli) -> None:
    code, out, _ = cli(*SMALL, "layer=[conv1,conv3,pool]", "n_components=2", main=plan.main)
    assert code == 0
    assert cells(out, "conv3")[:5] == ["conv3", "64", "8", "x", "8"]
    assert any(line.endswith("1 pass of the images through the network for 2 layers.") for line in out)
    assert out[-1].startswith("pool cannot be ranked: n_components must be in [1, 1]; got 2 (")


def test_maps_that_do_not_fit_on_the_disk_together_take_several_passes(cli: Cli) -> None:
    layers = "layer=[conv1,conv3]"
    both = 4 * 20 * 64 * (16 + 64)
    for share, passes in ((1.0, "1 pass"), (0.9, "2 passes")):
        code, out, _ = cli(*SMALL, layers, f"network.disk_gib={share * both / GIB}", main=plan.main)
        assert code == 0
        assert f"; {passes} of the images through the network for 2 layers." in out[-1]


def test_passes_add_up_and_each_writes_the_maps_of_its_layers() -> None:
    def costs(n_bytes: float) -> list[Cost]:
        maps = Cost("activate", 10.0 + n_bytes * SECONDS_PER_BYTE, 5.0, n_bytes)
        return [Cost("download", 2.0, 1.0, 7.0), maps, Cost("reduce", 3.0, 4.0, 8.0)]

    left = {"first": costs(1e9), "second": costs(3e9), "stored": costs(1e9)[2:]}
    one, several = (plan.costs_of_passes(left, passes) for passes in ([["first", "second"]], [["first"], ["second"]]))
    writing = 4e9 * SECONDS_PER_BYTE
    assert sum(cost.seconds for cost in one) == pytest.approx(2 + 10 + writing + 3 * 3)
    assert sum(cost.seconds for cost in several) == pytest.approx(2 + 2 * 10 + writing + 3 * 3)
    for found in (one, several):
        assert sum(cost.disk for cost in found) == 7 + 4e9 + 3 * 8
        assert max(cost.memory for cost in found) == 5


def test_bad_settings_get_one_line(cli: Cli) -> None:
    code, out, errors = cli(*SMALL, "layer=conv9", main=plan.main)
    assert (code, out) == (1, [])
    assert errors == [
        "error: layer must be one of the network's layers; got 'conv9'. Nearest: conv3, conv2, conv1. "
        "`pcace layers` lists all."
    ]


@pytest.fixture
def settings(compose: Compose) -> Settings:
    return resolve(compose("n_images=100", "n_components=3", "ablate.budget_tflop=1", "visualize.maximize=auto"))


def by_stage(settings: Settings) -> dict[str, float]:
    return {cost.stage: cost.seconds for cost in costs_of(settings, LAYER, TIMING)}


def test_costs_grow_as_the_work_does(settings: Settings) -> None:
    once, twice = by_stage(settings), by_stage(replace(settings, n_images=200))
    assert twice["activate"] == pytest.approx(2 * once["activate"])
    more = replace(settings, n_components=6)
    assert by_stage(more)["score"] > once["score"]
    assert by_stage(more)["activate"] == once["activate"]
    assert isinstance(settings.score, AceSettings)
    slow = replace(settings, score=replace(settings.score, smoother="supersmoother", smoothness=None))
    assert scoring(slow, 64) > scoring(settings, 64)
    disk = {cost.stage: cost.disk for cost in costs_of(settings, LAYER, TIMING)}
    assert disk["activate"] == 4 * 64 * 100 * 100
    assert disk["reduce"] == 8 * 64 * 100 * 3
    assert all(cost.memory >= BASE_MEMORY for cost in costs_of(settings, LAYER, TIMING))


def test_the_memory_of_scores_grows_with_images_and_not_with_channels(settings: Settings, compose: Compose) -> None:
    def memory(given: Settings, n_channels: int) -> float:
        (cost,) = (
            cost
            for cost in costs_of(given, replace(LAYER, shape=(n_channels, 10, 10)), TIMING)
            if cost.stage == "score"
        )
        return cost.memory

    many = replace(settings, n_images=50_000)
    assert memory(many, 2048) == memory(many, 512) < 4 * 2**30
    assert memory(many, 512) > memory(settings, 512)
    network = resolve(compose("score=conductance", "n_images=100"))
    activate = {cost.stage: cost.memory for cost in costs_of(network, LAYER, TIMING)}["activate"]
    assert memory(network, 64) == activate
    distances = resolve(compose("score=distance_correlation", "n_images=100"))
    assert memory(replace(distances, n_images=10_000), 64) > BASE_MEMORY + 8 * 3 * 10_000**2


def test_ablation_and_maximisation_stay_within_their_budgets(settings: Settings) -> None:
    costs = by_stage(settings)
    found = ablation_plan(settings, TIMING)
    assert found is not None
    assert WORK.operations(found) <= 1e12
    per_operation = TIMING.seconds_per_set / WORK.behind
    assert costs["ablate"] + costs["evaluate"] <= 1e12 * per_operation + 5
    always = replace(settings, ablate=replace(settings.ablate, when="always"))
    assert by_stage(always)["ablate"] + by_stage(always)["evaluate"] == pytest.approx(
        100 * WORK.sets(WORK.everything) * 0.01, rel=0.02
    )
    never = replace(settings, visualize=replace(settings.visualize, maximize="never"))
    n_maximized = (costs["visualize"] - by_stage(never)["visualize"]) / (256 * TIMING.seconds_per_step)
    assert n_maximized == pytest.approx(int(5e12 / (256 * 4e9)))
    assert np.isclose(by_stage(replace(settings, ablate=replace(settings.ablate, when="never")))["ablate"], 0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.31, "0.3 s"), (42.4, "42 s"), (99.4, "99 s"), (100, "2 min"), (7000, "1.9 h")]
)
def test_times_have_a_fitting_unit(seconds: float, text: str) -> None:
    assert text_of(seconds) == text
