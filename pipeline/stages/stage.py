"""The definition of a stage: each module of `pipeline.stages` declares its stage once, as a `Stage`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, Protocol, TypeVar, get_type_hints

from pipeline.allocator import freed_memory_kept
from pipeline.artifacts import Artifact, Workspace
from pipeline.progress import Progress
from pipeline.settings import Settings


class Reads(Protocol):
    """The settings that a stage reads."""

    def identity(self) -> dict[str, Any]:
        """Return what determines the stage's result, apart from the upstream artifacts, in plain JSON types."""
        ...


ReadsT = TypeVar("ReadsT", bound=Reads)
ArtifactT = TypeVar("ArtifactT", bound=Artifact)

# Arguments of `Stage.run` that are not artifacts.
PROVIDED = {"workspace": Workspace, "progress": Progress}


@dataclass(frozen=True)
class Stage(Generic[ReadsT, ArtifactT]):
    """One step of the pipeline.

    Attributes
    ----------
    name : str
        A verb. It is also the name of the stage's module.
    version : int
        Part of the artifact's key. It must be raised when a change of the code changes the result.
    counts : str
        Unit in which the stage reports its progress, e.g. ``channels``.
    artifact : type
        Class of the artifact that the stage computes.
    select : callable
        From resolved settings to the settings that the stage reads.
    run : callable
        ``run(reads, *, <arguments>)`` computes the artifact and does not save it. Its keyword-only arguments are the
        artifacts that it needs (``images: ImageSet``), ``workspace: Workspace`` for results that are files or too large
        for memory, and ``progress: Progress``.
    upstream : mapping of str to type
        The artifacts that `run` needs, by the names of its arguments. They are read from its signature.
    provided : frozenset of str
        Which of ``workspace`` and ``progress`` it takes.

    Raises
    ------
    TypeError
        If the signature of `run` does not have this form, or does not agree with `select` and `artifact`. The error is
        raised when the stage's module is imported.
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
        arguments = list(inspect.signature(self.run).parameters.values())
        hints, selected = self._hints(self.run), self._hints(self.select).get("return")
        if not arguments or arguments[0].kind is not arguments[0].POSITIONAL_OR_KEYWORD:
            raise TypeError(f"run of the stage {self.name} must have a positional argument for its settings; got none.")
        reads, *arguments = arguments
        if hints.get(reads.name) is not selected:
            raise TypeError(
                f"the first argument of run of the stage {self.name} must have the type that select returns, "
                f"{_name(selected)}; got {_name(hints.get(reads.name))}."
            )
        upstream: dict[str, type[Artifact]] = {}
        for argument in arguments:
            hint = hints.get(argument.name)
            artifact = _artifact(argument.name, hint)
            is_provided = argument.name in PROVIDED and PROVIDED[argument.name] == hint
            if argument.kind is not argument.KEYWORD_ONLY or not (artifact or is_provided):
                raise TypeError(
                    f"all other arguments of run of the stage {self.name} must be keyword-only, and be artifacts under "
                    f"their own names, workspace: Workspace or progress: Progress; got {argument}."
                )
            if artifact:
                upstream[argument.name] = artifact
        if hints.get("return") is not self.artifact:
            raise TypeError(
                f"run of the stage {self.name} must return {self.artifact.__name__}; got {_name(hints.get('return'))}."
            )
        object.__setattr__(self, "upstream", upstream)
        object.__setattr__(self, "provided", frozenset(argument.name for argument in arguments) & PROVIDED.keys())

    def _hints(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the types in the annotations of a function."""
        try:
            return get_type_hints(function)
        except NameError as error:  # for example, if a type is imported only if TYPE_CHECKING
            raise TypeError(
                f"the annotations of the stage {self.name} must be defined when it is imported; got {error}."
            ) from error

    def compute(
        self, settings: Settings, upstream: Mapping[str, Artifact], workspace: Workspace, progress: Progress
    ) -> ArtifactT:
        """Return the artifact. It is not saved.

        Parameters
        ----------
        settings : Settings
            The settings of the run, resolved.
        upstream : mapping of str to Artifact
            The artifacts in `Stage.upstream`, by name.
        workspace : Workspace
            Storage of files and large results.
        progress : callable
            Called with the number of units done and the number of all units.
        """
        provided = {"workspace": workspace, "progress": progress}
        given = {**upstream, **{name: provided[name] for name in self.provided}}
        with freed_memory_kept():
            return self.run(self.select(settings), **given)


def _artifact(name: str, hint: Any) -> type[Artifact] | None:
    """Return the class of artifacts that an argument of this name and type takes, or None if it takes no artifact."""
    is_artifact = isinstance(hint, type) and issubclass(hint, Artifact) and getattr(hint, "name", None) == name
    return hint if is_artifact else None


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
