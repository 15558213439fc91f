"""The windows of Swin transformers, and the order of their tokens in the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# The blocks whose order of windows is known, and their packages.
_BLOCKS = {
    "timm.models.swin_transformer.SwinTransformerBlock": "timm",
    "timm.models.swin_transformer_v2.SwinTransformerV2Block": "timm",
    "transformers.models.swin.modeling_swin.SwinLayer": "transformers",
}


@dataclass(frozen=True)
class Windows:
    """How a map of patches is divided into windows.

    Attributes
    ----------
    n_images, height, width : int
        Number of maps, and their size in patches.
    window : (int, int)
        Height and width of a window.
    shift : (int, int)
        Number of patches by which the map is shifted upwards and to the left, around its edges, before it is divided.
    is_padded_first : bool
        Whether the map is extended to a multiple of the window before the shift (transformers, torchvision) or after
        it (timm).
    """

    n_images: int
    height: int
    width: int
    window: tuple[int, int]
    shift: tuple[int, int]
    is_padded_first: bool

    @property
    def counts(self) -> tuple[int, int]:
        """Number of windows, vertically and horizontally."""
        return -(-self.height // self.window[0]), -(-self.width // self.window[1])

    def fits(self, tokens: torch.Tensor) -> bool:
        """Return whether a tensor has the shape of these windows, (n_images * n_windows, window area, n_channels)."""
        n_rows, n_columns = self.counts
        return tuple(tokens.shape[:-1]) == (self.n_images * n_rows * n_columns, self.window[0] * self.window[1])

    def to_image(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the windows as maps, (n_images, height, width, n_channels), without the padding."""
        maps = self._joined(tokens)
        if self.is_padded_first:
            return torch.roll(maps, self.shift, dims=(1, 2))[:, : self.height, : self.width]
        return torch.roll(maps[:, : self.height, : self.width], self.shift, dims=(1, 2))

    def back(self, maps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return maps as tokens of windows; the padding is that of `tokens`."""
        padded = self._joined(tokens)
        opposite = (-self.shift[0], -self.shift[1])
        if self.is_padded_first:
            padded = torch.roll(padded, self.shift, dims=(1, 2)).clone()
            padded[:, : self.height, : self.width] = maps
            padded = torch.roll(padded, opposite, dims=(1, 2))
        else:
            padded = padded.clone()
            padded[:, : self.height, : self.width] = torch.roll(maps, opposite, dims=(1, 2))
        (n_rows, n_columns), (height, width) = self.counts, self.window
        divided = padded.reshape(self.n_images, n_rows, height, n_columns, width, -1).transpose(2, 3)
        return divided.reshape(tokens.shape)

    def _joined(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens as maps that may be shifted and padded."""
        (n_rows, n_columns), (height, width) = self.counts, self.window
        divided = tokens.reshape(self.n_images, n_rows, n_columns, height, width, -1).transpose(2, 3)
        return divided.reshape(self.n_images, n_rows * height, n_columns * width, -1)


Start = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]


def windows_of_block(block: nn.Module) -> tuple[Callable[[], Windows | None] | None, Start | None]:
    """Return the windows in a block of Swin (timm, transformers).

    Parameters
    ----------
    block : Module
        The module that contains the attention layer.

    Returns
    -------
    windows : callable or None
        It returns the windows of the present forward pass, or None if they are not known. None if the block does not
        divide its input into windows.
    start : callable or None
        A forward pre-hook of the block, which records the size of its input.
    """
    package = _BLOCKS.get(f"{type(block).__module__}.{type(block).__name__}")
    if package is None:
        return None, None
    sizes: list[tuple[int, int, int]] = []

    def start(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sizes.clear()
        given = [*args, *kwargs.values()]
        tokens = next((value for value in given if isinstance(value, torch.Tensor)), None)
        if tokens is not None and tokens.ndim == 4:
            sizes.append((tokens.shape[0], tokens.shape[1], tokens.shape[2]))
        elif tokens is not None and tokens.ndim == 3:
            pair = kwargs.get("input_dimensions", args[1] if len(args) > 1 else None)
            if isinstance(pair, tuple | list) and len(pair) == 2 and pair[0] * pair[1] == tokens.shape[1]:
                sizes.append((tokens.shape[0], int(pair[0]), int(pair[1])))

    def windows() -> Windows | None:
        if not sizes:
            return None
        n_images, height, width = sizes[0]
        window, shift = _pair(block.window_size), _pair(block.shift_size)
        return Windows(n_images, height, width, window, shift, package == "transformers")

    return windows, start


def windows_of_torchvision(attention: nn.Module, images: torch.Tensor) -> Windows:
    """Return the windows of torchvision's shifted-window attention for maps, (n_images, height, width, n_channels)."""
    n_images, height, width = images.shape[:3]
    window, shift = _pair(attention.window_size), _pair(attention.shift_size)
    # A map that fits into one window is not shifted.
    shifts = [0 if side <= size else by for side, size, by in zip((height, width), window, shift, strict=True)]
    return Windows(n_images, height, width, window, (shifts[0], shifts[1]), True)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)
