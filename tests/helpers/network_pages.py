"""Content of the pages of networks, with pictures of random pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import FloatArray
from pipeline.artifacts import NetworkRanking
from pipeline.figures.gallery import map_sheet, thumbnail
from pipeline.figures.network_channels import pictured
from pipeline.figures.network_page import NetworkContent, report_address

RNG = np.random.default_rng(0)


def gallery_of(n_channels: int, side: int = 6) -> tuple[dict[str, Any], NDArray[np.uint8], list[FloatArray]]:
    """Return data of a report with one image, the image, and the maps."""
    rng = np.random.default_rng(1)
    maps: list[FloatArray] = [rng.normal(size=(side, side)) for _ in range(n_channels)]
    picture = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    gallery = {
        "images": [{"name": "photo", "src": thumbnail(picture)}],
        "channels": [{"channel": channel, "image": 0} for channel in range(n_channels)],
        "maps": map_sheet(maps),
    }
    return gallery, picture, maps


def content(ranking: NetworkRanking, folder: Path) -> NetworkContent:
    """Return the content of the page of a network, with pictures of random pixels."""
    picture = RNG.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "figure.png")
    gallery, _, _ = gallery_of(max(ranking.layers.n_channels))
    reports = {name: report_address(name) for name in ranking.layers.layer}
    best = pictured(ranking, dict.fromkeys(reports, gallery))
    return NetworkContent(
        ranking, [(folder / "figure.png", "a caption")], best, reports, {"layer": "all"}, {"python": "3"}, "pcace run",
        ["a note"],
    )  # fmt: skip
