"""How the bytes of each format are decoded. The files are written by Pillow."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.decoding import ImageError, Limits, decode
from tests.helpers.servers import bomb

RED, GREEN = (250, 10, 10), (10, 240, 10)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def half_red_half_green() -> Image.Image:
    """An image of 40 x 60 pixels whose upper half is red and whose lower half is green."""
    image = Image.new("RGB", (40, 60), RED)
    image.paste(GREEN, (0, 30, 40, 60))
    return image


def pixel(data: bytes, x: int, y: int) -> Any:
    return decode(data).image.getpixel((x, y))


def is_close(found: Any, expected: tuple[int, ...], within: int = 12) -> bool:
    return np.abs(np.subtract(found, expected)).max() <= within


@pytest.mark.parametrize(
    ("orientation", "size", "top", "bottom"),
    [(1, (40, 60), RED, GREEN), (3, (40, 60), GREEN, RED), (6, (60, 40), None, None), (8, (60, 40), None, None)],
)
def test_the_exif_orientation_is_applied(
    orientation: int, size: tuple[int, int], top: tuple[int, ...] | None, bottom: tuple[int, ...] | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(saved(half_red_half_green(), "JPEG", exif=exif, quality=95)).image
    assert image.size == size
    if top and bottom:
        assert is_close(image.getpixel((20, 5)), top)
        assert is_close(image.getpixel((20, 55)), bottom)
    else:  # a quarter turn: clockwise for 6, the other way for 8
        left, right = (GREEN, RED) if orientation == 6 else (RED, GREEN)
        assert is_close(image.getpixel((5, 20)), left)
        assert is_close(image.getpixel((55, 20)), right)


def test_cmyk_is_converted_to_rgb() -> None:
    data = saved(half_red_half_green().convert("CMYK"), "JPEG", quality=95)
    image = decode(data).image
    assert image.mode == "RGB"
    assert is_close(image.getpixel((20, 5)), RED, 30)
    assert is_close(image.getpixel((20, 55)), GREEN, 30)


def test_16_bit_grey_is_scaled_from_its_whole_range() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).round().astype(np.uint16)
    for form in ("PNG", "TIFF"):
        image = decode(saved(Image.fromarray(values), form)).image
        assert image.mode == "L"
        assert np.abs(np.asarray(image).astype(float) - values / 257).max() <= 0.5


def test_transparent_pixels_are_placed_on_white() -> None:
    palette = half_red_half_green().quantize(2)
    red = palette.getpixel((0, 0))
    assert isinstance(red, int)
    data = saved(palette, "PNG", transparency=red)
    assert pixel(data, 20, 5) == (255, 255, 255)
    assert is_close(pixel(data, 20, 55), GREEN)
    half = Image.new("RGBA", (40, 40), (0, 0, 0, 127))
    assert is_close(pixel(saved(half, "PNG"), 5, 5), (128, 128, 128), 1)
    grey = Image.new("LA", (40, 40), (0, 0))
    assert decode(saved(grey, "PNG")).image.mode == "L"
    assert pixel(saved(grey, "PNG"), 5, 5) == 255
    keyed = Image.new("RGB", (40, 40), RED)
    assert pixel(saved(keyed, "PNG", transparency=RED), 5, 5) == (255, 255, 255)


def test_palettes_and_bilevel_images_are_converted_to_colours() -> None:
    palette = half_red_half_green().quantize(2)
    for form in ("PNG", "GIF"):
        assert is_close(pixel(saved(palette, form), 20, 5), RED)
    assert pixel(saved(Image.new("1", (40, 40), 1), "PNG"), 3, 3) == 255


def test_plain_images_keep_every_pixel() -> None:
    for mode, values in (("L", (40, 30)), ("RGB", (40, 30, 3))):
        pixels = np.random.default_rng(0).integers(0, 256, values, dtype=np.uint8)
        image = decode(saved(Image.fromarray(pixels), "PNG")).image
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_the_suffix_suits_the_format() -> None:
    found = {form: decode(saved(half_red_half_green(), form)).suffix for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")}
    assert found == {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


def frames(form: str) -> bytes:
    images = [Image.new("RGB", (40, 40), (shade, 0, 0)) for shade in (0, 90, 200)]
    return saved(images[0], form, save_all=True, append_images=images[1:])


JPEG = saved(Image.effect_noise((90, 90), 60), "JPEG")
REFUSED = {
    "empty": (b"", "empty"),
    "page": (b"  <!DOCTYPE html><p>gone", "not an image (a web page)"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="..."/>', "not an image (a vector drawing)"),
    "noise": (bytes(range(200)), "not an image (200 bytes in an unknown format)"),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "in a format that is not supported (Encapsulated Postscript); convert it to PNG or JPEG",
    ),
    "half": (JPEG[: len(JPEG) // 2], "damaged (image file is truncated"),
    "gif": (frames("GIF"), "not a single image (3 frames or pages)"),
    "apng": (frames("PNG"), "not a single image (3 frames or pages)"),
    "webp": (frames("WEBP"), "not a single image (3 frames or pages)"),
    "pages": (frames("TIFF"), "not a single image (3 frames or pages)"),
    "float": (saved(Image.new("F", (40, 40)), "TIFF"), "pixels without a defined range (mode F)"),
    "bomb": (bomb(), "too large (more than 89478485 pixels)"),
    "large": (bomb(9_000), "too large (9000 x 9000 pixels, at most 1000000 in all)"),
    "tiny": (saved(Image.new("RGB", (40, 9)), "PNG"), "too small (40 x 9 pixels, at least 16 per side)"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_the_reason_is_given_if_bytes_are_not_accepted(case: str) -> None:
    data, reason = REFUSED[case]
    limits = Limits(min_side=16, max_pixels=1_000_000) if case in ("large", "tiny") else None
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_bytes_raise_no_other_error(form: str) -> None:
    """Flip bytes and truncate files at random: each attempt gives an image or an `ImageError`."""
    data = saved(Image.effect_noise((48, 48), 60).convert("RGB"), form)
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(data[: rng.integers(len(data) // 4, len(data) + 1)])
        for place in rng.integers(0, len(broken), 6):
            broken[place] = rng.integers(256)
        try:
            decode(bytes(broken), Limits(max_pixels=1_000_000))
        except ImageError:
            continue
