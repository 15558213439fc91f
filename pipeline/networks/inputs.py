"""From image files to the network's input: decode, transform, stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.decoding import ImageError, decode
from pipeline.errors import InputError
from pipeline.networks.load import preset
from pipeline.settings import ModelSettings

ToInput = Callable[[Image.Image], torch.Tensor]

SMALL_INPUT = 32  # pixels a side: up to here, maximisation and removal take seconds on a CPU


def to_input(model: ModelSettings) -> ToInput:
    """Return the function that turns a decoded image into the network's input, (channels, height, width)."""
    from torchvision import transforms  # late, see torchvision_models.py

    transform = model.transform
    if transform.kind == "weights":
        return cast(ToInput, preset(model))
    steps: list[Callable[..., Any]] = []
    if transform.kind == "resize":
        steps.append(transforms.Resize((transform.size, transform.size)))
    # ToTensor divides by 255. Version 2's ToDtype multiplies by 1/255, which differs in the last digit, and so far
    # down the road in the third digit of some scores (docs/decisions/0003).
    steps += [transforms.ToTensor(), transforms.Normalize(list(transform.mean), list(transform.std))]
    return cast(ToInput, transforms.Compose(steps))


def open_image(path: Path, n_channels: int) -> Image.Image:
    """Return the decoded image (see `pipeline.decoding`), grey for networks of one input channel, otherwise RGB."""
    try:
        return decode(path.read_bytes()).image.convert("L" if n_channels == 1 else "RGB")
    except ImageError as error:  # it decoded when it was fetched
        raise InputError(f"every image in the store must decode; got {path} ({error}). Remove its folder.") from error


def load_batch(paths: Sequence[Path], model: ModelSettings, transform: ToInput) -> torch.Tensor:
    """Return the images as one tensor, (n_images, channels, height, width).

    Raises
    ------
    InputError
        If they differ in size after the transform.
    """
    inputs = [transform(open_image(path, model.input_size[0])) for path in paths]
    sizes = {tuple(image.shape[1:]) for image in inputs}
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])
        raise InputError(
            f"images must have one size when model.transform.kind=none; got {found} pixels. "
            "Set model.transform.kind=resize, or use images of one size."
        )
    return torch.stack(inputs)


def normalization(model: ModelSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation, (channels, 1, 1) each: the network's input is (pixel - mean) / deviation."""
    own = preset(model) if model.transform.kind == "weights" else model.transform
    return torch.tensor(own.mean).view(-1, 1, 1), torch.tensor(own.std).view(-1, 1, 1)


def to_pixels(inputs: torch.Tensor, model: ModelSettings) -> torch.Tensor:
    """Return the network's input with its normalisation undone, in [0, 1]; same shape."""
    mean, std = normalization(model)
    return (inputs * std.to(inputs.device) + mean.to(inputs.device)).clamp(0, 1)


def to_pictures(inputs: torch.Tensor, model: ModelSettings) -> list[NDArray[np.uint8]]:
    """Return what the network saw, normalisation undone: (height, width) if grey, else (height, width, 3)."""
    pictures = (to_pixels(inputs.cpu(), model) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [picture[..., 0] if picture.shape[-1] == 1 else picture for picture in pictures]


def seen_box(model: ModelSettings, width: int, height: int) -> tuple[float, float, float, float]:
    """Return what part of an image of `width` x `height` pixels the network sees: left, top, right, bottom.

    All of it, but for the weights' own transform: that cuts out the centre.
    """
    if model.transform.kind != "weights":
        return 0.0, 0.0, float(width), float(height)
    own = preset(model)
    side = min(width, height) * own.crop_size[0] / own.resize_size[0]
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
