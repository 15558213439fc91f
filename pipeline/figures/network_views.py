"""What figures show of the network itself: predictions, class activation maps and activation maximisation.

It is computed from the network and a few images, and each part may fail without failing the others.
"""

from __future__ import annotations

from typing import Protocol, assert_never

import numpy as np
import torch

from pipeline.errors import listed
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.networks.attribution import ClassActivation
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.maximization import Maximized, maximize, step_operations
from pipeline.progress import Progress
from pipeline.settings import VisualizeSettings

N_COLOURED = 64  # number of images from which the colours of activation maximisation are estimated


class PicturedInputs(Protocol):
    """Images as inputs of a network, which can be converted from and to pixels in [0, 1]."""

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs as pixels, in the same shape."""
        ...

    def to_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels as inputs, in the same shape and on the same device, with gradients."""
        ...


def n_maximized(visualize: VisualizeSettings, examined: ExaminedNetwork, inputs: torch.Tensor, n_channels: int) -> int:
    """Return the number of channels for which inputs that maximise their activation are computed.

    Parameters
    ----------
    visualize : VisualizeSettings
        The settings.
    examined : ExaminedNetwork
        The network and the layer.
    inputs : tensor of shape (n_images, n_colours, height, width)
        Some inputs, on the network's device.
    n_channels : int
        Number of channels that are asked for.
    """
    match visualize.maximize:
        case "always":
            return n_channels
        case "never":
            return 0
        case "auto":
            allowed = visualize.maximize_tflop * 1e12
            return min(n_channels, int(allowed / (visualize.maximize_steps * step_operations(examined, inputs))))
        case _:
            assert_never(visualize.maximize)


def coloured(n_images: int) -> list[int]:
    """Return the indices of the images from which the colours of activation maximisation are estimated."""
    found: list[int] = np.unique(np.linspace(0, n_images - 1, min(n_images, N_COLOURED)).round().astype(int)).tolist()
    return found


def maximized(
    ranked: RankedLayer,
    examined: ExaminedNetwork,
    images: PicturedInputs,
    real: torch.Tensor,
    seed: int,
    progress: Progress,
    n_channels: int,
) -> Maximized:
    """Return the inputs found by activation maximisation.

    Parameters
    ----------
    ranked : RankedLayer
        The ranking, which selects the channels.
    examined : ExaminedNetwork
        The network and the layer.
    images : PicturedInputs
        From inputs to pixels, and back.
    real : tensor of shape (n_images, n_colours, height, width)
        The inputs for the images in `coloured`.
    seed : int
        Seed of the initial noise and of the random transformations.
    progress : callable
        Called after each step with the number of steps done and the number of all steps.
    n_channels : int
        Number of channels, see `n_maximized`: the first of those that are asked for.
    """
    channels = ranked.maximized_channels[:n_channels]
    return maximize(
        examined.network,
        examined.layer.name,
        channels,
        images.to_pixels(real).to(examined.device),
        ranked.means[channels],
        images.to_inputs,
        steps=ranked.visualize.maximize_steps,
        seed=seed,
        progress=progress,
        axis=examined.channels,
    )


def notes_on_views(
    ranked: RankedLayer,
    model: str,
    found: ClassActivation | None,
    *,
    n_maximized: int | None,
    no_class: str = "a regression network has no classes",
) -> tuple[str, ...]:
    """Return a note for each figure that does not apply, or that is replaced by another one.

    Parameters
    ----------
    ranked : RankedLayer
        The ranking.
    model : str
        Name of the network.
    found : ClassActivation or None
        The class activation maps; None if there are none.
    n_maximized : int or None
        Number of channels for which activation maximisation is computed; None if it does not apply.
    no_class : str
        Why there are no classes where the ranking is not for a class.
    """
    notes = []
    if ranked.target_class is None:
        notes.append(f"no predictions and no class activation maps: {no_class}")
    elif found is not None and found.method != "CAM":
        if found.method:
            instead = "Grad-CAM is drawn instead"
        elif found.failure:
            instead = f"Grad-CAM could not be computed ({found.failure})"
        else:
            instead = "Grad-CAM is not drawn, because its maps have one pixel"
        head = f"{model} does not end in global average pooling and one linear layer"
        notes.append(f"no CAM: {head}; {instead}")
    if not ranked.has_places:
        notes.append(
            f"no overlays: the maps of {ranked.layer} have no height or no width, so their pixels do not correspond to "
            "positions in an image"
        )
    n_asked = len(ranked.maximized_channels)
    if ranked.visualize.maximize == "auto" and n_maximized is not None and n_maximized < n_asked:
        budget = f"visualize.maximize_tflop={ranked.visualize.maximize_tflop:g}"
        advice = "visualize.maximize=always computes all, which may take minutes"
        if n_maximized:
            notes.append(f"activation maximisation of {n_maximized} of {n_asked} channels ({budget}); {advice}")
        else:
            notes.append(f"no activation maximisation: {budget} does not allow it for one channel; {advice}")
    return tuple(notes)


def notes_on_channels(channels: list[int], found: Maximized | None) -> list[str]:
    """Return a note for the channels without an input found by activation maximisation."""
    names = [] if found is None else [str(channel) for channel in channels if channel not in found.channels]
    reason = "the gradient of their activation is 0 in every step"
    return [f"no activation maximisation of channels {listed(names)}: {reason}"] if names else []
