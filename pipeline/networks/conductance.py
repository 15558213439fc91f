"""Layer conductance: the gradient at a layer, integrated along the change of its activations on a straight path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from pipeline.errors import NetworkError
from pipeline.networks.contributed import Contributed, Contributions, Sums, by_channel, compared, leaf_of, sum_of_all
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input, network_scores
from pipeline.networks.gradients import replaced
from pipeline.networks.hooks import without_inplace
from pipeline.networks.tracing import Cut, cut_at, tensors_of

# From inputs to some values inside the network, and to the gradients of the score with respect to them.
GradientsAt = Callable[[torch.Tensor], tuple[list[torch.Tensor], list[torch.Tensor]]]


def conductance(examined: ExaminedNetwork, n_steps: int) -> Contributions:
    """Return layer conductance (Dhamdhere et al., 2018, arXiv 1805.12233), with `n_steps` steps on the path.

    It is integrated by the trapezoidal rule; Captum's sum has two to three times its error (docs/decisions/0083). The
    contributions of the channels and of all values that bypass the layer sum to the change of the score. If torch.fx
    cannot trace the network, these values are not known. Two images of each batch are then compared with the
    contributions of the channels with twice as many steps.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    n_steps : int
        Number of steps on the straight path from the baseline to the input, at least 2.
    """
    cut = cut_at(examined.network, examined.layer.name)

    def contributed(inputs: torch.Tensor) -> Contributed:
        if cut is not None and _is_same(examined, cut, inputs):
            layer, *others = _along_path(partial(_gradients_behind, examined, cut), inputs, n_steps)
            return Contributed(by_channel(layer, examined), compared(examined, sum_of_all([layer, *others]), inputs))
        at = partial(_gradients_at_layer, examined)
        (layer,), (finer,) = _along_path(at, inputs, n_steps), _along_path(at, inputs[:2], 2 * n_steps)
        total, change = sum_of_all([layer[:2]]), sum_of_all([finer])
        rounding = compared(examined, total, inputs[:2]).rounding
        return Contributed(by_channel(layer, examined), Sums(total, change, rounding))

    return contributed


def _along_path(at: GradientsAt, inputs: torch.Tensor, n_steps: int) -> list[torch.Tensor]:
    """Return the integral of gradient times change, for each tensor, on the path from the zero input to the inputs."""
    values, gradients = at(torch.zeros_like(inputs))
    totals = [torch.zeros_like(each) for each in values]
    for step in range(1, n_steps + 1):
        next_values, next_gradients = at(inputs * (step / n_steps))
        for place, total in enumerate(totals):
            total += (gradients[place] + next_gradients[place]) / 2 * (next_values[place] - values[place])
        values, gradients = next_values, next_gradients
    return totals


def _gradients_behind(
    examined: ExaminedNetwork, cut: Cut, point: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the values between the parts of a cut network, and the gradients of the score with respect to them."""
    with torch.no_grad():
        output, around = cut.before.forward(network_input(examined.network, point))
    values, rebuild = tensors_of((output, *around), len(point))
    leaves = [leaf_of(value) for value in values]
    with without_inplace(examined.network), torch.enable_grad():
        outputs = cut.behind.forward(*rebuild([leaf.clone() for leaf in leaves]))
        scores = examined.score(network_scores(outputs, len(point)))
    return values, _gradients(scores, leaves)


def _gradients_at_layer(
    examined: ExaminedNetwork, point: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the layer's tensor, and the gradient of the score with respect to it."""
    leaves: list[torch.Tensor] = []

    def through(tensor: torch.Tensor) -> torch.Tensor:
        leaves.append(leaf_of(tensor))
        return leaves[-1].clone()

    with without_inplace(examined.network), replaced(examined.module, through), torch.enable_grad():
        scores = examined.score(forward(examined.network, point))
    return [leaf.detach() for leaf in leaves], _gradients(scores, leaves)


def _gradients(scores: torch.Tensor, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients; 0 for a value of which only the shape is used."""
    found = torch.autograd.grad(scores.sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]


@torch.inference_mode()
def _is_same(examined: ExaminedNetwork, cut: Cut, inputs: torch.Tensor) -> bool:
    """Return whether a cut network gives the scores of the whole one, also for a batch of another size."""
    try:
        output, around = cut.before.forward(network_input(examined.network, inputs.repeat(2, *[1] * (inputs.ndim - 1))))
        outputs = network_scores(cut.behind.forward(output, *around), 2 * len(inputs))
        found = examined.score(outputs)[: len(inputs)]
    except (NetworkError, RuntimeError, TypeError, ValueError):
        return False
    return torch.allclose(found, examined.score(forward(examined.network, inputs)), rtol=1e-4, atol=1e-4)
