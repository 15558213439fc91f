"""What determines the outputs of a network, for the keys of artifacts; see docs/decisions/0081."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pipeline.digests import digest_file
from pipeline.kept_values import kept_value
from pipeline.networks.declared import packages_of
from pipeline.networks.libraries import library
from pipeline.networks.portable import portable
from pipeline.networks.remembered import remember
from pipeline.networks.user_code import code_of
from pipeline.networks.weight_files import RANDOM, checkpoint_path, require_checkpoint
from pipeline.settings import ModelSettings


def identity(model: ModelSettings, seed: int) -> dict[str, Any]:
    """Return what determines the network's outputs, in plain JSON types: architecture and weights, and no paths.

    A network of the user is built and its weights are loaded, on the CPU, because its factory may read any file. A
    model of a library is identified by its name, its weights and the version of the library, without building it.

    Parameters
    ----------
    model : ModelSettings
        The network.
    seed : int
        Seed of random weights.

    Raises
    ------
    NetworkError
        If the network cannot be built, or its weights do not exist or do not fit.
    """
    return remember("identity", model, seed, lambda: _identity(model, seed))


def _identity(model: ModelSettings, seed: int) -> dict[str, Any]:
    """Return what `identity` does, without remembering it."""
    arguments = portable(model.arguments)
    if model.factory is not None:
        found = _fingerprint(model, seed)
        modules = {*found["modules"], model.factory.partition(":")[0]}
        return {
            "architecture": {"factory": model.factory, "arguments": arguments, **code_of(modules)},
            "weights": {"fingerprint": found["digest"]},
        }
    used = library(model)
    path = checkpoint_path(model)
    if path is not None:
        weights: dict[str, Any] = {"sha256": digest_file(require_checkpoint(path))}
        if used.is_published(model):
            weights["published"] = path.name
    elif model.weights == RANDOM:
        weights = {"random": seed, **used.versions()}
    else:
        weights = used.identity(model)
    if model.randomized:
        weights = {**weights, "randomized": model.randomized, "random": seed, **used.versions()}
    architecture = {
        "library": model.library,
        "version": version(model.library).partition("+")[0],  # without the name of a build, such as +cpu
        **used.architecture(model),
        "arguments": arguments,
    }
    return {"architecture": architecture, "weights": weights}


def _fingerprint(model: ModelSettings, seed: int) -> dict[str, Any]:
    """Return the digest of the fingerprint of a network that a factory builds, and the modules of its code.

    It is kept for a network of this package whose weights are all in a file.
    """

    def found() -> dict[str, Any]:
        from pipeline.networks.fingerprint import fingerprint
        from pipeline.networks.load import load_on_cpu

        made = fingerprint(load_on_cpu(model, seed))
        return {"digest": made.digest, "modules": sorted(made.modules)}

    path = checkpoint_path(model)
    if path is None or model.randomized or not packages_of(model):
        return found()
    inputs = [model.factory, model.arguments, digest_file(require_checkpoint(path)), list(model.input_size)]
    return dict(kept_value("fingerprint", inputs, packages_of(model), found))
