"""Where images come from. Every source yields the same thing: an `ImageSet` of exactly `n_images`."""

from pathlib import Path

from pipeline.settings import (
    DataSettings,
    DigitsSettings,
    FolderSettings,
    ManifestSettings,
    StreetViewSettings,
    TorchvisionSettings,
)
from pipeline.sources.base import Source
from pipeline.sources.choose import ImageRequest
from pipeline.sources.digits import DigitsSource
from pipeline.sources.folder import FolderSource

__all__ = ["ImageRequest", "Source", "source_for"]


def source_for(data: DataSettings, downloads: Path) -> Source:
    """Return the source that `data` describes; one of the web keeps what is finished below `downloads`."""
    if isinstance(data, DigitsSettings):
        return DigitsSource()
    if isinstance(data, FolderSettings):
        return FolderSource(data.root)
    # Late: each needs libraries that the others do without.
    if isinstance(data, ManifestSettings):
        from pipeline.sources.manifest import ManifestSource

        return ManifestSource(data)
    if isinstance(data, TorchvisionSettings):
        from pipeline.sources.torchvision_sets import TorchvisionSource

        return TorchvisionSource(data)
    if isinstance(data, StreetViewSettings):
        from pipeline.sources.street_view import StreetViewSource

        return StreetViewSource(data, downloads)
    from pipeline.sources.urls import UrlsSource

    return UrlsSource(data, downloads)
