"""Removes metadata from the bytes of image files, so that faults in the metadata do not make the pixels unreadable.

Pillow parses some metadata when it opens or loads a file and refuses the whole file if they are damaged or too large,
such as more than 1 MiB of compressed text or ICC profile in a PNG. What remains here is what the pixels depend on, and
the orientation.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Pixels (with those of animations, which are refused by their number of frames), colours, transparency, orientation.
PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf"})

JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
JPEG_SCAN = 0xDA
JPEG_COMMENT = 0xFE
JPEG_APPLICATION = range(0xE0, 0xF0)
JPEG_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length: TEM, RSTn, SOI

# Tags of TIFF that the pixels depend on, and the orientation (274).
TIFF_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339}
    | {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532}
)
TIFF_SIZE = {256, 257}


def without_metadata(data: bytes) -> bytes | None:
    """Return the bytes of an image file without metadata, or None if nothing was removed.

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file; it may be damaged. Other formats are returned as None: Pillow does not
        parse their metadata before the orientation is asked for.
    """
    try:
        if data.startswith(PNG_SIGNATURE):
            reduced = PNG_SIGNATURE + b"".join(_png_chunks(data))
        elif data.startswith(JPEG_START):
            reduced = b"".join(_jpeg_segments(data))
        elif data[:4] in (b"II*\0", b"MM\0*"):
            reduced = _tiff_directory(data)
        else:
            return None
    except (struct.error, IndexError):  # the damage is not in the metadata alone
        return None
    return None if reduced == data else reduced


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG that its pixels depend on."""
    start = len(PNG_SIGNATURE)
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        chunk = data[start : start + length + 12]
        # A chunk that the pixels depend on stays as it is, so that Pillow refuses the file if its checksum is wrong.
        if name in PNG_CHUNKS and (name != b"eXIf" or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")):
            yield chunk
        start += length + 12


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Yield the segments of a JPEG without comments and metadata, and everything from its first scan on.

    The segments of JFIF and Adobe are kept, which say how colours are stored, and so is EXIF, for the orientation.
    """
    yield JPEG_START
    start = len(JPEG_START)
    while data[start] == 0xFF and data[start + 1] != JPEG_SCAN:
        marker = data[start + 1]
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        stop = start + 2 if marker in JPEG_ALONE else start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        content = data[start + 4 : start + 10]
        is_kept = content.startswith((b"JFIF\0", b"Adobe", b"Exif\0"))
        if is_kept or not (marker in JPEG_APPLICATION or marker == JPEG_COMMENT):
            yield data[start:stop]
        start = stop
    yield data[start:]


def _tiff_directory(data: bytes) -> bytes:
    """Return a TIFF whose first directory has only the entries that its pixels depend on; the rest is unchanged.

    The reference to a second page is kept only if there is one.
    """
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    entries = _tiff_entries(data, start, order)
    end = start + 2 + 12 * len(entries)
    (following,) = struct.unpack_from(f"{order}I", data, end)
    try:
        has_second = following > 0 and {tag for tag, _ in _tiff_entries(data, following, order)} >= TIFF_SIZE
    except struct.error:
        has_second = False
    kept = [entry for tag, entry in entries if tag in TIFF_TAGS]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept)
    directory += struct.pack(f"{order}I", following if has_second else 0)
    return data[:start] + directory.ljust(end + 4 - start, b"\0") + data[end + 4 :]


def _tiff_entries(data: bytes, start: int, order: str) -> list[tuple[int, bytes]]:
    """Return the entries of the directory at `start`, each with its tag; a directory that is cut off is an error."""
    (n_entries,) = struct.unpack_from(f"{order}H", data, start)
    entries = struct.unpack_from("12s" * n_entries, data, start + 2)
    return [(struct.unpack_from(f"{order}H", entry)[0], entry) for entry in entries]


def completed_jpegs(data: bytes) -> list[bytes]:
    """Return a JPEG with an end marker after different bytes in each version.

    libjpeg fills pixels that are missing before the end marker with grey, without an error that Pillow reports. If no
    pixels are missing, the bytes before the marker follow the last pixel and change nothing: the versions decode to the
    same pixels. If pixels are missing, they are decoded from these bytes, and the versions differ.

    Parameters
    ----------
    data : bytes
        Content of a JPEG file with or without an end marker.
    """
    marker = data.rfind(JPEG_END)
    is_whole = marker > data.rfind(bytes([0xFF, JPEG_SCAN]))  # and not the end of a thumbnail in the metadata
    body, rest = (data[:marker], data[marker:]) if is_whole else (data.rstrip(b"\xff"), JPEG_END)
    return [body + filler * 64 + rest for filler in (b"\x55", b"\xaa")]
