"""Observers of a run: they are told how it goes, and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipeline.artifacts import Artifact, Effects, Figures, Ranking

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stages.stage import Stage
    from pipeline.store import ArtifactKey

ArtifactT = TypeVar("ArtifactT", bound=Artifact)


class Artifacts:
    """The artifacts of a run, each loaded from its folder when it is first asked for: ``artifacts[Ranking]``.

    Parameters
    ----------
    folders : mapping of type to Path
        The folder of each artifact.
    """

    def __init__(self, folders: Mapping[type[Artifact], Path]) -> None:
        self.folders = folders
        self._loaded: dict[type[Artifact], Artifact] = {}

    def __getitem__(self, kind: type[ArtifactT]) -> ArtifactT:
        """Return the artifact of this type."""
        if kind not in self._loaded:
            self._loaded[kind] = kind.load(self.folders[kind])
        return cast(ArtifactT, self._loaded[kind])


@dataclass(frozen=True)
class StageReport:
    """How one stage went.

    Attributes
    ----------
    stage : Stage
        The stage.
    key : ArtifactKey
        The key of its artifact.
    is_cached : bool
        Whether the artifact came from the store.
    seconds : float
        Wall-clock time.
    artifacts : Artifacts
        Of the run so far.
    """

    stage: Stage[Any, Any]
    key: ArtifactKey
    is_cached: bool
    seconds: float
    artifacts: Artifacts

    @property
    def artifact(self) -> Artifact:
        """What the stage made."""
        made: Artifact = self.artifacts[self.stage.artifact]
        return made


@dataclass(frozen=True)
class RunResult:
    """What a finished run made.

    Attributes
    ----------
    settings : Settings
        Resolved.
    run_dir : Path
        The run's folder.
    artifacts : Artifacts
        By type, e.g. ``artifacts[Ranking]``.
    reports : tuple of StageReport
        In the order of the stages.
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
        """What a reader must know of the ranking, the most important first."""
        faithful = self.effects.faithfulness.sentence
        return [*self.ranking.sentences, *([faithful] if faithful else [])]

    @property
    def notes(self) -> list[str]:
        """What was not done although a reader may expect it."""
        return [*([self.effects.note] if self.effects.note else []), *self.artifacts[Figures].notes]


class Observer:
    """Base class of observers, whose methods do nothing: override those that matter."""

    def started(self, settings: Settings) -> None:
        """Take note that a run begins, with the settings as they were asked for."""

    def resolved(self, settings: Settings) -> None:
        """Take note of the resolved settings."""

    def noted(self, text: str) -> None:
        """Take note of something that a person would want to know, e.g. that a damaged artifact is computed again."""

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None] | None:
        """Take note that a stage is computed; return what is to be called with (done, total), or None."""

    def stage_finished(self, report: StageReport) -> None:
        """Take note that a stage's artifact is available."""

    def finished(self, result: RunResult) -> None:
        """Take note that the run has finished."""

    def failed(self, error: BaseException) -> None:
        """Take note that the run ends with an error."""
