"""Activation maximisation: the input that maximises the mean activation of a channel, by gradient ascent from noise.

Optimising the pixels themselves would result in noise that happens to activate the channel. The picture is therefore
parametrised and regularised such that it resembles natural images:

- as a Fourier spectrum whose entries are divided by their frequency, because the spectra of natural images decrease in
  this way;
- in colours that are decorrelated by the square root of their covariance. Lucid's 3 x 3 matrix is that of ImageNet;
  here the covariance is estimated from the images of the run, so that grey scans and satellite images are treated
  alike;
- under a random shift, scale and rotation in each step, so that only structures that are robust to them remain;
- with small penalties on the total variation and on the distance from grey (L2).

References
----------
Olah, Mordvintsev and Schubert (2017), "Feature visualization", Distill, doi 10.23915/distill.00007.
Mahendran and Vedaldi (2015), "Understanding deep image representations by inverting them", arXiv 1412.0035.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pipeline.arrays import FloatArray
from pipeline.errors import NetworkError
from pipeline.networks.arrangement import Arrangement
from pipeline.networks.capture import capture
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.hooks import attached
from pipeline.networks.maps import as_maps
from pipeline.networks.operations import counting

MAX_SHIFT = 1 / 16  # share of the picture's side
MAX_ROTATION = 5.0  # degrees
MAX_SCALE = 0.1  # largest change of the scale, enlarged or reduced
LEARNING_RATE = 0.05
SMALL_SIDE = 32  # pixels; see _few_threads
INITIAL_DEVIATION = 0.01  # standard deviation of the initial spectrum: nearly grey
TOTAL_VARIATION = 0.3  # weight of the penalty
L2 = 0.8  # weight of the penalty


@dataclass(frozen=True)
class Maximized:
    """The inputs that were found, one for each channel.

    Attributes
    ----------
    channels : tuple of int
        Indices of the channels. A channel is left out if the gradient of its activation was 0 in every step: only the
        penalties would have shaped its picture.
    pictures : ndarray of shape (n_channels, height, width) or (n_channels, height, width, 3)
        The inputs without normalisation, uint8; grey or RGB.
    reached : ndarray of shape (n_channels,)
        Mean of the channel's map for its picture, without shift, scale and rotation; in the units of the activation.
    best_real : ndarray of shape (n_channels,)
        Largest mean of the channel's map over the real images.
    """

    channels: tuple[int, ...]
    pictures: NDArray[np.uint8]
    reached: FloatArray
    best_real: FloatArray


def maximize(
    network: nn.Module,
    layer: str,
    channels: Sequence[int],
    real: torch.Tensor,
    real_means: FloatArray,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None],
    axis: Arrangement = "first",
) -> Maximized:
    """Return the picture that maximises each channel's mean activation; all channels share each forward pass.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    layer : str
        Dotted path of the layer.
    channels : sequence of int
        Indices of the channels.
    real : tensor of shape (n_images, n_colours, height, width)
        Some real images in [0, 1], on the network's device. They determine the size of the pictures and the covariance
        of the colours.
    real_means : ndarray of shape (n_channels, n_all_images)
        Mean of each channel's map for every real image.
    normalize : callable
        From pixels in [0, 1] to the network's input.
    steps : int
        Number of steps of Adam.
    seed : int
        Seed of the initial noise and of the random shifts, scales and rotations. The same seed gives the same bytes on
        the same machine.
    progress : callable
        Called after each step with the number of steps done and the number of all steps.
    axis : {"first", "last"}
        Axis of the layer's channels, or the arrangement of its tokens.

    Raises
    ------
    NetworkError
        If no gradient of the layer reaches the input, or if that of every channel is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    spectrum, to_pixels = _parametrisation(real, len(channels), generator)
    optimizer = torch.optim.Adam([spectrum], lr=LEARNING_RATE)
    rows = torch.arange(len(channels))
    # Activations have no common unit. In units of the standard deviation over the real images, the weights of the
    # penalties suit every channel.
    unit = torch.as_tensor(real_means.std(axis=1), dtype=torch.float32).clamp_min(1e-6).to(real.device)

    is_driven = torch.zeros(len(channels), dtype=torch.bool, device=real.device)

    def means(pixels: torch.Tensor) -> torch.Tensor:
        forward(network, normalize(pixels))
        return as_maps(captured.take(), axis)[rows, list(channels)].mean(dim=(1, 2))

    def driven(gradient: torch.Tensor) -> None:
        nonlocal is_driven
        largest = gradient.abs().amax(dim=(1, 2, 3))
        is_driven |= (largest > 0) & largest.isfinite()

    with capture(network, layer, keep_graph=True) as captured, _few_threads(max(real.shape[-2:])):
        for step in range(steps):
            pixels = to_pixels(spectrum)
            moved = _moved(pixels, generator)
            moved.register_hook(driven)  # type: ignore[no-untyped-call]  # the penalties do not depend on the moved picture
            gain = means(moved) / unit
            if not gain.requires_grad:
                raise NetworkError(
                    f"layer must depend on the input by gradients; got none (layer '{layer}': quantised modules, or a "
                    "layer under torch.no_grad)."
                )
            loss = (TOTAL_VARIATION * _total_variation(pixels) + L2 * _energy(pixels) - gain).sum()
            optimizer.zero_grad()
            loss.backward(inputs=[spectrum])  # type: ignore[no-untyped-call]  # not of the network's parameters
            optimizer.step()
            progress(step + 1, steps)
        if not is_driven.any():
            raise NetworkError(f"the gradient of layer '{layer}' is 0 at the network's input in every step")
        with torch.no_grad():
            # Measure the picture that is shown, rounded to 256 levels.
            levels = (to_pixels(spectrum) * 255).round()
            reached = means(levels / 255).double().cpu().numpy()
    pictures = levels.byte().permute(0, 2, 3, 1).cpu().numpy()
    kept = is_driven.cpu().numpy()
    return Maximized(
        tuple(np.asarray(channels)[kept].tolist()),
        (pictures[..., 0] if pictures.shape[-1] == 1 else pictures)[kept],
        reached[kept],
        real_means.max(axis=1).astype(np.float64)[kept],
    )


def step_operations(examined: ExaminedNetwork, inputs: torch.Tensor) -> float:
    """Return the number of operations of one step for one channel: a pass forward, and the gradient of the layer.

    The gradient takes about twice as many operations as the part of the network up to the layer.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network and the layer.
    inputs : tensor of shape (n_images, ...)
        Some inputs, on the network's device.
    """
    sample = inputs[:2]
    reached = 0.0

    def at_layer(_module: nn.Module, _inputs: object, _output: object) -> None:
        nonlocal reached
        reached = counter.n_operations

    with torch.no_grad(), attached([examined.module.register_forward_hook(at_layer)]), counting() as counter:
        forward(examined.network, sample)
    return float(f"{(counter.n_operations + 2 * reached) / len(sample):.3g}")


@contextmanager
def _few_threads(side: int) -> Iterator[None]:
    """Compute small pictures on one thread inside the context, because several threads mostly wait for each other.

    Measured with 8 x 8 pixels on two cores that other processes used as well: 9 s with two threads, 0.5 s with one.
    """
    n_threads = torch.get_num_threads()
    if side <= SMALL_SIDE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _parametrisation(
    real: torch.Tensor, n_pictures: int, generator: torch.Generator
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Return the initial spectrum, which is optimised, and the function from spectra to pixels in [0, 1]."""
    n_colours, height, width = real.shape[1:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    decrease = (1 / frequency.clamp_min(1 / max(height, width))).to(real.device) * math.sqrt(1 / (height * width))
    mix = _colour_mix(real).to(real.device)
    noise = torch.randn((n_pictures, n_colours, *frequency.shape, 2), generator=generator) * INITIAL_DEVIATION
    spectrum = noise.to(real.device).requires_grad_()

    def to_pixels(spectrum: torch.Tensor) -> torch.Tensor:
        scaled = torch.view_as_complex(spectrum) * decrease
        plain = torch.fft.irfft2(scaled, s=(height, width), norm="ortho")
        pixels: torch.Tensor = torch.einsum("dc,nchw->ndhw", mix, plain * math.sqrt(height * width)).sigmoid()
        return pixels

    return spectrum, to_pixels


def _colour_mix(real: torch.Tensor) -> torch.Tensor:
    """Return the square root of the covariance of the colours, scaled such that its longest row has length 1, as Lucid.

    A tenth of the mean variance is added to the diagonal, so that all colours are possible even if the images have only
    one.
    """
    colours = real.transpose(0, 1).flatten(1).double().cpu()
    covariance = torch.cov(colours).reshape(len(colours), len(colours))
    n_colours = len(covariance)
    covariance = covariance + torch.eye(n_colours) * (0.1 * covariance.trace() / n_colours + 1e-9)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.sqrt() @ vectors.T
    mix: torch.Tensor = (root / root.norm(dim=1).max()).float()
    return mix


def _moved(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return each picture with a random shift, scale and rotation of its own; pixels beyond the border are mirrored."""
    n_pictures = len(pixels)

    def uniform(most: float) -> torch.Tensor:
        return (torch.rand(n_pictures, generator=generator) * 2 - 1) * most

    angle, scale = uniform(math.radians(MAX_ROTATION)), 1 + uniform(MAX_SCALE)
    shift_x, shift_y = uniform(2 * MAX_SHIFT), uniform(2 * MAX_SHIFT)  # the grid ranges from -1 to 1
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cosine, -sine, shift_x], dim=1), torch.stack([sine, cosine, shift_y], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    return functional.grid_sample(
        pixels, grid.to(pixels.device), mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Return the sum of absolute differences of neighbouring pixels divided by the width, one number per picture."""
    across = (pixels[..., 1:] - pixels[..., :-1]).abs().sum(dim=(1, 2, 3))
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    return (across + down) / pixels.shape[-1]


def _energy(pixels: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared distances from grey divided by the width, one number per picture."""
    return ((pixels - 0.5) ** 2).sum(dim=(1, 2, 3)) / pixels.shape[-1]
