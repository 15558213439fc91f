"""Files of weights: reading them, and checking that they fit a network.

The names `RANDOM` and `SHIPPED` are the values of ``model.weights`` that do not name published weights.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import NetworkError, listed

RANDOM = "random"  # weights as initialised, with a seed
SHIPPED = "shipped"  # the file of this package
NESTED_UNDER = ("state_dict", "model_state_dict", "model")  # keys under which training scripts save the weights


def require_checkpoint(path: Path) -> Path:
    """Return the path; raise `NetworkError` if it is not a file."""
    if not path.is_file():
        raise NetworkError(f"model.checkpoint must be an existing file; got {path}. Give the path of the weights.")
    return path


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a ``.safetensors``, ``.pth``, ``.pt`` or ``.th`` file.

    Pickled files are read with ``weights_only=True``: a file that contains other objects is rejected, and no code in it
    is executed. Weights nested under one of `NESTED_UNDER` are found, and the prefix ``module.`` of their names
    (DataParallel) is removed.

    Raises
    ------
    NetworkError
        If there is no such file, or it does not contain a state dict.
    """
    require_checkpoint(path)
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"model.checkpoint must contain only tensors; got {path}, which contains other Python objects (which could "
            "run code). Convert a trusted file: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(
            f"model.checkpoint must be a safetensors or torch file; got {path}, which cannot be read ({reason}). "
            "Save or download it again."
        ) from error
    for name in NESTED_UNDER:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NetworkError(
            f"model.checkpoint must contain a state_dict (names and tensors); got {path}, which does not. "
            "Save it with torch.save(network.state_dict(), FILE)."
        )
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def check_fit(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise `NetworkError` if the weights do not have the names and shapes of the network's parameters and buffers.

    Parameters
    ----------
    network : Module
        The network; it may be on the ``meta`` device.
    state : mapping of str to tensor
        The weights.
    source : str
        Origin of the weights, for the message.
    """
    expected = network.state_dict()
    # PyTorch counts the training batches here. Old checkpoints lack the count, and evaluation mode does not use it.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    faults = [
        f"{what}: {listed(names, 3)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if faults:
        raise NetworkError(
            f"model.checkpoint must fit the network; got {source} ({'; '.join(faults)}). "
            "Check model.name, model.factory and model.arguments."
        )
