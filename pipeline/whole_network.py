"""Rank the channels of several layers of a network, with as few passes over the images as the disk allows.

The artifacts of each layer have the same keys and the same bytes as those of a run of this layer alone. The forward
passes write the maps of many layers; then each layer goes through the other stages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import engine
from pipeline.allocator import freed_memory_kept
from pipeline.artifacts import Activations, Figures, ImageSet, NetworkRanking, Probe, Projections, Ranking, Workspace
from pipeline.cost import seconds_of_layers
from pipeline.errors import (
    EngineError,
    InputError,
    MemoryExceededError,
    NetworkError,
    PipelineError,
    SettingsError,
    StorageError,
)
from pipeline.layers_ahead import LayersAhead, layers_ahead
from pipeline.network_budget import GIB, Pass, disk_budget, gib, map_bytes, passes_for
from pipeline.network_tables import LayerResult, network_ranking
from pipeline.networks.arrangement import Heads
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.inputs import Inputs
from pipeline.networks.known import layout_of
from pipeline.networks.layout import LayerInfo
from pipeline.networks.load import check_weights
from pipeline.networks.observed import compatible
from pipeline.networks.remembered import remembered
from pipeline.networks.selection import select_layers
from pipeline.observer import NetworkPlan, NetworkResult, Observer, RunResult
from pipeline.progress import Progress
from pipeline.rankers import RANKERS
from pipeline.rankers.shared import Found, contributions_of_layers, using
from pipeline.resolve import check_layer, check_score, resolve
from pipeline.run_folder import layer_folder, publish, publish_network
from pipeline.runner import LAYER_STAGES, Execution, fan_out, in_fitting_batches, plan, store_of
from pipeline.settings import Settings
from pipeline.stages.activate import (
    activations_of_layers,
    check_class_score,
    class_label,
    seconds_per_image,
)
from pipeline.stages.stage import Stage
from pipeline.store import ArtifactKey, Store, storage_errors
from pipeline.store.housekeeping import discard_temporary

if TYPE_CHECKING:
    from torch import nn


def run_network(settings: Settings, run_dir: Path, observers: Sequence[Observer] = ()) -> NetworkResult:
    """Rank the channels of the layers that the setting `layer` selects, and fill the folder of the run.

    A layer that cannot be ranked is listed with the reason, and the others are ranked. Results that are in the store
    are not computed again, so a run that was interrupted goes on where it was.

    Parameters
    ----------
    settings, run_dir, observers
        As in `pipeline.runner.run`.

    Returns
    -------
    NetworkResult
        The tables, and the folder of each layer.

    Raises
    ------
    PipelineError
        If the settings, the images, the network or the disk do not allow the run, or if no layer can be ranked.
    """
    try:
        for observer in observers:
            observer.started(settings)
        settings = resolve(settings)
        for observer in observers:
            observer.resolved(settings)
        with remembered():
            result = in_fitting_batches(
                settings, observers, lambda given: NetworkExecution(given, run_dir, observers).run()
            )
        with storage_errors("the run's results", run_dir):
            publish_network(result)
        for observer in observers:
            observer.network_finished(result)
    except BaseException as error:  # also KeyboardInterrupt, so that the tracker ends the logged run
        for observer in observers:
            observer.failed(error)
        raise
    return result


class NetworkExecution:
    """The execution of the stages for several layers of a network; use it inside the context `remembered`.

    Parameters
    ----------
    settings : Settings
        The resolved settings; `layer` selects the layers.
    run_dir : Path
        Folder of the run.
    observers : sequence of Observer
        Informed about the run.
    stages : sequence of Stage
        The stages of each layer. Without `visualize`, the folders of the layers are not filled.

    Attributes
    ----------
    layers : list of LayerInfo
        The layers that can be ranked, as far as it is known, in the order of execution.
    not_ranked : dict of str to str
        Why other selected layers cannot be ranked.
    settings_of : dict of str to Settings
        The settings of a run of each layer alone.
    keys : dict of str to dict of str to ArtifactKey
        The keys of the artifacts of each layer.
    """

    def __init__(
        self,
        settings: Settings,
        run_dir: Path,
        observers: Sequence[Observer] = (),
        stages: Sequence[Stage[Any, Any]] = LAYER_STAGES,
    ) -> None:
        self.settings, self.run_dir, self._observers, self._stages = settings, run_dir, observers, stages
        check_weights(settings.model)
        check_score(settings)
        statistics = RANKERS[settings.score.kind].statistics
        found = select_layers(layout_of(settings.model), settings.layer, without_scaled=statistics[0].is_correlation)
        self.not_ranked = dict(found.not_ranked)
        self.layers: list[LayerInfo] = []
        self.settings_of = {info.name: settings.of_layer(info.name, len(found.layers)) for info in found.layers}
        for info in found.layers:
            try:
                check_layer(self.settings_of[info.name])
            except PipelineError as error:
                self._fail(info.name, error)
            else:
                self.layers.append(info)
        self._require_layers()
        first = plan(self.settings_of[self.layers[0].name], LAYER_STAGES)
        known = {"download": first["download"]}
        self.keys: dict[str, dict[str, ArtifactKey]] = {
            info.name: plan(self.settings_of[info.name], LAYER_STAGES, known) for info in self.layers
        }
        self.seconds: dict[str, float] = {}
        self._outer: Store | None = None

    def run(self) -> NetworkResult:
        """Run all stages for all layers."""
        found: dict[str, LayerResult] = {}
        with self._shared_store() as store, freed_memory_kept():
            self.obtain_images(store)
            passes, network_plan = self.plan(store)
            if network_plan.n_stored < len(network_plan.layers):
                engine.prepare(self.settings, self._note)
            for observer in self._observers:
                observer.planned(network_plan)
            for each in passes:
                found |= self.run_pass(each)
        self._require_layers()
        names = [info.name for info in self.layers if info.name in found]
        return NetworkResult(
            settings=self.settings,
            run_dir=self.run_dir,
            ranking=self.tables(found),
            folders={name: layer_folder(self.run_dir, name) for name in names},
            settings_of={name: self.settings_of[name] for name in names},
            keys={name: self.keys[name] for name in names},
            plan=network_plan,
            seconds=self.seconds,
        )

    def tables(self, found: Mapping[str, LayerResult]) -> NetworkRanking:
        """Return the ranking of the network from the results of its layers."""
        return network_ranking(
            [found[info.name] for info in self.layers if info.name in found],
            self.not_ranked,
            layer=self.settings.layer,
            model=self.settings.model.label,
            target=self.settings.target_label,
        )

    def result_of(self, layer: str, store: Store) -> LayerResult:
        """Return what the network's ranking takes from a layer whose ranking is in the store or can be computed."""
        execution = Execution(self.settings_of[layer], store, keys=self.keys[layer])
        for name in ("reduce", "rank", "associate"):
            execution.obtain(next(stage for stage in LAYER_STAGES if stage.name == name))
        made, info = execution.artifacts, next(each for each in self.layers if each.name == layer)
        return LayerResult.of(info, made[Ranking], made[Probe], made[Projections])

    def plan(self, store: Store) -> tuple[list[Pass], NetworkPlan]:
        """Return the passes over the images, and what they will take; see `passes`."""
        passes, network_plan = self.passes(store)
        n_passes = network_plan.n_passes
        seconds = self._seconds_of_pass(store) * n_passes if n_passes else 0.0
        return passes, replace(network_plan, seconds=seconds + network_plan.seconds)

    def passes(self, store: Store, network: nn.Module | None = None) -> tuple[list[Pass], NetworkPlan]:
        """Return the passes over the images, and the plan, whose time is that of the stages after the passes.

        Layers whose maps do not fit into the disk budget are left out, with the reason.

        Parameters
        ----------
        store : Store
            The store.
        network : Module, optional
            The network, whose weights do not matter; that of the settings by default.
        """
        complete: list[LayerInfo] = []
        ready: list[LayerInfo] = []
        missing: list[LayerInfo] = []
        not_kept = [info for info in self.layers if not self._keeps_maps(store, info.name)]
        for info in self.layers:
            if not self._needs_maps(store, info.name):
                complete.append(info)
            elif store.has(self.keys[info.name]["activate"]):
                ready.append(info)
            else:
                missing.append(info)
        budget = disk_budget(self.settings, store.root)
        for info in [each for each in missing if map_bytes(each, self.settings) > budget.n_bytes]:
            missing.remove(info)
            needed = gib(map_bytes(info, self.settings))
            self._fail(info.name, f"its maps take {needed}, more than {budget.reason}. {budget.advice}")
        self._require_layers()
        groups = compatible(network or self._request.open().network, missing) if missing else [missing]
        # Also of layers that are finished, so that the run after one that was killed removes as many as that one.
        n_bytes = sum(map_bytes(info, self.settings) for info in not_kept if info.name not in self.not_ranked)
        is_temporary = n_bytes > budget.n_bytes
        passes = passes_for([*complete, *ready], groups, self.settings, budget.n_bytes, is_temporary=is_temporary)
        self.layers = [info for info in self.layers if info.name not in self.not_ranked]
        capturing = [each for each in passes if each.is_captured]
        unfinished = [info for info in self.layers if info not in complete]
        return passes, NetworkPlan(
            layers=tuple(info.name for info in self.layers),
            n_channels=sum(info.maps[0] for info in self.layers),
            n_bytes=sum(map_bytes(info, self.settings) for info in missing),
            n_passes=len(capturing),
            n_stored=len(complete),
            seconds=seconds_of_layers([self.settings_of[info.name] for info in unfinished], unfinished),
        )

    def obtain(self, stage: Stage[Any, Any], store: Store) -> dict[str, Path]:
        """Obtain the artifact of one stage for every layer, for DVC, which runs one stage at a time.

        Returns
        -------
        dict of str to Path
            The folder of the artifact by the name of the layer. Layers that fail are recorded.

        Raises
        ------
        SettingsError
            If maps have to be computed that do not fit into the disk budget, since DVC keeps those of all layers.
        """
        self.obtain_images(store)
        if stage is _ACTIVATE:
            self._obtain_maps(store)
        shared = self._attribute(store, self.layers) if stage is _SCORE else {}
        folders: dict[str, Path] = {}
        for info in [each for each in self.layers if each.name not in self.not_ranked]:
            try:
                # A store for each layer, because each artifact in use takes file descriptors.
                with self._store() as own, using(shared.pop(info.name, None)):
                    execution = Execution(self.settings_of[info.name], own, keys=self.keys[info.name])
                    execution.obtain(stage)
            except (EngineError, StorageError, MemoryExceededError):
                raise
            except PipelineError as error:
                self._fail(info.name, error)
            else:
                folders[info.name] = execution.artifacts.folders[stage.artifact]
        self._require_layers()
        return folders

    def _obtain_maps(self, store: Store) -> None:
        """Compute the maps of all layers that are not in the store."""
        missing = [info for info in self.layers if not store.has(self.keys[info.name]["activate"])]
        n_bytes = sum(map_bytes(info, self.settings) for info in missing)
        budget = disk_budget(self.settings, store.root)
        if n_bytes > budget.n_bytes:
            raise SettingsError(
                f"network.disk_gib must be at least {1.05 * n_bytes / GIB:.2g} for DVC, which keeps the maps of all "
                f"layers; got {budget.reason}. Raise it, choose fewer layers, or run `pcace run`."
            )
        for group in compatible(self._request.open().network, missing) if missing else ():
            self._capture(store, group)

    def run_pass(self, each: Pass) -> dict[str, LayerResult]:
        """Compute the maps of the layers of one pass, and run the other stages for each of them."""
        found: dict[str, LayerResult] = {}
        with self._shared_store() as store:
            if each.is_captured:
                self._capture(store, each.layers, is_temporary=each.is_temporary)
            shared = self._attribute(store, each.layers)
            layers = [info for info in each.layers if info.name not in self.not_ranked]
            computed = [info.name for info in layers if self._needs_maps(store, info.name)]
            with layers_ahead(self.settings, computed, self._stages, self._executed) as ahead:
                for info in layers:
                    try:
                        with using(shared.pop(info.name, None)), ahead.stages_of(info.name):
                            found[info.name] = self._layer(info, ahead)
                    except (EngineError, StorageError, MemoryExceededError):
                        raise
                    except PipelineError as error:
                        self._fail(info.name, error)
        for info in each.layers:
            discard_temporary(store, self.keys[info.name]["activate"])
        return found

    def obtain_images(self, store: Store) -> None:
        """Download the images, which are the same for all layers."""
        name = self.layers[0].name
        report = Execution(self.settings_of[name], store, self._observers, self.keys[name]).obtain(LAYER_STAGES[0])
        self._count(report.stage.name, report.seconds)

    def _capture(self, store: Store, layers: Sequence[LayerInfo], *, is_temporary: bool = False) -> None:
        """Write the maps of some layers into the store, from one pass over the images."""
        by_key = {str(self.keys[info.name]["activate"]): info for info in layers}
        callbacks = [call for observer in self._observers if (call := observer.stage_started(_ACTIVATE)) is not None]
        start = time.perf_counter()

        def fill(folders: Mapping[str, Path]) -> list[str]:
            found = self._maps(store, {by_key[key].name: folder for key, folder in folders.items()}, fan_out(callbacks))
            filled = []
            for key, folder in folders.items():
                made = found[by_key[key].name]
                if isinstance(made, NetworkError):
                    self._fail(by_key[key].name, made)
                    continue
                check_class_score(made.class_score, class_label(self._request))
                made.save(folder)
                filled.append(key)
            return filled

        keys = [self.keys[info.name]["activate"] for info in layers]
        store.obtain_all(keys, fill, is_temporary=is_temporary)
        seconds = time.perf_counter() - start
        self._count("activate", seconds)
        n_bytes = sum(map_bytes(info, self.settings) for info in layers)
        for observer in self._observers:
            observer.pass_finished(len(layers), n_bytes, seconds)

    def _maps(
        self, store: Store, folders: Mapping[str, Path], progress: Progress
    ) -> Mapping[str, Activations | NetworkError]:
        """Return the activations of some layers, given the folders that they will be saved into."""
        layers = [info for info in self.layers if info.name in folders]
        if self.settings.engine.kind != "local":
            settings = self.settings_of[_with_heads(layers).name]
            return engine.maps_of_layers(settings, list(folders), self._images(store), folders, progress, self._note)
        workspaces = {layer: Workspace(folder) for layer, folder in folders.items()}
        return activations_of_layers(
            self._open(layers), layers, self._inputs(store), self.settings.model.batch_size, workspaces, progress,
            dtype=self.settings.activate.dtype,
        )  # fmt: skip

    def _attribute(self, store: Store, layers: Sequence[LayerInfo]) -> dict[str, Found]:
        """Return the contributions of the channels of layers without scores, if the ranker computes them together."""
        missing = [
            info for info in layers if info.name not in self.not_ranked and not store.has(self.keys[info.name]["score"])
        ]
        attribution = RANKERS[self.settings.score.kind].attribution
        if attribution is None or len(missing) < 2 or self.settings.engine.kind != "local":
            return {}
        callbacks = [call for observer in self._observers if (call := observer.stage_started(_SCORE)) is not None]
        start = time.perf_counter()
        found = contributions_of_layers(
            attribution, self.settings.score, self._open(missing), missing, self._inputs(store),
            self.settings.model.batch_size, fan_out(callbacks),
        )  # fmt: skip
        seconds = time.perf_counter() - start
        self._count("score", seconds)
        for observer in self._observers:
            observer.attributed(len(found), seconds)
        return found

    def _executed(self, layer: str, observer: Observer) -> tuple[Store, Execution]:
        """Return an execution of the stages of a layer with an observer, and its store."""
        store = self._store()
        return store, Execution(self.settings_of[layer], store, [observer], self.keys[layer])

    def _layer(self, info: LayerInfo, ahead: LayersAhead) -> LayerResult:
        """Run the stages of one layer, fill its folder, and return what the network's ranking takes from it."""
        settings, keys = self.settings_of[info.name], self.keys[info.name]
        for observer in self._observers:
            observer.layer_started(settings)
        with self._store() as store:
            execution = Execution(settings, store, self._observers, keys)
            needs_maps = self._needs_maps(store, info.name)
            stages = [stage for stage in self._stages if needs_maps or stage is not _ACTIVATE]
            reports = tuple(ahead.obtain(stage, execution) for stage in stages)
            for report in reports:
                self._count(report.stage.name, report.seconds)
            made = execution.artifacts
            if Figures in made:
                result = RunResult(settings, layer_folder(self.run_dir, info.name), made, reports)
                with storage_errors("the layer's results", result.run_dir):
                    publish(result)
                for observer in self._observers:
                    observer.layer_finished(result)
            return LayerResult.of(info, made[Ranking], made[Probe], made[Projections])

    def _needs_maps(self, store: Store, layer: str) -> bool:
        """Return whether a stage that reads the maps of a layer has to be run."""
        reading = [stage.name for stage in self._stages if Activations in stage.upstream.values()]
        return not all(store.has(self.keys[layer][name]) for name in reading)

    def _keeps_maps(self, store: Store, layer: str) -> bool:
        """Return whether the maps of a layer are in the store, from a run that does not remove them."""
        key = self.keys[layer]["activate"]
        return store.has(key) and not store.is_temporary(key)

    def _seconds_of_pass(self, store: Store) -> float:
        """Return the estimated time of one pass over the images, measured on a few of them."""
        return seconds_per_image(self._request.open().network, self._inputs(store)) * self.settings.n_images

    def _inputs(self, store: Store) -> Inputs:
        return self._request.inputs(ImageSet.load(self._images(store)))

    def _images(self, store: Store) -> Path:
        folder = store.find(self.keys[self.layers[0].name]["download"])
        assert folder is not None  # the images were obtained first
        return folder

    def _note(self, text: str) -> None:
        for observer in self._observers:
            observer.noted(text)

    def _open(self, layers: Sequence[LayerInfo]) -> ExaminedNetwork:
        """Return the network with all of some layers, which may be the heads of attention layers."""
        return NetworkRequest.of(self.settings_of[_with_heads(layers).name]).open()

    @property
    def _request(self) -> NetworkRequest:
        """The network, with the first layer; the layer is not used."""
        return NetworkRequest.of(self.settings_of[self.layers[0].name])

    def _store(self) -> Store:
        return store_of(self.settings, self._observers) if self._outer is None else self._outer.inner()

    @contextmanager
    def _shared_store(self) -> Iterator[Store]:
        """Open a store, of which the stores of the layers inside of the context are inner stores."""
        with self._store() as store:
            before, self._outer = self._outer, store
            try:
                yield store
            finally:
                self._outer = before

    def _count(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def _fail(self, layer: str, error: PipelineError | str) -> None:
        """Record why a layer cannot be ranked."""
        self.not_ranked[layer] = str(error)
        for observer in self._observers:
            observer.layer_failed(layer, str(error))

    def _require_layers(self) -> None:
        """Raise `InputError` if no layer is left."""
        left = [info for info in self.layers if info.name not in self.not_ranked]
        if not left:
            layer, reason = list(self.not_ranked.items())[-1]
            raise InputError(
                f"layer must select a layer that can be ranked; got {len(self.not_ranked)} that cannot, among them "
                f"{layer}: {reason}"
            )


def _with_heads(layers: Sequence[LayerInfo]) -> LayerInfo:
    """Return the layer with which a network is opened that has all of some layers: one of heads, if there is any."""
    return next((info for info in layers if isinstance(info.channels, Heads)), layers[0])


_ACTIVATE, _SCORE = LAYER_STAGES[1], LAYER_STAGES[3]
