"""Settings of where the stages are computed. No result depends on them, so no key contains them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.settings.types import STRICT, NonNegative, Positive, Rule

ADDRESS = r"auto|(\[[0-9A-Fa-f:.]+\]|[^\s/:]+):\d+"
Address = Annotated[
    str,
    Rule(
        "be auto or have the form host:port",
        lambda text: re.fullmatch(ADDRESS, text) is not None,
        schema={"pattern": f"^({ADDRESS})$"},
    ),
]


@dataclass(frozen=True, config=STRICT)
class LocalEngine:
    """All stages are computed by one process on this machine."""

    kind: Literal["local"]
    """Where the stages are computed: by this process."""


@dataclass(frozen=True, config=STRICT)
class RayEngine:
    """Parts of the stages are computed by the workers of a Ray cluster, which share the disk of the store."""

    kind: Literal["ray"]
    """Where the stages are computed: by the workers of a Ray cluster."""
    address: Address | None
    """Address of the cluster: auto for the one that this machine belongs to, or host:port of the head node; null: Ray
    is started on this machine for the run.
    """
    images_per_task: Positive
    """Number of images that a task runs through the network, rounded to whole batches."""
    channels_per_task: Positive
    """Number of channels that a task reduces, scores or ablates, rounded up to a multiple of 16."""
    num_cpus: Positive
    """CPUs that Ray reserves for each task, and the number of its threads."""
    num_gpus: Annotated[float, Field(ge=0)] | None
    """GPUs that Ray reserves for each task that runs the network; null: 1 if the network runs on a GPU, otherwise 0."""
    retries: NonNegative
    """How many times a task is computed again if its worker or node is lost."""


EngineSettings = Annotated[LocalEngine | RayEngine, Field(discriminator="kind")]
