"""Decodes image files: which files are accepted as images, and how their pixels are interpreted.

The format is detected from the bytes, never from a file name or an HTTP header. The result is upright, has 8 bits per
channel, and is grey or RGB:

- The EXIF orientation is applied (phones store the image as the sensor sees it).
- Palettes are converted to colours, and transparent pixels are placed on a white background. Transparency that has no
  meaning is ignored: an alpha channel that is 0 everywhere in a BMP, where many programs leave these bytes unset, and
  transparency that would leave a single colour of an image whose own colours differ.
- CMYK, YCbCr and LAB are converted to RGB by the formulas of Pillow, as in torchvision. ICC profiles are not applied.
- 16-bit grey is scaled from its whole range, 0 to 65535, to 0 to 255; 12-bit grey (TIFF) from 0 to 4095. Of 16-bit
  colours, Pillow keeps the upper 8 bits.

For all other images, the pixels are those of Pillow's own ``convert("RGB")``.

Not accepted are animations and files with several pages, pixels without a defined range of values (32-bit, float),
files whose pixels are incomplete, and images with too many pixels. The number of pixels is read from the header, before
decoding. Damaged or very large metadata (EXIF, text, ICC profiles) do not matter, nor does a missing end marker.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.digests import digest_bytes
from pipeline.image_metadata import JPEG_START, PNG_SIGNATURE, completed_jpegs, without_metadata
from pipeline.pillow_warnings import ignored_warnings
from pipeline.settings import MAX_PIXELS

SUFFIXES = {
    "BMP": ".bmp", "GIF": ".gif", "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "PPM": ".ppm", "TIFF": ".tif",
    "WEBP": ".webp",
}  # fmt: skip
FORMATS = tuple(name for name in SUFFIXES if name != "MPO")  # Pillow opens MPO files (several images) as JPEG
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SIGNATURES = {
    b"BM": "BMP", b"GIF8": "GIF", JPEG_START: "JPEG", PNG_SIGNATURE: "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF",
}  # fmt: skip
PNG_DEPTH = 24  # position of the number of bits per channel in a PNG
TIFF_DEPTH, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


class ImageError(Exception):
    """Some bytes are not accepted as an image. The message is the reason, in a few words."""


class _DamagedError(ImageError):
    """The bytes cannot be decoded as they are; without their metadata it may be possible."""


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

    @property
    def digest(self) -> str:
        """Digest of the pixels in RGB: two images with the same digest are the same image, whatever their files are."""
        width, height = self.image.size
        return digest_bytes(f"{width}x{height}:".encode() + self.image.convert("RGB").tobytes())


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
        return _decoded(data, limits)
    except _DamagedError:
        reduced = without_metadata(data)
        if reduced is not None:
            try:
                return _decoded(reduced, limits)
            except _DamagedError:
                data = reduced
        if data.startswith(JPEG_START) and (completed := _completed_jpeg(data, limits)) is not None:
            return completed
        raise


def decode_whole(data: bytes, limits: Limits | None = None) -> Decoded:
    """Decode an image as `decode`, and refuse a JPEG that has an end marker but not all of its pixels.

    Such a file is decoded without an error, with grey in place of the missing pixels. The check decodes it twice more.
    """
    decoded = decode(data, limits)
    if decoded.suffix == ".jpg":
        for version in completed_jpegs(data):
            try:
                is_same = decode(version, limits).image.tobytes() == decoded.image.tobytes()
            except ImageError:
                is_same = False
            if not is_same:
                raise ImageError("damaged (pixels are missing before the end marker)")
    return decoded


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels of shape (height, width) or (height, width, 3) as PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _decoded(data: bytes, limits: Limits) -> Decoded:
    """Decode bytes as they are."""
    try:
        with ignored_warnings(), Image.open(BytesIO(data), formats=FORMATS) as opened:
            return Decoded(_pixels(opened, data, limits), SUFFIXES[opened.format or ""])
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _DamagedError(_apparent_kind(data)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large (more than {limits.max_pixels} pixels)") from error
    except Exception as error:  # the plug-ins of Pillow raise errors of any type for damaged or malicious files
        raise _DamagedError(f"damaged ({' '.join(str(error).split()) or type(error).__name__})") from error


def _completed_jpeg(data: bytes, limits: Limits) -> Decoded | None:
    """Decode a JPEG that lacks nothing but its end marker; return None for any other."""
    try:
        first, *others = (_decoded(version, limits) for version in completed_jpegs(data))
    except _DamagedError:
        return None
    is_complete = all(other.image.tobytes() == first.image.tobytes() for other in others)
    return first if is_complete else None


def _pixels(opened: Image.Image, data: bytes, limits: Limits) -> Image.Image:
    """Decode an opened image if its size is accepted."""
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise ImageError(f"too large ({width} x {height} pixels, at most {limits.max_pixels} in all)")
    if min(width, height) < limits.min_side:
        raise ImageError(f"too small ({width} x {height} pixels, at least {limits.min_side} per side)")
    n_frames = _n_frames(opened.format or "", data)
    if n_frames > 1:
        raise ImageError(f"not a single image ({n_frames} frames or pages)")
    opened.load()
    return _upright(opened, _plain(opened, data))


def _n_frames(form: str, data: bytes) -> int:
    """Return the number of frames or pages. What follows the first image counts only if it can be parsed."""
    if form == "MPO":  # the first image is the photograph; the others are previews or a second view
        return 1
    try:
        with Image.open(BytesIO(data), formats=(form,)) as opened:  # a failure would leave a shared file at any place
            return int(getattr(opened, "n_frames", 1))
    except Exception:
        return 1


def _upright(opened: Image.Image, image: Image.Image) -> Image.Image:
    """Rotate or mirror `image` as the metadata of `opened` say; metadata that cannot be read say nothing."""
    try:
        method = TRANSPOSITIONS.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image if method is None else image.transpose(method)


def _plain(image: Image.Image, data: bytes) -> Image.Image:
    """Convert an image to mode L or RGB, without transparency."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _from_16_bits(image)
    if "transparency" in image.info:
        image = _with_alpha(image, data)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in WITH_ALPHA:
        return _on_white(image)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "CMYK", "YCbCr", "LAB", "RGBX"):
        return image.convert("RGB")
    raise ImageError(f"pixels without a defined range (mode {image.mode})")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey levels from 16 bits, or from the 12 bits that some TIFF files have, to 8 bits."""
    levels = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})
    largest = 4095 if tags.get(TIFF_DEPTH) == (12,) else 65535
    if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts grey of 8 bits only
        levels = largest - levels
    grey = Image.fromarray(((levels * 255 + largest // 2) // largest).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    is_opaque = levels != image.info["transparency"]
    return _on_white(Image.merge("LA", (grey, Image.fromarray(is_opaque.astype(np.uint8) * 255))))


def _with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """Convert the colour or the palette's entries that mean "transparent" to an alpha channel.

    Pillow gives such a colour of a PNG in the file's number of bits, but the pixels in 8 bits.
    """
    if image.mode != "P" and data.startswith(PNG_SIGNATURE):
        depth, colour = data[PNG_DEPTH], image.info["transparency"]
        if depth == 16:
            image.info["transparency"] = tuple(level >> 8 for level in colour)
        elif depth in (2, 4):
            image.info["transparency"] = colour * 255 // (2**depth - 1)
    return image.convert("LA" if image.mode in ("1", "L") else "RGBA")


def _on_white(image: Image.Image) -> Image.Image:
    """Place an image with an alpha channel on white, unless its transparency has no meaning."""
    kind = "L" if image.mode == "LA" else "RGB"
    pixels = image.convert("RGBA")
    colours = pixels.convert("RGB")
    if image.format == "BMP" and pixels.getchannel("A").getextrema() == (0, 0):
        return colours
    background = Image.new("RGBA", pixels.size, "white")
    background.alpha_composite(pixels)
    visible = background.convert("RGB")
    return (colours if _is_one_colour(visible) and not _is_one_colour(colours) else visible).convert(kind)


def _is_one_colour(image: Image.Image) -> bool:
    """Return whether all pixels of an image are equal."""
    return image.getcolors(1) is not None


def _apparent_kind(data: bytes) -> str:
    """Return the reason why bytes that Pillow does not recognise are refused. The most frequent case is a web page."""
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            return f"unreadable (a damaged {name} file, or a kind of {name} that is not supported)"
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "not an image (a web page)"
    if b"<svg" in start:
        return "not an image (a vector drawing)"
    if b"ftypavif" in start[:32] or b"ftypheic" in start[:32]:
        return "not an image (AVIF or HEIC, which are not supported)"
    known = _other_format(data)
    if known is not None:
        return f"in a format that is not supported ({known}); convert it to PNG or JPEG"
    return f"not an image ({len(data)} bytes in an unknown format)"


def _other_format(data: bytes) -> str | None:
    """Return the name of a format that Pillow recognises, but that is not among `FORMATS`; None if it knows none."""
    try:
        with ignored_warnings(), Image.open(BytesIO(data)) as image:
            return image.format_description or image.format
    except Exception:  # a plugin of Pillow may raise any error for bytes that it does not understand
        return None
