"""The user's network: used in evaluation mode, and left as it was found, also if the ranking is interrupted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.allocator import freed_memory_kept
from pipeline.errors import NetworkError, listed
from pipeline.networks.backends import fixed_backends
from pipeline.networks.forward import evaluated
from pipeline.networks.hooks import attached
from pipeline.networks.layout import canonical_name
from pipeline.settings import selects_several

Model = nn.Module | Callable[..., Any]
"""A network; ``torch.compile`` is declared to return a callable."""

_WRAPPERS = ("module", "_orig_mod")  # DataParallel and its relatives; torch.compile


def unwrapped(model: object) -> nn.Module:
    """Return the network inside of ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    Raises
    ------
    NetworkError
        If the model is not a network that runs in Python.
    """
    while isinstance(model, nn.Module) and _is_wrapper(model):
        model = getattr(model, next(name for name in _WRAPPERS if name in model._modules))
    if not isinstance(model, nn.Module):
        raise NetworkError(f"model must be a torch.nn.Module; got {type(model).__name__}. Pass the network itself.")
    scripted = [
        name or "the network" for name, each in model.named_modules() if isinstance(each, torch.jit.ScriptModule)
    ]
    if scripted:
        raise NetworkError(
            f"model must run in Python, so that the outputs of its layers can be read; got TorchScript modules "
            f"({listed(scripted, 3)}). Pass the network that was scripted or traced."
        )
    lazy = [name for name, parameter in model.named_parameters() if isinstance(parameter, nn.UninitializedParameter)]
    if lazy:
        raise NetworkError(
            f"model must have initialised parameters; got lazy ones ({listed(lazy, 3)}). "
            "Call the network once on a batch of images."
        )
    return model


def _is_wrapper(model: nn.Module) -> bool:
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return True
    return type(model).__name__ == "OptimizedModule" and "_orig_mod" in model._modules


def device_of(network: nn.Module) -> torch.device | None:
    """Return the device of the network's first parameter or buffer; None if it has neither."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return None


def check_device(device: torch.device) -> None:
    """Raise `NetworkError` for a device other than a CPU and a CUDA GPU: MPS, for example, has no float64."""
    if device.type not in ("cpu", "cuda"):
        raise NetworkError(f"model must be on a CPU or a CUDA GPU; got {device.type}. Call model.cpu() first.")


def name_of(network: nn.Module) -> str:
    """Return the name of the network in tables and figures: that of its architecture or of its class."""
    config = getattr(network, "pretrained_cfg", None)  # timm
    architecture = config.get("architecture") if isinstance(config, dict) else getattr(config, "architecture", None)
    return str(architecture or type(network).__name__)


def layer_selection(network: nn.Module, layer: object) -> str | None:
    """Return the text of the setting `layer` if several layers are asked for, and None for one layer.

    Several layers are a list, ``"all"``, or a pattern such as ``"*"`` or ``"layer*.conv2"``.
    """
    if isinstance(layer, list | tuple):
        if not layer:
            raise NetworkError("layer must name at least one layer; got an empty list. Give names or patterns.")
        return ",".join(each if _is_pattern(each) else layer_name(network, each) for each in layer)
    return canonical_name(str(layer)) if _is_pattern(layer) else None


def _is_pattern(layer: object) -> bool:
    return isinstance(layer, str) and selects_several(layer)


def layer_name(network: nn.Module, layer: object) -> str:
    """Return the dotted path of a layer, which is given by its name, in either spelling, or as a module.

    Raises
    ------
    NetworkError
        If the module is not part of the network.
    """
    if isinstance(layer, nn.Module):
        inner: nn.Module = unwrapped(layer)
        names: list[str] = [name for name, module in network.named_modules() if module is inner]
        if not names or not names[0]:
            raise NetworkError(
                f"layer must be a module inside of the network; got {'the network itself' if names else 'another one'} "
                f"({type(layer).__name__}). pcace.layers lists the layers that can be ranked."
            )
        return names[0]
    if not isinstance(layer, str):
        raise NetworkError(
            f"layer must be the name of a layer or a module; got {type(layer).__name__}. "
            "pcace.layers lists the layers that can be ranked."
        )
    return _known_name(network, canonical_name(layer))


def _known_name(network: nn.Module, name: str) -> str:
    """Return the name in the network without wrappers of a layer that was named in the network with them."""
    known = {module for module, _ in network.named_modules()}
    shorter = name
    while shorter not in known and shorter.partition(".")[0] in _WRAPPERS:
        shorter = shorter.partition(".")[2]
    return shorter if shorter in known else name


@contextmanager
def borrowed(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode inside the context, and restore its state and all random generators at the end.

    Its training flags and its buffers are restored, as are the global random generators of Python, NumPy and PyTorch
    (of the CPU and of the network's GPU). Inside the context, compiled parts of the network run without compilation,
    because hooks are not called in compiled code, and gradients can be computed, also if the caller is inside of
    ``torch.inference_mode`` or ``torch.no_grad``.

    Parameters
    ----------
    network : Module
        The network.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(fixed_backends())
        stack.enter_context(freed_memory_kept())
        devices = {each.device.index for each in network.parameters() if each.device.type == "cuda"} - {None}
        stack.enter_context(random_states_kept(sorted(devices)))
        stack.enter_context(_buffers(network))
        stack.enter_context(_evaluating(network))
        stack.enter_context(_uncompiled(network))
        yield


@contextmanager
def random_states_kept(devices: Sequence[int] = ()) -> Iterator[None]:
    """Restore the global random generators of Python, NumPy and PyTorch at the end; also a decorator of functions.

    Parameters
    ----------
    devices : sequence of int
        Indices of the GPUs whose generators are restored as well.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global generator)
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


@contextmanager
def _buffers(network: nn.Module) -> Iterator[None]:
    saved = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in saved:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    try:
        if any(is_training for _, is_training in modes):
            evaluated(network)
        yield
    finally:
        if network.training != modes[0][1]:
            network.train(modes[0][1])  # a network may do more than to set flags here
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def _uncompiled(network: nn.Module) -> Iterator[None]:
    def is_compiled(module: nn.Module) -> bool:
        return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None

    if any(is_compiled(module) for module in network.modules()):
        stance: Any = torch.compiler.set_stance("force_eager")
        with stance:
            yield
    else:
        yield


@contextmanager
def adapted(network: nn.Module, keyword: str | None, score: Callable[[Any], torch.Tensor] | None) -> Iterator[None]:
    """Change how a network is called, by hooks that are removed at the end of the context.

    Parameters
    ----------
    network : Module
        The network.
    keyword : str or None
        Name of the argument that images are passed as; None: the first argument.
    score : callable or None
        From the network's outputs to one number for each image, (n_images,), which becomes its only output,
        (n_images, 1). None: the outputs stay as they are.
    """

    def pass_by_name(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        return (), {**kwargs, str(keyword): args[0]}

    def scored(_module: nn.Module, _args: tuple[Any, ...], outputs: Any) -> torch.Tensor:
        assert score is not None
        return score(outputs)[:, None]

    handles = []
    if keyword is not None:
        handles.append(network.register_forward_pre_hook(pass_by_name, with_kwargs=True))
    if score is not None:
        handles.append(network.register_forward_hook(scored))
    with attached(handles):
        yield
