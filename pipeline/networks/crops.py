"""The part of an image that remains after resizing and cropping."""

from __future__ import annotations

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


def central_box(width: int, height: int, crop_size: int, resize_size: int) -> Box:
    """Return the centre that is cropped after the shorter side was resized.

    Parameters
    ----------
    width, height : int
        Size of the image in pixels.
    crop_size : int
        Side of the square that is cropped from the resized image, in pixels.
    resize_size : int
        Length of the shorter side after resizing, in pixels.
    """
    side = min(width, height) * crop_size / resize_size
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
