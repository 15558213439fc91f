"""The stages of the pipeline on a network and images in memory, for one layer or for several."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from pcace._images import N_EXAMPLES
from pcace._progress import ShowProgress
from pcace._settings import Subject, completed
from pcace._store import Kept
from pcace._target import FoundTarget
from pcace._temporary import TemporaryWorkspace
from pcace._wording import in_python
from pipeline.artifacts import Activations, Artifact, ImageSet, NetworkRanking, Probe, Projections, Ranking, Workspace
from pipeline.errors import InputError, MemoryExceededError, NetworkError, PipelineError
from pipeline.figures.ranked_layer import check_choice
from pipeline.network_tables import LayerResult, network_ranking
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.inputs import Inputs
from pipeline.networks.layout import LayerInfo, NetworkLayout
from pipeline.networks.memory import batch_note, smaller_batch
from pipeline.networks.observed import compatible
from pipeline.networks.selection import select_layers
from pipeline.networks.targets import check_target, score_of
from pipeline.numerics.pca import check_n_components
from pipeline.rankers import RANKERS
from pipeline.rankers.shared import Found, contributions_of_layers, using
from pipeline.settings import Settings
from pipeline.stages import load_stage
from pipeline.stages.activate import activations_of_layers, check_class_score

ResultT = TypeVar("ResultT")
STAGES = ("reduce", "score", "rank", "ablate", "evaluate")  # those after `activate` that write no files
WITH_NETWORK = ("score", "ablate", "evaluate")
KEPT = ("reduce", "score", "rank")  # those that may depend on nothing but the activations


@dataclass(frozen=True)
class LiveNetwork(NetworkRequest):
    """A network and images in memory, in the place of the settings from which the stages would open them.

    Attributes
    ----------
    examined : ExaminedNetwork
        The network.
    held : Inputs
        The images.
    opened : list of bool
        One entry for each time that a stage has asked for the network.
    """

    examined: ExaminedNetwork
    held: Inputs
    opened: list[bool]

    @property
    def is_opened(self) -> bool:
        """Whether a stage has asked for the network, so that its result depends on it."""
        return bool(self.opened)

    def open(self) -> ExaminedNetwork:
        """Return the network."""
        self.opened.append(True)
        return self.examined

    def inputs(self, images: ImageSet) -> Inputs:  # type: ignore[override] # any inputs, not only those from files
        """Return the images as inputs of the network."""
        del images
        return self.held


@dataclass(frozen=True)
class Computation:
    """What all layers of a ranking have in common.

    Attributes
    ----------
    values : mapping
        Result of `pcace._settings.checked_names`.
    subject : Subject
        The network and the images.
    network : Module
        The network.
    layers : NetworkLayout
        Its layers.
    held : Inputs
        The images.
    device : device
        Device of the network.
    images : ImageSet
        What is known of the images.
    target : FoundTarget
        The class score.
    is_adapted : bool
        Whether hooks change the network's input or its output, which DeepLIFT could not see.
    show : callable
        From the name of a step to the function that shows its progress.
    kept : Kept or None
        The store, if there is one.
    """

    values: Mapping[str, Any]
    subject: Subject
    network: nn.Module
    layers: NetworkLayout
    held: Inputs
    device: torch.device
    images: ImageSet
    target: FoundTarget
    is_adapted: bool
    show: ShowProgress
    kept: Kept | None

    def in_fitting_batches(self, compute: Callable[[Computation], ResultT]) -> ResultT:
        """Return the result of a function of the computation, with a batch size that fits into the memory.

        See `pipeline.runner.in_fitting_batches`, which does the same for settings.
        """
        tried = self
        while True:
            try:
                return compute(tried)
            except MemoryExceededError as error:
                model = tried.values["model"]
                size = smaller_batch(completed(tried.values, tried.subject).model.batch_size, len(self.held))
                if size is None:
                    raise
                warnings.warn(in_python(batch_note(error, size)), stacklevel=5)
                tried = replace(tried, values={**tried.values, "model": {**model, "batch_size": size}})

    def of_layer(self, layer: str) -> Made:
        """Return the settings and the artifacts of the ranking of one layer."""
        settings, live = self._prepared(layer)
        (activations,) = self._activations([live.examined.layer]).values()
        if isinstance(activations, NetworkError):
            raise activations
        return self._made(settings, live, activations)

    def of_layers(self, selection: str) -> tuple[dict[str, Made], NetworkRanking]:
        """Return the settings and the artifacts of the rankings of several layers, and the ranking of the network."""
        resolved = completed(self.values, self.subject)
        is_correlation = RANKERS[resolved.score.kind].statistics[0].is_correlation
        selected = select_layers(self.layers, selection, without_scaled=is_correlation)
        not_ranked = dict(selected.not_ranked)
        prepared: dict[str, tuple[Settings, LiveNetwork]] = {}
        for info in selected.layers:
            try:
                prepared[info.name] = self._prepared(info.name, len(selected.layers))
            except PipelineError as error:
                not_ranked[info.name] = in_python(str(error))
        made: dict[str, Made] = {}
        results = {}
        infos = [live.examined.layer for _, live in prepared.values()]
        maps = self._activations(infos) if infos else {}
        shared = self._shared([live for name, (_, live) in prepared.items() if isinstance(maps[name], Activations)])
        for name, activations in maps.items():
            try:
                if isinstance(activations, NetworkError):
                    raise activations
                settings, live = prepared[name]
                with using(shared.pop(name, None)):
                    found = self._made(settings, live, activations)
                artifacts = found.artifacts
                stage = load_stage("associate")
                given: Any = {each: artifacts[each] for each in stage.upstream}
                probe = stage.run(stage.select(settings), **given)
                results[name] = LayerResult.of(
                    live.examined.layer, *_typed(artifacts[Ranking.name], probe, artifacts[Projections.name])
                )
            except MemoryExceededError:
                raise
            except PipelineError as error:
                not_ranked[name] = in_python(str(error))
            else:
                made[name] = found
        if not made:
            layer, reason = list(not_ranked.items())[-1]
            raise InputError(
                f"layer must select a layer that can be ranked; got {len(not_ranked)} that cannot, among them "
                f"{layer}: {reason}"
            )
        order = [info.name for info in selected.layers if info.name in made]
        tables = network_ranking(
            [results[name] for name in order], not_ranked, layer=selection, model=self.subject.model,
            target=self.target.label,
        )  # fmt: skip
        return {name: made[name] for name in order}, tables

    def _prepared(self, layer: str, n_layers: int = 1) -> tuple[Settings, LiveNetwork]:
        """Return the settings of one layer and the network, checked as far as possible before anything is computed."""
        settings = completed(self.values, replace(self.subject, layer=layer)).of_layer(layer, n_layers)
        score = score_of(settings.target, settings.target_class)
        examined = ExaminedNetwork(self.network, self.layers.find(settings.layer), score, self.device)
        request = NetworkRequest.of(settings)
        live = LiveNetwork(
            **{each.name: getattr(request, each.name) for each in fields(request)},
            examined=examined, held=self.held, opened=[],
        )  # fmt: skip
        self._check(settings, live)
        return settings, live

    def _check(self, settings: Settings, live: LiveNetwork) -> None:
        layer = live.examined.layer
        if settings.score.kind == "deeplift" and self.is_adapted:
            raise NetworkError(
                "ranker must not be deeplift for a function of the outputs, or for images that are passed by name; got "
                "deeplift. Choose another ranker, for example conductance."
            )
        check_choice(settings.visualize, layer.name, layer.maps[0], list(map(str, range(len(live.held)))))
        RANKERS[settings.score.kind].check(live.examined.network, layer, live.held.read(slice(0, N_EXAMPLES)))
        if settings.target_class is not None:
            check_target(settings.target, self.layers.n_outputs)
        if settings.n_components != "auto":
            check_n_components(settings.n_components, settings.n_images, *layer.maps[1:])

    def _activations(self, layers: Sequence[LayerInfo]) -> dict[str, Activations | NetworkError]:
        """Return the maps of the layers, from as few passes over the images as possible."""
        found: dict[str, Activations | NetworkError] = {}
        settings = completed(self.values, replace(self.subject, layer=layers[0].name))
        score = score_of(settings.target, settings.target_class)
        for group in compatible(self.network, layers):
            examined = ExaminedNetwork(self.network, group[0], score, self.device)

            def compute(
                workspaces: Mapping[str, Workspace], group: Sequence[LayerInfo] = group, of: ExaminedNetwork = examined
            ) -> dict[str, Activations | NetworkError]:
                made = activations_of_layers(
                    of, group, self.held, settings.model.batch_size, workspaces, self.show("activate"),
                    dtype=settings.activate.dtype,
                )  # fmt: skip
                for each in made.values():
                    if isinstance(each, Activations):
                        check_class_score(each.class_score, self.target.label)
                return made

            names = [layer.name for layer in group]
            if self.kept is None:
                found |= compute({name: TemporaryWorkspace() for name in names})
            else:
                found |= self.kept.activations(load_stage("activate"), self.images, names, compute)
        return found

    def _shared(self, layers: Sequence[LiveNetwork]) -> dict[str, Found]:
        """Return the contributions of the channels of several layers, if the ranker computes them together."""
        settings = completed(self.values, self.subject)
        attribution = RANKERS[settings.score.kind].attribution
        if attribution is None or len(layers) < 2:
            return {}
        return contributions_of_layers(
            attribution, settings.score, layers[0].examined, [live.examined.layer for live in layers], self.held,
            settings.model.batch_size, self.show("score"),
        )  # fmt: skip

    def _made(self, settings: Settings, live: LiveNetwork, activations: Activations) -> Made:
        """Return the artifacts of all stages for one layer, by their names."""
        made: dict[str, Artifact] = {"images": self.images, Activations.name: activations}
        keys = None if self.kept is None else self.kept.of_layer(settings.layer)
        for name in STAGES:
            stage = load_stage(name)
            own = stage.select(settings)
            reads = replace(own, network=live) if name in WITH_NETWORK else own
            given: dict[str, Any] = {name: made[name] for name in stage.upstream}
            if "progress" in stage.provided:
                given["progress"] = self.show(name)
            if "workspace" in stage.provided:
                given["workspace"] = TemporaryWorkspace()
            compute = partial(stage.run, reads, **given)
            if keys is None or name not in KEPT:
                made[stage.artifact.name] = compute()
            else:
                made[stage.artifact.name] = keys.artifact(stage, own.identity(), compute, lambda: not live.is_opened)
        return Made(settings, live.examined, made)


@dataclass(frozen=True)
class Made:
    """The results of one layer: its settings, the network with this layer, and its artifacts by their names."""

    settings: Settings
    examined: ExaminedNetwork
    artifacts: dict[str, Artifact]


def _typed(ranking: Artifact, probe: Artifact, projections: Artifact) -> tuple[Ranking, Probe, Projections]:
    """Return the artifacts with the types that they have."""
    assert isinstance(ranking, Ranking)
    assert isinstance(probe, Probe)
    assert isinstance(projections, Projections)
    return ranking, probe, projections
