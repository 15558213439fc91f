"""download: bring exactly `n_images` decoded, checked images into one place, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import ImageSet
from pipeline.data_settings import DataSettings
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.sources import ImageRequest, source_for

VERSION = 2


@dataclass(frozen=True)
class DownloadReads:
    """What the stage reads: the source and the request. Its key holds digests, no path.

    `downloads` is where a source of the web keeps what is finished, whatever becomes of the run.
    """

    data: DataSettings
    request: ImageRequest
    downloads: Path

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types."""
        return source_for(self.data, self.downloads).identity(self.request)


def select(settings: Settings) -> DownloadReads:
    """Pick what this stage reads."""
    return DownloadReads(
        settings.data,
        ImageRequest(
            settings.class_name, settings.n_images, settings.data.select, settings.seed, settings.data.images_from
        ),
        settings.paths.downloads,
    )


def run(reads: DownloadReads, *, folder: Path, progress: Progress) -> ImageSet:
    """Return the images, written below `folder`."""
    return source_for(reads.data, reads.downloads).fetch(reads.request, folder, progress)
