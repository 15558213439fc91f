"""The input that drives a channel most, found by gradient ascent from noise.

The picture is not optimised pixel by pixel, which ends in noise that happens to excite the network, but in a
parametrisation where natural images are ordinary:

- as a Fourier spectrum whose entries are divided by their frequency, as the spectra of natural images fall off;
- in colours decorrelated by the square root of a covariance. Lucid's well-known 3 x 3 matrix is ImageNet's; here it
  is taken from the images at hand, so that it suits grey scans and satellite images alike;
- under a random shift, scale and rotation in each step, so that only what survives these is kept;
- with small terms against total variation and against leaving grey (L2).

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
from pipeline.networks.capture import capture
from pipeline.networks.maps import Channels, as_maps

MAX_SHIFT = 1 / 16  # of the picture's side
MAX_TURN = 5.0  # degrees
MAX_SCALE = 0.1  # up or down
LEARNING_RATE = 0.05
SMALL_SIDE = 32  # pixels
START = 0.01  # deviation of the first spectrum: all but grey
TOTAL_VARIATION = 0.3
L2 = 0.8


@dataclass(frozen=True)
class Maximized:
    """The inputs found, one per channel.

    Attributes
    ----------
    pictures : ndarray of shape (n_channels, height, width) or (n_channels, height, width, 3)
        uint8.
    reached : ndarray of shape (n_channels,)
        Mean of the channel's map on its picture, without any shift or turn; the network's own units.
    best_real : ndarray of shape (n_channels,)
        The largest mean of the channel's map that any real image reaches.
    """

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
    axis: Channels = "first",
) -> Maximized:
    """Return the picture that drives each channel's mean activation most; all channels share each forward pass.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    layer : str
        Dotted path of the module whose channels are driven.
    channels : sequence of int
        Indices of channels.
    real : Tensor of shape (n_images, n_colours, height, width)
        Some real images in [0, 1]: their size is the picture's, their colours decorrelate its own.
    real_means : ndarray of shape (n_channels, n_all_images)
        Mean of each channel's map on every real image.
    normalize : callable
        From pixels in [0, 1] to the network's input.
    steps : int
        Steps of Adam.
    seed : int
        Of the first noise and the random shifts; the same seed on the same machine gives the same bytes.
    progress : callable
        Called with (done, steps).
    axis : {"first", "last"}
        Where the layer's channels are.
    """
    generator = torch.Generator().manual_seed(seed)
    spectrum, to_pixels = _parametrisation(real, len(channels), generator)
    optimizer = torch.optim.Adam([spectrum], lr=LEARNING_RATE)
    rows = torch.arange(len(channels))
    # Activations have no unit: one deviation over the real images is what the penalties are weighed against.
    unit = torch.as_tensor(real_means.std(axis=1), dtype=torch.float32).clamp_min(1e-6).to(real.device)

    def means(pixels: torch.Tensor) -> torch.Tensor:
        network(normalize(pixels))
        return as_maps(captured.take(), axis)[rows, list(channels)].mean(dim=(1, 2))

    with capture(network, layer, keep_graph=True) as captured, _few_threads(max(real.shape[-2:])):
        for step in range(steps):
            pixels = to_pixels(spectrum)
            gain = means(_moved(pixels, generator)) / unit
            loss = (TOTAL_VARIATION * _total_variation(pixels) + L2 * _energy(pixels) - gain).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, steps)
        with torch.no_grad():
            # What is shown is what is measured: rounded to the 256 levels that a picture has.
            levels = (to_pixels(spectrum) * 255).round()
            reached = means(levels / 255).double().cpu().numpy()
    pictures = levels.byte().permute(0, 2, 3, 1).cpu().numpy()
    return Maximized(
        pictures[..., 0] if pictures.shape[-1] == 1 else pictures, reached, real_means.max(axis=1).astype(np.float64)
    )


@contextmanager
def _few_threads(side: int) -> Iterator[None]:
    """Compute small pictures on one thread inside the context: two would wait for each other longer than they work.

    On two cores that others use as well, *measured* with 8 x 8 pixels: 9 s with two threads, 0.5 s with one.
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
    """Return a first spectrum, to be optimised, and the function from spectra to pixels in [0, 1]."""
    n_colours, height, width = real.shape[1:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    falloff = (1 / frequency.clamp_min(1 / max(height, width))).to(real.device) * math.sqrt(1 / (height * width))
    mix = _colour_mix(real).to(real.device)
    noise = torch.randn((n_pictures, n_colours, *frequency.shape, 2), generator=generator) * START
    spectrum = noise.to(real.device).requires_grad_()

    def to_pixels(spectrum: torch.Tensor) -> torch.Tensor:
        waves = torch.view_as_complex(spectrum) * falloff
        plain = torch.fft.irfft2(waves, s=(height, width), norm="ortho")
        pixels: torch.Tensor = torch.einsum("dc,nchw->ndhw", mix, plain * math.sqrt(height * width)).sigmoid()
        return pixels

    return spectrum, to_pixels


def _colour_mix(real: torch.Tensor) -> torch.Tensor:
    """Return the square root of the colours' covariance, scaled so that its longest row has length 1 (Lucid's scale).

    A tenth of its trace is added to the diagonal, so that images of one colour do not forbid the others.
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
    """Return each picture under a random shift, scale and rotation of its own; the border is mirrored."""
    n_pictures = len(pixels)

    def uniform(most: float) -> torch.Tensor:
        return (torch.rand(n_pictures, generator=generator) * 2 - 1) * most

    angle, scale = uniform(math.radians(MAX_TURN)), 1 + uniform(MAX_SCALE)
    shift_x, shift_y = uniform(2 * MAX_SHIFT), uniform(2 * MAX_SHIFT)  # the grid runs from -1 to 1
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cosine, -sine, shift_x], dim=1), torch.stack([sine, cosine, shift_y], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
    return functional.grid_sample(
        pixels, grid.to(pixels.device), mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """Return the sum of absolute differences of neighbours over the side's length, one number per picture."""
    across = (pixels[..., 1:] - pixels[..., :-1]).abs().sum(dim=(1, 2, 3))
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    return (across + down) / pixels.shape[-1]


def _energy(pixels: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared distances from grey over the side's length, one number per picture."""
    return ((pixels - 0.5) ** 2).sum(dim=(1, 2, 3)) / pixels.shape[-1]
