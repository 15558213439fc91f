"""From an image file's bytes to pixels: one place that says what is an image, and what its pixels mean.

Formats are told by their bytes, never by a name or a header. What comes out is upright, 8 bits deep, grey or RGB:

- turned as its EXIF orientation says (phones store the sensor's view);
- a palette becomes colours; what is transparent is laid on white;
- CMYK and YCbCr become RGB by Pillow's formulas, as torchvision does (ICC profiles are not applied);
- 16-bit grey is scaled from 0..65535 to 0..255, its whole declared range.

Refused: moving pictures and files of several pages, depths without a declared range (32-bit, float), what is truncated,
and more pixels than asked for, which is told from the header before anything is decoded.
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
READ = tuple(name for name in SUFFIXES if name != "MPO")  # to Pillow, MPO is a JPEG that turns out to hold several
PLAIN = ("L", "RGB")
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# What Pillow raises at broken or hostile bytes; its plug-ins are not of one mind.
BROKEN = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error)


class ImageError(Exception):
    """Why some bytes are not taken for an image, in a few words."""


@dataclass(frozen=True)
class Limits:
    """What is still an image: pixels on its shorter side, pixels in all."""

    min_side: int = 1
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Decoded:
    """An upright image, 8 bits deep, of mode L or RGB, and the file name's suffix that suits its format."""

    image: Image.Image
    suffix: str


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Return the image in `data`, decoded to its last row.

    Raises
    ------
    ImageError
        If it is no image, broken, moving, too small, too large, or of a depth without a declared range.
    """
    limits = limits or Limits()
    if not data:
        raise ImageError("empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF and palettes, which the rules above settle
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=READ) as opened:
                return Decoded(_pixels(opened, limits), SUFFIXES[opened.format or ""])
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image ({_looks_like(data)})") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"more than {limits.max_pixels} pixels") from error
    except BROKEN as error:
        raise ImageError(f"broken ({' '.join(str(error).split()) or type(error).__name__})") from error


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (height, width) or (height, width, 3) pixels as the bytes of a PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixels(opened: Image.Image, limits: Limits) -> Image.Image:
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise ImageError(f"{width} x {height}, more than {limits.max_pixels} pixels")
    if min(width, height) < limits.min_side:
        raise ImageError(f"too small ({width} x {height} pixels, at least {limits.min_side} a side)")
    n_frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)  # an MPO's first is the photograph
    if n_frames > 1:
        raise ImageError(f"{n_frames} frames or pages, not one picture")
    opened.load()
    return _plain(ImageOps.exif_transpose(opened))


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in PLAIN and "transparency" not in image.info:
        return image
    if image.mode in PLAIN:  # one colour stands for "transparent"
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in WITH_ALPHA:
        is_grey = image.mode in ("LA", "La")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        return paper.convert("L" if is_grey else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "CMYK", "YCbCr", "RGBX"):
        return image.convert("RGB")
    raise ImageError(f"pixels of mode {image.mode}, which have no declared range")


def _looks_like(data: bytes) -> str:
    """Say what the bytes seem to be instead: a web page is the common case."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page"
    if b"<svg" in start:
        return "a vector drawing"
    if b"ftypavif" in start[:32] or b"ftypheic" in start[:32]:
        return "AVIF or HEIC, which are not read"
    return f"{len(data)} bytes of something else"
