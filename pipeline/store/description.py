"""``artifact.json``: what an artifact was made from, and the checksums by which damage is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.digests import digest_bytes, digest_file, digest_sample
from pipeline.store.keys import ArtifactKey

DESCRIPTION = "artifact.json"

# Reading a file of this size takes about .1 s, less than any stage that it saves. Of a larger one (activations grow to
# many GiB) a sample is compared on every use, all of it by `python -m pipeline.store verify`.
FULLY_CHECKED_BYTES = 64 * 2**20


class DamagedError(Exception):
    """An artifact is not what was once written; says which file, and what of it."""


@dataclass(frozen=True)
class Description:
    """What lies beside an artifact's files.

    Attributes
    ----------
    stage : str
        Name of the stage that made it.
    digest : str
        SHA-256 of the artifact's key.
    made_from : mapping
        What the key was taken over.
    created : str
        When it was finished, UTC.
    seconds : float
        How long its stage took.
    files : mapping
        For each file its size in bytes, its SHA-256, and that of a sample where the file is large.
    """

    stage: str
    digest: str
    made_from: Mapping[str, Any]
    created: str
    seconds: float
    files: Mapping[str, Mapping[str, Any]]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(file["size"]) for file in self.files.values())

    @classmethod
    def of(cls, folder: Path, key: ArtifactKey, seconds: float) -> Description:
        """Describe what lies in `folder` now."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = {name: _checksums(folder / name) for name in names}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(key.stage, key.digest, key.description, created, round(seconds, 3), files)

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read the description in `folder`.

        Raises
        ------
        DamagedError
            If it is not what was once written: it carries a checksum of its own, so one changed byte is noticed.
        """
        try:
            text = (folder / DESCRIPTION).read_bytes().decode()
            values = json.loads(text)
            description = cls(**{name: value for name, value in values.items() if name != "sha256"})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DamagedError(f"{DESCRIPTION} cannot be read") from error
        if text != description._text():
            raise DamagedError(f"{DESCRIPTION} holds other bytes than were written")
        return description

    def save(self, folder: Path) -> None:
        """Write the description into `folder`."""
        (folder / DESCRIPTION).write_text(self._text(), encoding="utf-8")

    def check(self, folder: Path, *, fully: bool = False) -> None:
        """Compare the files in `folder` with their checksums.

        Parameters
        ----------
        folder : Path
            The artifact's folder.
        fully : bool
            Whether large files are read from end to end as well.

        Raises
        ------
        DamagedError
            Naming the first file that is missing, cut or changed.
        """
        for name, expected in self.files.items():
            try:
                size = (folder / name).stat().st_size
                if size != expected["size"]:
                    raise DamagedError(f"{name} has {size} bytes where {expected['size']} were written")
                if fully or "sample" not in expected:
                    is_same = digest_file(folder / name) == expected["sha256"]
                else:
                    is_same = digest_sample(folder / name) == expected["sample"]
            except OSError as error:
                raise DamagedError(f"{name} cannot be read ({error.strerror})") from error
            if not is_same:
                raise DamagedError(f"{name} holds other bytes than were written")

    def _text(self) -> str:
        body = vars(self)
        checksum = digest_bytes(json.dumps(body, sort_keys=True).encode())
        return json.dumps({**body, "sha256": checksum}, indent=1) + "\n"


def _checksums(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    checksums: dict[str, Any] = {"size": size, "sha256": digest_file(path)}
    if size > FULLY_CHECKED_BYTES:
        checksums["sample"] = digest_sample(path)
    return checksums
