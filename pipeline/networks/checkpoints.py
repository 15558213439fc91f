"""Files of weights: reading them, and checking that they fit a network."""

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

NESTED_UNDER = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights in a checkpoint


def require_checkpoint(path: Path) -> Path:
    """Return the path; raise `NetworkError` if it is not a file."""
    if not path.is_file():
        raise NetworkError(
            f"model.checkpoint must be a file; got {path} (there is none). Give the path of the weights."
        )
    return path


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a ``.safetensors``, ``.pth``, ``.pt`` or ``.th`` file.

    Pickled files are read with ``weights_only=True``: a file that contains code is refused, and the code never runs.
    Weights nested under ``state_dict`` are found, and the prefix ``module.`` of names (DataParallel) is removed.

    Raises
    ------
    NetworkError
        If there is no such file, or it does not hold a state dict.
    """
    require_checkpoint(path)
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"model.checkpoint must hold tensors alone; {path} holds other Python objects, which could run code. "
            "Where you trust it, convert it once: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(
            f"model.checkpoint must be a safetensors or torch file; {path} cannot be read ({reason}). "
            "Save or download it again."
        ) from error
    for name in NESTED_UNDER:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NetworkError(
            f"model.checkpoint must hold a state_dict (names to tensors); {path} does not. "
            "Save it with torch.save(network.state_dict(), FILE)."
        )
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def check_fit(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise `NetworkError` if the weights do not have the names and shapes of the network's own.

    Parameters
    ----------
    network : Module
        The network; it may be on the ``meta`` device.
    state : mapping of str to tensor
        The weights.
    source : str
        Where they come from, for the message.
    """
    expected = network.state_dict()
    # PyTorch's count of training batches: old checkpoints lack it, and it is not used in evaluation mode.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
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
