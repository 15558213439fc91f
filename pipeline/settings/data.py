"""Settings of the images: one frozen class for each source, and how images are downloaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.settings.types import STRICT, Name, Network, NonNegative, Positive, Seconds, Text, WebAddress

MAX_PIXELS = 89_478_485  # Pillow warns of decompression bombs from here on: a quarter of a gigabyte of RGB


@dataclass(frozen=True, config=STRICT)
class ChoiceSettings:
    """Which of a source's images are taken; every source has these settings.

    `images_from`: the class alone (``class``), all classes in turn (``all``), or images of the class and of the other
    classes alternately (``balanced``).
    """

    select: Literal["first", "random"]
    """Which images are taken: the first ones in order, or a random sample drawn with `seed`."""
    images_from: Literal["class", "all", "balanced"]
    """The class alone (class), all classes in turn (all), or images of the class and of the other classes
    alternately (balanced).
    """


@dataclass(frozen=True, config=STRICT)
class DigitsSettings(ChoiceSettings):
    """scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels, classes "0" to "9"."""

    source: Literal["digits"]
    """The source: scikit-learn's handwritten digits."""


@dataclass(frozen=True, config=STRICT)
class FolderSettings(ChoiceSettings):
    """A folder of photographs: one subfolder for each class, or one flat folder."""

    source: Literal["folder"]
    """The source: a folder of images."""
    root: Text
    """Path of the folder; images are ordered by file name."""


@dataclass(frozen=True, config=STRICT)
class ManifestSettings(ChoiceSettings):
    """A table (CSV or Parquet) of paths below `root`, with or without columns for class and split."""

    source: Literal["manifest"]
    """The source: a table of paths."""
    file: Text
    """Path of the table, CSV or Parquet."""
    root: Text | None
    """Folder that the paths are relative to, and must be inside of; null: the folder of the table."""
    path_column: Text
    """Column with the paths of the images."""
    class_column: Text
    """Column with the names of the classes; the table need not have it."""
    split_column: Text
    """Column with the names of the splits, such as train and test; the table need not have it."""
    split: Name | None
    """Name of the split that the images are taken from; null: all rows."""


@dataclass(frozen=True, config=STRICT)
class TorchvisionSettings(ChoiceSettings):
    """One of torchvision's data sets, read from `root`; torchvision downloads it there where `download` is true."""

    source: Literal["torchvision"]
    """The source: a data set of torchvision."""
    name: Literal[
        "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Imagenette", "ImageNet", "ImageFolder"
    ]  # fmt: skip
    """Name of the data set, as in torchvision.datasets."""
    root: Text
    """Folder of the data set, as torchvision expects it."""
    split: Literal["train", "test"]
    """Part of the data set that the images are taken from."""
    download: bool
    """Whether torchvision downloads the data set if it is not in the folder."""


@dataclass(frozen=True, config=STRICT)
class WebSettings:
    """How images are downloaded, and which files are accepted as images; times in seconds."""

    concurrency: Positive
    """Maximum number of simultaneous requests."""
    per_host: Positive
    """Maximum number of simultaneous requests to one host."""
    timeout: Seconds
    """Seconds to wait for a connection, and for the next byte."""
    max_seconds: Seconds
    """Maximum duration of one request in seconds."""
    attempts: Positive
    """Attempts per address after a time-out, a broken connection, or HTTP 408, 425, 429, 500, 502, 503 or 504."""
    backoff: Seconds
    """Seconds before the second attempt; doubled for each further attempt, with random jitter."""
    max_wait: Seconds
    """Maximum wait in seconds that a Retry-After header may ask for."""
    max_redirects: NonNegative
    """Maximum number of redirects of one request."""
    allow_networks: tuple[Network, ...]
    """Private networks that may be requested, such as 10.1.2.0/24."""
    max_bytes: Positive
    """Maximum size of an image file in bytes."""
    max_pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)]
    """Maximum number of pixels of an image."""
    min_side: Positive
    """Minimum width and height of an image in pixels; smaller images are usually icons."""
    placeholder_copies: Annotated[int, Field(ge=2)]
    """Identical files at this many addresses or more are treated as a placeholder (no longer available)."""
    snapshot: Name | None
    """Any text; a different text downloads the same list again."""


@dataclass(frozen=True, config=STRICT)
class UrlsSettings(ChoiceSettings):
    """A list of addresses: a text file with one address on each line, or a CSV file with a column of addresses."""

    source: Literal["urls"]
    """The source: a list of addresses."""
    file: Text
    """Path of the list: a text file with one address per line, or a CSV or Parquet table."""
    column: Text
    """Column with the addresses, if the file is a table."""
    web: WebSettings
    """How images are downloaded."""


@dataclass(frozen=True, config=STRICT)
class StreetViewSettings(ChoiceSettings):
    """A CSV file of panoramas for Google's Street View Static API; angles in degrees, size in pixels."""

    source: Literal["street_view"]
    """The source: Google's Street View Static API."""
    file: Text
    """Path of the table of panoramas, with the column gsv_panoid, or the columns gsv_lat and gsv_lng."""
    size: tuple[Annotated[int, Field(ge=16, le=640)], Annotated[int, Field(ge=16, le=640)]]
    """Width and height of the images in pixels."""
    heading: Annotated[float, Field(ge=0, le=360)] | None
    """Compass direction of the view in degrees, 0 is north; null: towards the location."""
    pitch: Annotated[float, Field(ge=-90, le=90)]
    """Angle of the camera above the horizon in degrees."""
    fov: Annotated[float, Field(ge=10, le=120)]
    """Horizontal field of view in degrees."""
    endpoint: WebAddress
    """Address of the API."""
    web: WebSettings
    """How images are downloaded."""


DataSettings = Annotated[
    DigitsSettings | FolderSettings | ManifestSettings | TorchvisionSettings | UrlsSettings | StreetViewSettings,
    Field(discriminator="source"),
]
