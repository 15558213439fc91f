"""The image classifiers of transformers: from a local folder, from the Hugging Face hub, or with random weights.

`model.name` is one of these:

- a folder that ``save_pretrained`` has written: configuration, weights and, for the transform, the image processor;
- ``hf-hub:OWNER/NAME`` or ``hf-hub:OWNER/NAME@REVISION``, a model on the hub, which is downloaded once;
- a type of model, such as ``vit``, with random weights; `model.arguments` changes values of its configuration.

transformers is an optional dependency. This module implements `pipeline.networks.libraries.ModelLibrary`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.class_labels import class_labels
from pipeline.networks.crops import Box
from pipeline.networks.fingerprint import digest_of_values
from pipeline.networks.forward import described
from pipeline.networks.image_processors import TransformersPreset, of_processor, plain
from pipeline.networks.transformers_sources import (
    HUB,
    classifiers,
    commit_of,
    config_error,
    config_of,
    is_type,
    package,
    place_of,
    quiet,
    read_from,
)
from pipeline.networks.weight_files import RANDOM
from pipeline.settings import ModelSettings

DEFAULT_SIDE = 224  # of the images, in pixels, for types of models that process images of any size
# Values of a configuration that do not change what the network computes.
_NOT_COMPUTED = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version", "problem_type")


def factory(model: ModelSettings) -> Callable[..., nn.Module]:
    """Return the function that builds the model with randomly initialised weights."""
    classifier = _classifier(model, config_of(model.name, {}))

    def build(**arguments: Any) -> nn.Module:
        config = config_of(model.name, arguments)
        with quiet(), _reported(model, arguments):
            network: nn.Module = classifier._from_config(config)
        return network

    return build


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if there are no weights of this name."""
    _classifier(model, config_of(model.name, model.arguments))
    if model.weights != "DEFAULT":
        raise NetworkError(
            f"model.weights must be DEFAULT or random; got '{model.weights}' (transformers' '{model.name}'). "
            "Set model.name to the folder of the weights, or model.checkpoint to a file."
        )
    if is_type(model.name):
        raise NetworkError(
            f"model.weights must be random for a type of model; got DEFAULT (transformers' '{model.name}'). "
            f"Set model.weights=random or model.checkpoint, or set model.name to a folder or to {HUB}OWNER/NAME."
        )
    if not model.name.startswith(HUB):
        pretrained(model)  # it is cheap to read a folder


def is_published(model: ModelSettings) -> bool:
    """Return whether the weights are those of the folder or the hub, which transformers loads itself."""
    return model.checkpoint is None and model.weights != RANDOM


def pretrained(model: ModelSettings) -> nn.Module:
    """Return the model with its weights; those on the hub are downloaded once.

    Raises
    ------
    NetworkError
        If the weights cannot be read, or if some of the network's weights are missing, which would be random.
    """
    config = config_of(model.name, model.arguments)
    classifier = _classifier(model, config)
    if is_type(model.name):
        check_weights(model)
    with quiet(), _reported(model, model.arguments):
        network, found = read_from(
            classifier.from_pretrained, model.name,
            config=config, output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    lacking = sorted({*found["missing_keys"], *(each[0] for each in found["mismatched_keys"])})
    if lacking:
        raise NetworkError(
            f"model.name must have all weights of a {classifier.__name__}; got '{model.name}', which lacks or has in "
            f"another shape: {listed(lacking, 3)}. Check model.arguments, or use model.weights=random."
        )
    result: nn.Module = network
    return result


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the weights: the values in a folder, or the commit of a model on the hub."""
    if model.name.startswith(HUB):
        config_of(model.name, model.arguments)  # reports a model that is not there
        return {"hub": place_of(model.name), "commit": commit_of(model.name)}
    return {"values": digest_of_values(pretrained(model))}


def architecture(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the architecture and the transform of the weights, without the name of the folder."""
    config = config_of(model.name, model.arguments)
    values = {name: value for name, value in config.to_dict().items() if name not in _NOT_COMPUTED}
    found = {
        "name": _classifier(model, config).__name__,
        "configuration": {**_plain(values), "num_labels": config.num_labels},
    }
    if model.transform.kind == "weights":
        found["processor"] = _plain(preset(model).description)
    return found


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine randomly initialised weights."""
    return {"torch": version("torch"), "transformers": version("transformers")}


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the names of the outputs that the configuration contains; None if it only numbers them."""
    return class_labels(config_of(model.name, model.arguments).id2label)


def preset(model: ModelSettings) -> TransformersPreset:
    """Return the transform of the image processor that was saved with the model.

    A type of model has none: images are resized to the size in its configuration, and normalised with the mean and the
    standard deviation in the settings.
    """
    config = config_of(model.name, model.arguments)
    if is_type(model.name):
        return plain(_sides(config), model.transform.mean, model.transform.std)
    transformers = package()
    try:
        with quiet():
            processor = read_from(transformers.AutoImageProcessor.from_pretrained, model.name)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise NetworkError(
            "model.transform.kind must be resize or none for a model without an image processor; got weights "
            f"('{model.name}', {described(error)}). Set model.transform.kind, mean and std, or save the processor in "
            "the folder with save_pretrained."
        ) from error
    return of_processor(processor, model.name)


def visible_box(model: ModelSettings, width: int, height: int) -> Box:
    """Return the part of an image that the network receives: left, top, right, bottom, in pixels."""
    return preset(model).visible_box(width, height)


def _classifier(model: ModelSettings, config: Any) -> Any:
    """Return the class of the network; raise `NetworkError` if it has no class scores."""
    known = classifiers().get(config.model_type, ())
    named = list(config.architectures or ())
    fitting = [name for name in named if name in known] if named else list(known[:1])
    if not fitting:
        found = listed(named) if named else f"the type {config.model_type}"
        raise NetworkError(
            f"model.name must be a network with class scores (ForImageClassification); got '{model.name}' with "
            f"{found}, which returns something else. Save it with a classifier, or set model.factory to a network of "
            "your own that computes a score from it."
        )
    return getattr(package(), fitting[0])


def _sides(config: Any) -> tuple[int, int]:
    """Return height and width of the images that a configuration states."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or DEFAULT_SIDE
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _plain(value: Any) -> Any:
    """Return a value of a configuration in plain JSON types."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


@contextmanager
def _reported(model: ModelSettings, arguments: Mapping[str, Any]) -> Iterator[None]:
    """In this context, errors of transformers while it builds or loads a network become a `NetworkError`."""
    try:
        yield
    except Exception as error:  # any code of a model may raise any error
        if arguments:
            raise config_error(model.name, arguments, error) from error
        raise NetworkError(
            f"model.name must be a model that transformers can build and load; got '{model.name}' "
            f"({described(error)}). Save it again with save_pretrained, or use model.weights=random."
        ) from error
