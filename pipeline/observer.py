"""Observers of a run, which are informed about its course and do not change it, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipeline.artifacts import Artifact, Effects, Figures, NetworkRanking, Ranking
from pipeline.network_budget import gib
from pipeline.progress import about

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stages.stage import Stage
    from pipeline.store import ArtifactKey

ArtifactT = TypeVar("ArtifactT", bound=Artifact)


class Artifacts:
    """The artifacts of a run, by type: ``artifacts[Ranking]`` is the ranking.

    An artifact is loaded from its folder when it is first requested, and kept from then on. A run that finds all
    artifacts in the store therefore loads only those that its observers request.
    """

    def __init__(self) -> None:
        self._folders: dict[type[Artifact], Path] = {}
        self._loaded: dict[type[Artifact], Artifact] = {}

    @property
    def folders(self) -> Mapping[type[Artifact], Path]:
        """The folder of each artifact that is available, read-only."""
        return MappingProxyType(self._folders)

    def add(self, kind: type[Artifact], folder: Path) -> None:
        """Make the artifact in `folder` available, without loading it."""
        self._folders[kind] = folder

    def __contains__(self, kind: type[Artifact]) -> bool:
        """Return whether the artifact of this type is available."""
        return kind in self._folders

    def __getitem__(self, kind: type[ArtifactT]) -> ArtifactT:
        """Return the artifact of this type; raise `KeyError` if it is not available."""
        if kind not in self._loaded:
            self._loaded[kind] = kind.load(self._folders[kind])
        return cast(ArtifactT, self._loaded[kind])


@dataclass(frozen=True)
class StageReport:
    """How one stage went.

    Attributes
    ----------
    stage : Stage
        The stage.
    key : ArtifactKey
        Key of its artifact.
    is_cached : bool
        Whether the artifact was in the store; otherwise it was computed.
    seconds : float
        Wall-clock time in seconds.
    artifacts : Artifacts
        The artifacts of the run that are available so far, among them that of the stage.
    """

    stage: Stage[Any, Any]
    key: ArtifactKey
    is_cached: bool
    seconds: float
    artifacts: Artifacts

    @property
    def artifact(self) -> Artifact:
        """The artifact of the stage."""
        found: Artifact = self.artifacts[self.stage.artifact]
        return found


@dataclass(frozen=True)
class RunResult:
    """The results of a finished run.

    Attributes
    ----------
    settings : Settings
        The resolved settings.
    run_dir : Path
        Folder of the run.
    artifacts : Artifacts
        All artifacts of the run.
    reports : tuple of StageReport
        One report for each stage, in the order of the stages.
    """

    settings: Settings
    run_dir: Path
    artifacts: Artifacts
    reports: tuple[StageReport, ...]

    @property
    def ranking(self) -> Ranking:
        """The channels, best first."""
        return self.artifacts[Ranking]

    @property
    def effects(self) -> Effects:
        """The effects of ablation, and the faithfulness of the ranking."""
        return self.artifacts[Effects]

    @property
    def sentences(self) -> list[str]:
        """Sentences on the reliability, the significance and the faithfulness of the ranking; a warning comes first."""
        faithful = self.effects.faithfulness.sentence
        return [*self.ranking.sentences, *([faithful] if faithful else [])]

    @property
    def notes(self) -> list[str]:
        """Notes on what a reader may expect and was not computed or drawn."""
        return [*([self.effects.note] if self.effects.note else []), *self.artifacts[Figures].notes]


@dataclass(frozen=True)
class NetworkPlan:
    """What ranking the layers of a network will take.

    Attributes
    ----------
    layers : tuple of str
        The layers that are ranked, in the order of execution.
    n_channels : int
        Number of their channels.
    n_bytes : int
        Size of the activation maps that have to be computed.
    n_passes : int
        Number of passes of all images through the network; 0 if no maps have to be computed.
    n_stored : int
        Number of layers all of whose results are in the store.
    seconds : float
        Estimated time.
    """

    layers: tuple[str, ...]
    n_channels: int
    n_bytes: int
    n_passes: int
    n_stored: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The plan in one line."""
        head = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}, {self.n_channels:,} channels"
        if self.n_stored:
            head += f" ({self.n_stored} layers are in the store)"
        if not self.n_passes:
            return f"{head}; no forward pass is needed"
        passes = f"{self.n_passes} pass{'es' * (self.n_passes != 1)} over the images"
        return f"{head}; {gib(self.n_bytes)} of activation maps in {passes}; {about(self.seconds)}"


@dataclass(frozen=True)
class NetworkResult:
    """The results of a finished ranking of the layers of a network.

    Attributes
    ----------
    settings : Settings
        The resolved settings; `layer` selects the layers.
    run_dir : Path
        Folder of the run.
    ranking : NetworkRanking
        The channels of all layers, and the layers.
    folders : mapping of str to Path
        For each layer the folder with what the folder of a single run contains.
    settings_of : mapping of str to Settings
        For each layer the resolved settings of a run of this layer alone.
    keys : mapping of str to mapping of str to ArtifactKey
        For each layer the keys of its artifacts by the stage's name.
    plan : NetworkPlan
        What was planned.
    seconds : mapping of str to float
        Wall-clock time in seconds by the name of the stage, over all layers.
    """

    settings: Settings
    run_dir: Path
    ranking: NetworkRanking
    folders: Mapping[str, Path]
    settings_of: Mapping[str, Settings]
    keys: Mapping[str, Mapping[str, ArtifactKey]]
    plan: NetworkPlan
    seconds: Mapping[str, float]


class Observer:
    """Base class of observers.

    Its methods do nothing, so that a subclass overrides only those that it needs. They are called in this order:
    `started`, `resolved`, for every stage `stage_started` (if the stage is computed) and `stage_finished`, and then
    `finished` or `failed`; `noted` at any time after `started`. `failed` may follow any of them. After `restarted`, all
    stages and layers are reported again.

    If several layers are ranked, `planned` follows `resolved`, the stages are reported for each layer in turn,
    `layer_finished` is called at the end of each layer and `layer_failed` for one that cannot be ranked, and
    `network_finished` in the place of `finished`.
    """

    def started(self, settings: Settings) -> None:
        """Handle the start of a run.

        Parameters
        ----------
        settings : Settings
            The settings as they were given.
        """

    def resolved(self, settings: Settings) -> None:
        """Handle the resolved settings.

        Parameters
        ----------
        settings : Settings
            The settings with the class by name and by index, see `pipeline.resolve.resolve`.
        """

    def restarted(self, settings: Settings) -> None:
        """Handle that the stages start again with a smaller batch, because a batch did not fit into the memory.

        Parameters
        ----------
        settings : Settings
            The resolved settings with the smaller batch, which take the place of those given before.
        """

    def noted(self, text: str) -> None:
        """Handle a message of one line for the user, for example that a damaged artifact is computed again."""

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None] | None:
        """Handle the start of a stage whose artifact is not in the store.

        Returns
        -------
        callable or None
            A function that is called with the number of units that are done and the total number of units; None if the
            observer does not need the progress.
        """

    def stage_finished(self, report: StageReport) -> None:
        """Handle the end of a stage: its artifact is available, from the store or because it was computed."""

    def finished(self, result: RunResult) -> None:
        """Handle the end of a run without an error; the folder of the run has been filled."""

    def failed(self, error: BaseException) -> None:
        """Handle the end of a run with an error, which may be a `KeyboardInterrupt`."""

    def planned(self, plan: NetworkPlan) -> None:
        """Handle the plan of a ranking of several layers, before anything is computed for them."""

    def pass_finished(self, n_layers: int, n_bytes: int, seconds: float) -> None:
        """Handle the end of a pass of all images through the network, with the maps of so many layers and bytes."""

    def attributed(self, n_layers: int, seconds: float) -> None:
        """Handle that the contributions of the channels of so many layers have been computed together."""

    def layer_started(self, settings: Settings) -> None:
        """Handle the start of one of several layers; `settings` are those of a run of this layer alone."""

    def layer_finished(self, result: RunResult) -> None:
        """Handle the end of one of several layers.

        Parameters
        ----------
        result : RunResult
            As in `finished` for a run of this layer alone. Its folder has been filled, and its artifacts can be read
            only during this call.
        """

    def layer_failed(self, layer: str, reason: str) -> None:
        """Handle that one of several layers cannot be ranked."""

    def network_finished(self, result: NetworkResult) -> None:
        """Handle the end of a ranking of several layers; the folder of the run has been filled."""
