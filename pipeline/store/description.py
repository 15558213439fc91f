"""The file ``artifact.json``: what an artifact was computed from, and checksums that reveal damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.artifacts.base import DESCRIPTION, own_files
from pipeline.digests import digest_bytes, digest_file, digest_sample
from pipeline.store.keys import ArtifactKey

# Reading a file of this size takes about 0.1 s, less than any stage. Of larger files (activations can have many GiB),
# only a sample is compared when the artifact is used; `pcace store verify` reads them completely.
FULLY_CHECKED_BYTES = 64 * 2**20


class DamagedError(Exception):
    """The files of an artifact are not as they were written; the message names the file and the difference."""


@dataclass(frozen=True)
class Description:
    """Description of an artifact.

    Attributes
    ----------
    stage : str
        Name of the stage that computed the artifact.
    digest : str
        SHA-256 of the key of the artifact.
    made_from : mapping
        All that the key was computed from, see `ArtifactKey.description`.
    created : str
        Time at which the artifact was finished (UTC, ISO 8601).
    seconds : float
        Duration of the stage in seconds.
    files : mapping of str to mapping
        For each file its ``size`` in bytes, its ``sha256`` and, if it is large, the SHA-256 of a ``sample``.
    """

    stage: str
    digest: str
    made_from: Mapping[str, Any]
    created: str
    seconds: float
    files: Mapping[str, Mapping[str, Any]]

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(int(file["size"]) for file in self.files.values())

    @classmethod
    def of(cls, folder: Path, key: ArtifactKey, seconds: float) -> Description:
        """Return the description of the files that are in `folder` now."""
        files = {name: _checksums(folder / name) for name in own_files(folder)}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(key.stage, key.digest, key.description, created, round(seconds, 3), files)

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read the description in `folder`.

        Raises
        ------
        DamagedError
            If it is not as it was written. The file has a checksum of its own, which reveals a single changed byte.
        """
        try:
            text = (folder / DESCRIPTION).read_bytes().decode()
            values = json.loads(text)
            description = cls(**{name: value for name, value in values.items() if name != "sha256"})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DamagedError(f"{DESCRIPTION} cannot be read") from error
        if text != description._text():
            raise DamagedError(f"{DESCRIPTION} does not match its checksum")
        return description

    def save(self, folder: Path) -> None:
        """Write the description to `folder`."""
        (folder / DESCRIPTION).write_text(self._text(), encoding="utf-8")

    def check(self, folder: Path, *, fully: bool = False) -> None:
        """Compare the files in `folder` with their checksums.

        Parameters
        ----------
        folder : Path
            Folder of the artifact.
        fully : bool
            Whether to read large files completely; otherwise only a sample of them is compared.

        Raises
        ------
        DamagedError
            If a file is missing, has another size, or does not match its checksum.
        """
        for name, expected in self.files.items():
            try:
                size = (folder / name).stat().st_size
                if size != expected["size"]:
                    raise DamagedError(f"{name} has {size} bytes instead of {expected['size']}")
                if fully or "sample" not in expected:
                    is_same = digest_file(folder / name) == expected["sha256"]
                else:
                    is_same = digest_sample(folder / name) == expected["sample"]
            except OSError as error:
                raise DamagedError(f"{name} cannot be read ({error.strerror})") from error
            if not is_same:
                raise DamagedError(f"{name} does not match its checksum")

    def _text(self) -> str:
        """Return the content of the file: all attributes and a checksum over them."""
        body = vars(self)
        checksum = digest_bytes(json.dumps(body, sort_keys=True).encode())
        return json.dumps({**body, "sha256": checksum}, indent=1) + "\n"


def _checksums(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    checksums: dict[str, Any] = {"size": size, "sha256": digest_file(path)}
    if size > FULLY_CHECKED_BYTES:
        checksums["sample"] = digest_sample(path)
    return checksums
