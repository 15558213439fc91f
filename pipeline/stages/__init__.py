"""The stages of the pipeline: one module for each, named after a verb.

Each stage is a pure function from settings and artifacts to an artifact. Its module defines a frozen dataclass of the
settings that the stage reads, a function `select` that returns it, a function `run` that computes the artifact, and the
stage itself as ``STAGE``; see `pipeline.stages.stage`. The modules are imported when a stage is needed, because
importing them takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.stages.stage import Stage

ORDER = ("download", "activate", "reduce", "score", "rank", "ablate", "evaluate", "visualize")


def load_stages() -> tuple[Stage[Any, Any], ...]:
    """Return the stages in order."""
    return tuple(load_stage(name) for name in ORDER)


def load_stage(name: str) -> Stage[Any, Any]:
    """Return the stage of this name, which is one of `ORDER`."""
    found: Stage[Any, Any] = import_module(f"pipeline.stages.{name}").STAGE
    return found
