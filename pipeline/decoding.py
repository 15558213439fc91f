"""Decodes image files: which files are accepted as images, and how their pixels are interpreted.

The format is detected from the bytes, never from a file name or an HTTP header. The result is upright, has 8 bits per
channel, and is grey or RGB:

- The EXIF orientation is applied (phones store the image as the sensor sees it).
- Palettes are converted to colours, and transparent pixels are placed on a white background.
- CMYK and YCbCr are converted to RGB by the formulas of Pillow, as in torchvision. ICC profiles are not applied.
- 16-bit grey is scaled from its whole range, 0 to 65535, to 0 to 255.

Not accepted are animations and files with several pages, pixels without a defined range of values (32-bit, float),
truncated files, and images with too many pixels. The number of pixels is read from the header, before decoding.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.settings import MAX_PIXELS

SUFFIXES = {
    "BMP": ".bmp", "GIF": ".gif", "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "PPM": ".ppm", "TIFF": ".tif",
    "WEBP": ".webp",
}  # fmt: skip
FORMATS = tuple(name for name in SUFFIXES if name != "MPO")  # Pillow opens MPO files (several images) as JPEG
PLAIN = ("L", "RGB")
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# Errors that the plug-ins of Pillow raise for damaged or malicious files.
DECODING_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error,
)  # fmt: skip


class ImageError(Exception):
    """Some bytes are not accepted as an image. The message is the reason, in a few words."""


@dataclass(frozen=True)
class Limits:
    """Sizes of accepted images.

    Attributes
    ----------
    min_side : int
        Smallest length of the shorter side, in pixels.
    max_pixels : int
        Largest number of pixels.
    """

    min_side: int = 1
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes
    ----------
    image : PIL.Image.Image
        Upright image of mode L or RGB.
    suffix : str
        Suffix for a file name that suits the format, such as ``.jpg``.
    """

    image: Image.Image
    suffix: str


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Decode a whole image.

    Parameters
    ----------
    data : bytes
        Content of an image file.
    limits : Limits, optional
        Sizes to accept; by default all that Pillow considers safe.

    Raises
    ------
    ImageError
        If `data` is not an image of a supported format, is damaged, is animated, has a size outside of `limits`, or
        has pixels without a defined range of values.
    """
    limits = limits or Limits()
    if not data:
        raise ImageError("empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual EXIF data and palettes, which are handled
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=FORMATS) as opened:
                return Decoded(_pixels(opened, limits), SUFFIXES[opened.format or ""])
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image ({_apparent_kind(data)})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"too large (more than {limits.max_pixels} pixels)") from error
    except DECODING_ERRORS as error:
        raise ImageError(f"damaged ({' '.join(str(error).split()) or type(error).__name__})") from error


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels of shape (height, width) or (height, width, 3) as PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixels(opened: Image.Image, limits: Limits) -> Image.Image:
    """Decode an opened image if its size is accepted."""
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise ImageError(f"too large ({width} x {height} pixels, at most {limits.max_pixels} in all)")
    if min(width, height) < limits.min_side:
        raise ImageError(f"too small ({width} x {height} pixels, at least {limits.min_side} per side)")
    # The first image of an MPO file is the photograph; the others are previews or a second view.
    n_frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
    if n_frames > 1:
        raise ImageError(f"not a single image ({n_frames} frames or pages)")
    opened.load()
    return _plain(ImageOps.exif_transpose(opened))


def _plain(image: Image.Image) -> Image.Image:
    """Convert an image to mode L or RGB, without transparency."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in PLAIN and "transparency" not in image.info:
        return image
    if image.mode in PLAIN:  # one colour means "transparent"
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in WITH_ALPHA:
        is_grey = image.mode in ("LA", "La")
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        return background.convert("L" if is_grey else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "CMYK", "YCbCr", "RGBX"):
        return image.convert("RGB")
    raise ImageError(f"pixels without a defined range (mode {image.mode})")


def _apparent_kind(data: bytes) -> str:
    """Return what the bytes seem to be instead of an image. The most frequent case is a web page."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page"
    if b"<svg" in start:
        return "a vector drawing"
    if b"ftypavif" in start[:32] or b"ftypheic" in start[:32]:
        return "AVIF or HEIC, which are not supported"
    return f"{len(data)} bytes in an unknown format"
