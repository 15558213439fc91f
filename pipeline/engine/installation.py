"""What a worker must have in common with the command, so that it computes the same bytes."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pipeline
from pipeline.digests import digest_bytes, digest_file
from pipeline.environment import OPTIONAL_PACKAGES, PACKAGES
from pipeline.errors import EngineError, listed
from pipeline.nested import changes
from pipeline.settings import Settings
from pipeline.stages import load_stage

_checked: set[bytes] = set()  # what this process has compared already


@dataclass(frozen=True)
class Installation:
    """Code, packages and identities of the process that plans the tasks.

    Attributes
    ----------
    versions : mapping of str to str
        The result of `versions`.
    stage : str
        The stage that is divided.
    identity : mapping
        What the keys of the stage and of its network contain, from `identities`: the digests of the weights and of the
        code of the user, the device and the settings.
    """

    versions: Mapping[str, str]
    stage: str
    identity: Mapping[str, Any]

    @classmethod
    def of(cls, stage: str, settings: Settings, *, runs_network: bool) -> Installation:
        """Return what this process has."""
        return cls(versions(), stage, identities(stage, settings, runs_network=runs_network))

    def check(self, settings: Settings, *, runs_network: bool, host: str) -> None:
        """Raise `EngineError` if this process, on another machine, has something else.

        The comparison is made once for each process and settings: to identify a network, it must be built.
        """
        done = pickle.dumps((self.versions, self.stage, self.identity, settings))
        if done in _checked:
            return
        differing = _differences(self.versions, versions())
        if not differing:
            differing = _differences(self.identity, identities(self.stage, settings, runs_network=runs_network))
        if differing:
            raise EngineError(
                "all nodes must have the code, the packages, the weights and the device of the command; got "
                f"{listed(differing, 3)} (node {host}). Install the same versions on all nodes, and reserve a GPU with "
                "engine.num_gpus if the network runs on one."
            )
        _checked.add(done)


def identities(stage: str, settings: Settings, *, runs_network: bool) -> dict[str, Any]:
    """Return what the key of a stage contains, and if it runs the network, what that of `activate` contains."""
    names = dict.fromkeys([stage, *(["activate"] if runs_network else [])])
    return {name: load_stage(name).select(settings).identity() for name in names}


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages that can change a result, and a digest of the code of this package."""
    found = {}
    for name in (*PACKAGES, *OPTIONAL_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    root = Path(pipeline.__file__).parent
    files = sorted(root.rglob("*.py"))
    lines = [f"{path.relative_to(root).as_posix()} {digest_file(path)}\n" for path in files]
    return {"code of pcace": digest_bytes("".join(lines).encode())[:12], **found}


def _differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return one text for each value that is not the same on a node as in the command."""
    return [f"{name} {other} instead of {own}" for name, own, other in changes(here, there)]
