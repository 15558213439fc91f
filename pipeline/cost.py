"""A model of what a run costs: seconds, memory and disk of each stage, as a function of its numbers.

The constants were measured on one core of a server's CPU (2.5 GHz, AVX2); see docs/cost.md for the slopes, and for how
far the predictions are from measured runs. What depends on the network is measured on the machine (`Timing`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.artifacts.base import MOST_IN_MEMORY
from pipeline.network_budget import map_bytes
from pipeline.networks.layout import LayerInfo
from pipeline.networks.timing import Timing
from pipeline.numerics.ablation_plan import AblationPlan
from pipeline.numerics.ace import MOST_VALUES
from pipeline.numerics.spline_layer import BYTES_OF_VALUE, N_FUNCTIONS, division
from pipeline.numerics.spline_smoothness import CHUNK
from pipeline.rankers import RANKERS
from pipeline.settings import AblateSettings, AceSettings, Settings, has_halves

TERA = 1e12
SECONDS_PER_TERA = 14.0  # of operations of a network, see pipeline.networks.operations
START = 5.0  # seconds of imports, settings and checks
SECONDS_PER_IMAGE, SECONDS_PER_PIXEL = 1e-3, 1.5e-7  # to decode and transform an image
SECONDS_PER_BYTE = 4e-9  # to write maps, read them again and compute their checksums
FIGURES = 3.5  # seconds to draw the figures of a layer
SECONDS_PER_FIT, SECONDS_PER_TERM = 3e-6, 6e-9  # a spline fit of a channel; for each image and component
SECONDS_PER_SCORE = 1.6e-5  # a score of a channel by a ranker that fits nothing
SECONDS_PER_SMOOTH = 9.6e-8  # the supersmoother, for each image and component
SECONDS_PER_GRAM, SECONDS_PER_EIGEN = 4e-11, 1.2e-10  # principal components of a channel
BASE_MEMORY, FIGURE_BYTES = 1080 * 2**20, 2 * 2**20  # of the process with its libraries; of the files of the figures
N_CHECKED, BOOTSTRAP = 40, 0.1  # images of the checks of a cut network; seconds of the intervals of the faithfulness
LARGEST_COMPONENTS = 20  # with n_components=auto
N_DISTANCES = 5  # matrices of the distances between all images that score=distance_correlation has in memory


@dataclass(frozen=True)
class Cost:
    """What a stage costs.

    Attributes
    ----------
    stage : str
        Name of the stage.
    seconds : float
        Time.
    memory : float
        Largest memory of the process in this stage, in bytes.
    disk : float
        Size of the artifact in bytes.
    """

    stage: str
    seconds: float
    memory: float
    disk: float


def costs_of(settings: Settings, layer: LayerInfo, timing: Timing) -> list[Cost]:
    """Return the cost of each stage of the ranking of one layer, if none is in the store.

    Parameters
    ----------
    settings : Settings
        The resolved settings.
    layer : LayerInfo
        The layer.
    timing : Timing
        What the network takes on this machine.
    """
    n, (n_channels, height, width), p = settings.n_images, layer.maps, _n_components(settings)
    n_pixels, input_values = height * width, timing.input_values
    maps, values = float(map_bytes(layer, settings)), 8.0 * n_channels * n * p
    of_batch = 4.0 * min(settings.model.batch_size, n) * (input_values + 5 * timing.largest_output)
    decoding = n * (SECONDS_PER_IMAGE + SECONDS_PER_PIXEL * input_values / 3)
    memory = of_batch if RANKERS[settings.score.kind].runs_network else _score_memory(settings, values)
    plan = ablation_plan(settings, timing)
    ablation, evaluation = (0.0, 0.0) if plan is None else _ablating(plan, timing)
    changes = 0.0 if plan is None else 8.0 * len(AblateSettings.MODES) * n_channels * plan.n_images
    maximization = _n_maximized(settings, timing) * settings.visualize.maximize_steps * timing.seconds_per_step
    return [
        Cost("download", decoding / 2, BASE_MEMORY, input_values * n / 3),
        Cost(
            "activate", decoding + n * timing.seconds_per_image + maps * SECONDS_PER_BYTE, BASE_MEMORY + of_batch, maps
        ),
        Cost("reduce", _reducing(n, n_channels, n_pixels), BASE_MEMORY + _reduce_memory(settings, maps), values),
        Cost("score", scoring(settings, n_channels, timing), BASE_MEMORY + memory, 2 * values),
        Cost("rank", 0.1, BASE_MEMORY, 200.0 * n_channels),
        Cost("ablate", ablation, BASE_MEMORY + of_batch + 2 * changes, changes),
        Cost("evaluate", evaluation, BASE_MEMORY + of_batch + 2 * changes, 100.0 * n_channels),
        Cost("visualize", FIGURES + maximization, BASE_MEMORY + of_batch, FIGURE_BYTES),
    ]


def seconds_of_layers(settings: Sequence[Settings], layers: Sequence[LayerInfo]) -> float:
    """Return the estimated time of the stages after the forward passes for several layers, without measuring anything.

    The stages that use all cores take less time with more of them; the maps and the figures do not.

    Parameters
    ----------
    settings : sequence of Settings
        The settings of each layer.
    layers : sequence of LayerInfo
        The layers.
    """
    one_core = all_cores = scores = 0.0
    n_cores = os.cpu_count() or 1
    for own, layer in zip(settings, layers, strict=True):
        n_channels, height, width = layer.maps
        budgets = own.ablate.budget_tflop * (own.ablate.when == "auto")
        budgets += own.visualize.maximize_tflop * (own.visualize.maximize == "auto")
        one_core += map_bytes(layer, own) * SECONDS_PER_BYTE + FIGURES
        all_cores += budgets * SECONDS_PER_TERA
        all_cores += _reducing(own.n_images, n_channels, height * width)
        scores += scoring(own, n_channels) / (getattr(own.score, "n_jobs", None) or n_cores)
    return one_core + all_cores / n_cores + scores


def scoring(settings: Settings, n_channels: int, timing: Timing | None = None) -> float:
    """Return the time of the stage `score`; without `timing`, that of the network is left out."""
    score, n = settings.score, settings.n_images
    n_halves = score.bootstrap if not isinstance(score, AceSettings) and has_halves(score, n) else 0
    if isinstance(score, AceSettings):
        n_fits = n_channels * (1 + score.permutations + score.bootstrap + 5 * score.folds)
        terms = n * _n_components(settings)
        if score.smoother == "supersmoother":
            return n_fits * terms * SECONDS_PER_SMOOTH
        return n_fits * (SECONDS_PER_FIT + terms * SECONDS_PER_TERM)
    seconds = n_channels * (1 + n_halves) * SECONDS_PER_SCORE
    if timing is None:
        return seconds
    if score.kind == "ablation":
        return seconds + n * n_channels * timing.seconds_per_set
    if score.kind in ("conductance", "integrated_gradients", "deeplift", "gradient_x_activation"):
        return seconds + n * 3 * getattr(score, "n_steps", 1) * timing.seconds_per_image
    return seconds


def ablation_plan(settings: Settings, timing: Timing) -> AblationPlan | None:
    """Return the ablations that a run makes, if no channel is dead; None if it makes none."""
    match settings.ablate.when:
        case "never":
            return None
        case "always":
            return timing.work.everything
        case "auto":
            return timing.work.within(settings.ablate.budget_tflop * TERA)


def text_of(seconds: float) -> str:
    """Return a time with one or two digits: ``0.3 s``, ``40 s``, ``3 min``, ``2.1 h``."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _ablating(plan: AblationPlan, timing: Timing) -> tuple[float, float]:
    """Return the times of the stages `ablate` and `evaluate`."""
    once = (plan.n_images + N_CHECKED) * timing.seconds_per_image
    n_ranked = timing.work.ranked_sets(plan)
    n_others = timing.work.sets(plan) - n_ranked
    seconds = plan.n_images * timing.seconds_per_set
    return once + n_others * seconds, BOOTSTRAP + once + n_ranked * seconds


def _n_components(settings: Settings) -> int:
    kept: int | float | Literal["auto"] = settings.n_components
    return kept if isinstance(kept, int) else LARGEST_COMPONENTS


def _reducing(n_images: int, n_channels: int, n_pixels: int) -> float:
    smaller = min(n_images, n_pixels)
    return n_channels * (2 * n_images * n_pixels * smaller * SECONDS_PER_GRAM / 2 + smaller**3 * SECONDS_PER_EIGEN)


def _reduce_memory(settings: Settings, maps: float) -> float:
    return min(settings.reduce.memory_mib * 2.0**20, 4 * maps)


def _score_memory(settings: Settings, values: float) -> float:
    """Return the memory that scores take, given the bytes of all components; a few channels are read at a time."""
    score, n, p = settings.score, settings.n_images, _n_components(settings)
    in_memory = min(values, MOST_IN_MEMORY)  # larger components are a mapped file, and so are the transforms
    if score.kind == "distance_correlation":
        return in_memory + 8.0 * N_DISTANCES * n * n
    if not isinstance(score, AceSettings):
        return in_memory
    chunk, n_threads = division(n * p, CHUNK, score.n_jobs or os.cpu_count() or 1)
    drawn = min(MOST_VALUES, N_FUNCTIONS * n * max(score.permutations, 3 * score.bootstrap))
    return in_memory + float(n_threads * chunk * n * p * BYTES_OF_VALUE) + 8.0 * drawn


def _n_maximized(settings: Settings, timing: Timing) -> int:
    visualize = settings.visualize
    n_channels = len(visualize.channels) or min(visualize.n_maximized, timing.work.n_channels)
    if visualize.maximize == "auto":
        allowed = visualize.maximize_tflop * TERA / (visualize.maximize_steps * timing.step_operations)
        return min(n_channels, int(allowed))
    return n_channels if visualize.maximize == "always" else 0
