"""download: obtain exactly `n_images` images in a fixed order, decoded and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import ImageSet, Workspace
from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.settings import MIN_IMAGES, DataSettings, Settings
from pipeline.sources import ImageRequest, source_for
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class DownloadReads:
    """Settings of the stage: the source and the requested images.

    Attributes
    ----------
    data : DataSettings
        The source.
    request : ImageRequest
        The requested images.
    downloads : Path
        Folder in which sources on the web keep finished downloads, also if the run fails. It is not part of the key.
    """

    data: DataSettings
    request: ImageRequest
    downloads: Path

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types: digests, and no paths."""
        return source_for(self.data, self.downloads).identity(self.request)


def select(settings: Settings) -> DownloadReads:
    """Return the settings of this stage."""
    return DownloadReads(
        settings.data,
        ImageRequest(
            settings.class_name, settings.n_images, settings.data.select, settings.seed, settings.data.images_from
        ),
        settings.paths.downloads,
    )


def run(reads: DownloadReads, *, workspace: Workspace, progress: Progress) -> ImageSet:
    """Return the images. Their files are written into the folder of the workspace.

    Raises
    ------
    InputError
        If the source does not have enough images, or they cannot be read or downloaded, or too few of them differ.
    """
    source = source_for(reads.data, reads.downloads)
    images = source.fetch(reads.request, workspace.folder, progress)
    n_different = len(images) - images.n_copies
    if n_different < MIN_IMAGES:
        raise InputError(
            f"images must include at least {MIN_IMAGES} that differ; got {n_different} among {len(images)}, the others "
            f"have the same pixels ({source}). Add other images or remove the copies."
        )
    return images


STAGE = Stage("download", 2, "images", ImageSet, select, run)
