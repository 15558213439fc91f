"""A list of pictures on the web becomes exactly `n_images` checked images, in the list's order.

What is finished is kept below ``outputs/downloads``, one file a picture, under a digest of what was asked: whatever
ends a run, the next one asks only for the rest. Failures are asked for again. Why the key is made of the list, not of
the bytes: docs/decisions/0051.
"""

from __future__ import annotations

import asyncio
import csv
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

from pipeline.artifacts import ImageSet
from pipeline.decoding import ImageError, Limits, decode
from pipeline.digests import digest_bytes
from pipeline.errors import InputError, listed
from pipeline.files import whole_file, write_whole
from pipeline.progress import Progress
from pipeline.settings import WebSettings
from pipeline.sources.base import Source, require_one_class, write_image
from pipeline.sources.choose import ImageRequest
from pipeline.sources.tally import Outcome, Tally
from pipeline.sources.web import FetchError, Web

log = logging.getLogger(__name__)

SAY_EVERY = 10.0  # seconds between lines in the log
STALE = 3600.0  # seconds after which a half-written file is nobody's


@dataclass(frozen=True)
class Entry:
    """One picture that could be taken.

    Attributes
    ----------
    place : int
        Its line in the text file, or its row in the table, from 1.
    shown : str
        The address as it may be written down, without passwords or keys.
    asks : tuple
        All that decides what comes back, in plain JSON types.
    """

    place: int
    shown: str
    asks: tuple[Any, ...]


class WebSource(Source):
    """Pictures that are asked for one by one, of which some are dead.

    Parameters
    ----------
    file : Path
        The list.
    web : WebSettings
        Bounds and manners.
    downloads : Path
        Where finished pictures are kept.
    """

    look_ahead = 8  # tasks for each request that may be under way: a slow host's shall not keep the others waiting

    def __init__(self, file: Path, web: WebSettings, downloads: Path) -> None:
        self.file, self.web, self._downloads = file, web, downloads

    def __str__(self) -> str:
        """Return how messages call this source."""
        return f"{self.name} {self.file}"

    def class_names(self) -> None:
        """Return None: a list says nothing of classes."""
        return

    @abstractmethod
    def entries(self) -> list[Entry]:
        """Return the list."""

    @abstractmethod
    async def bring(self, web: Web, entry: Entry, file: BinaryIO) -> None:
        """Write one picture's bytes into `file`; raise `FetchError` where there are none."""

    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return what decides the image set, for its key: what is asked for, and what is taken for an image."""
        require_one_class(request, self)
        asked = json.dumps([entry.asks for entry in self.entries()])
        rules = ("max_bytes", "max_pixels", "min_side", "placeholder_copies", "snapshot")
        return {
            "source": self.name,
            "class_name": request.class_name,
            "list": digest_bytes(asked.encode()),
            "n_images": request.n_images,
            "seed": request.seed if request.select == "random" else None,
            **{name: getattr(self.web, name) for name in rules},
        }

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Go through the list until there are `n_images` good pictures; write why the others are none.

        Raises
        ------
        InputError
            If the list ends before.
        """
        entries = self.entries()
        if request.n_images > len(entries):
            raise InputError(
                f"n_images must be at most {len(entries)}; got {request.n_images} ({self}). Lower it or add addresses."
            )
        if request.select == "random":
            drawn = np.random.default_rng(request.seed).permutation(len(entries))
            entries = [entries[index] for index in drawn]
        (self._downloads / "parts").mkdir(parents=True, exist_ok=True)
        self._forget_stale_parts()
        tally = Tally(request.n_images, self.web.placeholder_copies)
        try:
            asyncio.run(self._collect(entries, tally, progress))
        finally:
            report = self._downloads / f"{self.file.stem}.report.csv"
            _write_report(report, entries, tally)
        accepted = sorted(tally.accepted(), key=lambda index: entries[index].place)
        if len(accepted) < request.n_images:
            reasons = Counter(outcome.reason.partition(" (")[0] for outcome in tally.outcomes() if not outcome.is_good)
            most_first = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            why = listed([f"{n} {reason}" for reason, n in most_first], 6)
            raise InputError(
                f"n_images must be at most {len(accepted)}; got {request.n_images} ({self}: {len(entries)} addresses, "
                f"{why}). Lower it or add addresses; {report} names each."
            )
        (folder / "images").mkdir()
        records = []
        for index, entry in enumerate(entries[place] for place in accepted):
            data = self._kept(entry).read_bytes()
            image_id = f"{entry.place}/{_plain(entry.shown)}"
            source = f"{self.name}:{entry.shown}"
            records.append(
                write_image(folder, index, data, decode(data, self._limits), image_id, source, request.class_name or "")
            )
        _write_report(folder / ImageSet.REPORT, entries, tally)
        return ImageSet(folder, tuple(records))

    @property
    def _limits(self) -> Limits:
        return Limits(self.web.min_side, self.web.max_pixels)

    def _kept(self, entry: Entry) -> Path:
        """Return where a finished picture is kept."""
        digest = hashlib.sha256(json.dumps([self.name, entry.asks, self.web.snapshot]).encode()).hexdigest()
        return self._downloads / digest[:2] / digest

    async def _collect(self, entries: list[Entry], tally: Tally, progress: Progress) -> None:
        """Ask for the pictures in order, as many at a time as could still be needed.

        Another one is begun only where those that are good and those under way would not do. So which of the list are
        looked at, and which of them are taken, depends on what the addresses give, not on who answers first.
        """
        under_way: dict[asyncio.Task[Outcome], int] = {}
        first_with: dict[tuple[Any, ...], int] = {}
        began = said = time.monotonic()
        async with Web(self.web) as web:
            try:
                n_begun = 0
                while True:
                    while (
                        n_begun < len(entries)
                        and tally.n_accepted + len(under_way) < tally.n_wanted
                        and len(under_way) < self.look_ahead * self.web.concurrency
                    ):
                        entry = entries[n_begun]
                        same = first_with.setdefault(entry.asks, n_begun)
                        if same == n_begun:
                            under_way[asyncio.create_task(self._one(web, entry))] = n_begun
                        else:
                            reason = f"the same address as number {entries[same].place}"
                            tally.add(n_begun, Outcome(reason=reason))
                        n_begun += 1
                    if not under_way:
                        return
                    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        tally.add(under_way.pop(task), task.result())
                    progress(tally.n_accepted, tally.n_wanted)
                    if time.monotonic() - said > SAY_EVERY:
                        said = time.monotonic()
                        log.info(_pace(tally, said - began))
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _one(self, web: Web, entry: Entry) -> Outcome:
        """Bring one picture, or find it among those that were brought before."""
        kept = self._kept(entry)
        if kept.is_file():
            try:
                return self._judged(kept)
            except ImageError:  # damaged since, or other limits than those it was kept under
                kept.unlink()
        try:
            with whole_file(kept, temporary_folder=self._downloads / "parts") as part:
                with part.open("wb") as file:
                    await self.bring(web, entry, file)
                outcome = self._judged(part)
        except (FetchError, ImageError) as error:
            return Outcome(reason=str(error))
        return outcome

    def _judged(self, path: Path) -> Outcome:
        data = path.read_bytes()
        decode(data, self._limits)
        return Outcome(sha256=digest_bytes(data))

    def _forget_stale_parts(self) -> None:
        """Remove what a killed run left half written; another run may be writing its own beside it."""
        for part in (self._downloads / "parts").iterdir():
            try:
                if time.time() - part.stat().st_mtime > STALE:
                    part.unlink()
            except FileNotFoundError:
                continue


def _plain(shown: str) -> str:
    """Return the end of an address in letters that mean nothing to a file system, a figure or a page."""
    return re.sub(r"[^A-Za-z0-9._,-]+", "_", shown.rstrip("/").rpartition("/")[2])[-40:]


def _pace(tally: Tally, seconds: float) -> str:
    rate = tally.n_accepted / seconds
    left = f"{(tally.n_wanted - tally.n_accepted) / rate:.0f} s left" if rate else "no telling how long"
    n_failed = sum(not outcome.is_good for outcome in tally.outcomes())
    return f"download: {tally.n_accepted} of {tally.n_wanted} images, {n_failed} failed, {rate:.1f} a second, {left}"


def _write_report(path: Path, entries: list[Entry], tally: Tally) -> None:
    """Write a row for every address that was looked at: its place, itself, whether it was taken, and why not."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["place", "address", "taken", "reason"])
    for index, outcome in sorted(tally.judged().items(), key=lambda item: entries[item[0]].place):
        writer.writerow([entries[index].place, entries[index].shown, outcome.is_good, outcome.reason])
    write_whole(path, text.getvalue())
