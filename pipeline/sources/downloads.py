"""Downloads the images of a list until exactly `n_images` of them are accepted, in the order of the list.

Each downloaded image is kept in ``outputs/downloads``, in a file named after a digest of the request. If a run ends
early, the next one downloads only what is missing; entries that failed are tried again. Why the key of the image set
depends on the list and not on the bytes of the images: docs/decisions/0051.
"""

from __future__ import annotations

import asyncio
import csv
import errno
import hashlib
import json
import logging
import re
import time
from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.artifacts import ImageSet, first_copies
from pipeline.decoding import ImageError, Limits, decode, decode_whole
from pipeline.digests import digest_bytes
from pipeline.errors import InputError, PipelineError, listed
from pipeline.files import whole_file, write_whole
from pipeline.progress import Progress
from pipeline.settings import WebSettings
from pipeline.sources.base import Source, require_one_class, write_image
from pipeline.sources.choose import ImageRequest
from pipeline.sources.outcomes import Outcome, Outcomes
from pipeline.sources.web import FetchError, WebClient
from pipeline.spreadsheets import marked

log = logging.getLogger(__name__)

LOG_INTERVAL = 10.0  # seconds between messages about the progress
DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR}
    | {errno.ENAMETOOLONG, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
)  # of the downloads folder or the machine, which concern every entry
STALE_AFTER = 3600.0  # age in seconds from which on a partial file no longer belongs to a run


@dataclass(frozen=True)
class Entry:
    """One entry of the list: an image that can be downloaded.

    Attributes
    ----------
    number : int
        Line of the entry in a text file, or its row in a table, from 1.
    label : str
        URL or id that identifies the entry in reports and messages, without passwords or keys.
    parameters : tuple
        All that determines the response, in plain JSON types.
    """

    number: int
    label: str
    parameters: tuple[Any, ...]


class WebSource(Source):
    """A list of images on the web, some of which may no longer exist.

    Parameters
    ----------
    file : Path
        File with the list.
    web : WebSettings
        Limits of the web client, and rules for which images are accepted.
    downloads : Path
        Folder in which downloaded images are kept.
    """

    # Downloads begun for each request that may be sent at a time. With more than one, the downloads that wait for a
    # slow host do not hold back those from other hosts.
    prefetch_factor = 8

    def __init__(self, file: Path, web: WebSettings, downloads: Path) -> None:
        self.file, self.web, self._downloads = file, web, downloads

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return f"{self.name} {self.file}"

    def class_names(self) -> None:
        """Return None: a list has no classes."""
        return

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Return the entries of the list."""

    @abstractmethod
    async def download(self, client: WebClient, entry: Entry, file: BinaryIO) -> None:
        """Write the bytes of one image to `file`.

        Raises
        ------
        FetchError
            If the image cannot be downloaded.
        """

    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return all that determines the image set, for its key: the requests, and the rules for accepting images."""
        require_one_class(request, self)
        requests = json.dumps([entry.parameters for entry in self.entries()])
        rules = ("max_bytes", "max_pixels", "min_side", "placeholder_copies", "snapshot")
        return {
            "source": self.name,
            "class_name": request.class_name,
            "list": digest_bytes(requests.encode()),
            "n_images": request.n_images,
            "seed": request.seed if request.select == "random" else None,
            **{name: getattr(self.web, name) for name in rules},
        }

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Download images until ``request.n_images`` are accepted, and report why the others are not.

        Raises
        ------
        InputError
            If the list has fewer images than that.
        """
        entries = self.entries()
        if request.n_images > len(entries):
            raise InputError(
                f"n_images must be at most {len(entries)}; got {request.n_images} ({self}). Lower it or add entries."
            )
        if request.select == "random":
            order = np.random.default_rng(request.seed).permutation(len(entries))
            entries = [entries[index] for index in order]
        (self._downloads / "parts").mkdir(parents=True, exist_ok=True)
        self._remove_stale_parts()
        outcomes = Outcomes(request.n_images, self.web.placeholder_copies)
        report = self._downloads / f"{self.file.stem}.report.csv"
        try:
            asyncio.run(self._collect(entries, outcomes, progress))
        finally:
            _write_report(report, entries, outcomes)
        accepted = sorted((entries[index] for index in outcomes.accepted()), key=lambda entry: entry.number)
        if len(accepted) < request.n_images:
            raise InputError(
                f"n_images must be at most {len(accepted)}; got {request.n_images} ({self}: {len(entries)} entries, of "
                f"which failed: {_summary(outcomes)}). Lower it or add entries; {report} lists the reasons."
            )
        (folder / "images").mkdir()
        records, pixels = [], []
        for index, entry in enumerate(accepted):
            data = self._path(entry).read_bytes()
            image_id, source = f"{entry.number}/{_safe_name(entry.label)}", f"{self.name}:{entry.label}"
            decoded = decode(data, self._limits)
            records.append(write_image(folder, index, data, decoded, image_id, source, request.class_name or ""))
            pixels.append(decoded.digest)
        _write_report(folder / ImageSet.REPORT, entries, outcomes)
        return ImageSet(folder, tuple(records), first_copies(pixels))

    @property
    def _limits(self) -> Limits:
        return Limits(self.web.min_side, self.web.max_pixels)

    def _path(self, entry: Entry) -> Path:
        """Return the path at which the image of an entry is kept once it is downloaded."""
        digest = hashlib.sha256(json.dumps([self.name, entry.parameters, self.web.snapshot]).encode()).hexdigest()
        return self._downloads / digest[:2] / digest

    async def _collect(self, entries: list[Entry], outcomes: Outcomes, progress: Progress) -> None:
        """Download the images in order, as many at a time as could still be needed.

        A download begins only if the accepted images and the pending downloads together are not enough. Which entries
        are tried, and which are accepted, therefore depends on their outcomes alone, not on which server is faster.
        """
        pending: dict[asyncio.Task[Outcome], int] = {}
        first_with: dict[tuple[Any, ...], int] = {}
        start = last_log = time.monotonic()
        async with WebClient(self.web) as client:
            try:
                n_begun = 0
                while True:
                    while (
                        n_begun < len(entries)
                        and outcomes.n_accepted + len(pending) < outcomes.n_wanted
                        and len(pending) < self.prefetch_factor * self.web.concurrency
                    ):
                        entry = entries[n_begun]
                        first = first_with.setdefault(entry.parameters, n_begun)
                        if first == n_begun:
                            pending[asyncio.create_task(self._obtain(client, entry))] = n_begun
                        else:
                            reason = f"duplicate entry (the same as entry {entries[first].number})"
                            outcomes.add(n_begun, Outcome(reason=reason))
                        n_begun += 1
                    if not pending:
                        return
                    done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        outcomes.add(pending.pop(task), task.result())
                    progress(outcomes.n_accepted, outcomes.n_wanted)
                    if time.monotonic() - last_log > LOG_INTERVAL:
                        last_log = time.monotonic()
                        log.info(_status(outcomes, last_log - start))
            finally:
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)

    async def _obtain(self, client: WebClient, entry: Entry) -> Outcome:
        """Download and check the image of one entry, unless an earlier run has done so."""
        path = self._path(entry)
        if path.is_file():
            try:
                return self._checked(path)
            except ImageError:  # damaged in the meantime, or downloaded under other limits
                path.unlink()
        try:
            with whole_file(path, temporary_folder=self._downloads / "parts") as part:
                with part.open("wb") as file:
                    await self.download(client, entry, file)
                outcome = self._checked(part)
        except (FetchError, ImageError) as error:
            return Outcome(reason=str(error))
        except PipelineError:  # every further entry would fail as well
            raise
        except Exception as error:  # whatever a server, an address or a library does concerns this entry alone
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            return Outcome(reason=f"failed ({type(error).__name__})")
        return outcome

    def _checked(self, path: Path) -> Outcome:
        """Return the outcome of a downloaded file, or raise `ImageError` if it is not an acceptable image."""
        data = path.read_bytes()
        decode_whole(data, self._limits)
        return Outcome(sha256=digest_bytes(data))

    def _remove_stale_parts(self) -> None:
        """Remove partial files of runs that were killed, but not those that another run may be writing now."""
        for part in (self._downloads / "parts").iterdir():
            try:
                if time.time() - part.stat().st_mtime > STALE_AFTER:
                    part.unlink()
            except FileNotFoundError:
                continue


def _safe_name(label: str) -> str:
    """Return the last part of a URL, in characters without a meaning in paths, figures and HTML."""
    return re.sub(r"[^A-Za-z0-9._,-]+", "_", label.rstrip("/").rpartition("/")[2])[-40:]


def _status(outcomes: Outcomes, seconds: float) -> str:
    """Return one line about the progress after `seconds`."""
    rate = outcomes.n_accepted / seconds
    left = f"{(outcomes.n_wanted - outcomes.n_accepted) / rate:.0f} s left" if rate else "unknown time left"
    counts = f"{outcomes.n_accepted} of {outcomes.n_wanted} images, {len(outcomes.reasons())} failed"
    return f"download: {counts}, {rate:.1f} images/s, {left}"


def _summary(outcomes: Outcomes) -> str:
    """Return how often each reason for a failure occurred, the most frequent first, without the details in brackets."""
    counts = Counter(reason.partition(" (")[0] for reason in outcomes.reasons())
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{n} x {reason}" for reason, n in most_first], 6)


def _write_report(path: Path, entries: list[Entry], outcomes: Outcomes) -> None:
    """Write a CSV with one row for each entry that was tried: number, label, whether it was accepted, why not."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["place", "address", "taken", "reason"])
    for index, outcome in sorted(outcomes.by_index().items(), key=lambda item: entries[item[0]].number):
        label, reason = marked(entries[index].label), marked(outcome.reason)
        writer.writerow([entries[index].number, label, outcome.is_good, reason])
    write_whole(path, text.getvalue())
