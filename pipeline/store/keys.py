"""Keys of artifacts.

Two artifacts are the same if they have the same stage, the same version of it, the same settings and inputs, and the
same upstream artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.digests import digest_bytes


@dataclass(frozen=True)
class ArtifactKey:
    """The identity of an artifact, known before the artifact is computed.

    Attributes
    ----------
    stage : str
        Name of the stage that computes the artifact.
    digest : str
        SHA-256 of `description`, 64 hexadecimal digits.
    description : mapping
        All that the digest is computed from, in plain JSON types.
    """

    stage: str
    digest: str
    description: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the folder of the artifact in the store, ``<stage>/<20 digits of the digest>``."""
        return f"{self.stage}/{self.digest[:20]}"


def artifact_key(
    stage: str, version: int, reads: Mapping[str, Any], upstream: Mapping[str, ArtifactKey]
) -> ArtifactKey:
    """Return the key of an artifact.

    Parameters
    ----------
    stage : str
        Name of the stage.
    version : int
        Version of the stage; it changes whenever the stage computes something else from the same inputs.
    reads : mapping
        Settings and digests of inputs that the result depends on, in plain JSON types. Names, times and paths of a run
        must not be among them, because they do not change the result.
    upstream : mapping of str to ArtifactKey
        Keys of the artifacts that the stage uses, by the name of their stage.

    Raises
    ------
    ValueError
        If `reads` contains NaN or an infinite number.
    """
    description = {
        "stage": stage,
        "version": version,
        "reads": reads,
        "upstream": {name: key.digest for name, key in upstream.items()},
    }
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return ArtifactKey(stage, digest_bytes(canonical.encode()), description)
