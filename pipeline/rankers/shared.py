"""Contributions of channels that are computed for several layers of a network in the same passes.

`contributions_of_layers` computes them before the layers are scored one after another. `using` gives those of one layer
to its ranker, which would compute the same numbers, to the byte, by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.errors import NetworkError
from pipeline.networks.backends import fixed_backends
from pipeline.networks.contributed import Contributed, ContributionsOfLayers
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.inputs import Inputs, batches, bounded_batch_size
from pipeline.networks.layout import LayerInfo
from pipeline.networks.observed import compatible
from pipeline.progress import Progress
from pipeline.rankers.ranker import Attribution
from pipeline.settings import ScoreSettings

# Largest error of completeness, as a share of the change of the class score, and what to do where it is larger.
# DeepLIFT is exact, so that a larger error means that a rule is missing; that of the others decreases with more steps.
MAX_ERRORS = {
    "deeplift": (0.01, "Choose another ranker, for example score=integrated_gradients."),
    "conductance": (0.2, "Raise score.n_steps."),
    "integrated_gradients": (0.2, "Raise score.n_steps."),
}

# Largest number of values of the layers' outputs for a batch, 256 MiB in float32: conductance keeps four copies.
MOST_VALUES = 2**26
# Largest number of contributions of channels to images that are computed in the same passes, 1 GiB in float64. Those of
# all layers are kept in memory until the layers are scored.
MOST_CONTRIBUTIONS = 2**27


@dataclass(frozen=True)
class Attributed:
    """The contributions of the channels of a layer to the class scores of all images.

    Attributes
    ----------
    contributions : ndarray of shape (n_channels, n_images)
        The contributions.
    completeness_error : float or None
        See `pipeline.rankers.ranker.Scorer`.
    """

    contributions: FloatArray
    completeness_error: float | None


Found = Attributed | NetworkError
"""The contributions for a layer, or why it has none."""

_in_use: ContextVar[Found | None] = ContextVar("in_use", default=None)


@contextmanager
def using(found: Found | None) -> Iterator[None]:
    """Inside the context, the ranker of a layer uses these contributions; None: it computes them."""
    token = _in_use.set(found)
    try:
        yield
    finally:
        _in_use.reset(token)


def in_use() -> Found | None:
    """Return the contributions that the ranker uses, see `using`."""
    return _in_use.get()


@fixed_backends()
def contributions_of_layers(
    attribution: Attribution,
    settings: ScoreSettings,
    examined: ExaminedNetwork,
    layers: Sequence[LayerInfo],
    images: Inputs,
    batch_size: int,
    progress: Progress,
) -> dict[str, Found]:
    """Return the contributions for several layers, in as few passes over the images as their sizes allow.

    Layers share a pass if their batches have the same size, since other kernels compute batches of other sizes, with
    other last digits (see `batch_slices`), and if they are `compatible`. If a pass fails, its layers are divided in two
    halves, and so on. A layer that fails on its own is left out: its ranker computes it again, and reports the error.

    Parameters
    ----------
    attribution : callable
        See `Ranker.attribution`.
    settings : ScoreSettings
        Settings of the ranker.
    examined : ExaminedNetwork
        The network and the score; its layer is not used.
    layers : sequence of LayerInfo
        The layers.
    images : Inputs
        The images.
    batch_size : int
        Largest number of images in a batch.
    progress : callable
        Called with the number of channels that are done and the number of all channels.

    Returns
    -------
    dict of str to Attributed or NetworkError
        By the name of the layer.
    """
    found: dict[str, Found] = {}
    n_channels, n_before = sum(each.maps[0] for each in layers), 0
    for size, group in _groups(examined, layers, len(images), batch_size):
        n_of_group = sum(each.maps[0] for each in group)

        def advance(done: int, total: int, before: int = n_before, of_group: int = n_of_group) -> None:
            progress(before + of_group * done // total, n_channels)

        n_before += n_of_group
        found |= _of_group(
            attribution, settings, [replace(examined, layer=each) for each in group], images, size, advance
        )
    return found


def _groups(
    examined: ExaminedNetwork, layers: Sequence[LayerInfo], n_images: int, batch_size: int
) -> list[tuple[int, list[LayerInfo]]]:
    """Return the layers in groups that share a pass, each with its batch size; a group of one layer may be larger."""
    by_size: dict[int, list[LayerInfo]] = {}
    for layer in layers:
        by_size.setdefault(bounded_batch_size(batch_size, prod(layer.maps)), []).append(layer)
    found = []
    for size, of_size in by_size.items():
        for group in compatible(examined.network, of_size):
            chosen: list[LayerInfo] = []
            for layer in group:
                n_values = sum(prod(each.maps) for each in (*chosen, layer)) * size
                n_contributions = sum(each.maps[0] for each in (*chosen, layer)) * n_images
                if chosen and (n_values > MOST_VALUES or n_contributions > MOST_CONTRIBUTIONS):
                    found.append((size, chosen))
                    chosen = []
                chosen.append(layer)
            found.append((size, chosen))
    return found


def _of_group(
    attribution: Attribution, settings: ScoreSettings, group: Sequence[ExaminedNetwork], images: Inputs, size: int,
    progress: Progress,
) -> dict[str, Found]:  # fmt: skip
    """Return the contributions for the layers of a group; without those of layers that fail."""
    try:
        found = attributed(attribution(group, settings), len(group), settings.kind, images, size, progress)
    except (NetworkError, RuntimeError):  # RuntimeError: of autograd, or memory that cannot be allocated
        if len(group) == 1:
            return {}
        middle = len(group) // 2
        return {
            name: each
            for half in (group[:middle], group[middle:])
            for name, each in _of_group(attribution, settings, half, images, size, progress).items()
        }
    return {each.layer.name: one for each, one in zip(group, found, strict=True)}


def attributed(
    contributions: ContributionsOfLayers, n_layers: int, kind: str, images: Inputs, batch_size: int, progress: Progress
) -> list[Found]:
    """Return the contributions of the channels of several layers for all images.

    Contributions of a complete method are compared with the change of the class score after each batch.

    Parameters
    ----------
    contributions : callable
        From a batch of inputs to the contributions for each layer.
    n_layers : int
        Number of layers.
    kind : str
        Name of the ranker.
    images : Inputs
        The images.
    batch_size : int
        Largest number of images in a batch.
    progress : callable
        Called with the number of images done and the number of all images.
    """
    parts: list[list[Contributed]] = [[] for _ in range(n_layers)]
    errors: list[NetworkError | float | None] = [None] * n_layers
    for batch, inputs in batches(images, batch_size):
        for index, one in enumerate(contributions(inputs)):
            parts[index].append(one)
            if not isinstance(errors[index], NetworkError):
                errors[index] = _completeness_error(parts[index], kind)
        if all(isinstance(error, NetworkError) for error in errors):
            break
        progress(batch.stop, len(images))
    return [
        error if isinstance(error, NetworkError) else Attributed(_joined(one), error)
        for one, error in zip(parts, errors, strict=True)
    ]


def _joined(parts: Sequence[Contributed]) -> FloatArray:
    joined: FloatArray = np.concatenate([each.channels.numpy() for each in parts]).T
    return joined


def _completeness_error(found: Sequence[Contributed], kind: str) -> NetworkError | float | None:
    """Return the error of completeness of all batches so far, see `Scorer`; a `NetworkError` if it is too large."""
    sums = [each.sums for each in found if each.sums is not None]
    if not sums:
        return None
    apart, change = (sum(float(each.sum()) for each in parts) for parts in (
        [each.error for each in sums], [each.change.abs() for each in sums],
    ))  # fmt: skip
    error = apart / change if apart else 0.0
    limit, remedy = MAX_ERRORS[kind]
    if not error <= limit:
        return NetworkError(
            f"contributions must sum to the change of the class score within {limit:.0%} for score={kind}; got a "
            f"difference of {error:.3g} times that change. {remedy}"
        )
    return error
