"""Compute a stage by the engine in the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import Activations, Artifact, ImageSet, Workspace
from pipeline.engine.division import Division
from pipeline.engine.task import Executor
from pipeline.errors import NetworkError
from pipeline.progress import Progress
from pipeline.settings import RayEngine, Settings
from pipeline.stages.stage import Stage

Note = Callable[[str], None]
DIVIDED = ("activate", "reduce", "score", "ablate", "evaluate")


def prepare(settings: Settings, note: Note) -> None:
    """Connect to the workers, so that a cluster that cannot be reached is reported before anything is computed.

    Raises
    ------
    SettingsError
        If there is no such cluster, or Ray is not installed.
    """
    if isinstance(settings.engine, RayEngine):
        _executor(settings, settings.engine, note)


def compute(
    stage: Stage[Any, Any],
    settings: Settings,
    upstream: Mapping[str, Artifact],
    folders: Mapping[str, Path],
    temporary: Path,
    progress: Progress,
    note: Note,
) -> Artifact:
    """Return the artifact of a stage. It is not saved.

    Parameters
    ----------
    stage : Stage
        The stage.
    settings : Settings
        The resolved settings.
    upstream : mapping of str to Artifact
        The artifacts that the stage builds on, by name.
    folders : mapping of str to Path
        Their folders in the store.
    temporary : Path
        Folder that the artifact will be saved into.
    progress : callable
        Called with the number of units done and the number of all units.
    note : callable
        Called with a message of one line, for example if a worker is lost.

    Raises
    ------
    PipelineError
        If the stage cannot be computed.
    """
    engine, workspace = settings.engine, Workspace(temporary)
    if not isinstance(engine, RayEngine) or stage.name not in DIVIDED:
        made: Artifact = stage.compute(settings, upstream, workspace, progress)
        return made
    division = Division(stage.name, settings, engine, folders, temporary, _executor(settings, engine, note), progress)
    return compute_divided(division, stage.name, upstream, workspace, progress)


def compute_divided(
    division: Division, stage: str, upstream: Mapping[str, Any], workspace: Workspace, progress: Progress
) -> Artifact:
    """Return the artifact of one of the stages in `DIVIDED`, computed in parts."""
    match stage:
        case "activate":
            from pipeline.engine.maps import divided_activate

            return divided_activate(division, workspace, **upstream)
        case "reduce":
            from pipeline.engine.components import divided_reduce

            return divided_reduce(division, workspace, **upstream)
        case "score":
            from pipeline.engine.scores import divided_score

            return divided_score(division, workspace, **upstream, progress=progress)
        case "ablate":
            from pipeline.engine.effects import divided_ablate

            return divided_ablate(division, **upstream)
        case "evaluate":
            from pipeline.engine.effects import divided_evaluate

            needed = {name: upstream[name] for name in ("activations", "ablations", "ranking")}
            return divided_evaluate(division, **needed)
        case _:
            raise ValueError(f"stage must be one of {', '.join(DIVIDED)}; got {stage}.")


def maps_of_layers(
    settings: Settings,
    layers: Sequence[str],
    images: Path,
    temporaries: Mapping[str, Path],
    progress: Progress,
    note: Note,
) -> dict[str, Activations | NetworkError]:
    """Return the activations of several layers, computed in parts; the engine in the settings is not local.

    Parameters
    ----------
    settings : Settings
        The resolved settings; the layer in them is not used.
    layers : sequence of str
        The layers.
    images : Path
        Folder of the images in the store.
    temporaries : mapping of str to Path
        The folders that the activations will be saved into, by layer.
    progress, note
        As in `compute`.
    """
    from pipeline.engine.maps import divided_maps

    assert isinstance(settings.engine, RayEngine)
    division = Division(
        "activate", settings, settings.engine, {"images": images}, temporaries[layers[0]],
        _executor(settings, settings.engine, note), progress,
    )  # fmt: skip
    workspaces = {layer: Workspace(folder) for layer, folder in temporaries.items()}
    return divided_maps(division, layers, workspaces, ImageSet.load(images))


def _executor(settings: Settings, engine: RayEngine, note: Note) -> Executor:
    from pipeline.engine.cluster import connect

    return connect(settings, engine, note)
