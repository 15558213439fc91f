"""From image files to the network's input: decode, transform, stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from pipeline.errors import InputError
from pipeline.images import ImageError, decode
from pipeline.networks.load import preset
from pipeline.settings import ModelSettings

ToInput = Callable[[Image.Image], torch.Tensor]


def to_input(model: ModelSettings) -> ToInput:
    """Return the function that turns a decoded image into the network's input, (channels, height, width)."""
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
    """Return the decoded image (see `pipeline.images`), grey for networks of one input channel, otherwise RGB."""
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


def to_pictures(inputs: torch.Tensor, model: ModelSettings) -> list[NDArray[np.uint8]]:
    """Return what the network saw, normalisation undone: (height, width) if grey, else (height, width, 3)."""
    if model.transform.kind == "weights":
        own = preset(model)
        mean, std = own.mean, own.std
    else:
        mean, std = model.transform.mean, model.transform.std
    shape = (1, -1, 1, 1)
    pixels = inputs.cpu() * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    pictures = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [picture[..., 0] if picture.shape[-1] == 1 else picture for picture in pictures]
