"""timm's models (an extra): names, pretrained weights from the Hugging Face hub, and what goes with these."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image

from pipeline.errors import NetworkError, listed
from pipeline.settings import ModelSettings


@dataclass(frozen=True)
class TimmPreset:
    """The weights' own transform, under the names that torchvision's have."""

    transform: Callable[[Image.Image], torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_size: list[int]
    resize_size: list[int]

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input, (channels, height, width)."""
        return self.transform(image)


def factory(model: ModelSettings) -> Any:
    """Return the callable that builds the model, with weights freshly drawn."""
    timm = _timm()
    _config(model)
    return lambda **arguments: timm.create_model(model.name, pretrained=False, **arguments)


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` where there are no weights of that name."""
    _config(model)
    if model.weights != "DEFAULT":
        raise NetworkError(
            f"model.weights must be DEFAULT or random; got '{model.weights}' (timm's '{model.name}'). "
            "timm's weights are chosen by the tag in model.name; for a file of your own, set model.checkpoint."
        )
    if not _timm().is_model_pretrained(model.name):
        raise NetworkError(
            f"model.weights must be random for a model without pretrained weights; got DEFAULT (timm's '{model.name}')."
        )


def state_dict(model: ModelSettings) -> dict[str, torch.Tensor]:
    """Return the pretrained weights, downloaded once by the Hugging Face hub's client."""
    check_weights(model)
    try:
        return dict(_timm().create_model(model.name, pretrained=True, **model.arguments).state_dict())
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NetworkError(
            f"model.weights must be downloadable; timm's '{model.name}' is not here and could not be fetched "
            f"({reason}). Download it by hand and set model.checkpoint, or use model.weights=random."
        ) from error


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what decides the pretrained weights: timm says which file on the hub an architecture and a tag mean."""
    config = _config(model)
    return {"timm": version("timm"), "weights": f"{config.architecture}.{config.tag}", "hub": config.hf_hub_id}


def versions() -> dict[str, str]:
    """Return the versions that decide freshly drawn weights."""
    return {"torch": version("torch"), "timm": version("timm")}


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the names of the outputs: each one's first in WordNet, for weights trained on ImageNet; else None."""
    data = _timm().data
    subset = data.infer_imagenet_subset(_config(model).to_dict())
    if subset is None:
        return None
    return tuple(text.partition(",")[0] for text in data.ImageNetInfo(subset).label_descriptions())


def preset(model: ModelSettings) -> TimmPreset:
    """Return the weights' own transform."""
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


def _config(model: ModelSettings) -> Any:
    """Return timm's description of a model and its weights."""
    timm = _timm()
    architecture, _, tag = model.name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.4)
        raise NetworkError(
            f"model.name must be one of timm's models; got '{model.name}'. Nearest: {listed(near) or 'none'}. "
            "timm.list_models() lists all."
        )
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise NetworkError(
            f"model.name must end in one of the tags {listed(tags)}, or in none; got '{model.name}' (timm)."
        )
    return timm.get_pretrained_cfg(model.name)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise NetworkError(
            'model.library must be installed; got timm, which is not. Install it: pip install "pcace[timm]".'
        ) from error
    return timm
