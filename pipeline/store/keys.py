"""What makes two artifacts the same: the stage, its version, what it reads, and the artifacts it builds on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.digests import digest_bytes


@dataclass(frozen=True)
class ArtifactKey:
    """The identity of one artifact, before it is computed.

    Attributes
    ----------
    stage : str
        Name of the stage that makes it.
    digest : str
        SHA-256 of `description`, 64 hexadecimal digits.
    description : mapping
        Everything the digest was taken over, in plain JSON types.
    """

    stage: str
    digest: str
    description: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the name of the artifact's folder, ``<stage>/<20 digits>``: as unique as it is typable."""
        return f"{self.stage}/{self.digest[:20]}"


def artifact_key(
    stage: str, version: int, reads: Mapping[str, Any], upstream: Mapping[str, ArtifactKey]
) -> ArtifactKey:
    """Return the key of what `stage` makes from `reads` (settings, digests of inputs) and its `upstream` artifacts.

    A run's name, its time and the machine's paths have no place in `reads`: they do not change what is computed.
    """
    description = {
        "stage": stage,
        "version": version,
        "reads": reads,
        "upstream": {name: key.digest for name, key in upstream.items()},
    }
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return ArtifactKey(stage, digest_bytes(canonical.encode()), description)
