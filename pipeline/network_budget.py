"""How many passes over the images the maps of several layers need."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.networks.layout import LayerInfo
from pipeline.settings import Settings

GIB = 2**30
FREE_SHARE = 0.9  # of the free space of the disk that maps may take
MOST_LAYERS = 200  # in one pass: each takes a few file descriptors


@dataclass(frozen=True)
class Pass:
    """Layers that are ranked after one pass of the images through the network.

    Attributes
    ----------
    layers : tuple of LayerInfo
        The layers.
    is_captured : bool
        Whether their maps have to be computed; otherwise they are in the store, or are not needed.
    is_temporary : bool
        Whether their maps are removed afterwards, because those of all layers do not fit into the disk budget. Maps
        that another run has computed are not removed.
    """

    layers: tuple[LayerInfo, ...]
    is_captured: bool
    is_temporary: bool


@dataclass(frozen=True)
class DiskBudget:
    """The disk space that the maps may take at a time, in bytes, where the limit comes from, and how to raise it."""

    n_bytes: int
    reason: str
    advice: str


def disk_budget(settings: Settings, folder: Path) -> DiskBudget:
    """Return the disk space that maps may take: the setting `network.disk_gib`, or less if the disk has less.

    An engine that computes the maps in parts has the parts on the disk as well, until the maps are complete.
    """
    whole = _whole_budget(settings.network.disk_gib, folder)
    if settings.engine.kind == "local":
        return whole
    return DiskBudget(
        whole.n_bytes // 2, f"half of {whole.reason}, as engine={settings.engine.kind} needs them twice", whole.advice
    )


def _whole_budget(disk_gib: float, folder: Path) -> DiskBudget:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = int(FREE_SHARE * shutil.disk_usage(existing).free)
    if free < disk_gib * GIB:
        return DiskBudget(free, f"{gib(free)}, nine tenths of the free space of the disk", "Free some disk space.")
    return DiskBudget(int(disk_gib * GIB), f"network.disk_gib={disk_gib:g}", "Raise network.disk_gib.")


def map_bytes(layer: LayerInfo, settings: Settings) -> int:
    """Return the size of the maps of a layer."""
    return math.prod(layer.maps) * settings.n_images * np.dtype(settings.activate.dtype).itemsize


def gib(n_bytes: int) -> str:
    """Return a size in GiB as text, or in MiB if it is small."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes > GIB / 10 else f"{n_bytes / 2**20:.1f} MiB"


def passes_for(
    available: Sequence[LayerInfo],
    groups: Sequence[Sequence[LayerInfo]],
    settings: Settings,
    budget: int,
    *,
    is_temporary: bool,
) -> list[Pass]:
    """Return as few passes as the budget allows.

    Parameters
    ----------
    available : sequence of LayerInfo
        Layers whose maps are in the store or not needed.
    groups : sequence of sequences of LayerInfo
        Layers whose maps have to be computed, in groups that may share a pass. The maps of each fit into the budget.
    settings : Settings
        The settings, which determine the size of the maps.
    budget : int
        Largest size of all maps at a time, in bytes.
    is_temporary : bool
        Whether the maps are removed after their pass.
    """
    passes = [Pass(tuple(available), is_captured=False, is_temporary=False)] if available else []
    for group in groups:
        chosen: list[LayerInfo] = []
        for layer in group:
            size = sum(map_bytes(each, settings) for each in (*chosen, layer))
            if chosen and (size > budget or len(chosen) == MOST_LAYERS):
                passes.append(Pass(tuple(chosen), is_captured=True, is_temporary=is_temporary))
                chosen = []
            chosen.append(layer)
        if chosen:
            passes.append(Pass(tuple(chosen), is_captured=True, is_temporary=is_temporary))
    return passes
