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
    images_from: Literal["class", "all", "balanced"]


@dataclass(frozen=True, config=STRICT)
class DigitsSettings(ChoiceSettings):
    """scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels, classes "0" to "9"."""

    source: Literal["digits"]


@dataclass(frozen=True, config=STRICT)
class FolderSettings(ChoiceSettings):
    """A folder of photographs: one subfolder for each class, or one flat folder."""

    source: Literal["folder"]
    root: Text


@dataclass(frozen=True, config=STRICT)
class ManifestSettings(ChoiceSettings):
    """A table (CSV or Parquet) of paths below `root`, with or without columns for class and split."""

    source: Literal["manifest"]
    file: Text
    root: Text | None
    path_column: Text
    class_column: Text
    split_column: Text
    split: Name | None


@dataclass(frozen=True, config=STRICT)
class TorchvisionSettings(ChoiceSettings):
    """One of torchvision's data sets, read from `root`; torchvision downloads it there where `download` is true."""

    source: Literal["torchvision"]
    name: Literal[
        "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Imagenette", "ImageNet", "ImageFolder"
    ]  # fmt: skip
    root: Text
    split: Literal["train", "test"]
    download: bool


@dataclass(frozen=True, config=STRICT)
class WebSettings:
    """How images are downloaded, and which files are accepted as images; times in seconds."""

    concurrency: Positive
    per_host: Positive
    timeout: Seconds
    max_seconds: Seconds
    attempts: Positive
    backoff: Seconds
    max_wait: Seconds
    max_redirects: NonNegative
    allow_networks: tuple[Network, ...]
    max_bytes: Positive
    max_pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)]
    min_side: Positive
    placeholder_copies: Annotated[int, Field(ge=2)]
    snapshot: Name | None


@dataclass(frozen=True, config=STRICT)
class UrlsSettings(ChoiceSettings):
    """A list of addresses: a text file with one address on each line, or a CSV file with a column of addresses."""

    source: Literal["urls"]
    file: Text
    column: Text
    web: WebSettings


@dataclass(frozen=True, config=STRICT)
class StreetViewSettings(ChoiceSettings):
    """A CSV file of panoramas for Google's Street View Static API; angles in degrees, size in pixels."""

    source: Literal["street_view"]
    file: Text
    size: tuple[Annotated[int, Field(ge=16, le=640)], Annotated[int, Field(ge=16, le=640)]]
    heading: Annotated[float, Field(ge=0, le=360)] | None
    pitch: Annotated[float, Field(ge=-90, le=90)]
    fov: Annotated[float, Field(ge=10, le=120)]
    endpoint: WebAddress
    web: WebSettings


DataSettings = Annotated[
    DigitsSettings | FolderSettings | ManifestSettings | TorchvisionSettings | UrlsSettings | StreetViewSettings,
    Field(discriminator="source"),
]
