"""Several layers in one run: the same bytes as runs of single layers, however many passes the disk allows."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from pipeline import whole_network
from pipeline.artifacts import Activations, NetworkRanking, Ranking
from pipeline.artifacts.base import DESCRIPTION
from pipeline.config import compose_settings
from pipeline.errors import InputError, SettingsError
from pipeline.layers_ahead import layers_ahead
from pipeline.networks.remembered import remembered
from pipeline.observer import NetworkPlan, NetworkResult, Observer, StageReport
from pipeline.report_writer import ReportWriter
from pipeline.resolve import resolve
from pipeline.runner import LAYER_STAGES, STAGES, Execution, plan, run, store_of
from pipeline.settings import Settings
from pipeline.stages.stage import Stage
from pipeline.store import Store
from pipeline.whole_network import NetworkExecution, run_network
from tests.helpers.settings import Compose

FEW = ("layer=[conv1,conv3,conv*]", "n_images=40", "score.permutations=20", "score.bootstrap=20")
TO_RANK = tuple(stage for stage in LAYER_STAGES if stage.name not in ("ablate", "evaluate", "visualize"))
LAYERS = ["conv1", "conv2", "conv3"]


class Watching(Observer):
    """Keeps what the observers of a run are told."""

    def __init__(self) -> None:
        self.plans: list[NetworkPlan] = []
        self.computed: list[str] = []

    def planned(self, plan: NetworkPlan) -> None:
        self.plans.append(plan)

    def stage_started(self, stage: Stage) -> None:  # type: ignore[type-arg]
        self.computed.append(stage.name)


def ranked(settings: Settings, folder: Path, stages: Sequence[Stage] = TO_RANK) -> tuple[NetworkResult, Watching]:  # type: ignore[type-arg]
    """Rank the layers, without figures, and return the result and what the observers were told."""
    watching = Watching()
    with remembered():
        return NetworkExecution(resolve(settings), folder, [watching], stages).run(), watching


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of an artifact, without the description, which contains the time."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != DESCRIPTION}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def network(outputs: Path, compose_in: Compose) -> tuple[NetworkResult, Watching]:
    return ranked(compose_in(outputs, *FEW), outputs / "run")


@pytest.fixture(scope="module")
def compose_in() -> Compose:
    """Return a function from the folder of the outputs and overrides to the settings."""
    from tests.helpers.settings import SMALL

    return lambda outputs, *overrides: compose_settings([*SMALL, *overrides, f"paths.outputs={outputs}"])


@pytest.mark.parametrize("layer", LAYERS)
def test_every_artifact_of_a_layer_has_the_key_and_the_bytes_of_a_run_of_this_layer(
    layer: str, tmp_path: Path, network: tuple[NetworkResult, Watching], outputs: Path, compose_in: Compose
) -> None:
    single = resolve(compose_in(tmp_path, *FEW, f"layer={layer}"))
    with store_of(single) as store:
        execution = Execution(single, store)
        for stage in STAGES[: STAGES.index(next(each for each in STAGES if each.artifact is Ranking)) + 1]:
            execution.obtain(stage)
            key = network[0].keys[layer][stage.name]
            assert key == execution.keys[stage.name]
            if stage.name != "download":
                assert files(outputs / "store" / str(key)) == files(execution.artifacts.folders[stage.artifact])


def test_maps_are_computed_in_one_pass_and_found_by_single_runs(
    network: tuple[NetworkResult, Watching], outputs: Path, compose_in: Compose
) -> None:
    (plan,) = network[1].plans
    assert (plan.layers, plan.n_channels, plan.n_passes, plan.n_stored) == (tuple(LAYERS), 112, 1, 0)
    assert plan.n_bytes == 4 * 112 * 40 * 64
    assert plan.sentence.startswith(
        "3 layers, 112 channels; 1.1 MiB of activation maps in 1 pass over the images; about "
    )
    assert Counter(network[1].computed) == {
        "download": 1, "activate": 1, "reduce": 3, "score": 3, "rank": 3, "associate": 3
    }  # fmt: skip
    single = resolve(compose_in(outputs, *FEW, "layer=conv2"))
    with store_of(single) as store:
        assert all(Execution(single, store).is_stored(stage) for stage in STAGES[:5])


def test_a_second_run_computes_nothing(
    network: tuple[NetworkResult, Watching], outputs: Path, compose_in: Compose
) -> None:
    again, watching = ranked(compose_in(outputs, *FEW), outputs / "again")
    assert watching.computed == []
    assert watching.plans[0].sentence == "3 layers, 112 channels (3 layers are in the store); no forward pass is needed"
    pd.testing.assert_frame_equal(again.ranking.channels, network[0].ranking.channels, check_exact=True)


def test_a_small_disk_budget_takes_more_passes_and_gives_up_maps_and_has_the_same_bytes(
    tmp_path: Path, network: tuple[NetworkResult, Watching], compose_in: Compose
) -> None:
    budget = 4 * 64 * 40 * 64 / 2**30  # the maps of conv3, or of conv1 and conv2
    settings = compose_in(tmp_path, *FEW, f"network.disk_gib={budget}")
    result, watching = ranked(settings, tmp_path / "run")
    assert (watching.plans[0].n_passes, watching.computed.count("activate")) == (2, 2)
    assert list((tmp_path / "store" / "activate").iterdir()) == []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    result.ranking.save(tmp_path / "one")
    network[0].ranking.save(tmp_path / "other")
    assert files(tmp_path / "one") == files(tmp_path / "other")
    # What was given up is computed again only where it is needed, with the same bytes.
    assert ranked(settings, tmp_path / "again")[1].computed == []
    single = resolve(compose_in(tmp_path, *FEW, "layer=conv3"))
    with store_of(single) as store:
        execution = Execution(single, store)
        assert not execution.obtain(STAGES[1]).is_cached
        own = execution.artifacts.folders[Activations]
        assert files(own) == files(Path(network[0].settings.paths.outputs) / "store" / str(execution.keys["activate"]))


class Interrupting(Observer):
    """Ends a run when a stage has been finished for the second time."""

    def __init__(self, stage: str) -> None:
        self._stage, self._n_finished = stage, 0

    def stage_finished(self, report: StageReport) -> None:
        self._n_finished += report.stage.name == self._stage
        if self._n_finished == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["reduce", "associate"])
def test_the_maps_of_an_interrupted_run_are_removed_by_the_next_one_and_those_of_other_runs_are_not(
    stage: str, tmp_path: Path, compose_in: Compose
) -> None:
    few = [text for text in FEW if "score" not in text] + ["score.permutations=0", "score.bootstrap=0", "score.folds=0"]
    single = resolve(compose_in(tmp_path, *few, "layer=conv2"))
    with store_of(single) as store:
        execution = Execution(single, store)
        execution.obtain(STAGES[1])
        own = execution.artifacts.folders[Activations]
    budget = 1.1 * 4 * 64 * 40 * 64 / 2**30  # conv1 in one pass, conv3 in another one
    settings = compose_in(tmp_path, *few, f"network.disk_gib={budget}")
    with remembered(), pytest.raises(KeyboardInterrupt):
        NetworkExecution(resolve(settings), tmp_path / "run", [Interrupting(stage)], TO_RANK).run()
    assert len(list((tmp_path / "store" / "activate").iterdir())) == 2
    ranked(settings, tmp_path / "again")
    assert list((tmp_path / "store" / "activate").iterdir()) == [own]


def test_an_interrupted_run_ends_the_stages_of_the_next_layers(tmp_path: Path, compose_in: Compose) -> None:
    n_threads = threading.active_count()
    computed: list[Execution] = []

    def executed(layer: str, observer: Observer) -> tuple[Store, Execution]:
        own, store = replace(settings, layer=layer), store_of(settings)
        computed.append(Execution(own, store, [observer], plan(own, LAYER_STAGES)))
        return store, computed[-1]

    settings = resolve(compose_in(tmp_path, *FEW, "layer=conv1"))
    with pytest.raises(KeyboardInterrupt), layers_ahead(settings, LAYERS, TO_RANK, executed) as ahead:
        with ahead.stages_of("conv1"):
            watching = Watching()
            execution = Execution(settings, store_of(settings), [watching], plan(settings, LAYER_STAGES))
            reports = [ahead.obtain(stage, execution) for stage in TO_RANK]
            assert [report.is_cached for report in reports[2:]] == [False] * 4
            assert watching.computed[-4:] == ["reduce", "score", "rank", "associate"]
            assert all(report.artifacts is execution.artifacts for report in reports)
        raise KeyboardInterrupt
    assert threading.active_count() == n_threads
    assert [each.settings.layer for each in computed] == LAYERS
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_with_rankers_that_use_the_network_nothing_is_computed_ahead(tmp_path: Path) -> None:
    settings = resolve(compose_settings(["score=pearson", "layer=conv1", "n_images=20", f"paths.outputs={tmp_path}"]))

    def executed(layer: str, observer: Observer) -> tuple[Store, Execution]:
        raise AssertionError

    with layers_ahead(settings, LAYERS, TO_RANK, executed) as ahead, ahead.stages_of("conv1"):
        assert not ahead.obtain(STAGES[0], Execution(settings, store_of(settings))).is_cached


def test_a_layer_that_does_not_fit_into_the_disk_budget_is_listed(
    tmp_path: Path, compose_in: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_network, "discard_temporary", lambda store, key: None)
    budget = 2 * 32 * 40 * 64 / 2**30
    settings = compose_in(tmp_path, *FEW, f"network.disk_gib={budget}", "activate.dtype=float16")
    result, _ = ranked(settings, tmp_path / "run")
    stored = [Activations.load(folder).maps for folder in tmp_path.glob("store/activate/*")]
    assert {maps.dtype for maps in stored} == {np.dtype("float16")}
    assert list(result.folders) == ["conv1", "conv2"]
    assert dict(result.ranking.not_ranked.to_numpy().tolist()) == {
        "conv3": f"its maps take 0.3 MiB, more than network.disk_gib={budget:g}. Raise network.disk_gib."
    }


def test_the_folder_of_a_run_has_the_tables_and_a_folder_for_each_layer(tmp_path: Path, compose_in: Compose) -> None:
    overrides = ("layer=[relu1,p*]", "n_images=40", "score.permutations=20", "score.bootstrap=20", "ablate.when=never")
    settings = compose_in(tmp_path, *overrides)
    writer = ReportWriter("command", lambda layer: f"command layer={layer}")
    result = run_network(settings, tmp_path / "run", [writer])
    single = run(replace(settings, layer="pool"), tmp_path / "single", [ReportWriter("command layer=pool")])
    assert all(report.is_cached for report in single.reports)
    for layer in ("relu1", "pool"):
        own = tmp_path / "run" / "layers" / layer
        assert result.folders[layer] == own
        assert {"ranking.csv", "ranking.parquet", "report.html", "figures", "settings.json"} <= {
            path.name for path in own.iterdir()
        }
    assert (own / "ranking.csv").read_bytes() == (tmp_path / "single" / "ranking.csv").read_bytes()
    assert json.loads((own / "settings.json").read_text())["layer"] == "pool"
    assert "command layer=pool" in (own / "report.html").read_text()
    loaded = NetworkRanking.load(tmp_path / "run")
    pd.testing.assert_frame_equal(loaded.channels, result.ranking.channels, check_exact=True)
    assert loaded.sentences == result.ranking.sentences
    read = pd.read_csv(tmp_path / "run" / "network.csv")
    assert np.array_equal(read.bias_corrected, loaded.channels.bias_corrected, equal_nan=True)
    assert len(pd.read_csv(tmp_path / "run" / "layers.csv")) == 2
    assert pd.read_csv(tmp_path / "run" / "not_ranked.csv").empty


def test_a_run_without_any_layer_that_can_be_ranked_is_refused(tmp_path: Path, compose_in: Compose) -> None:
    with pytest.raises(InputError) as caught:
        ranked(compose_in(tmp_path, "layer=p*", "n_components=3"), tmp_path / "run")
    assert str(caught.value) == (
        "layer must select a layer that can be ranked; got 1 that cannot, among them pool: n_components must be in "
        "[1, 1]; got 3 (20 images, maps of 1 x 1 pixels). Lower it, or choose a layer with larger maps."
    )


def test_dvc_refuses_maps_that_do_not_fit(tmp_path: Path, compose_in: Compose) -> None:
    settings = resolve(compose_in(tmp_path, *FEW, "network.disk_gib=0.0005"))
    with remembered(), store_of(settings) as store, pytest.raises(SettingsError) as caught:
        NetworkExecution(settings, tmp_path / "run").obtain(STAGES[1], store)
    assert str(caught.value) == (
        "network.disk_gib must be at least 0.0011 for DVC, which keeps the maps of all layers; got "
        "network.disk_gib=0.0005. Raise it, choose fewer layers, or run `pcace run`."
    )


def test_q_values_are_those_of_all_channels_and_ranks_follow_the_bias_corrected_scores(
    network: tuple[NetworkResult, Watching], outputs: Path
) -> None:
    ranking = network[0].ranking
    tables = [
        Ranking.load(outputs / "store" / str(network[0].keys[layer]["rank"])).table.assign(layer=layer)
        for layer in LAYERS
    ]
    whole = pd.concat(tables).set_index(["layer", "channel"])
    channels = ranking.channels.set_index(["layer", "channel"])
    expected = pd.Series(false_discovery_control(whole.p_pooled, method="bh"), index=whole.index)
    pd.testing.assert_series_equal(channels.q, expected.loc[channels.index], check_names=False)
    assert channels.bias_corrected.is_monotonic_decreasing
    assert channels["rank"].tolist() == list(range(1, 113))
    assert channels.rank_in_layer.equals(whole["rank"].loc[channels.index])
    layers = ranking.layers.set_index("layer")
    assert layers["median"].to_dict() == channels.bias_corrected.groupby("layer").median().to_dict()
    assert layers.n_significant.to_dict() == (channels.q < 0.05).groupby("layer").sum().to_dict()
    assert layers.depth.tolist() == sorted(layers.depth)
    assert layers[["n_channels", "height", "width"]].to_numpy()[2].tolist() == [64, 8, 8]
    best = channels.reset_index().groupby("layer").head(1).set_index("layer").channel
    assert {layer: int(row.split()[0]) for layer, row in layers.best_channels.items()} == best.to_dict()
