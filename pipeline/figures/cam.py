"""Where the network looks for a class: class activation maps, beside what it takes the image for.

CAM is defined for networks that end in global average pooling and one linear layer: the class score is then the
mean over the map of ``sum_c weight[class, c] * feature[c]`` (plus a bias), and that sum is the map.
Zhou et al. (2016), "Learning deep features for discriminative localization", arXiv 1512.04150.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from pipeline.figures.style import BLUE, GREY, MAP_COLOURS, hide_ticks, new_figure

N_PREDICTIONS = 5


@dataclass(frozen=True)
class Look:
    """A network's view of some images.

    Attributes
    ----------
    probabilities : ndarray of shape (n_images, n_classes)
        Softmax of the logits, in [0, 1].
    cam : ndarray of shape (n_images, map_height, map_width) or None
        Contribution to the target's logit by place, unbounded; None where the network does not end in global
        average pooling and one linear layer.
    """

    probabilities: NDArray[np.floating[Any]]
    cam: NDArray[np.floating[Any]] | None


def look(network: nn.Module, inputs: torch.Tensor, target_class: int) -> Look:
    """Run `inputs`, (n_images, channels, height, width), and return predictions and class activation maps."""
    maps: list[torch.Tensor] = []
    linear_calls: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]] = []

    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: object) -> None:
        if isinstance(module, nn.Linear) and isinstance(output, torch.Tensor):
            linear_calls.append((module, arguments[0].clone(), output.clone()))
        elif isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.append(output.clone())

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.inference_mode():
            logits = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    probabilities = logits.softmax(dim=1).cpu().numpy()
    if not linear_calls:
        return Look(probabilities, None)
    linear, pooled, output = linear_calls[-1]
    features = _pooled_from(maps, pooled)
    if features is None or not torch.equal(output, logits):
        return Look(probabilities, None)
    cam = torch.einsum("c,nchw->nhw", linear.weight[target_class].detach(), features)
    return Look(probabilities, cam.cpu().numpy())


def _pooled_from(maps: Sequence[torch.Tensor], pooled: torch.Tensor) -> torch.Tensor | None:
    """Return the maps, rectified where that is what it takes, whose mean over height and width is `pooled`.

    Found by the numbers, not by the modules' names: pooling and ReLU are as often functions as modules.
    """
    for recorded in reversed(maps):
        if pooled.ndim != 2 or recorded.shape[:2] != pooled.shape:
            continue
        for candidate in (recorded, recorded.relu()):
            if torch.allclose(candidate.mean(dim=(2, 3)), pooled, rtol=1e-4, atol=1e-6):
                return candidate
    return None


def draw_cam(
    pictures: Sequence[NDArray[np.uint8]],
    picture_names: Sequence[str],
    seen: Look,
    class_names: Sequence[str],
    target_class: int,
    title: str,
) -> Figure:
    """Return a row per image: what the network saw, the map over it (where there is one), its five best guesses.

    Parameters
    ----------
    pictures : sequence of ndarray of shape (height, width) or (height, width, 3)
        What the network saw, uint8.
    picture_names, class_names : sequence of str
        One per picture; one per output.
    seen : Look
        From `look`.
    target_class : int
        The class whose map is drawn; its bar is coloured.
    title : str
        The question, above all.
    """
    n_rows, with_map = len(pictures), seen.cam is not None
    ratios = [1.0, *([1.0, 0.07] if with_map else []), 0.2, 1.5]
    figure = new_figure(1.35 * sum(ratios) + 0.6, 1.35 * n_rows + 0.9)
    grid = figure.add_gridspec(n_rows, len(ratios), width_ratios=ratios)
    limit = float(np.abs(seen.cam).max()) if seen.cam is not None else 0.0
    for row, (picture, name) in enumerate(zip(pictures, picture_names, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None)
        axes.set_ylabel(name, fontsize=7)
        hide_ticks(axes)
        if row == 0:
            axes.set_title("image")
        if seen.cam is not None:
            axes = figure.add_subplot(grid[row, 1])
            height, width = picture.shape[:2]
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axes.imshow(_grey(picture), cmap="gray", vmin=0, vmax=255, extent=extent)
            shown = axes.imshow(
                seen.cam[row], cmap=MAP_COLOURS, alpha=0.6, interpolation="bilinear", extent=extent, vmin=0, vmax=limit
            )
            hide_ticks(axes)
            if row == 0:
                axes.set_title(f"CAM: {class_names[target_class]}")
        _draw_predictions(
            figure.add_subplot(grid[row, -1]),
            seen.probabilities[row],
            class_names,
            target_class,
            is_last=row == n_rows - 1,
        )
    if seen.cam is not None:
        bar = figure.colorbar(shown, cax=figure.add_subplot(grid[:, 2]))
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        bar.set_label("contribution to the class score (negative: as 0)", fontsize=7)
        bar.outline.set_visible(False)
    figure.suptitle(title)
    return figure


def _grey(picture: NDArray[np.uint8]) -> NDArray[Any]:
    return picture if picture.ndim == 2 else picture @ np.array([0.299, 0.587, 0.114])


def _draw_predictions(
    axes: Any, probabilities: NDArray[Any], class_names: Sequence[str], target_class: int, *, is_last: bool
) -> None:
    """Draw the best guesses as bars, the best on top."""
    best = np.argsort(-probabilities, kind="stable")[:N_PREDICTIONS][::-1]
    places = np.arange(len(best))
    colours = [BLUE if index == target_class else GREY for index in best]
    axes.barh(places, probabilities[best], color=colours, height=0.7)
    axes.set_yticks(places, [_short(class_names[index]) for index in best], fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"] if is_last else ["", "", ""], fontsize=7)
    for place, index in zip(places, best, strict=True):
        value = float(probabilities[index])
        inside = value > 0.75
        axes.text(
            value + (-0.02 if inside else 0.02),
            place,
            f"{value:.1%}",
            va="center",
            fontsize=6.5,
            ha="right" if inside else "left",
            color="white" if inside else "black",
        )
    if is_last:
        axes.set_xlabel("probability", fontsize=8)


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
