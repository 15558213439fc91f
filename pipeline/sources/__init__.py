"""Where images come from. Every source yields the same thing: an `ImageSet` of exactly `n_images`."""

from pipeline.settings import DataSettings, DigitsSettings
from pipeline.sources.base import ImageRequest, Source
from pipeline.sources.digits import DigitsSource
from pipeline.sources.folder import FolderSource

__all__ = ["ImageRequest", "Source", "source_for"]


def source_for(data: DataSettings) -> Source:
    """Return the source that `data` describes."""
    return DigitsSource() if isinstance(data, DigitsSettings) else FolderSource(data.root)
