"""The fingerprint of a network: a digest of its modules, their attributes, and the values of its weights.

Two networks with the same fingerprint that run the same code compute the same. Paths are left out, and files that are
named are represented by their content, so that the fingerprint of a network is the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.digests import digest_bytes
from pipeline.networks.portable import portable

# Attributes that every module has: its parts, which are described themselves, and its mode.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a network in memory.

    Attributes
    ----------
    entries : mapping of str to str
        Digest of each part: ``conv1 (Conv2d)`` for a module, ``conv1.stride`` for an attribute, ``conv1.weight`` for a
        tensor.
    modules : frozenset of str
        Dotted names of the Python modules that its classes and functions come from.
    """

    entries: Mapping[str, str]
    modules: frozenset[str]

    @property
    def digest(self) -> str:
        """SHA-256 of all entries."""
        return digest_bytes(json.dumps(self.entries, sort_keys=True).encode())


def fingerprint(network: nn.Module) -> Fingerprint:
    """Return the fingerprint of a network.

    Parameters
    ----------
    network : Module
        The network. Of lazy modules that are not initialised, only the names of the weights are known.
    """
    description = _Description()
    entries = {name: digest_bytes(json.dumps(each).encode()) for name, each in description.parts(network)}
    return Fingerprint(entries, frozenset(description.modules))


def digest_of_values(network: nn.Module) -> str:
    """Return the SHA-256 of the names and values of all parameters and buffers of a network."""
    description = _Description()
    values = {name: description.of(value) for name, value in _tensors(network)}
    return digest_bytes(json.dumps(values, sort_keys=True).encode())


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are neither its parts nor common to all modules."""
    if isinstance(module, nn.DataParallel) or type(module).__module__.startswith("torch._dynamo"):
        return {}  # those of DataParallel describe the machine, and those of torch.compile the process
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _tensors(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of parameters, buffers and extra state, including what checkpoints leave out."""
    found: dict[str, Any] = dict(network.named_parameters(remove_duplicate=False))
    found |= dict(network.named_buffers(remove_duplicate=False))
    yield from found.items()
    yield from ((name, value) for name, value in network.state_dict().items() if name not in found)


class _Description:
    """Values in plain JSON types, and the Python modules that functions and classes among them come from."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._open: set[int] = set()
        self._parts: dict[int, str] = {}

    def parts(self, network: nn.Module) -> Iterator[tuple[str, Any]]:
        """Yield the names and descriptions of all modules and tensors of a network."""
        modules = list(network.named_modules())
        self._parts |= {id(module): name for name, module in modules}
        for name, module in modules:
            hooks = [list(getattr(module, each, {}).values()) for each in _HOOKS]
            # The code of a graph or a script is generated, and in no file.
            code = module.code if isinstance(module, (torch.fx.GraphModule, torch.jit.ScriptModule)) else ""
            yield f"{name} ({type(module).__name__})", [self._named(type(module)), self.of(hooks), code]
            for attribute, value in _attributes(module).items():
                yield ".".join(filter(None, (name, attribute))), self.of(value)
        yield from ((name, self.of(value)) for name, value in _tensors(network))

    def of(self, value: Any) -> Any:
        """Return a description of a value. Of an object of any other type, only the name of its class is known."""
        if id(value) in self._open:
            return "recursive"
        self._open.add(id(value))
        try:
            return self._of(value)
        finally:
            self._open.discard(id(value))

    def _of(self, value: Any) -> Any:
        match value:
            case None | bool() | int():
                return value
            case str():
                return portable(value)
            case float() | complex() | bytes() | torch.dtype() | torch.layout() | np.dtype():
                return repr(value)
            case torch.Tensor():
                return self._tensor(value)
            case np.generic() | np.ndarray():
                content = digest_bytes(value.tobytes()) if value.dtype != object else self.of(value.tolist())
                return [str(value.dtype), list(value.shape), content]
            case Enum():
                return [self.of(type(value)), value.name]
            case nn.Module():
                # In an attribute, it may be another module of the network, or one that is not registered.
                return self._parts[id(value)] if id(value) in self._parts else list(self.parts(value))
            case list() | tuple():
                return [self.of(each) for each in value]
            case Set():
                return sorted(json.dumps(self.of(each)) for each in value)
            case Mapping():
                return [[self.of(name), self.of(each)] for name, each in value.items()]
            case partial():
                return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
            case SimpleNamespace():
                return [self._named(type(value)), self.of(vars(value))]
            case type():
                return self._named(value)
        if is_dataclass(value):
            return [self._named(type(value)), *(self.of(getattr(value, each.name, None)) for each in fields(value))]
        if hasattr(value, "__qualname__"):
            return self._function(value)
        return self._named(type(value))

    def _named(self, value: Any) -> str:
        """Return the name of a class or a function; the modules of all classes that a class derives from are kept."""
        for each in getattr(value, "__mro__", (value,)):
            self.modules.add(str(getattr(each, "__module__", "")))
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"

    def _function(self, value: Any) -> Any:
        """Return a description of a function with its default values and the variables that it closes over."""
        function = getattr(value, "__func__", value)
        variables = []
        for cell in getattr(function, "__closure__", None) or ():
            with suppress(ValueError):  # a variable without a value
                variables.append(cell.cell_contents)
        defaults = [getattr(function, name, None) for name in ("__defaults__", "__kwdefaults__")]
        return [self._named(function), self.of(defaults), self.of(variables)]

    def _tensor(self, value: torch.Tensor) -> Any:
        """Return type, shape and digest of a tensor."""
        if nn.parameter.is_lazy(value):
            return "uninitialised"
        if value.grad_fn is not None:
            return "computed from parameters"
        value = value.detach()
        what = [str(value.dtype), str(value.layout), list(value.shape)]
        if value.is_meta:
            return what
        if value.is_quantized:
            per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)
            scale = (
                [self.of(value.q_per_channel_scales()), self.of(value.q_per_channel_zero_points())]
                if per_channel
                else [repr(value.q_scale()), value.q_zero_point()]
            )
            return [*what, scale, self.of(value.int_repr())]
        if value.layout is not torch.strided:
            value = value.to_dense()
        plain = value.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return [*what, hashlib.sha256(plain.view(torch.uint8).numpy().data).hexdigest()]
