"""Files of weights: reading them, and loading them into a network."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.weight_files import require_checkpoint

# Keys under which training scripts save the weights, by preference. If none of them is there, any other key will do.
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network")
# The names under which DataParallel and torch.compile keep the network that they wrap.
WRAPPED_AS = ("module", "_orig_mod")
METADATA = "_metadata"  # attribute of a state dict: the versions of the modules that it was made by
# The errors of PyTorch's unpickler about a class that it does not know, and about a subclass of dict or list.
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
_CONTAINER = re.compile(r"Can only (?:SETITEMS?|append|extend) (?:for|to) (dict|list).*got <class '(.+?)'>")


class Ignored:
    """An object in a checkpoint that is neither a tensor nor a plain value, such as an ``argparse.Namespace``.

    While a checkpoint is read, a subclass takes the place of the object's class, so that no code of that is executed.
    """

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        """Discard the attributes."""


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Return the weights in a ``.safetensors``, ``.pth``, ``.pt`` or ``.th`` file.

    Pickled files are read with ``weights_only=True``, so that no code in them is executed. Objects of classes that
    PyTorch does not regard as safe are replaced by `Ignored` ones: training scripts save their options and NumPy
    numbers beside the weights. Nested weights are found, see `NESTED_UNDER`.

    Raises
    ------
    NetworkError
        If there is no such file, or it does not contain a state dict.
    """
    require_checkpoint(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"model.checkpoint must be readable without executing code; got {path}, which contains more than tensors "
            f"and plain values ({_reason(error)}). If you trust the file, read it with torch.load(FILE, "
            "weights_only=False), and save the state_dict in it alone with torch.save."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(
            f"model.checkpoint must be a safetensors or torch file; got {path}, which cannot be read ({reason}). "
            "Save or download it again."
        ) from error
    state = _state_dict_in(content)
    if state is None:
        raise NetworkError(
            f"model.checkpoint must contain a state_dict (names and tensors); got {path}, which contains "
            f"{_described(content)}. Save one with torch.save(network.state_dict(), FILE)."
        )
    return state


def load_weights(network: nn.Module, state: Mapping[str, Any], source: str) -> None:
    """Load a state dict into a network; if the network is on the ``meta`` device, only check that it would fit.

    The modules of the network load their weights themselves, so that they convert those of earlier versions. Names are
    compared without the prefixes of `WRAPPED_AS` if they do not fit with them.

    Parameters
    ----------
    network : Module
        The network, which is changed.
    state : mapping of str to tensor
        The weights, and the extra state of modules.
    source : str
        Origin of the weights, for the message.

    Raises
    ------
    NetworkError
        If the weights do not have the names and shapes of the network's parameters and buffers.
    """
    state = _renamed(network, state)
    current = getattr(network.state_dict(), METADATA, None)
    # A file without versions, such as one in the format safetensors, is taken to be of the current versions.
    versions = [getattr(state, METADATA)] if hasattr(state, METADATA) else [current, None]
    faults = [_load(network, _with_metadata(state, version)) for version in versions]
    if all(faults):
        raise NetworkError(
            f"model.checkpoint must fit the network; got {source} ({faults[0]}). "
            "Check model.name, model.factory and model.arguments."
        )
    if len(faults) > 1 and faults[-1]:
        _load(network, _with_metadata(state, versions[0]))


def _load(network: nn.Module, state: OrderedDict[str, Any]) -> str:
    """Load the weights and return what does not fit; empty if everything does."""
    expected = network.state_dict()
    is_meta = any(getattr(value, "is_meta", False) for value in expected.values())
    try:
        # On the meta device, the tensors of the file are assigned, because nothing can be copied into the parameters.
        result = network.load_state_dict(state, strict=False, **({"assign": True} if is_meta else {}))
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        missing, unexpected = [name for name in expected if name not in state], [n for n in state if n not in expected]
        reason = str(error).strip().splitlines()[-1].strip() if str(error) else type(error).__name__
    else:
        missing, unexpected, reason = list(result.missing_keys), list(result.unexpected_keys), ""
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if isinstance(value, torch.Tensor) and _shape(state.get(name)) not in (None, tuple(value.shape))
    ]
    faults = [
        f"{what}: {listed(names, 3)}"
        for what, names in (
            # PyTorch counts the training batches here. Old checkpoints lack the count, and evaluation does not use it.
            ("missing", [name for name in missing if not name.endswith("num_batches_tracked")]),
            ("unexpected", unexpected),
            ("wrong shape", misshapen if reason else []),
        )
        if names
    ]
    return "; ".join(faults) or reason


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _with_metadata(state: Mapping[str, Any], metadata: Any) -> OrderedDict[str, Any]:
    """Return a copy of a state dict with these versions of its modules; None for no versions."""
    found = OrderedDict(state)
    if metadata is not None:
        setattr(found, METADATA, metadata)
    return found


def _renamed(network: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights under the network's names if these differ only by the prefixes of wrapped networks."""
    expected = set(network.state_dict())
    modules = {name for name, _ in network.named_modules()}
    entries = {_bare(name): name for name in expected}
    paths = {_bare(name): name for name, _ in network.named_modules()}  # of nested wrappers, the innermost

    def renamed(name: str) -> str:
        if _bare(name) in entries:
            return entries[_bare(name)]
        path, _, last = name.rpartition(".")  # perhaps a name of an earlier version of the module
        return ".".join(filter(None, (paths[_bare(path)], last))) if _bare(path) in paths else name

    def n_known(names: Iterable[str]) -> int:
        return sum(name in expected or name.rpartition(".")[0] in modules for name in names)

    names = {name: renamed(name) for name in state}
    is_unique = len(entries) == len(expected) and len(set(names.values())) == len(names)
    if not is_unique or n_known(names.values()) <= n_known(state):
        return state
    found = OrderedDict((names[name], value) for name, value in state.items())
    if hasattr(state, METADATA):
        versions = {_bare(name): value for name, value in getattr(state, METADATA).items()}  # the innermost again
        setattr(found, METADATA, {name: versions[_bare(name)] for name in modules if _bare(name) in versions})
    return found


def _bare(name: str) -> str:
    """Return a dotted name without the parts that only wrap a network."""
    return ".".join(part for part in name.split(".") if part not in WRAPPED_AS)


def _unpickled(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote; objects of unknown classes are replaced.

    PyTorch names one unknown class at a time, also in files of its old format, so the file is read until it knows all.
    Subclasses of dict and list become an ordered dictionary and a list; all other objects are `Ignored`.
    """
    stand_ins: dict[str, type] = {}
    while True:
        try:
            allowed = torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()])
            with allowed, warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")  # an error follows if it is a problem
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            unknown, container = _UNKNOWN.search(str(error)), _CONTAINER.search(str(error))
            if unknown is not None:
                name, result = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}", None
            elif container is not None and container[2] in stand_ins:
                name, result = container[2], OrderedDict if container[1] == "dict" else list
            else:
                raise
            if (name in stand_ins) is (result is None):
                raise
            stand_ins[name] = _stand_in(name, result)


def _stand_in(name: str, result: Callable[[], object] | None) -> type:
    """Return a class of this name whose objects are `Ignored`, or made by `result`."""
    module, _, own = name.rpartition(".")

    def new(cls: type, *_arguments: object) -> object:
        return object.__new__(cls) if result is None else result()

    return type(own, (Ignored,), {"__new__": new, "__module__": module, "__qualname__": own})


def _reason(error: pickle.UnpicklingError) -> str:
    """Return what PyTorch says about a file that it does not read with ``weights_only=True``, without its advice."""
    found = re.search(r"WeightsUnpickler error:\s*([^\n]*)", str(error))
    text = found[1] if found else next(iter(str(error).splitlines()), "it cannot be unpickled")
    return text.strip().rstrip(".")


def _state_dict_in(content: Any) -> Mapping[str, Any] | None:
    """Return the state dict that a file contains, at the top or under a key; None if there is none."""
    if _is_state_dict(content) or content == {}:
        return _with_metadata(content, getattr(content, METADATA, None))
    if not isinstance(content, dict):
        return None
    for name in _by_preference(content):
        found = _state_dict_in(content[name]) if isinstance(content[name], dict) and content[name] else None
        if found is not None:
            return found
    return None


def _by_preference(names: Iterable[Any]) -> list[Any]:
    known = [name for name in NESTED_UNDER if name in names]
    return [*known, *(name for name in names if name not in known)]


def _is_state_dict(value: Any) -> bool:
    """Return whether an object maps names to tensors. Quantised modules and extra states have other values as well."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return False
    has_tensor = any(isinstance(each, torch.Tensor) for each in value.values())
    return has_tensor and not any(
        isinstance(each, dict) for name, each in value.items() if not name.endswith("_extra_state")
    )


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"the entries {listed([str(name) for name in content], 5)}"
    return "a pickled object" if isinstance(content, Ignored) else f"an object of the type {type(content).__name__}"
