"""download: bring exactly `n_images` decoded, checked images into one place, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import ImageSet
from pipeline.settings import DataSettings, Settings
from pipeline.sources import ImageRequest, source_for
from pipeline.sources.base import Progress

VERSION = 1


@dataclass(frozen=True)
class DownloadReads:
    """What the stage reads: the source and the request. Its key holds the images' digests, no path."""

    data: DataSettings
    request: ImageRequest

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types."""
        return source_for(self.data).identity(self.request)


def select(settings: Settings) -> DownloadReads:
    """Pick what this stage reads."""
    return DownloadReads(
        settings.data,
        ImageRequest(settings.class_name, settings.n_images, settings.data.select, settings.seed),
    )


def run(reads: DownloadReads, *, folder: Path, progress: Progress) -> ImageSet:
    """Return the images, written below `folder`."""
    return source_for(reads.data).fetch(reads.request, folder, progress)
