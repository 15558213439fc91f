"""Where artifacts lie on disk: written whole or not at all, described beside their files.

Layout: ``<root>/<stage>/<digest>/`` holds one artifact and its ``artifact.json``; ``<root>/tmp/`` holds what is
being written. A folder appears under its key only by a rename, when all its files are on the disk.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.digests import digest_file
from pipeline.errors import StorageError
from pipeline.store.keys import ArtifactKey

DESCRIPTION = "artifact.json"


@contextmanager
def storage_errors(what: str, folder: Path) -> Iterator[None]:
    """Turn the disk's refusals inside the context into `StorageError`, which says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk must have room for {what}; it is full ({folder}). Free some space, or set paths.outputs "
                "to another disk, and run again: what is finished stays."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                f"paths.outputs must be a folder that can be written to; got {folder} ({error.strerror}). "
                "Set paths.outputs to another folder."
            ) from error
        raise


class Store:
    """Artifacts below one folder, found by `ArtifactKey`.

    Parameters
    ----------
    root : Path
        Created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: ArtifactKey) -> Path | None:
        """Return the folder of the artifact, or None where it is not there or not all there.

        Files are compared with the sizes that were written; full checksums lie in ``artifact.json``.
        """
        folder = self.root / str(key)
        try:
            files = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["files"]
            complete = all((folder / name).stat().st_size == file["size"] for name, file in files.items())
        except (OSError, ValueError, KeyError):
            return None
        return folder if complete else None

    @contextmanager
    def create(self, key: ArtifactKey) -> Iterator[Path]:
        """Give a fresh folder to fill; on leaving without an error, it becomes the artifact of `key`.

        Raises
        ------
        StorageError
            If the disk is full or the store cannot be written to. Nothing half written stays behind.
        """
        temporary = self.root / "tmp" / f"{key.stage}-{uuid.uuid4().hex}"
        with storage_errors(f"the {key.stage} stage", self.root):
            try:
                temporary.mkdir(parents=True)
                yield temporary
                self._commit(temporary, key)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _commit(self, temporary: Path, key: ArtifactKey) -> None:
        """Describe the files, bring them to the disk, and rename the folder to its place."""
        names = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
        files = {
            name: {"size": (temporary / name).stat().st_size, "sha256": digest_file(temporary / name)} for name in names
        }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        description = {"key": key.digest, **key.description, "created": created, "files": files}
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        for name in [*names, DESCRIPTION]:
            _fsync(temporary / name)
        target = self.root / str(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and self.find(key) is None:
            shutil.rmtree(target)  # incomplete: somebody truncated or removed one of its files
        try:
            temporary.rename(target)
        except OSError:
            if self.find(key) is None:  # otherwise another run finished the same artifact first: equally good
                raise
        _fsync(target.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
