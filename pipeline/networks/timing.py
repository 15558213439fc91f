"""What a network takes on this machine, measured in a second or two with random weights and random images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.networks.ablation import Ablation
from pipeline.networks.declared import input_shape
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.known import layout_of
from pipeline.networks.layout import LayerInfo
from pipeline.networks.load import build, resolve_device
from pipeline.networks.maximization import step_operations
from pipeline.numerics.ablation_plan import AblationWork
from pipeline.settings import AblateSettings, ModelSettings, Settings

N_TIMED = 16  # images of a forward pass that is timed
N_SAMPLE = 3  # images with which the part behind the layer is timed
clock = time.perf_counter  # a benchmark replaces it by the time of the CPU
BACKWARD = 3.0  # time of a step of activation maximisation relative to a pass


@dataclass(frozen=True)
class Timing:
    """What a network takes.

    Attributes
    ----------
    seconds_per_image : float
        Time of the network for one image.
    seconds_per_set : float
        Time of the part behind the layer for one image and one set of ablated channels.
    seconds_per_step : float
        Time of a step of activation maximisation for one channel.
    step_operations : float
        Number of operations of such a step.
    work : AblationWork
        What a complete ablation consists of.
    input_values, largest_output : int
        Number of values of an input, and of the largest output of a module for one image.
    """

    seconds_per_image: float
    seconds_per_set: float
    seconds_per_step: float
    step_operations: float
    work: AblationWork
    input_values: int
    largest_output: int


class NetworkTimer:
    """Measures what a network takes, with random weights; nothing is downloaded.

    Parameters
    ----------
    settings : Settings
        The resolved settings.

    Attributes
    ----------
    network : Module
        The network, with random weights.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, model = settings, settings.model
        self._layout = layout_of(model)
        self._device = resolve_device(model)
        self.network = build(_with_random_weights(model), settings.seed).to(self._device).requires_grad_(False)
        shape = input_shape(model)
        generator = torch.Generator().manual_seed(0)
        self._inputs = torch.randn((N_TIMED, *shape), generator=generator).to(self._device)
        self._seconds_per_image = _seconds(lambda: forward(self.network, self._inputs)) / N_TIMED

    def of_layer(self, layer: LayerInfo) -> Timing:
        """Return what the network takes for the ranking of one of its layers."""
        settings, sample = self._settings, self._inputs[:N_SAMPLE]
        examined = ExaminedNetwork(self.network, layer, lambda outputs: outputs[:, 0].double(), self._device)
        ablation = Ablation(examined, sample)
        operations, n_channels = ablation.operations(sample), examined.n_channels
        sizes = [int(np.prod(each.shape)) for each in self._layout.layers if each.shape]
        return Timing(
            seconds_per_image=self._seconds_per_image,
            seconds_per_set=seconds_per_set(ablation, sample, n_channels),
            seconds_per_step=BACKWARD * self._seconds_per_image,
            step_operations=step_operations(examined, sample),
            work=AblationWork(
                *operations,
                settings.n_images,
                n_channels,
                n_channels,
                len(AblateSettings.MODES),
                settings.ablate.n_draws,
            ),
            input_values=int(np.prod(input_shape(settings.model))),
            largest_output=max(sizes, default=0),
        )


def seconds_per_set(ablation: Ablation, sample: torch.Tensor, n_channels: int) -> float:
    """Return the time that one set of channels takes for one image, measured in passes of the usual size.

    Parameters
    ----------
    ablation : Ablation
        The network.
    sample : tensor of shape (n_images, ...)
        A few inputs.
    n_channels : int
        Number of channels.
    """
    at_batch = ablation.at(sample)
    fills = torch.zeros((1, ablation.n_units, 1, 1), device=sample.device)
    sets = torch.zeros((at_batch.n_at_once, n_channels), dtype=torch.bool, device=sample.device)
    return _seconds(lambda: at_batch.scores(sets, fills)) / (len(sets) * len(sample))


@torch.no_grad()
def _seconds(compute: Callable[[], object]) -> float:
    """Return the time of a computation; the first time, much is slower."""
    times = []
    for _ in range(2):
        start = clock()
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times)


def _with_random_weights(model: ModelSettings) -> ModelSettings:
    return replace(model, weights="random", checkpoint=None, randomized=0)
