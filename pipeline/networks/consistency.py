"""Whether a network gives an image the same outputs every time, and independently of the batch it is in.

All stages assume both: the ablation of channels repeats an image many times in one batch, and outputs that are drawn at
random would change every ranking. See docs/decisions/0084.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.capture import capture
from pipeline.networks.forward import forward
from pipeline.networks.maps import is_quantised

N_SAMPLE = 3  # number of images that are compared
N_REPEATED = 8  # number of passes of a network that draws random numbers

# Largest difference as a share of the largest value, on the CPU and on CUDA, whose TF32 has 10 bits. Batches of another
# size are computed by other kernels.
REPEATED, BATCHED = {"cpu": 1e-5, "cuda": 1e-3}, {"cpu": 1e-4, "cuda": 1e-2}
QUANTISED = 1e-2  # 8 bits; dynamic quantisation takes its levels from the whole batch
ROUNDING = 32  # the largest difference for float16 and bfloat16, in units of their relative rounding error

Outputs = tuple[torch.Tensor, ...]  # of the layers and of the network


@torch.no_grad()
def check_consistent(network: nn.Module, layers: Sequence[str], sample: torch.Tensor) -> None:
    """Check that a few images have the same outputs in two passes, and each of them alone as in their batch.

    A network that draws random numbers runs more often. The states of the random number generators are restored.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    layers : sequence of str
        Dotted paths of the layers whose outputs are compared as well.
    sample : tensor of shape (n_images, ...)
        The images, two or more.

    Raises
    ------
    NetworkError
        If the outputs differ.
    """
    with _states_restored(sample.device):
        before = _states(sample.device)
        first, *others = (_run(network, layers, sample) for _ in range(2))
        if _states(sample.device) != before:
            others += [_run(network, layers, sample) for _ in range(N_REPEATED - 2)]
        found = max(_difference(first, other) for other in others)
        if found > _tolerance(network, first, REPEATED):
            cause = _because(_random_modules(network))
            raise NetworkError(
                "the network must give an image the same outputs in every pass; got outputs that differ by "
                f"{_percent(found)} between two passes over the same images{cause}. Switch off "
                "dropout and random augmentation in evaluation mode, e.g. functional.dropout(x, p, self.training)."
            )
        alone = [_alone(network, layers, sample, image) for image in range(len(sample))]
    check_same_by_batch(network, tuple(torch.stack(rows) for rows in zip(*alone, strict=True)), first)


def check_same_by_batch(network: nn.Module, alone: Sequence[torch.Tensor], together: Sequence[torch.Tensor]) -> None:
    """Check that images have the same outputs alone and in a batch.

    Parameters
    ----------
    network : Module
        The network.
    alone, together : sequence of tensor
        The outputs of passes with single images, and those of one pass with all of them.

    Raises
    ------
    NetworkError
        If they differ by more than the last digits.
    """
    found = _difference(alone, together)
    if found > _tolerance(network, together, BATCHED):
        raise NetworkError(
            "the network must compute an image's outputs independently of the other images in the batch; got outputs "
            f"that differ by {_percent(found)} between single images and a batch{_because(_batch_modules(network))}. "
            "Use batch normalisation in evaluation mode with running statistics, or normalise each image by itself."
        )


def _difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Return the largest absolute difference of two passes, as a share of the largest absolute value.

    Numbers that are not finite, and tensors that do not have the same shape, are not compared.
    """
    found = 0.0
    for first, second in zip(one, other, strict=True):
        if first.shape != second.shape or torch.equal(first, second):
            continue
        if first.dtype != torch.float32 or second.dtype != torch.float32:
            first, second = first.double(), second.double()
        apart, scale = _largest(first - second), _largest(first)
        if not np.isfinite([apart, scale]).all():
            is_finite = first.isfinite() & second.isfinite()
            first, second = first[is_finite].double(), second[is_finite].double()
            apart, scale = _largest(first - second), _largest(first)
        if apart > 0:
            found = max(found, apart / max(scale, apart))
    return found


def _largest(values: torch.Tensor) -> float:
    """Return the largest absolute value; NaN if one is NaN, 0 if there are none."""
    return max(float(values.max()), -float(values.min())) if values.numel() else 0.0


def _run(network: nn.Module, layers: Sequence[str], inputs: torch.Tensor) -> Outputs:
    with ExitStack() as stack:
        captured = [stack.enter_context(capture(network, layer)) for layer in layers]
        outputs = forward(network, inputs)
        return *(each.take() for each in captured), outputs


def _alone(network: nn.Module, layers: Sequence[str], sample: torch.Tensor, image: int) -> Outputs:
    """Return the outputs for one image without the others of the sample.

    A network that does not accept single images runs on copies of the image instead.
    """
    inputs = sample[image : image + 1]
    try:
        found = _run(network, layers, inputs)
        if all(len(each) == 1 for each in found):
            return tuple(each[0] for each in found)
    except Exception:  # raised by the network's own code
        pass
    found = _run(network, layers, inputs.repeat(len(sample), *[1] * (inputs.ndim - 1)))
    return tuple(each[0] for each in found)


def _tolerance(network: nn.Module, outputs: Sequence[torch.Tensor], shares: dict[str, float]) -> float:
    types = {each.dtype for each in (*network.parameters(), *outputs) if each.is_floating_point()}
    rounding = max((torch.finfo(dtype).eps for dtype in types), default=0.0)
    quantised = QUANTISED if any(is_quantised(module) for module in network.modules()) else 0.0
    return max(shares.get(outputs[0].device.type, shares["cuda"]), ROUNDING * rounding, quantised)


def _random_modules(network: nn.Module) -> list[str]:
    """Return the names of the dropout modules in training mode."""
    kind = nn.modules.dropout._DropoutNd
    return [name for name, module in network.named_modules() if isinstance(module, kind) and module.training]


def _batch_modules(network: nn.Module) -> list[str]:
    """Return the names of the modules that normalise over the batch."""
    kind = nn.modules.batchnorm._BatchNorm
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kind) and (module.running_mean is None or module.training)
    ]


def _because(names: list[str]) -> str:
    return f" ({listed(names, 3)})" if names else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _states(device: torch.device) -> list[Any]:
    """Return the states of the random number generators that a network may use, as values that can be compared."""
    numbers = np.random.get_state()  # noqa: NPY002  a network may use the global generator
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    return [*(state.tolist() for state in states), random.getstate(), [np.asarray(each).tolist() for each in numbers]]


@contextmanager
def _states_restored(device: torch.device) -> Iterator[None]:
    """Restore the states of the random number generators at the end of the context."""
    plain, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)  # noqa: NPY002
