"""The small settings that most tests of the whole pipeline start from."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.settings import Settings

# 16 channels, 20 scans, one component and one process: quick, and yet the ranking has a best channel.
# The figures have few panels, because drawing takes the most time.
# The budget allows all that tests ablate in small networks.
SMALL = (
    "layer=conv1", "class_name=8", "n_images=20", "n_components=1", "score.n_jobs=1", "tracking.enabled=false",
    "ablate.budget_tflop=1",
    "visualize.dpi=50", "visualize.n_top=1", "visualize.n_bottom=1", "visualize.n_images=1", "visualize.maximize=never",
)  # fmt: skip

# The type of the fixture `compose`.
Compose = Callable[..., Settings]
