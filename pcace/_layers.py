"""`pcace.layers`: the layers of a network that can be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import torch

from pcace._forms import Transform
from pcace._images import N_EXAMPLES, collected
from pcace._network import Model, adapted, borrowed, device_of, unwrapped
from pcace._wording import worded_for_python
from pipeline.networks.layout_pass import layout


@worded_for_python()
def layers(
    model: Model,
    example: object,
    *,
    channels: Literal["auto", "first", "last"] = "auto",
    rankable_only: bool = True,
    transform: Transform | None = None,
) -> pd.DataFrame:
    """Return the layers of a network whose channels can be ranked, found in one forward pass.

    The network is left as it was found.

    Parameters
    ----------
    model : Module
        The network.
    example : tensor, list, DataLoader or tuple of int
        Images as for `pcace.rank`, of which the first two are used, or the shape of the network's input for one image,
        for example ``(3, 224, 224)``.
    channels : {"auto", "first", "last"}, default="auto"
        Axis of the channels: inferred, axis 1, or the last axis.
    rankable_only : bool, default=True
        Whether only the layers that can be ranked are listed. Otherwise the column ``rejection`` says what prevents a
        layer from being ranked; it is empty if nothing does.
    transform : callable, optional
        From one image to the network's input for it, as for `pcace.rank`.

    Returns
    -------
    DataFrame
        One row for each layer, in the order of the forward pass: its name, its type, the number of its channels, and
        the height and width of its maps.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 3))
    >>> pcace.layers(model, (1, 8, 8))
      layer     type  channels  height  width
    0     0   Conv2d         6       6      6
    1     1  Flatten       216       1      1
    2     2   Linear         3       1      1
    """
    network = unwrapped(model)
    with borrowed(network):
        device, keyword = device_of(network), None
        if _is_shape(example):
            images = torch.zeros((N_EXAMPLES, *example), device=device)  # type: ignore[misc]
        else:
            inputs = collected(
                example, network, transform=transform, n_images=N_EXAMPLES, progress=lambda done, total: None
            )
            images, keyword = inputs.on(device).read(slice(0, N_EXAMPLES)), inputs.keyword
            images = images if len(images) == N_EXAMPLES else images.repeat(N_EXAMPLES, *[1] * (images.ndim - 1))
        with adapted(network, keyword, _any_score):
            found = layout(network, images, channels)
    rows = []
    for layer in found.layers:
        n_channels, height, width = layer.maps if layer.rejection is None else (0, 0, 0)
        row = {
            "layer": layer.name, "type": layer.type, "channels": n_channels, "height": height, "width": width,
            "rejection": layer.rejection or "",
        }  # fmt: skip
        rows.append(row)
    table = pd.DataFrame(rows)
    if not rankable_only:
        return table
    return table[table.rejection == ""].drop(columns="rejection").reset_index(drop=True)


def _is_shape(example: object) -> bool:
    return isinstance(example, Sequence) and len(example) > 0 and _all_integers(example)


def _all_integers(values: Sequence[object]) -> bool:
    """Return whether all values are whole numbers."""
    return all(isinstance(value, int) for value in values)


def _any_score(outputs: Any) -> torch.Tensor:
    """Return a number for each image, whatever the outputs are: only the layers matter."""
    del outputs
    return torch.zeros(N_EXAMPLES)
