"""SHA-256 digests, in hexadecimal. They identify inputs and artifacts independently of paths and machines."""

import hashlib
from pathlib import Path

SAMPLE_BLOCK_BYTES = 64 * 2**10
SAMPLE_N_BLOCKS = 64


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data`, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the content of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_sample(path: Path) -> str:
    """Return the SHA-256 of a sample of a file: its first and last block and evenly spaced blocks between them.

    The time does not depend on the size of the file. The sample reveals the usual damage after a crash (a file that is
    cut off, zeros at its end, pages that were never written), but not every changed byte.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        last = max(0, file.seek(0, 2) - SAMPLE_BLOCK_BYTES)
        for index in range(SAMPLE_N_BLOCKS):
            file.seek(last * index // (SAMPLE_N_BLOCKS - 1))
            digest.update(file.read(SAMPLE_BLOCK_BYTES))
    return digest.hexdigest()
