"""Forward passes: every pass through a whole network is a call of `forward`.

A network may compute in another number format than the images have, write into its input, and return its scores inside
a dictionary, a tuple or an object. `forward` copies the images into the network's format, and returns its scores as one
tensor. An exception that the network's own code raises becomes a `NetworkCodeError` of one line, with the file and the
line in which it was raised.
"""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from pipeline.errors import MemoryExceededError, NetworkError, PipelineError, is_out_of_memory

LOWER = "Lower model.batch_size."  # advice for a batch that does not fit into the memory
MAX_REASON = 300  # number of characters of a message that is quoted
SCORES = "logits"  # name of the scores in dictionaries and objects (Hugging Face's transformers)
FORMATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # in which a network may expect its input

_OWN_PACKAGE = __name__.partition(".")[0]
_OWN_NETWORKS = f"{_OWN_PACKAGE}.networks.digits"
# Packages whose calls say nothing about where a network fails.
_PASSED_BY = {"torch", "captum", ""} | sys.stdlib_module_names


class NetworkCodeError(NetworkError):
    """The code of a network or of its factory raised an exception."""


def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the scores of a network.

    Parameters
    ----------
    network : Module
        Any network whose only required input is the batch of images.
    images : tensor of shape (n_images, ...)
        The inputs, on the network's device. They are not changed, even if the network writes into its input.

    Returns
    -------
    tensor of shape (n_images, n_outputs)
        The scores, float32 or float64.

    Raises
    ------
    NetworkCodeError
        If the network raises an exception.
    NetworkError
        If the network does not return one row of real scores for each image.
    """
    with reported_errors(
        "the network must process the images",
        f"input of shape {tuple(images.shape)}",
        "Correct the network, or check model.input_size and model.transform.",
    ):
        outputs = network(network_input(network, images))
    return network_scores(outputs, len(images))


class Scores(nn.Module):
    """A network as a module that returns its scores, (n_images, n_outputs); see `forward`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores of a batch of images."""
        return forward(self.network, images)


def network_input(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return a copy of the images in the number format that a network computes in.

    It is the format of the network's first real parameter or buffer: bfloat16, for example. Images of integers
    are returned as they are.
    """
    values = chain(network.parameters(), network.buffers())
    own = next((value.dtype for value in values if value.dtype in FORMATS), images.dtype)
    return images.to(own, copy=True) if images.is_floating_point() else images.clone()


def network_scores(outputs: object, n_images: int) -> torch.Tensor:
    """Return the scores in what a network returned, (n_images, n_outputs), float32 or float64.

    They are the tensor itself, or ``logits`` in a dictionary or object, or the only tensor in a dictionary, tuple or
    list. A tensor of shape (n_images,) has one output.

    Raises
    ------
    NetworkError
        If there is no such tensor, if it does not have one row per image, or if its numbers are not real.
    """
    scores = scores_in(outputs)
    if scores is None or scores.ndim not in (1, 2) or len(scores) != n_images or scores.numel() == 0:
        found = type(outputs).__name__ if scores is None else f"shape {tuple(scores.shape)}"
        raise NetworkError(
            f"the network must return one row of scores per image, (n, n_outputs) or (n,); got {found} "
            f"({n_images} images). Wrap it in a module that returns the scores, or give pcace.rank a function of the "
            "outputs as target."
        )
    if not scores.is_floating_point():
        raise NetworkError(
            f"the network must return real scores; got numbers of type {str(scores.dtype).removeprefix('torch.')}. "
            "Wrap it in a module that returns the scores from before the conversion."
        )
    scores = scores if scores.ndim == 2 else scores[:, None]
    return scores if scores.dtype in (torch.float32, torch.float64) else scores.float()


def check_code(network: nn.Module) -> None:
    """Raise `NetworkError` if a network cannot be called with a batch of images only, or is no Python code."""
    scripted = next((module for module in network.modules() if isinstance(module, torch.jit.ScriptModule)), None)
    if scripted is not None:  # the layers inside it cannot be observed
        raise NetworkError(
            f"the network must consist of modules in Python; got TorchScript ({type(scripted).__name__}). "
            "Build the network from its code, and load the weights of its state dict with model.checkpoint."
        )
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):  # for example, compiled code
        return
    try:
        signature.bind(None)
    except TypeError:
        raise NetworkError(
            f"the network must take the images as its only required input; got {type(network).__name__}.forward"
            f"({', '.join(signature.parameters)}). Wrap it in a module that supplies the other inputs."
        ) from None


def evaluated(network: nn.Module) -> nn.Module:
    """Put a network into evaluation mode, and return it.

    A method `train` of the network's own, which freezes some modules, may return nothing, or leave modules in training
    mode.
    """
    network.eval()
    for module in network.modules():
        if module.training:
            module.training = False
    return network


@contextmanager
def reported_errors(rule: str, context: str, hint: str) -> Iterator[None]:
    """Turn an exception of somebody else's code inside the context into a `NetworkCodeError`.

    Errors of this package are not changed, and neither are exceptions in a function of this package that their code
    calls, such as a hook.

    Parameters
    ----------
    rule : str
        What the code must do, e.g. ``the network must process the images``.
    context : str
        What it was called with.
    hint : str
        What to do.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        module, place = _origin(error)
        if module.partition(".")[0] == _OWN_PACKAGE and module != _OWN_NETWORKS:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a hook of this package has written the output of a layer to a full disk
        if is_out_of_memory(error):
            raise MemoryExceededError(f"{rule}; got {described(error)} ({place}{context}). {LOWER}") from error
        raise NetworkCodeError(f"{rule}; got {described(error)} ({place}{context}). {hint}") from error


def scores_in(outputs: object) -> torch.Tensor | None:
    """Return the tensor of scores in what a network returned, or None if it is not known which tensor that is."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    named = outputs.get(SCORES) if isinstance(outputs, Mapping) else getattr(outputs, SCORES, None)
    if isinstance(named, torch.Tensor):
        return named
    if isinstance(outputs, Mapping):
        parts = list(outputs.values())
    elif isinstance(outputs, tuple | list):
        parts = list(outputs)
    else:
        return None
    tensors = [part for part in parts if part is not None]
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], torch.Tensor) else None


def described(error: Exception) -> str:
    """Return the type of an exception and its message, on one line and without a full stop."""
    message = " ".join(str(error).split()).rstrip(".")
    if len(message) > MAX_REASON:
        message = message[: MAX_REASON - 1] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _origin(error: Exception) -> tuple[str, str]:
    """Return the module, and the file and the line, of the innermost call that shows where an exception comes from.

    Calls inside PyTorch and the standard library do not. If there is no other call, because a network consists of
    PyTorch's modules only, both are the empty string.
    """
    found, step = ("", ""), error.__traceback__
    step = step.tb_next if step else None  # the first call is `reported_errors` itself
    step = step.tb_next if step else None  # the second one is the `with` statement
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _PASSED_BY:
            found = (module, f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}, ")
        step = step.tb_next
    return found
