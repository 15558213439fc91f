"""Image sources. Every source yields an `ImageSet` of exactly `n_images` images."""

from pathlib import Path
from typing import assert_never

from pipeline.settings import (
    DataSettings,
    DigitsSettings,
    FolderSettings,
    ManifestSettings,
    StreetViewSettings,
    TorchvisionSettings,
    UrlsSettings,
)
from pipeline.sources.base import Source
from pipeline.sources.choose import ImageRequest
from pipeline.sources.folder import FolderSource
from pipeline.sources.sklearn_digits import DigitsSource

__all__ = ["ImageRequest", "Source", "source_for"]


def source_for(data: DataSettings, downloads: Path) -> Source:
    """Return the source that `data` describes.

    Sources that need torchvision, pandas or httpx are imported only if they are asked for.

    Parameters
    ----------
    data : DataSettings
        Settings of one of the sources.
    downloads : Path
        Folder in which the web sources keep the images that they have downloaded.
    """
    match data:
        case DigitsSettings():
            return DigitsSource()
        case FolderSettings():
            return FolderSource(data.root)
        case ManifestSettings():
            from pipeline.sources.manifest import ManifestSource

            return ManifestSource(data)
        case TorchvisionSettings():
            from pipeline.sources.torchvision_sets import TorchvisionSource

            return TorchvisionSource(data)
        case UrlsSettings():
            from pipeline.sources.urls import UrlsSource

            return UrlsSource(data, downloads)
        case StreetViewSettings():
            from pipeline.sources.street_view import StreetViewSource

            return StreetViewSource(data, downloads)
        case _:
            assert_never(data)
