"""Time of the contributions of the channels of all layers: from shared passes, and layer by layer.

ResNet-18 with random weights, its 20 convolutions and 40 images of noise of 224 x 224 pixels, in this process, in turn.
The time is that of the processor, so that other programs do not matter. Conductance has two steps, since the ratio does
not depend on their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.timing import report
from pipeline.config import compose_settings, register_resolvers
from pipeline.networks.contributed import Contributed, ContributionsOfLayers
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.inputs import TensorInputs
from pipeline.networks.known import layout_of
from pipeline.networks.layout import LayerInfo
from pipeline.networks.selection import select_layers
from pipeline.rankers import RANKERS, shared
from pipeline.settings import Settings

N_IMAGES = 40
OVERRIDES = (
    "model=resnet18", "model.weights=random", "model.transform.kind=resize", "target_class=281",
    f"n_images={N_IMAGES}", "layer=${convolutions:}",
)  # fmt: skip
RANKED = {"gradient_x_activation": (), "conductance": ("score.n_steps=2",)}


def unchecked(attribution: Callable[..., ContributionsOfLayers]) -> Callable[..., ContributionsOfLayers]:
    """Return a method without its check of completeness, which would end early with so few steps."""

    def of_layers(layers: Sequence[ExaminedNetwork], settings: Any) -> ContributionsOfLayers:
        contributed = attribution(layers, settings)
        return lambda inputs: [Contributed(each.channels) for each in contributed(inputs)]

    return of_layers


def contributions(settings: Settings, layers: Sequence[LayerInfo], images: TensorInputs) -> dict[str, bytes]:
    """Return the contributions of the channels of some layers, as bytes."""
    attribution = RANKERS[settings.score.kind].attribution
    assert attribution is not None
    examined = NetworkRequest.of(replace(settings, layer=layers[0].name)).open()
    found = shared.contributions_of_layers(
        unchecked(attribution), settings.score, examined, layers, images, settings.model.batch_size, lambda *_: None
    )
    return {name: each.contributions.tobytes() for name, each in found.items() if isinstance(each, shared.Attributed)}


def main() -> None:
    """Measure both rankers, print the table and write it."""
    register_resolvers()
    drawn = np.random.default_rng(0).standard_normal((N_IMAGES, 3, 224, 224), dtype=np.float32)
    images, rows = TensorInputs([torch.from_numpy(drawn)]), []
    for kind, steps in RANKED.items():
        settings = compose_settings([f"score={kind}", *steps, *OVERRIDES])
        layers = select_layers(layout_of(settings.model), settings.layer, without_scaled=False).layers
        contributions(settings, layers[-1:], images)  # imports are no part of the comparison
        start = time.process_time()
        together = contributions(settings, layers, images)
        middle = time.process_time()
        alone = {layer.name: contributions(settings, [layer], images)[layer.name] for layer in layers}
        end = time.process_time()
        assert together == alone
        rows.append(
            [kind, f"{middle - start:.0f}", f"{end - middle:.0f}", f"{(end - middle) / (middle - start):.1f} x"]
        )
    report(
        "attributions", f"Contributions of the channels of {len(layers)} convolutions of ResNet-18, {N_IMAGES} images",
        ["ranker", "shared passes, CPU seconds", "layer by layer, CPU seconds", "ratio"], rows,
        "The contributions are equal to the byte.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
