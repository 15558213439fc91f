"""Time to ablate every channel of a layer.

It is compared with one pass per channel through the part of the network behind the layer, which is the minimum without
further approximations, and with Captum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from captum.attr import LayerFeatureAblation
from torch import nn
from torchvision.models import resnet18

from benchmarks.timing import best_in_turns, report, seconds
from examples.cifar10_resnet20.network import resnet20
from pipeline.networks.ablation import Ablation
from pipeline.networks.digits import digits_cnn
from pipeline.networks.examined import ExaminedNetwork

CASES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...], int]] = {
    "digits_cnn conv2": (digits_cnn, "conv2", (1, 8, 8), 50),
    "digits_cnn conv3": (digits_cnn, "conv3", (1, 8, 8), 50),
    "ResNet-20 layer3.0.conv1": (resnet20, "layer3.0.conv1", (3, 32, 32), 32),
    "ResNet-20 layer3.2.conv2": (resnet20, "layer3.2.conv2", (3, 32, 32), 32),
    "resnet18 layer4.1.conv1": (partial(resnet18, weights=None), "layer4.1.conv1", (3, 224, 224), 2),
}
N_ROUNDS = 3
N_REPEATS = 20


def first(outputs: torch.Tensor) -> torch.Tensor:
    """Return the score of class 0."""
    return outputs[:, 0]


def by_captum(network: nn.Module, layer: str, inputs: torch.Tensor, n_channels: int) -> torch.Tensor:
    """Return the effects that Captum computes by passes through the whole network, for eight channels per pass."""
    mask = torch.arange(n_channels)[None, :, None, None]
    captum = LayerFeatureAblation(network, network.get_submodule(layer))
    return captum.attribute(inputs, target=0, layer_baselines=0, layer_mask=mask, perturbations_per_eval=8)


def measure(build: Callable[[], nn.Module], layer: str, shape: tuple[int, ...], n_images: int) -> list[str]:
    """Return the row of the table for one layer."""
    torch.manual_seed(0)
    network, inputs = build().eval().requires_grad_(False), torch.rand(n_images, *shape)
    ablation = Ablation(ExaminedNetwork.of_module(network, layer, first, inputs, "first"), inputs)
    assert ablation.cut is not None
    behind = ablation.cut.behind
    with torch.inference_mode():
        output, around = ablation.cut.before(inputs)
    n_channels = output.shape[1]

    @torch.inference_mode()
    def passes_behind() -> None:
        for _ in range(N_REPEATS):
            behind(output, *around)

    each = torch.eye(n_channels, dtype=torch.bool)
    zero = torch.zeros(1, n_channels, 1, 1)
    at_inputs = ablation.at(inputs)
    timers = {
        "behind": lambda: seconds(partial(at_inputs.scores, each, zero)),
        "complete": lambda: seconds(lambda: ablation.at(inputs).scores(each, zero)),
        "one pass": lambda: seconds(passes_behind) / N_REPEATS,
    }
    found = best_in_turns(timers, N_ROUNDS)
    captum = seconds(partial(by_captum, network, layer, inputs, n_channels))
    return [
        str(n_channels), f"{found['behind']:.3f}", f"{found['behind'] / (n_channels * found['one pass']):.2f}",
        f"{found['complete']:.3f}", f"{captum:.3f}", f"{captum / found['complete']:.1f} x",
    ]  # fmt: skip


def main() -> None:
    """Measure all layers, print the table and write it."""
    rows = [[name, *measure(*case)] for name, case in CASES.items()]
    headings = [
        "layer",
        "channels",
        "behind the layer, s",
        "relative to one pass per channel",
        "complete, s",
        "Captum, s",
        "Captum / complete",
    ]
    report("ablation", "Ablation of every channel of a layer (set to zero)", headings, rows,
           "`behind the layer` excludes the part of the network before the layer, `complete` includes it: the best of "
           f"{N_ROUNDS} rounds. Captum: LayerFeatureAblation with eight channels per pass, measured once.")  # fmt: skip


if __name__ == "__main__":
    main()
