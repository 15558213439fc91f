"""What can be asked of the images: one frozen class a source, and how the web is asked; see `pipeline.settings`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(strict=True, extra="forbid")


def _number_as_name(value: object) -> object:
    """Let ``class_name=3`` mean the class called "3", as it reads on a command line."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _network(value: str) -> str:
    ipaddress.ip_network(value)
    return value


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, BeforeValidator(_number_as_name), Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Network = Annotated[str, AfterValidator(_network)]

MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs: a quarter of a gigabyte of RGB


@dataclass(frozen=True, config=STRICT)
class ChoiceSettings:
    """Which of a source's images are taken; every source has these.

    `images_from`: the class alone; all classes in turn; or half the class, half the rest, one after the other.
    """

    select: Literal["first", "random"]
    images_from: Literal["class", "all", "balanced"]


@dataclass(frozen=True, config=STRICT)
class DigitsSettings(ChoiceSettings):
    """scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels, classes "0" to "9"."""

    source: Literal["digits"]


@dataclass(frozen=True, config=STRICT)
class FolderSettings(ChoiceSettings):
    """A folder of photographs: one subfolder a class, or one flat folder."""

    source: Literal["folder"]
    root: Text


@dataclass(frozen=True, config=STRICT)
class ManifestSettings(ChoiceSettings):
    """A table (CSV or Parquet) of paths below `root`, with or without a class and a split."""

    source: Literal["manifest"]
    file: Text
    root: Text | None
    path_column: Text
    class_column: Text
    split_column: Text
    split: Name | None


@dataclass(frozen=True, config=STRICT)
class TorchvisionSettings(ChoiceSettings):
    """One of torchvision's data sets, read from `root`, downloaded there by torchvision where it may."""

    source: Literal["torchvision"]
    name: Literal[
        "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Imagenette", "ImageNet", "ImageFolder"
    ]  # fmt: skip
    root: Text
    split: Literal["train", "test"]
    download: bool


@dataclass(frozen=True, config=STRICT)
class WebSettings:
    """How the web is asked, and what is taken for an image; times in seconds."""

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
    """A list of addresses: a text file with one a line, or a CSV with a column of them."""

    source: Literal["urls"]
    file: Text
    column: Text
    web: WebSettings


@dataclass(frozen=True, config=STRICT)
class StreetViewSettings(ChoiceSettings):
    """A CSV of panoramas through Google's Street View Static API; angles in degrees, size in pixels."""

    source: Literal["street_view"]
    file: Text
    size: Annotated[tuple[Annotated[int, Field(ge=16, le=640)], Annotated[int, Field(ge=16, le=640)]], Field()]
    heading: Annotated[float, Field(ge=0, le=360)] | None
    pitch: Annotated[float, Field(ge=-90, le=90)]
    fov: Annotated[float, Field(ge=10, le=120)]
    endpoint: Annotated[str, Field(pattern=r"^https?://[^?#]+$")]
    web: WebSettings


DataSettings = Annotated[
    DigitsSettings | FolderSettings | ManifestSettings | TorchvisionSettings | UrlsSettings | StreetViewSettings,
    Field(discriminator="source"),
]
