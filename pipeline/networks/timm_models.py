"""The models of timm: names, pretrained weights from the Hugging Face hub, their class names and transform.

timm is an optional dependency. It implements `pipeline.networks.libraries.ModelLibrary`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import NetworkError, listed
from pipeline.kept_values import kept_value
from pipeline.networks.crops import Box, central_box
from pipeline.networks.weight_files import RANDOM
from pipeline.settings import ModelSettings

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn


@dataclass(frozen=True)
class TimmPreset:
    """The transform that belongs to timm's weights; see `pipeline.networks.libraries.WeightsTransform`."""

    transform: Callable[[Image.Image], torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_size: list[int]
    resize_size: list[int]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input, (channels, height, width)."""
        return self.transform(image)


def factory(model: ModelSettings) -> Callable[..., nn.Module]:
    """Return the function that builds the model with randomly initialised weights."""
    timm = _timm()
    _config(model)
    # Not functools.partial: it would let model.arguments replace `pretrained`, which here raises a TypeError.
    return lambda **arguments: timm.create_model(model.name, pretrained=False, **arguments)


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if there are no published weights of this name."""
    _config(model)
    if model.weights != "DEFAULT":
        raise NetworkError(
            f"model.weights must be DEFAULT or random; got '{model.weights}' (timm's '{model.name}'). "
            "Select timm's weights by the tag in model.name, or set model.checkpoint to a file of your own."
        )
    if not _timm().is_model_pretrained(model.name):
        raise NetworkError(
            "model.weights must be random for a model without pretrained weights; got DEFAULT "
            f"(timm's '{model.name}'). Set model.weights=random or model.checkpoint."
        )


def is_published(model: ModelSettings) -> bool:
    """Return whether the weights are pretrained ones, which timm loads itself."""
    return model.checkpoint is None and model.weights != RANDOM


def pretrained(model: ModelSettings) -> nn.Module:
    """Return the model with its pretrained weights; the client of the Hugging Face hub downloads them once."""
    check_weights(model)
    try:
        return cast("nn.Module", _timm().create_model(model.name, pretrained=True, **model.arguments))
    except (OSError, RuntimeError) as error:  # the errors of the hub's client are OSErrors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NetworkError(
            f"model.weights must be downloadable; got timm's '{model.name}', which is not in the cache and could not "
            f"be downloaded ({reason}). Download it yourself and set model.checkpoint, or use model.weights=random."
        ) from error


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the pretrained weights: timm maps an architecture and a tag to a file on the hub."""

    def found() -> dict[str, Any]:
        config = _config(model)
        return {"weights": f"{config.architecture}.{config.tag}", "hub": config.hf_hub_id}

    require()
    return {"timm": version("timm"), **kept_value("timm's weights", model.name, ("timm",), found)}


def architecture(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the architecture: its name, and variables of the environment that timm reads.

    ``TIMM_FUSED_ATTN=0``, for example, adds layers to the attention, and other kernels compute it.
    """
    read = {name: value for name, value in os.environ.items() if name.startswith("TIMM_")}
    return {"name": model.name, **({"environment": read} if read else {})}


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine randomly initialised weights."""
    return {"torch": version("torch"), "timm": version("timm")}


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the first WordNet name of each class for weights trained on ImageNet; None for other weights."""
    data = _timm().data
    subset = data.infer_imagenet_subset(_config(model).to_dict())
    if subset is None:
        return None
    return tuple(text.partition(",")[0] for text in data.ImageNetInfo(subset).label_descriptions())


def preset(model: ModelSettings) -> TimmPreset:
    """Return the transform that belongs to the weights."""
    data = _timm().data
    config = data.resolve_data_config(pretrained_cfg=_config(model).to_dict())
    side = config["input_size"][1]
    return TimmPreset(
        data.create_transform(**config, is_training=False),
        tuple(config["mean"]),
        tuple(config["std"]),
        [side],
        [int(side / config["crop_pct"])],
    )


def visible_box(model: ModelSettings, width: int, height: int) -> Box:
    """Return the part of an image that the network receives: left, top, right, bottom, in pixels."""
    used = preset(model)
    return central_box(width, height, used.crop_size[0], used.resize_size[0])


def _config(model: ModelSettings) -> Any:
    """Return timm's configuration of a model and its weights."""
    timm = _timm()
    architecture, _, tag = model.name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.4)
        raise NetworkError(
            f"model.name must be one of timm's models; got '{model.name}'. Nearest: {listed(near) or 'none'}. "
            "timm.list_models() lists all models."
        )
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise NetworkError(
            f"model.name must end in one of the tags {listed(tags)}, or have no tag; got '{model.name}' (timm)."
        )
    return timm.get_pretrained_cfg(model.name)


def require() -> None:
    """Raise `NetworkError` if timm is not installed."""
    if find_spec("timm") is None:
        raise NetworkError(
            'model.library must be installed; got timm, which is not installed. Run pip install "pcace[timm]".'
        )


def _timm() -> Any:
    """Return the package, which is imported only if it is needed."""
    require()
    import timm

    return timm
