"""The factories of networks of the user (`model.factory`): finding them, and calling them with `model.arguments`."""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.backends import fixed_backends
from pipeline.networks.fingerprint import fingerprint
from pipeline.networks.forward import reported_errors
from pipeline.settings import ModelSettings

# Whether a factory returns the same object in every call with the same arguments, by the id of its module, its name and
# the arguments. The module is kept, so that no other one is given its id.
_IS_SHARED: dict[tuple[int, str, str], tuple[ModuleType, bool]] = {}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators of PyTorch (CPU), NumPy and Python in the context, and restore them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            # Seed the CPU's generator, which initialises weights; torch.manual_seed would also queue a call for every
            # GPU.
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def import_factory(path: str) -> Callable[..., Any]:
    """Return the callable that `model.factory` names.

    Parameters
    ----------
    path : str
        In the form ``package.module:callable``.

    Raises
    ------
    NetworkError
        If it cannot be imported, or is not callable.
    """
    module_name, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:  # `python -m` adds the working folder, the script `pcace` does not
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise NetworkError(
            f"model.factory must be importable as package.module:callable; got {path} ({error}). "
            "Run from the folder that contains the package, or install it."
        ) from error
    if not callable(factory) or isinstance(factory, nn.Module):
        raise NetworkError(
            f"model.factory must be a function, a class or another callable that returns a network; got {path}, an "
            f"object of the type {type(factory).__name__}. Name a function that returns it."
        )
    found: Callable[..., Any] = factory
    return found


@fixed_backends()
def call_factory(model: ModelSettings, seed: int, finish: Callable[[object], None]) -> nn.Module:
    """Return the network that the factory of the user builds, on the CPU; of a shared object, a copy.

    The first call for a factory and its arguments is repeated, to find out whether it returns the same object again
    (`functools.lru_cache`, a variable of the module), and whether it builds the same network. Settings of PyTorch's
    backends that the factory or its module changes are restored, see `fixed_backends`.

    Parameters
    ----------
    model : ModelSettings
        The network.
    seed : int
        Seed of the random generators.
    finish : callable
        Called with what the factory returns, with the same random generators. It raises `NetworkError` if that is not a
        network.

    Raises
    ------
    NetworkError
        If the factory cannot be imported, if it has other arguments or raises an exception, if a second call builds
        another network, or if a shared object cannot be copied.
    """
    assert model.factory is not None
    named = [f"{name}={value}" for name, value in model.arguments.items()]
    context, hint = f"model.arguments: {listed(named) or 'none'}", "Correct model.arguments or the code."
    with seeded(seed), reported_errors("model.factory must build the network", context, hint):
        factory = import_factory(model.factory)
    check_arguments(factory, model.arguments, f"model.factory={model.factory}")

    def call() -> nn.Module:
        with seeded(seed), torch.device("cpu"):
            with reported_errors("model.factory must build the network", context, hint):
                network: nn.Module = factory(**model.arguments)
            finish(network)
        return network

    module = sys.modules[model.factory.partition(":")[0]]
    network, key = call(), (id(module), model.factory, json.dumps(model.arguments, sort_keys=True, default=str))
    if key not in _IS_SHARED:
        again = call()
        if again is not network:
            _check_equal(network, again, model.factory)
        _IS_SHARED[key] = module, again is network
    return _copied(network, model.factory) if _IS_SHARED[key][1] else network


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], context: str, *, all_required: bool = True
) -> None:
    """Raise `NetworkError` if a function does not have these arguments, and say which it has.

    Parameters
    ----------
    function : callable
        The factory, or the class of the network.
    arguments : mapping
        The value of `model.arguments`.
    context : str
        Name of the network, for the message.
    all_required : bool
        Whether all arguments without a default value must be given.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C have no signature
        return
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    unknown = [] if takes_any else [name for name in arguments if name not in named]
    missing = [name for name, each in named.items() if each.default is each.empty and name not in arguments]
    near = {match for name in unknown for match in difflib.get_close_matches(name, named)}
    names = sorted(named, key=lambda name: name not in near)  # the nearest ones first
    has = f"its arguments are {listed(names)}" if named else "it has no arguments"
    if unknown:
        raise NetworkError(
            f"model.arguments must be arguments of the network; got {listed(unknown)} ({context}; {has}). "
            "Correct or remove them."
        )
    if missing and all_required:
        raise NetworkError(
            f"model.arguments must contain {listed(missing)}; got {listed(list(arguments)) or 'none'} "
            f"({context}; {has}). Add +model.arguments.{missing[0]}=... to the command."
        )


def _check_equal(network: nn.Module, again: nn.Module, factory: str) -> None:
    """Raise `NetworkError` if two networks differ that one factory has built with the same seed."""
    first, second = (fingerprint(each).entries for each in (network, again))
    if first != second:
        different = [name.strip() for name in {**first, **second} if first.get(name) != second.get(name)]
        raise NetworkError(
            f"model.factory must build the same network in every call; got different values of {listed(different, 3)} "
            f"({factory}, called twice with one seed). Seed its random numbers, and keep times out of its attributes."
        )


def _copied(network: nn.Module, factory: str) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise NetworkError(
            f"model.factory must return a new network in every call; got the same object twice ({factory}), which "
            f"cannot be copied ({str(error).splitlines()[0]}). Build the network inside of the factory."
        ) from error
