"""Every mode and format that Pillow writes, against Pillow's own conversion to RGB; and faults outside the pixels."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from pipeline.decoding import FORMATS, ImageError, decode, decode_whole

WIDTH, HEIGHT = 12, 10
MODES = (
    "1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16B", "I", "F",
)  # fmt: skip
N_CHANNELS = {"LA": 2, "RGB": 3, "RGBA": 4, "RGBa": 4, "RGBX": 4, "CMYK": 4, "YCbCr": 3, "LAB": 3, "HSV": 3}
# What the pixels of the opened file are, where they are not those of Pillow's `convert("RGB")`.
ON_WHITE, SCALED, REFUSED = "transparency on white", "16 bits scaled", "no defined range"


def image_of_mode(mode: str) -> Image.Image:
    rng = np.random.default_rng(0)
    if mode in ("1", "L"):
        levels = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
        return Image.fromarray(levels if mode == "L" else (levels > 127) * np.uint8(255)).convert(mode)
    if mode in ("P", "PA"):
        return image_of_mode("RGB").quantize(16).convert(mode)
    if mode.startswith("I;16"):
        levels16 = rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, (WIDTH, HEIGHT), levels16.tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.int32 if mode == "I" else np.float32))
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, N_CHANNELS[mode]), dtype=np.uint8)
    return Image.frombytes(mode, (WIDTH, HEIGHT), pixels.tobytes())


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save(buffer, form, **options)
    return buffer.getvalue()


def writable() -> Iterator[tuple[str, str, bytes]]:
    """Every format with every mode that Pillow can write in it."""
    for form in (*FORMATS, "MPO"):
        for mode in MODES:
            try:
                yield form, mode, saved(image_of_mode(mode), form)
            except (OSError, ValueError):
                continue
    transparent = {"P": 3, "L": 40, "RGB": image_of_mode("RGB").getpixel((2, 2)), "1": 255}
    for mode, colour in transparent.items():
        yield "PNG", f"{mode} with a transparent colour", saved(image_of_mode(mode), "PNG", transparency=colour)
    alphas = bytes(range(0, 256, 16))
    yield "PNG", "P with transparencies", saved(image_of_mode("P"), "PNG", transparency=alphas)
    yield "GIF", "P with a transparent colour", saved(image_of_mode("P"), "GIF", transparency=3)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "LA"):
            yield "TIFF", f"{mode} {compression}", saved(image_of_mode(mode), "TIFF", compression=compression)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def variants() -> Iterator[tuple[str, str, bytes]]:
    """Files that Pillow reads and does not write: other numbers of bits, and other encodings."""
    rng = np.random.default_rng(1)
    start, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")

    def png(depth: int, kind: int, n_channels: int, colours: bytes = b"") -> bytes:
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0)
        n_bytes = -(-WIDTH * n_channels * depth // 8)
        rows = b"".join(b"\0" + rng.bytes(n_bytes) for _ in range(HEIGHT))
        return start + chunk(b"IHDR", header) + colours + chunk(b"IDAT", zlib.compress(rows)) + end

    for name, kind, n_channels in (("grey", 0, 1), ("RGB", 2, 3), ("grey with alpha", 4, 2), ("RGBA", 6, 4)):
        yield "PNG", f"{name} of 16 bits", png(16, kind, n_channels)
    for depth in (1, 2, 4):
        yield "PNG", f"grey of {depth} bits", png(depth, 0, 1)
        palette = chunk(b"PLTE", rng.bytes(3 * 2**depth))
        yield "PNG", f"palette of {depth} bits", png(depth, 3, 1, palette)
        yield "PNG", f"opaque palette of {depth} bits", png(depth, 3, 1, palette + chunk(b"tRNS", b"\xff" * 2**depth))

    def bmp(bits: int, rows: list[bytes], compression: int = 0, before: bytes = b"") -> bytes:
        body = b"".join(row + bytes(-len(row) % 4 if compression != 1 else 0) for row in rows)
        sizes = struct.pack("<IHHI", 54 + len(before) + len(body), 0, 0, 54 + len(before))
        n_colours = len(before) // 4 if bits <= 8 else 0
        fields = (40, WIDTH, HEIGHT, 1, bits, compression, len(body), 0, 0, n_colours, 0)
        return b"BM" + sizes + struct.pack("<IiiHHIIiiII", *fields) + before + body

    for bits in (1, 4, 8, 16, 24, 32):
        palette = rng.bytes(4 * 2**bits) if bits <= 8 else b""
        yield "BMP", f"{bits} bits", bmp(bits, [rng.bytes(-(-WIDTH * bits // 8)) for _ in range(HEIGHT)], 0, palette)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "BMP", "5, 6 and 5 bits", bmp(16, [rng.bytes(2 * WIDTH) for _ in range(HEIGHT)], 3, masks)
    runs = [b"".join(bytes([1, level]) for level in rng.bytes(WIDTH)) + b"\0\0" for _ in range(HEIGHT)]
    yield "BMP", "runs of 8 bits", bmp(8, [*runs, b"\0\1"], 1, rng.bytes(1024))

    size, levels = f"{WIDTH} {HEIGHT}\n".encode(), rng.integers(0, 101, WIDTH * HEIGHT * 3)
    text = b" ".join(str(level).encode() for level in levels)
    bits_as_text = b" ".join(str(level % 2).encode() for level in levels[: WIDTH * HEIGHT])
    yield "PPM", "bits as text", b"P1\n" + size + bits_as_text
    yield "PPM", "grey as text", b"P2\n" + size + b"100\n" + b" ".join(text.split()[: WIDTH * HEIGHT])
    yield "PPM", "colours as text", b"P3\n" + size + b"100\n" + text
    yield "PPM", "bits", b"P4\n" + size + rng.bytes(2 * HEIGHT)
    yield "PPM", "grey up to 1023", b"P5\n" + size + b"1023\n" + (levels[: WIDTH * HEIGHT] * 10).astype(">u2").tobytes()
    yield "PPM", "colours up to 100", b"P6\n" + size + b"100\n" + levels.astype(np.uint8).tobytes()
    yield "PPM", "colours of 16 bits", b"P6\n" + size + b"65535\n" + rng.bytes(6 * WIDTH * HEIGHT)
    yield "PPM", "floats", b"Pf\n" + size + b"-1.0\n" + levels[: WIDTH * HEIGHT].astype("<f4").tobytes()

    colours = image_of_mode("RGB")
    for compression in ("jpeg", "lzma", "zstd", "group3", "group4"):
        image = image_of_mode("1") if compression.startswith("group") else colours
        yield "TIFF", f"compressed by {compression}", saved(image, "TIFF", compression=compression)
    yield "TIFF", "with addresses of 64 bits", saved(colours, "TIFF", big_tiff=True)
    yield "GIF", "interlaced", saved(image_of_mode("P"), "GIF", interlace=1)
    yield "JPEG", "of RGB", saved(colours, "JPEG", keep_rgb=True)
    yield "WEBP", "without loss", saved(image_of_mode("RGBA"), "WEBP", lossless=True, exact=True)


WRITTEN = {f"{form}-{mode}": data for form, mode, data in (*writable(), *variants())}


def rule(opened: Image.Image) -> str:
    """The documented rule by which the pixels differ from Pillow's, or an empty string."""
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PPM"):
        return SCALED
    if opened.mode in ("I", "F"):
        return REFUSED
    return ON_WHITE if opened.mode in ("LA", "PA", "RGBA") or "transparency" in opened.info else ""


def rgb(image: Image.Image) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("case", list(WRITTEN))
def test_pixels_are_those_of_pillow_except_by_a_documented_rule(case: str) -> None:
    data = WRITTEN[case]
    with Image.open(BytesIO(data)) as opened:
        opened.load()
        found = rule(opened)
        if found == REFUSED:
            with pytest.raises(ImageError, match=rf"^pixels without a defined range \(mode {opened.mode}\)$"):
                decode(data)
            return
        image = decode(data).image
        assert image.mode in ("L", "RGB")
        if found == SCALED:
            expected = np.asarray(opened).astype(float)[..., None] / 257
            assert np.abs(rgb(image) - expected).max() <= 0.5
        elif found == ON_WHITE:
            rgba = np.asarray(opened.convert("RGBA")).astype(float)
            share = rgba[..., 3:] / 255
            assert np.abs(rgb(image) - (share * rgba[..., :3] + (1 - share) * 255)).max() <= 1
        else:
            np.testing.assert_array_equal(rgb(image), rgb(opened))


def test_every_format_and_every_rule_is_among_the_cases() -> None:
    assert len(WRITTEN) > 130
    rules = set()
    for data in WRITTEN.values():
        with Image.open(BytesIO(data)) as opened:
            rules.add(rule(opened))
    assert rules == {"", ON_WHITE, SCALED, REFUSED}
    assert {case.partition("-")[0] for case in WRITTEN} == {*FORMATS, "MPO"}


PHOTOGRAPH = Image.effect_noise((48, 32), 60).convert("RGB")
PIXELS = np.asarray(PHOTOGRAPH).astype(int)


def bmp_with_alpha(alpha: np.ndarray, pixels: np.ndarray = PIXELS) -> bytes:
    """A 32-bit BMP with a V4 header, whose masks announce an alpha channel."""
    height, width = pixels.shape[:2]
    body = np.dstack([pixels[::-1, :, ::-1], alpha[::-1]]).astype(np.uint8).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(body), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + body


def test_an_alpha_channel_that_a_bmp_leaves_unset_is_ignored() -> None:
    np.testing.assert_array_equal(rgb(decode(bmp_with_alpha(np.zeros((32, 48)))).image), PIXELS)
    grey = np.full((32, 48, 3), 90)
    np.testing.assert_array_equal(rgb(decode(bmp_with_alpha(np.zeros((32, 48)), grey)).image), grey)


def test_an_alpha_channel_that_a_bmp_sets_is_applied() -> None:
    alpha = np.full((32, 48), 255)
    alpha[:, :24] = 0
    image = rgb(decode(bmp_with_alpha(alpha)).image)
    np.testing.assert_array_equal(image[:, 24:], PIXELS[:, 24:])
    assert (image[:, :24] == 255).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparency_that_would_hide_the_whole_image_is_ignored(form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    hidden = PHOTOGRAPH.copy()
    hidden.putalpha(0)
    np.testing.assert_array_equal(rgb(decode(saved(hidden, form, **options)).image), PIXELS)
    drawing = Image.new("RGBA", (40, 30), (0, 0, 0, 0))  # a white square on nothing: white on white would be no drawing
    drawing.paste((255, 255, 255, 255), (10, 10, 20, 20))
    image = rgb(decode(saved(drawing, form, **options)).image)
    assert (image[15, 15], image[5, 5]) == (pytest.approx([255] * 3), pytest.approx([0] * 3))
    empty = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    assert (rgb(decode(saved(empty, form, **options)).image) == 255).all()


def png(width: int, depth: int, colour: int, rows: list[bytes], *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        PngImagePlugin._MAGIC + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x0f", 0, [0, 0, 0, 0, 255, 255, 255, 255]),  # black is transparent: nothing but white would remain
        (1, b"\x0f", 1, [0, 0, 0, 0, 255, 255, 255, 255]),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, b"\x5a", 5, [255, 170]),
        (8, b"\x05\x5a", 5, [255, 90]),
        (16, struct.pack(">2H", 1000, 50000), 1000, [255, 195]),
    ],
)
def test_a_transparent_grey_level_is_found_in_every_bit_depth(
    depth: int, row: bytes, key: int, expected: list[int]
) -> None:
    """Pillow compares the pixels in 8 bits with the level in the bits of the file."""
    data = png(len(row) * 8 // depth, depth, 0, [row, row], chunk(b"tRNS", struct.pack(">H", key)))
    assert np.asarray(decode(data).image)[0].tolist() == expected


def test_a_transparent_colour_of_16_bits_is_found() -> None:
    row = struct.pack(">6H", 1000, 2000, 3000, 50000, 40000, 30000)
    data = png(2, 16, 2, [row], chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000)))
    assert np.asarray(decode(data).image)[0].tolist() == [[255, 255, 255], [195, 156, 117]]


def tiff(tags: dict[int, tuple[int, int]], body: bytes, order: str = "<", following: int = 0) -> bytes:
    """A TIFF with one strip; each tag has a type (3 for 16 bits, 4 for 32) and a value."""
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags = {**tags, 273: (4, start), 279: (4, len(body))}
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        out += struct.pack(f"{order}HHI", tag, kind, 1)
        out += struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
    return out + struct.pack(f"{order}I", following) + body


SQUARE = {256: (3, 8), 257: (3, 8), 259: (3, 1), 277: (3, 1), 278: (3, 8)}


def test_grey_of_12_bits_is_scaled_from_its_own_range() -> None:
    levels = np.arange(64) * 65
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in levels.reshape(-1, 2))
    image = decode(tiff({**SQUARE, 258: (3, 12), 262: (3, 1)}, packed)).image
    assert np.abs(np.asarray(image).ravel() - levels * 255 / 4095).max() <= 0.5


@pytest.mark.parametrize("depth", [8, 16])
def test_white_is_zero_in_some_tiffs_of_any_depth(depth: int) -> None:
    levels = np.arange(64, dtype=f"<u{depth // 8}") * (4 if depth == 8 else 1000)
    image = decode(tiff({**SQUARE, 258: (3, depth), 262: (3, 0)}, levels.tobytes())).image
    expected = 255 - levels.astype(float) / (1 if depth == 8 else 257)
    assert np.abs(np.asarray(image).ravel() - expected).max() <= 0.5


def test_grey_of_16_bits_in_a_pgm_is_scaled() -> None:
    levels = np.arange(60).reshape(6, 10) * 1000
    for largest in (65535, 60000):
        image = decode(f"P5 10 6 {largest}\n".encode() + levels.astype(">u2").tobytes()).image
        assert np.abs(np.asarray(image) - levels * 255 / largest).max() <= 0.51


def exif(*entries: tuple[int, int, int, bytes], extra: bytes = b"") -> bytes:
    """A little-endian EXIF block: each entry has a tag, a type, a count, and 4 bytes with the value or its offset."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + extra


def short(value: int) -> bytes:
    return struct.pack("<HH", value, 0)


TURNED = (0x112, 3, 1, short(6))
GPS_AT = 8 + 2 + 12 * 2 + 4
GPS = struct.pack("<HHHIII", 1, 2, 5, 3, GPS_AT + 18, 0) + bytes(24)  # a position of 0/0 degrees
ORIENTATIONS = {
    "plain": (exif(TURNED), True),
    "doubled": (b"Exif\0\0" + exif(TURNED), True),
    "two values": (exif((0x112, 3, 2, struct.pack("<HH", 6, 6))), True),
    "bad offset": (exif(TURNED, (0x10F, 2, 400, struct.pack("<I", 60000))), True),
    "position 0/0": (exif(TURNED, (0x8825, 4, 1, struct.pack("<I", GPS_AT)), extra=GPS), True),
    "empty": (b"", False),
    "0": (exif((0x112, 3, 1, short(0))), False),
    "9": (exif((0x112, 3, 1, short(9))), False),
    "text": (exif((0x112, 2, 2, b"6\0\0\0")), False),
    "fraction": (exif((0x112, 5, 1, struct.pack("<I", 26)), extra=struct.pack("<II", 6, 1)), True),
    "truncated": (exif(TURNED)[:14], False),
    "no header": (struct.pack(">HHHIHH", 8, 2, 0x112, 1, 6, 0), False),
    "bytes": (bytes(range(256)), False),
}


@pytest.mark.parametrize("case", list(ORIENTATIONS))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_where_its_orientation_can_be_read_and_read_in_any_case(form: str, case: str) -> None:
    block, is_turned = ORIENTATIONS[case]
    if form == "JPEG":
        plain = saved(PHOTOGRAPH, form)
        segment = b"Exif\0\0" + block
        data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    elif form == "PNG":
        plain = saved(PHOTOGRAPH, form)
        data = plain[:33] + chunk(b"eXIf", block) + plain[33:]
    else:
        plain = saved(PHOTOGRAPH, form, lossless=True)
        data = saved(PHOTOGRAPH, form, lossless=True, exif=block or b"Exif\0\0")
    expected = rgb(Image.open(BytesIO(plain)))
    np.testing.assert_array_equal(rgb(decode(data).image), np.rot90(expected, -1) if is_turned else expected)


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_pillow(form: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = saved(PHOTOGRAPH, form, exif=tags, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(BytesIO(data)) as opened:
        np.testing.assert_array_equal(rgb(decode(data).image), rgb(ImageOps.exif_transpose(opened)))


ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>nothing</x:xmpmeta>"
PLAIN_PNG = saved(PHOTOGRAPH, "PNG")


@pytest.mark.parametrize(
    "content",
    [
        chunk(b"zTXt", b"history\0\0" + zlib.compress(b"layer renamed;" * 90_000)),
        chunk(b"iTXt", b"history\0\1\0\0\0" + zlib.compress(b"layer renamed;" * 90_000)),
        chunk(b"tEXt", b"history\0" + b"layer renamed;" * 90_000) * 60,
        chunk(b"iCCP", b"printer\0\0" + zlib.compress(bytes(1_300_000))),
        chunk(b"iCCP", b"printer\0\7nothing"),
        chunk(b"tEXt", b"transparency\0all"),
        chunk(b"tEXt", b"exif\0nothing"),
        chunk(b"pHYs", b"12"),
        chunk(b"gAMA", b""),
        chunk(b"eXIf", exif((0x112, 3, 1, short(1))))[:-4] + b"\0\0\0\0",  # a wrong checksum
    ],
    ids=["zTXt", "iTXt", "tEXt", "iCCP", "iCCP method", "a keyword", "exif as text", "pHYs", "gAMA", "checksum"],
)
def test_large_or_broken_chunks_of_a_png_do_not_matter(content: bytes) -> None:
    for place in (33, len(PLAIN_PNG) - 12):  # before and after the pixels
        data = PLAIN_PNG[:place] + content + PLAIN_PNG[place:]
        np.testing.assert_array_equal(rgb(decode(data).image), PIXELS)


def with_metadata(form: str) -> bytes:
    tags = Image.Exif()
    tags.update({0x10F: "maker", 0x131: "program", 0x11A: 72.0, 0x11B: 72.0})
    tags.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    options: dict[str, Any] = {"exif": tags, "icc_profile": ICC}
    if form in ("JPEG", "MPO"):
        options |= {"xmp": XMP, "comment": b"hello", "dpi": (72, 72)}
    elif form == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("a", "b")
        text.add_text("z", "z" * 99, zip=True)
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options |= {"pnginfo": text, "dpi": (72, 72)}
    elif form == "WEBP":
        options |= {"xmp": XMP, "lossless": True}
    else:
        options |= {"description": "text", "software": "program", "dpi": (72, 72)}
    return saved(PHOTOGRAPH, form, **options)


def metadata_places(form: str, data: bytes) -> list[tuple[int, int]]:
    """Where the metadata of a file begin and end."""
    places = []
    if form in ("JPEG", "MPO"):
        start = 2
        while data[start + 1] != 0xDA:
            stop = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
            if data[start + 1] in (0xE0, 0xE1, 0xE2, 0xED, 0xFE):
                places.append((start + 4, stop))
            start = stop
    elif form == "PNG":
        start = 8
        while start < len(data):
            length = int.from_bytes(data[start : start + 4], "big")
            if data[start + 4 : start + 8] not in (b"IHDR", b"IDAT", b"IEND"):
                places.append((start + 8, start + 8 + length))
            start += 12 + length
    elif form == "WEBP":
        start = 12
        while start < len(data):
            length = int.from_bytes(data[start + 4 : start + 8], "little")
            if data[start : start + 4] in (b"ICCP", b"EXIF", b"XMP "):
                places.append((start + 8, start + 8 + length))
            start += 8 + length + length % 2
    else:
        directory = int.from_bytes(data[4:8], "little")
        for entry in range(int.from_bytes(data[directory : directory + 2], "little")):
            start = directory + 2 + 12 * entry
            if int.from_bytes(data[start : start + 2], "little") in (270, 271, 282, 283, 296, 305, 34665, 34675, 34853):
                places.append((start + 2, start + 12))
    return places


def with_checksums(data: bytes) -> bytes:
    """A PNG whose checksums are right again."""
    out, start = bytearray(data), 8
    while start < len(out):
        stop = start + 8 + int.from_bytes(out[start : start + 4], "big")
        out[stop : stop + 4] = zlib.crc32(out[start + 4 : stop]).to_bytes(4, "big")
        start = stop + 4
    return bytes(out)


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "TIFF", "WEBP"])
def test_no_fault_in_the_metadata_makes_the_pixels_unreadable(form: str) -> None:
    data = with_metadata(form)
    places = metadata_places(form, data)
    assert len(places) >= 3
    expected = rgb(decode(data).image)
    rng = np.random.default_rng(0)
    for attempt in range(150):
        broken = bytearray(data)
        for _ in range(int(rng.choice([1, 3, 12]))):
            start, stop = places[rng.integers(len(places))]
            broken[rng.integers(start, stop)] = rng.choice([0, 255, int(rng.integers(256))])
        given = with_checksums(bytes(broken)) if form == "PNG" and attempt % 2 else bytes(broken)
        np.testing.assert_array_equal(rgb(decode_whole(given).image), expected)


@pytest.mark.parametrize("following", [1, 7, 10_000, 2**32 - 1])
def test_a_reference_to_a_second_page_that_does_not_exist_does_not_matter(following: int) -> None:
    levels = np.arange(64, dtype=np.uint8)
    data = tiff({**SQUARE, 258: (3, 8), 262: (3, 1)}, levels.tobytes(), following=following)
    assert np.asarray(decode(data).image).ravel().tolist() == levels.tolist()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 100}, {"quality": 5}])
def test_a_jpeg_that_lacks_only_its_end_marker_is_complete(options: dict[str, Any]) -> None:
    data = saved(PHOTOGRAPH, "JPEG", **options)
    expected = rgb(decode(data).image)
    for n_missing in (1, 2):
        np.testing.assert_array_equal(rgb(decode(data[:-n_missing]).image), expected)
    for n_missing in (4, 8, 20, 60, len(data) // 2):
        with pytest.raises(ImageError, match=r"^damaged \(.+\)$|^unreadable \(a damaged JPEG file, or a kind of JPEG"):
            decode(data[:-n_missing])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}, {"quality": 30}])
def test_a_jpeg_that_lacks_pixels_before_its_end_marker_is_refused(options: dict[str, Any]) -> None:
    """Pillow reads it, with grey in place of the missing pixels."""
    data = saved(PHOTOGRAPH, "JPEG", **options)
    expected = rgb(decode_whole(data).image)
    for extra in (b"", b"garbage" * 20, data):  # what follows the first image, such as a second one
        np.testing.assert_array_equal(rgb(decode_whole(data + extra).image), expected)
    n_scan = len(data) - data.rindex(b"\xff\xda")
    for n_missing in (4, 8, 20, n_scan // 2):
        broken = data[: -2 - n_missing].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(
            ImageError, match=r"^damaged \(pixels are missing before the end marker\)$|^damaged \(broken"
        ):
            decode_whole(broken)


def test_the_thumbnail_in_the_metadata_is_not_taken_for_the_end() -> None:
    data = saved(PHOTOGRAPH, "JPEG")
    expected = rgb(decode(data).image)
    segment = b"Exif\0\0" + exif((0x112, 3, 1, short(1))) + saved(PHOTOGRAPH.reduce(2), "JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    for n_missing in (0, 1, 2):
        np.testing.assert_array_equal(rgb(decode_whole(data[: len(data) - n_missing]).image), expected)
    with pytest.raises(ImageError, match=r"^damaged "):
        decode_whole(data[:-40])


def test_a_photograph_whose_second_image_is_cut_is_read() -> None:
    data = saved(PHOTOGRAPH, "MPO", save_all=True, append_images=[PHOTOGRAPH.rotate(180)])
    expected = rgb(decode(data).image)
    for cut in (data[:-2], data[:-300]):
        np.testing.assert_array_equal(rgb(decode_whole(cut).image), expected)


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_files_without_all_of_their_pixels_are_refused_for_one_reason(form: str) -> None:
    data = saved(PHOTOGRAPH, form)
    for n_bytes in (len(data) // 2, len(data) - 200):
        with pytest.raises(ImageError, match=r"^damaged \(.+\)$|^unreadable \(a damaged .+\)$"):
            decode(data[:n_bytes])


def test_what_follows_the_pixels_does_not_matter() -> None:
    for form in ("JPEG", "PNG", "GIF", "BMP"):
        data = saved(PHOTOGRAPH, form)
        expected = rgb(Image.open(BytesIO(data)))
        np.testing.assert_array_equal(rgb(decode(data + b"garbage" * 20).image), expected)
    gif = saved(PHOTOGRAPH, "GIF")
    expected = rgb(Image.open(BytesIO(gif)))
    np.testing.assert_array_equal(rgb(decode(gif[:-1] + b"\x21\xf9\x04xx").image), expected)


@pytest.mark.parametrize(
    ("form", "name"), [("JPEG2000", "JPEG 2000 (ISO 15444)"), ("ICO", "Windows Icon"), ("SGI", "SGI Image File Format")]
)
def test_a_format_that_pillow_knows_and_that_is_not_supported_is_named(form: str, name: str) -> None:
    written = BytesIO()
    image_of_mode("RGB").resize((32, 32)).save(written, form)
    with pytest.raises(ImageError) as caught:
        decode(written.getvalue())
    assert str(caught.value) == f"in a format that is not supported ({name}); convert it to PNG or JPEG"
