"""What a stage is: declared once, as a `Stage` at the end of its module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, Protocol, TypeVar, get_type_hints

from pipeline.artifacts import Artifact, Workspace
from pipeline.progress import Progress
from pipeline.settings import Settings


class Reads(Protocol):
    """What a stage reads of the settings."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the stage's result beside the artifacts that it builds on, in plain JSON types."""
        ...


ReadsT = TypeVar("ReadsT", bound=Reads)
ArtifactT = TypeVar("ArtifactT", bound=Artifact)
PROVIDED = {"workspace": Workspace, "progress": Progress}


@dataclass(frozen=True)
class Stage(Generic[ReadsT, ArtifactT]):
    """One step of the pipeline.

    Attributes
    ----------
    name : str
        A verb, which is also the name of the stage's module.
    version : int
        Raised whenever a change of the code changes the result: it is part of the artifact's key.
    counts : str
        What the stage's progress counts, e.g. ``channels``.
    artifact : type
        What the stage makes.
    select : callable
        From resolved settings to what the stage reads of them.
    run : callable
        ``run(reads, *, <arguments>)`` computes the artifact and saves nothing. It names as keyword arguments what it
        needs: artifacts (``images: ImageSet``), ``workspace: Workspace``, room for results that are large or files, and
        ``progress: Progress``, to be called with the units done and all units.
    upstream : mapping of str to type
        The artifacts that `run` builds on, by the names of its arguments; read from its signature.
    provided : frozenset of str
        Which of ``workspace`` and ``progress`` it takes.

    Raises
    ------
    TypeError
        If the signature of `run` asks for something that there is not. This happens when the module is imported.
    """

    name: str
    version: int
    counts: str
    artifact: type[ArtifactT]
    select: Callable[[Settings], ReadsT]
    run: Callable[Concatenate[ReadsT, ...], ArtifactT]
    upstream: Mapping[str, type[Artifact]] = field(init=False)
    provided: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Bind the arguments of `run` to artifacts."""
        hints, (_, *arguments) = get_type_hints(self.run), inspect.signature(self.run).parameters.values()
        upstream: dict[str, type[Artifact]] = {}
        for argument in arguments:
            wanted = hints[argument.name]
            is_artifact = isinstance(wanted, type) and issubclass(wanted, Artifact) and wanted.name == argument.name
            if argument.kind is not argument.KEYWORD_ONLY or not (is_artifact or PROVIDED.get(argument.name) == wanted):
                raise TypeError(
                    f"every argument of the stage {self.name} after the first must be keyword-only, and an artifact "
                    f"under its own name, workspace or progress; got {argument}."
                )
            if is_artifact:
                upstream[argument.name] = wanted
        if hints["return"] is not self.artifact:
            raise TypeError(f"the stage {self.name} must return {self.artifact.__name__}; got {hints['return']}.")
        object.__setattr__(self, "upstream", upstream)
        object.__setattr__(self, "provided", frozenset(argument.name for argument in arguments) & PROVIDED.keys())

    def compute(
        self, settings: Settings, upstream: Mapping[str, Artifact], workspace: Workspace, progress: Progress
    ) -> ArtifactT:
        """Return the artifact.

        Parameters
        ----------
        settings : Settings
            Resolved.
        upstream : mapping of str to Artifact
            The artifacts that the stage builds on, by name.
        workspace : Workspace
            Where large results and files are put.
        progress : callable
            Called with the units done and all units.
        """
        provided = {"workspace": workspace, "progress": progress}
        given = {**upstream, **{name: provided[name] for name in self.provided}}
        return self.run(self.select(settings), **given)
