"""The stages: one verb a module, each a pure function from settings and artifacts to an artifact.

Every module defines a frozen dataclass of what the stage reads of the settings, a function that selects it, a function
that computes the artifact, and the stage itself as ``STAGE`` (see `pipeline.stages.stage`). The modules are imported
when the stages are needed, because that takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.stages.stage import Stage

ORDER = ("download", "activate", "reduce", "score", "rank", "ablate", "evaluate", "visualize")


def load_stages() -> "tuple[Stage[Any, Any], ...]":
    """Return the stages in order."""
    return tuple(load_stage(name) for name in ORDER)


def load_stage(name: str) -> "Stage[Any, Any]":
    """Return the stage of this name, one of `ORDER`."""
    found: Stage[Any, Any] = import_module(f"pipeline.stages.{name}").STAGE
    return found
